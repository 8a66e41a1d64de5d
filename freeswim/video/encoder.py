"""One ffmpeg process, fed with raw frames through its standard input."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from freeswim.errors import MediaError, OutputError
from freeswim.output import FOLDER_FAULTS, output_error

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
        """One frame, (H, W, 3) uint16."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frame, "<u2").data)
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
