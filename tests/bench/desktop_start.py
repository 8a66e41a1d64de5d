"""How long the window takes to open: from the start of the process to its first picture.

    python tests/bench/desktop_start.py [--rounds 5]

Each round is a process of its own with an empty data folder; no studio is waited for, for the window
does not wait for one either.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAM = """
import sys, time
from PySide6.QtWidgets import QApplication
from desktop import theme
from desktop.remembered import Remembered
from desktop.studio import Studio
from desktop.trouble import Trouble
from desktop.window import Window
app = QApplication([])
theme.apply(app)
window = Window(Studio(), Remembered(), Trouble())
window.show()
app.processEvents()
window.grab()
print(time.time())
sys.stdout.flush()
import os
os._exit(0)
"""


def seconds() -> float:
    """Of one start."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        env = os.environ | {"FREESWIM_HOME": home}
        env.setdefault("QT_QPA_PLATFORM", "offscreen")
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=True
        )
        return float(done.stdout.split()[-1]) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds = [seconds() for _ in range(options.rounds)]
    told = ", ".join(f"{one:.2f}" for one in rounds)
    sys.stdout.write(f"window opens in {statistics.median(rounds):.2f} s (median of {told})\n")


if __name__ == "__main__":
    main()
