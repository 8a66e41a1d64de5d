"""The demo checkpoint's training, at a size that shows nothing but that every stage works."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from filelock import FileLock
from safetensors.torch import load_file

from freeswim.models.demo import train
from freeswim.models.demo.koi import View, caption, render, sample_scene
from freeswim.models.demo.measure import count_koi, koi_mask
from freeswim.models.demo.pace import paced
from freeswim.models.demo.scene import HEADING_RAD
from freeswim.models.demo.training import contrast, lean
from freeswim.models.demo.training.autoencoder import texture_loss
from freeswim.models.demo.training.evaluation import direction_of
from freeswim.models.demo.training.latents import Encoded
from freeswim.models.demo.training.optimiser import orthogonalised
from freeswim.models.demo.training.recipe import (
    AGAIN,
    COUNTS,
    FULL,
    QUICK,
    QUICK_AGAIN,
    QUICK_COUNTS,
    Bucket,
    Recipe,
)
from freeswim.models.demo.training.run import make_checkpoint
from freeswim.models.demo.training.samples import autoencoder_crop, captioned_clip
from freeswim.models.demo.training.stage import OutOfTime, Run
from freeswim.models.demo.training.text import as_tokens, encode, make_encoder, make_tokenizer
from freeswim.models.demo.training.transformer import grown, odds_of

WEIGHTS = Path(train.__file__).parent / "weights"
CPU = torch.device("cpu")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Every weight of the checkpoint that a run made, by its file and name."""
    return {
        f"{path.relative_to(folder)} {name}": weight
        for path in sorted((folder / "model").rglob("*.safetensors"))
        for name, weight in load_file(path).items()
    }


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    assert train.main(["--folder", str(folder), "--quick"]) == 0
    torch.set_num_threads(threads)
    return folder


def test_the_checkpoint_that_a_run_makes_is_a_stock_pipeline(whole: Path) -> None:
    words = json.loads((whole / "model/tokenizer/tokenizer.json").read_text("utf-8"))
    assert words["padding"] is None and words["truncation"] is None
    pipeline = WanPipeline.from_pretrained(whole / "model", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        "two koi", height=32, width=48, num_frames=5, num_inference_steps=2, output_type="np"
    )
    assert made.frames[0].shape == (5, 32, 48, 3)
    ours = {path.relative_to(WEIGHTS) for path in WEIGHTS.rglob("*") if path.is_file()}
    assert {
        path.relative_to(whole / "model") for path in (whole / "model").rglob("*") if path.is_file()
    } == ours


def test_the_card_says_how_the_checkpoint_was_made(whole: Path) -> None:
    card = json.loads((whole / "card.json").read_text("utf-8"))
    assert set(card["seconds"]) == {"autoencoder", "decoder", "transformer"}
    assert card["recipe"]["transformer"]["steps"] == QUICK.transformer.steps
    assert {"exact", "direction", "color", "water", "psnr_128", "fine_128"} <= set(card["figures"])
    assert len(card["files"]) == 10 and card["machine"]["threads"] == 1


def test_the_log_has_a_line_for_every_step_and_measurement(whole: Path) -> None:
    lines = lines_of(whole)
    assert lines[0]["begin"] == "quick" and lines[-1]["done"]
    for stage in ("autoencoder", "decoder", "transformer"):
        of_stage = [line for line in lines if line.get("stage") == stage]
        steps = [line["step"] for line in of_stage if "seconds_per_step" in line]
        assert steps == list(range(1, getattr(QUICK, stage).steps + 1))
        assert any("held_out" in key for line in of_stage for key in line)


def test_a_run_that_was_killed_goes_on_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "freeswim.models.demo.train", "--quick"]
    process = subprocess.Popen(
        [*command, "--folder", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log = tmp_path / "log.jsonl"
    while '"stage": "transformer", "step": 3' not in (log.read_text() if log.exists() else ""):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "card.json").exists()
    with log.open("a") as file:
        file.write('{"stage": "trans')  # as if the kill had met a line
    (tmp_path / ".transformer.0.part").mkdir()  # or a file
    assert train.main(["--folder", str(tmp_path), "--quick", "--resume"]) == 0
    assert_equal_weights(whole, tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    assert json.loads(log.read_text("utf-8").splitlines()[-1])["done"]


def assert_equal_weights(first: Path, second: Path) -> None:
    wanted, got = weights_of(first), weights_of(second)
    assert wanted.keys() == got.keys()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_a_run_in_slices_of_no_time_comes_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    """Each slice does the least it can, a step or a file of latents."""
    for _ in range(100):
        try:
            make_checkpoint(QUICK, Run(tmp_path, deadline=time.monotonic()), CPU)
            break
        except OutOfTime:
            assert not (tmp_path / "card.json").exists()
    assert_equal_weights(whole, tmp_path)


def test_a_run_out_of_time_says_so(tmp_path: Path) -> None:
    arguments = ["--folder", str(tmp_path), "--quick", "--minutes", "0"]
    assert train.main(arguments) == 3
    assert lines_of(tmp_path)[-1]["out_of_time"]


def test_a_folder_with_a_run_is_only_gone_on_with_by_its_own_recipe(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--folder", str(whole), "--quick"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert train.main(["--folder", str(whole), "--resume"]) == 2
    assert "another recipe" in capsys.readouterr().err
    with FileLock(whole / "lock"):
        assert train.main(["--folder", str(whole), "--quick", "--resume"]) == 2
    assert "Another process" in capsys.readouterr().err


def test_another_round_keeps_the_autoencoder_and_trains_the_rest(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = tmp_path / "again", whole / "model"
    arguments = ["--folder", str(folder), "--quick", "--after"]
    assert train.main([*arguments, str(tmp_path / "none")]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    assert train.main([*arguments, str(model)]) == 0
    first, second = weights_of(whole), weights_of(folder)
    assert first.keys() == second.keys()
    is_same = {name: torch.equal(first[name], second[name]) for name in first}
    assert {name.split("/")[1] for name in first if is_same[name]} == {"vae"}
    assert not all(is_same[name] for name in first if "text_encoder" in name)
    assert (folder / "model/vae/config.json").read_bytes() == (
        model / "vae/config.json"
    ).read_bytes()
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert set(card["seconds"]) == {"transformer"}
    assert train.main([*arguments, str(folder / "model"), "--resume"]) == 2
    assert "another recipe" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", [QUICK_AGAIN, QUICK_COUNTS], ids=lambda recipe: recipe.name)
def test_another_round_in_slices_comes_to_the_same_weights(
    recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    undisturbed, sliced = Run(tmp_path / "one"), Run(tmp_path / "two", deadline=time.monotonic())
    for run in (undisturbed, sliced):
        run.folder.mkdir()
    make_checkpoint(recipe, undisturbed, CPU, after=whole / "model")
    for _ in range(100):
        try:
            make_checkpoint(recipe, sliced, CPU, after=whole / "model")
            break
        except OutOfTime:
            assert not (sliced.folder / "card.json").exists()
    assert_equal_weights(undisturbed.folder, sliced.folder)


def test_the_round_about_counts_trains_the_transformer_alone(whole: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    arguments = ["--folder", str(tmp_path), "--quick", "--after", str(whole / "model"), "--counts"]
    assert train.main(arguments) == 0
    torch.set_num_threads(threads)
    first, second = weights_of(whole), weights_of(tmp_path)
    changed = {name.split("/")[1] for name in first if not torch.equal(first[name], second[name])}
    assert changed == {"transformer"}
    steps = [line for line in lines_of(tmp_path) if "loss_pushed" in line]
    assert len(steps) == QUICK_COUNTS.transformer.steps
    card = json.loads((tmp_path / "card.json").read_text("utf-8"))
    assert card["recipe"]["pushes"] == [list(row) for row in COUNTS.pushes or ()]


def test_counts_are_only_taught_to_a_finished_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--folder", str(tmp_path / "run"), "--quick", "--counts"]) == 2
    assert "--after" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_velocities_are_pushed_from_those_of_other_counts_where_noise_is_strong() -> None:
    known = torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1, 1, 1, 1).expand(3, 4, 1, 1, 1, 1)
    asked, sigma = torch.tensor([0, 1, 2, 2]), torch.tensor([1.0, 0.95, 0.875, 0.8])
    pushes = torch.tensor([[0, 0.5, 0.25], [1, 0, 2], [0, -3, 0]])
    got = contrast.pushed(known, asked, sigma, pushes).flatten()
    wanted = [1 - 0.5 * 1 - 0.25 * 5, 2 + 1 * 1 - 2 * 4, 6 - 0.5 * 3 * 4, 6.0]
    torch.testing.assert_close(got, torch.tensor(wanted))


def test_a_transformer_comes_nearer_to_its_pushed_velocities() -> None:
    torch.manual_seed(5)
    tokenizer = make_tokenizer()
    encoder = make_encoder(QUICK.text_config, tokenizer).eval()
    model: Any = WanTransformer3DModel(**QUICK.transformer_config)
    with torch.no_grad():
        for block in model.blocks:  # so that a word makes a difference
            block.attn2.to_out[0].weight.mul_(30)
    bucket = Bucket(2, 2, 5, clips=8, batch=8, share=1.0)
    captions = [f"{count} red koi swimming left" for count in ("one", "two", "three", "two") * 2]
    encoded = [Encoded(bucket, torch.randn(8, 8, 2, 2, 2), captions)]
    recipe = replace(
        QUICK_COUNTS,
        buckets=(bucket,),
        first_frames_share=0,
        last_frames_share=0,
        pushes=((20,) * 3,) * 3,
    )
    scale = torch.zeros(8), torch.ones(8)
    learner = contrast.trainee(model, encoder, tokenizer, encoded, scale, recipe)
    distances = []
    for step in range(60):
        loss, figures = learner.loss(step)
        for weight in learner.optimiser.weights.values():
            weight.grad = None
        loss.backward()
        learner.optimiser.step(20.0)  # far above its rate: the transformer has random weights
        distances.append(figures["loss_pushed"])
    assert distances[0] > 0
    assert np.mean(distances[-10:]) < 0.5 * np.mean(distances[:3])


def test_a_transformer_that_grew_makes_what_it_made_before() -> None:
    torch.manual_seed(3)
    small: Any = WanTransformer3DModel(**QUICK.transformer_config)
    large: Any = WanTransformer3DModel(**{**QUICK.transformer_config, "num_layers": 5})
    large.load_state_dict(grown(large, small.state_dict()))
    inputs = torch.randn(1, 8, 2, 2, 3), torch.tensor([700.0]), torch.randn(1, 16, 64)
    with torch.no_grad():
        before, after = (model(*inputs, return_dict=False)[0] for model in (small, large))
    assert before.std() > 0.1
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize(
    ("more", "reason"), [((), "--after"), (("--after", str(WEIGHTS)), "has 6 layers")]
)
def test_layers_are_only_added_to_a_finished_checkpoint(
    more: tuple[str, ...], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert train.main(["--folder", str(folder), "--quick", "--layers", "3", *more]) == 2
    assert reason in capsys.readouterr().err
    assert not (folder / "recipe.json").exists()


def test_a_round_can_grow_the_transformer(whole: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    after = str(whole / "model")
    arguments = ["--folder", str(tmp_path), "--quick", "--after", after, "--layers", "3"]
    assert train.main(arguments) == 0
    torch.set_num_threads(threads)
    made: Any = WanPipeline.from_pretrained(tmp_path / "model").transformer
    assert len(made.blocks) == 3
    assert made.blocks[1].ffn.net[2].weight.abs().max() > 0  # it began with none


def test_rates_rise_to_their_height_and_fall_to_the_floor() -> None:
    for schedule in (FULL.transformer, AGAIN.transformer, COUNTS.transformer):
        rates = [schedule.rate(step) for step in range(schedule.steps)]
        assert max(rates) == pytest.approx(schedule.height, rel=0.01)
        assert (
            rates[0] < 0.06 * schedule.height and rates[-1] < 1.2 * schedule.floor * schedule.height
        )


# ------------------------------------------------------------------------------------- the data


def test_clips_that_say_how_many_koi_are_picked_as_often_as_asked() -> None:
    texts = ["two red koi", "red koi", "close-up of red koi", "one red koi", "red koi", "held out"]
    bucket = Bucket(1, 1, 1, clips=6, batch=1, share=1.0)
    odds = odds_of(Encoded(bucket, torch.zeros(6, 1, 1, 1, 1), texts), 0.8)
    assert odds is not None
    np.testing.assert_allclose(odds, [0.4, 0.2 / 3, 0.2 / 3, 0.4, 0.2 / 3])

    alike = odds_of(Encoded(bucket, torch.zeros(6, 1, 1, 1, 1), ["one red koi"] * 6), 0.8)
    assert alike is not None
    np.testing.assert_allclose(alike, [0.2] * 5)


def test_data_depend_on_their_number_alone() -> None:
    first, text = captioned_clip(0, 0, 7, 8, 8, 5)
    captioned_clip(0, 0, 8, 8, 8, 5)
    again, same_text = captioned_clip(0, 0, 7, 8, 8, 5)
    assert np.array_equal(first, again) and text == same_text
    assert not np.array_equal(first, captioned_clip(1, 0, 7, 8, 8, 5)[0])
    assert not np.array_equal(
        autoencoder_crop(0, 3, 32, 1), autoencoder_crop(0, 3, 32, 1, held_out=True)
    )


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (12, 12), (8, 12), (12, 8)])
def test_captions_with_a_count_show_all_of_their_koi(rows: int, columns: int) -> None:
    right, counted = 0, 0
    for index in range(32):
        frames, text = captioned_clip(0, 1, index, rows, columns, 1)
        assert frames.shape == (1, 16 * rows, 16 * columns, 3)
        words = text.split()
        if words[0] in ("one", "two", "three"):
            counted += 1
            right += count_koi(frames[0]) == ("one", "two", "three").index(words[0]) + 1
    assert counted >= 8
    assert right >= counted - 1  # two koi that touch are one


def test_half_of_the_close_ups_are_called_so_and_half_as_a_wide_view() -> None:
    texts = [captioned_clip(0, 0, index, 8, 8, 1)[1].split() for index in range(200)]
    named = sum(words[0] == "close-up" and "koi" in words for words in texts)
    plain = sum(words[1] == "koi" for words in texts)
    assert 20 < named < 60 and 20 < plain < 60
    assert 90 < sum(words[0] in ("one", "two", "three") for words in texts) < 150


def test_paced_koi_swim_in_17_frames_what_they_swim_in_9() -> None:
    for seed in range(6):
        scene = sample_scene(np.random.default_rng(seed))
        nine, seventeen = paced(scene, 9), paced(scene, 17)
        assert nine == scene
        for before, after in zip(scene.koi, seventeen.koi, strict=True):
            for time_before, time_after in ((0, 0), (0.5, 1), (1, 2)):
                assert after.centre(time_after) == pytest.approx(before.centre(time_before))
        frames = render(seventeen, 64, 64, num_frames=17)
        assert direction_of(frames) == scene.direction
        # All of them are in the frame to the end: as much koi as at the beginning.
        first, last = (koi_mask(frames[index]).sum() for index in (0, -1))
        assert 0.75 < last / first < 1.33


def test_a_still_clip_has_no_direction() -> None:
    scene = sample_scene(np.random.default_rng(0))
    still = render(scene, 64, 64, num_frames=1).repeat(3, 0)
    assert direction_of(still) is None
    assert direction_of(np.full((2, 64, 64, 3), (0.1, 0.3, 0.5))) is None
    assert set(HEADING_RAD) == {"right", "down", "left", "up"}


def test_the_longest_caption_leaves_room_for_a_pad() -> None:
    tokenizer = make_tokenizer()
    scene = sample_scene(np.random.default_rng(0), lily_pads=True)
    pad = scene.lily_pads[0].centre
    text = caption(scene, View(0.0, 0.0, 1.0))
    assert text.endswith("with lily pads") and text.startswith("close-up of") and pad
    tokens = as_tokens(tokenizer, [text])[0]
    assert tokens[-1] == 0 and 2 not in tokens  # a pad at the end, and no unknown word
    assert len(tokenizer) == 34


# ------------------------------------------------------------------------------------- its parts


@pytest.fixture(scope="module")
def tiny() -> Recipe:
    return replace(QUICK, transformer_config=dict(QUICK.transformer_config, num_layers=2))


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_the_lean_forward_is_the_models_own(tiny: Recipe, bias: float) -> None:
    """Forwards and backwards; a pad that counts for 20 is 20 pads."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(**tiny.transformer_config)
    latents, text = torch.randn(2, 8, 2, 3, 2), torch.randn(2, 4, 64)
    text[:, -1] = 0
    timesteps = torch.tensor([100.0, 900.0])
    num_pads = round(np.exp(bias))
    padded = torch.cat([text[:, :-1], torch.zeros(2, num_pads, 64)], 1)
    wanted = model(latents, timesteps, padded, return_dict=False)[0]
    biases = torch.zeros(2, 4)
    biases[:, -1] = float(np.log(num_pads))
    got = lean.forward(model, latents, timesteps, text, biases, compiled=False)
    assert (got - wanted).norm() / wanted.norm() < 2e-2  # bfloat16

    direction = torch.randn(wanted.shape)
    of_model = torch.autograd.grad((wanted * direction).sum(), list(model.parameters()))
    of_lean = torch.autograd.grad((got * direction).sum(), list(model.parameters()))
    for name, wanted_one, got_one in zip(
        dict(model.named_parameters()), of_model, of_lean, strict=True
    ):
        # Of a key's bias, which a softmax does not see, both are rounding.
        if wanted_one.norm() > 1e-3:
            assert (got_one - wanted_one).norm() / wanted_one.norm() < 6e-2, name


def test_text_encoding_ignores_pads() -> None:
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    encoder = make_encoder(QUICK.text_config, tokenizer).eval()
    tokens = as_tokens(tokenizer, ["two koi", "two koi in blue water"])
    hidden = encode(encoder, tokens)
    assert (hidden[0, 3:] == 0).all() and (hidden[0, :3] != 0).any()
    assert torch.allclose(hidden[0, :3], encode(encoder, tokens[:1, :3])[0], atol=1e-6)


def test_muon_brings_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 12, 20), (2, 30, 10)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape, generator=generator)))
        assert values.min() > 0.6 and values.max() < 1.4


def test_texture_that_lies_elsewhere_is_better_than_none() -> None:
    """Where pixels say the opposite."""
    across = torch.arange(64.0)
    waves = [0.4 * torch.sin(across * 0.9 + phase).expand(1, 3, 1, 64, 64) for phase in (0, 2)]
    none = torch.zeros(1, 3, 1, 64, 64)
    assert texture_loss(waves[1], waves[0]) < 0.2 * texture_loss(none, waves[0])
    assert (waves[1] - waves[0]).pow(2).mean() > (none - waves[0]).pow(2).mean()
    assert texture_loss(waves[0], waves[0]) == 0


def test_the_full_recipe_makes_a_checkpoint_that_may_be_committed() -> None:
    """At most 16 MB in float16, and the larger grids in a tenth to a fifth of the steps."""
    with torch.device("meta"):
        parts = (
            AutoencoderKLWan(**FULL.vae_config),
            WanTransformer3DModel(**FULL.transformer_config),
        )
    num_bytes = 2 * sum(weight.numel() for part in parts for weight in part.parameters())
    assert num_bytes < 15.5e6
    clips = [bucket for bucket in FULL.buckets if bucket.frames > 1]
    larger = sum(bucket.share for bucket in clips if (bucket.rows, bucket.columns) != (8, 8))
    assert 0.1 <= larger <= 0.2 and sum(bucket.share for bucket in clips) == pytest.approx(1)
