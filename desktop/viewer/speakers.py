"""The sound device of the system: what is written to it is heard a moment later.

Nothing else knows Qt's multimedia, which is loaded with the first object that is made of this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QIODevice, QObject, Signal, qInstallMessageHandler

from desktop.viewer.track import LAYOUTS

if TYPE_CHECKING:
    from PySide6.QtMultimedia import QAudioSink

log = logging.getLogger(__name__)

BUFFER_S = 0.2  # that the device may be given ahead


class Speakers(QObject):
    """The device that the system plays on; samples are counted from `start` on."""

    changed = Signal()  # it is another one now, or there is none any more; it stands still

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.rate = 0  # samples in a second that it takes; 0: there is no device
        self.channels = 0  # a key of `LAYOUTS`
        self.num_written = 0  # samples of each channel
        self._sink: QAudioSink | None = None
        self._pipe: QIODevice | None = None
        with _quiet():
            from PySide6.QtMultimedia import QMediaDevices

            self._devices = QMediaDevices(self)
            self._choose()
        self._devices.audioOutputsChanged.connect(self._see_devices)

    def start(self) -> None:
        """Play what is written from now on; it takes up to half a second until it runs."""
        from PySide6.QtMultimedia import QAudioSink

        if not self.rate or self._sink is not None:
            return
        with _quiet():
            sink = QAudioSink(self._device, self._format, self)
            sink.setBufferSize(self._format.bytesForDuration(int(BUFFER_S * 1e6)))
            sink.setVolume(0)
            pipe = sink.start()
        self._sink, self._pipe, self.num_written = sink, pipe, 0
        self.see_failure()

    def stop(self) -> None:
        """Play nothing, at once; what was written and not heard is lost."""
        if self._sink is not None:
            self._sink.reset()
            self._sink.deleteLater()
        self._sink = self._pipe = None
        self.num_written = 0

    @property
    def is_started(self) -> bool:
        """Whether it takes samples; `num_played` says whether it plays them yet."""
        return self._sink is not None

    @property
    def num_played(self) -> int:
        """Samples of each channel."""
        if self._sink is None:
            return 0
        played = self._sink.processedUSecs() * self.rate // 1_000_000
        return min(played, self.num_written)

    @property
    def num_ahead(self) -> int:
        """Samples that were written and not played."""
        return self.num_written - self.num_played

    @property
    def num_free(self) -> int:
        """Samples that it takes now."""
        return self._sink.bytesFree() // self._format.bytesPerFrame() if self._sink else 0

    def write(self, samples: np.ndarray) -> None:
        """Add to what is played.

        Args:
            samples: (samples, channels) float32, at most `num_free`; cut off at -1 and 1.
        """
        if self._pipe is not None:
            taken = self._pipe.write(self._encode(samples).tobytes())
            self.num_written += max(0, taken) // self._format.bytesPerFrame()

    def set_gain(self, gain: float) -> None:
        """From 0 to 1, of all that was not heard yet."""
        if self._sink is not None:
            self._sink.setVolume(gain)

    def see_failure(self) -> None:
        """Look whether it still plays: a device that is pulled out says nothing else."""
        from PySide6.QtMultimedia import QtAudio

        if self._sink is None:
            return
        error = self._sink.error()
        has_stopped = self._sink.state() == QtAudio.State.StoppedState
        if self._pipe is None or has_stopped or error == QtAudio.Error.FatalError:
            log.warning("sound device %s stopped: %s", self._device.description(), error.name)
            self.stop()
            self.rate = 0
            self.changed.emit()

    def _see_devices(self) -> None:
        before = bytes(self._device.id().data()) if self.rate else b""
        with _quiet():
            from PySide6.QtMultimedia import QMediaDevices

            now = QMediaDevices.defaultAudioOutput()
        if before != bytes(now.id().data()):
            self.stop()
            self._choose()
            self.changed.emit()

    def _choose(self) -> None:
        from PySide6.QtMultimedia import QAudioFormat, QMediaDevices

        self._device = QMediaDevices.defaultAudioOutput()
        self._format = self._device.preferredFormat()
        if self._format.channelCount() not in LAYOUTS:
            self._format.setChannelCount(2)
        kinds: dict[QAudioFormat.SampleFormat, Callable[[np.ndarray], np.ndarray]] = {
            QAudioFormat.SampleFormat.Float: lambda x: x,
            QAudioFormat.SampleFormat.Int32: lambda x: _whole(x, np.int32, 2**31 - 1),
            QAudioFormat.SampleFormat.Int16: lambda x: _whole(x, np.int16, 2**15 - 1),
            QAudioFormat.SampleFormat.UInt8: lambda x: _whole(x, np.uint8, 127, 128),
        }
        if self._format.sampleFormat() not in kinds:
            self._format.setSampleFormat(QAudioFormat.SampleFormat.Int16)
        self._encode = kinds[self._format.sampleFormat()]
        has_any = not self._device.isNull() and self._format.isValid()
        self.rate = self._format.sampleRate() if has_any else 0
        self.channels = self._format.channelCount() if has_any else 0


def _whole(samples: np.ndarray, kind: type, most: int, middle: int = 0) -> np.ndarray:
    return np.round(np.clip(samples.astype(np.float64), -1, 1) * most + middle).astype(kind)


@contextmanager
def _quiet() -> Iterator[None]:
    """What Qt says of a system without sound goes to the log: it is nothing to warn of."""
    before = qInstallMessageHandler(lambda _, __, message: log.info("sound: %s", message))
    try:
        yield
    finally:
        qInstallMessageHandler(before)
