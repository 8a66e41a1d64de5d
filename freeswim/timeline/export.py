"""Takes -> a cut, and its OpenTimelineIO file.

A cut lasts as many seconds as its media, less the part of a frame that does not fill one of the
timeline's: editors cut on whole frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from freeswim.errors import MediaError, RequestError
from freeswim.output import as_output_error, check_place, publish, workspace
from freeswim.timeline.cut import JSON, RATES, Clip, Cut, Marker, Media, Track, available
from freeswim.timeline.otio import otio_text

TIMELINE_RATES = RATES


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
    _check_files(take for shot in shots for take in shot.takes)
    text = otio_text(_cut(shots, name), folder=path.resolve().parent)
    with as_output_error(path), workspace(path) as folder:
        part = folder / path.name
        part.write_text(text, encoding="utf-8", newline="\n")
        publish(part, path, overwrite)


def _check_files(takes: Iterable[ClipTake]) -> None:
    for take in takes:
        if not take.path.is_file():
            raise MediaError(
                f"The media of take {take.name!r} is missing: {take.path}.",
                hint="Put the file back, or leave the take out.",
            )


def _cut(shots: Sequence[ShotTakes], name: str) -> Cut:
    rate = timeline_rate(max(shot.active_take.frame_rate for shot in shots))
    size = shots[0].active_take
    track = Track("V1", tuple(_clip(shot, rate) for shot in shots))
    return Cut(name, rate, size.width, size.height, (track,))


def _clip(shot: ShotTakes, rate: Fraction) -> Clip:
    take = shot.active_take
    media = [_media(other, index) for index, other in enumerate(shot.takes)]
    num_frames = available(media[shot.active], rate)
    if num_frames < 1:
        raise RequestError(
            f"Take {take.name!r} is shorter than one frame at {rate} fps.",
            hint="Choose a longer take.",
        )
    facts: dict[str, JSON] = {"shot": shot.name, "take": shot.active + 1}
    prompt = take.metadata.get("prompt")
    return Clip(
        name=take.path.name,  # Resolve may look for the media by it: ynput/ayon-unreal#132
        media=media[shot.active],
        start=0,
        num_frames=num_frames,
        others={
            f"take_{index + 1:02d}": other
            for index, other in enumerate(media)
            if index != shot.active
        },
        markers=(Marker(0, prompt, metadata=facts),) if isinstance(prompt, str) and prompt else (),
        metadata={**take.metadata, **facts},
    )


def _media(take: ClipTake, index: int) -> Media:
    facts: dict[str, JSON] = {"variant": "take", "take": index + 1, "take_name": take.name}
    return Media(
        take.path,
        take.num_frames,
        take.frame_rate,
        take.width,
        take.height,
        metadata={**take.metadata, **facts},
    )
