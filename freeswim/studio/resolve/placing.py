"""A finished take -> what is done inside Resolve, one operation after the other, and what is said.

The story of one take is a generator: it yields an operation and is sent what came of it. Nothing of
it is kept between two tries but the outcome: every operation can be asked for again (what is in the
bin is found there, what stands in its place is seen to stand there), so a daemon that dies in the
middle begins the story anew. The one that cannot, adding a take to a clip, is marked (`once`).

Never done: overwriting, saving the project, asking for what an edition lacks.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn, TypeAlias

from freeswim.studio.job import Placing, PlacingState
from freeswim.studio.resolve.planner import (
    Ask,
    Facts,
    ItemSeen,
    MarkerSeen,
    Place,
    ReadBack,
    Seen,
)

BIN = "FreeSwim"
TRACK = "FreeSwim"  # our tracks: FreeSwim, FreeSwim 2, ...
MOST_TRACKS = 100  # that Resolve's executor tells of

CLOSE_WINDOW = "close the window that waits for you in Resolve"


@dataclass(frozen=True)
class Delivery:
    """A take as it goes to Resolve."""

    take_id: str
    job_id: str
    shot_id: str
    name: str  # of the shot
    number: int
    path: str  # of its edit master: whole, closed, conformed to the timeline
    place: Place
    beside: Placing | None = None  # where another take of the shot was placed before


class Code(StrEnum):
    """What an executor answers where an operation was not done."""

    LOST = "lost"  # nobody answered
    TWICE = "twice"  # it may have been done already, and must not be done twice
    NO_PROJECT = "no_project"
    OTHER_PROJECT = "other_project"
    NO_TIMELINE = "no_timeline"
    NOT_CURRENT = "timeline_not_current"
    NO_POOL = "no_pool"
    TOO_OLD = "too_old"
    NO_TRACK = "no_track"
    BEFORE_START = "before_start"
    NO_FILE = "no_file"


Story: TypeAlias = Generator[Ask, Facts, Placing]


def marker_of(shot_id: str) -> str:
    """Custom data of a shot's marker."""
    return f"freeswim:{shot_id}"


def add_marker(shot_id: str, name: str, place: Place, color: str) -> Ask:
    """The marker that keeps a shot's place while the editor goes on cutting."""
    return Ask(
        "add_marker",
        {
            "project": place.project,
            "timeline": place.timeline,
            "offset": max(0, place.offset),
            "color": color,
            "name": name,
            "note": "FreeSwim puts a take here.",
            "duration": 1,
            "custom_data": marker_of(shot_id),
        },
    )


def find_marker(shot_id: str, place: Place) -> Ask:
    """Where a shot's marker is by now."""
    asked = {"project": place.project, "timeline": place.timeline}
    return Ask("find_marker", {**asked, "custom_data": marker_of(shot_id)})


def clear_marker(shot_id: str, place: Place) -> Generator[Ask, Facts, None]:
    """Take our marker away; one of the editor's stays, and stays known as done.

    After the outcome was stored: a take that is told anew without its marker counts as one whose
    marker the editor has deleted.
    """
    ask = find_marker(shot_id, place)
    found = yield ask
    if found.facts.get("marker") is None:
        return
    if MarkerSeen.model_validate(found.facts["marker"]).custom_data == marker_of(shot_id):
        yield Ask("delete_marker", ask.arguments)


def place_take(delivery: Delivery) -> Story:
    """Put a take where its shot was asked for, or into the media pool alone; says which and why."""
    try:
        return (yield from _Story(delivery).tell())
    except _Ends as end:
        return end.placing


class _Ends(Exception):
    """The story is over early."""

    def __init__(self, state: PlacingState, message: str) -> None:
        super().__init__(message)
        self.placing = Placing(state=state, message=message)


@dataclass(frozen=True)
class _Media:
    """The take in the media pool."""

    id: str
    file: str


class _Story:
    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._place = delivery.place
        self._project = {"project": self._place.project}
        self._timeline = {**self._project, "timeline": self._place.timeline}

    def tell(self) -> Story:
        seen = yield from self._look()
        record_frame, reason = yield from self._find_spot(seen)
        if reason:
            yield from self._import()
            return self._in_pool(reason)
        if self._is_elsewhere(seen):
            self._wait(
                f"Go to the timeline {self._place.timeline_name!r}, and the take is put on it."
            )
        media = yield from self._import()
        if (placing := (yield from self._as_take(media, record_frame))) is not None:
            return placing
        if record_frame is None:
            return self._in_pool("the take beside which it belongs is not there any more")
        return (yield from self._on_track(media, record_frame, seen))

    # ----------------------------------------------------------------------------- where to

    def _look(self) -> Generator[Ask, Facts, Seen]:
        """What is open; waits for the project."""
        seen = Seen.model_validate((yield from self._do(Ask("context"))).facts)
        if seen.project is None or not seen.project.id:
            self._wait(f"Resolve shows no project: open one, or {CLOSE_WINDOW}.")
        if seen.project.id != self._place.project:
            self._wait(
                f"Another project is open in Resolve. Open {self._place.project_name!r}, "
                "and the take is put on its timeline."
            )
        return seen

    def _find_spot(self, seen: Seen) -> Generator[Ask, Facts, tuple[int | None, str]]:
        """(record frame, why there is none); neither: beside another take, wherever that is."""
        found = yield from self._do(
            find_marker(self._delivery.shot_id, self._place), Code.NO_TIMELINE
        )
        if found.error:
            return None, self._no_timeline
        start = self._start_of(seen)
        if found.facts.get("marker") is not None:
            return start + MarkerSeen.model_validate(found.facts["marker"]).offset, ""
        if self._delivery.beside is not None:  # it was let go when that one was placed
            return None, ""
        if self._place.is_marked:
            return None, f"its marker, at {self._asked_at}, was deleted"
        return start + self._place.offset, ""

    def _start_of(self, seen: Seen) -> int:
        """The timeline's first frame by now: people change its timecode."""
        if self._is_elsewhere(seen) or seen.timeline is None or seen.timeline.start_frame is None:
            return self._place.start_frame
        return seen.timeline.start_frame

    def _is_elsewhere(self, seen: Seen) -> bool:
        return seen.timeline is None or seen.timeline.id != self._place.timeline

    # --------------------------------------------------------------------------- media pool

    def _import(self) -> Generator[Ask, Facts, _Media]:
        yield from self._do(Ask("ensure_bin", {**self._project, "bin": [BIN]}))
        said = yield from self._do(
            Ask("import", {**self._project, "bin": [BIN], "path": self._delivery.path})
        )
        media = _Media(str(said.facts.get("id", "")), str(said.facts.get("file", "")))
        if not media.id:
            self._wait(f"Resolve took no file: {CLOSE_WINDOW}.")
        values = {
            "freeswim.take": self._delivery.take_id,
            "freeswim.job": self._delivery.job_id,
            "freeswim.shot": self._delivery.shot_id,
        }
        # Comments of the editor's own, or a Resolve that stores none: the file says it as well.
        yield Ask("set_meta", {**self._project, "bin": [BIN], "media": media.id, "values": values})
        return media

    # ----------------------------------------------------------------------------- timeline

    def _as_take(
        self, media: _Media, record_frame: int | None
    ) -> Generator[Ask, Facts, Placing | None]:
        """As a take of a clip that is there; None: it is to have a place of its own."""
        beside, place = self._delivery.beside, self._place
        if beside is not None:
            item, track = beside.item, beside.track
            start = beside.record_frame if record_frame is None else record_frame
        else:
            item, track = (place.item, place.above_track) if place.as_take else ("", 0)
            start = record_frame
        if not item or not track or start is None:
            return None
        said = yield Ask(
            "add_take",
            {
                **self._timeline,
                "bin": [BIN],
                "track": track,
                "start": start,
                "item": item,
                "media": media.id,
                "start_frame": place.handles[0],
                "end_frame": place.handles[0] + place.num_frames,
                "select": False,
            },
            is_once=True,
        )
        if said.error == Code.TWICE:
            return self._in_pool(
                "FreeSwim was stopped while Resolve added it as a take, and does not add it twice; "
                "look into the clip's take selector"
            )
        if said.error in _NOT_AS_TAKE:
            return None
        if said.error:
            self._end_for(said)
        return Placing(
            state=PlacingState.PLACED,
            message=f"In the take selector of the clip at {place.timecode(start)} on V{track}.",
            track=track,
            record_frame=start,
            item=item,
        )

    def _on_track(self, media: _Media, record_frame: int, seen: Seen) -> Story:
        """On a free part of our own track, of a new one, or of the first that is free."""
        tried: set[int] = set()
        reason = ""
        for _ in range(2):  # corrected once
            track = yield from self._free_track(media, record_frame, seen, tried)
            if track is None:
                return self._in_pool(reason or "no track is free there, and Resolve adds none")
            tried.add(track)
            said = yield from self._do(self._placement(media, record_frame, track), *_AT_THE_SPOT)
            if not said.error:
                placing = yield from self._verified(said, media, record_frame, track)
                if placing is not None:
                    return placing
                reason = "Resolve placed it otherwise than it was asked to"
            elif said.error == Code.BEFORE_START:
                return self._in_pool("the timeline begins after its place by now")
            else:
                reason = _AT_THE_SPOT[said.error]
        return self._in_pool(reason)

    def _placement(self, media: _Media, record_frame: int, track: int) -> Ask:
        head = self._place.handles[0]
        return Ask(
            "place",
            {
                **self._timeline,
                "bin": [BIN],
                "media": media.id,
                "track": track,
                "record_frame": record_frame,
                "start_frame": head,
                "end_frame": head + self._place.num_frames,
            },
        )

    def _verified(
        self, said: Facts, media: _Media, record_frame: int, track: int
    ) -> Generator[Ask, Facts, Placing | None]:
        """What is there now, read back; None: not the take, or not as it was meant."""
        item = ItemSeen.model_validate(said.facts.get("item") or {})
        if not said.facts.get("is_certain"):
            # Resolve said that it failed, and shows it all the same (resolve.md 2.2).
            there = yield from self._there(track, record_frame)
            item = next((one for one in there if _is_of(one, media)), ItemSeen())
        end = record_frame + self._place.num_frames
        if not _is_of(item, media) or (item.start, item.end) != (record_frame, end):
            return None
        where = f"On V{track} at {self._place.timecode(record_frame)}"
        if record_frame != self._place.record_frame:
            where += f", where its marker has moved to from {self._asked_at}"
        doubt = ""
        if not said.facts.get("is_certain"):
            doubt = " Resolve was not sure of it: save the project, and look whether it is there."
        return Placing(
            state=PlacingState.PLACED,
            message=f"{where}.{doubt}",
            track=track,
            record_frame=record_frame,
            item=item.id,
        )

    def _free_track(
        self, media: _Media, record_frame: int, seen: Seen, tried: set[int]
    ) -> Generator[Ask, Facts, int | None]:
        tracks = seen.timeline.tracks if seen.timeline is not None else []
        own = [one for one in tracks if one.name.startswith(TRACK) and not one.is_locked]
        for one in own:
            if one.index not in tried and (
                yield from self._is_free(one.index, media, record_frame)
            ):
                return one.index
        name = TRACK if not own else f"{TRACK} {len(own) + 1}"
        said = yield from self._do(
            Ask("add_track", {**self._timeline, "name": name}), Code.NO_TRACK
        )
        if not said.error and int(said.facts["track"]) not in tried:
            return int(said.facts["track"])
        above = [
            one.index
            for one in tracks
            if one.index > self._place.above_track and not one.is_locked and one.is_enabled
        ]
        for index in above:
            if index not in tried and (yield from self._is_free(index, media, record_frame)):
                return index
        return None

    def _is_free(self, track: int, media: _Media, record_frame: int) -> Generator[Ask, Facts, bool]:
        """Whether nothing is there but, from a try before, the take itself."""
        there = yield from self._there(track, record_frame)
        return all(_is_of(one, media) and one.start == record_frame for one in there)

    def _there(self, track: int, record_frame: int) -> Generator[Ask, Facts, list[ItemSeen]]:
        end = record_frame + self._place.num_frames
        asked = {**self._timeline, "track": track, "start": record_frame, "end": end}
        said = yield from self._do(Ask("readback", asked), Code.NO_TRACK)
        return ReadBack.model_validate(said.facts).items if not said.error else []

    # ------------------------------------------------------------------------------- ending

    def _do(self, ask: Ask, *expected: str) -> Generator[Ask, Facts, Facts]:
        """An operation's facts; an error that is not expected ends the story."""
        said = yield ask
        if said.error and said.error not in expected:
            self._end_for(said)
        return said

    def _end_for(self, said: Facts) -> NoReturn:
        match said.error:
            case Code.LOST:
                self._wait(
                    f"Resolve does not answer: {CLOSE_WINDOW}, or start FreeSwim in it again."
                )
            case Code.NO_PROJECT | Code.NO_POOL:
                self._wait(f"Resolve gives no project: open it, or {CLOSE_WINDOW}.")
            case Code.OTHER_PROJECT | Code.NOT_CURRENT:
                self._wait(
                    f"Go to the timeline {self._place.timeline_name!r} of the project "
                    f"{self._place.project_name!r}, and the take is put on it."
                )
            case Code.NO_TIMELINE:
                raise _Ends(
                    PlacingState.POOL,
                    self._words(self._no_timeline),
                )
            case Code.TOO_OLD:
                self._fail(
                    "This Resolve is older than 18.5, which is the first that can place clips."
                )
            case Code.NO_FILE:
                self._fail(f"{self._file} is not there any more. Export the take again.")
            case "not_imported":
                self._fail(f"Resolve cannot read {self._file}. Import it by hand to see why.")
            case "no_bin":
                self._fail(
                    f"Resolve makes no bin {BIN!r} in this project. Import the file by hand."
                )
            case other:
                self._fail(f"Resolve did not do it ({other}). The file is {self._file}.")

    def _wait(self, message: str) -> NoReturn:
        raise _Ends(PlacingState.WAITING, message)

    def _fail(self, message: str) -> NoReturn:
        raise _Ends(PlacingState.FAILED, message)

    def _in_pool(self, reason: str) -> Placing:
        return Placing(state=PlacingState.POOL, message=self._words(reason))

    def _words(self, reason: str) -> str:
        return f"In the media pool only, in the bin {BIN!r}: {reason}."

    @property
    def _asked_at(self) -> str:
        return self._place.timecode(self._place.record_frame)

    @property
    def _no_timeline(self) -> str:
        return f"the timeline {self._place.timeline_name!r} is not in the project any more"

    @property
    def _file(self) -> str:
        return self._delivery.path.replace("\\", "/").rpartition("/")[2]


# The clip is gone by now, or takes no more: the take is to have a place of its own.
_NOT_AS_TAKE = frozenset({"no_item", "no_take", "no_track", "track_locked", "no_media"})

# Why a take could not be put on a track, in words; another track may take it.
_AT_THE_SPOT: dict[str, str] = {
    "occupied": "something else is in its place",
    "track_locked": "the track is locked",
    "no_track": "the track is gone",
    "before_start": "",
    "wrong_length": "Resolve places it with another length",
    "not_placed": "Resolve answered, and placed nothing",
}


def _is_of(item: ItemSeen, media: _Media) -> bool:
    return item.media is not None and item.media.id == media.id
