"""What the editor looks at in Resolve -> the shots to be made, each with its place frozen.

Nothing here waits or asks anybody: a verb that has to know more yields an operation and is sent its
answer (`Steps`). Whatever the editor does afterwards, a place is that of the moment of the click:
the timeline by its unique id, frames of its exact rate. Resolve counts record frames from midnight
of its timecode and markers from the timeline's start; ranges here are half-open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, NoReturn, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field

from freeswim.errors import FreeswimError, RequestError
from freeswim.models.catalog import CATALOG, Checkpoint, find_checkpoint
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.timeline.cut import RATES
from freeswim.timeline.timecode import frames_of, frames_per_day, timecode_of

Verb = Literal[
    "connect",
    "generate_at_playhead",
    "regenerate_selection",
    "generate_from_markers",
    "fill_gap",
    "extend_clip",
    "place_finished_takes",
]
# fmt: off
MarkerColor = Literal[
    "Blue", "Cyan", "Green", "Yellow", "Red", "Pink", "Purple", "Fuchsia", "Rose", "Lavender",
    "Sky", "Mint", "Lemon", "Sand", "Cocoa", "Cream",
]
# fmt: on

OURS = "freeswim"  # begins the custom data of every marker that we follow
MOST_SHOTS = 50  # of one verb
MOST_TAKES = 16  # of one shot
MOST_HANDLES = 240  # frames on each side
MOST_SECONDS = 60  # of a shot whose length nobody says
LONGEST_NAME = 60  # of a shot
UHD = (3840, 2160)  # the largest that the free edition renders
NEAR = 0.006  # frames per second: Resolve writes 23.976 for 24000/1001

_SETTING = re.compile(r"([a-z_]+(?:\.[a-z_]+)?)\s*:\s*(\S.*)")  # a line of a marker's note
_OWN_KEYS = ("preset", "name", "takes", "handles", "strength", "seed")
_NOT_OF_A_NOTE = ("kind", "prompt", "clip", "clip_start", "first_image", "last_image", "frames")


class _Said(BaseModel):
    """Resolve's own words, as the executor passes them on; what is not asked for is passed over."""

    model_config = ConfigDict(frozen=True)


class MediaSeen(_Said):
    """A clip of the media pool."""

    id: str = ""
    name: str = ""
    file: str = ""
    rate: str = ""
    frames: str = ""
    resolution: str = ""


class ItemSeen(_Said):
    """A clip on the timeline."""

    id: str = ""
    name: str = ""
    track: int | None = None
    start: int | None = None  # record frame
    end: int | None = None
    left_offset: int | None = None
    source_start: int | None = None
    media: MediaSeen | None = None  # None: a title, a generator, a compound clip


class MarkerSeen(_Said):
    """A marker of the timeline."""

    offset: int  # from the timeline's first frame
    duration: int | None = None
    color: str = ""
    name: str = ""
    note: str = ""
    custom_data: str = ""


class TrackSeen(_Said):
    """A video track."""

    index: int  # from 1
    name: str = ""
    is_locked: bool = False
    is_enabled: bool = True


class MarkSeen(_Said):
    """In and out, from the timeline's first frame; out is the last frame that belongs to it."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    first: int | None = Field(None, alias="in")
    last: int | None = Field(None, alias="out")


class TimelineSeen(_Said):
    """The timeline that is open."""

    id: str = ""
    name: str = ""
    rate: str = ""
    drop_frame: str = ""
    width: str = ""
    height: str = ""
    start_frame: int | None = None
    end_frame: int | None = None
    start_timecode: str | None = None
    playhead: str | None = None
    mark: MarkSeen | None = None
    tracks: list[TrackSeen] = []
    current: ItemSeen | None = None
    selection: list[ItemSeen] | None = None  # None: this Resolve does not say
    markers: list[MarkerSeen] = []


class ProjectSeen(_Said):
    """The project that is open."""

    id: str = ""
    name: str = ""


class Seen(_Said):
    """What the editor was looking at when they chose the menu entry."""

    page: str | None = None
    project: ProjectSeen | None = None
    timeline: TimelineSeen | None = None


class ReadBack(_Said):
    """What is on a track within a range, and its neighbours."""

    items: list[ItemSeen] = []
    before: ItemSeen | None = None
    after: ItemSeen | None = None


class ResolveSettings(BaseModel):
    """How shots are made that are asked for inside Resolve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field(default="wan21-1.3b-1080p", max_length=100)
    size: Literal["uhd", "preset"] = "uhd"
    seconds: int = Field(default=5, ge=1, le=MOST_SECONDS)  # of a shot whose length nobody says
    handles: int = Field(default=0, ge=0, le=MOST_HANDLES)  # frames of a remade clip, on each side
    marker_color: MarkerColor = "Mint"
    as_take: bool = False  # of the original clip, in its take selector, instead of a track of ours
    places_by_itself: bool = True  # takes go to the timeline as soon as they are finished


class Place(BaseModel):
    """Where a take goes: frozen when the shot was asked for."""

    model_config = ConfigDict(frozen=True)

    project: str  # unique ids; names change
    project_name: str
    timeline: str
    timeline_name: str
    rate: str  # a fraction, frames per second
    is_drop_frame: bool
    start_frame: int  # of the timeline, then
    record_frame: int  # of the take's first frame that is shown
    num_frames: int = Field(ge=1)  # that are shown
    handles: tuple[int, int] = (0, 0)  # frames before and after what is shown
    above_track: int = 0  # the original clip's; 0: there is none
    item: str = ""  # unique id of the original clip on the timeline
    as_take: bool = False
    is_marked: bool = False  # whether a marker of ours stands at its first frame

    @property
    def exact_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.rate)

    @property
    def offset(self) -> int:
        """Frames from the timeline's first to the take's: what markers count."""
        return self.record_frame - self.start_frame

    @property
    def master_frames(self) -> int:
        """Frames of the edit master."""
        return self.handles[0] + self.num_frames + self.handles[1]

    def timecode(self, record_frame: int) -> str:
        """A frame of the timeline as the editor reads it."""
        return _timecode(record_frame, self.exact_rate, self.is_drop_frame)


@dataclass(frozen=True)
class Picture:
    """A frame of the timeline that a shot begins or ends with."""

    field: Literal["first_image", "last_image"]
    timecode: str  # on the timeline
    is_at_playhead: bool
    file: str  # that plays there; empty: there is none that we could read
    frame: int  # of the file


@dataclass(frozen=True)
class ShotPlan:
    """A shot as it is to be added."""

    name: str
    place: Place
    preset: str
    request: Mapping[str, Any]  # fields of a Request that differ from the preset's
    takes: int = 1
    pictures: tuple[Picture, ...] = ()

    @property
    def needs_prompt(self) -> bool:
        """Whether nobody has said yet what it shows."""
        return self.request["kind"] != "clip" and not self.request.get("prompt")


@dataclass(frozen=True)
class Ask:
    """An operation that the executor inside Resolve is to do."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_once: bool = False  # asked for twice it is done twice


@dataclass(frozen=True)
class Facts:
    """What came of an operation."""

    facts: Mapping[str, Any]
    error: str = ""  # a code; empty: it was done


Steps: TypeAlias = Generator[Ask, Facts, list[ShotPlan]]


class _Note(BaseModel):
    """What a marker's note says."""

    model_config = ConfigDict(frozen=True)

    prompt: str = ""
    name: str = ""
    preset: str = ""
    takes: int = Field(default=1, ge=1, le=MOST_TAKES)
    handles: int | None = Field(default=None, ge=0, le=MOST_HANDLES)
    changes: dict[str, Any] = {}  # of the request


def plan_shots(verb: Verb, seen: Seen, settings: ResolveSettings) -> Steps:
    """The shots that a verb asks for; operations on the way.

    Raises:
        RequestError: there is nothing for it to do here; says what to do in Resolve.
    """
    if verb in ("connect", "place_finished_takes"):
        return []
    desk = _Desk(seen, settings)
    match verb:
        case "generate_at_playhead":
            return [desk.at_playhead()]
        case "regenerate_selection":
            return [desk.again(item) for item in desk.selected()]
        case "generate_from_markers":
            return list(desk.from_markers())
        case "extend_clip":
            return [desk.extended(desk.selected()[0])]
        case "fill_gap":
            return [(yield from desk.fill_gap())]


class _Desk:
    """One verb, in front of one timeline."""

    def __init__(self, seen: Seen, settings: ResolveSettings) -> None:
        if seen.project is None or not seen.project.id:
            raise RequestError(
                "Resolve shows no project.",
                hint="Open one; if one is open, close the window that waits for you in Resolve.",
            )
        if seen.timeline is None or not seen.timeline.id:
            raise RequestError("No timeline is open in Resolve.", hint="Open one.")
        self._project, self._timeline, self._settings = seen.project, seen.timeline, settings
        self._rate, says_drop = rate_of(seen.timeline.rate)
        self._is_drop = says_drop or seen.timeline.drop_frame == "1"
        if seen.timeline.start_frame is None:
            raise RequestError(
                "Resolve does not say where the timeline begins.",
                hint="Close the window that waits for you in Resolve, and choose this again.",
            )
        self._start = seen.timeline.start_frame

    # -------------------------------------------------------------------------------- verbs

    def at_playhead(self) -> ShotPlan:
        playhead = self._playhead()
        marker = self._marker_at(playhead, playhead + 1)
        note = self._note(marker)
        start, length = playhead, self._length(marker)
        mark = self._timeline.mark
        if mark is not None and mark.first is not None and mark.last is not None:
            first, end = self._start + mark.first, self._start + mark.last + 1
            if first <= playhead < end:
                start, length = first, end - first
        pictures: tuple[Picture, ...] = ()
        if not self._checkpoint(note).takes_text:
            pictures = (self._picture("first_image", start, self._timeline.current),)
        return self._generated(note, "Shot", self._place(start, length), pictures)

    def from_markers(self) -> Iterator[ShotPlan]:
        color = self._settings.marker_color
        ours = [one for one in self._timeline.markers if self._is_wish(one) and one.note.strip()]
        if not ours:
            raise RequestError(
                f"There is no {color} marker with a prompt on this timeline.",
                hint=f"Add a marker, make it {color}, and write the prompt into its note.",
            )
        if len(ours) > MOST_SHOTS:
            raise RequestError(
                f"There are {len(ours)} {color} markers.", hint=f"Keep {MOST_SHOTS} or fewer."
            )
        for marker in ours:
            start = self._start + marker.offset
            try:
                note = self._note(marker)
                place = self._place(start, self._length(marker))
                if self._checkpoint(note).takes_text:
                    yield self._generated(note, marker.name, place)
                else:
                    here = self._timeline.current if start == self._playhead_or_none() else None
                    picture = self._picture("first_image", start, here)
                    yield self._generated(note, marker.name, place, (picture,))
            except FreeswimError as error:
                where = _timecode(start, self._rate, self._is_drop)
                raise RequestError(
                    f"The marker at {where}: {error.message}", hint=error.hint
                ) from error

    def selected(self) -> list[ItemSeen]:
        """Clips on video tracks; the one under the playhead where Resolve does not say."""
        chosen = self._timeline.selection
        clips = [one for one in chosen or [] if one.track and one.start is not None]
        if not clips and self._timeline.current is not None:
            clips = [self._timeline.current]
        if not clips:
            raise RequestError(
                "No clip is selected, and none is under the playhead.",
                hint="Park the playhead on the clip, and choose this again.",
            )
        return clips[:MOST_SHOTS]

    def again(self, clip: ItemSeen) -> ShotPlan:
        """The clip made again, over itself."""
        start, end = _range(clip)
        media = _file_of(clip)
        note = self._note(self._marker_at(start, end))
        source, source_rate = self._source_frame(clip, start), self._rate_of_file(media)
        handles = (0, 0)
        if source_rate == self._rate:  # between other rates no whole frame is before the first
            wanted = self._settings.handles if note.handles is None else note.handles
            after = (_frames_of_file(media) or source + end - start) - source - (end - start)
            handles = (min(wanted, source), max(0, min(wanted, after)))
        place = self._place(start, end - start, handles).model_copy(
            update={
                "above_track": clip.track or 0,
                "item": clip.id,
                "as_take": self._settings.as_take,
            }
        )
        first = source - handles[0]
        frames = math.ceil(place.master_frames * source_rate / self._rate)
        if known := _frames_of_file(media):
            frames = max(1, min(frames, known - first))
        request = {
            "kind": "clip",
            **self._size(media.resolution, note),
            **note.changes,
            "prompt": note.prompt,
            "clip": {"path": media.file},
            "clip_start": first,
            "frames": frames,
        }
        name = note.name or _name(media.name or clip.name, "Clip")
        return ShotPlan(name, place, note.preset or self._settings.preset, request, note.takes)

    def extended(self, clip: ItemSeen) -> ShotPlan:
        """What comes after the clip, from its last frame on."""
        start, end = _range(clip)
        note = self._note(self._marker_at(start, end + 1))
        picture = self._picture("first_image", end - 1, clip)
        place = self._place(end, self._seconds())
        place = place.model_copy(update={"above_track": clip.track or 0})
        return self._generated(note, f"{clip.name} extended", place, (picture,))

    def fill_gap(self) -> Generator[Ask, Facts, ShotPlan]:
        """What joins the clip before the gap under the playhead to the one after it."""
        playhead = self._playhead()
        for track in self._timeline.tracks:
            there = yield Ask(
                "readback",
                {
                    "project": self._project.id,
                    "timeline": self._timeline.id,
                    "track": track.index,
                    "start": playhead,
                    "end": playhead + 1,
                },
            )
            around = ReadBack.model_validate(there.facts) if not there.error else ReadBack()
            if around.items or around.before is None or around.after is None:
                continue
            (_, start), (end, _) = _range(around.before), _range(around.after)
            note = self._note(self._marker_at(start, end))
            pictures = (
                self._picture("first_image", start - 1, around.before),
                self._picture("last_image", end, around.after),
            )
            place = self._place(start, end - start)
            place = place.model_copy(update={"above_track": track.index})
            return self._generated(note, "Gap", place, pictures)
        raise RequestError(
            "The playhead is in no gap between two clips.",
            hint="Park it in the gap, and choose this again.",
        )

    # -------------------------------------------------------------------------------- parts

    def _generated(
        self, note: _Note, name: str, place: Place, pictures: tuple[Picture, ...] = ()
    ) -> ShotPlan:
        checkpoint = self._checkpoint(note, *(picture.field for picture in pictures))
        request: dict[str, Any] = {
            "kind": "image" if pictures else "text",
            "checkpoint": checkpoint.name,
            **self._size(f"{self._timeline.width}x{self._timeline.height}", note),
            **note.changes,
            "prompt": note.prompt,
            "frames": math.ceil(place.master_frames * checkpoint.frame_rate / self._rate),
        }
        default = name if name and not re.fullmatch(r"Marker \d+", name) else note.prompt
        name = note.name or _name(default, "Shot")
        preset = note.preset or self._settings.preset
        return ShotPlan(name, place, preset, request, note.takes, pictures)

    def _checkpoint(self, note: _Note, *pictures: str) -> Checkpoint:
        """The preset's or the note's; where it cannot begin or end on pictures, one that can."""
        preset = load_preset(note.preset or self._settings.preset)
        named = note.changes.get("checkpoint", preset.defaults.get("checkpoint"))
        chosen = find_checkpoint(str(named))
        if not pictures or "checkpoint" in note.changes:
            return chosen
        needs_end = "last_image" in pictures
        able = [
            one
            for one in (chosen, *CATALOG)
            if one.takes_image and one.takes_last_image >= needs_end
        ]
        return able[0] if able else chosen

    def _size(self, resolution: str, note: _Note) -> dict[str, int]:
        """UHD in the shape of what is there, unless the preset's or the note's own is wanted."""
        if self._settings.size == "preset" or note.preset:
            return {}
        width, height = uhd_size(resolution)
        return {"width": width, "height": height}

    def _place(self, record_frame: int, length: int, handles: tuple[int, int] = (0, 0)) -> Place:
        return Place(
            project=self._project.id,
            project_name=self._project.name,
            timeline=self._timeline.id,
            timeline_name=self._timeline.name,
            rate=str(self._rate),
            is_drop_frame=self._is_drop,
            start_frame=self._start,
            record_frame=record_frame,
            num_frames=length,
            handles=handles,
        )

    def _picture(
        self, name: Literal["first_image", "last_image"], frame: int, clip: ItemSeen | None
    ) -> Picture:
        """What the timeline shows at a record frame, and which file plays there."""
        file, index = "", 0
        if clip is not None and clip.media is not None and clip.media.file:
            file, index = clip.media.file, self._source_frame(clip, frame)
        return Picture(
            field=name,
            timecode=_timecode(frame, self._rate, self._is_drop),
            is_at_playhead=frame == self._playhead_or_none(),
            file=file,
            frame=index,
        )

    def _source_frame(self, clip: ItemSeen, frame: int) -> int:
        """The frame of its file that a clip shows at a record frame, at normal speed."""
        first = clip.source_start if clip.source_start is not None else clip.left_offset or 0
        media = clip.media or MediaSeen()
        passed = (frame - _range(clip)[0]) * self._rate_of_file(media) / self._rate
        return max(0, first + math.floor(passed))

    def _rate_of_file(self, media: MediaSeen) -> Fraction:
        """The file's own; the timeline's where Resolve does not say."""
        try:
            rate = Fraction(media.rate.strip() or "0")
        except ValueError:
            return self._rate
        near = [known for known in RATES if abs(float(known) - float(rate)) < NEAR]
        return near[0] if near else rate if rate > 0 else self._rate

    def _playhead(self) -> int:
        playhead = self._playhead_or_none()
        if playhead is None:
            raise RequestError(
                "This page of Resolve has no playhead.", hint="Go to the Edit or the Cut page."
            )
        return playhead

    def _playhead_or_none(self) -> int | None:
        """The record frame at the playhead; timecode begins again after a day."""
        if not self._timeline.playhead:
            return None
        start = self._start % frames_per_day(self._rate)
        offset = frames_of(self._timeline.playhead, self._rate) - start
        if offset < 0 and start + self._length_of_timeline() > frames_per_day(self._rate):
            offset += frames_per_day(self._rate)
        return self._start + max(0, min(offset, self._length_of_timeline()))

    def _length_of_timeline(self) -> int:
        """Frames; an empty timeline is as long as a day: the playhead can be anywhere on it."""
        end = self._timeline.end_frame
        if end is None or end <= self._start:
            return frames_per_day(self._rate)
        return end - self._start

    def _marker_at(self, start: int, end: int) -> MarkerSeen | None:
        """The first marker with a wish that stands within a range."""
        for marker in self._timeline.markers:
            if start <= self._start + marker.offset < end and self._is_wish(marker):
                return marker
        return None

    def _is_wish(self, marker: MarkerSeen) -> bool:
        """Whether it has our colour, and neither we nor another program follow it already."""
        return marker.color == self._settings.marker_color and not marker.custom_data

    def _length(self, marker: MarkerSeen | None) -> int:
        if marker is None or not marker.duration or marker.duration <= 1:
            return self._seconds()
        return marker.duration

    def _seconds(self) -> int:
        return math.ceil(self._settings.seconds * self._rate)

    def _note(self, marker: MarkerSeen | None) -> _Note:
        return _Note() if marker is None else read_note(marker.note)


def rate_of(said: str) -> tuple[Fraction, bool]:
    """A rate in Resolve's words, exact, and whether they say drop-frame: `29.97 DF`.

    Raises:
        RequestError: a rate without timecode.
    """
    number, _, mark = said.strip().partition(" ")
    try:
        rate = float(number)
    except ValueError:
        rate = 0.0
    for known in RATES:
        if abs(float(known) - rate) < NEAR:
            return known, mark.strip().upper() == "DF"
    raise RequestError(
        f"The timeline's rate {said[:20]!r} is none that timecode knows.",
        hint="Use 23.976, 24, 25, 29.97, 30, 50, 59.94 or 60 frames per second.",
    )


def uhd_size(resolution: str) -> tuple[int, int]:
    """(width, height) of the largest UHD picture with the shape of `1920x1080`; both even."""
    found = re.fullmatch(r"\s*(\d{2,5})\s*[xX×]\s*(\d{2,5})\s*", resolution)
    if not found:
        return UHD
    width, height = int(found[1]), int(found[2])
    longest, shortest = UHD if width >= height else UHD[::-1]
    scale = min(Fraction(longest, width), Fraction(shortest, height))
    return _even(width * scale), _even(height * scale)


def read_note(text: str) -> _Note:
    """A prompt, with lines of `key: value` that override the preset: `seed: 7`, `strength: 0.6`.

    Raises:
        RequestError: a line names no field, or its value is none.
    """
    words: list[str] = []
    found: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for line in text.splitlines():
        match = _SETTING.fullmatch(line.strip())
        if not match:
            words.append(line)
            continue
        key, value = match[1], _value(match[1], match[2].strip())
        if key in ("preset", "name", "takes", "handles"):
            found[key] = value if key in ("takes", "handles") else str(value)
        else:
            _put(changes, "refine.strength" if key == "strength" else key, value)
    try:
        note = _Note(prompt="\n".join(words).strip(), changes=changes, **found)
    except ValueError as error:
        wrong = ", ".join(
            f"{name}: {found[name]}" for name in ("takes", "handles") if name in found
        )
        raise RequestError(
            f"{wrong} cannot be.",
            hint=f"Use 1 to {MOST_TAKES} takes and 0 to {MOST_HANDLES} handles.",
        ) from error
    return note


def _value(key: str, words: str) -> Any:
    """A plain value, as a preset would have it."""
    try:
        value = yaml.safe_load(words)
    except yaml.YAMLError:
        value = words
    if isinstance(value, bool | int | float | str):
        return value if key not in ("name", "negative_prompt") else words
    raise RequestError(
        f"{key}: {words[:40]!r} is no plain value.", hint="Write a word or a number."
    )


def _put(changes: dict[str, Any], key: str, value: Any) -> None:
    name, _, part = key.partition(".")
    allowed = [one for one in Request.model_fields if one not in _NOT_OF_A_NOTE]
    if name not in allowed or name == "loras":
        raise RequestError(
            f"A marker's note has no field {key!r}.",
            hint=f"Fields are: {', '.join(sorted({*_OWN_KEYS, *allowed} - {'loras'}))}.",
        )
    if not part:
        changes[name] = value
        return
    inner: dict[str, Any] = changes.setdefault(name, {})
    inner[part] = value


def _range(clip: ItemSeen) -> tuple[int, int]:
    """[start, end) in record frames."""
    if clip.start is None or clip.end is None or clip.end <= clip.start:
        _no_clip(clip)
    return clip.start, clip.end


def _file_of(clip: ItemSeen) -> MediaSeen:
    if clip.media is None or not clip.media.file:
        _no_clip(clip)
    return clip.media


def _no_clip(clip: ItemSeen) -> NoReturn:
    raise RequestError(
        f"{clip.name or 'The clip'!r} is no video file that plays on the timeline.",
        hint="Titles, generators and compound clips cannot be remade; render them first.",
    )


def _frames_of_file(media: MediaSeen) -> int | None:
    return int(media.frames) if media.frames.isascii() and media.frames.isdigit() else None


def _timecode(frame: int, rate: Fraction, is_drop_frame: bool) -> str:
    """As Resolve writes it: 29.97 without drop-frame counts like 30."""
    return timecode_of(frame, rate if is_drop_frame else Fraction(round(rate)))


def _name(words: str, default: str) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in words)
    return " ".join(plain.split())[:LONGEST_NAME].strip() or default


def _even(side: Fraction) -> int:
    return 2 * round(side / 2)
