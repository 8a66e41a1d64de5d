"""Small pictures of takes: a few moments of each side by side in one picture, which is its strip.

A strip is made once, on a thread, and kept on the disk by the checksum of the take's file, so that
it can never show another file. What is kept, on the disk and in memory, is bounded.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import platformdirs
from PySide6.QtCore import QObject, QRect, QSaveFile, QSize, Qt, Signal
from PySide6.QtGui import QImage, QPainter

from freeswim import paths
from freeswim.errors import Cancelled, FreeswimError, MediaError
from freeswim.studio.job import Take
from freeswim.video.opening import COPY_AGAIN, decode_frames, open_video

BOX = QSize(128, 72)  # largest size of a moment, points
SHARPNESS = 2  # pixels of a point
NUM_MOMENTS = 24  # of a take, at most
MOST_KEPT = 200 * 2**20  # bytes on the disk
MOST_HELD = 96 * 2**20  # bytes in memory
NUM_THREADS = 2


def cache_folder() -> Path:
    """Where strips are kept; whatever is in it can be deleted."""
    if os.environ.get("FREESWIM_HOME"):
        return paths.home() / "cache" / "thumbnails"
    return platformdirs.user_cache_path("FreeSwim", appauthor=False) / "thumbnails"


def num_moments(take: Take) -> int:
    """How many moments a take's strip has."""
    return max(1, min(NUM_MOMENTS, take.frames))


def moment_at(take: Take, share: float) -> int:
    """The moment at a place within the take, from 0 to 1."""
    return min(num_moments(take) - 1, max(0, int(share * num_moments(take))))


def frame_of(take: Take, moment: int) -> int:
    """The frame that a moment shows: the first one, the last one, and evenly between."""
    last = num_moments(take) - 1
    return (take.frames - 1) // 2 if last == 0 else round(moment * (take.frames - 1) / last)


def moment_size(take: Take) -> QSize:
    """Pixels of a moment."""
    size = QSize(take.width, take.height)
    size.scale(BOX * SHARPNESS, Qt.AspectRatioMode.KeepAspectRatio)
    return size.expandedTo(QSize(2, 2))


class Thumbnails(QObject):
    """Strips of takes, as they are asked for."""

    came = Signal(str)  # id of a take: there is a strip by now, or a reason why there is none

    _made = Signal(object, object)  # Take, QImage or FreeswimError

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.problems: dict[str, FreeswimError] = {}  # by id of the take
        self._folder = folder or cache_folder()
        self._held: OrderedDict[str, QImage] = OrderedDict()  # the one asked for last at the end
        self._asked: set[str] = set()
        self._is_closed = threading.Event()
        self._pool = ThreadPoolExecutor(NUM_THREADS, "thumbnails")
        self._made.connect(self._take_in)

    def strip(self, take: Take, path: Path) -> QImage | None:
        """The take's moments side by side; None: not yet, `came` will tell."""
        if (held := self._held.get(take.id)) is not None:
            self._held.move_to_end(take.id)
            return held
        is_known = take.id in self._asked or take.id in self.problems
        if not is_known and not self._is_closed.is_set():
            self._asked.add(take.id)
            self._pool.submit(self._make, take, path)
        return None

    def close(self) -> None:
        """Stop what is being made, and wait until it has."""
        self._is_closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    # ------------------------------------------------------------------------- on other threads

    def _make(self, take: Take, path: Path) -> None:
        try:
            made: QImage | FreeswimError = self._kept(take) or self._decode(take, path)
        except FreeswimError as error:
            made = error
        if not self._is_closed.is_set():
            with suppress(RuntimeError):  # this object is gone: nobody waits for it
                self._made.emit(take, made)

    def _kept(self, take: Take) -> QImage | None:
        path = self._file(take)
        strip = QImage(str(path)) if path.is_file() else QImage()
        if strip.size() != strip_size(take):
            return None
        with suppress(OSError):
            path.touch()  # the ones that were not looked at for longest go first
        return strip.convertToFormat(QImage.Format.Format_RGB32)

    def _decode(self, take: Take, path: Path) -> QImage:
        strip = QImage(strip_size(take), QImage.Format.Format_RGB32)
        painter = QPainter(strip)
        try:
            for moment, picture in enumerate(self._pictures(take, path)):
                painter.drawImage(place_of(take, moment), picture)
        finally:
            painter.end()
        self._keep(take, strip)
        return strip

    def _pictures(self, take: Take, path: Path) -> Iterator[QImage]:
        size = moment_size(take)
        wanted = [frame_of(take, moment) for moment in range(num_moments(take))]
        with open_video(path) as (container, stream):
            for index, frame in enumerate(decode_frames(path, container, stream)):
                if self._is_closed.is_set():
                    raise Cancelled
                if wanted and index == wanted[0]:
                    wanted.pop(0)
                    small = frame.reformat(size.width(), size.height(), "rgb24").to_ndarray()
                    height, width, _ = small.shape
                    # A copy: the picture does not hold what it is made of.
                    yield QImage(
                        small.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888
                    ).copy()
        if wanted:
            raise MediaError(f"{path.name} has fewer frames than it had.", hint=COPY_AGAIN)

    def _keep(self, take: Take, strip: QImage) -> None:
        """Onto the disk; where that cannot be, the strip is made again the next time."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            file = QSaveFile(str(self._file(take)))
            if file.open(QSaveFile.OpenModeFlag.WriteOnly):
                strip.save(file, "JPEG", 88)  # pyright: ignore[reportCallIssue, reportArgumentType]
                file.commit()
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        said = sorted((path.stat().st_mtime, path) for path in self._folder.glob("*.jpg"))
        num_bytes = sum(path.stat().st_size for _, path in said)
        for _, path in said:
            if num_bytes <= MOST_KEPT:
                return
            num_bytes -= path.stat().st_size
            path.unlink(missing_ok=True)

    def _file(self, take: Take) -> Path:
        return self._folder / f"{take.sha256[:32]}.jpg"

    # --------------------------------------------------------------------------- on our thread

    def _take_in(self, take: Take, made: QImage | FreeswimError) -> None:
        self._asked.discard(take.id)
        if isinstance(made, FreeswimError):
            self.problems[take.id] = made
        else:
            self._held[take.id] = made
            while sum(one.sizeInBytes() for one in self._held.values()) > MOST_HELD:
                self._held.popitem(last=False)
        self.came.emit(take.id)


def strip_size(take: Take) -> QSize:
    """Pixels of a take's strip."""
    size = moment_size(take)
    return QSize(size.width() * num_moments(take), size.height())


def place_of(take: Take, moment: int) -> QRect:
    """Where a moment is in its take's strip."""
    size = moment_size(take)
    return QRect(moment * size.width(), 0, size.width(), size.height())
