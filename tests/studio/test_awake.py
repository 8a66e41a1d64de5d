"""The computer is kept awake while a job runs, and nothing that goes wrong with it is a job's."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from at_work import all_in, running_studio, submitted, until

from freeswim.studio import awake
from freeswim.studio.awake import Awake
from freeswim.studio.job import JobState

pytestmark = pytest.mark.usefixtures("home")

# Holds the computer as far as this test is concerned: a file, until the standard input ends.
HOLD = (
    "import pathlib, sys; held = pathlib.Path(sys.argv[1]); held.write_text('held');"
    "sys.stdin.read(); held.unlink()"
)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    return tmp_path / "held"


@pytest.fixture
def keeper(held: Path) -> Awake:
    return Awake((sys.executable, "-c", HOLD, str(held)))


def test_it_is_held_while_there_is_work_and_let_go_after(keeper: Awake, held: Path):
    keeper.follow(False)
    assert not held.exists()
    keeper.follow(True)
    wait_for(held.exists)
    keeper.follow(True)
    assert held.exists()
    keeper.follow(False)
    assert not held.exists()
    keeper.follow(True)
    wait_for(held.exists)
    keeper.release()
    keeper.release()
    assert not held.exists()


def test_the_person_says_no_and_yes_and_is_heeded_at_once(keeper: Awake, held: Path):
    keeper.follow(True)
    wait_for(held.exists)
    awake.want(False)
    keeper.follow(True)
    assert not held.exists() and not awake.is_wanted()
    awake.want(False)
    awake.want(True)
    awake.want(True)
    keeper.follow(True)
    wait_for(held.exists)
    keeper.release()


def test_the_environment_says_no(keeper: Awake, held: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(awake.SWITCH, "0")
    keeper.follow(True)
    assert not held.exists() and not awake.is_wanted()
    keeper.release()


@pytest.mark.parametrize(
    "command, reason",
    [
        (("/there/is/none",), "/there/is/none: No such file or directory"),
        ((sys.executable, "-c", "raise SystemExit('Access denied')"), "Access denied"),
        (("/bin/sh", "-c", "kill -9 $$"), "no reason is given"),
        (("\0",), "embedded null byte"),
    ],
)
def test_a_computer_that_cannot_be_held_is_news_once(
    command: tuple[str, ...], reason: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    keeper = Awake(command)

    def is_told() -> bool:
        keeper.follow(True)
        return bool(caplog.records)

    wait_for(is_told)
    for is_busy in (True, False, True, True):
        keeper.follow(is_busy)
    keeper.release()
    assert caplog.messages == [f"the computer is not kept awake: {reason}"]


def test_a_holder_that_does_not_let_go_is_ended(monkeypatch: pytest.MonkeyPatch, held: Path):
    stubborn = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(60)"
    keeper = Awake((sys.executable, "-c", stubborn, str(held)))
    keeper.follow(True)
    wait_for(held.exists)
    begin = time.monotonic()
    keeper.release()
    assert time.monotonic() - begin < 50  # it would stay for 60


def test_it_is_let_go_when_its_process_is_killed(tmp_path: Path, held: Path):
    code = (
        "import sys, time; from freeswim.studio.awake import Awake;"
        f"keeper = Awake((sys.executable, '-c', {HOLD!r}, {str(held)!r}));"
        "keeper.follow(True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_for(held.exists)
        process.kill()
    wait_for(lambda: not held.exists())


def test_the_studio_holds_it_for_as_long_as_jobs_run(
    tmp_path: Path, held: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "bin" / awake.HOLDER[0]
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" > {held}\ncat\nrm {held}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_STEP_S", "0.1")

    async def until_it_is(there: bool) -> None:
        async with asyncio.timeout(20):
            while held.exists() != there:
                await asyncio.sleep(0.02)

    async def story() -> None:
        async with running_studio() as studio:
            await submitted(studio)
            await submitted(studio, seeds=[2])
            await until_it_is(True)
            assert held.read_text().split() == " ".join(awake.HOLDER[1:]).split()
            await until(studio, all_in(JobState.DONE))
            await until_it_is(False)
            await submitted(studio)
            await until_it_is(True)
        assert not held.exists()

    asyncio.run(story())
