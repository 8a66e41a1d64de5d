from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

try:
    import PySide6.QtGui  # noqa: F401
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from pytestqt.qtbot import QtBot
from viewer_sounds import damage_sound, noise, place_of, resampled, write_clip, write_source

from desktop.viewer.track import AHEAD_S, BLOCK, Track

RATE = 48_000


def heard_from(qtbot: QtBot, track: Track, first: int, count: int) -> np.ndarray:
    """What is heard there, of the first channel."""
    stretch = range(first, first + count)
    track.want([stretch])
    qtbot.waitUntil(lambda: track.samples(stretch) is not None, timeout=120_000)
    found = track.samples(stretch)
    assert found is not None and found.shape == (count, found.shape[1])
    return found[:, 0]


@pytest.mark.parametrize(
    "frame_rate, name, layout, rate",
    [
        (Fraction(25), "pcm.mov", "mono", 44_100),
        (Fraction(24000, 1001), "pcm.mov", "stereo", 48_000),
        (Fraction(25), "pcm.mov", "5.1", 48_000),
        (Fraction(24000, 1001), "pcm.mov", "5.1", 44_100),
        (Fraction(24000, 1001), "aac.mp4", "mono", 48_000),
        (Fraction(25), "aac.mp4", "stereo", 48_000),
        (Fraction(24000, 1001), "aac.mp4", "stereo", 44_100),
        (Fraction(25), "aac.mp4", "5.1", 44_100),
    ],
)
def test_wherever_somebody_goes_it_is_that_moment_s_sound(
    qtbot: QtBot, tmp_path: Path, frame_rate: Fraction, name: str, layout: str, rate: int
):
    sound = noise(1, 4, rate)
    path = write_clip(tmp_path / name, sound, rate, layout=layout, frame_rate=frame_rate)
    sound = resampled(sound, rate, RATE)
    track = Track(path, RATE, 2)
    for first in (0, 60_000, 61_234, 20_000, 110_000, 5_000):
        heard = heard_from(qtbot, track, first, 2400)
        place = place_of(heard, sound, first, RATE // 4)
        assert place is not None and abs(place - first) <= 1
    assert track.error is None
    track.close()


def test_sound_of_a_wav_s_own_rate_is_not_touched(qtbot: QtBot, tmp_path: Path):
    sound = noise(2, 3, RATE)
    track = Track(write_source(tmp_path / "a.mov", sound, RATE), RATE, 2)
    whole = (sound * 32767).astype(np.int16)[:RATE] / np.float32(32768)
    assert np.array_equal(heard_from(qtbot, track, 0, RATE), whole)
    for first in (70_001, 12, 33_333):
        there = (sound * 32767).astype(np.int16)[first : first + 999] / np.float32(32768)
        assert np.array_equal(heard_from(qtbot, track, first, 999), there)
    track.close()


@pytest.mark.parametrize(
    "name, codec",
    [
        ("a.mov", "pcm_s16le"),
        ("a.mov", "aac"),
        ("a.mkv", "pcm_s16le"),
        ("a.mkv", "aac"),
        ("a.ts", "aac"),  # whose times do not begin at 0
    ],
)
def test_before_and_behind_its_sound_a_clip_is_silent(
    qtbot: QtBot, tmp_path: Path, name: str, codec: str
):
    sound = noise(3, 1, RATE)
    path = write_source(tmp_path / name, sound, RATE, codec=codec, begins_s=Fraction(3, 4))
    track, begin = Track(path, RATE, 2), RATE * 3 // 4
    for first in (RATE, 0, RATE // 2):  # by a seek, and from the beginning
        heard = heard_from(qtbot, track, first, RATE // 2)
        place = place_of(heard[-4800:], sound, first + len(heard) - 4800 - begin, 4800)
        if first == 0:
            assert not heard.any() and place is None
        else:
            assert place is not None and abs(place + begin - first - len(heard) + 4800) <= 48
    before = heard_from(qtbot, track, 0, begin - 2048)
    behind = heard_from(qtbot, track, 2 * RATE, RATE // 2)
    assert not before.any() and not behind.any()
    assert track.error is None
    track.close()


def test_after_a_seek_it_sounds_as_if_there_had_been_none(qtbot: QtBot, tmp_path: Path):
    """AAC, of which no frame can be decoded without the one before it."""
    tone = 0.3 * np.sin(2 * np.pi * 997 * np.arange(4 * RATE) / RATE).astype(np.float32)
    path = write_clip(tmp_path / "a.mp4", tone, RATE)
    for first in (50_000, 61_440, 77_777):
        track = Track(path, RATE, 2)
        begin = first // BLOCK * BLOCK  # where decoding begins
        heard = heard_from(qtbot, track, begin, 4800)
        assert np.abs(heard - tone[begin : begin + 4800]).max() < 0.01
        track.close()


def test_a_mono_clip_is_heard_on_both_sides_and_a_wide_one_is_mixed(qtbot: QtBot, tmp_path: Path):
    sound = noise(4, 2, RATE)
    for layout in ("mono", "5.1"):
        path = write_source(tmp_path / f"{layout}.mov", sound, RATE, layout=layout)
        track = Track(path, RATE, 2)
        heard_from(qtbot, track, 0, 4800)
        both = track.samples(range(4800))
        assert both is not None and np.array_equal(both[:, 0], both[:, 1])
        assert 0.5 < np.std(both) / np.std(sound) < 1.1
        track.close()


def test_damaged_sound_is_silence_and_said_and_the_rest_is_heard(qtbot: QtBot, tmp_path: Path):
    sound = noise(5, 4, RATE)
    path = write_clip(tmp_path / "a.mp4", sound, RATE)
    damage_sound(path, range(62, 74))
    track = Track(path, RATE, 2)
    for first in (0, 115_000):
        heard = heard_from(qtbot, track, first, 4800)
        place = place_of(heard, sound, first, 4800)
        assert place is not None and abs(place - first) <= 1
    heard_from(qtbot, track, 0, 130_000)
    assert track.error is not None
    assert str(track.error).startswith("The sound of a.mp4 is damaged near second 1")
    assert track.error.hint
    track.close()


def test_a_file_that_is_gone_is_silent_and_says_so(qtbot: QtBot, tmp_path: Path):
    track = Track(tmp_path / "none.mov", RATE, 2)
    assert not heard_from(qtbot, track, 0, 4800).any()
    assert track.error is not None and "none.mov" in str(track.error)
    track.close()


def test_of_a_long_clip_only_what_comes_next_is_kept(qtbot: QtBot, tmp_path: Path):
    path = write_source(tmp_path / "long.mov", noise(6, 60, RATE), RATE, num_frames=1500)
    track = Track(path, RATE, 2)
    for second in (0, 50, 10, 30):
        count = round(AHEAD_S * RATE)
        heard_from(qtbot, track, second * RATE, count)
        assert track.num_bytes <= (count + 2 * BLOCK) * 2 * 4
    track.close()


def test_a_closed_track_ends_its_thread(qtbot: QtBot, tmp_path: Path):
    before = threading.active_count()
    track = Track(write_source(tmp_path / "a.mov", noise(7, 3, RATE), RATE), RATE, 2)
    track.want([range(3 * RATE)])
    track.close()
    qtbot.waitUntil(lambda: threading.active_count() <= before, timeout=60_000)
    assert track.num_bytes == 0
