"""What FreeSwim runs inside DaVinci Resolve: it does what the studio asks, and reads back what came of it.

Python 3.6 and its standard library, because Resolve takes whatever Python the system has and that
cannot be given packages. What is decided, is decided in the studio; PROTOCOL.md has the words.
Importing does nothing.
"""

PLUGIN = "1"
PROTOCOL = 1
