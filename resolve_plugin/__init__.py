"""FreeSwim inside DaVinci Resolve.

`freeswim_resolve/` is copied to where Resolve's Python finds it and runs there; `install.py` copies
it, takes it away and says how it is. PROTOCOL.md: what the two ends say to each other.
"""
