"""One ffmpeg process, fed with raw frames through its standard input."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from freeswim.errors import MediaError, OutputError, RequestError
from freeswim.output import FOLDER_FAULTS, output_error
from freeswim.video.codecs import ON_HARDWARE, Codec, find_codec

_KEPT_STDERR_BYTES = 64 * 1024


@contextmanager
def running_encoder(command: list[str], part: Path, path: Path) -> Iterator[Encoder]:
    """ffmpeg for as long as the block runs; whatever ends the block ends ffmpeg.

    Args:
        command: what to run; it reads frames from its standard input.
        part: the file that it writes.
        path: the final name of that file, for messages.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
        MediaError: ffmpeg failed.
    """
    try:
        encoder = Encoder(command, part, path)
    except OSError as error:
        raise MediaError(
            f"ffmpeg does not start: {error.strerror}.", hint="Install imageio-ffmpeg again."
        ) from error
    try:
        yield encoder
    finally:
        encoder.stop()


class Encoder:
    """One ffmpeg, fed through its standard input."""

    def __init__(self, command: list[str], part: Path, path: Path) -> None:
        self._path = path
        self._part = part
        # Ctrl-C reaches the terminal's whole process group; we stop ffmpeg ourselves.
        alone = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=os.name == "posix",
            creationflags=alone,
        )
        self._said = b""
        # A full stderr pipe would stop ffmpeg, and us with it.
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def send(self, frame: np.ndarray) -> None:
        """One frame as the command takes it: (H, W, 3) uint16, or planes of float32."""
        assert self._process.stdin is not None
        little = "<f4" if frame.dtype.kind == "f" else "<u2"
        try:
            self._process.stdin.write(np.ascontiguousarray(frame, little).data)
        except OSError as error:
            raise self._failure() from error

    def finish(self) -> None:
        """No more frames: wait for the file and check what ffmpeg says of it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError as error:
            raise self._failure() from error
        if self._process.wait() != 0:
            raise self._failure()

    def stop(self) -> None:
        """End ffmpeg if it still runs, and leave no zombie. Its file is thrown away: no mercy."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stderr):
            with suppress(OSError):  # what stdin still held cannot be flushed
                pipe.close()  # pyright: ignore[reportOptionalMemberAccess]

    def _listen(self) -> None:
        assert self._process.stderr is not None
        while piece := self._process.stderr.read(4096):
            self._said = (self._said + piece)[-_KEPT_STDERR_BYTES:]

    def _failure(self) -> MediaError | OutputError:
        # ffmpeg has closed its end: it is ending by itself and its last words are still to come
        status = self._process.wait()
        self._listener.join()
        said = self._said.decode(errors="replace")
        for fault in FOLDER_FAULTS:
            if os.strerror(fault) in said:
                return output_error(self._path, fault, self._part)
        if status == -getattr(signal, "SIGXFSZ", 0) != 0:
            return output_error(self._path, errno.EFBIG, self._part)
        last = (said.strip().splitlines() or [f"exit status {status}"])[-1]
        return MediaError(f"The encoder failed: {last}.", hint="Try again; then report it.")


# ------------------------------------------------------------------------------------- programs

# Encoders of graphics hardware, the best first; whether one works only a frame can tell.
_HARDWARE: dict[str, tuple[tuple[str, ...], ...]] = {
    "h264": (
        ("h264_nvenc", "-preset", "p5", "-tune", "hq", "-rc", "vbr", "-cq", "16", "-b:v", "0"),
        ("h264_videotoolbox", "-q:v", "75"),
        ("h264_qsv", "-global_quality", "16"),
        ("h264_amf", "-rc", "cqp", "-qp_i", "16", "-qp_p", "16"),
    ),
    "h265": (
        ("hevc_nvenc", "-preset", "p5", "-tune", "hq", "-rc", "vbr", "-cq", "16", "-b:v", "0"),
        ("hevc_videotoolbox", "-q:v", "75"),
        ("hevc_qsv", "-global_quality", "16"),
        ("hevc_amf", "-rc", "cqp", "-qp_i", "16", "-qp_p", "16"),
    ),
}
_HARDWARE_PIXELS = {"h264": "yuv420p", "h265": "p010le"}


def ffmpeg() -> str:
    """The program. Raises MediaError where there is none."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MediaError(
            "There is no ffmpeg on this machine.",
            hint="Install imageio-ffmpeg again, or set IMAGEIO_FFMPEG_EXE.",
        ) from error


def usable_codec(name: str, width: int, height: int) -> Codec:
    """The row of the table; of `h264-hardware` and `h265-hardware`, with an encoder that works.

    Raises:
        RequestError: there is no such row, or no such hardware here.
    """
    row = find_codec(name)
    if name not in ON_HARDWARE:
        return row
    plain = row.name
    row.pixels(width, height)
    for encoder in _HARDWARE[plain]:
        if _works(encoder, _HARDWARE_PIXELS[plain], width, height):
            return _on_hardware(row, encoder, _HARDWARE_PIXELS[plain])
    raise RequestError(
        f"No graphics hardware here encodes {row.title} at {width}x{height}.",
        hint=f"Use the codec {plain}.",
    )


def usable_encoders(width: int = 1920, height: int = 1080) -> list[str]:
    """Names of the hardware encoders that encode a frame of this size here, by trying each."""
    return [
        encoder[0]
        for plain, encoders in _HARDWARE.items()
        for encoder in encoders
        if _works(encoder, _HARDWARE_PIXELS[plain], width, height)
    ]


def _on_hardware(row: Codec, encoder: tuple[str, ...], pixels: str) -> Codec:
    container = row.arguments[row.arguments.index("-movflags") :]
    tag = ("-tag:v", "hvc1") if row.name == "h265" else ()
    return replace(
        row,
        name=f"{row.name}-hardware",
        arguments=("-c:v", *encoder, *tag, *container),
        even=replace(row.even, arguments=("-pix_fmt", pixels), profile=""),
        odd=None,
    )


@cache
def _works(encoder: tuple[str, ...], pixels: str, width: int, height: int) -> bool:
    source = f"color=c=gray:s={width}x{height}:r=24:d=1"
    command = [
        *(ffmpeg(), "-hide_banner", "-nostdin", "-v", "error", "-f", "lavfi", "-i", source),
        *("-frames:v", "1", "-pix_fmt", pixels, "-c:v", *encoder, "-f", "null", "-"),
    ]
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
