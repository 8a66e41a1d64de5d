"""The whole of generate() with a real, tiny checkpoint of each architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from freeswim.generate import generate
from freeswim.models import catalog
from freeswim.models.catalog import CATALOG
from freeswim.models.conditioning import image_condition
from freeswim.models.loading import Components, load_text_encoder
from freeswim.request import Media, Request
from freeswim.sidecar import latents_path, read_sidecar
from freeswim.video.reader import probe, read_frames
from freeswim.video.writer import write_video

TEXT_ROWS = [row.name for row in CATALOG if row.takes_text]
IMAGE_ROWS = [row.name for row in CATALOG if row.takes_image]
WAN_2_1, IMAGE_2_1, FIVE_B = "wan2.1-t2v-1.3b", "wan2.1-i2v-14b-480p", "wan2.2-ti2v-5b"
EXPERTS, IMAGE_EXPERTS = "wan2.2-t2v-a14b", "wan2.2-i2v-a14b"
ARCHITECTURES = [WAN_2_1, IMAGE_2_1, FIVE_B, EXPERTS, IMAGE_EXPERTS]
BOUNDARY = {EXPERTS: 875, IMAGE_EXPERTS: 900}

LoadTiny = Callable[[str], Components]

pytestmark = pytest.mark.usefixtures("models")


@dataclasses.dataclass(frozen=True)
class Forward:
    """One row of a forward of a transformer: what it saw."""

    expert: int  # id of the transformer
    latents: Tensor  # (1, C, T, h, w)
    timestep: Tensor  # (1,) or (1, tokens)
    image_embeds: Tensor | None

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.latents.shape[3:])


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[Forward]:
    """Every row of every forward of every transformer from now on."""
    seen: list[Forward] = []
    forward = WanTransformer3DModel.forward

    @wraps(forward)
    def watched(self: WanTransformer3DModel, **inputs: Any) -> Any:
        names = ("hidden_states", "timestep", "encoder_hidden_states_image")
        for row in range(len(inputs["hidden_states"])):
            values = (inputs.get(name) for name in names)
            rows = (None if value is None else value[row : row + 1] for value in values)
            seen.append(Forward(id(self), *rows))  # type: ignore[arg-type]
        return forward(self, **inputs)

    monkeypatch.setattr(WanTransformer3DModel, "forward", watched)
    return seen


@pytest.fixture
def small_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog whose native size is 64x64: what is larger needs a refine pass."""
    rows = tuple(dataclasses.replace(row, native_width=64, native_height=64) for row in CATALOG)
    monkeypatch.setattr(catalog, "CATALOG", rows)


def picture(seed: int = 0, size: tuple[int, int] = (64, 64)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def image_file(tmp_path: Path, seed: int = 0, size: tuple[int, int] = (64, 64)) -> Media:
    path = tmp_path / f"{seed}-{size[0]}x{size[1]}.png"
    picture(seed, size).save(path)
    return Media.of(path)


def clip_file(tmp_path: Path, frames: int = 5) -> Media:
    path = tmp_path / "clip.mp4"
    pixels = np.asarray(picture(7)).astype(np.uint16) * 257
    moving = (np.roll(pixels, 4 * index, axis=1) for index in range(frames))
    write_video(
        path, moving, width=64, height=64, frame_rate=Fraction(24000, 1001), num_frames=frames
    )
    return Media.of(path)


def request_of(checkpoint: str, **fields: Any) -> Request:
    usual = {
        "kind": "text", "checkpoint": checkpoint, "prompt": "a koi swims in green water",
        "negative_prompt": "blurred", "width": 64, "height": 64, "frames": 5, "seed": 3,
        "base": {"steps": 2}, "refine": {"steps": 3, "strength": 0.7},
    }  # fmt: skip
    return Request.parse(usual | fields)


def sourced_request(checkpoint: str, tmp_path: Path, **fields: Any) -> Request:
    """From a prompt where the checkpoint can do that, else from an image."""
    if checkpoint in TEXT_ROWS:
        return request_of(checkpoint, **fields)
    return request_of(checkpoint, kind="image", first_image=image_file(tmp_path), **fields)


def made(request: Request, tmp_path: Path, name: str = "take.mp4") -> Path:
    """The finished video, of the size, length and rate that its sidecar says."""
    media = generate(request, tmp_path / name, device="cpu").media
    said, clip = read_sidecar(media)["media"], probe(media)
    assert (clip.width, clip.height, clip.num_frames) == (*request.take_size, request.frames)
    assert (said["width"], said["height"], said["frames"]) == (*request.take_size, request.frames)
    assert clip.frame_rate == Fraction(said["frame_rate"])
    return media


def pixels_of(media: Path) -> np.ndarray:
    return np.stack(list(read_frames(media)))


# ------------------------------------------------------------------------------------- base pass


@pytest.mark.parametrize("name", TEXT_ROWS)
def test_a_prompt_becomes_a_take(name: str, tmp_path: Path, forwards: list[Forward]):
    take = made(request_of(name), tmp_path)
    assert probe(take).frame_rate == catalog.find_checkpoint(name).frame_rate
    computed = read_sidecar(take)["computed"]
    assert computed["size"] == computed["base_size"] == [64, 64]
    assert (computed["device"], computed["dtype"]) == ("cpu", "float32")
    assert computed["attention_backend"] is None
    assert len(forwards) == 2 * 2  # two steps, with and without the prompt
    assert np.ptp(pixels_of(take)) > 0


@pytest.mark.parametrize("name", [IMAGE_2_1, FIVE_B, IMAGE_EXPERTS])
def test_an_image_becomes_a_take_that_depends_on_it(
    name: str, tmp_path: Path, forwards: list[Forward]
):
    request = request_of(name, kind="image", first_image=image_file(tmp_path))
    one = pixels_of(made(request, tmp_path))
    other_image = image_file(tmp_path, seed=1).model_dump(mode="json")
    other = pixels_of(made(request.changed(first_image=other_image), tmp_path, "other.mp4"))
    assert not np.array_equal(one, other)
    assert {forward.latents.shape[1] for forward in forwards} == {48 if name == FIVE_B else 36}
    has_embeds = {forward.image_embeds is not None for forward in forwards}
    assert has_embeds == {name.startswith("wan2.1")}


def test_known_first_frame_of_the_5b_has_timestep_0(tmp_path: Path, forwards: list[Forward]):
    request = request_of(FIVE_B, kind="image", first_image=image_file(tmp_path))
    made(request, tmp_path)
    for forward in forwards:
        assert forward.timestep.shape == (1, 2 * 2 * 2)  # tokens of 2 latent frames
        assert forward.timestep[0, :4].max() == 0 < forward.timestep[0, 4:].min()
        assert torch.equal(forward.latents[:, :, 0], forwards[0].latents[:, :, 0])


def test_last_image_is_marked_and_seen(tmp_path: Path, forwards: list[Forward]):
    request = request_of(IMAGE_EXPERTS, kind="image", first_image=image_file(tmp_path))
    made(request, tmp_path)
    without = forwards[0].latents
    forwards.clear()
    last = image_file(tmp_path, seed=1).model_dump(mode="json")
    made(request.changed(last_image=last), tmp_path, "between.mp4")
    mask = forwards[0].latents[:, 16:20]  # of the four frames of a latent frame
    assert without[:, 16:20, 1].max() == 0
    assert (mask[:, :, 0].min(), mask[:, :3, 1].max(), mask[:, 3, 1].min()) == (1, 0, 1)
    assert not torch.equal(forwards[0].latents[:, 20:], without[:, 20:])


@pytest.mark.parametrize("name", [EXPERTS, IMAGE_EXPERTS])
def test_both_experts_run_and_each_below_or_above_its_boundary(
    name: str, tmp_path: Path, forwards: list[Forward]
):
    made(sourced_request(name, tmp_path, base={"steps": 6}), tmp_path)
    assert len(forwards) == 6 * 2
    assert_handed_over(forwards, BOUNDARY[name])


def assert_handed_over(forwards: list[Forward], boundary: float) -> None:
    """One expert runs every forward above the boundary, the other every one below."""
    high = {forward.expert for forward in forwards if forward.timestep.max() >= boundary}
    low = {forward.expert for forward in forwards if forward.timestep.max() < boundary}
    assert len(high) == len(low) == 1
    assert high != low
    timesteps = [float(forward.timestep.max()) for forward in forwards]
    assert all(before >= after for before, after in pairwise(timesteps))


def test_guidance_of_the_low_noise_expert_is_its_own(tmp_path: Path, forwards: list[Forward]):
    base = {"steps": 6, "guidance_scale": 4.0, "low_noise_guidance_scale": 1.0}
    made(request_of(EXPERTS, base=base), tmp_path)
    high = [forward for forward in forwards if forward.timestep.max() >= BOUNDARY[EXPERTS]]
    assert 0 < len(high) // 2 < 6
    assert len(forwards) == len(high) + (6 - len(high) // 2)


# --------------------------------------------------------------------- the same as in diffusers


def draft_latents(request: Request, tmp_path: Path) -> Tensor:
    take = made(request.changed(draft=True), tmp_path)
    return load_file(latents_path(take))["latents"]


def said_to_diffusers(request: Request) -> dict[str, Any]:
    """What its pipelines have to be told for the same latents."""
    checkpoint = request.model
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "num_frames": request.frames,
        "num_inference_steps": request.base.steps,
        "guidance_scale": request.base.guidance_scale,
        "guidance_scale_2": request.base.low_noise_guidance_scale,
        "max_sequence_length": checkpoint.max_text_tokens,
        "generator": torch.Generator().manual_seed(request.seed),
        "output_type": "latent",
    }


def whole_pipeline(name: str, load_tiny: LoadTiny) -> WanImageToVideoPipeline:
    """diffusers' pipeline with all its parts."""
    pipeline = load_tiny(name).pipeline
    text = load_text_encoder(catalog.find_checkpoint(name), torch.float32)
    pipeline.register_modules(tokenizer=text.tokenizer, text_encoder=text.text_encoder)
    return pipeline


def base_of(name: str) -> dict[str, Any]:
    usual = {"steps": 4, "guidance_scale": 4.0}
    return usual | ({"low_noise_guidance_scale": 3.0} if name in BOUNDARY else {})


@pytest.mark.parametrize("name", TEXT_ROWS)
def test_base_pass_of_a_prompt_is_that_of_diffusers(name: str, tmp_path: Path, load_tiny: LoadTiny):
    request = request_of(name, base=base_of(name), height=96)
    parts = {
        part: component
        for part, component in whole_pipeline(name, load_tiny).components.items()
        if not part.startswith("image_")
    }
    said = load_tiny(name).pipeline.config
    pipeline = WanPipeline(
        **parts, boundary_ratio=said["boundary_ratio"], expand_timesteps=said["expand_timesteps"]
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(**said_to_diffusers(request)).frames
    torch.testing.assert_close(draft_latents(request, tmp_path), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name, has_last", [*((name, False) for name in IMAGE_ROWS), (IMAGE_EXPERTS, True)]
)
def test_base_pass_of_an_image_is_that_of_diffusers(
    name: str, has_last: bool, tmp_path: Path, load_tiny: LoadTiny
):
    size = (64, 96)
    images = {"first_image": image_file(tmp_path, 0, size)}
    pictures = {"image": picture(0, size)}
    if has_last:
        images["last_image"] = image_file(tmp_path, 1, size)
        pictures["last_image"] = picture(1, size)
    request = request_of(name, kind="image", base=base_of(name), height=96, **images)
    pipeline = whole_pipeline(name, load_tiny)
    assert type(pipeline) is WanImageToVideoPipeline
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(**pictures, **said_to_diffusers(request)).frames
    torch.testing.assert_close(draft_latents(request, tmp_path), expected, rtol=1e-4, atol=1e-5)


# ----------------------------------------------------------------------------------- refine pass


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_take_above_native_size_has_both_passes(
    name: str, small_native: None, tmp_path: Path, forwards: list[Forward]
):
    request = sourced_request(name, tmp_path, width=128, height=128)
    take = made(request, tmp_path)
    computed = read_sidecar(take)["computed"]
    assert (computed["base_size"], computed["size"]) == ([64, 64], [128, 128])
    assert computed["attention_backend"] not in (None, "full")
    factor = 16 if name == FIVE_B else 8
    base, refine = 64 // factor, 128 // factor
    # Two base steps of two forwards; two refine steps of two, and a full branch for each expert.
    assert [forward.size for forward in forwards[:4]] == [(base, base)] * 4
    assert {forward.size for forward in forwards[4:]} == {(refine, refine)}
    num_experts = len({forward.expert for forward in forwards[4:]})
    assert len(forwards[4:]) == 2 * 2 + num_experts


@pytest.mark.parametrize("name", [IMAGE_2_1, FIVE_B, IMAGE_EXPERTS])
def test_image_is_prepared_anew_at_the_size_of_the_refine_pass(
    name: str, small_native: None, tmp_path: Path, forwards: list[Forward], load_tiny: LoadTiny
):
    image = image_file(tmp_path, size=(200, 100))
    made(request_of(name, kind="image", first_image=image, width=128, height=128), tmp_path)
    components = load_tiny(name)
    pixels = [np.asarray(picture(size=(200, 100)))]
    for forward in (forwards[0], forwards[-1]):
        side = forward.size[0] * components.vae.config["scale_factor_spatial"]
        condition = image_condition(components, pixels, (side, side), 5)
        assert condition is not None
        if condition.channels is None:
            assert condition.first_frame is not None
            torch.testing.assert_close(forward.latents[:, :, :1], condition.first_frame)
        else:
            torch.testing.assert_close(forward.latents[:, 16:], condition.channels)
        assert (forward.image_embeds is None) == (condition.image_embeds is None)
    assert forwards[0].size != forwards[-1].size


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_clip_is_remade_at_another_size_and_keeps_its_rate(
    name: str, small_native: None, tmp_path: Path, forwards: list[Forward]
):
    request = request_of(
        name, kind="clip", clip=clip_file(tmp_path, 9), clip_start=2, width=128, height=96
    )
    take = made(request, tmp_path)
    assert probe(take).frame_rate == Fraction(24000, 1001)
    computed = read_sidecar(take)["computed"]
    assert (computed["base_size"], computed["size"]) == (None, [128, 96])
    factor = 16 if name == FIVE_B else 8
    assert {forward.size for forward in forwards} == {(96 // factor, 128 // factor)}


@pytest.mark.parametrize("name", [IMAGE_2_1, IMAGE_EXPERTS])
def test_first_frame_of_a_remade_clip_is_the_image_that_is_asked_for(
    name: str, tmp_path: Path, forwards: list[Forward], load_tiny: LoadTiny
):
    clip = clip_file(tmp_path, 9)
    made(request_of(name, kind="clip", clip=clip, clip_start=2), tmp_path)
    first = next(read_frames(clip.path, start=2, num_frames=1))
    pixels = np.rint(first / 257).astype(np.uint8)
    condition = image_condition(load_tiny(name), [pixels], (64, 64), 5)
    assert condition is not None
    for forward in forwards:
        torch.testing.assert_close(forward.latents[:, 16:], condition.channels, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", [EXPERTS, IMAGE_EXPERTS])
def test_both_experts_remake_a_clip(name: str, tmp_path: Path, forwards: list[Forward]):
    refine = {"steps": 10, "strength": 0.9, "flow_shift": 5.0}
    made(request_of(name, kind="clip", clip=clip_file(tmp_path), refine=refine), tmp_path)
    assert_handed_over(forwards, BOUNDARY[name])


# ----------------------------------------------------------------------- any size, any frame count


@pytest.mark.parametrize(
    "name, size",
    [*((name, (70, 54)) for name in ARCHITECTURES), (WAN_2_1, (71, 55)), (FIVE_B, (65, 17))],
)
def test_any_size_is_computed_larger_and_cropped(
    name: str, size: tuple[int, int], tmp_path: Path, forwards: list[Forward]
):
    multiple = 32 if name == FIVE_B else 16
    request = sourced_request(name, tmp_path, width=size[0], height=size[1])
    said = read_sidecar(made(request, tmp_path))
    width, height = (-(-side // multiple) * multiple for side in size)
    assert said["computed"]["size"] == [width, height]
    note = f"{width}x{height} is computed and cropped to {size[0]}x{size[1]}."
    assert note in said["notes"]


@pytest.mark.parametrize("name", [WAN_2_1, IMAGE_2_1, FIVE_B])
@pytest.mark.parametrize("frames, computed", [(1, 1), (6, 9)])
def test_any_number_of_frames_is_computed_longer_and_trimmed(
    name: str, frames: int, computed: int, tmp_path: Path, forwards: list[Forward]
):
    said = read_sidecar(made(sourced_request(name, tmp_path, frames=frames), tmp_path))
    assert said["computed"]["frames"] == computed
    note = f"{computed} frames are computed, the first {frames} kept."
    assert (note in said["notes"]) == (frames != computed)
    assert {forward.latents.shape[2] for forward in forwards} == {(computed - 1) // 4 + 1}


@pytest.mark.parametrize("name", [WAN_2_1, FIVE_B, IMAGE_EXPERTS])
def test_both_passes_at_a_size_and_length_between_the_multiples(
    name: str, small_native: None, tmp_path: Path
):
    request = sourced_request(name, tmp_path, width=107, height=101, frames=6)
    said = read_sidecar(made(request, tmp_path))
    side = 128 if name == FIVE_B else 112
    assert said["computed"]["size"] == [side, side]
    assert len(said["notes"]) == 2


# --------------------------------------------------------------------------------- the same again


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_same_request_makes_the_same_bytes(name: str, small_native: None, tmp_path: Path):
    request = sourced_request(name, tmp_path, width=96, height=96)
    first, second = (made(request, tmp_path, f"{take}.mp4") for take in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_another_seed_makes_another_take(tmp_path: Path):
    one, other = (
        pixels_of(made(request_of(WAN_2_1, seed=seed), tmp_path, f"{seed}.mp4")) for seed in (0, 1)
    )
    assert not np.array_equal(one, other)


def test_every_row_of_the_catalog_is_made_here():
    assert {*TEXT_ROWS, *IMAGE_ROWS} == {row.name for row in CATALOG}
    assert set(ARCHITECTURES) <= {*TEXT_ROWS, *IMAGE_ROWS}


def test_prompt_longer_than_the_checkpoint_reads_is_cut(tmp_path: Path):
    made(request_of(WAN_2_1, prompt="koi " * 2000), tmp_path)
