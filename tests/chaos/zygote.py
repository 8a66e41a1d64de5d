"""Forks daemons from a process that has everything imported: each is there in milliseconds.

Reads an order a line, JSON, and answers with the daemon's process id. A daemon ends with the line
`refused: ...` in its log where it says why it does not start, and with a traceback where it does
not say it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import failpoints
import psutil

from freeswim.errors import StudioError
from freeswim.studio import daemon, runner
from freeswim.studio.executors import local


def become_daemon(order: dict[str, Any]) -> None:
    """What the forked process does, to its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    os.environ.update(order["environment"])
    runner.LOOK_EVERY_S = order["look_every_s"]
    local.PATIENCE_S = order["patience_s"]
    if order["failpoints"]:
        failpoints.install("daemon", Path(order["failpoints"]))
    try:
        daemon.serve(worker=order["worker"], patience=local.Patience(**order["patience"]))
    except StudioError as error:
        sys.stderr.write(f"refused: {error.message} {error.hint}\n")
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Fork as ordered, until nobody orders any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who is dead is gone
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                become_daemon(order)
            finally:
                os._exit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
    for child in psutil.Process().children():  # whoever ordered them is gone
        child.kill()


if __name__ == "__main__":
    main()
