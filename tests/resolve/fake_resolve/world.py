"""The state of the fake, and the rules that hold for every call."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_resolve import objects
from fake_resolve.media import Media, look_into

FREE, STUDIO = "DaVinci Resolve", "DaVinci Resolve Studio"  # 1.2 GetProductName

# 0: the rows of the tier table, with versions that were seen in the field.
TIERS: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "free 19.0": (FREE, (19, 0, 3, 4)),
    "free 19.1": (FREE, (19, 1, 3, 7)),
    "free 20.3": (FREE, (20, 3, 2, 9)),
    "free 21.0": (FREE, (21, 0, 3, 7)),
    "free 21.1": (FREE, (21, 1, 0, 17)),
    "Studio 18.5": (STUDIO, (18, 5, 1, 6)),
    "Studio 20": (STUDIO, (20, 1, 0, 20)),
    "Studio 21.1": (STUDIO, (21, 1, 0, 14)),
}

# What a correct plugin never calls, whoever lists it: it saves, deletes, renders, or can hang (2.5).
NEVER = frozenset({"SaveProject", "DeleteTimelines", "DeleteTrack", "ArchiveProject", "Quit"})


@dataclass(frozen=True)
class Call:
    """One call that a script made."""

    kind: str
    name: str
    arguments: tuple[Any, ...]


@dataclass
class Switches:
    """How this Resolve behaves where the sources differ, or where it depends."""

    inclusive_end: bool = False  # 2.2, 8.1: whether endFrame is part of it
    collision: str = "dropped"  # 2.2 (LIM l.334, 560): dropped, null_id or none
    fabricate: bool = False  # LIM l.456: unknown names as callables that give None, or as None
    num_lagging_stills: int = 0  # 1.7: stills after a move that show the frame before
    stills_fail: bool = False  # 6.2 stills: False
    append_errs: int = 0  # 2.2 (LIM l.342): appends that place, and say that they failed
    metadata_sticks: bool = True  # LIM l.479: metadata can answer True and not persist
    needs_selection: bool | None = None  # 1.3: None: as the version does
    listens_to_add_track: bool = True  # AddTrack returns bool (6.2): False adds nothing
    import_refuses: bool = False  # 2.4: [] without an error
    hang_on: str = ""  # 2.5: the call that never comes back, until `release`
    version_answer: Any = ...  # in place of the list


@dataclass
class World:
    """A Resolve that runs, with a project and a timeline open, and what an editor does in it."""

    tier: str = "free 20.3"
    rate: str = "24"
    project_rate: str = ""  # 2.3: may differ from the timeline's (AS #193)
    start_timecode: str = "01:00:00:00"
    number: int = 0  # one of several Resolves: no id of theirs is the same
    switches: Switches = field(default_factory=Switches)

    def __post_init__(self) -> None:
        self.product, self.version = TIERS[self.tier]
        self.page: str | None = "edit"
        self.is_running = True
        self.modal = False  # a dialog that a person must click away (2.5)
        self.is_wedged = False  # GetCurrentDatabase None (LIM l.303)
        self.generation = 0  # of handles: another project makes those before dead (6.2)
        self.calls: list[Call] = []
        self.misuses: list[str] = []
        self.media: dict[str, Media] = {}  # by path; any other file is looked into
        self.prefs: dict[str, Any] = {}
        self.profiles: list[Path] = []  # folders of Fusion's, the used one first
        self._ids = itertools.count(1)
        self._lock = threading.RLock()
        self._released = threading.Event()
        self._hanging = threading.Event()
        self.project: objects.Project | None = objects.Project(self, "Film")
        self.resolve = objects.Resolve(self)
        self.manager = objects.ProjectManager(self)
        self.fusion = objects.Fusion(self)
        self.bmd = objects.Bmd(self)

    # ---------------------------------------------------------------------- what editors do

    @property
    def film(self) -> objects.Project:
        """The project that is open."""
        assert self.project is not None
        return self.project

    @property
    def timeline(self) -> objects.Timeline:
        """The one that is open."""
        assert self.film.timeline is not None
        return self.film.timeline

    @contextmanager
    def by_hand(self) -> Iterator[None]:
        """No script's call comes between."""
        with self._lock:
            yield

    def add_media(self, path: Path, media: Media) -> str:
        """A file on the disk that Resolve can read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"media")
        self.media[str(path)] = media
        return str(path)

    def media_in(self, path: str) -> Media | None:
        """What Resolve finds in a file; None: it is no media."""
        return self.media.get(path) or look_into(path)

    def open_project(self, name: str) -> objects.Project:
        """Another project: handles of the one before are dead, if it is opened again too (6.2)."""
        with self._lock:
            self.generation += 1
            self.project = objects.Project(self, name)
            return self.project

    def dismiss(self) -> None:
        """Click the dialog away."""
        self.modal = False

    def quit(self) -> None:
        """Nothing is answered any more."""
        self.is_running = False
        self.release()

    def release(self) -> None:
        """What hangs goes on."""
        self.switches.hang_on = ""
        self._released.set()

    def wait_until_it_hangs(self, timeout: float = 30) -> None:
        """Until a script sits in the call that hangs."""
        assert self._hanging.wait(timeout), "nobody called it"

    def names_called(self) -> set[str]:
        """Names of the methods that scripts called."""
        return {call.name for call in self.calls}

    # -------------------------------------------------------------------------- what holds

    @property
    def is_studio(self) -> bool:
        return self.product == STUDIO

    @property
    def lists_python(self) -> bool:
        """0.1: from 21.1 on Python scripts are not even listed on the free edition (M #203, #219)."""
        return self.is_studio or self.version < (21, 1)

    @property
    def answers_from_outside(self) -> bool:
        """0.4: scripting from another process is Studio's alone, in every version."""
        return self.is_studio

    @property
    def has_ui_manager(self) -> bool:
        """0.3: Studio's alone since 19.1."""
        return self.is_studio or self.version < (19, 1)

    def new_id(self) -> str:
        """6.2 ids: stable, never used twice."""
        return f"{next(self._ids):08x}-0000-4000-8000-{self.number:012x}"

    def misuse(self, words: str) -> None:
        self.misuses.append(words)

    def raise_modal(self, words: str) -> None:
        """2.5 (LIM l.441): one call of what the edition lacks, and all later ones fail."""
        self.misuse(words)
        self.modal = True

    def listed(self, thing: objects.Thing) -> list[str]:
        """What `dir()` shows: true to the version (2.1), and to Studio's methods on free too."""
        names = [name for name, rule in objects.rules(type(thing)) if rule.since <= self.version]
        return sorted(names)

    def attribute(self, thing: objects.Thing, name: str) -> Any:
        """What a name of an object is: `self.call` stands for a method.

        LIM l.456: any other name is None, so that hasattr is true of everything; or, on some
        versions, a method that answers None.
        """
        if name in self.listed(thing):
            return self.call
        if isinstance(getattr(type(thing), name, None), property):
            return getattr(thing, name)
        return self.call if self.switches.fabricate else None

    def call(self, thing: objects.Thing, name: str, arguments: tuple[Any, ...]) -> Any:
        """One call of a script; nothing raises (2.1)."""
        if name == self.switches.hang_on:
            self._hanging.set()
            self._released.wait()
        with self._lock:
            self.calls.append(Call(type(thing).__name__, name, arguments))
            rule = dict(objects.rules(type(thing))).get(name)
            if rule is None or rule.since > self.version:
                self.misuse(f"{type(thing).__name__} has no {name} in {self.version}")
                return None
            if not self.is_running:
                return None
            if self.modal:
                return rule.failure
            if thing.generation not in (None, self.generation):
                return "" if name == "GetUniqueId" else None  # 6.2 dead handles
            if name in NEVER:
                self.misuse(f"{name} is never to be called")
            if rule.is_studio and not self.is_studio:
                self.raise_modal(f"{name} is Studio's alone")
                return rule.failure
            method: Callable[..., Any] = getattr(thing, name)
            if not rule.fits(arguments):
                self.misuse(f"{name} with arguments of another kind: {arguments!r}")
                return rule.failure
            return method(*arguments)
