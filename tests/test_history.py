from __future__ import annotations

import logging
from pathlib import Path

import pytest

from freeswim import history, paths
from freeswim.history import PastRun, past_runs, remember


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))


def run(number: int = 0) -> PastRun:
    return PastRun(
        machine="a GPU",
        checkpoint="demo",
        weights="plain",
        shape=f"shape {number}",
        policy="weights on the device",
        work={"base": 2.0},
        seconds={"base": 4.0},
    )


def test_nothing_is_known_of_a_new_machine():
    assert past_runs() == []


def test_runs_come_back_the_last_one_first():
    for number in range(3):
        remember(run(number))
    assert past_runs() == [run(2), run(1), run(0)]


def test_torn_and_foreign_lines_are_passed_over(caplog: pytest.LogCaptureFixture):
    remember(run(0))
    with paths.history().open("ab") as file:
        file.write(b'{"machine": "a GPU", "checkp')
    remember(run(1))
    with paths.history().open("ab") as file:
        file.write(b'\xff\xfe\n{"schema_version": 2}\n')
    with caplog.at_level(logging.WARNING):
        assert past_runs() == [run(1), run(0)]


def test_file_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(history, "KEPT", 3)
    for number in range(20):
        remember(run(number))
    known = past_runs()
    assert 3 <= len(known) <= 6
    assert known[0] == run(19)


def test_disk_that_refuses_costs_nothing_else(tmp_path: Path):
    (tmp_path / "home").write_text("a file where the folder should be")
    remember(run())
    assert past_runs() == []
