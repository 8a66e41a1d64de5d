"""What is said in Resolve's console and written in the log. Never a prompt, a token or a path of media."""

import json
import os
import platform
import sys
import time
from typing import Any, Dict

from . import PLUGIN, places

MOST_BYTES = 256 * 1024  # of the log; the one before is kept


def say(words: str, is_kept: bool = True) -> None:
    """Tell the person, in Resolve's console (Workspace > Console) and, if kept, in the log."""
    line = "FreeSwim: " + words + "\n"
    # Scripts can be without any output, or with one in a code page that lacks the words' letters.
    for way in (line, line.encode("ascii", "backslashreplace").decode("ascii")):
        try:
            sys.stdout.write(way)
            sys.stdout.flush()
            break
        except (OSError, ValueError, AttributeError):
            continue
    if is_kept:
        note(words)


def note(words: str) -> None:
    """A line in the log."""
    path = places.log()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            path.replace(path.with_suffix(".1.log"))
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {os.getpid()} {words}\n")
    except OSError:
        pass


def leave_sign(verb: str, facts: Dict[str, Any]) -> None:
    """Leave a sign that a script of ours ran: the doctor looks for it where nothing connects."""
    said = {
        "at": time.time(),
        "verb": verb,
        "plugin": PLUGIN,
        "python": platform.python_version(),
        "product": facts["product"],
        "version_words": facts["version_words"],
        "edition": facts["edition"],
    }
    path = places.seen()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"seen-{os.getpid()}.part")
        part.write_text(json.dumps(said), "utf-8")
        part.replace(path)
    except OSError:
        pass
