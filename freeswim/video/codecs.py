"""The codec table: what a video can be written as, and what the finished file must then be.

Every command here was run at 3840x2160 with the ffmpeg that imageio-ffmpeg ships. What decides the
bytes (threads, presets) is fixed, so that the same frames give the same file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from freeswim.errors import RequestError

Sound = Literal["", "pcm_s24le", "aac"]


@dataclass(frozen=True)
class Pixels:
    """What the encoder is given, and what a decoder must find in the file."""

    arguments: tuple[str, ...]  # of ffmpeg: profile and pixels
    format: str  # libav's name of the decoded pixels
    profile: str  # libav's; empty: it has none


@dataclass(frozen=True)
class Codec:
    """One row of the table."""

    name: str  # as it is typed
    title: str  # for people
    extension: str  # of the file, or of a sequence's pictures, with its dot
    arguments: tuple[str, ...]  # of ffmpeg: encoder and container
    even: Pixels  # where both sides are even
    odd: Pixels | None  # where a side is odd; None: it cannot be
    bits: int  # per channel
    bytes_per_pixel: float  # of a frame, about, at most
    smallest: tuple[int, int] = (2, 2)  # width, height
    scale: int = 1  # of each side: 2 is half
    pipe_format: str = "rgb48le"  # ffmpeg's name of the raw frames that it is sent
    sound: Sound = ""
    carries_timecode: bool = False
    carries_reel: bool = False
    carries_comment: bool = True
    is_sequence: bool = False  # a folder of pictures

    @property
    def carries_audio(self) -> bool:
        """Whether it has a place for sound."""
        return self.sound != ""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Of the file, where the frames have this one."""
        return (
            (-(-width // (2 * self.scale)) * 2, -(-height // (2 * self.scale)) * 2)
            if (self.scale > 1)
            else (width, height)
        )

    def pixels(self, width: int, height: int) -> Pixels:
        """What frames of this size are written as.

        Raises:
            RequestError: they cannot be.
        """
        if width < self.smallest[0] or height < self.smallest[1]:
            least = "x".join(str(side) for side in self.smallest)
            raise RequestError(
                f"{self.title} cannot be {width}x{height}.", hint=f"It begins at {least}."
            )
        wide, high = self.size(width, height)
        if wide % 2 == 0 and high % 2 == 0:
            return self.even
        if self.odd is None:
            raise RequestError(
                f"{self.title} cannot be {width}x{height}: both sides must be even.",
                hint="Use prores-4444, or another size.",
            )
        return self.odd


_MOV = ("-f", "mov")
_X265 = "frame-threads=2:pools=4:rc-lookahead=3:bframes=0:ref=2"
_MP4 = ("-movflags", "+faststart", "-f", "mp4")
_PRORES = ("-c:v", "prores_ks", "-vendor", "apl0", "-threads", "8")
_YUV422_10 = ("-pix_fmt", "yuv422p10le")


def _prores(
    name: str, title: str, profile: str, quality: int, bytes_per_pixel: float, scale: int = 1
) -> Codec:
    # prores_ks' own rate control is five times slower at the same size, and no better.
    return Codec(
        name=name,
        title=title,
        extension=".mov",
        arguments=(*_PRORES, "-qscale:v", str(quality), *_MOV),
        even=Pixels(("-profile:v", profile.lower(), *_YUV422_10), "yuv422p10le", profile),
        odd=None,
        bits=10,
        bytes_per_pixel=bytes_per_pixel,
        scale=scale,
        sound="pcm_s24le",
        carries_timecode=True,
        carries_reel=True,
    )


def _dnxhr(name: str, title: str, extension: str, container: str) -> Codec:
    is_mov = container == "mov"
    # Each thread holds frames: eight take 1.6 GB at 4K.
    return Codec(
        name=name,
        title=title,
        extension=extension,
        arguments=("-c:v", "dnxhd", "-threads", "4", "-f", container),
        even=Pixels(("-profile:v", "dnxhr_hqx", *_YUV422_10), "yuv422p10le", "DNXHR HQX"),
        odd=None,
        bits=10,
        bytes_per_pixel=0.6,
        smallest=(256, 120),
        sound="pcm_s24le",
        carries_timecode=True,
        carries_reel=is_mov,
        carries_comment=is_mov,
    )


def _sequence(name: str, title: str, extension: str, *arguments: str, **facts: Any) -> Codec:
    return Codec(
        name=name,
        title=title,
        extension=extension,
        arguments=(*arguments, "-threads", "4", "-f", "image2"),
        odd=facts["even"],
        bits=16,
        bytes_per_pixel=6.2,
        smallest=(1, 1),
        carries_comment=False,
        is_sequence=True,
        **facts,
    )


ON_HARDWARE = ("h264-hardware", "h265-hardware")  # where the machine has an encoder for it

CODECS = {
    codec.name: codec
    for codec in (
        Codec(
            name="h264",
            title="H.264, 8 bit",
            extension=".mp4",
            # x264's bytes depend on its number of threads: 8 everywhere, not "as many as there
            # are". Its macroblock tree gives other bytes now and then where the processor has
            # AVX-512: 2 % of 1,900 runs beside other work differed, without the tree 0 of 800.
            arguments=(
                *("-c:v", "libx264", "-preset", "medium", "-crf", "14", "-threads", "8"),
                *("-x264-params", "no-mbtree=1"),
                *_MP4,
            ),
            even=Pixels(("-profile:v", "high", "-pix_fmt", "yuv420p"), "yuv420p", "High"),
            odd=Pixels(
                ("-profile:v", "high444", "-pix_fmt", "yuv444p"),
                "yuv444p",
                "High 4:4:4 Predictive",
            ),
            bits=8,
            bytes_per_pixel=0.25,
            sound="aac",
            carries_timecode=True,
        ),
        Codec(
            name="h265",
            title="H.265 Main 10, 10 bit",
            extension=".mp4",
            arguments=(
                *("-c:v", "libx265", "-preset", "fast", "-crf", "16", "-tag:v", "hvc1"),
                # Few frames at once: with its own settings it takes 2.7 GB at 4K, with these 1.6.
                # Without B frames a clip is also quicker to scrub.
                *("-x265-params", f"log-level=error:{_X265}"),
                *_MP4,
            ),
            even=Pixels(
                ("-profile:v", "main10", "-pix_fmt", "yuv420p10le"), "yuv420p10le", "Main 10"
            ),
            odd=Pixels(
                ("-profile:v", "main444-10", "-pix_fmt", "yuv444p10le"), "yuv444p10le", "Rext"
            ),
            bits=10,
            bytes_per_pixel=0.25,
            smallest=(32, 32),
            sound="aac",
            carries_timecode=True,
        ),
        _prores("prores-hq", "ProRes 422 HQ, 10 bit", "HQ", 6, 0.9),
        Codec(
            name="prores-4444",
            title="ProRes 4444, 10 bit",
            extension=".mov",
            arguments=(*_PRORES, "-qscale:v", "6", *_MOV),
            even=Pixels(("-profile:v", "4444", "-pix_fmt", "yuv444p10le"), "yuv444p12le", "4444"),
            odd=Pixels(("-profile:v", "4444", "-pix_fmt", "yuv444p10le"), "yuv444p12le", "4444"),
            bits=10,
            bytes_per_pixel=1.3,
            sound="pcm_s24le",
            carries_timecode=True,
            carries_reel=True,
        ),
        _dnxhr("dnxhr-hqx", "DNxHR HQX, 10 bit, QuickTime", ".mov", "mov"),
        _dnxhr("dnxhr-hqx-mxf", "DNxHR HQX, 10 bit, MXF OP1a", ".mxf", "mxf"),
        _prores("prores-proxy", "ProRes Proxy, half the size", "Proxy", 12, 0.15, scale=2),
        Codec(
            name="h264-proxy",
            title="H.264, half the size",
            extension=".mp4",
            arguments=(
                *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-threads", "8"),
                *("-x264-params", "no-mbtree=1"),
                *_MP4,
            ),
            even=Pixels(("-profile:v", "high", "-pix_fmt", "yuv420p"), "yuv420p", "High"),
            odd=None,
            bits=8,
            bytes_per_pixel=0.05,
            scale=2,
            sound="aac",
            carries_timecode=True,
        ),
        _sequence(
            "png16",
            "PNG pictures, 16 bit",
            ".png",
            *("-c:v", "png", "-pred", "mixed"),
            even=Pixels(("-pix_fmt", "rgb48be"), "rgb48be", ""),
        ),
        _sequence(
            "exr",
            "OpenEXR pictures, half float, linear light",
            ".exr",
            *("-c:v", "exr", "-format", "half", "-compression", "zip16"),
            even=Pixels(("-pix_fmt", "gbrpf32le"), "gbrpf16le", ""),
            pipe_format="gbrpf32le",
        ),
    )
}


def find_codec(name: str) -> Codec:
    """The row of this name; what `h264-hardware` makes is a file of the row `h264`.

    Raises:
        RequestError: there is none.
    """
    plain = name.removesuffix("-hardware") if name in ON_HARDWARE else name
    if plain in CODECS:
        return CODECS[plain]
    names = ", ".join((*CODECS, *ON_HARDWARE))
    raise RequestError(f"There is no codec {name!r}.", hint=f"Use one of {names}.")


def estimated_bytes(codec: Codec, width: int, height: int, num_frames: int) -> int:
    """About how large a file of so many frames of this size gets, at most."""
    wide, high = codec.size(width, height)
    return int(wide * high * num_frames * codec.bytes_per_pixel) + 2**20
