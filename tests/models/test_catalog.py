from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswim.errors import RequestError
from freeswim.models.catalog import CATALOG, Checkpoint, find_checkpoint
from freeswim.models.loading import checkpoint_folder

NAMES = [checkpoint.name for checkpoint in CATALOG]
checkpoints = st.sampled_from(CATALOG)
sides = st.integers(16, 4096)
every_row = pytest.mark.parametrize("row", CATALOG, ids=NAMES)


@every_row
def test_native_size_can_be_computed_as_it_is(row: Checkpoint):
    assert row.native_width % row.multiple == row.native_height % row.multiple == 0
    assert row.native_frames % 4 == 1
    native = (row.native_width, row.native_height)
    assert row.computed_size(*native) == row.base_size(*native) == native
    assert row.computed_frames(row.native_frames) == row.native_frames


@every_row
def test_row_makes_clips_from_something(row: Checkpoint):
    assert row.takes_text or row.takes_image
    assert row.takes_image or not row.takes_last_image
    assert row.num_experts in (1, 2)
    assert row.native_frames <= row.max_frames
    assert max(row.native_width, row.native_height) <= row.max_side


def test_names_are_unique_and_safe_as_folder_names():
    assert len(set(NAMES)) == len(NAMES)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for name in NAMES)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(RequestError, match=r"no checkpoint called 'wan3'") as caught:
        find_checkpoint("wan3")
    assert all(name in caught.value.hint for name in NAMES)


@every_row
def test_multiple_is_what_autoencoder_and_patch_on_disk_ask_for(row: Checkpoint, models: Path):
    folder = checkpoint_folder(row)
    vae = json.loads((folder / "vae/config.json").read_text("utf-8"))
    transformer = json.loads((folder / "transformer/config.json").read_text("utf-8"))
    factor = vae.get("scale_factor_spatial", 8)  # the key is younger than Wan 2.1
    assert row.multiple == factor * transformer["patch_size"][1]
    assert transformer["patch_size"][0] == 1
    assert transformer["patch_size"][1] == transformer["patch_size"][2]
    assert row.max_positions == transformer["rope_max_seq_len"]


# ----------------------------------------------------------------------------- sizes and frames


@given(checkpoints, sides, sides)
def test_computed_size_covers_the_size_and_is_the_smallest_that_does(
    row: Checkpoint, width: int, height: int
):
    for computed, asked in zip(row.computed_size(width, height), (width, height), strict=True):
        assert computed % row.multiple == 0
        assert asked <= computed < asked + row.multiple


@given(checkpoints, sides, sides)
def test_base_size_is_never_larger_than_the_target_needs(row: Checkpoint, width: int, height: int):
    base = row.base_size(width, height)
    computed = row.computed_size(width, height)
    assert all(side > 0 and side % row.multiple == 0 for side in base)
    assert base == computed or base[0] < computed[0] or base[1] < computed[1]


@given(checkpoints, st.integers(512, 4096), st.floats(0.4, 2.5))
def test_base_size_keeps_native_area_and_the_targets_aspect(
    row: Checkpoint, height: int, aspect: float
):
    width = round(height * aspect)
    base = row.base_size(width, height)
    if base == row.computed_size(width, height):
        return  # a target that small has no base size of its own
    area = row.native_width * row.native_height
    assert base[0] * base[1] == pytest.approx(area, rel=0.25)
    assert base[0] / base[1] == pytest.approx(width / height, rel=0.25)


@given(checkpoints, st.integers(512, 4096), st.integers(512, 4096))
def test_portrait_has_the_transposed_base_size(row: Checkpoint, width: int, height: int):
    assert row.base_size(height, width) == row.base_size(width, height)[::-1]


@given(checkpoints, st.integers(1, 500))
def test_computed_frames_are_the_smallest_4n_plus_1_that_cover(row: Checkpoint, frames: int):
    computed = row.computed_frames(frames)
    assert computed % 4 == 1
    assert frames <= computed < frames + 4


def test_full_hd_of_the_small_model_is_1088_rows_from_its_native_size():
    row = find_checkpoint("wan2.1-t2v-1.3b")
    assert row.computed_size(1920, 1080) == (1920, 1088)
    assert row.base_size(1920, 1080) == (832, 480)
    assert row.base_size(1080, 1920) == (480, 832)
