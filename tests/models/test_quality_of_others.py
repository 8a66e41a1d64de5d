"""The quality benchmark on a checkpoint whose pictures nobody can count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from freeswim.bench.plan import METHODS
from freeswim.cli.main import main
from freeswim.models import catalog

ARGUMENTS = ["bench", "quality", "--preset", "wan21-1.3b-1080p", "--device", "cpu", "--quick"]


@pytest.fixture
def small(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny checkpoints, made for tiny pictures."""
    rows = tuple(
        replace(row, native_width=96, native_height=48) if row.repository else row
        for row in catalog.CATALOG
    )
    monkeypatch.setattr(catalog, "CATALOG", rows)


def test_a_checkpoint_of_wan_gets_the_same_table_without_counts(
    small: None, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("a cat on a wall\n\na dog in the rain\n")
    out = tmp_path / "report"
    prompts = ["--prompts", str(tmp_path / "prompts.txt"), "--threads", "1"]
    assert main([*ARGUMENTS, *prompts, "--out", str(out)]) == 0
    report = json.loads((out / "quality.json").read_text("utf-8"))
    assert [row["method"] for row in report["rows"]] == [
        "draft", "bilinear", *(method.name for method in METHODS),
    ]  # fmt: skip
    assert {clip["prompt"] for clip in report["clips"]} == {"a cat on a wall", "a dog in the rain"}
    assert all(clip["error"] is None for clip in report["clips"])
    assert "count error" not in (out / "quality.md").read_text("utf-8")
    assert (out / "units" / "manifest.json").is_file()


def test_it_needs_prompts_of_its_own(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ARGUMENTS) == 2
    assert "--prompts" in capsys.readouterr().err
