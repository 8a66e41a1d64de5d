from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_wan import NEGATIVE, TEXT, latents_of, noise, tiny_transformer
from torch import Tensor
from torch.nn.functional import interpolate

from freeswim import limits
from freeswim.method import RefineSettings, refine
from freeswim.method.denoise import ImageCondition, LowNoiseExpert
from freeswim.method.guidance import interpolated_positions, pick, spread
from freeswim.method.schedule import ResumePoint
from freeswim.method.settings import Guidance
from freeswim.method.window import InwardWindow

NATIVE = (3, 4)
CPU = torch.device("cpu")
GUIDANCES = get_args(Guidance)


def settings(guidance: Guidance, **changes: Any) -> RefineSettings:
    defaults = dict(steps=10, strength=0.7, refresh_interval=3, guidance_scale=4.0)
    return RefineSettings(**{**defaults, "guidance": guidance, **changes})


def refined(guidance: Guidance, *, native: tuple[int, int] = NATIVE, **keywords: Any) -> Tensor:
    changes = keywords.pop("changes", {})
    transformer = keywords.pop("transformer", None) or tiny_transformer()
    latents = keywords.pop("latents", None)
    return refine(
        transformer, latents_of() if latents is None else latents, TEXT, NEGATIVE,
        native_grid=native, settings=settings(guidance, **changes), **keywords,
    )  # fmt: skip


# ------------------------------------------------------------------------- equal where they must


@pytest.mark.parametrize("temperature", ["official", "entropy", "none"])
@pytest.mark.parametrize("guidance", ["interpolated", "native"])
@pytest.mark.parametrize("native", [(6, 7), (9, 7)])
def test_at_the_native_grid_every_mode_is_the_method(guidance, temperature, native):
    changes = {"temperature": temperature}
    exact = refined("full", native=native, changes=changes)
    assert torch.equal(refined(guidance, native=native, changes=changes), exact)


@pytest.mark.parametrize("guidance", ["interpolated", "native", "none"])
def test_above_the_native_grid_every_mode_is_another_result(guidance):
    got = refined(guidance)
    assert got.isfinite().all()
    assert not torch.allclose(got, refined("full"), rtol=1e-3)


# --------------------------------------------------------------------------- what it is made of


def test_positions_at_scale_one_are_the_transformers_own():
    rope, latents = tiny_transformer().rope, latents_of(6, 7, 3)
    window = InwardWindow(3, 6, 7, native_rows=6, native_columns=8)
    for got, want in zip(interpolated_positions(rope, window, CPU), rope(latents), strict=True):
        assert torch.equal(got, want)


def test_positions_are_drawn_together_in_space_and_not_in_time():
    """At twice the size every second token stands where a token of the native grid stands."""
    rope = tiny_transformer().rope
    window = InwardWindow(3, 6, 12, native_rows=3, native_columns=4)
    want = rope(latents_of(3, 4, 3))
    for got, native in zip(interpolated_positions(rope, window, CPU), want, strict=True):
        picked = got.view(3, 6, 12, -1)[:, ::2, ::3]
        torch.testing.assert_close(picked, native.view(3, 3, 4, -1), rtol=0, atol=1e-6)
    cosines, sines = (
        table.view(3, 6, 12, -1) for table in interpolated_positions(rope, window, CPU)
    )
    first_row = rope.t_dim  # the first, fastest frequency of the rows
    assert cosines[0, 1, 0, first_row] == pytest.approx(math.cos(0.5))
    assert sines[0, 0, 1, rope.t_dim + rope.h_dim] == pytest.approx(math.sin(1 / 3))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_picked_values_are_the_ones_nearest_to_the_middles(height, width, rows, columns):
    rows, columns = min(rows, height), min(columns, width)
    latents = torch.arange(height * width).view(height, width)
    want = [
        [
            latents[math.floor((row + 0.5) * height / rows), math.floor((column + 0.5) * width / columns)]
            for column in range(columns)
        ]
        for row in range(rows)
    ]  # fmt: skip
    assert pick(latents, (rows, columns)).tolist() == [
        [int(value) for value in row] for row in want
    ]


def test_picked_noise_stays_white():
    picked = pick(noise(1, 8, 4, 64, 64), (16, 16))
    assert picked.std() == pytest.approx(1, abs=0.02)
    neighbours = (picked[..., 1:] * picked[..., :-1]).mean()
    assert abs(float(neighbours)) < 0.02


def test_spread_is_bilinear_within_every_frame():
    source = InwardWindow(3, 3, 4, native_rows=3, native_columns=4)
    target = InwardWindow(3, 7, 8, native_rows=3, native_columns=4)
    tokens = noise(2, source.num_tokens, 5)
    frames = tokens.view(6, 3, 4, 5).permute(0, 3, 1, 2).contiguous()
    want = interpolate(frames, (7, 8), mode="bilinear").permute(0, 2, 3, 1).reshape(2, -1, 5)
    torch.testing.assert_close(spread(tokens, source, target), want)
    assert spread(tokens, source, source) is tokens


# ------------------------------------------------------------------------------------- its cost


@pytest.mark.parametrize("override_unconditional", [False, True])
def test_native_guidance_forwards_the_native_grid_and_nothing_more(override_unconditional):
    transformer, seen = tiny_transformer(), []
    transformer.register_forward_pre_hook(
        lambda module, arguments, keywords: seen.append(tuple(keywords["hidden_states"].shape)),
        with_kwargs=True,
    )
    changes = {"steps": 4, "strength": 1.0, "override_unconditional": override_unconditional}
    refined("native", transformer=transformer, changes=changes)
    overridden = 2 if override_unconditional else 1
    full, window = (overridden, 4, 2, 6, 8), (2, 4, 2, 12, 14)
    assert seen == [full, window, window, window, full, window]


# --------------------------------------------------------------------------- with all the others


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("precision", ["plain", "fp8"])
def test_resumed_pass_gives_the_same_bytes(guidance, precision):
    points: list[ResumePoint] = []
    changes = {"kept_precision": precision}
    whole = refined(guidance, changes=changes, on_resume_point=points.append)
    assert [point.step for point in points] == [3, 6, 7]
    for point in points:
        resumed = refined(
            guidance, changes=changes, resume=point, keep_on="host", latents=torch.zeros_like(whole)
        )
        assert torch.equal(resumed, whole)


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("override_unconditional", [False, True])
def test_rows_one_by_one_give_what_a_batch_gives(guidance, override_unconditional, monkeypatch):
    changes = {"override_unconditional": override_unconditional}
    batched = refined(guidance, changes=changes)
    monkeypatch.setitem(limits.BATCHED_TOKENS, "cpu", 0)
    one_by_one = refined(guidance, changes=changes)
    torch.testing.assert_close(one_by_one, batched, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guidance", ["full", "interpolated", "native"])
def test_each_of_two_experts_has_its_own_outputs(guidance):
    """With a boundary that no step passes, a pass with two experts is that of the first alone."""
    low = LowNoiseExpert(tiny_transformer(1), boundary=0)
    assert torch.equal(refined(guidance, low_noise=low), refined(guidance))
    low = LowNoiseExpert(tiny_transformer(1), boundary=900)
    got = refined(guidance, low_noise=low)
    assert torch.equal(refined(guidance, low_noise=low, keep_on="host"), got)
    assert not torch.allclose(got, refined(guidance))


def test_native_guidance_picks_the_image_condition_too():
    transformer, seen = tiny_transformer(in_channels=9), []
    condition = ImageCondition(channels=noise(1, 5, 2, 12, 14, seed=5))
    transformer.register_forward_pre_hook(
        lambda module, arguments, keywords: seen.append(keywords["hidden_states"]), with_kwargs=True
    )
    refined("native", transformer=transformer, condition=condition)
    assert condition.channels is not None
    assert torch.equal(seen[0][:, 4:], pick(condition.channels, (6, 8)))
    assert torch.equal(seen[0][:, :4], pick(latents_of(), (6, 8)))


def test_native_guidance_picks_the_known_first_frame_and_its_timesteps():
    transformer, seen = tiny_transformer(), []
    condition = ImageCondition(first_frame=noise(1, 4, 1, 12, 14, seed=7))
    transformer.register_forward_pre_hook(
        lambda module, arguments, keywords: seen.append(
            (keywords["hidden_states"], keywords["timestep"])
        ),
        with_kwargs=True,
    )
    refined("native", transformer=transformer, condition=condition)
    hidden_states, timestep = seen[0]
    assert condition.first_frame is not None
    assert torch.equal(hidden_states[:, :, :1], pick(condition.first_frame, (6, 8)))
    assert timestep.shape == (1, 2 * 3 * 4)
    assert timestep[0, : 3 * 4].max() == 0 < timestep[0, 3 * 4 :].min()


def test_positions_are_the_transformers_own_again_after_a_failure():
    transformer = tiny_transformer()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    handle = transformer.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        refined("interpolated", transformer=transformer)
    handle.remove()
    assert torch.equal(refined("full", transformer=transformer), refined("full"))
