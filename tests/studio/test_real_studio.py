"""The real studio with the real worker and the checkpoint that comes along."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from freeswim.cli.main import main
from freeswim.studio import client
from freeswim.studio.client import Client

KOI = ("generate", "--preset", "demo", "--size", "256x256", "--frames", "5")
PROMPT = "two orange koi swimming left in blue water"


@pytest.fixture
def studio(home: Path) -> Iterator[Client]:
    started = client.connect_or_start()
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums of floats depend on how many threads add them, here as in the workers."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # workers inherit it
    threads = torch.get_num_threads()  # this process has long read the variable
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_take_of_the_studio_is_the_one_made_without_it(
    studio: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Cold and warm: the worker has made another one before."""
    local = tmp_path / "local.mp4"
    assert main([*KOI, "--seed", "3", "--local", "--out", str(local), PROMPT]) == 0
    for name in ("cold", "warm"):
        out = tmp_path / f"{name}.mp4"
        assert main([*KOI, "--seed", "3", "--json", "--out", str(out), PROMPT]) == 0
        assert out.read_bytes() == local.read_bytes()
        sidecar = json.loads(out.with_suffix(".json").read_bytes())
        assert sidecar["media"]["file"] == out.name
    said = capsys.readouterr().out
    stages = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert {"base", "refine", "write"} <= {one.get("stage") for one in stages}
    takes = studio.get("/takes")["takes"]
    assert len(takes) == 2
    deliver(takes[0]["file"], tmp_path, capsys)


def deliver(take: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Approved, exported, looked at again, and found in a cut that comes back."""
    exports = folder / "exports"
    exports.mkdir()

    def run(*words: str) -> str:
        assert main([*words]) == 0
        return capsys.readouterr().out

    run("takes", "approve", take)
    run("export", "--for", "premiere", "--project", "Pond", "--out", str(exports), "--handles", "1")
    export = exports / "Pond_premiere"
    assert "All 9 checks are good." in run("verify", str(export))
    read = [run("import", str(export / name), "--plan") for name in ("Pond.otio", "Pond.xml")]
    assert read[0] == read[1] and "are used, with their handles" in read[0]
    run("takes", "export", take, "--out", str(exports), "--codec", "h265")
    assert (exports / take).is_file()
    run("convert", str(exports / take), "--codec", "prores-hq", "--rate", "25")
    assert (exports / f"{Path(take).stem}_prores-hq.mov").is_file()
    shutil.rmtree(export / "media")
    assert main(["verify", str(export)]) == 3
    assert "BAD" in capsys.readouterr().out


def workers_of(studio: Client) -> list[psutil.Process]:
    """Its workers, which a process id alone does not tell from later ones."""
    children = psutil.Process(studio.pid).children()
    return [child for child in children if any("worker" in word for word in child.cmdline())]


def test_a_job_is_seen_while_it_is_made_and_stopped_at_its_next_step(studio: Client):
    (job,) = studio.submit(
        {"preset": "demo", "request": {"prompt": PROMPT, "seed": 3, "width": 768, "height": 768}}
    )
    for event in studio.events(after=job["seq"]):
        if event.kind == "progress" and event.content["preview"]:
            break
    with Image.open(BytesIO(studio.get_bytes(f"/jobs/{job['id']}/preview.jpg"))) as picture:
        assert picture.format == "JPEG"
    workers = workers_of(studio)
    assert len(workers) == 1
    assert studio.post(f"/jobs/{job['id']}/cancel")["wish"] == "cancel"
    for event in studio.events(after=job["seq"]):
        jobs = event.content["jobs"] if event.kind == "changes" else []
        if any(one["state"] == "cancelled" for one in jobs):
            break
    assert workers_of(studio) == workers  # to be killed would have been the last resort
    assert studio.get("/machine")["slots"][0]["state"] == "idle"
    assert studio.get("/takes")["takes"] == []
