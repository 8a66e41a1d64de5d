"""The commands of the queue, as a person types them, at a studio with the fake worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from freeswim.cli import queue as cli_queue
from freeswim.cli.main import main
from freeswim.studio import client

Run = Callable[..., str]


@pytest.fixture
def freeswim(served: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; what it prints. It succeeds, unless `status` says otherwise."""

    def run(*words: str, status: int = 0) -> str:
        ended = main(words)
        said = capsys.readouterr()
        assert ended == status, said.err
        return said.out if status == 0 else said.err

    return run


@pytest.fixture
def paused(freeswim: Run) -> Iterator[None]:
    """The queue is paused meanwhile, and empty afterwards."""
    freeswim("queue", "pause")
    yield
    freeswim("queue", "cancel", "--waiting")
    freeswim("queue", "resume")


def add(freeswim: Run, prompt: str, *words: str) -> str:
    """Add a job; its number."""
    said = freeswim("queue", "add", "generate", "--preset", "demo", "--json", *words, prompt)
    return str(json.loads(said.splitlines()[0])["number"])


def queued(freeswim: Run) -> list[str]:
    """Prompts of the queue, in its order."""
    return [job["prompt"] for job in events(freeswim("queue", "list", "--json"), "job")]


def events(said: str, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in said.splitlines()]
    return [event for event in found if event["event"] == kind]


def test_a_job_is_added_watched_and_its_take_approved(freeswim: Run):
    number = add(freeswim, "a koi that is watched")
    freeswim("queue", "watch", "--until-empty")
    assert "state     done" in freeswim("queue", "show", number)
    (take,) = events(freeswim("takes", "list", "--search", "is watched", "--json"), "take")
    assert take["verdict"] == "new"
    assert freeswim("takes", "approve", take["file"]) == f"{take['file']}: approved\n"
    assert take["file"] in freeswim("takes", "list", "--verdict", "approved")
    assert freeswim("takes", "trash", take["file"]) == f"{take['file']}: trashed\n"
    assert take["file"] not in freeswim("takes", "list")
    assert f"take      {take['width']}x{take['height']}" in freeswim("queue", "show", number)


def test_watching_tells_every_state(freeswim: Run):
    freeswim("queue", "pause")
    number = [add(freeswim, "koi") for _ in range(4)][-1]  # time enough to begin to watch
    freeswim("queue", "resume")
    said = freeswim("queue", "watch", "--until-empty", "--json")
    states = [job["state"] for job in events(said, "job") if str(job["number"]) == number]
    assert states[-1] == "done"
    assert events(said, "progress")[-1]["stage"] == "chain"


@pytest.mark.usefixtures("paused")
def test_the_order_is_changed(freeswim: Run):
    first, second, third = (add(freeswim, name) for name in ("one", "two", "three"))
    assert queued(freeswim) == ["one", "two", "three"]
    freeswim("queue", "move", third, "--front")
    assert queued(freeswim) == ["three", "one", "two"]
    freeswim("queue", "move", third, first, "--end")
    assert queued(freeswim) == ["two", "three", "one"]
    freeswim("queue", "move", first, "--before", second)
    assert queued(freeswim) == ["one", "two", "three"]
    add(freeswim, "zero", "--front")
    assert queued(freeswim) == ["zero", "one", "two", "three"]


@pytest.mark.usefixtures("paused")
def test_jobs_are_paused_resumed_cancelled_and_tried_again(freeswim: Run):
    number = add(freeswim, "koi")
    assert freeswim("queue", "pause", number).endswith("paused\n")
    assert freeswim("queue", "resume", number).endswith("queued\n")
    assert freeswim("queue", "cancel", number).endswith("cancelled\n")
    assert queued(freeswim) == []
    assert freeswim("queue", "retry", number).endswith("queued\n")
    assert queued(freeswim) == ["koi"]


@pytest.mark.usefixtures("paused")
def test_several_seeds_are_several_jobs_of_one_shot(freeswim: Run):
    add(freeswim, "koi", "--seeds", "3,5", "--shot", "sc01 sh010")
    jobs = events(freeswim("queue", "list", "--json"), "job")
    assert [job["request"]["seed"] for job in jobs] == [3, 5]
    assert {job["shot_name"] for job in jobs} == {"sc01 sh010"}
    assert len({job["shot_id"] for job in jobs}) == 1


@pytest.mark.usefixtures("paused")
def test_a_paused_queue_says_so(freeswim: Run):
    add(freeswim, "koi")
    assert "The queue is paused. 1 queued" in freeswim("queue", "list")


def test_history_is_searched(freeswim: Run):
    add(freeswim, "a heron over water")
    freeswim("queue", "watch", "--until-empty")
    assert "heron" in freeswim("queue", "list", "--search", "heron water")
    assert "heron" not in freeswim("queue", "list", "--search", "stork")


def test_a_failed_job_says_why_and_its_log_is_read(freeswim: Run):
    number = add(freeswim, "oom")
    freeswim("queue", "watch", "--until-empty")
    shown = freeswim("queue", "show", number)
    assert "failed: Too large." in shown and "hint      Less." in shown
    assert "attempt 1" in freeswim("logs", number)
    assert "serving" in freeswim("logs", "--lines", "500")


def test_waiting_for_a_take_ends_as_its_job_did(freeswim: Run, capsys: pytest.CaptureFixture[str]):
    said = freeswim("generate", "--preset", "demo", "oom", status=5)
    assert "Too large." in said and "Less." in said


@pytest.mark.parametrize(
    "words, said",
    [
        (("queue", "show", "9999"), "There is no job 9999."),
        (("queue", "cancel"), "Say which jobs."),
        (("queue", "cancel", "zz"), "There is no job zz."),
        (("takes", "approve", "nothing.mp4"), "There is no take nothing.mp4."),
        (("takes", "list", "--shot", "nothing"), "There is no shot nothing."),
        (("queue", "pause", "1", "--after-current"), "--after-current is for the whole queue."),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    served: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
):
    assert main(words) != 0
    assert said in capsys.readouterr().err


def test_without_a_studio_the_way_to_one_is_told(home: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["queue", "list"]) == 7
    said = capsys.readouterr().err
    assert "No studio runs." in said and "freeswim serve" in said
    assert client.connect() is None


def test_words_of_people_cannot_command_the_terminal(freeswim: Run):
    number = add(freeswim, "koi\x1b]0;owned\x07[red]b")
    said = freeswim("queue", "watch", "--until-empty") + freeswim("queue", "show", number)
    assert "\x1b" not in said and "\x07" not in said
    assert "[red]b" in said


def test_a_take_is_opened_in_the_systems_player(
    freeswim: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    player = tmp_path / "xdg-open"
    player.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(cli_queue.sys, "platform", "linux")
    add(freeswim, "opened koi")
    freeswim("queue", "watch", "--until-empty")
    (take,) = events(freeswim("takes", "list", "--search", "opened", "--json"), "take")
    path = freeswim("takes", "open", take["id"][:8]).strip()
    assert (tmp_path / "opened").read_text().strip() == path
