"""What a menu entry does. Whatever happens, nothing is raised into Resolve.

The snapshot comes first: by the time that a studio was found, the editor has gone on. The script
that comes first in a session of Resolve's stays and does what the studio asks (nobody has to choose
*FreeSwim Connect*), the others end at once.
"""

import os
import subprocess
import sys
import time
from typing import Any, Dict, Optional

from . import context, journal, operations, places, process, studio
from .border import Border, text
from .session import Session

START_S = 60.0  # for the desktop app to start its studio
CONNECT = "connect"
VERBS = frozenset(
    [
        CONNECT,
        "generate_at_playhead",
        "regenerate_selection",
        "generate_from_markers",
        "fill_gap",
        "extend_clip",
        "place_finished_takes",
    ]
)


def run(verb: str, given: Dict[str, Any]) -> None:
    """A menu entry was chosen.

    Args:
        verb: one of VERBS.
        given: the script's globals, in which Resolve has put itself.
    """
    try:
        _run(verb, given)
    except Exception as error:  # the one place where everything ends that nobody foresaw
        journal.say(f"this did not work ({_words(error)}). The log is {places.log()}.")


def _run(verb: str, given: Dict[str, Any]) -> None:
    if verb not in VERBS:
        raise ValueError(verb)
    border = Border(_resolve(given))
    facts = operations.execute(border, "hello", {})
    if not facts["product"]:
        journal.say("Resolve does not answer. A window of it may be waiting for you.")
        return
    journal.leave_sign(verb, facts)
    seen = context.snapshot(border) if verb != CONNECT else {}
    lock = process.Lock()
    stays = not process.is_resolve_itself() and (
        lock.take() or (verb == CONNECT and lock.take_over())
    )
    if verb == CONNECT and not stays:
        journal.say("the connection before cannot be ended. Start Resolve again.")
        return
    try:
        _talk(border, verb, seen, lock, stays)
    finally:
        lock.release()


def _talk(border: Border, verb: str, seen: Dict[str, Any], lock: process.Lock, stays: bool) -> None:
    watch: Optional[process.Watch] = None
    session = Session(
        border,
        stays,
        begin=lambda number: watch.begin(number) if watch else None,
        end=lambda: watch.end() if watch else None,
    )
    if stays:
        watch = process.Watch(lock, session.beat)
    try:
        found = studio.connect() or _start()
        if found is not None:
            _say_it(session, found, verb, seen)
        if stays and not session.is_over:
            session.serve()
    finally:
        if watch is not None:
            watch.stop()
    if not session.is_over:
        session.bye("done")


def _say_it(session: Session, found: studio.Studio, verb: str, seen: Dict[str, Any]) -> None:
    try:
        session.register(found)
        if verb == CONNECT:
            journal.say("connected.")
        else:
            session.verb(verb, seen)
    except studio.Lost:
        journal.say(
            "the studio was lost in the middle of it. Look at its queue before you repeat it."
        )
    except studio.Refused as refused:
        journal.say(refused.words)


def _resolve(given: Dict[str, Any]) -> Any:
    """Resolve's object, from what it gives to its scripts. A bare `Fusion()` may start one (1.1)."""
    if given.get("resolve"):
        return given["resolve"]
    bmd = given.get("bmd")
    if bmd is None:
        return None
    return bmd.scriptapp("Resolve")


def _start() -> Optional[studio.Studio]:
    """Open the desktop app, which starts its studio; None: it does not come."""
    start = places.installation().start
    if not start:
        journal.say("FreeSwim is not running. Open it; this goes on by itself if it was Connect.")
        return None
    journal.say("FreeSwim is not running; opening it.")
    flags: Dict[str, Any] = {}
    if sys.platform == "win32":
        flags["creationflags"] = 0x00000008 | 0x00000200  # DETACHED_PROCESS, a group of its own
    else:
        flags["start_new_session"] = True
    try:
        subprocess.Popen(
            start,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=str(places.home()),
            env=_environment(),
            **flags,
        )
    except OSError as error:
        journal.say(f"FreeSwim cannot be opened ({_words(error)}). Open it by hand.")
        return None
    parent = process.Parent()
    deadline = time.monotonic() + START_S
    while parent.is_there and time.monotonic() < deadline:
        found = studio.connect()
        if found is not None:
            return found
        time.sleep(0.2)
    journal.say("FreeSwim was opened and does not answer yet. Choose this again when it does.")
    return None


def _environment() -> Dict[str, str]:
    """This process's, without what Resolve has set for its own Python and libraries."""
    foreign = ("PYTHON", "LD_", "DYLD_", "QT_PLUGIN_PATH", "QT_QPA_PLATFORM_PLUGIN_PATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    kept["FREESWIM_HOME"] = str(places.home())
    return kept


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return text(type(error).__name__)
