"""Takes -> an OpenTimelineIO timeline that editors import.

The media keeps its truth: `available_range` counts its frames at its own rate, so a 16 fps take is
never retagged; the cut is in whole frames of a rate that timecode knows, because editors cut on
whole frames and OpenTimelineIO raises for the timecode of any other rate. A cut therefore lasts as
many seconds as its media, less the part of a frame that does not fill one of the timeline's; both
rates are in the `freeswim` metadata.

What is written is what the importers agree on: one flat track, zero-based media time, and relative
URLs that need no escapes. OpenTimelineIO has no frame size; Premiere reads it from its own key.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import opentimelineio as otio
from opentimelineio.opentime import RationalTime, TimeRange

from freeswim import __version__
from freeswim.errors import MediaError, RequestError
from freeswim.output import as_output_error, check_place, publish, workspace

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

_NTSC = Fraction(1000, 1001)
TIMELINE_RATES = (
    *(24 * _NTSC, Fraction(24), Fraction(25), 30 * _NTSC),
    *(Fraction(30), Fraction(50), 60 * _NTSC, Fraction(60)),
)

_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]+")
_INT64 = range(-(2**63), 2**63)  # OpenTimelineIO holds no larger integer


@dataclass(frozen=True)
class ClipTake:
    """One take of a shot: a media file and what made it."""

    path: Path  # the media
    name: str  # as a person knows it
    num_frames: int  # 1 or more
    frame_rate: Fraction  # of the media, exact, above 0
    width: int  # pixels
    height: int  # pixels
    metadata: Mapping[str, JSON] = field(default_factory=dict)  # prompt, seed and so on

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.frame_rate <= 0:
            raise RequestError(
                f"Take {self.name!r} has {self.num_frames} frames at {self.frame_rate} fps.",
                hint="A take has at least one frame and a rate above 0.",
            )


@dataclass(frozen=True)
class ShotTakes:
    """A shot with its takes, in the order they were made, and the one that is in the cut."""

    name: str
    takes: tuple[ClipTake, ...]  # 1 or more
    active: int  # index into takes

    def __post_init__(self) -> None:
        if not 0 <= self.active < len(self.takes):
            raise RequestError(
                f"Shot {self.name!r} has {len(self.takes)} takes and no take {self.active + 1}.",
                hint="Choose one of its takes.",
            )

    @property
    def active_take(self) -> ClipTake:
        return self.takes[self.active]


def timeline_rate(media_rate: Fraction) -> Fraction:
    """The rate a timeline gets for media of a rate: its own, or the one that suits it best.

    That is one that shows every frame, repeats frames most regularly, and is slowest:
    12 -> 24, 15 -> 30, 16 -> 24. Media above 60 fps gets the rate that drops frames most regularly.
    """
    keep_all = [rate for rate in TIMELINE_RATES if rate >= media_rate]
    return min(keep_all or TIMELINE_RATES, key=lambda rate: ((rate / media_rate).denominator, rate))


def write_timeline(
    path: Path, shots: Sequence[ShotTakes], *, name: str, overwrite: bool = False
) -> None:
    """Writes the shots, one after the other, as an `.otio` file; all of it or nothing.

    A shot is one clip. Its active take is the media the importers use; the others lie beside it
    under the keys take_01, take_02, … The rate is that of the fastest active take, made legal by
    `timeline_rate`. The same shots give the same bytes.

    Args:
        path: the `.otio` file, in a folder that exists; media is addressed from that folder.
        name: of the timeline.
        overwrite: whether a file that is already there may be replaced.

    Raises:
        RequestError: there are no shots, or a media name cannot be in a URL or is there twice.
        MediaError: a media file is missing.
        OutputExists: the file is there and may not be replaced.
        OutputError: the file cannot be written.
    """
    if path.suffix != ".otio" or not shots:
        raise RequestError(
            f"A timeline of {len(shots)} shots cannot be written to {path.name}.",
            hint="Name at least one shot, and a file that ends in .otio.",
        )
    check_place(path, overwrite)
    _check_media([take for shot in shots for take in shot.takes])
    timeline = _timeline(shots, name, path.resolve().parent)
    text = otio.adapters.write_to_string(timeline, "otio_json")
    with as_output_error(path), workspace(path) as folder:
        part = folder / path.name
        part.write_text(text, encoding="utf-8", newline="\n")
        publish(part, path, overwrite)


def _check_media(takes: Iterable[ClipTake]) -> None:
    """Sees that every file is there and that no two share a name, by which media pools know files."""
    known: dict[str, Path] = {}
    for take in takes:
        if not take.path.is_file():
            raise MediaError(
                f"The media of take {take.name!r} is missing: {take.path}.",
                hint="Put the file back, or leave the take out.",
            )
        place = take.path.resolve()
        if known.setdefault(take.path.name.lower(), place) != place:
            raise RequestError(
                f"Two media files are called {take.path.name}.",
                hint="Rename one; editors take files of one name for the same file.",
            )


def _timeline(shots: Sequence[ShotTakes], name: str, folder: Path) -> otio.schema.Timeline:
    rate = timeline_rate(max(shot.active_take.frame_rate for shot in shots))
    timeline = _empty_timeline(name, rate, shots[0].active_take)
    track = otio.schema.Track("V1", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    start_frame = 0
    for shot in shots:
        clip = _clip(shot, rate, folder)
        track.append(clip)
        # Kdenlive misplaces the markers of a clip; those of the stack are right everywhere.
        clip.markers.extend(_markers(shot, 0, rate))
        timeline.tracks.markers.extend(_markers(shot, start_frame, rate))
        start_frame += clip.source_range.duration.to_frames()
    return timeline


def _empty_timeline(name: str, rate: Fraction, take: ClipTake) -> otio.schema.Timeline:
    """A timeline of a rate and of the take's frame size, as FreeSwim and editors record it."""
    timeline = otio.schema.Timeline(name, global_start_time=RationalTime(0, float(rate)))
    facts = {"schema": 1, "app": "FreeSwim", "version": __version__, "fps": str(rate)}
    size = {"width": take.width, "height": take.height}
    timeline.metadata["freeswim"] = {**facts, **size}
    timeline.metadata["Resolve_OTIO"] = {"Resolve OTIO Meta Version": "1.0"}
    timeline.metadata["PremierePro_OTIO"] = {"MetadataVersion": "1.0"}
    timeline.tracks.metadata["PremierePro_OTIO"] = {
        "VideoFrameRate": float(rate),
        "VideoResolution": size,
        "PixelAspectRatio": {"numerator": 1.0, "denominator": 1.0},
        "AudioFrameRate": 48000.0,
    }
    return timeline


def _clip(shot: ShotTakes, rate: Fraction, folder: Path) -> otio.schema.Clip:
    take = shot.active_take
    num_frames = math.floor(take.num_frames / take.frame_rate * rate)
    if num_frames < 1:
        raise RequestError(
            f"Take {take.name!r} is shorter than one frame at {rate} fps.",
            hint="Choose a longer take.",
        )
    references = {
        _key(shot, index): _reference(other, index, folder)
        for index, other in enumerate(shot.takes)
    }
    facts: dict[str, JSON] = {
        "shot": shot.name,
        "take": shot.active + 1,
        "timeline_fps": str(rate),
        "media_fps": str(take.frame_rate),
    }
    clip = otio.schema.Clip(
        name=take.path.name,  # Resolve may look for the media by it: ynput/ayon-unreal#132
        source_range=_frame_range(0, num_frames, rate),
        metadata={"freeswim": _stored({**take.metadata, **facts})},
    )
    clip.set_media_references(references, otio.schema.Clip.DEFAULT_MEDIA_KEY)
    return clip


def _key(shot: ShotTakes, index: int) -> str:
    if index == shot.active:
        return otio.schema.Clip.DEFAULT_MEDIA_KEY
    return f"take_{index + 1:02d}"


def _reference(take: ClipTake, index: int, folder: Path) -> otio.schema.ExternalReference:
    facts: dict[str, JSON] = {
        "variant": "take",
        "take": index + 1,
        "take_name": take.name,
        "frames": take.num_frames,
        "fps": str(take.frame_rate),
        "width": take.width,
        "height": take.height,
    }
    reference = otio.schema.ExternalReference(
        target_url=_relative_url(take.path, folder),
        available_range=_frame_range(0, take.num_frames, take.frame_rate),
        metadata={"freeswim": _stored({**take.metadata, **facts})},
    )
    reference.name = take.path.name
    return reference


def _relative_url(media: Path, folder: Path) -> str:
    """The way from the timeline's folder to the media; the same raw and percent-encoded."""
    try:
        url = Path(os.path.relpath(media.parent.resolve() / media.name, folder)).as_posix()
    except ValueError:  # another drive of a Windows machine
        url = str(media)
    if not all(_SAFE_NAME.fullmatch(part) for part in url.split("/")):
        raise RequestError(
            f"Editors may not find {url} from the timeline.",
            hint="Put the timeline beside its media, and use only A-Z a-z 0-9 . _ - in its name.",
        )
    return url


def _markers(shot: ShotTakes, start_frame: int, rate: Fraction) -> list[otio.schema.Marker]:
    """The prompt of the active take as a marker; none where there is no prompt."""
    prompt = shot.active_take.metadata.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        return []
    marker = otio.schema.Marker(
        name=prompt,  # in both: Resolve shows the name, Kdenlive the comment
        comment=prompt,
        marked_range=_frame_range(start_frame, 1, rate),
        color=otio.schema.MarkerColor.CYAN,
        metadata={"freeswim": {"shot": shot.name, "take": shot.active + 1}},
    )
    return [marker]


def _frame_range(start_frame: int, num_frames: int, rate: Fraction) -> TimeRange:
    # A float of the exact fraction; of 23.976 OpenTimelineIO makes no timecode.
    fps = float(rate)
    return TimeRange(RationalTime(start_frame, fps), RationalTime(num_frames, fps))


def _stored(value: JSON, key: str = "") -> JSON:
    """A value as OpenTimelineIO can hold it; seeds are text, whatever their size."""
    if isinstance(value, Mapping):
        return {key: _stored(inner, key) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_stored(inner, key) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{key} is {value}.", hint="Metadata holds finite numbers.")
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_int and (key.endswith("seed") or value not in _INT64) else value
