"""The `freeswim` command."""
