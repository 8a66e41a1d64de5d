"""The quality benchmark: its measures against constructed pictures, and a small run of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from freeswim.bench import blind, report
from freeswim.bench.measures import Clip, Floats, clip_figures, pond_prompts, true_render
from freeswim.bench.plan import EXACT, FULL, METHODS, WINDOW, make_plan
from freeswim.bench.quality import run
from freeswim.cli.main import main
from freeswim.errors import RequestError
from freeswim.models.demo.koi import render, sample_scene
from freeswim.models.demo.quality import (
    fine_energy,
    flicker,
    layout_db,
    luma,
    repetition,
    seam_score,
)
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.video.writer import write_video

STRENGTH = load_preset("demo").defaults["refine"]["strength"]


def pond(seed: int, size: int = 128, num_frames: int = 5) -> Floats:
    return render(sample_scene(np.random.default_rng(seed)), size, size, num_frames=num_frames)


def koi_like(places: list[tuple[int, int]], size: int = 128) -> Floats:
    """A picture with the same small shape at every place."""
    picture = np.zeros((size, size))
    shape = np.outer(np.hanning(14), np.hanning(8))
    for row, column in places:
        picture[row : row + 14, column : column + 8] += shape
    return picture


# ------------------------------------------------------------------------------------- measures


@pytest.mark.parametrize(("factor", "num_prompts"), [(1, 12), (2, 4), (4, 2)])
def test_a_true_render_is_counted_without_error(factor: int, num_prompts: int) -> None:
    fields = load_preset("demo").defaults | {"width": 128 * factor, "height": 128 * factor}
    for index, prompt in enumerate(pond_prompts(num_prompts)):
        request = Request.parse({"kind": "text", "prompt": prompt.text, "seed": index, **fields})
        frames = true_render(prompt, request)
        clip = clip_figures(
            prompt, index, factor, "true", None, frames,
            base=frames.reshape(len(frames), 128, factor, 128, factor, 3).mean((2, 4)),
            truth=frames, seconds=0.0,
        )  # fmt: skip
        assert clip.error == 0 and clip.found == prompt.count
        assert clip.color is not None and clip.color > 0.85
        assert clip.fine == 1 and clip.layout_db == pytest.approx(60)
        assert factor == 1 or clip.seam < report.SEAM_VISIBLE
        assert clip.repetition < 0.7  # three alike are 2 / 3 at most


def test_all_words_of_the_pond_are_asked_for() -> None:
    prompts = pond_prompts(24)
    assert len({prompt.text for prompt in prompts}) == 24
    for words in ("count", "color", "direction", "water"):
        counts = [getattr(prompt, words) for prompt in prompts]
        assert min(counts.count(word) for word in set(counts)) >= 24 // len(set(counts)) - 2


def test_what_is_enlarged_without_detail_has_little_fine_energy() -> None:
    sharp, small = pond(2, 256)[0], pond(2, 64)[0]
    image = Image.fromarray((small * 255).astype(np.uint8)).resize((256, 256))
    assert fine_energy(np.asarray(image) / 255) < 0.1 * fine_energy(sharp)
    assert fine_energy(np.ones((64, 64, 3))) < 1e-12


@pytest.mark.parametrize("axis", [1, 2])
def test_the_edge_of_a_tile_is_a_seam_and_nothing_in_the_pond_is(axis: int) -> None:
    for seed in range(6):
        frames = pond(seed, 256)
        assert seam_score(frames) < report.SEAM_VISIBLE
        tiled = frames.swapaxes(0, axis).copy()
        tiled[128:] += 3 / 255  # hardly to be seen
        assert 1.5 < seam_score(tiled.swapaxes(0, axis)) < 3.5


def test_tiles_made_apart_have_a_seam() -> None:
    scores = []
    for seed in range(6):
        left, right = pond(seed, 128).copy(), pond(seed + 50, 128)
        left[:, :, 64:] = right[:, :, 64:]
        scores.append(seam_score(left))
    assert sorted(scores)[1] > 2  # but where two ponds have the same water by chance


def test_a_line_that_moves_with_the_picture_is_no_seam() -> None:
    moving, still = np.full((2, 9, 64, 64, 3), 0.5)
    for index in range(9):
        moving[index, :, 10 + 5 * index :] += 0.05
    still[:, :, 30:] += 0.05
    assert seam_score(moving) < 0.2 * seam_score(still)


def test_flicker_is_what_comes_and_goes() -> None:
    still = pond(0)[:1].repeat(6, 0)
    light = np.array([0, 1, 0, 1, 0, 1]).reshape(-1, 1, 1, 1)
    assert flicker(still) == 0
    assert flicker(still + 0.02 * light) == pytest.approx(0.04)  # -1, 2, -1 times the change
    moving = still.copy()
    moving[1::2, :40, :40] = 0  # in a part of the frame
    assert flicker(moving) == 0
    assert flicker(still + 0.02 * np.arange(6).reshape(-1, 1, 1, 1)) == pytest.approx(0, abs=1e-6)


def test_repetition_rises_with_every_copy_in_a_row_and_is_none_for_one() -> None:
    alone = repetition(koi_like([(30, 30)]))
    two = repetition(koi_like([(30, 30), (80, 60)]))
    row = repetition(koi_like([(20, 16 * index) for index in range(1, 7)]))
    lattice = repetition(koi_like([(24 * r, 24 * c) for r in range(5) for c in range(5)]))
    assert alone < 0.01
    assert two == pytest.approx(1 / 2, abs=0.02)
    assert row == pytest.approx(5 / 6, abs=0.02)
    assert lattice == pytest.approx(4 / 5, abs=0.02)
    assert repetition(np.ones((32, 32))) == 0


def test_scattered_things_repeat_less_than_a_lattice_of_as_many() -> None:
    rng = np.random.default_rng(0)
    places = [(int(row), int(column)) for row, column in rng.integers(0, 110, (16, 2))]
    lattice = [(28 * row, 28 * column) for row in range(4) for column in range(4)]
    assert repetition(koi_like(places)) < 0.6 * repetition(koi_like(lattice))


def test_layout_is_that_of_the_draft_however_sharp_the_picture() -> None:
    large = pond(1, 256)
    small = large.reshape(5, 128, 2, 128, 2, 3).mean((2, 4))
    assert layout_db(large, small) == pytest.approx(60)
    assert layout_db(large, small[:, ::-1]) < 25
    assert luma(np.ones((2, 3))) == pytest.approx(1)


# ------------------------------------------------------------------------------ means and claims


def clip_of(method: str, error: float, *, seed: int = 0, factor: int = 4, **changes) -> Clip:
    strength = None if method == "draft" else STRENGTH
    values = dict(found=2.0, color=1.0, layout_db=20.0, fine=1.0, seam=0.4, flicker=5.0)
    return Clip(
        "two koi", seed, factor, method, strength, error=error,
        **(values | dict(repetition=0.5, seconds=1.0) | changes),
    )  # fmt: skip


def test_a_mean_has_students_interval() -> None:
    estimate = report.estimate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert estimate.mean == 3.5
    assert estimate.half == pytest.approx(2.571 * 1.8708 / 6**0.5, rel=0.02)  # t of 5 degrees
    many = report.estimate([float(value % 2) for value in range(48)])
    assert many.half == pytest.approx(2.0117 * 0.50529 / 48**0.5, rel=1e-3)
    assert report.estimate([7.0]) == report.Estimate(7.0, 0.0)


def claims_of(**errors: float) -> dict[str, bool]:
    """Which claims hold for clips with these count errors of the exact way and others."""
    plan = replace(make_plan(), factors=(4,))
    clips = []
    for seed in range(8):
        for method in METHODS:
            error = errors.get(method.guidance, errors["exact"])
            error = errors["window"] if method.name == WINDOW else error
            seam = 0.4 if method.name == FULL else errors.get("seam", 0.4)
            clips.append(clip_of(method.name, error + 0.1 * (seed % 2), seed=seed, seam=seam))
        clips.append(clip_of("draft", errors["draft"], seed=seed))
    found = report.claims(clips, plan)
    assert len(found) == 5
    names = ("draft", "window", "seams", "native", "interpolated")
    return {name: claim.holds for name, claim in zip(names, found, strict=True)}


def test_claims_hold_and_fail_by_the_numbers() -> None:
    good = claims_of(exact=0.5, window=2.0, draft=0.5)
    assert all(good.values())
    assert not claims_of(exact=1.0, window=3.0, draft=0.5)["draft"]
    assert not claims_of(exact=1.0, window=1.5, draft=1.0)["window"]
    assert not claims_of(exact=0.5, window=2.0, draft=0.5, seam=2.0)["seams"]
    assert claims_of(exact=0.5, window=2.0, draft=0.5, seam=1.8)["seams"]
    assert not claims_of(exact=0.5, window=2.0, draft=0.5, native=0.9)["native"]
    assert claims_of(exact=0.5, window=2.0, draft=0.5, interpolated=0.2)["interpolated"]


def test_clips_that_nobody_can_count_have_no_such_columns() -> None:
    plan = replace(make_plan(), factors=(4,))
    clips = [
        replace(clip_of(name, 0.0, seed=seed), error=None, found=None, color=None)
        for name in ("draft", EXACT, WINDOW, FULL)
        for seed in range(3)
    ]
    text = report.markdown(clips, plan)
    assert "count error" not in text and "colour" not in text and "layout dB" in text
    assert len(report.claims(clips, plan)) == 1


# ------------------------------------------------------------------------------------- a quick run


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick run by two processes."""
    folder = tmp_path_factory.mktemp("quality") / "report"
    arguments = ["bench", "quality", "--quick", "--device", "cpu", "--threads", "1"]
    assert main([*arguments, "--workers", "2", "--out", str(folder)]) == 0
    return folder


def test_a_quick_run_measures_every_method(quick: Path) -> None:
    report = json.loads((quick / "quality.json").read_text("utf-8"))
    methods = [row["method"] for row in report["rows"]]
    assert methods == [
        "draft", "bilinear", "true render", "true render, coded", *(m.name for m in METHODS),
    ]  # fmt: skip
    assert len(report["clips"]) == 2 * len(methods)
    truth = next(row for row in report["rows"] if row["method"] == "true render")
    assert truth["figures"]["error"]["mean"] == 0 and truth["figures"]["fine"]["mean"] == 1
    draft = next(row for row in report["rows"] if row["method"] == "draft")
    assert draft["figures"]["layout_db"]["mean"] == 60


def test_a_quick_run_leaves_a_table_and_a_sheet(quick: Path) -> None:
    table = (quick / "quality.md").read_text("utf-8")
    assert "| method | strength | count error |" in table
    assert f"| {EXACT} | {STRENGTH} |" in table and "| what the numbers have to show |" in table
    with Image.open(quick / f"2x-{STRENGTH}.png") as sheet:
        assert sheet.width > 11 * 160 and sheet.height > 2 * 160


def test_units_that_are_there_are_not_made_again(quick: Path, tmp_path: Path) -> None:
    """A run that was cut goes on; what it has is taken as it is."""
    units = shutil.copytree(quick / "units", tmp_path / "units")
    place = units / "2x-00-0.json"
    clips = json.loads(place.read_text("utf-8"))
    clips[0]["seam"] = 123.0
    place.write_text(json.dumps(clips))
    notes: list[str] = []
    assert run(make_plan(quick=True), units, on_note=notes.append)[0].seam == 123
    assert notes == []
    with pytest.raises(RequestError, match="something else"):
        run(replace(make_plan(quick=True), frames=9), units)


def test_prompts_that_cannot_be_read_are_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["bench", "quality", "--prompts", str(tmp_path / "none.txt")]
    assert main(arguments) != 0
    assert "cannot be read" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- blind tests


@pytest.fixture
def kit(quick: Path, tmp_path: Path) -> Path:
    """A kit of the quick run's pairs."""
    folder = tmp_path / "kit"
    assert main(["bench", "blind", str(quick / "units/manifest.json"), "--out", str(folder)]) == 0
    return folder


def test_a_kit_shows_pairs_and_says_nowhere_which_is_which(kit: Path) -> None:
    names = {path.name for path in kit.iterdir()}
    assert {"index.html", "answers.csv", "key", "pair-01.png", "pair-04-right.mp4"} <= names
    seen = (kit / "index.html").read_text("utf-8") + (kit / "answers.csv").read_text("utf-8")
    assert "koi swimming" in seen
    assert not any(word.lower() in seen.lower() for word in ("FreeSwim", "window", "attention"))
    key = json.loads((kit / "key/key.json").read_text("utf-8"))
    assert len(key) == 4 and all(EXACT in sides.values() for sides in key.values())


def test_sides_are_shuffled_by_the_seed(quick: Path, tmp_path: Path) -> None:
    keys = []
    for seed in (1, 1, 2, 3):
        folder = tmp_path / f"kit-{len(keys)}"
        blind.make_kit(quick / "units/manifest.json", folder, seed=seed)
        keys.append((folder / "key/key.json").read_text("utf-8"))
    assert keys[0] == keys[1] and len(set(keys)) > 1


def test_answers_are_counted_by_the_key(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = json.loads((kit / "key/key.json").read_text("utf-8"))
    for_ours = {
        name: next(side for side, way in sides.items() if way == EXACT)
        for name, sides in key.items()
    }
    lines = [f"{name},{side.upper()}," for name, side in for_ours.items()]
    lines[-1] = lines[-1].split(",")[0] + ",same,"
    (kit / "answers.csv").write_text("pair,better,why\n" + "\n".join(lines) + "\n")
    scores = blind.score(kit)
    ours = sum(one.preferred[one.ways.index(EXACT)] for one in scores)
    assert (ours, sum(sum(one.preferred) for one in scores), sum(one.same for one in scores)) == (
        3, 3, 1,
    )  # fmt: skip
    assert main(["bench", "score", str(kit)]) == 0
    assert EXACT in capsys.readouterr().out
    (kit / "answers.csv").write_text("pair,better,why\npair-01,upper,\n")
    with pytest.raises(RequestError, match="'upper'"):
        blind.score(kit)


def test_a_coin_falls_unevenly_by_chance() -> None:
    assert blind.coin_chance(5, 5) == 1
    assert blind.coin_chance(10, 0) == pytest.approx(2 / 1024)
    assert blind.coin_chance(0, 0) == 1


def video(path: Path) -> None:
    frames = (np.full((32, 32, 3), 30_000, np.uint16) for _ in range(2))
    write_video(path, frames, width=32, height=32, frame_rate=Fraction(16), num_frames=2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not json", "no manifest"),
        ("[]", "has no pairs"),
        ('{"pairs": []}', "has no pairs"),
        ('{"pairs": [{"clips": {"one": "a.mp4"}}]}', "Pair 1 .* not two clips"),
        ('{"pairs": [{"clips": {"one": "a.mp4", "two": 3}}]}', "not two clips"),
        ('{"pairs": [{"clips": {"one": "a.mp4", "two": "gone.mp4"}}]}', "no file .*gone.mp4"),
        ('{"pairs": [{"clips": {"one": "a.mp4", "two": "a.mov"}}]}', "endings"),
    ],
)
def test_a_manifest_that_is_none_is_refused(content: str, said: str, tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    (tmp_path / "a.mov").write_bytes(b"")
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(RequestError, match=said):
        blind.make_kit(tmp_path / "manifest.json", tmp_path / "kit")
    assert not (tmp_path / "kit").exists()
