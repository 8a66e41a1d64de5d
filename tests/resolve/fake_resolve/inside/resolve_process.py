"""Stands for Resolve's own process: starts scripts as children, one for each line it is told.

A line is a JSON list, the command; answers with the child's process id. Ends without a word when it
is killed, as Resolve that crashed.
"""

import json
import subprocess
import sys
from pathlib import Path

children = []
for line in sys.stdin:
    asked = json.loads(line)
    with Path(asked["output"]).open("ab") as output:
        children.append(
            subprocess.Popen(
                asked["command"],
                env=asked["environment"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        )
    sys.stdout.write(f"{children[-1].pid}\n")
    sys.stdout.flush()
