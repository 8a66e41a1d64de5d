"""What is heard beside what is shown. The device is not real, all before it is.

Time is that of `Clock`, which stands still while nothing is worked off: a busy machine makes these
tests slow, never wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

try:
    import PySide6.QtMultimedia  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from PySide6.QtCore import QByteArray, QObject, QSize, Qt, Signal
from PySide6.QtMultimedia import QAudioFormat, QtAudio
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot
from viewer_clips import write_coded
from viewer_sounds import damage_sound, noise, place_of, resampled, write_clip, write_source

from desktop.remembered import Remembered
from desktop.studio import Studio
from desktop.trouble import Trouble
from desktop.viewer.frames import Clip
from desktop.viewer.panel import Viewer
from desktop.viewer.player import Pair, Run
from desktop.viewer.sound import stretches
from desktop.window import Window

RATE = 48_000
IN_STEP_S = 0.04  # between what is heard and what is shown
QUIET_MS = 400  # in which a machine with much to do decodes something, if there is anything left
REACTION_S = 0.2  # from what a person does to when it is heard
PIECE_S = 0.04  # of sound, that is looked for in the clip's
STEP_S, PASS_MS = 0.008, 4  # of the clock, in so much of the wall's at least
KEYS = Qt.Key


class Clock:
    """Time, as far as player, sound and device know it."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@dataclass(frozen=True)
class Device:
    """As QAudioDevice."""

    name: str = ""
    rate: int = RATE
    channels: int = 2
    kind: QAudioFormat.SampleFormat = QAudioFormat.SampleFormat.Int16

    def isNull(self) -> bool:
        return not self.name

    def id(self) -> QByteArray:
        return QByteArray(self.name.encode())

    def description(self) -> str:
        return self.name

    def preferredFormat(self) -> QAudioFormat:
        wanted = QAudioFormat()
        if self.name:
            wanted.setSampleRate(self.rate)
            wanted.setChannelCount(self.channels)
            wanted.setSampleFormat(self.kind)
        return wanted


@dataclass
class Desk:
    """All that a test sees and moves of the machine's sound."""

    clock: Clock
    device: Device = field(default_factory=lambda: Device("Speakers"))
    starts_after_s: float = 0.02
    speed: float = 1.0  # seconds that its clock counts in one
    sinks: list[Sink] = field(default_factory=list)
    watchers: list[Devices] = field(default_factory=list)

    @property
    def sink(self) -> Sink:
        return self.sinks[-1]

    def plug_in(self, device: Device) -> None:
        """The system plays on another device from now on."""
        self.device = device
        for watcher in self.watchers:
            watcher.audioOutputsChanged.emit()


class Devices(QObject):
    """As QMediaDevices."""

    audioOutputsChanged = Signal()
    desk: ClassVar[Desk]

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.desk.watchers.append(self)

    @classmethod
    def defaultAudioOutput(cls) -> Device:
        return cls.desk.device


class Pipe:
    """What QAudioSink.start gives, as far as it is used: a QIODevice written in Python crashes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, content: bytes) -> int:
        return self._sink.take(content)


class Sink(QObject):
    """As QAudioSink: plays 256 samples at a time, and remembers when which one was heard."""

    PERIOD = 256

    def __init__(self, device: Device, wanted: QAudioFormat, parent: QObject) -> None:
        super().__init__(parent)
        desk = Devices.desk
        desk.sinks.append(self)
        self.clock, self.format = desk.clock, wanted
        self.rate, self.frame = wanted.sampleRate(), wanted.bytesPerFrame()
        self.begins = 0.0
        self.starts_after_s, self.speed = desk.starts_after_s, desk.speed
        self.num_underruns = 0  # periods that had to be filled up, of what came late
        self.gains: list[tuple[int, float]] = [(0, 1.0)]  # sample heard -> gain from there on
        self._state, self._error = QtAudio.State.StoppedState, QtAudio.Error.NoError
        self._buffer_bytes = 0
        self._waiting = bytearray()
        self._heard = bytearray()
        self._num_played = 0  # samples, without those that had to be filled up

    def setBufferSize(self, size: int) -> None:
        assert self._state is QtAudio.State.StoppedState and size % self.frame == 0
        self._buffer_bytes = size

    def setVolume(self, gain: float) -> None:
        assert 0 <= gain <= 1
        self.play_on()
        self.gains.append((len(self._heard) // self.frame, gain))

    def start(self) -> Pipe:
        assert self._state is QtAudio.State.StoppedState and self._buffer_bytes
        self._state = QtAudio.State.IdleState
        self.begins = self.clock.now + self.starts_after_s
        return Pipe(self)

    def reset(self) -> None:
        self._state = QtAudio.State.StoppedState
        self._waiting.clear()

    def take(self, content: bytes) -> int:
        assert self._state is not QtAudio.State.StoppedState, "written to what is stopped"
        assert len(content) % self.frame == 0, "half a sample"
        self.play_on()
        assert len(content) <= self.bytesFree(), "more than it said that it takes"
        self._state = QtAudio.State.ActiveState
        self._waiting += content
        return len(content)

    def bytesFree(self) -> int:
        self.play_on()
        return self._buffer_bytes - len(self._waiting)

    def processedUSecs(self) -> int:
        self.play_on()
        return self._num_played * 1_000_000 // self.rate

    def state(self) -> QtAudio.State:
        return self._state

    def error(self) -> QtAudio.Error:
        return self._error

    def break_off(self) -> None:
        """The plug is pulled."""
        self._state, self._error = QtAudio.State.StoppedState, QtAudio.Error.IOError

    def play_on(self) -> None:
        """Play what is due by now."""
        if self._state is QtAudio.State.StoppedState:
            return
        due = self.sample_at(self.clock.now) // self.PERIOD * self.PERIOD
        missing = due * self.frame - len(self._heard)
        if missing <= 0:
            return
        played, self._waiting = self._waiting[:missing], self._waiting[missing:]
        self._num_played += len(played) // self.frame
        if len(played) < missing:
            self.num_underruns += 1
            self._state = QtAudio.State.IdleState
        silence = (
            b"\x80" if self.format.sampleFormat() == QAudioFormat.SampleFormat.UInt8 else b"\0"
        )
        self._heard += played + silence * (missing - len(played))

    def heard(self, *, before_gain: bool = False) -> np.ndarray:
        """(samples,) float64, all channels together, from `begins` on."""
        kinds = {
            QAudioFormat.SampleFormat.Float: ("<f4", 1, 0),
            QAudioFormat.SampleFormat.Int32: ("<i4", 2**31 - 1, 0),
            QAudioFormat.SampleFormat.Int16: ("<i2", 2**15 - 1, 0),
            QAudioFormat.SampleFormat.UInt8: ("u1", 127, 128),
        }
        kind, most, middle = kinds[self.format.sampleFormat()]
        stored = np.frombuffer(bytes(self._heard), kind).astype(np.float64)
        channels = stored.reshape(-1, self.format.channelCount())
        found = (channels.mean(axis=1) - middle) / most
        if before_gain:
            return found
        ends = [first for first, _ in self.gains[1:]] + [len(found)]
        for (first, gain), end in zip(self.gains, ends, strict=True):
            found[first:end] *= gain
        return found

    def sample_at(self, now: float) -> int:
        return round((now - self.begins) * self.speed * self.rate)

    def heard_at(self, now: float, seconds: float) -> np.ndarray:
        first = self.sample_at(now)
        return self.heard()[first : first + round(seconds * self.rate)]


@dataclass
class Room:
    """The viewer, with what is heard in its room."""

    qtbot: QtBot
    viewer: Viewer
    desk: Desk
    shown: list[tuple[float, int]] = field(default_factory=list)  # when, position

    def show(self, a: Clip | None, b: Clip | None) -> None:
        """Load, and wait until all of it is decoded and the device plays (silence)."""
        self.viewer.show_clips(a, b)
        names = [clip.name for clip in (a, b) if clip]
        for _ in range(10_000):  # while it plays, only time brings another picture
            if [side.name for side in self.viewer.canvas.pair.sides] == names:
                break
            self.run(STEP_S)
        self.rest()
        self.run(self.desk.starts_after_s + 0.1)

    def rest(self) -> None:
        """Wait until nothing more is decoded, on the clock of the wall alone."""
        before = -1
        while before != (now := self.viewer.player.num_bytes + self.viewer.sound.num_bytes):
            before = now
            self.qtbot.wait(QUIET_MS)

    def run(self, seconds: float, *, stride: float = STEP_S) -> None:
        """Let time go by; the device plays on, and the event loop works."""
        end = self.desk.clock.now + seconds
        while self.desk.clock.now < end:
            self.desk.clock.now += stride
            for sink in self.desk.sinks:
                sink.play_on()
            self.qtbot.wait(PASS_MS)

    def press(self, *keys: Qt.Key, modifier: Qt.KeyboardModifier | None = None) -> None:
        for key in keys:
            self.qtbot.keyClick(self.viewer.canvas, key, modifier or Qt.KeyboardModifier.NoModifier)

    def offs(self, sound: np.ndarray, since: float) -> list[float | None]:
        """How far, in s, sound was ahead of each picture shown since; None: another or none."""
        rate = self.viewer.player.frame_rate
        sink, found = self.desk.sink, []
        for now, position in self.shown:
            heard = sink.heard_at(now, PIECE_S)
            if now < since or len(heard) < PIECE_S * sink.rate:
                continue
            near = round(position * sink.rate / rate)
            place = place_of(heard, sound, near, sink.rate // 4)
            found.append(None if place is None else (place - near) / sink.rate)
        return found

    def assert_in_step(self, sound: np.ndarray, since: float, *, at_least: int = 4) -> None:
        """Every picture since then had its own sound, but for pieces with a splice in them."""
        offs = self.offs(sound, since)
        assert len(offs) >= at_least
        strange = [off for off in offs if off is None]
        assert len(strange) <= len(offs) // 8, offs
        assert all(abs(off) <= IN_STEP_S for off in offs if off is not None), offs

    def loudness(self, seconds: float) -> float:
        """Of what was heard in the last seconds."""
        return float(np.std(self.desk.sink.heard_at(self.desk.clock.now - seconds, seconds)))


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The machine's sound, with speakers that take 16 bits."""
    clock = Clock()
    desk = Desk(clock)
    monkeypatch.setattr(Devices, "desk", desk, raising=False)
    monkeypatch.setattr("PySide6.QtMultimedia.QMediaDevices", Devices)
    monkeypatch.setattr("PySide6.QtMultimedia.QAudioSink", Sink)
    for module in ("player", "sound"):
        fake = SimpleNamespace(perf_counter=clock.perf_counter)
        monkeypatch.setattr(f"desktop.viewer.{module}.time", fake)
    return desk


@pytest.fixture
def room(qtbot: QtBot, offline: Studio, desk: Desk) -> Iterator[Room]:
    viewer = Viewer(offline)
    qtbot.addWidget(viewer)
    viewer.resize(400, 400)
    room = Room(qtbot, viewer, desk)

    def note(pair: Pair) -> None:
        if viewer.player.is_playing:
            room.shown.append((desk.clock.now, pair.position))

    viewer.player.shown.connect(note)
    with qtbot.waitActive(viewer):
        viewer.show()
        viewer.activateWindow()
    yield room


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clip]:
    """Two takes of 72 frames at 25 with sounds of their own, and one that has none."""
    folder = tmp_path_factory.mktemp("sounds")
    found = {
        name: Clip(write_clip(folder / f"{name}.mov", noise(seed, 4, RATE), RATE), name)
        for name, seed in (("a", 1), ("b", 2))
    }
    return found | {"mute": Clip(write_coded(folder / "mute.mp4", Fraction(25)), "mute")}


A, B = noise(1, 2.88, RATE), noise(2, 2.88, RATE)


# ---------------------------------------------------------------------------------------- in step


@pytest.mark.parametrize(
    "frame_rate, name, layout, rate, device",
    [
        (Fraction(24000, 1001), "pcm.mov", "stereo", 48_000, Device("x")),
        (Fraction(25), "pcm.mov", "mono", 44_100, Device("x")),
        (
            *(Fraction(24000, 1001), "aac.mp4", "5.1", 44_100),
            Device("x", 44_100, 6, QAudioFormat.SampleFormat.Float),
        ),
        (
            *(Fraction(25), "aac.mp4", "stereo", 48_000),
            Device("x", 44_100, 1, QAudioFormat.SampleFormat.Int32),
        ),
        (
            *(Fraction(25), "pcm.mov", "5.1", 48_000),
            Device("x", 96_000, 4, QAudioFormat.SampleFormat.UInt8),
        ),
    ],
)
def test_what_is_heard_is_what_is_shown(
    room: Room,
    tmp_path: Path,
    frame_rate: Fraction,
    name: str,
    layout: str,
    rate: int,
    device: Device,
):
    room.desk.device = device
    sound = noise(3, 4, rate)
    path = write_clip(tmp_path / name, sound, rate, layout=layout, frame_rate=frame_rate)
    room.show(None, Clip(path, "x"))
    room.viewer.player.seek(10)
    room.run(0.1)
    assert room.loudness(0.05) == 0
    since = room.desk.clock.now
    room.press(KEYS.Key_Space)
    room.run(1.5)
    offs = room.offs(resampled(sound, rate, device.rate), since + REACTION_S)
    assert len(offs) >= 15
    assert all(off is not None and abs(off) <= IN_STEP_S for off in offs), offs
    assert room.desk.sink.num_underruns == 0 and len(room.desk.sinks) == 1


def test_the_first_sound_is_not_lost_where_somebody_presses_play(
    room: Room, clips: dict[str, Clip]
):
    room.show(None, clips["b"])
    room.viewer.player.seek(30)
    room.run(0.1)
    since = room.desk.clock.now
    room.press(KEYS.Key_L)
    room.run(0.4)
    heard = room.desk.sink.heard(before_gain=True)
    begin = room.desk.sink.sample_at(since)
    first = begin + int(np.flatnonzero(heard[begin:])[0])
    assert first - begin < REACTION_S * RATE
    place = place_of(heard[first + 480 : first + 2400], B, round(30 / 25 * RATE) + 480, 4800)
    assert place is not None and abs(place - round(30 / 25 * RATE) - 480) <= 1


def test_after_a_stop_it_is_silent_and_after_a_seek_in_step(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.press(KEYS.Key_Space)
    room.run(0.5)
    assert room.loudness(0.2) > 0.05
    for do in (lambda: room.press(KEYS.Key_K), lambda: room.viewer.player.seek(40)):
        do()
        room.run(REACTION_S)
        assert room.loudness(0.05) == 0
        for _ in range(4):  # scrubbing
            room.viewer.player.seek(room.viewer.player.position + 3)
            room.run(0.05)
        assert room.loudness(0.2) == 0
        since = room.desk.clock.now
        room.press(KEYS.Key_Space)
        room.run(0.7)
        room.assert_in_step(B, since + REACTION_S)


def test_pressing_stop_and_play_at_once_brings_nothing_old(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.press(KEYS.Key_Space)
    room.run(0.5)
    room.press(KEYS.Key_K)
    room.viewer.player.seek(50)
    since = room.desk.clock.now
    room.press(KEYS.Key_Space)
    room.run(0.2, stride=PASS_MS / 1000)  # as slow as the wall's clock
    assert np.std(room.desk.sink.heard_at(since + 0.085, 0.02)) < 0.01
    room.run(0.5)
    room.assert_in_step(B, since + REACTION_S)


def test_a_loop_goes_round_to_the_sample(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.viewer.player.mark(20, 29)
    room.viewer.player.seek(20)
    room.rest()
    since = room.desk.clock.now
    room.press(KEYS.Key_Slash)
    room.run(1.5)
    start, length = 20 * RATE // 25, 10 * RATE // 25
    whole = np.tile(B[start : start + length], 6)
    sink = room.desk.sink
    heard = sink.heard()
    first = sink.sample_at(since + 0.25)
    piece = heard[first : first + 2 * length]
    likeness = np.correlate(whole, piece, "valid")
    assert likeness.max() > 0.98 * np.sum(piece**2)
    for now, position in room.shown:
        played = sink.heard_at(now, PIECE_S)
        if now < since + REACTION_S or len(played) < PIECE_S * RATE:
            continue
        near = round(position * RATE / 25) - start + 2 * length
        place = place_of(played, whole, near, RATE // 8)
        assert place is not None and abs(place - near) <= IN_STEP_S * RATE
    assert {position for now, position in room.shown if now > since} == set(range(20, 30))


def test_marks_that_move_while_it_plays_leave_it_in_step(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.press(KEYS.Key_Space)
    room.run(0.6)
    since = room.desk.clock.now
    room.viewer.player.mark(5, 50)
    room.run(0.5)
    room.assert_in_step(B, since + REACTION_S)


def test_a_device_that_is_slow_to_start_joins_in(room: Room, clips: dict[str, Clip]):
    room.desk.starts_after_s = 0.6
    room.viewer.show_clips(None, clips["b"])
    room.qtbot.waitUntil(lambda: len(room.viewer.canvas.pair.sides) == 1, timeout=120_000)
    room.rest()
    since = room.desk.clock.now
    room.press(KEYS.Key_Space)
    room.run(1.4)
    room.assert_in_step(B, since + 0.6 + REACTION_S)
    assert room.shown[-1][1] >= 30  # the pictures did not wait


def test_a_device_whose_clock_is_another_leads(room: Room, clips: dict[str, Clip]):
    """Far more than any: there is no splice, and the pictures follow."""
    room.desk.speed = 0.975
    room.show(None, clips["b"])
    since = room.desk.clock.now
    room.press(KEYS.Key_Space)
    room.run(2.5)
    heard = room.desk.sink.heard(before_gain=True)
    begin = int(np.flatnonzero(heard)[0])
    piece = heard[begin + 480 : begin + 96_480]
    place = place_of(piece, B, 480, 48)
    assert place is not None  # and nothing in its two seconds is from elsewhere:
    assert np.abs(piece - B[place : place + len(piece)]).max() < 0.001
    room.assert_in_step(B, since + REACTION_S, at_least=20)


# ------------------------------------------------------------------------------ which is heard


def heard_side(room: Room, since: float) -> str:
    """Which of A and B was heard, in step, since then."""
    found = ""
    for name, sound in (("A", A), ("B", B)):
        offs = room.offs(sound, since)
        assert len(offs) > 3
        right = [off for off in offs if off is not None and abs(off) <= IN_STEP_S]
        found += name if len(right) >= len(offs) * 7 // 8 else ""
    return found


def test_the_side_that_is_shown_is_heard(room: Room, clips: dict[str, Clip]):
    room.show(clips["a"], clips["b"])
    room.press(KEYS.Key_Space)
    assert room.viewer.mute.iconText() == "B"  # the wipe begins with what is judged
    for keys, side in (
        ([], "B"),
        ([KEYS.Key_1], "A"),
        ([KEYS.Key_W], "A"),
        ([KEYS.Key_T], "B"),
        ([KEYS.Key_S], "B"),
        ([KEYS.Key_D], "B"),
    ):
        room.press(*keys)
        room.rest()
        since = room.desk.clock.now + REACTION_S
        room.run(0.45)
        assert heard_side(room, since) == side == room.viewer.mute.iconText()
    room.press(KEYS.Key_T, modifier=Qt.KeyboardModifier.ShiftModifier)
    assert room.viewer.mute.iconText() == "A"
    assert "Sound of A" in room.viewer.speaker.toolTip()


def test_a_look_at_the_other_side_is_one_with_its_sound(
    room: Room, clips: dict[str, Clip], monkeypatch: pytest.MonkeyPatch
):
    now = [100.0]
    monkeypatch.setattr("desktop.viewer.panel.time.monotonic", lambda: now[0])
    room.show(clips["a"], clips["b"])
    room.press(KEYS.Key_1, KEYS.Key_W)
    room.qtbot.keyPress(room.viewer.canvas, KEYS.Key_T)
    assert room.viewer.mute.iconText() == "B"
    now[0] += 2
    room.qtbot.keyRelease(room.viewer.canvas, KEYS.Key_T)
    assert room.viewer.mute.iconText() == "A"


def test_where_only_one_has_sound_both_together_are_heard_with_it(
    room: Room, clips: dict[str, Clip]
):
    room.show(clips["a"], clips["mute"])
    room.press(KEYS.Key_Space)
    since = room.desk.clock.now + REACTION_S
    room.run(0.5)
    assert room.viewer.mute.iconText() == "A" and not room.viewer.other.isEnabled()
    room.assert_in_step(A, since)
    room.press(KEYS.Key_2)
    room.run(0.3)
    assert room.loudness(0.1) < 1e-4
    assert "B has no sound" in room.viewer.speaker.toolTip()
    assert room.viewer.mute.iconText() == "–"


def test_clips_without_sound_open_no_device(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["mute"])
    room.press(KEYS.Key_Space)
    room.run(0.3)
    assert room.desk.sinks == [] and room.desk.watchers == []
    assert "B has no sound" in room.viewer.speaker.toolTip()


# --------------------------------------------------------------------------------------- silence


def test_it_is_heard_at_normal_speed_only(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    for keys, is_heard in (("L", True), ("L", False), ("J", False), ("J", False), ("KL", True)):
        room.press(*(KEYS[f"Key_{key}"] for key in keys))
        since = room.desk.clock.now + REACTION_S
        room.run(0.45)
        assert (room.loudness(0.2) > 0.05) == is_heard
        assert ("normal speed" in room.viewer.speaker.toolTip()) != is_heard
        if is_heard:
            room.assert_in_step(B, since, at_least=4)


def test_sound_that_begins_late_and_ends_early_lies_where_it_belongs(room: Room, tmp_path: Path):
    sound = noise(4, 0.8, RATE)
    path = write_source(tmp_path / "a.mov", sound, RATE, begins_s=Fraction(4, 5))
    room.show(None, Clip(path, "x"))
    since = room.desk.clock.now
    room.press(KEYS.Key_Space)
    room.run(2.4)
    whole = np.concatenate([np.zeros(RATE * 4 // 5, np.float32), sound])
    sounding = [pair for pair in room.shown if pair[0] > since and 21 <= pair[1] < 38]
    silent = [pair for pair in room.shown if pair[0] > since and not 18 <= pair[1] < 42]
    room.shown = silent
    assert set(room.offs(whole, since)) == {None}
    room.shown = sounding
    room.assert_in_step(whole, since)


def test_mute_and_volume(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.press(KEYS.Key_Space)
    room.run(0.4)
    loud = room.loudness(0.1)
    room.press(KEYS.Key_M, modifier=Qt.KeyboardModifier.ShiftModifier)
    room.run(0.3)
    assert room.loudness(0.1) == 0 and room.viewer.mute.isChecked()
    assert "Muted" in room.viewer.speaker.toolTip()
    room.press(KEYS.Key_M, modifier=Qt.KeyboardModifier.ShiftModifier)
    since = room.desk.clock.now
    room.run(0.5)
    assert room.loudness(0.1) == pytest.approx(loud, rel=0.2)
    room.assert_in_step(B, since + REACTION_S)
    room.viewer.volume.setValue(50)
    room.run(0.4)
    assert room.loudness(0.1) == pytest.approx(loud / 8, rel=0.2)
    assert room.viewer.volume.toolTip() == "Volume 50 %"


def test_volume_and_mute_are_as_they_were_left(qtbot: QtBot, home: Path, look: None):
    def opened() -> tuple[Window, Callable[[], None]]:
        studio, trouble = Studio(), Trouble()
        window = Window(studio, Remembered(), trouble)
        qtbot.addWidget(window)

        def leave() -> None:
            window.leave()
            studio.close()
            trouble.close()

        return window, leave

    window, leave = opened()
    assert window.viewer.volume.value() == 100 and not window.viewer.mute.isChecked()
    window.viewer.volume.setValue(35)
    window.viewer.sound.set_muted(True)
    leave()
    window, leave = opened()
    assert window.viewer.volume.value() == 35 == window.viewer.sound.volume
    assert window.viewer.mute.isChecked() and window.viewer.sound.is_muted
    leave()


def test_a_damaged_track_is_said_once_and_the_picture_goes_on(room: Room, tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", noise(5, 4, RATE), RATE)
    damage_sound(path, range(50, 70))
    said: list[str] = []
    room.viewer.sound.failed.connect(lambda error: said.append(str(error)))
    room.show(None, Clip(path, "x"))
    since = room.desk.clock.now
    room.press(KEYS.Key_Space)
    room.run(3.2)
    assert len(said) == 1 and said[0].startswith("The sound of a.mp4 is damaged near second 1")
    assert room.viewer.note.isVisible() and said[0] in room.viewer.note.text()
    assert {position for now, position in room.shown if now > since} == set(range(72))


# ----------------------------------------------------------------------------- what goes wrong


def test_no_step_is_heard_at_any_seam(room: Room, tmp_path: Path):
    """A low tone changes slowly; so does what is heard of it, whatever is done."""
    time_s = np.arange(4 * RATE) / RATE
    clips = [
        Clip(write_clip(tmp_path / f"{name}.mov", tone.astype(np.float32), RATE), name)
        for name, tone in (
            ("a", 0.5 * np.sin(2 * np.pi * 110 * time_s)),
            ("b", 0.5 * np.cos(2 * np.pi * 123 * time_s)),
        )
    ]
    room.show(*clips)
    room.viewer.player.mark(13, 23)
    room.press(KEYS.Key_Slash)
    room.run(0.7)
    for key in (KEYS.Key_1, KEYS.Key_2, KEYS.Key_K, KEYS.Key_Space, KEYS.Key_L, KEYS.Key_K):
        room.press(key)
        room.run(0.25)
    heard = room.desk.sink.heard(before_gain=True)
    steepest = 0.5 * 2 * np.pi * 123 / RATE
    assert np.abs(heard).max() > 0.4
    assert np.abs(np.diff(heard)).max() < 2 * steepest + 1 / (0.002 * RATE)
    gains = [gain for _, gain in room.desk.sink.gains[1:]]
    assert max(abs(after - before) for before, after in pairwise(gains)) <= 0.21


def test_after_a_pause_of_the_window_it_is_in_step_again(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.press(KEYS.Key_Space)
    room.run(0.4)
    room.desk.clock.now += 0.5  # nothing was worked off
    since = room.desk.clock.now
    room.run(0.7)
    assert room.desk.sink.num_underruns > 0
    room.assert_in_step(B, since + REACTION_S)


def test_late_pictures_are_silent_ones(room: Room, tmp_path: Path):
    """Sound that stops and goes all the time helps nobody; it comes back with the pictures."""
    sound = noise(6, 4, RATE)
    path = write_clip(tmp_path / "a.mov", sound, RATE, size=(1280, 720), num_frames=48)
    room.show(None, Clip(path, "x"))
    room.press(KEYS.Key_Space)
    room.run(0.4)
    assert room.loudness(0.1) > 0.05
    slips = room.viewer.player.num_slips
    room.viewer.player.set_sizes(QSize(), QSize(1279, 719))  # none is there in this size
    since = room.desk.clock.now
    room.run(3.0, stride=0.2)  # faster than any machine decodes
    assert room.viewer.player.num_slips > slips
    sink = room.desk.sink
    assert np.std(sink.heard_at(since + 1.8, 1.0)) < 1e-4
    room.rest()
    room.run(0.6)
    since = room.desk.clock.now
    room.run(0.6)
    room.assert_in_step(sound, since)


def test_another_device_goes_on_where_the_pictures_are(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.press(KEYS.Key_Space)
    room.run(0.3)
    room.desk.plug_in(Device("Headphones", 44_100, 1))
    since = room.desk.clock.now
    room.run(1.0)
    assert len(room.desk.sinks) == 2
    room.assert_in_step(resampled(B, RATE, 44_100), since + 0.3)
    room.desk.sink.break_off()
    room.run(0.2)
    assert "No sound device" in room.viewer.speaker.toolTip()
    assert room.viewer.player.is_playing
    room.desk.plug_in(Device("Speakers"))
    since = room.desk.clock.now
    room.run(1.0)
    room.assert_in_step(B, since + 0.3)


def test_without_a_device_the_viewer_says_so_and_plays(room: Room, clips: dict[str, Clip]):
    room.desk.device = Device()
    room.show(clips["a"], clips["b"])
    assert "No sound device" in room.viewer.speaker.toolTip()
    room.press(KEYS.Key_Space)
    room.run(0.3)
    assert len(room.shown) > 4 and room.desk.sinks == []
    room.desk.plug_in(Device("Speakers"))
    since = room.desk.clock.now
    room.run(0.8)
    room.assert_in_step(B, since + 0.3)


def test_a_device_that_nobody_needs_is_let_go(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.desk.clock.now += 31
    room.run(0.1)
    assert room.desk.sink.state() is QtAudio.State.StoppedState
    room.viewer.player.seek(30)
    room.run(0.2)
    since = room.desk.clock.now
    room.press(KEYS.Key_Space)
    room.run(0.6)
    assert len(room.desk.sinks) == 2
    room.assert_in_step(B, since + REACTION_S)


def test_another_clip_takes_the_sound_of_the_one_before_away(room: Room, clips: dict[str, Clip]):
    room.show(None, clips["b"])
    room.press(KEYS.Key_Space)
    room.run(0.3)
    room.show(clips["b"], clips["a"])
    room.viewer.player.stop()
    since = room.desk.clock.now
    room.press(KEYS.Key_Space)
    room.run(0.6)
    room.assert_in_step(A, since + REACTION_S)


def test_memory_is_that_of_what_comes_next(room: Room, clips: dict[str, Clip]):
    room.show(clips["a"], clips["b"])
    room.press(KEYS.Key_Space)
    for _ in range(5):
        room.run(0.1)
        assert 0 < room.viewer.sound.num_bytes < 2 * 2.3 * RATE * 2 * 4


def test_it_can_go_at_any_moment(qtbot: QtBot, offline: Studio, desk: Desk, clips: dict[str, Clip]):
    for delay in range(0, 120, 30):
        viewer = Viewer(offline)
        viewer.show()
        viewer.show_clips(clips["a"], clips["b"])
        viewer.player.play()
        for _ in range(delay // 10):
            desk.clock.now += 0.01
            qtbot.wait(10)
        viewer.deleteLater()
        del viewer
        QApplication.sendPostedEvents(None, 0)
    qtbot.wait(50)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system runs without a device")
def test_a_server_without_sound_says_nothing(tmp_path: Path, clips: dict[str, Clip]):
    """With Qt's own classes, in a process of its own whose output is seen whole."""
    program = f"""
from pathlib import Path
from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication
from desktop import theme
from desktop.studio import Studio
from desktop.viewer.frames import Clip
from desktop.viewer.panel import Viewer
app = QApplication([])
theme.apply(app)
viewer = Viewer(Studio())
viewer.show_clips(None, Clip(Path({str(clips["b"].path)!r}), "x"))
viewer.player.shown.connect(lambda _: QTimer.singleShot(300, app.quit))
app.exec()
print(viewer.speaker.toolTip())
"""
    env = os.environ | {"FREESWIM_HOME": str(tmp_path), "PULSE_SERVER": f"unix:{tmp_path}/none"}
    env |= {"PIPEWIRE_REMOTE": "none"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout.strip().startswith("No sound device")


# ------------------------------------------------------------------------------------ arithmetic


@pytest.mark.parametrize("frame_rate", [Fraction(24000, 1001), Fraction(25), Fraction(60000, 1001)])
@pytest.mark.parametrize(
    "begun_at, course", [(0, range(72)), (12, range(10, 15)), (3, range(3, 5))]
)
def test_stretches_are_the_way_of_the_pictures(frame_rate: Fraction, begun_at: int, course: range):
    run = Run(begun_at, 1, course, True, frame_rate)
    whole = [n for part in stretches(run, RATE, 0, 5 * RATE) for n in part]
    assert len(whole) == 5 * RATE
    parts = [n for first in range(0, 5 * RATE, 4321) for n in in_part(run, first)]
    assert parts[: len(whole)] == whole
    for step in range(int(4.9 * frame_rate)):  # at the middle of every step, the frame of its place
        sample = whole[round((step + Fraction(1, 2)) * RATE / frame_rate)]
        assert int(sample * frame_rate / RATE) == run.place(step)


def in_part(run: Run, first: int) -> list[int]:
    return [n for part in stretches(run, RATE, first, 4321) for n in part]


def test_without_a_loop_it_goes_on():
    run = Run(50, 1, range(72), False, Fraction(25))
    assert stretches(run, RATE, 100, 2000) == [range(96_100, 98_100)]
