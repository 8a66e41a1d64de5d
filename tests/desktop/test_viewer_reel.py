from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import pytest

try:
    from PySide6.QtCore import QSize
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from pytestqt.qtbot import QtBot
from viewer_clips import NUM_FRAMES, SIZE, number_in, write_coded

from desktop.viewer.frames import Clip
from desktop.viewer.reel import Reel, Want

HERE = QSize(*SIZE)
A_PICTURE = 4 * SIZE[0] * SIZE[1]  # bytes


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    return Clip(write_coded(tmp_path / "a.mp4"), "a")


def wait_for(qtbot: QtBot, reel: Reel, frames: list[int]) -> None:
    def is_there() -> bool:
        found = [reel.picture(frame) for frame in frames]
        return all(one and one.image.size() in (HERE, HERE / 2) for one in found)

    qtbot.waitUntil(is_there, timeout=60_000)


@pytest.mark.parametrize("step", [1, -1])
def test_what_comes_next_is_decoded_before_it_is_asked_for(qtbot: QtBot, clip: Clip, step: int):
    reel = Reel(clip, 20 * A_PICTURE)
    reel.want(Want(30, HERE, step))
    wait_for(qtbot, reel, [30 + step * n for n in range(15)])
    for number in range(16, 44):
        picture = reel.picture(number)
        assert picture is None or number_in(picture.image) == number
    reel.close()


def test_memory_stays_within_its_budget_wherever_somebody_goes(qtbot: QtBot, clip: Clip):
    reel = Reel(clip, 10 * A_PICTURE)
    most = 0
    for number in (0, 50, 3, 30, 31, 32, 59, 10):
        reel.want(Want(number, HERE))
        wait_for(qtbot, reel, [number])
        most = max(most, reel.num_bytes)
    assert 0 < most <= 10 * A_PICTURE
    reel.want(Want(10, HERE / 2))  # smaller, so that more fit
    wait_for(qtbot, reel, list(range(10, 35)))
    assert reel.num_bytes <= 10 * A_PICTURE
    reel.close()


def test_a_loop_that_fits_is_decoded_once(qtbot: QtBot, clip: Clip):
    reel = Reel(clip, 100 * A_PICTURE)
    for number in (20, 39, 20, 30):
        reel.want(Want(number, HERE, 1, range(20, 40)))
        wait_for(qtbot, reel, list(range(20, 40)))
    assert reel.num_decoded == 20
    reel.close()


@pytest.mark.parametrize(
    "want, expected",
    [
        (Want(5, HERE), [5, 6, 7, 4]),
        (Want(5, HERE, -1), [5, 4, 3, 6]),
        (Want(5, HERE, 4), [5, 9, 4]),
        (Want(9, HERE), [9, 8]),
        (Want(4, HERE, 1, range(2, 6)), [4, 5, 2, 3]),
        (Want(9, HERE, 1, range(2, 6)), [9, 8]),  # outside its loop
    ],
)
def test_the_order_of_what_is_wanted(want: Want, expected: list[int]):
    assert want.order(10, 4) == expected


def test_the_same_pictures_in_another_size(qtbot: QtBot, clip: Clip):
    reel = Reel(clip, 100 * A_PICTURE)
    reel.want(Want(7, HERE))
    wait_for(qtbot, reel, [7])
    reel.want(Want(7, HERE / 2))
    assert reel.picture(7) is not None  # the old one until then

    def is_small() -> bool:
        picture = reel.picture(7)
        return picture is not None and picture.image.size() == HERE / 2

    qtbot.waitUntil(is_small, timeout=60_000)
    picture = reel.picture(7)
    assert picture is not None and number_in(picture.image) == 7
    reel.close()


def test_frames_of_a_damaged_file_that_are_whole_are_shown(qtbot: QtBot, tmp_path: Path):
    path = write_coded(tmp_path / "a.mov", codec="prores_ks", pixels="yuv422p10le", options={})
    content = bytearray(path.read_bytes())
    middle = content.index(b"icpf", len(content) // 2)
    content[middle + 4 : middle + 1500] = bytes(1496)
    path.write_bytes(content)
    reel = Reel(Clip(path, "a"), 100 * A_PICTURE)
    reel.want(Want(0, HERE))
    wait_for(qtbot, reel, list(range(20)))
    reel.want(Want(NUM_FRAMES - 1, HERE))
    wait_for(qtbot, reel, [NUM_FRAMES - 1])
    for number in range(NUM_FRAMES):
        reel.want(Want(number, HERE))
        qtbot.waitUntil(lambda n=number: bool(reel.picture(n) or reel.failure(n)), timeout=60_000)
        picture = reel.picture(number)
        assert picture is None or number_in(picture.image) == number
    failed = [n for n in range(NUM_FRAMES) if reel.failure(n)]
    assert 1 <= len(failed) <= 6
    error = reel.failure(failed[0])
    assert error is not None and "a.mov is damaged" in str(error) and error.hint
    reel.close()


def test_a_file_that_cannot_be_read_says_so(qtbot: QtBot, tmp_path: Path):
    reel = Reel(Clip(tmp_path / "none.mp4", "none"), A_PICTURE)
    qtbot.waitUntil(lambda: reel.error is not None, timeout=60_000)
    assert "none.mp4" in str(reel.error)


def test_a_closed_reel_ends_its_thread(qtbot: QtBot, tmp_path: Path):
    before = threading.active_count()
    path = write_coded(tmp_path / "long.mp4", Fraction(24), num_frames=400)
    reel = Reel(Clip(path, "long"), 1000 * A_PICTURE)
    reel.want(Want(0, HERE))
    wait_for(qtbot, reel, [0])
    reel.close()
    qtbot.waitUntil(lambda: threading.active_count() <= before, timeout=60_000)
    assert reel.num_bytes == 0
