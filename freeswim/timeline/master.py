"""A video file -> an edit master: at a timeline's rate, with the sound and timecode of its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from freeswim.errors import MediaError, RequestError
from freeswim.output import check_disk
from freeswim.sidecar import file_sha256
from freeswim.timeline.timecode import frames_of, timecode_of
from freeswim.video.codecs import estimated_bytes, find_codec
from freeswim.video.conform import Way, conform, num_conformed
from freeswim.video.encoder import usable_codec
from freeswim.video.opening import open_video
from freeswim.video.reader import Clip, probe, read_frames
from freeswim.video.writer import Audio, check_output, write_video

OnFrame = Callable[[int, int], None]  # frames done, frames in all


@dataclass(frozen=True)
class Master:
    """An edit master that lies on the disk."""

    path: Path
    num_frames: int
    frame_rate: Fraction
    width: int  # pixels
    height: int  # pixels
    start_frame: int  # its timecode, in frames
    has_timecode: bool
    num_channels: int  # of its sound; 0: it has none
    reel: str
    sha256: str


def make_master(
    source: Path,
    target: Path,
    *,
    codec: str,
    rate: Fraction | None = None,
    num_frames: int | None = None,
    way: Way = "interpolate",
    comes_from: Path | None = None,
    comes_from_frame: int = 0,
    reel: str = "",
    comment: str = "",
    overwrite: bool = False,
    on_frame: OnFrame | None = None,
) -> Master:
    """Write `target`, whole and verified or not at all.

    Args:
        source: any video file.
        target: a new file; its extension is the codec's.
        codec: a name of the codec table.
        rate: frames per second, exact; None: the source's.
        num_frames: exactly so many, cut or held at the end; None: as many as the source lasts.
        way: how frames between two of the source's are made, where the rates differ.
        comes_from: the person's clip that the source was made of, or the source itself: its sound
            goes along, and its timecode where the rate is the same.
        comes_from_frame: the clip's frame that the source's first one is.
        reel: name of the tape, where the format has a place for it.
        comment: travels in the file.
        overwrite: replace a file that is there.
        on_frame: called after each frame; may raise to stop.

    Raises:
        RequestError, MediaError, OutputError: it cannot be made.
    """
    clip = probe(source)
    rate = rate or clip.frame_rate
    count = num_frames or num_conformed(clip.num_frames, clip.frame_rate, rate)
    origin = _origin(comes_from)
    row = usable_codec(codec, clip.width, clip.height)
    check_output(target, overwrite, codec)
    check_disk(target, estimated_bytes(row, clip.width, clip.height, count))
    timecode = _timecode(origin, comes_from_frame, rate) if row.carries_timecode else None
    sound = None
    if origin is not None and origin.has_audio and row.carries_audio:
        sound = Audio(origin.path, offset_s=comes_from_frame / origin.frame_rate)
    frames = conform(
        read_frames(source),
        num_frames=clip.num_frames,
        frame_rate=clip.frame_rate,
        to_rate=rate,
        to_frames=count,
        way=way,
    )
    write_video(
        target,
        frames,
        codec=codec,
        width=clip.width,
        height=clip.height,
        frame_rate=rate,
        num_frames=count,
        comment=comment,
        start_timecode=timecode,
        reel=reel if row.carries_reel else "",
        audio=sound,
        overwrite=overwrite,
        on_frame=None if on_frame is None else lambda done: on_frame(done, count),
    )
    return Master(
        path=target,
        num_frames=count,
        frame_rate=rate,
        width=clip.width,
        height=clip.height,
        start_frame=0 if timecode is None else frames_of(timecode, rate),
        has_timecode=timecode is not None,
        num_channels=0 if sound is None else _num_channels(sound.path),
        reel=reel if row.carries_reel else "",
        sha256=file_sha256(target) if target.is_file() else "",
    )


def master_bytes(codec: str, size: tuple[int, int], num_frames: int) -> int:
    """About how large a master will be."""
    return estimated_bytes(find_codec(codec), *size, num_frames)


def _origin(path: Path | None) -> Clip | None:
    """The person's clip, if it is still there."""
    if path is None:
        return None
    try:
        return probe(path)
    except MediaError:
        return None


def _num_channels(path: Path) -> int:
    """Of the sound that goes along: the file's first track, as it is."""
    with open_video(path) as (container, _):
        return container.streams.audio[0].channels


def _timecode(origin: Clip | None, frame: int, rate: Fraction) -> str | None:
    """Of the clip's frame; None where it has none, or counts at another rate."""
    if origin is None or not origin.start_timecode or origin.frame_rate != rate:
        return None
    try:
        return timecode_of(frames_of(origin.start_timecode, rate) + frame, rate)
    except RequestError:  # a rate that timecode does not know
        return None
