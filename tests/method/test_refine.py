from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks import apply_group_offloading
from tiny_wan import NEGATIVE, NUM_BLOCKS, TEXT, latents_of, noise, tiny_transformer
from torch import Tensor

from freeswim import limits
from freeswim.errors import RequestError
from freeswim.method import RefineSettings, refine
from freeswim.method.denoise import ImageCondition, LowNoiseExpert
from freeswim.method.schedule import add_noise, attention_scale, is_refresh, refine_schedule
from freeswim.method.window import InwardWindow

NATIVE = (3, 4)
SETTINGS = RefineSettings(steps=10, strength=0.7, refresh_interval=3, guidance_scale=4.0)


@contextmanager
def counted(*transformers: WanTransformer3DModel) -> Iterator[Counter[str]]:
    """Batch rows that went through the modules that cost something."""
    counts: Counter[str] = Counter()

    def watch(module: torch.nn.Module, name: str):
        def count(_module: object, arguments: tuple, keywords: dict) -> None:
            counts[name] += (*arguments, *keywords.values())[0].shape[0]

        return module.register_forward_pre_hook(count, with_kwargs=True)

    handles = [watch(transformer, "forward") for transformer in transformers]
    for transformer in transformers:
        for block in transformer.blocks:
            handles.append(watch(block.attn1.to_q, "self"))
            for projection in (block.attn2.to_q, block.attn2.to_k, block.attn2.to_v):
                handles.append(watch(projection, "cross projection"))
            handles.append(watch(block.attn2.to_out[0], "cross"))
    yield counts
    for handle in handles:
        handle.remove()


@pytest.fixture(params=["batched", "one by one"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conditional and unconditional as one batch, and one after the other."""
    if request.param == "one by one":
        monkeypatch.setitem(limits.BATCHED_TOKENS, "cpu", 0)


@pytest.mark.usefixtures("rows")
def test_reuse_steps_compute_no_cross_attention_and_no_duplicate_row():
    transformer = tiny_transformer()
    per_step: list[Counter[str]] = []
    with counted(transformer) as counts:

        def on_step(step: int, num_steps: int, latents: Tensor, denoised: Tensor) -> None:
            per_step.append(Counter(counts))
            counts.clear()

        refine(
            transformer, latents_of(), TEXT, NEGATIVE,
            native_grid=NATIVE, settings=SETTINGS, on_step=on_step,
        )  # fmt: skip
    assert len(per_step) == 7
    for step, calls in enumerate(per_step):
        refreshes = step % 3 == 0
        forwards = 3 if refreshes else 2  # full branch, window branch, unconditional
        cross = NUM_BLOCKS * (2 if refreshes else 1)  # the unconditional forward has its own
        assert calls == {
            "forward": forwards,
            "self": forwards * NUM_BLOCKS,
            "cross": cross,
            "cross projection": 3 * cross,
        }


@pytest.mark.usefixtures("rows")
def test_override_of_the_unconditional_forward_runs_its_full_branch_too():
    transformer = tiny_transformer()
    settings = RefineSettings(
        steps=4, strength=0.5, refresh_interval=1, override_unconditional=True
    )
    with counted(transformer) as counts:
        refine(transformer, latents_of(), TEXT, NEGATIVE, native_grid=NATIVE, settings=settings)
    assert counts["forward"] == 2 * 4
    assert counts["cross"] == 2 * 2 * NUM_BLOCKS


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
def test_weights_that_move_after_each_block_change_nothing(offload_type: str):
    """Group offloading of diffusers hooks every block: each forward must leave it as it came."""
    want = refine(
        tiny_transformer(), latents_of(), TEXT, NEGATIVE, native_grid=NATIVE, settings=SETTINGS
    )
    transformer, cpu = tiny_transformer(), torch.device("cpu")
    apply_group_offloading(transformer, cpu, cpu, offload_type=offload_type, num_blocks_per_group=1)
    moved: Counter[str] = Counter()

    def watch(group: Any) -> None:
        onload, offload = group.onload_, group.offload_
        group.onload_ = lambda: (moved.update(["in"]), onload())
        group.offload_ = lambda: (moved.update(["out"]), offload())

    groups = {id(group): group for group in map(offloaded_group, transformer.modules()) if group}
    for group in groups.values():
        watch(group)
    for _ in range(2):
        got = refine(
            transformer, latents_of(), TEXT, NEGATIVE, native_grid=NATIVE, settings=SETTINGS
        )
        assert torch.equal(got, want)
        assert moved["in"] == moved["out"] > 0  # whatever came in is out again


def offloaded_group(module: torch.nn.Module) -> Any:
    hooks = getattr(module, "_diffusers_hook", None)
    hook = hooks and hooks.get_hook("group_offloading")
    return hook and hook.group


@pytest.mark.parametrize("guidance, negative", [(1.0, NEGATIVE), (5.0, None)])
def test_without_guidance_there_is_no_unconditional_forward(
    guidance: float, negative: Tensor | None
):
    transformer = tiny_transformer()
    settings = RefineSettings(steps=4, strength=1.0, refresh_interval=9, guidance_scale=guidance)
    with counted(transformer) as counts:
        refine(transformer, latents_of(), TEXT, negative, native_grid=NATIVE, settings=settings)
    assert counts["forward"] == 4 + 1


def test_window_as_large_as_the_frame_is_ordinary_sampling():
    """Full window, no temperature: the override changes nothing, so this is plain denoising."""
    transformer, latents = tiny_transformer(), latents_of()
    settings = RefineSettings(steps=5, strength=0.8, refresh_interval=1, temperature="none")
    got = refine(transformer, latents, TEXT, NEGATIVE, native_grid=(6, 7), settings=settings)
    scheduler, timesteps = refine_schedule(settings, latents.device)
    with torch.no_grad():
        for timestep in timesteps:
            text, empty = (
                transformer(latents, timestep.expand(1), embeds, return_dict=False)[0]
                for embeds in (TEXT, NEGATIVE)
            )
            latents = scheduler.step(
                empty + 5.0 * (text - empty), timestep, latents, return_dict=False
            )[0]
    torch.testing.assert_close(got, latents, rtol=1e-4, atol=1e-5)


def test_transformer_is_as_it_was_after_a_run_and_after_a_failure():
    transformer = tiny_transformer()
    processors = {name: id(one) for name, one in transformer.attn_processors.items()}
    refine(transformer, latents_of(), TEXT, NEGATIVE, native_grid=NATIVE, settings=SETTINGS)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(transformer, latents_of(), TEXT, native_grid=NATIVE, settings=SETTINGS, on_step=stop)
    assert {name: id(one) for name, one in transformer.attn_processors.items()} == processors


def test_two_sizes_in_one_process_do_not_touch_each_other():
    transformer = tiny_transformer()

    def run(rows: int, columns: int, frames: int) -> Tensor:
        latents = latents_of(rows, columns, frames)
        return refine(transformer, latents, TEXT, NEGATIVE, native_grid=NATIVE, settings=SETTINGS)

    first = run(6, 7, 2)
    run(9, 5, 1)
    assert torch.equal(run(6, 7, 2), first)


@pytest.mark.parametrize(
    "steps, strength, refine_steps", [(1, 1.0, 1), (90, 0.7, 62), (50, 0.7, 35)]
)
def test_any_number_of_steps_runs_the_end_of_the_schedule(steps, strength, refine_steps):
    settings = RefineSettings(steps=steps, strength=strength)
    scheduler, timesteps = refine_schedule(settings, torch.device("cpu"))
    assert len(timesteps) == settings.num_refine_steps == refine_steps
    assert torch.equal(timesteps, scheduler.timesteps[-refine_steps:])
    seen: list[int] = []
    refine(
        tiny_transformer(), latents_of(4, 4, 1), TEXT, native_grid=NATIVE, settings=settings,
        on_step=lambda step, *_: seen.append(step),
    )  # fmt: skip
    assert seen == list(range(1, refine_steps + 1))


def test_noise_is_added_at_the_first_level_that_runs():
    settings = RefineSettings(steps=10, strength=0.7, flow_shift=9.0)
    scheduler, _ = refine_schedule(settings, torch.device("cpu"))
    sigma = float(scheduler.sigmas[3])
    assert 0.9 < sigma < 1
    clean, eps = latents_of(), noise(1, 4, 2, 12, 14, seed=9)
    got = add_noise(clean, eps, settings)
    torch.testing.assert_close(got, (1 - sigma) * clean + sigma * eps)


def test_refresh_steps_are_every_kth_from_the_first():
    settings = RefineSettings(refresh_interval=4)
    assert [step for step in range(10) if is_refresh(step, settings)] == [0, 4, 8]


def test_temperatures_are_the_official_constant_the_log_ratio_or_none():
    window = InwardWindow(21, 68, 120, native_rows=30, native_columns=52)
    usual = attention_scale("none", window, 128)
    assert usual == pytest.approx(128**-0.5)
    assert attention_scale("official", window, 128) / usual == pytest.approx(1.0461, abs=1e-4)
    assert attention_scale("entropy", window, 128) / usual == pytest.approx(
        math.sqrt(math.log(68 * 120) / math.log(30 * 52))
    )


# ----------------------------------------------------------------------------- other checkpoints


def test_image_condition_reaches_every_forward():
    transformer = tiny_transformer(
        in_channels=9, image_dim=6, added_kv_proj_dim=24, pos_embed_seq_len=None
    )
    latents, seen = latents_of(), []
    condition = ImageCondition(channels=noise(1, 5, 2, 12, 14, seed=5), image_embeds=noise(1, 3, 6))
    text = noise(1, 512, 8)  # diffusers tells image tokens from text by the 512 text tokens

    def look(module: object, arguments: tuple, keywords: dict) -> None:
        seen.append((keywords["hidden_states"], keywords["encoder_hidden_states_image"]))

    transformer.register_forward_pre_hook(look, with_kwargs=True)
    out = refine(
        transformer, latents, text, text,
        native_grid=NATIVE, settings=SETTINGS, condition=condition,
    )  # fmt: skip
    assert out.shape == latents.shape
    assert [len(hidden_states) for hidden_states, _ in seen] == [1, 2, 2, 2] * 2 + [1, 2]
    assert condition.channels is not None and condition.image_embeds is not None
    for hidden_states, image_embeds in seen:
        for row in range(len(hidden_states)):
            assert torch.equal(hidden_states[row, 4:], condition.channels[0])
            assert torch.equal(image_embeds[row], condition.image_embeds[0])


def test_known_first_frame_stays_and_its_tokens_are_at_timestep_zero():
    transformer, latents, seen = tiny_transformer(), latents_of(), []
    condition = ImageCondition(first_frame=noise(1, 4, 1, 12, 14, seed=7))

    def look(module: object, arguments: tuple, keywords: dict) -> None:
        seen.append((keywords["hidden_states"], keywords["timestep"]))

    transformer.register_forward_pre_hook(look, with_kwargs=True)
    out = refine(
        transformer, latents, TEXT, native_grid=NATIVE, settings=SETTINGS, condition=condition
    )
    assert torch.equal(out[:, :, :1], condition.first_frame)
    for hidden_states, timestep in seen:
        assert torch.equal(hidden_states[:, :, :1], condition.first_frame)
        assert timestep.shape == (1, 2 * 6 * 7)
        assert timestep[0, : 6 * 7].max() == 0 < timestep[0, 6 * 7 :].min()


def test_second_expert_takes_over_below_the_boundary_with_outputs_of_its_own():
    high, low = tiny_transformer(0), tiny_transformer(1)
    order: list[tuple[str, float]] = []

    def look(name: str):
        return lambda module, arguments, keywords: order.extend(
            (name, float(timestep)) for timestep in keywords["timestep"]
        )

    high.register_forward_pre_hook(look("high"), with_kwargs=True)
    low.register_forward_pre_hook(look("low"), with_kwargs=True)
    settings = RefineSettings(
        steps=8, strength=1.0, refresh_interval=50, flow_shift=3.0, low_noise_guidance_scale=1.0
    )
    expert = LowNoiseExpert(low, boundary=700)
    refine(
        high, latents_of(), TEXT, NEGATIVE,
        native_grid=NATIVE, settings=settings, low_noise=expert,
    )  # fmt: skip
    names = [name for name, _ in order]
    assert names == sorted(names)  # all of "high", then all of "low"
    assert all((timestep >= 700) == (name == "high") for name, timestep in order)
    high_steps = len({timestep for name, timestep in order if name == "high"})
    low_steps = 8 - high_steps
    # One refresh each, then conditional and, where guidance asks for it, unconditional rows.
    assert names.count("high") == 1 + 2 * high_steps
    assert names.count("low") == 1 + low_steps


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "change",
    [
        {"strength": 0.0}, {"strength": 2.0}, {"strength": float("nan")}, {"steps": 0},
        {"flow_shift": 0.0}, {"guidance_scale": 0.5}, {"refresh_interval": 0},
    ],
)  # fmt: skip
def test_setting_out_of_range_is_named(change: dict[str, float]):
    with pytest.raises(RequestError, match=next(iter(change))):
        RefineSettings(**change)  # type: ignore[arg-type]


def test_strength_that_leaves_no_step_is_refused_with_the_least_that_does():
    with pytest.raises(RequestError, match="leaves no step") as caught:
        RefineSettings(steps=10, strength=0.05)
    assert "0.1" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"guidance": "ful"}, {"kept_precision": "fp4"}, {"step_cache": "teacache"},
        {"temperature": "hot"}, {"attention": "flash"},
    ],
)  # fmt: skip
def test_setting_that_is_no_choice_is_refused_with_those_there_are(change: dict[str, Any]):
    name, value = next(iter(change.items()))
    with pytest.raises(RequestError, match=f"{name} cannot be '{value}'") as caught:
        RefineSettings(**change)
    assert (
        "none" in caught.value.hint or "plain" in caught.value.hint or "auto" in caught.value.hint
    )
