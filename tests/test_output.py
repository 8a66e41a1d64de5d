from __future__ import annotations

from pathlib import Path

from freeswim.output import free_path, take_name


def test_take_is_named_by_its_prompt_and_seed():
    assert take_name("Two koi, <left>!", 7, is_draft=False) == "two-koi-left-7.mp4"
    assert take_name("鯉", 7, is_draft=True) == "take-7-draft.mp4"
    assert take_name("../../etc/passwd", 1, is_draft=False) == "etc-passwd-1.mp4"


def test_long_prompt_is_cut_between_words():
    name = take_name("two orange koi swimming left in green water", 7, is_draft=False)
    assert name == "two-orange-koi-swimming-left-in-green-7.mp4"
    assert take_name("x" * 500, 7, is_draft=False) == f"{'x' * 40}-7.mp4"


def test_free_path_is_the_first_at_which_nothing_is_there(tmp_path: Path):
    take = tmp_path / "koi-7.mp4"
    assert free_path(take, ".json") == take
    take.touch()
    second = free_path(take, ".json")
    assert second.name == "koi-7-2.mp4"
    second.with_suffix(".json").touch()  # somebody removed the video only
    assert free_path(take, ".json").name == "koi-7-3.mp4"
