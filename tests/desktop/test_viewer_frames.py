from __future__ import annotations

import random
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

try:
    from PySide6.QtCore import QSize
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from viewer_clips import NUM_FRAMES, OPEN_GOP, SIZE, coded, number_in, write_coded

from desktop.viewer.counter import Counter
from desktop.viewer.frames import Clip, Frames, Picture, Renderer, image_of
from freeswim.errors import MediaError, RequestError
from freeswim.video.reader import probe, read_frames
from freeswim.video.writer import write_video

NTSC = Fraction(1000, 1001)
RATES = [24 * NTSC, Fraction(24), Fraction(25), 30 * NTSC, 60 * NTSC]
INTRA: dict[str, Any] = {"codec": "prores_ks", "pixels": "yuv422p10le", "options": {}}


def frame_at(frames: Frames, number: int, size: tuple[int, int] = SIZE) -> Picture:
    """The picture that a frame shows."""
    renderer = Renderer(frames.path)
    for shown, picture in frames.from_frame(number):
        if number in shown:
            return renderer.picture(picture, shown, QSize(*size))
    raise AssertionError(f"no picture for frame {number}")


def pixels_of(picture: Picture) -> np.ndarray:
    """(H, W, 3) RGB, 0..255."""
    image = picture.image
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 4 * image.width()].reshape(image.height(), -1, 4)[..., 2::-1].astype(int)


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: f"{float(rate):.3f}")
@pytest.mark.parametrize(
    "name, how",
    [
        ("long.mp4", {}),
        ("long.mkv", {}),
        ("open.mp4", {"options": OPEN_GOP}),
        ("intra.mov", INTRA),
        ("counted.ts", {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}),
        ("lossless.mkv", {"codec": "ffv1", "pixels": "yuv444p", "options": {}}),
    ],
)
def test_a_seek_lands_on_the_frame_that_was_asked_for(
    tmp_path: Path, name: str, how: dict[str, Any], rate: Fraction
):
    if name == "counted.ts" and rate == 24:
        rate = Fraction(50)  # one rate is enough of what MPEG-2 does not have
    frames = Frames(Clip(write_coded(tmp_path / name, rate, **how), name))
    assert (frames.facts.num_frames, frames.facts.frame_rate) == (NUM_FRAMES, rate)
    numbers = [0, 1, 11, 12, 13, NUM_FRAMES - 1, *random.Random(1).sample(range(NUM_FRAMES), 4)]
    assert [number_in(frame_at(frames, number).image) for number in numbers] == numbers


def test_a_run_gives_every_frame_up_to_the_last(tmp_path: Path):
    frames = Frames(Clip(write_coded(tmp_path / "a.mp4"), "a"))
    assert frames.keys == [0, 12, 24, 36, 48] and frames.next_key(12) == 24
    numbers = [shown.start for shown, _ in frames.from_frame(30)]
    assert numbers == list(range(numbers[0], NUM_FRAMES)) and numbers[0] <= 30


def test_uneven_pictures_are_shown_as_long_as_takes_are_made_of_them(tmp_path: Path):
    times, now = [], 0
    dice = random.Random(2)
    for _ in range(30):
        times.append(now)
        now += dice.choice([33, 33, 33, 17, 90])
    path = write_coded(tmp_path / "phone.mkv", Fraction(30), num_frames=30, times=times)
    facts = probe(path)
    assert facts.is_variable
    wanted = [number_in(image_of(frame)) for frame in read_frames(path)]
    frames = Frames(Clip(path, "phone"))
    assert [number_in(frame_at(frames, n).image) for n in range(facts.num_frames)] == wanted


def test_a_sequence_has_the_rate_that_was_said_of_it(tmp_path: Path):
    write_video(
        tmp_path / "shot",
        (coded(n).astype(np.uint16) * 257 for n in range(5)),
        codec="png16",
        width=SIZE[0],
        height=SIZE[1],
        frame_rate=Fraction(25),
        num_frames=5,
    )
    frames = Frames(Clip(tmp_path / "shot", "shot", rate=Fraction(25)))
    assert frames.facts.frame_rate == 25
    assert [number_in(frame_at(frames, n).image) for n in (4, 0, 2)] == [4, 0, 2]


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p10le", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("height, worst", [(96, 1), (1440, 3)])
def test_colours_are_those_that_takes_are_made_of(
    tmp_path: Path, pixels: str, height: int, worst: int
):
    side = height // 6
    blocks = np.random.default_rng(3).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    picture = np.kron(blocks, np.ones((side, side, 1), np.uint8))
    how: dict[str, Any] = {"codec": "ffv1", "pixels": pixels, "options": {}, "picture": picture}
    path = write_coded(tmp_path / "c.mkv", num_frames=1, size=(10 * side, height), **how)
    middles = slice(side // 2, None, side)
    exact = next(read_frames(path))[middles, middles].astype(int) / 257
    shown = pixels_of(frame_at(Frames(Clip(path, "c")), 0, (10 * side, height)))
    assert np.abs(shown[middles, middles] - exact).max() <= worst


def test_a_clip_that_was_turned_is_shown_upright(tmp_path: Path):
    plain, turned = write_coded(tmp_path / "plain.mp4", num_frames=2), tmp_path / "turned.mp4"
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = [ffmpeg, "-v", "error", "-display_rotation", "90", "-i", plain, "-c", "copy", turned]
    subprocess.run(command, check=True)
    frames = Frames(Clip(turned, "turned"))
    assert (frames.facts.width, frames.facts.height) == (SIZE[1], SIZE[0])
    exact = next(read_frames(turned, start=1)).astype(int) / 257
    shown = pixels_of(frame_at(frames, 1, (SIZE[1], SIZE[0])))
    assert np.abs(shown - exact).mean() < 1


def test_grey_is_grey(tmp_path: Path):
    how: dict[str, Any] = {"codec": "ffv1", "pixels": "gray", "options": {}}
    path = write_coded(tmp_path / "g.mkv", num_frames=3, **how)
    assert number_in(frame_at(Frames(Clip(path, "g")), 2).image) == 2


@pytest.mark.parametrize(
    "content", [b"", b"#EXTM3U\nhttp://example.com/x.mp4\n", b"no video at all" * 99]
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(MediaError):
        Frames(Clip(tmp_path / "clip.mp4", "clip"))


@pytest.mark.parametrize(
    "rate, start, position, text",
    [
        (Fraction(24), "01:02:14:07", 0, "01:02:14:07"),
        (24 * NTSC, "01:00:00:00", 24, "01:00:01:00"),
        (30 * NTSC, "", 1800, "00:01:00;02"),
        (30 * NTSC, "00:00:59;29", 1, "00:01:00;02"),
        (30 * NTSC, "00:00:59:29", 1, "00:01:00:00"),  # non-drop, as the clip says
        (60 * NTSC, "", 3600, "00:01:00;04"),
        (Fraction(8), "nonsense", 9, "00:00:01:01"),
        (Fraction(1, 4), "", 5, "00:00:05:00"),
    ],
)
def test_a_position_has_one_timecode(rate: Fraction, start: str, position: int, text: str):
    counter = Counter.of(rate, start)
    assert counter.text(position) == text
    assert counter.position(text) == position


def test_timecode_is_typed_as_editors_type_it():
    counter = Counter.of(Fraction(25), "10:00:00:00")
    assert counter.position("10000010") == 10
    assert counter.position("10:00:01:00") == 25
    assert Counter.of(Fraction(25)).position("1000") == 250
    assert (Counter.step("+12"), Counter.step("-3"), Counter.step("12")) == (12, -3, None)
    for wrong in ("", "10:00:00:25", "tomorrow", "1:2:3"):
        with pytest.raises(RequestError):
            counter.position(wrong)
