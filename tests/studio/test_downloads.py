"""Checkpoints as the daemon fetches them: its API, its restarts, and the command line."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from at_work import all_in, running_studio, until
from fake_hub import MORE_WEIGHTS, SMALL, WEIGHTS, FakeHub, fake_hub
from serving import serving

from freeswim import paths
from freeswim.cli.main import main
from freeswim.errors import Conflict, NotFound
from freeswim.models.catalog import CATALOG, find_checkpoint
from freeswim.models.download import folder_of, is_installed, staging_of
from freeswim.request import Request
from freeswim.studio import client
from freeswim.studio.client import Client
from freeswim.studio.job import JobState, Reason
from freeswim.studio.store import NewShot

NAME = SMALL.name
OTHERS = [find_checkpoint(name) for name in ("wan2.1-t2v-14b", "wan2.2-ti2v-5b")]
Json = dict[str, Any]


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub that the studio asks, and a data folder of its own."""
    monkeypatch.delenv("FREESWIM_MODELS", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with fake_hub() as hub:
        hub.add()
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def studio(hub: FakeHub, home: Path) -> Iterator[Client]:
    with serving(home):
        yield connected()
        hub.released.set()


def connected() -> Client:
    found = client.connect()
    assert found is not None
    return found


def now(studio: Client, name: str = NAME) -> Json:
    return next(one for one in studio.get("/models")["models"] if one["name"] == name)


def wait(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def in_state(studio: Client, *states: str, name: str = NAME) -> None:
    wait(lambda: now(studio, name)["state"] in states)


# ------------------------------------------------------------------------------------- the API


def test_all_models_are_listed_with_what_a_person_needs(studio: Client):
    said = studio.get("/models")
    assert [one["name"] for one in said["models"]] == [row.name for row in CATALOG]
    demo, small = now(studio, "demo"), now(studio)
    assert demo["state"] == "installed" and demo["repository"] == ""
    assert small["state"] == "available" and not small["is_exact"]
    assert small["size_bytes"] > 10**10 and small["licence"] == "Apache-2.0"
    assert said["folder"] == str(paths.models()) and said["free_bytes"] > 0


def test_a_model_comes_and_goes(studio: Client, hub: FakeHub):
    studio.post(f"/models/{NAME}/download")
    in_state(studio, "installed")
    there = now(studio)
    assert there["folder"] == str(folder_of(SMALL)) and there["is_exact"]
    assert there["done_bytes"] == there["size_bytes"] > 500_000
    assert studio.get("/models")["used_bytes"] >= there["size_bytes"]
    known = {one["name"]: one for one in studio.get("/catalog")["checkpoints"]}
    assert known[NAME]["is_installed"]
    with pytest.raises(Conflict, match="is installed"):
        studio.post(f"/models/{NAME}/download")
    studio.post(f"/models/{NAME}/verify")
    in_state(studio, "installed")
    assert studio.post(f"/models/{NAME}/delete")["used_bytes"] < 1000
    assert now(studio)["state"] == "available" and not folder_of(SMALL).exists()


def test_a_change_is_an_event(studio: Client, hub: FakeHub):
    hub.hold_at[WEIGHTS] = 1000
    events = studio.events(0)
    assert next(events).kind == "changes"
    studio.post(f"/models/{NAME}/download")
    assert any(event.kind == "models" for event in events)


def test_pause_keeps_the_part_and_resume_goes_on_from_it(studio: Client, hub: FakeHub):
    hub.hold_at[WEIGHTS] = 100_000
    studio.post(f"/models/{NAME}/download")
    in_state(studio, "downloading")
    wait(lambda: (staging_of(SMALL) / f"{WEIGHTS}.part").exists())
    wait(lambda: now(studio)["done_bytes"] >= 100_000)
    paused = studio.post(f"/models/{NAME}/pause")
    assert next(one for one in paused["models"] if one["name"] == NAME)["state"] == "paused"
    hub.hold_at.clear()
    hub.released.set()
    studio.post(f"/models/{NAME}/download")  # while the other is still stopping
    in_state(studio, "installed")
    assert hub.asked_for(WEIGHTS)[-1].range.startswith("bytes=")


def test_two_come_at_a_time_and_a_third_waits(studio: Client, hub: FakeHub):
    rows = [SMALL, *OTHERS]
    for row in rows:
        if row is not SMALL:
            hub.add(row)
    hub.hold_at[WEIGHTS] = 1000
    for row in rows:
        studio.post(f"/models/{row.name}/download")
    for row in rows[:2]:
        in_state(studio, "downloading", name=row.name)
    assert now(studio, rows[2].name)["state"] == "waiting"
    studio.post(f"/models/{rows[2].name}/pause")
    assert now(studio, rows[2].name)["state"] == "available"
    studio.post(f"/models/{rows[2].name}/download")
    hub.hold_at.clear()
    hub.released.set()
    for row in rows:
        in_state(studio, "installed", name=row.name)


def test_what_fails_says_why_and_goes_on_when_asked(studio: Client, hub: FakeHub):
    hub.damaged.add(WEIGHTS)
    studio.post(f"/models/{NAME}/download")
    in_state(studio, "paused")
    failure = now(studio)["failure"]
    assert failure["code"] == "download" and "thrown away" in failure["message"]
    hub.damaged.clear()
    studio.post(f"/models/{NAME}/download")
    in_state(studio, "installed")
    assert now(studio)["failure"] is None


def test_damage_is_found_and_repaired(studio: Client, hub: FakeHub):
    studio.post(f"/models/{NAME}/download")
    in_state(studio, "installed")
    with (folder_of(SMALL) / WEIGHTS).open("r+b") as file:
        file.write(b"wrong")
    studio.post(f"/models/{NAME}/verify")
    in_state(studio, "damaged")
    damaged = now(studio)
    assert WEIGHTS in damaged["failure"]["message"] and damaged["folder"] == ""
    studio.post(f"/models/{NAME}/download")
    in_state(studio, "installed")


def test_a_copy_that_lacks_a_file_is_completed(studio: Client, hub: FakeHub):
    for name, content in hub.repositories[str(SMALL.repository)].items():
        if name != MORE_WEIGHTS:
            (folder_of(SMALL) / name).parent.mkdir(parents=True, exist_ok=True)
            (folder_of(SMALL) / name).write_bytes(content)
    damaged = now(studio)
    assert damaged["state"] == "damaged" and MORE_WEIGHTS in damaged["failure"]["message"]
    assert not {one["name"]: one for one in studio.get("/catalog")["checkpoints"]}[NAME][
        "is_installed"
    ]
    studio.post(f"/models/{NAME}/download")
    in_state(studio, "installed")
    assert not hub.asked_for(WEIGHTS)


def test_a_folder_is_taken_over(studio: Client, hub: FakeHub, tmp_path: Path):
    folder = tmp_path / "Wan2.1-T2V-1.3B-Diffusers"
    for name, content in hub.repositories[str(SMALL.repository)].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    studio.post("/models/adopt", {"folder": str(tmp_path)})
    in_state(studio, "installed")
    with pytest.raises(Conflict, match="installed"):
        studio.post("/models/adopt", {"folder": str(tmp_path)})
    with pytest.raises(NotFound):
        studio.post("/models/adopt", {"folder": str(tmp_path / "nowhere")})


def test_what_is_no_model_is_not_found(studio: Client):
    for action in ("download", "pause", "verify", "delete"):
        with pytest.raises(NotFound):
            studio.post(f"/models/wan9/{action}")
    for action in ("verify", "delete"):
        with pytest.raises(Conflict):
            studio.post(f"/models/demo/{action}")


# -------------------------------------------------------------------------------- its restarts


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_studio_that_starts_again_goes_on_with_what_ran_and_not_with_what_was_paused(
    hub: FakeHub, home: Path, is_killed: bool
):
    hub.add(OTHERS[0])
    hub.hold_at[WEIGHTS] = 50_000
    with serving(home) as process:
        studio = connected()
        for row in (SMALL, OTHERS[0]):
            studio.post(f"/models/{row.name}/download")
            wait(lambda row=row: (staging_of(row) / f"{WEIGHTS}.part").exists())
        studio.post(f"/models/{OTHERS[0].name}/pause")
        if is_killed:
            process.kill()
            process.wait()
            process.wait = lambda timeout=None: 0  # type: ignore[method-assign]
    hub.hold_at.clear()
    hub.asked.clear()
    with serving(home):
        studio = connected()
        in_state(studio, "installed")
        assert now(studio, OTHERS[0].name)["state"] == "paused"
    assert [one.range for one in hub.asked_for(WEIGHTS)] == ["bytes=50000-"]


# ------------------------------------------------------------------------------ jobs that wait

NEEDS_ITS_MODEL = (
    sys.executable,
    "-c",
    f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
    "import fake_worker\n"
    "from freeswim import paths\n"
    "from freeswim.protocol import Failed\n"
    "work = fake_worker.work\n"
    "def look_first(run):\n"
    "    if (paths.models() / run.request['checkpoint']).is_dir():\n"
    "        return work(run)\n"
    "    return Failed(job_id=run.job_id, code='checkpoint_missing', message='None.')\n"
    "fake_worker.work = look_first\n"
    "fake_worker.main()\n",
)


def test_a_job_that_waits_for_its_model_goes_on_when_it_is_there(hub: FakeHub):
    fields = {"kind": "text", "prompt": "koi", "seed": 1, "checkpoint": NAME, "frames": 5}
    request = Request.parse(fields | {"width": 256, "height": 256})

    async def story() -> None:
        async with running_studio(worker=NEEDS_ITS_MODEL) as studio:
            # Past the forecast: the machine of a test need not hold the model that it stands for.
            (job,) = await studio._add([request], shot=NewShot("0" * 16, "koi"))
            await until(studio, all_in(JobState.WAITING))
            assert (await studio.ask(lambda store: store.job(job.id))).reason == Reason.MODEL
            await asyncio.to_thread(studio.downloads.download, NAME)
            await until(studio, all_in(JobState.DONE))

    asyncio.run(story())
    assert is_installed(SMALL)


# ---------------------------------------------------------------------------- the command line


def test_the_command_line_does_all_of_it(
    studio: Client, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert NAME in listed and "Not downloaded" in listed and "28.9 GB" in listed
    assert main(["models", "download", NAME]) == 0
    shown = capsys.readouterr()
    assert "Installed in" in shown.out and str(folder_of(SMALL)) in shown.out
    assert main(["models", "verify", NAME, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "model" and events[-1]["state"] == "installed"
    folder_of(SMALL).rename(tmp_path / NAME)
    (tmp_path / NAME / MORE_WEIGHTS).unlink()
    assert main(["models", "use", str(tmp_path)]) == 0
    assert "Paused at" in capsys.readouterr().out
    assert main(["models", "delete", NAME]) == 2  # nobody is there to be asked
    assert "--yes" in capsys.readouterr().err
    assert main(["models", "delete", NAME, "--yes"]) == 0
    assert main(["models", "download", "wan9"]) == 1
    hub.statuses["list"] = 403
    assert main(["models", "download", NAME]) == 4
    assert "hf auth login" in capsys.readouterr().err


def test_the_list_needs_no_studio(home: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["models", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["event"] == "models" and len(said["models"]) == len(CATALOG)
    assert client.connect() is None
