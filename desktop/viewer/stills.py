"""A frame of a clip -> a PNG, in the clip's own size and with all its bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from desktop.viewer.frames import SEQUENCE_RATE, Clip, image_of
from freeswim.errors import OutputError
from freeswim.output import as_output_error, free_path, publish, workspace
from freeswim.video.reader import probe, read_frames
from freeswim.video.sequence import find_sequence


def save_still(clip: Clip, frame: int, folder: Path) -> Path:
    """Save a frame under a name that is free; the path of the file.

    Raises:
        MediaError: the frame cannot be read.
        OutputError: it cannot be written.
    """
    rate = clip.rate or (SEQUENCE_RATE if find_sequence(clip.path) else None)
    pixels = next(read_frames(clip.path, start=frame, num_frames=1, frame_rate=rate))
    if probe(clip.path, frame_rate=rate).bit_depth <= 8:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    with as_output_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
    stem = clip.path.stem.rstrip(".#") or "frame"
    path = free_path(folder / f"{stem}-f{frame + 1:04}.png")
    with workspace(path) as hidden, as_output_error(path):
        part = hidden / path.name
        if not image_of(pixels).save(str(part), "PNG"):  # pyright: ignore[reportCallIssue, reportArgumentType]
            raise OutputError(f"{path} cannot be written.", hint="Name another folder.")
        publish(part, path, overwrite=False)
    return path
