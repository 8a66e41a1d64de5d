"""A decoded frame -> full-range RGB, as displayed.

swscale turns YUV into RGB with white at 65283 instead of 65535 and rounds 8-bit RGB on its way to
16 (libav 8.1, measured). So it only brings chroma to full size here; matrix, range and depth are
ours, in float32 without fused operations: the same bytes on every CPU.

Floating point pixels (OpenEXR) are scene-linear by that format's definition: they are encoded as
sRGB, which is how viewers and 3D programs show them, and clipped at 1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

_SCALER = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)
_LUMA_WEIGHTS = {  # ITU-T H.273 MatrixCoefficients -> (Kr, Kb)
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_UNTAGGED = (0, 2)
_YUV_NAMES = ("yuv", "yuyv", "uyvy", "nv", "p0", "p2", "p4", "y2")
_GREY_NAMES = ("gray", "ya8", "ya16")
_FLOAT_NAMES = ("f16le", "f16be", "f32le", "f32be")
_BAND_ROWS = 8  # bands that stay in the cache: 10x faster than whole 4K frames, measured


class UnsupportedPixels(ValueError):
    """The frame's pixel format, matrix or rotation is not one that we can show rightly."""


class Converter:
    """Decoded frames of one clip -> (H, W, 3) uint16 RGB, 0..65535, square pixels, upright."""

    def __init__(self, sample_aspect_ratio: Fraction | None) -> None:
        self._stretch = sample_aspect_ratio or Fraction(1)
        self._scaler = VideoReformatter()
        # A clip has one. In PyAV 18 a frame whose side data was looked at refers to itself, and
        # stays until the garbage collector comes by: at 4K gigabytes later.
        self._turn: _Turn | None = None

    def pixels(self, frame: VideoFrame) -> np.ndarray:
        """One frame as displayed.

        Raises:
            UnsupportedPixels: it cannot be shown rightly.
        """
        name = frame.format.name
        if name.endswith(_FLOAT_NAMES):
            rgb = _from_linear(frame)
        elif (frame.format.is_rgb and frame.format.components[0].bits >= 8) or name == "pal8":
            rgb = self._from_rgb(frame)
        elif name.startswith(_GREY_NAMES):
            rgb = self._from_grey(frame)
        elif name.startswith(_YUV_NAMES):
            rgb = self._from_yuv(frame)
        else:
            raise UnsupportedPixels(f"pixel format {name}")
        if self._turn is None:
            self._turn = _turn_of(frame)
        return self._turn.of(rgb)

    def _planes(self, frame: VideoFrame, name: str, color_range: ColorRange) -> list[np.ndarray]:
        # The same range on both sides keeps swscale from touching the values.
        full = self._scaler.reformat(
            frame,
            width=self._width(frame),
            format=name,
            interpolation=_SCALER,
            src_color_range=color_range,
            dst_color_range=color_range,
        )
        dtype = np.dtype("<u2" if name.endswith("le") else "u1")
        return [
            np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)[:, : plane.width]
            for plane in full.planes
        ]

    def _width(self, frame: VideoFrame) -> int:
        if abs(self._stretch - 1) < Fraction(1, 100):  # rounding of some scaler, not anamorphic
            return frame.width
        return round(frame.width * self._stretch)

    def _from_rgb(self, frame: VideoFrame) -> np.ndarray:
        bits = frame.format.components[0].bits
        name = "gbrp" if bits == 8 else f"gbrp{bits}le"  # own depth: exact
        green, blue, red = self._planes(frame, name, ColorRange.JPEG)
        rgb = np.stack((red, green, blue), axis=2).astype(np.uint32)
        top = (1 << bits) - 1
        return ((rgb * 65535 + top // 2) // top).astype(np.uint16)

    def _from_grey(self, frame: VideoFrame) -> np.ndarray:
        bits = frame.format.components[0].bits
        name = "gray" if bits == 8 else f"gray{bits}le"  # own depth: exact
        (luma,) = self._planes(frame, name, ColorRange.JPEG)
        black, white = 0, (1 << bits) - 1
        if frame.color_range == ColorRange.MPEG:
            black, white = 16 << bits - 8, 235 << bits - 8
        value = np.clip(luma.astype(np.int64), black, white) - black
        span = white - black
        grey = ((value * 65535 + span // 2) // span).astype(np.uint16)
        return np.repeat(grey[..., None], 3, axis=2)

    def _from_yuv(self, frame: VideoFrame) -> np.ndarray:
        bits = frame.format.components[0].bits
        is_old_full = frame.format.name.startswith("yuvj")
        is_full = is_old_full or frame.color_range == ColorRange.JPEG
        # Limited on both sides shifts to 16 bits exactly; full would smear bits in some paths.
        # Only yuvj insists on full: it stays at its 8 bits.
        if is_old_full:
            planes = self._planes(frame, "yuvj444p", ColorRange.JPEG)
            return _rgb(planes, _matrix(frame), bits, 0, is_full)
        planes = self._planes(frame, "yuv444p16le", ColorRange.MPEG)
        return _rgb(planes, _matrix(frame), bits, 16 - bits, is_full)


def _from_linear(frame: VideoFrame) -> np.ndarray:
    """Scene-linear planes, green, blue, red or one of grey -> sRGB, IEC 61966-2-1."""
    name = frame.format.name
    dtype = np.dtype(("<" if name.endswith("le") else ">") + ("f2" if "f16" in name else "f4"))
    planes = [
        np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]
    if len(planes) not in (1, 3, 4):
        raise UnsupportedPixels(f"pixel format {name}")
    order = (0, 0, 0) if len(planes) == 1 else (2, 0, 1)
    rgb = np.empty((frame.height, frame.width, 3), np.uint16)
    for row in range(0, frame.height, _BAND_ROWS):
        for channel, plane in enumerate(order):
            light = np.nan_to_num(planes[plane][row : row + _BAND_ROWS].astype(np.float32))
            light = np.clip(light, 0, 1).astype(np.float64)  # powers of float32 differ by CPU
            code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
            rgb[row : row + _BAND_ROWS, :, channel] = code * 65535 + 0.5
    return rgb


def _matrix(frame: VideoFrame) -> tuple[float, float]:
    if frame.colorspace in _UNTAGGED:
        return _LUMA_WEIGHTS[1 if frame.height >= 720 else 6]
    if frame.colorspace not in _LUMA_WEIGHTS:
        raise UnsupportedPixels(f"colour matrix {frame.colorspace} of ITU-T H.273")
    return _LUMA_WEIGHTS[frame.colorspace]


def _rgb(
    planes: list[np.ndarray], weights: tuple[float, float], bits: int, shift: int, is_full: bool
) -> np.ndarray:
    """Y'CbCr -> R'G'B', ITU-T H.273 section 8.3, inverted.

    Args:
        planes: (Y, Cb, Cr), each (H, W), `bits` bits shifted left by `shift`.
        weights: (Kr, Kb).
        bits: depth of the video.
        shift: where its lowest bit sits.
        is_full: full range, not 16..235.
    """
    unit = float(1 << (bits - 8 + shift))
    top = float((1 << bits) - 1 << shift)
    black, y_span, c_span = (0.0, top, top) if is_full else (16 * unit, 219 * unit, 224 * unit)
    kr, kb = weights
    kg = 1 - kr - kb
    red, blue = 2 * (1 - kr) / c_span, 2 * (1 - kb) / c_span
    by_channel = ((0.0, red), (-blue * kb / kg, -red * kr / kg), (blue, 0.0))  # of (Cb, Cr)
    height, width = planes[0].shape
    rgb = np.empty((height, width, 3), np.uint16)
    for row in range(0, height, _BAND_ROWS):
        luma, cb, cr = (plane[row : row + _BAND_ROWS].astype(np.float32) for plane in planes)
        luma = (luma - np.float32(black)) * np.float32(65535 / y_span) + np.float32(0.5)
        cb, cr = cb - np.float32(128 * unit), cr - np.float32(128 * unit)
        for channel, (of_cb, of_cr) in enumerate(by_channel):
            value = luma + cb * np.float32(65535 * of_cb) + cr * np.float32(65535 * of_cr)
            rgb[row : row + _BAND_ROWS, :, channel] = np.clip(value, 0, 65535, out=value)
    return rgb


class _Turn(NamedTuple):
    """How a picture is brought upright: swap its axes, then mirror."""

    swaps: bool = False
    mirrors_rows: bool = False
    mirrors_columns: bool = False

    def of(self, rgb: np.ndarray) -> np.ndarray:
        """The picture upright."""
        if not any(self):
            return rgb
        if self.swaps:
            rgb = rgb.transpose(1, 0, 2)
        rows, columns = -1 if self.mirrors_rows else 1, -1 if self.mirrors_columns else 1
        return np.ascontiguousarray(rgb[::rows, ::columns])


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d), each -1, 0 or 1: the picture's x and y go to a x + c y and b x + d y.

    Ask once a clip: a frame that was asked stays until the garbage collector comes by (PyAV 18).

    Raises:
        UnsupportedPixels: it is no quarter turn, mirrored or not.
    """
    try:
        side = frame.side_data.get("DISPLAYMATRIX")
    except ValueError as error:  # PyAV 18 knows not all kinds, such as EXIF of TIFF
        if frame.rotation:
            raise UnsupportedPixels("a rotation that is not known") from error
        return 1, 0, 0, 1
    if side is None:
        return 1, 0, 0, 1
    (a, b), (c, d) = np.sign(np.frombuffer(bytes(side), np.int32).reshape(3, 3)[:2, :2]).tolist()
    if (a == d == 0) == (b == c == 0):
        raise UnsupportedPixels("a rotation that is not a quarter turn")
    return a, b, c, d


def _turn_of(frame: VideoFrame) -> _Turn:
    """What the frame's display matrix says."""
    a, b, c, d = display_matrix(frame)
    across, down = (c, b) if a == 0 else (a, d)
    return _Turn(a == 0, down <= 0, across <= 0)
