import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import freeswim.models.demo
from freeswim.errors import RequestError
from freeswim.models.demo.koi import Koi, Scene, View, caption, render, sample_scene
from freeswim.models.demo.measure import count_koi, koi_mask, measure_koi
from freeswim.models.demo.scene import COLORS, COUNTS, DIRECTIONS, WATERS, Direction

WEIGHTS = Path(freeswim.models.demo.__file__).parent / "weights"
ONWARD = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
GRAMMAR = re.compile(
    r"(?:(?:(?:one|two|three)|close-up of) (?:orange|red|white|gold) koi "
    r"swimming (?:right|down|left|up) in|close-up of) "
    r"(?:blue|green|teal|purple) water(?: with lily pads)?"
)


def scene_of(seed: int) -> Scene:
    return sample_scene(np.random.default_rng(seed))


def psnr_db(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(-10 * np.log10(np.mean((first - second) ** 2)))


def area_averaged(frames: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    num_frames, height, width, _ = frames.shape
    blocks = frames.reshape(num_frames, height // factor, factor, width // factor, factor, 3)
    return blocks.mean((2, 4))


def test_the_same_seed_gives_the_same_scene_and_the_same_pixels() -> None:
    assert scene_of(4) == scene_of(4)
    assert scene_of(4) != scene_of(5)
    assert np.array_equal(render(scene_of(4), 64, 64), render(scene_of(4), 64, 64))


def test_a_seed_stays_the_scene_it_was_in_the_training_set() -> None:
    scene = scene_of(0)  # figures of the renderer that made the training set
    assert caption(scene) == "three white koi swimming left in green water with lily pads"
    assert render(scene, 64, 64).mean() == pytest.approx(0.3112780, abs=1e-6)


def test_a_scene_keeps_everything_that_is_asked_of_it() -> None:
    for seed in range(20):
        scene = sample_scene(
            np.random.default_rng(seed),
            count=3,
            color="gold",
            direction="up",
            water="purple",
            lily_pads=True,
        )
        assert caption(scene) == "three gold koi swimming up in purple water with lily pads"


def test_a_scene_draws_every_word_when_nothing_is_asked() -> None:
    scenes = [scene_of(seed) for seed in range(60)]
    assert {len(scene.koi) for scene in scenes} == set(COUNTS)
    assert {scene.color for scene in scenes} == set(COLORS)
    assert {scene.direction for scene in scenes} == set(DIRECTIONS)
    assert {scene.water for scene in scenes} == set(WATERS)
    assert {bool(scene.lily_pads) for scene in scenes} == {True, False}


def test_the_pond_refuses_a_count_that_has_no_word() -> None:
    with pytest.raises(RequestError, match="no count 4"):
        sample_scene(np.random.default_rng(0), count=4)


def test_captions_follow_the_grammar_the_checkpoint_was_trained_on() -> None:
    views = (None, View(0.0, 0.0, 0.25), View(0.4, 0.4, 0.25), View(0.1, 0.3, 0.6))
    for seed in range(60):
        for view in views:
            assert GRAMMAR.fullmatch(caption(scene_of(seed), view))


def test_the_tokenizer_of_the_checkpoint_knows_every_word_of_the_captions() -> None:
    vocabulary = json.loads((WEIGHTS / "tokenizer" / "tokenizer.json").read_text("utf-8"))
    words = {word for seed in range(60) for word in caption(scene_of(seed)).split()}
    assert words | {"close-up", "of"} <= set(vocabulary["model"]["vocab"])


def test_a_close_up_names_what_its_view_shows() -> None:
    scene = sample_scene(np.random.default_rng(1), count=1, lily_pads=False)
    x, y = scene.koi[0].middle
    on_koi, off_koi = View(x - 0.1, y - 0.1, 0.2), View(0.0 if x > 0.5 else 0.96, 0.0, 0.04)
    assert caption(scene, on_koi).startswith(f"close-up of {scene.color} koi swimming")
    assert caption(scene, off_koi) == f"close-up of {scene.water} water"


@pytest.mark.parametrize("factor", [2, 4])
def test_a_larger_render_averages_to_the_native_one(factor: int) -> None:
    for seed in range(4):
        large = render(scene_of(seed), 128 * factor, 128 * factor, num_frames=2)
        native = render(scene_of(seed), 128, 128, num_frames=2)
        assert psnr_db(area_averaged(large, factor), native) > 36  # 39.1 was the worst of 40 at 2x


def test_a_larger_render_holds_detail_that_upsampling_cannot() -> None:
    large = render(scene_of(3), 256, 256, num_frames=1)
    native = render(scene_of(3), 128, 128, num_frames=1)
    assert psnr_db(np.repeat(np.repeat(native, 2, 1), 2, 2), large) < 36


def test_a_view_is_a_crop_of_the_pond() -> None:
    for seed in range(4):
        pond = render(scene_of(seed), 128, 128, num_frames=3)
        view = render(scene_of(seed), 64, 64, view=View(0.25, 0.5, 0.5), num_frames=3)
        np.testing.assert_allclose(view, pond[:, 64:128, 32:96], atol=1e-5)


def test_a_wide_frame_shows_the_square_one_and_more_to_the_right() -> None:
    wide = render(scene_of(2), 64, 96, num_frames=2)
    assert wide.shape == (2, 64, 96, 3)
    np.testing.assert_allclose(wide[:, :, :64], render(scene_of(2), 64, 64, num_frames=2))


def test_frames_are_float32_between_0_and_1() -> None:
    frames = render(scene_of(2), 64, 64)
    assert frames.shape == (9, 64, 64, 3)
    assert frames.dtype == np.float32
    assert 0 <= frames.min() < frames.max() <= 1


def test_more_frames_leave_the_first_nine_as_they_are() -> None:
    long = render(scene_of(2), 64, 64, num_frames=17)
    np.testing.assert_allclose(long[:9], render(scene_of(2), 64, 64), atol=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_koi_swim_in_the_direction_of_the_caption(direction: Direction) -> None:
    for seed in range(3):
        frames = render(sample_scene(np.random.default_rng(seed), direction=direction), 64, 64)
        first, last = (np.argwhere(koi_mask(frames[index])).mean(0)[::-1] for index in (0, 8))
        way = (last - first) / 256  # ponds
        assert way @ ONWARD[direction] > 0.08  # they swim 0.10…0.20
        assert abs(way @ ONWARD[direction][::-1]) < 0.08


@pytest.mark.parametrize(("size", "num_scenes"), [(128, 16), (256, 12), (512, 6)])
def test_the_measure_finds_the_koi_of_a_true_render(size: int, num_scenes: int) -> None:
    for seed in range(num_scenes):
        scene = scene_of(seed)
        frame = render(scene, size, size, num_frames=1)[0]
        measured = measure_koi(frame, scene.color, scene.water, len(scene.koi))
        assert measured.found == measured.large == len(scene.koi) == count_koi(frame)
        assert measured.error == 0
        assert measured.is_water_right
        assert measured.color_share > 0.85  # 0.89 was the worst of 150 at 128 px


def test_the_measure_does_not_take_one_colour_for_another() -> None:
    scene = sample_scene(np.random.default_rng(0), count=2, color="red", water="blue")
    measured = measure_koi(render(scene, 128, 128, num_frames=1)[0], "gold", "teal", 3)
    assert measured.color_share < 0.1
    assert not measured.is_water_right
    assert measured.error == 1


@pytest.mark.parametrize(("bridge", "koi"), [(0, 2), (4, 2), (14, 1)])
def test_bodies_that_touch_are_two_and_bodies_that_merge_are_one(bridge: int, koi: int) -> None:
    frame = np.zeros((256, 256, 3), np.float32)
    frame[60:80, 40:100] = frame[60:80, 110:170] = (0.95, 0.46, 0.09)
    frame[70 - bridge // 2 : 70 + bridge // 2, 100:110] = (0.95, 0.46, 0.09)
    measured = measure_koi(frame, "orange", "blue", 2)
    assert measured.found == measured.large == count_koi(frame) == koi


def test_koi_whose_fins_touch_are_counted_one_by_one() -> None:
    first = Koi((0.45, 0.4), (1.0, 0.0), 0.1, 0.42, 0.0, 6.0, 0.06, (0.0, 0.0, 0.0))
    second = replace(first, middle=(0.55, 0.57))
    scene = replace(scene_of(0), lily_pads=())
    alone = [koi_mask(render(replace(scene, koi=(koi,)), 128, 128)[4]) for koi in (first, second)]
    assert np.logical_and(*alone).any()
    assert count_koi(render(replace(scene, koi=(first, second)), 128, 128)[4]) == 2


@pytest.mark.parametrize("times", [2, 4])
def test_koi_that_are_many_times_too_small_are_counted_as_well(times: int) -> None:
    view = View(0.5 - times / 2, 0.5 - times / 2, times)
    right = [
        count_koi(render(scene_of(seed), 512, 512, view=view, num_frames=1)[0])
        == len(scene_of(seed).koi)
        for seed in range(6)
    ]
    assert all(right)


def test_water_alone_holds_no_koi() -> None:
    frame = np.broadcast_to(np.array((0.15, 0.33, 0.58), np.float32), (128, 128, 3))
    measured = measure_koi(frame, "white", "blue", 1)
    assert (measured.found, measured.koi_share, measured.color_share) == (0, 0.0, 0.0)
    assert measured.is_water_right


def test_the_model_card_lists_every_file_with_its_size_and_checksum() -> None:
    card = (WEIGHTS.parent / "README.md").read_text("utf-8")
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert len(files) == 10
    for path in files:
        content = path.read_bytes()
        name, checksum = path.relative_to(WEIGHTS).as_posix(), hashlib.sha256(content).hexdigest()
        assert f"| `{name}` | {len(content):,} | `{checksum}` |" in card


def test_the_pond_needs_no_torch() -> None:
    code = "import sys, freeswim.models.demo.measure, freeswim.models.demo.koi as k; " + (
        "assert 'torch' not in sys.modules and callable(k.render)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
