"""`python -m freeswim.cli`: the `freeswim` command."""

import sys

from freeswim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
