"""A cut: what is on a timeline, in whole frames of one rate. Every format is written from it.

A track is a row of clips and gaps, each with its length; the lengths add up to the track's. A
dissolve lies between two clips and takes no room of its own: it plays frames of both around their
cut, beyond what each of them shows alone (its handles). Media frames are counted from 0, whatever
timecode the file carries.

The sound of a clip goes with its picture: what is heard follows from the tracks of pictures, and
formats with tracks of sound ask `Cut.sound_tracks` for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TypeAlias

from freeswim.errors import RequestError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

_NTSC = Fraction(1000, 1001)
RATES = (
    *(24 * _NTSC, Fraction(24), Fraction(25), 30 * _NTSC),
    *(Fraction(30), Fraction(50), 60 * _NTSC, Fraction(60)),
)  # of timelines: those that timecode knows


@dataclass(frozen=True)
class Media:
    """A media file as editors see it."""

    path: Path
    num_frames: int  # 1 or more
    frame_rate: Fraction  # exact
    width: int  # pixels
    height: int  # pixels
    start_frame: int = 0  # its source timecode, in frames of its rate
    has_timecode: bool = False  # whether the file carries that timecode
    num_channels: int = 0  # of its sound; 0: it has none
    reel: str = ""
    sha256: str = ""
    metadata: Mapping[str, JSON] = field(default_factory=dict)  # prompt, seed and so on

    @property
    def name(self) -> str:
        """By which media pools know it."""
        return self.path.name

    @property
    def has_audio(self) -> bool:
        """Whether there is sound in it."""
        return self.num_channels > 0


@dataclass(frozen=True)
class Marker:
    """A note at a frame."""

    frame: int  # from the start of what it is on: of the cut, or of what its clip shows
    text: str
    color: str = "CYAN"  # a name of OpenTimelineIO's MarkerColor
    num_frames: int = 1
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """A part of a media file."""

    name: str
    media: Media  # what plays
    start: int  # first frame of the media that is shown, in frames of the cut's rate
    num_frames: int  # shown, of the cut's rate; 1 or more
    others: Mapping[str, Media] = field(default_factory=dict)  # take_02, proxy, native, ...
    is_enabled: bool = True
    markers: tuple[Marker, ...] = ()
    metadata: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Gap:
    """Nothing, for a while."""

    num_frames: int


@dataclass(frozen=True)
class Dissolve:
    """From the clip before into the clip after."""

    before_cut: int  # frames of it before the cut: of the second clip's head handle
    after_cut: int  # frames of it after the cut: of the first clip's tail handle

    @property
    def num_frames(self) -> int:
        """How long it is; not a part of the track's length."""
        return self.before_cut + self.after_cut


Item: TypeAlias = "Clip | Gap | Dissolve"


@dataclass(frozen=True)
class Track:
    """Items one after the other; tracks further on cover those before."""

    name: str
    items: tuple[Item, ...]

    @property
    def num_frames(self) -> int:
        """How long it is."""
        return sum(item.num_frames for item in self.items if not isinstance(item, Dissolve))

    def placed(self) -> Iterator[tuple[int, Item]]:
        """Each item with the frame at which it begins; a dissolve at the frame of its first."""
        lengths = (0 if isinstance(item, Dissolve) else item.num_frames for item in self.items)
        starts = accumulate(lengths, initial=0)
        for start, item in zip(starts, self.items, strict=False):
            yield (start - item.before_cut if isinstance(item, Dissolve) else start), item

    def dissolves_at(self, index: int) -> tuple[Dissolve | None, Dissolve | None]:
        """The dissolve into the item at `index` and the one out of it."""
        before = self.items[index - 1] if index else None
        after = self.items[index + 1] if index + 1 < len(self.items) else None
        return (
            before if isinstance(before, Dissolve) else None,
            after if isinstance(after, Dissolve) else None,
        )

    @property
    def num_channels(self) -> int:
        """Of the clip that has the most; 0 where none has sound."""
        return max(
            (item.media.num_channels for item in self.items if isinstance(item, Clip)), default=0
        )

    def playing(self) -> Track:
        """The track as it plays: a disabled clip is a gap, and a dissolve with one is a cut."""
        return self._only(lambda clip: clip.is_enabled)

    def sounding(self, channel: int = 1) -> Track:
        """The track as one channel of it is heard: a clip without is a gap, a dissolve with one a cut.

        Clips have their sound's part only: markers stay with the pictures.
        """
        heard = self._only(lambda clip: clip.media.num_channels >= channel)
        items = (
            replace(item, markers=()) if isinstance(item, Clip) else item for item in heard.items
        )
        return Track(self.name, tuple(items))

    def _only(self, is_kept: Callable[[Clip], bool]) -> Track:
        off = {
            i for i, item in enumerate(self.items) if isinstance(item, Clip) and not is_kept(item)
        }
        items: list[Item] = []
        for index, item in enumerate(self.items):
            if index in off:
                assert not isinstance(item, Dissolve)
                items.append(Gap(item.num_frames))
            elif not (isinstance(item, Dissolve) and off & {index - 1, index + 1}):
                items.append(item)
        return Track(self.name, tuple(items))


@dataclass(frozen=True)
class Cut:
    """A timeline."""

    name: str
    rate: Fraction  # one of RATES
    width: int  # pixels
    height: int  # pixels
    tracks: tuple[Track, ...]  # of pictures, the lowest first
    start_frame: int = 0  # its first frame's timecode, in frames: 86400 is 01:00:00:00 at 24
    markers: tuple[Marker, ...] = ()
    metadata: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """How long it is."""
        return max((track.num_frames for track in self.tracks), default=0)

    def clips(self) -> Iterator[Clip]:
        """All clips, track by track."""
        for track in self.tracks:
            yield from (item for item in track.items if isinstance(item, Clip))

    def sound_tracks(self) -> dict[int, Track]:
        """The tracks of sound, A1 first, by the index of the track of pictures that each belongs to.

        A track of pictures with sound in it has one: the same clips at the same frames. All channels
        of a clip lie on it together.
        """
        heard = [index for index, track in enumerate(self.tracks) if track.num_channels]
        return {
            index: replace(self.tracks[index].sounding(), name=f"A{number}")
            for number, index in enumerate(heard, 1)
        }

    def media(self) -> Iterator[Media]:
        """All media of all clips, what plays before the others; a file as often as it is named."""
        for clip in self.clips():
            yield clip.media
            yield from clip.others.values()

    def check(self) -> None:
        """Refuse what no editor could play.

        Raises:
            RequestError: a rate without timecode, an item without length, frames that a clip's
                media has not, or a dissolve that is not between two clips with handles for it.
        """
        if self.rate not in RATES:
            raise RequestError(
                f"{self.rate} frames per second have no timecode.",
                hint=f"Use one of {', '.join(str(rate) for rate in RATES)}.",
            )
        if self.num_frames < 1:
            raise RequestError(f"The timeline {self.name!r} is empty.", hint="Put a clip on it.")
        for track in self.tracks:
            for item in track.items:
                self._check_item(item)
            _check_dissolves(track, self.rate)

    def check_one_rate(self) -> None:
        """Refuse media of another rate than the cut's, for formats that cannot say which frames.

        Raises:
            RequestError: names the file and both rates.
        """
        for clip in self.clips():
            if clip.media.frame_rate != self.rate:
                raise RequestError(
                    f"{clip.media.name} has {clip.media.frame_rate} frames per second, the timeline "
                    f"{self.rate}.",
                    hint="Conform it first (freeswim convert --rate), or use an .otio file.",
                )

    def _check_item(self, item: Item) -> None:
        if isinstance(item, Dissolve):
            if item.before_cut < 0 or item.after_cut < 0 or item.num_frames < 1:
                raise RequestError("A dissolve has no length.", hint="Give it a frame or more.")
            return
        if item.num_frames < 1:
            raise RequestError("An item of the timeline has no length.", hint="Leave it out.")
        if isinstance(item, Clip) and not (
            item.start >= 0 and item.start + item.num_frames <= available(item.media, self.rate)
        ):
            raise RequestError(
                f"{item.media.name} has no frames {item.start} to "
                f"{item.start + item.num_frames - 1}.",
                hint="Shorten the clip.",
            )


def available(media: Media, rate: Fraction) -> int:
    """Whole frames of `rate` that a media file fills; its own number where the rates agree."""
    return int(media.num_frames * rate / media.frame_rate)


def head_handle(clip: Clip) -> int:
    """Frames of the media before what is shown."""
    return clip.start


def tail_handle(clip: Clip, rate: Fraction) -> int:
    """Frames of the media after what is shown, of the cut's rate."""
    return available(clip.media, rate) - clip.start - clip.num_frames


def _check_dissolves(track: Track, rate: Fraction) -> None:
    for index, item in enumerate(track.items):
        if not isinstance(item, Dissolve):
            continue
        pair = track.items[index - 1 : index] + track.items[index + 1 : index + 2]
        if len(pair) != 2 or not all(isinstance(clip, Clip) for clip in pair):
            raise RequestError("A dissolve is not between two clips.", hint="Move or remove it.")
        first, second = pair
        assert isinstance(first, Clip) and isinstance(second, Clip)
        if item.before_cut > first.num_frames or item.after_cut > second.num_frames:
            raise RequestError(
                f"The dissolve between {first.media.name} and {second.media.name} is longer than "
                "they are.",
                hint="Shorten it.",
            )
        lacking = item.after_cut - tail_handle(first, rate), item.before_cut - second.start
        if max(lacking) > 0:
            name = first.media.name if lacking[0] > 0 else second.media.name
            raise RequestError(
                f"{name} has too few frames for its dissolve: {max(lacking)} are missing.",
                hint="Shorten the dissolve or the clip.",
            )
    dissolved = [
        (start, start + item.num_frames)
        for start, item in track.placed()
        if isinstance(item, Dissolve)
    ]
    if any(end > start for (_, end), (start, _) in pairwise(dissolved)):
        raise RequestError("Two dissolves overlap.", hint="Shorten one of them.")
