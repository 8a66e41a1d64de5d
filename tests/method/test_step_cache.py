from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks import apply_group_offloading
from tiny_wan import NEGATIVE, TEXT, latents_of, tiny_transformer
from torch import Tensor

from freeswim import limits
from freeswim.errors import RequestError
from freeswim.method import RefineSettings, refine
from freeswim.method.denoise import LowNoiseExpert
from freeswim.method.schedule import ResumePoint
from freeswim.method.settings import step_cache_bytes
from freeswim.method.window import InwardWindow

NUM_BLOCKS = 4
NUM_STEPS, INTERVAL = 9, 4
CACHES = ["first-block", "magcache", "taylorseer"]
LENIENT = {"step_cache_threshold": 1.0, "magcache_ratios": (1.0,) * NUM_STEPS}  # skip what they can
STRICT = {"step_cache_threshold": 1e-9, "magcache_ratios": (2.0,) * NUM_STEPS}  # skip nothing


def transformer_of_four(seed: int = 0) -> WanTransformer3DModel:
    return tiny_transformer(seed, num_layers=NUM_BLOCKS)


def settings(step_cache: str, **changes: Any) -> RefineSettings:
    defaults = dict(steps=NUM_STEPS, strength=1.0, refresh_interval=INTERVAL, guidance_scale=4.0)
    return RefineSettings(**{**defaults, **LENIENT, "step_cache": step_cache, **changes})


def refined(step_cache: str, **keywords: Any) -> Tensor:
    changes = keywords.pop("changes", {})
    transformer = keywords.pop("transformer", None) or transformer_of_four()
    latents = keywords.pop("latents", None)
    return refine(
        transformer, latents_of() if latents is None else latents, TEXT, NEGATIVE,
        native_grid=(3, 4), settings=settings(step_cache, **changes), **keywords,
    )  # fmt: skip


@pytest.fixture(params=["batched", "one by one"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conditional and unconditional as one batch, and one after the other."""
    if request.param == "one by one":
        monkeypatch.setitem(limits.BATCHED_TOKENS, "cpu", 0)


def computed_blocks(step_cache: str, **keywords: Any) -> list[list[int]]:
    """Of each step, the blocks that were computed, once for every row of the batch."""
    transformer, steps, blocks = transformer_of_four(), [], []

    def watch(index: int):
        return lambda module, arguments: blocks.extend([index] * len(arguments[0]))

    for index, block in enumerate(transformer.blocks):
        block.attn1.to_q.register_forward_pre_hook(watch(index))

    def on_step(*_: object) -> None:
        steps.append(sorted(blocks))
        blocks.clear()

    refined(step_cache, transformer=transformer, on_step=on_step, **keywords)
    return steps


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("step_cache", ["none", *CACHES])
def test_refresh_steps_are_computed_in_full_and_steps_between_are_not(step_cache: str):
    whole = sorted([*range(NUM_BLOCKS)] * 2)
    refresh = sorted([*range(NUM_BLOCKS)] * 3)  # the full branch's row too
    between = {
        "none": [whole] * 3,
        "first-block": [[0, 0]] * 3,
        "magcache": [[]] * 3,
        "taylorseer": [[], whole, []],
    }[step_cache]
    assert computed_blocks(step_cache) == [refresh, *between, refresh, *between, refresh]


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("step_cache", ["first-block", "magcache"])
def test_cache_that_lets_no_change_pass_changes_nothing(step_cache: str):
    assert torch.equal(refined(step_cache, changes=STRICT), refined("none"))


@pytest.mark.parametrize("step_cache", CACHES)
def test_interval_of_one_leaves_nothing_to_cache(step_cache: str):
    changes = {"refresh_interval": 1}
    assert torch.equal(refined(step_cache, changes=changes), refined("none", changes=changes))


@pytest.mark.parametrize("step_cache", CACHES)
@pytest.mark.parametrize("guidance", ["full", "native", "none"])
def test_rows_one_by_one_give_what_a_batch_gives(step_cache, guidance, monkeypatch):
    """Each batch of rows has a memory of its own."""
    batched = refined(step_cache, changes={"guidance": guidance})
    assert not torch.allclose(batched, refined("none", changes={"guidance": guidance}), rtol=1e-3)
    monkeypatch.setitem(limits.BATCHED_TOKENS, "cpu", 0)
    one_by_one = refined(step_cache, changes={"guidance": guidance})
    torch.testing.assert_close(one_by_one, batched, rtol=1e-4, atol=1e-5)


def test_magcache_reads_the_ratios_of_the_steps_it_is_at():
    """After the refresh at 4, ratios say that 6 is worth computing and 5 and 7 are not."""
    ratios = [1.0] * NUM_STEPS
    ratios[6] = 3.0
    blocks = computed_blocks("magcache", changes={"magcache_ratios": tuple(ratios)})
    assert [bool(step) for step in blocks] == [True, False, False, False, True, False, True, False, True]  # fmt: skip


@pytest.mark.parametrize("step_cache", CACHES)
def test_resumed_pass_gives_the_same_bytes(step_cache: str):
    points: list[ResumePoint] = []
    whole = refined(step_cache, on_resume_point=points.append)
    assert [point.step for point in points] == [4, 8, 9]
    for point in points:
        resumed = refined(step_cache, resume=point, latents=torch.zeros_like(whole))
        assert torch.equal(resumed, whole)


@pytest.mark.parametrize("step_cache", CACHES)
def test_full_branch_never_sees_the_cache(step_cache: str):
    transformer, seen = transformer_of_four(), []
    transformer.register_forward_pre_hook(
        lambda module, arguments, keywords: seen.append(
            (len(keywords["hidden_states"]), module.is_cache_enabled, hooks_of(module) != [])
        ),
        with_kwargs=True,
    )
    refined(step_cache, transformer=transformer)
    full, window = (1, False, False), (2, True, True)
    assert seen == [full, *[window] * 4, full, *[window] * 4, full, window]


def hooks_of(transformer: WanTransformer3DModel) -> list[str]:
    """Names of all hooks of diffusers."""
    registries = (getattr(module, "_diffusers_hook", None) for module in transformer.modules())
    return [name for registry in registries if registry for name in registry.hooks]


@pytest.mark.parametrize("step_cache", CACHES)
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_hooked_afterwards(step_cache: str, fails: bool):
    transformer = transformer_of_four()

    def stop(step: int, *_: object) -> None:
        if fails and step == 2:
            raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            refined(step_cache, transformer=transformer, on_step=stop)
    else:
        refined(step_cache, transformer=transformer)
    assert hooks_of(transformer) == []
    assert not transformer.is_cache_enabled
    assert torch.equal(refined("none", transformer=transformer), refined("none"))


def test_without_a_cache_nothing_is_hooked_at_all():
    transformer = transformer_of_four()
    refined("none", transformer=transformer)
    assert not any(hasattr(module, "_diffusers_hook") for module in transformer.modules())


@pytest.mark.parametrize("step_cache", CACHES)
def test_each_of_two_experts_begins_with_an_empty_cache(step_cache: str):
    high, low = transformer_of_four(0), transformer_of_four(1)
    enabled: list[tuple[bool, bool]] = []
    for expert in (high, low):
        expert.register_forward_pre_hook(
            lambda *_: enabled.append((high.is_cache_enabled, low.is_cache_enabled))
        )
    got = refined(step_cache, transformer=high, low_noise=LowNoiseExpert(low, boundary=900))
    assert got.isfinite().all()
    assert (True, True) not in enabled
    assert {(True, False), (False, True)} < set(enabled)
    assert hooks_of(high) == hooks_of(low) == []


@pytest.mark.parametrize("step_cache", CACHES)
@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
def test_weights_that_move_after_each_block_change_nothing(step_cache, offload_type):
    transformer, cpu = transformer_of_four(), torch.device("cpu")
    apply_group_offloading(transformer, cpu, cpu, offload_type=offload_type, num_blocks_per_group=1)
    for _ in range(2):
        assert torch.equal(refined(step_cache, transformer=transformer), refined(step_cache))
    assert set(hooks_of(transformer)) == {"group_offloading"}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("step_cache", ["none", "first-block", "magcache"])
def test_size_is_what_was_forecast(step_cache: str):
    transformer, held = transformer_of_four(), set()
    width = 2 * 12

    def look(step: int, *_: object) -> None:
        if step == 2:
            held.update((id(value), value.nbytes) for value in tensors_held(transformer))

    refined(step_cache, transformer=transformer, on_step=look)
    window = InwardWindow(2, 6, 7, native_rows=3, native_columns=4)
    forecast = step_cache_bytes(settings(step_cache), window, width=width, bytes_per_value=4)
    assert sum(nbytes for _, nbytes in held) == forecast


def tensors_held(transformer: WanTransformer3DModel) -> Iterator[Tensor]:
    """What the states of the cache hold."""
    for block in transformer.blocks:
        registry = getattr(block, "_diffusers_hook", None)
        for hook in registry.hooks.values() if registry else ():
            for state in hook.state_manager._state_cache.values():
                for value in vars(state).values():
                    values = value if isinstance(value, tuple) else (value,)
                    yield from (one for one in values if isinstance(one, Tensor) and one.ndim == 3)


@pytest.mark.parametrize("num_ratios", [0, NUM_STEPS - 1])
def test_magcache_without_its_ratios_is_refused(num_ratios: int):
    with pytest.raises(RequestError, match=f"each of 9 refine steps, not {num_ratios}") as caught:
        settings("magcache", magcache_ratios=(1.0,) * num_ratios)
    assert "calibrated" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [{"step_cache_threshold": 0.0}, {"step_cache_threshold": 1.5}, {"magcache_ratios": (0.0,)}],
)
def test_setting_out_of_range_is_named(change: dict[str, Any]):
    with pytest.raises(RequestError, match=next(iter(change))):
        RefineSettings(**change)
