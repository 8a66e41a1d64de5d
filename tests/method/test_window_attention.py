from __future__ import annotations

import shutil

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from freeswim.method import flex, tiled
from freeswim.method.attention import ExactBackend, full_attention, window_attention
from freeswim.method.window import InwardWindow

CPU = torch.device("cpu")


def brute_force(
    query: Tensor, key: Tensor, value: Tensor, window: InwardWindow, scale: float
) -> Tensor:
    """The specification: one query after the other, keys picked by the rule of method.md."""
    grid = (window.frames, window.rows, window.columns)
    key, value = key.unflatten(1, grid), value.unflatten(1, grid)
    rows_seen = min(2 * (window.native_rows // 2) + 1, window.rows)
    columns_seen = min(2 * (window.native_columns // 2) + 1, window.columns)
    out = torch.empty_like(query)
    for index in range(query.shape[1]):
        row = index // window.columns % window.rows
        column = index % window.columns
        top = min(max(row - window.native_rows // 2, 0), window.rows - rows_seen)
        left = min(max(column - window.native_columns // 2, 0), window.columns - columns_seen)
        seen = (
            slice(None),
            slice(None),
            slice(top, top + rows_seen),
            slice(left, left + columns_seen),
        )
        keys, values = key[seen].flatten(1, 3), value[seen].flatten(1, 3)
        scores = torch.einsum("bhd,bkhd->bhk", query[:, index], keys) * scale
        out[:, index] = torch.einsum("bhk,bkhd->bhd", scores.softmax(-1), values)
    return out


def random_tokens(window: InwardWindow, *, heads: int = 2, head_dim: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(window.num_tokens)
    shape = (1, window.num_tokens, heads, head_dim)
    return [torch.randn(shape, generator=generator) for _ in range(3)]


def assert_exact(window: InwardWindow, backend: ExactBackend) -> None:
    query, key, value = random_tokens(window)
    got = window_attention(query, key, value, window, scale=0.3, backend=backend)
    want = brute_force(query, key, value, window, 0.3)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


windows = st.builds(
    InwardWindow,
    frames=st.integers(1, 3),
    rows=st.integers(1, 21),
    columns=st.integers(1, 21),
    native_rows=st.integers(1, 24),
    native_columns=st.integers(1, 24),
)


@settings(max_examples=60)
@given(window=windows)
@example(InwardWindow(1, 9, 17, native_rows=4, native_columns=6))  # one frame, even native grid
@example(InwardWindow(2, 8, 20, native_rows=9, native_columns=5))  # full rows, windowed columns
@example(InwardWindow(2, 5, 6, native_rows=12, native_columns=12))  # window larger than the frame
@example(InwardWindow(2, 23, 31, native_rows=5, native_columns=7))  # tiles of two sizes inside
def test_tiled_attention_equals_the_brute_force_loop(window: InwardWindow):
    assert_exact(window, "tiled")


def test_tiled_attention_is_exact_when_the_mask_is_cut_by_frames(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiled, "MASK_ENTRIES", 1)
    assert_exact(InwardWindow(3, 11, 9, native_rows=4, native_columns=5), "tiled")


@pytest.mark.skipif(not shutil.which("g++"), reason="system package g++ is missing")
@pytest.mark.parametrize(
    "window",
    [
        InwardWindow(2, 11, 19, native_rows=5, native_columns=7),  # ragged tiles
        InwardWindow(1, 17, 20, native_rows=4, native_columns=9),  # one frame, even native rows
    ],
)
def test_flex_attention_equals_the_brute_force_loop(window: InwardWindow):
    assert_exact(window, "flex")


@settings(max_examples=40)
@given(window=windows)
def test_flex_block_mask_covers_exactly_the_window(window: InwardWindow):
    if window.is_full:
        return
    order, raster, mask = flex.layout(window, CPU)
    assert torch.equal(order[raster], torch.arange(window.num_tokens))
    query, key, value = random_tokens(window)
    dense = dense_mask(mask, window.num_tokens)
    got = torch.nn.functional.scaled_dot_product_attention(
        *(tokens[:, order].transpose(1, 2) for tokens in (query, key, value)),
        attn_mask=dense,
        scale=0.3,
    ).transpose(1, 2)[:, raster]
    torch.testing.assert_close(
        got, brute_force(query, key, value, window, 0.3), rtol=1e-5, atol=1e-6
    )


def dense_mask(mask: flex.BlockMask, num_tokens: int) -> Tensor:
    """What FlexAttention reads out of a block mask: full blocks whole, partial blocks by the rule."""
    index = torch.arange(num_tokens)
    rule = mask.mask_mod(index[:1], index[:1], index[:, None], index[None, :])
    out = torch.zeros(num_tokens, num_tokens, dtype=torch.bool)
    for counts, indices, inside in (
        (mask.kv_num_blocks, mask.kv_indices, rule),
        (mask.full_kv_num_blocks, mask.full_kv_indices, torch.ones_like(rule)),
    ):
        assert counts is not None and indices is not None
        for row, count in enumerate(counts[0, 0].tolist()):
            for column in indices[0, 0, row, :count].tolist():
                block = (slice(row * 128, row * 128 + 128), slice(column * 128, column * 128 + 128))
                out[block] = inside[block]
    return out


def test_full_attention_equals_a_softmax_over_all_keys():
    window = InwardWindow(2, 3, 4, native_rows=9, native_columns=9)
    query, key, value = random_tokens(window)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * 0.3
    want = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)
    got = full_attention(query, key, value, scale=0.3)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_tiles_of_one_shape_go_as_one_call(monkeypatch: pytest.MonkeyPatch):
    """Few and large calls: threads wait for each other at the end of every one."""
    num_tiles: list[int] = []

    def watched(query: Tensor, *rest: Tensor, **options: object) -> Tensor:
        num_tiles.append(query.shape[0])
        return torch.nn.functional.scaled_dot_product_attention(query, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tiled, "scaled_dot_product_attention", watched)
    window = InwardWindow(1, 9, 33, native_rows=8, native_columns=9)  # sees all rows
    query, key, value = random_tokens(window)
    window_attention(query, key, value, window, scale=0.3, backend="tiled")
    # All rows share a window; both borders' columns, then the 23 inside: 5 tiles of 4, one of 3.
    assert num_tiles == [1, 1, 5, 1]


def test_tile_mask_stays_small_at_4k():
    window = InwardWindow(21, 136, 240, native_rows=45, native_columns=80)
    keys_of_a_tile = window.frames * (tiled.TILE + 44) * (tiled.TILE + 80)
    entries = tiled.TILE**2 * keys_of_a_tile
    chunks = list(tiled._frame_chunks(window.frames, entries))
    assert sum(chunk.stop - chunk.start for chunk in chunks) == window.frames
    assert max(chunk.stop - chunk.start for chunk in chunks) * entries <= tiled.MASK_ENTRIES


@settings(max_examples=40)
@given(window=windows, batch=st.integers(1, 2))
def test_rows_of_a_batch_do_not_touch_each_other(window: InwardWindow, batch: int):
    tokens = [torch.cat([one, one.flip(1)])[:batch] for one in random_tokens(window)]
    got = window_attention(*tokens, window, scale=0.3, backend="tiled")
    for row in range(batch):
        alone = (one[row : row + 1] for one in tokens)
        want = window_attention(*alone, window, scale=0.3, backend="tiled")
        torch.testing.assert_close(got[row : row + 1], want, rtol=1e-5, atol=1e-6)
