"""Takes out of text what is nobody else's business: who and where somebody is, and what they make.

Logs are free text, so too much is taken out rather than too little. Places that are known keep a
name (`<home>`), so that a log still tells what happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sys
import sysconfig
import unicodedata
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

from freeswim import paths
from freeswim.studio import discovery

WORDS, PLACE, TOKEN, USER, COMPUTER = "<words>", "<path>", "<token>", "<user>", "<computer>"

RUN = 3  # words of a prompt, in its order, that give it away
FEWEST = 3  # characters of what is searched for as a whole

# What a token of ours, of the hub or of a header looks like.
_TOKENS = re.compile(
    r"(?i:\bbearer\s+)\S+|\bhf_\w{16,}|(?<![\w-])[\w-]{43}(?![\w-])|(?<=\"token\": \")[^\"]*"
)

# Words; one character each of scripts that put no space between them.
_WORD = re.compile(r"[\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff]|[^\W_\u2e80-\ua4cf\uac00-\ud7ff]+")

# A path, to the end of its quotes or of its line: nobody knows where one with spaces ends.
_NAMED = ("takes", "models", "data", "packages", "python", "freeswim", "home")
_NAME = f"<(?:{'|'.join(_NAMED)})>"
_BEGIN = r"(?:file://)?(?:/(?=[^/\s])|~[\\/]|\\\\|[A-Za-z]:[\\/])"
_QUOTED = r"[^'\"\n]*(?=\1(?!\w))"
_BARE = r"(?:(?! cannot be )[^\n])*"  # which is how our own errors go on after a path
_PATH = re.compile(
    rf"(?<=(['\"])){_BEGIN}{_QUOTED}"
    rf"|(?<![\w/]){''.join(f'(?<!<{name}>)' for name in _NAMED)}{_BEGIN}{_BARE}"
)
_AFTER_NAME = re.compile(rf"(?<=(['\"])){_NAME}[\\/]{_QUOTED}|{_NAME}[\\/]{_BARE}")
_OURS = re.compile(  # what may follow; the rest is of somebody's own making
    r"<data>(?:[\\/](?:jobs|logs|backups|run|app|models|attempt-\d+|checkpoints|[0-9a-f]{16}"
    r"|[\w.-]+\.(?:log|db|jsonl?|lock))\b)*"
    r"|<freeswim>[\\/](?:freeswim|desktop|resolve_plugin|presets)\b(?:[\\/][\w.+-]+)*"
    r"|<(?:python|packages)>(?:[\\/][\w.+-]+)*"
    r"|<\w+>"
)


@dataclass(frozen=True)
class Secrets:
    """What is to be taken out, beside this person, their folders and the studio's token."""

    prompts: tuple[str, ...] = ()  # whatever a person wrote
    names: tuple[str, ...] = ()  # of shots and files
    tokens: tuple[str, ...] = ()
    with_words: bool = False  # leave prompts, names and the ends of paths in


class Redactor:
    """Made once for many texts."""

    def __init__(self, secrets: Secrets) -> None:
        self._keeps_words = secrets.with_words
        self._tokens = [one for one in (*secrets.tokens, *_our_token()) if one]
        self._places = list(_known_places())
        self._people = _people()
        self._sequences: set[tuple[str, ...]] = set()
        self._lengths: dict[str, set[int]] = {}  # of the sequences that begin with a word
        if not secrets.with_words:
            for prompt in secrets.prompts:
                self._search(prompt, RUN)
            for name in secrets.names:
                self._search(name, None)

    def clean(self, text: str) -> str:
        """The text without it."""
        text = unicodedata.normalize("NFC", text)
        for token in self._tokens:
            text = text.replace(token, TOKEN)
        text = _TOKENS.sub(TOKEN, text)
        for pattern, name in self._places:
            text = pattern.sub(name, text)
        if not self._keeps_words:
            # All of them in the same text: what one takes out, another must still recognise.
            text = _without([*self._written(text), *_paths_in(text)], text)
        for pattern, name in self._people:
            text = pattern.sub(name, text)
        return text

    def _search(self, written: str, run: int | None) -> None:
        """Look for runs of its words; without a length, or where it has fewer, for all of them."""
        for form in _forms(written):
            words = [match.group().casefold() for match in _WORD.finditer(form)]
            if run is None or len(words) < run:
                is_telling = sum(map(len, words)) >= FEWEST or not form.isascii()
                found = [tuple(words)] if words and is_telling else []
            else:
                found = [tuple(words[at : at + run]) for at in range(len(words) - run + 1)]
            for sequence in found:
                self._sequences.add(sequence)
                self._lengths.setdefault(sequence[0], set()).add(len(sequence))

    def _written(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where words of a person are, however they are written, broken or cut short."""
        found = list(_WORD.finditer(text))
        words = [match.group().casefold() for match in found]
        for at, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                if tuple(words[at : at + length]) in self._sequences:
                    yield found[at].start(), found[at + length - 1].end(), WORDS


def _paths_in(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _PATH.finditer(text):
        yield *match.span(), PLACE
    for match in _AFTER_NAME.finditer(text):
        ours = _OURS.match(match.group())
        assert ours is not None
        if match.group()[ours.end() :].startswith(("/", "\\")):
            yield match.start() + ours.end() + 1, match.end(), PLACE


def _without(spans: list[tuple[int, int, str]], text: str) -> str:
    """The text with names in place of its spans; of those that overlap, one."""
    parts: list[str] = []
    at = 0
    for start, end, name in sorted(spans):
        if start >= at:
            parts += [text[at:start], name]
        at = max(at, end)
    return "".join([*parts, text[at:]])


def _known_places() -> Iterator[tuple[re.Pattern[str], str]]:
    """(how its path is written, its name), the longest first: one may lie in another."""
    known = {
        "takes": [paths.takes()],
        "models": [paths.models()],
        "data": [paths.home()],
        "packages": [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")],
        "python": [Path(sysconfig.get_path("stdlib"))],
        "freeswim": [Path(__file__).parents[2]],
        "home": [Path.home()],
    }
    case = re.IGNORECASE if sys.platform in ("win32", "darwin") else re.NOFLAG
    both = {
        str(path): name
        for name, all_of in known.items()
        for one in all_of
        for path in (one, one.resolve())
    }
    for path in sorted(both, key=len, reverse=True):
        if len(path) > len("/"):
            forms = "|".join(re.escape(form) for form in _forms(path))
            yield re.compile(rf"(?:{forms})(?![\w.-])", case), f"<{both[path]}>"


def _our_token() -> list[str]:
    found = discovery.find()
    return [] if found is None else [found.token]


def _people() -> list[tuple[re.Pattern[str], str]]:
    """Words for this person and this computer."""
    found = {Path.home().name: USER, platform.node(): COMPUTER}
    for name in ("USER", "LOGNAME", "USERNAME"):
        found.setdefault(os.environ.get(name, ""), USER)
    with contextlib.suppress(OSError, KeyError):  # a person without a name
        found.setdefault(getuser(), USER)
    return [
        (re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", re.IGNORECASE), found[word])
        for word in sorted(filter(None, found), key=len, reverse=True)
    ]


def _forms(words: str) -> list[str]:
    """How the same words are written in JSON, Python, a URL, on Windows."""
    forms: list[str] = []
    for form in ("NFC", "NFD"):
        normal = unicodedata.normalize(form, words)
        forms += [
            *(normal, json.dumps(normal)[1:-1], json.dumps(normal, ensure_ascii=False)[1:-1]),
            *(repr(normal)[1:-1], ascii(normal)[1:-1]),
            urllib.parse.quote(normal, errors="replace"),
            urllib.parse.quote_plus(normal, errors="replace"),
            *(normal.replace("\\", "/"), normal.replace("/", "\\")),
        ]
    return sorted(dict.fromkeys(filter(None, forms)), key=len, reverse=True)
