"""Checkpoints on their way from a Hub that is slow, strict or hostile."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_hub import COMMIT, MORE_WEIGHTS, SMALL, WEIGHTS, FakeHub, fake_hub

from freeswim.errors import Cancelled, Conflict, DiskFull, DownloadError, NotFound
from freeswim.models import adoption, download, hub
from freeswim.models.catalog import CATALOG, Checkpoint, find_checkpoint, recommended
from freeswim.models.download import folder_of, is_installed, look, staging_of
from freeswim.plan import Machine, admit, make_plan
from freeswim.request import Request

TOKEN = "hf_secret0123456789"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where checkpoints go."""
    monkeypatch.setenv("FREESWIM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(hub, "RESTS_S", (0.0,) * 4)
    return tmp_path / "models"


@pytest.fixture
def server(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def fetch(checkpoint: Checkpoint = SMALL, stop: threading.Event | None = None) -> list[str]:
    """Download it; the stages that were told."""
    told: list[download.Progress] = []
    download.download(checkpoint, stop=stop or threading.Event(), on_progress=told.append)
    done = [one.done_bytes for one in told if one.total_bytes]
    assert all(0 <= one <= told[-1].total_bytes for one in done)
    return [one.stage for one in told]


def verify(checkpoint: Checkpoint = SMALL) -> list[str]:
    return download.verify(checkpoint, stop=threading.Event(), on_progress=lambda _: None)


def adopt(source: adoption.Source) -> bool:
    return adoption.adopt(source, stop=threading.Event(), on_progress=lambda _: None)


def check_installed(files: dict[str, bytes], checkpoint: Checkpoint = SMALL) -> None:
    """The folder holds these files, and nothing else but its manifest."""
    folder = folder_of(checkpoint)
    assert is_installed(checkpoint) and look(checkpoint).state == "installed"
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = json.loads(found.pop(download.MANIFEST))
    assert found == files
    assert manifest["listing"]["revision"] == COMMIT
    assert not staging_of(checkpoint).exists()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------------------------- the way here


def test_a_checkpoint_comes_whole_and_nothing_beside_it(server: FakeHub):
    files = server.add()
    assert look(SMALL).state == "available"
    stages = fetch()
    check_installed(files)
    assert set(stages) == {"listing", "downloading", "verifying"}
    resolved = [one.path for one in server.asked if "/resolve/" in one.path]
    assert len(resolved) == len(files)  # no readme, no picture, no pickle
    assert all(f"/resolve/{COMMIT}/" in path for path in resolved)  # never of `main`


def test_kill_9_in_the_middle_of_a_file_and_it_goes_on_to_the_same_bytes(
    server: FakeHub, place: Path
):
    files = server.add()
    server.hold_at[WEIGHTS] = 200_000
    code = (
        "import threading; from freeswim.models import download;"
        "from freeswim.models.catalog import find_checkpoint;"
        f"download.download(find_checkpoint({SMALL.name!r}), stop=threading.Event(),"
        " on_progress=lambda _: None)"
    )
    part = staging_of(SMALL) / f"{WEIGHTS}.part"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        until(lambda: hub.size_of(part) == 200_000)
        os.kill(process.pid, signal.SIGKILL)
    assert not is_installed(SMALL) and not folder_of(SMALL).exists()
    before = look(SMALL)
    assert before.state == "paused" and 200_000 < before.done_bytes < before.total_bytes
    server.hold_at.clear()
    server.asked.clear()
    fetch()
    check_installed(files)
    assert [one.range for one in server.asked_for(WEIGHTS)] == ["bytes=200000-"]
    assert not [one for one in server.asked if "/api/" in one.path]  # the commit is pinned


def test_broken_connections_are_made_again_as_long_as_there_is_progress(server: FakeHub):
    files = server.add()
    server.drop_after = 40_000
    fetch()
    check_installed(files)
    assert len(server.asked_for(WEIGHTS)) == 8


def test_a_connection_that_brings_nothing_is_given_up_and_kept(server: FakeHub):
    server.add()
    server.statuses[WEIGHTS] = 503
    with pytest.raises(DownloadError, match="503") as caught:
        fetch()
    assert "kept" in caught.value.hint
    assert len(server.asked_for(WEIGHTS)) == 1 + len(hub.RESTS_S)
    assert look(SMALL).done_bytes > 100_000


def test_a_server_without_ranges_starts_over(server: FakeHub):
    files = server.add()
    part = staging_of(SMALL) / f"{WEIGHTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    server.has_ranges = False
    fetch()
    check_installed(files)


@pytest.mark.parametrize("size", [300_001, 10**6])
def test_a_part_that_is_too_long_is_thrown_away(server: FakeHub, size: int):
    files = server.add()
    part = staging_of(SMALL) / f"{WEIGHTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(size))
    fetch()
    check_installed(files)


def test_what_goes_on_elsewhere_is_not_taken(server: FakeHub):
    files = server.add()
    part = staging_of(SMALL) / f"{WEIGHTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(files[WEIGHTS][:1000])
    server.shifted.add(WEIGHTS)
    fetch()
    check_installed(files)
    assert [one.range for one in server.asked_for(WEIGHTS)] == ["bytes=1000-", ""]


def test_a_wrong_byte_throws_the_file_away_and_says_so(server: FakeHub):
    files = server.add()
    server.damaged.add(WEIGHTS)
    with pytest.raises(DownloadError, match=r"checksum is not the published .* thrown away"):
        fetch()
    assert not is_installed(SMALL)
    assert not (staging_of(SMALL) / f"{WEIGHTS}.part").exists()
    server.damaged.clear()
    server.asked.clear()
    fetch()
    check_installed(files)
    assert not server.asked_for("vae/diffusion_pytorch_model.safetensors")  # others were kept


def test_a_wrong_byte_in_a_small_file_is_found_by_its_git_checksum(server: FakeHub):
    server.add()
    server.damaged.add("vae/config.json")
    with pytest.raises(DownloadError, match=r"vae/config\.json came damaged"):
        fetch()


def test_a_file_without_an_end_is_refused(server: FakeHub):
    server.add()
    server.longer.add(WEIGHTS)
    with pytest.raises(DownloadError, match="longer than it was published"):
        fetch()
    assert not (staging_of(SMALL) / f"{WEIGHTS}.part").exists()


def test_stopping_keeps_what_came(server: FakeHub):
    files = server.add()
    server.hold_at[WEIGHTS] = 100_000
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            fetch(stop=stop)
        except Cancelled as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: hub.size_of(staging_of(SMALL) / f"{WEIGHTS}.part") == 100_000)
    stop.set()
    server.released.set()
    thread.join()
    assert failures and look(SMALL).state == "paused"
    server.asked.clear()
    fetch()
    check_installed(files)
    assert server.asked_for(WEIGHTS)[0].range == "bytes=100000-"


def test_a_file_that_was_removed_meanwhile_is_fetched_again(server: FakeHub):
    files = server.add()
    server.damaged.add(MORE_WEIGHTS)
    with pytest.raises(DownloadError):
        fetch()
    (staging_of(SMALL) / WEIGHTS).unlink()
    server.damaged.clear()
    fetch()
    check_installed(files)


def test_a_second_process_keeps_away(server: FakeHub):
    server.add()
    with download.alone(SMALL), pytest.raises(Conflict, match="Another FreeSwim"):
        fetch()


# -------------------------------------------------------------------------------------- the disk


def test_too_little_room_is_said_before_anything_is_fetched(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch
):
    files = server.add()
    usage = namedtuple("usage", "total used free")
    looked: list[Path] = []

    def disk_usage(path: Path) -> object:
        looked.append(Path(path))
        return usage(10**12, 0, download.SPARE_BYTES + 1000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    with pytest.raises(DiskFull, match=r"needs 0\.7 MB more|needs 0\.7") as caught:
        fetch()
    assert caught.value.details["needed_bytes"] == sum(map(len, files.values())) + (
        download.SPARE_BYTES
    )
    assert looked == [staging_of(SMALL)]  # the disk that it will really be on
    assert not [one for one in server.asked if "/resolve/" in one.path]


def test_a_disk_that_becomes_full_loses_nothing(server: FakeHub, place: Path):
    files = server.add()
    code = (
        "import resource, threading; from freeswim.models import download;"
        "from freeswim.errors import DiskFull;"
        "from freeswim.models.catalog import find_checkpoint;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150000, 150000))\n"
        "try:\n"
        f" download.download(find_checkpoint({SMALL.name!r}), stop=threading.Event(),"
        " on_progress=lambda _: None)\n"
        "except DiskFull as error: print(error.message)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "cannot be written" in done.stdout, done.stderr
    assert hub.size_of(staging_of(SMALL) / f"{WEIGHTS}.part") == 150_000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    fetch()
    check_installed(files)


# ---------------------------------------------------------------------------------- a hostile way


def test_the_token_is_for_the_hub_alone(server: FakeHub):
    files = server.add()
    with fake_hub() as other:
        other.repositories = server.repositories
        for name in (WEIGHTS, "vae/config.json"):
            server.places[name] = f"{other.url}/{SMALL.repository}/resolve/{COMMIT}/{name}"
        fetch()
        check_installed(files)
        assert other.asked and all("authorization" not in one.headers for one in other.asked)
        assert all(TOKEN not in str(one) for one in other.asked)
    assert all(one.headers["authorization"] == f"Bearer {TOKEN}" for one in server.asked)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//", "http://[x/"])
def test_no_redirect_leads_to_another_kind_of_address(server: FakeHub, place: str):
    server.add()
    server.places[WEIGHTS] = place
    with pytest.raises(DownloadError, match="sends us"):
        fetch()


def test_redirects_in_circles_end(server: FakeHub):
    server.add()
    server.places[WEIGHTS] = f"{server.url}/{SMALL.repository}/resolve/{COMMIT}/{WEIGHTS}"
    with pytest.raises(DownloadError, match="circles"):
        fetch()


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/x", "https://10.0.0.1/x", "https://[::1]/x", "http://8.8.8.8/x"],
)
def test_a_public_hub_sends_nobody_to_this_network_or_to_bare_http(
    monkeypatch: pytest.MonkeyPatch, url: str
):
    monkeypatch.setenv("HF_ENDPOINT", "https://8.8.8.8")
    with pytest.raises(DownloadError, match="is refused"):
        hub._check_address(url, "a/b")
    hub._check_address("https://8.8.4.4/x", "a/b")


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json", "transformer/../../outside.json", "/etc/outside.json", "..",
        "transformer\\..\\..\\x.json", "C:/x.json", "transformer/x.json:stream", "~/x.json",
        "transformer/\x00.json", "transformer/a\nb.json", "", 7, None,
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(server: FakeHub, place: Path, name: object):
    server.add()
    server.extra_names = [name]
    with pytest.raises(DownloadError, match=r"lead out of its folder|cannot be read"):
        fetch()
    assert not [one for one in server.asked if "/resolve/" in one.path]
    outside = [path for path in place.parent.rglob("*") if place not in (path, *path.parents)]
    assert outside == [] and not folder_of(SMALL).exists()


@pytest.mark.parametrize(
    "status, words, hint",
    [
        (401, "only to people it knows", "hf auth login"),
        (403, "only to people it knows", "Accept its conditions"),
        (404, "has no Wan-AI", "newer FreeSwim"),
        (500, "answers 500", "Try again"),
    ],
)
def test_refusals_say_what_to_do(server: FakeHub, status: int, words: str, hint: str):
    server.add()
    server.statuses["list"] = status
    with pytest.raises(DownloadError, match=words) as caught:
        fetch()
    assert hint in caught.value.hint and TOKEN not in str(caught.value.as_dict())
    assert look(SMALL).state == "available"


def test_without_the_internet_a_folder_is_offered(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="cannot be reached") as caught:
        fetch()
    assert "existing folder" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"siblings": 1}', b'{"siblings": []}'])
def test_a_list_that_is_none_is_refused(
    server: FakeHub, content: bytes, monkeypatch: pytest.MonkeyPatch
):
    server.add()
    monkeypatch.setattr(FakeHub, "list", lambda self, repository: content)
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch()


def test_a_repository_without_weights_is_not_installed(server: FakeHub):
    server.add()
    del server.repositories[str(SMALL.repository)][MORE_WEIGHTS]
    with pytest.raises(DownloadError, match=f"lacks {MORE_WEIGHTS}"):
        fetch()
    assert not folder_of(SMALL).exists()


# ------------------------------------------------------------------------------- what is here


def test_verify_finds_one_wrong_bit_and_the_repair_fetches_that_file(server: FakeHub):
    files = server.add()
    fetch()
    assert verify() == []
    weights = folder_of(SMALL) / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[1234] ^= 4
    weights.write_bytes(content)
    assert is_installed(SMALL)  # sizes say nothing
    assert verify() == [WEIGHTS]
    now = look(SMALL)
    assert now.state == "damaged" and not is_installed(SMALL)
    assert now.failure is not None and WEIGHTS in now.failure.message
    server.asked.clear()
    fetch()
    check_installed(files)
    assert [one.path.rpartition("/")[2] for one in server.asked] == [Path(WEIGHTS).name]


def test_a_folder_that_lacks_a_file_is_not_installed_and_is_completed(server: FakeHub):
    files = server.add()
    for name, content in files.items():
        path = folder_of(SMALL) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert look(SMALL).state == "installed"  # it came by other ways
    (folder_of(SMALL) / MORE_WEIGHTS).unlink()
    now = look(SMALL)
    assert now.state == "damaged" and now.failure and MORE_WEIGHTS in now.failure.message
    (folder_of(SMALL) / WEIGHTS).write_bytes(b"wrong")
    fetch()
    check_installed(files)
    names = {one.path.rpartition("/")[2] for one in server.asked if "/resolve/" in one.path}
    assert names == {Path(WEIGHTS).name, Path(MORE_WEIGHTS).name}


def test_a_folder_without_checksums_is_compared_to_the_hubs(server: FakeHub):
    files = server.add()
    for name, content in files.items():
        path = folder_of(SMALL) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert verify() == []
    check_installed(files)


def test_deleting_leaves_nothing_and_spares_a_linked_folder(server: FakeHub, tmp_path: Path):
    server.add()
    fetch()
    download.delete(SMALL)
    assert not folder_of(SMALL).exists() and not staging_of(SMALL).exists()
    fetch()
    folder_of(SMALL).rename(tmp_path / "mine")
    folder_of(SMALL).symlink_to(tmp_path / "mine")
    assert is_installed(SMALL)
    download.delete(SMALL)
    assert not is_installed(SMALL) and (tmp_path / "mine" / WEIGHTS).is_file()
    with pytest.raises(Conflict, match="part of FreeSwim"):
        download.delete(find_checkpoint("demo"))


# ------------------------------------------------------------------------------------- adoption


def as_cache(files: dict[str, bytes], folder: Path) -> Path:
    """As huggingface_hub keeps a repository: names that lead to files named by their checksums."""
    root = folder / "hub" / "models--Wan-AI--Wan2.1-T2V-1.3B-Diffusers"
    listing = {one["rfilename"]: one for one in _siblings(files)}
    for name, content in files.items():
        said = listing[name]
        blob = root / "blobs" / (said.get("lfs", {}).get("sha256") or said["blobId"])
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = root / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return folder


def as_local_dir(files: dict[str, bytes], folder: Path) -> Path:
    """As `hf download --local-dir` leaves it."""
    root = folder / "Wan2.1-T2V-1.3B-Diffusers"
    for said in _siblings(files):
        name = said["rfilename"]
        note = root / ".cache/huggingface/download" / f"{name}.metadata"
        for path in (root / name, note):
            path.parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(files[name])
        etag = said.get("lfs", {}).get("sha256") or said["blobId"]
        note.write_text(f"{COMMIT}\n{etag}\n1700000000.0\n")
    return folder


def as_copy(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        path = folder / "disk" / SMALL.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _siblings(files: dict[str, bytes]) -> list[dict[str, dict[str, str]]]:
    return json.loads(FakeHub(repositories={"a": files}).list("a"))["siblings"]


@pytest.mark.parametrize("lay_out", [as_cache, as_local_dir])
def test_files_of_others_are_taken_over_by_their_checksums_without_a_connection(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lay_out: Callable[..., Path]
):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    files = FakeHub().add()
    (source,) = adoption.find_sources(lay_out(files, tmp_path / "theirs"))
    assert source.checkpoint == SMALL and adopt(source)
    check_installed(files)
    mine, theirs = folder_of(SMALL) / WEIGHTS, (source.folder / WEIGHTS).resolve()
    assert mine.samefile(theirs) and not mine.is_symlink()  # no byte twice on the disk


def test_a_plain_copy_is_compared_to_the_hubs_checksums(
    server: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    files = server.add()
    (source,) = adoption.find_sources(as_copy(files, tmp_path / "theirs"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"no checksums, and .* cannot be reached"):
        adopt(source)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    assert adopt(source)
    check_installed(files)


@pytest.mark.parametrize("lay_out", [as_cache, as_local_dir, as_copy])
def test_a_changed_or_missing_file_is_not_taken_over_but_fetched(
    server: FakeHub, tmp_path: Path, lay_out: Callable[..., Path]
):
    files = server.add()
    (source,) = adoption.find_sources(lay_out(files, tmp_path / "theirs"))
    changed = (source.folder / WEIGHTS).resolve()
    changed.write_bytes(bytes(len(files[WEIGHTS])))
    (source.folder / MORE_WEIGHTS).unlink()
    assert not adopt(source)
    assert look(SMALL).state == "paused"
    server.asked.clear()
    fetch()
    check_installed(files)
    asked = {one.path.rpartition("/")[2] for one in server.asked}
    assert asked == {Path(WEIGHTS).name, Path(MORE_WEIGHTS).name}
    assert changed.read_bytes() == bytes(len(files[WEIGHTS]))  # theirs is theirs


def test_a_disk_without_links_gets_a_copy(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    files = FakeHub().add()
    (source,) = adoption.find_sources(as_cache(files, tmp_path / "theirs"))
    monkeypatch.setattr(os, "link", refuse)
    assert adopt(source)
    check_installed(files)
    assert not (folder_of(SMALL) / WEIGHTS).samefile((source.folder / WEIGHTS).resolve())


def test_a_folder_with_nothing_known_is_refused(place: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_index.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "nowhere", Path("relative")):
        with pytest.raises(NotFound):
            adoption.find_sources(folder)


# -------------------------------------------------------------------------------------- the list


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_the_least_gpu_makes_a_full_hd_take(row: Checkpoint, tmp_path: Path):
    if not row.least_gpu_gb:
        return
    fields = {"checkpoint": row.name, "width": 1920, "height": 1080, "frames": row.native_frames}
    picture = {"first_image": {"path": "/koi.png", "sha256": "0" * 64}}
    kind = {"kind": "text"} if row.takes_text else {"kind": "image", **picture}
    request = Request.parse({**fields, **kind, "prompt": "koi", "seed": 1})
    gpu = Machine("cuda", "the least", 10**12, row.least_gpu_gb * 2**30)
    admit(make_plan(request, gpu))


def test_a_gpu_is_recommended_what_it_has_the_memory_for():
    def name(gigabytes: float) -> str:
        row = recommended(int(gigabytes * 2**30))
        return row.name if row else ""

    assert [name(size) for size in (0, 8, 11.6, 24, 31.4, 79.2)] == [
        "", "", "wan2.1-t2v-1.3b", "wan2.1-t2v-1.3b", "wan2.2-ti2v-5b", "wan2.1-t2v-14b",
    ]  # fmt: skip
    for row in CATALOG:
        assert row.recommended_gpu_gb == 0 or row.recommended_gpu_gb >= row.least_gpu_gb
        assert row.speed and row.fidelity and row.download_bytes > 0
