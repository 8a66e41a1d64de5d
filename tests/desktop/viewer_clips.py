"""Clips whose every frame says which it is: a row of 12 black or white cells, its number in bits."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from PySide6.QtCore import QRect
from PySide6.QtGui import QImage

CELLS = 12
SIZE = (192, 108)
NUM_FRAMES = 60
# of a key frame every 12 frames, and three that need later ones between each two
LONG_GOP = {"g": "12", "bf": "3", "x264-params": "b-adapt=0:scenecut=0"}
OPEN_GOP = LONG_GOP | {"x264-params": "open-gop=1:b-adapt=0:scenecut=0"}


def coded(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The picture of a number, (H, W, 3) uint8."""
    cells = np.array([number >> bit & 1 for bit in reversed(range(CELLS))])
    row = np.repeat(cells * 255, size[0] // CELLS).astype(np.uint8)
    row = np.pad(row, (0, size[0] - len(row)), mode="edge")
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (size[1], size[0], 3)))


def number_in(image: QImage, rect: QRect | None = None) -> int:
    """The number that a picture says, or the part `rect` of one."""
    rect = rect or image.rect()
    found = 0
    for cell in range(CELLS):
        x = rect.x() + (2 * cell + 1) * rect.width() // (2 * CELLS)
        found = found << 1 | int(image.pixelColor(x, rect.center().y()).green() > 127)
    return found


def write_coded(
    path: Path,
    rate: Fraction = Fraction(24),
    *,
    num_frames: int = NUM_FRAMES,
    first: int = 0,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    times: list[int] | None = None,
    timecode: str = "",
    picture: np.ndarray | None = None,
) -> Path:
    """A clip whose frame n says `first` + n, or is always `picture`.

    Args:
        times: of the frames, in 1000ths of a second; None: even.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec, rate=rate, options=LONG_GOP if options is None else options
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if timecode:
            stream.metadata["timecode"] = timecode
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = 1
        context.color_range = ColorRange.MPEG
        for number in range(num_frames):
            drawn = coded(first + number, size) if picture is None else picture
            frame = VideoFrame.from_ndarray(drawn, format="rgb24")
            frame = frame.reformat(
                format=pixels, dst_colorspace=1, src_color_range=2, dst_color_range=1
            )
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
