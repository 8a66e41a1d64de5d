"""One script's talk with the studio: it registers, says what was chosen, and does what is asked.

Every reply has the same form, `{operation, say, end}`: whatever the plugin says, the studio may
answer with the next operation. An operation that was done is not done again when its answer got
lost: the answer is kept, and given again.
"""

import collections
import contextlib
import os
import platform
import secrets
import sys
import time
from typing import Any, Callable, Dict, Optional

from . import PLUGIN, PROTOCOL, context, journal, operations, studio
from .border import Border

WAIT_S = 25.0  # that the studio may keep a poll
MARGIN_S = 10.0  # for its reply, beyond that
REST_S = 2.0  # between two looks for a studio that was lost
NUM_KEPT = 100  # answers
MOST_IN_A_ROW = 1000  # operations of a verb

Json = Dict[str, Any]


class Session:
    """The talk of this process."""

    def __init__(
        self,
        border: Border,
        stays: bool,
        begin: Callable[[str], None] = lambda name: None,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        self._border = border
        self._stays = stays
        self._begin, self._end = begin, end
        self._id = secrets.token_hex(16)
        self._studio: Optional[studio.Studio] = None
        self._answers: collections.OrderedDict[str, Json] = collections.OrderedDict()
        self.is_over = False

    def register(self, found: studio.Studio) -> None:
        """Say who this is, and do what the studio asks at once.

        Raises:
            Lost, Refused: as `Studio.post`.
        """
        self._studio = found
        said = {
            "protocol": PROTOCOL,
            "plugin": PLUGIN,
            "pid": os.getpid(),
            "python": platform.python_version(),
            "platform": sys.platform,
            "stays": self._stays,
            "resolve": operations.execute(self._border, "hello", {}),
            "now": context.brief(self._border),
        }
        self._do(self._post("/register", said))

    def verb(self, name: str, seen: Json) -> None:
        """Say what the editor chose, and where; what that needs at once is done."""
        key = secrets.token_hex(16)
        self._do(self._post("/verb", {"verb": name, "key": key, "context": seen}))

    def serve(self) -> None:
        """Do what the studio asks, until it is over; a studio that is gone is waited for."""
        while not self.is_over:
            try:
                if self._studio is None:
                    found = studio.connect()
                    if found is None:
                        self._check_resolve()
                        time.sleep(REST_S)
                        continue
                    self.register(found)
                said = {"wait": WAIT_S, "now": context.brief(self._border)}
                self._do(self._post("/poll", said, WAIT_S + MARGIN_S))
                self._check_resolve()
            except studio.Lost:
                self._lose()
            except studio.Refused as refused:
                journal.note(f"the studio answers {refused.status} {refused.code}")
                if refused.status in (401, 404) or refused.status >= 500:
                    self._lose()  # it was started anew and knows nobody, or is stopping
                else:  # it does not want this plugin
                    journal.say(refused.words)
                    self.is_over = True

    def beat(self, operation: str, busy_s: float) -> None:
        """A sign of life while Resolve takes its time; from another thread."""
        with contextlib.suppress(studio.Lost, studio.Refused):
            self._post("/beat", {"operation": operation, "busy_s": round(busy_s, 1)})

    def bye(self, why: str) -> None:
        """Say that nothing more comes from here."""
        with contextlib.suppress(studio.Lost, studio.Refused):
            self._post("/bye", {"why": why})
        self.is_over = True

    def _post(self, path: str, body: Json, timeout_s: float = studio.ANSWER_S) -> Json:
        if self._studio is None:
            raise studio.Lost("no studio")
        return self._studio.post(path, dict(body, session=self._id), timeout_s)

    def _do(self, reply: Json) -> None:
        """Do what a reply asks, and what the replies to that ask."""
        for _ in range(MOST_IN_A_ROW):
            if reply.get("say") and isinstance(reply["say"], str):
                journal.say(reply["say"][:1000], is_kept=False)
            if reply.get("end") is True:
                self.is_over = True
            asked = reply.get("operation")
            if not isinstance(asked, dict) or not isinstance(asked.get("id"), str):
                return
            reply = self._post("/answer", self._answer(asked))

    def _answer(self, asked: Json) -> Json:
        name = asked.get("name")
        number = asked["id"]
        if number in self._answers:
            return self._answers[number]
        if not isinstance(name, str):
            name = ""
        self._begin(number)
        started = time.monotonic()
        try:
            if not self._stays and name not in operations.AT_ONCE:
                raise operations.CannotDo("not_here", "This script does not stay.")
            facts = operations.execute(self._border, name, asked.get("arguments"))
            answer: Json = {"id": number, "ok": True, "facts": facts, "error": None}
            if name == "bye":
                self.is_over = True
        except operations.CannotDo as reason:
            error = {"code": reason.code, "message": reason.message}
            answer = {"id": number, "ok": False, "facts": reason.facts, "error": error}
        except Exception as error:
            # A mistake of ours; the studio is to hear of it instead of waiting.
            journal.note(f"{name} failed: {type(error).__name__}")
            words = {"code": "plugin_error", "message": type(error).__name__}
            answer = {"id": number, "ok": False, "facts": {}, "error": words}
        finally:
            self._end()
        outcome = "done" if answer["ok"] else answer["error"]["code"]
        journal.note(f"{name} {outcome} {time.monotonic() - started:.3f} s")
        self._answers[number] = answer
        while len(self._answers) > NUM_KEPT:
            self._answers.popitem(last=False)
        return answer

    def _check_resolve(self) -> None:
        """End where Resolve answers nothing any more: it has quit, and its process lingers."""
        if not self._border.is_alive:
            self.bye("resolve_silent")

    def _lose(self) -> None:
        journal.note("the studio is gone; waiting for it")
        self._studio = None
        time.sleep(REST_S)
