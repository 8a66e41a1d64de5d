"""Takes on their way into the takes folder: names, files of other people, damage, repetition."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import new_id

from freeswim import paths
from freeswim.errors import MediaError, OutputExists
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.sidecar import file_sha256, latents_path, read_sidecar, sidecar_path
from freeswim.studio.database import open_database
from freeswim.studio.folders import JobFolder
from freeswim.studio.job import Job, JobState
from freeswim.studio.publish import TAKE, check_take, file_name, finished_attempt, name_take
from freeswim.studio.publish import put_in_place as put
from freeswim.studio.store import NewJob, NewShot, Store

pytestmark = pytest.mark.usefixtures("home")

RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"
}


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with closing(open_database().store) as store:
        yield store


@pytest.fixture
def job(store: Store) -> Job:
    return running(store)


def request_of(**changes: object) -> Request:
    return Request.parse(load_preset("demo").defaults | {"kind": "text", "prompt": "koi"} | changes)


def running(store: Store, shot_name: str = "SC 010", **changes: object) -> Job:
    """A job that was just begun."""
    new = NewJob(new_id(), request_of(**changes).as_json())
    store.add([new], shot=NewShot(new_id(), shot_name))
    job = store.claim()
    assert job is not None
    JobFolder(job.id).begin(job.attempt)
    return job


def made(job: Job, content: bytes = b"a video", latents: bytes | None = None) -> Path:
    """The take of the job in its attempt's folder, as a worker leaves it."""
    request = Request.parse(job.request)
    media = JobFolder(job.id).attempt(job.attempt) / TAKE
    media.write_bytes(content)
    said = {
        "file": media.name, "sha256": hashlib.sha256(content).hexdigest(),
        "width": request.width, "height": request.height, "frames": request.frames,
        "frame_rate": "24000/1001",
    }  # fmt: skip
    sidecar: dict[str, object] = {
        "schema": 1,
        "media": said,
        "request": request.as_dict(),
        "request_sha256": request.digest(),
    }
    if latents is not None:
        latents_path(media).write_bytes(latents)
        sidecar["latents"] = {
            "file": latents_path(media).name,
            "sha256": hashlib.sha256(latents).hexdigest(),
        }
    sidecar_path(media).write_text(json.dumps(sidecar))
    return media


def there() -> dict[str, bytes]:
    """What is in the takes folder; links are not followed."""
    if not paths.takes().is_dir():
        return {}
    return {
        path.name: b"-> link" if path.is_symlink() else path.read_bytes()
        for path in paths.takes().iterdir()
    }


# ------------------------------------------------------------------------------------- names


def is_safe(name: str) -> bool:
    """Whether every system takes a file name, and every shell and program takes it for one."""
    return (
        not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f]', name)
        and name.split(".")[0].rstrip().upper() not in RESERVED
        and name == name.rstrip(". ")
        and name[0] not in "-.~ "
        and len(name.encode()) <= 120
    )


NASTY = st.sampled_from(
    ["CON", "nul.txt", "com¹", "LPT9.", "..", "../../etc/passwd", "-rf *", ".hidden", "a:b", "~",
     "x" * 300, "鯉の池", "\u202egpj.exe", "a\0b", "a\nb", "trailing. ", "$(rm)", "%TEMP%", "🐟", "_"]
)  # fmt: skip


@given(name=st.one_of(st.text(max_size=200), NASTY, st.lists(NASTY).map(" ".join)))
def test_a_shot_of_any_name_gets_a_file_name_that_is_safe_everywhere(name: str):
    start = file_name(name)
    assert is_safe(start) and is_safe(f"{start}_take01_draft.mp4")
    assert start.isascii() and start == file_name(name)


@pytest.mark.parametrize(
    ("shot_name", "name"),
    [
        ("SC 010", "SC-010_take03.mp4"),
        ("Szene 7: Brücke / Außen", "Szene-7-Brucke-Auen_take03.mp4"),
        ("鯉", "shot_take03.mp4"),
        ("nul", "shot-nul_take03.mp4"),
        ("../../etc/passwd", "etc-passwd_take03.mp4"),
    ],
)
def test_a_take_is_named_by_its_shot_and_number(store: Store, shot_name: str, name: str):
    job = running(store, shot_name)
    take = name_take(job, made(job), number=3)
    assert (take.file, take.number, take.frame_rate) == (name, 3, "24000/1001")


def test_a_draft_is_named_a_draft(store: Store):
    job = running(store, draft=True)
    take = name_take(job, made(job, latents=b"latents"), number=12)
    assert take.file == "SC-010_take12_draft.mp4" and take.is_draft


@pytest.mark.parametrize("suffix", [".mp4", ".json", ".latents.safetensors"])
@pytest.mark.parametrize("is_link", [False, True])
def test_a_name_of_which_anything_is_there_is_not_taken(job: Job, suffix: str, is_link: bool):
    paths.takes().mkdir()
    theirs = paths.takes() / f"SC-010_take01{suffix}"
    if is_link:
        theirs.symlink_to("nowhere")
    else:
        theirs.touch()
    assert name_take(job, made(job), number=1).file == "SC-010_take01-2.mp4"


# ------------------------------------------------------------------------------ putting there


def test_a_take_is_put_there_whole_with_all_that_belongs_to_it(store: Store):
    job = running(store, draft=True)
    media = made(job, b"a video", b"latents")
    take = name_take(job, media, number=1)
    put(take, media)
    stem = "SC-010_take01_draft"
    assert set(there()) == {f"{stem}.mp4", f"{stem}.json", f"{stem}.latents.safetensors"}
    sidecar = check_take(paths.takes() / take.file, request_of(draft=True))
    assert sidecar["media"]["file"] == f"{stem}.mp4"
    assert sidecar["latents"]["file"] == f"{stem}.latents.safetensors"
    assert file_sha256(paths.takes() / take.file) == take.sha256
    shutil.rmtree(JobFolder(job.id).path)
    assert there()[take.file] == b"a video"


def test_a_take_that_is_published_twice_is_one_take(store: Store, job: Job):
    media = made(job)
    take = name_take(job, media, number=1)
    store.change(job.id, JobState.PUBLISHING, publishing=take)
    for _ in range(2):
        put(take, media)
        before = there()
        assert store.finish(job.id, take).id == take.id
    put(take, None)  # the attempt is tidied
    assert there() == before and len(before) == 2
    assert len(store.takes()) == 1


@pytest.mark.parametrize("call", ["link", "replace", "fsync"])
@pytest.mark.parametrize("nth", range(8))
def test_publishing_goes_on_wherever_it_was_cut_off(
    store: Store, call: str, nth: int, monkeypatch: pytest.MonkeyPatch
):
    job = running(store, draft=True)
    media = made(job, b"a video", b"latents")
    take = name_take(job, media, number=1)
    real: Callable[..., object] = getattr(os, call)
    calls = iter(range(1000))

    def cut_off(*names: object, **more: object) -> object:
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*names, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, cut_off)
        try:
            put(take, media)
        except OSError as error:
            assert error.errno == errno.ENOSPC
    assert there().get(take.file, b"a video") == b"a video"
    put(take, media)
    check_take(paths.takes() / take.file, request_of(draft=True))
    assert len(there()) == 3


def test_a_disk_without_links_gets_a_copy(job: Job, monkeypatch: pytest.MonkeyPatch):
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    media = made(job)
    take = name_take(job, media, number=1)
    monkeypatch.setattr(os, "link", link)
    put(take, media)
    target = paths.takes() / take.file
    assert target.stat().st_ino != media.stat().st_ino and len(there()) == 2
    check_take(target, request_of())


# ---------------------------------------------------------------------- files of other people


@pytest.mark.parametrize("suffix", [".mp4", ".json", ".latents.safetensors"])
@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_that_took_the_name_meanwhile_is_never_overwritten(
    store: Store, tmp_path: Path, suffix: str, is_link: bool
):
    job = running(store, draft=True)
    media = made(job, b"a video", b"latents")
    take = name_take(job, media, number=1)
    paths.takes().mkdir()
    theirs = (paths.takes() / take.file).with_suffix(suffix)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")
    if is_link:
        theirs.symlink_to(elsewhere)
    else:
        theirs.write_bytes(b"theirs")
    before = there()
    with pytest.raises(OutputExists):
        put(take, media)
    assert there() == before and elsewhere.read_bytes() == b"theirs"
    other = name_take(job, media, number=1)
    put(other, media)
    assert other.file != take.file and len(there()) == 4
    assert theirs.read_bytes() == b"theirs"


def test_a_takes_folder_that_is_a_link_is_used(job: Job, tmp_path: Path):
    """The person put it on another disk."""
    (tmp_path / "disk").mkdir()
    paths.takes().symlink_to(tmp_path / "disk", target_is_directory=True)
    media = made(job)
    put(name_take(job, media, number=1), media)
    assert len(list((tmp_path / "disk").iterdir())) == 2


@pytest.mark.parametrize("name", [TAKE, "take.json", "take.latents.safetensors"])
def test_an_attempt_with_a_link_for_a_file_is_not_published(
    store: Store, tmp_path: Path, name: str
):
    job = running(store, draft=True)
    media = made(job, b"a video", b"latents")
    take = name_take(job, media, number=1)
    elsewhere = tmp_path / "elsewhere"
    planted = media.with_name(name)
    planted.replace(elsewhere)
    planted.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    assert finished_attempt(JobFolder(job.id), job) is None
    with pytest.raises(MediaError):
        put(take, media)
    assert b"-> link" not in there().values()
    assert elsewhere.read_bytes() == before


# ------------------------------------------------------------------------------------ damage


def test_a_take_whose_bytes_are_not_those_that_were_named_is_refused(job: Job):
    media = made(job)
    take = name_take(job, media, number=1)
    media.write_bytes(b"a vid")
    with pytest.raises(MediaError, match="not what was written"):
        put(take, media)
    assert there() == {}
    made(job, b"another video")
    with pytest.raises(MediaError):
        put(take, media)
    assert there() == {}


def test_a_take_that_is_in_neither_place_is_refused(job: Job):
    media = made(job)
    take = name_take(job, media, number=1)
    with pytest.raises(MediaError, match="gone"):
        put(take, None)
    put(take, media)
    sidecar_path(paths.takes() / take.file).unlink()
    with pytest.raises(MediaError, match="gone"):
        put(take, None)
    put(take, media)
    assert len(there()) == 2


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no-video": Path.unlink,
    "half-a-video": lambda media: media.write_bytes(media.read_bytes()[:3]),
    "no-sidecar": lambda media: sidecar_path(media).unlink(),
    "half-a-sidecar": lambda media: os.truncate(sidecar_path(media), 99),
    "sidecar-of-nothing": lambda media: sidecar_path(media).write_text("{}"),
    "sidecar-without-media": lambda media: edit(media, lambda said: said.pop("media")),
    "sidecar-of-a-list": lambda media: edit(media, lambda said: said.update(media=[])),
    "no-latents": lambda media: latents_path(media).unlink(),
    "half-of-the-latents": lambda media: os.truncate(latents_path(media), 3),
    "latents-of-nothing": lambda media: edit(media, lambda said: said.update(latents=None)),
    "another-request": lambda media: edit(media, lambda said: said.update(request_sha256="")),
}


def edit(media: Path, change: Callable[[dict[str, object]], object]) -> None:
    said = read_sidecar(media)
    change(said)
    sidecar_path(media).write_text(json.dumps(said))


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_attempt_that_is_not_whole_is_not_finished(store: Store, damage: str):
    job = running(store, draft=True)
    media = made(job, b"a video", b"latents")
    assert finished_attempt(JobFolder(job.id), job) == media
    DAMAGES[damage](media)
    assert finished_attempt(JobFolder(job.id), job) is None


@pytest.mark.parametrize("damage", ["no-sidecar", "sidecar-without-media", "sidecar-of-a-list"])
def test_a_take_whose_sidecar_says_nothing_of_it_gets_no_name(job: Job, damage: str):
    media = made(job)
    DAMAGES[damage](media)
    with pytest.raises(MediaError):
        name_take(job, media, number=1)


def test_the_newest_whole_attempt_is_the_finished_one(job: Job):
    folder = JobFolder(job.id)
    media = made(job)
    for number in (2, 3):
        shutil.copytree(media.parent, folder.attempt(number))
    (folder.attempt(3) / TAKE).write_bytes(b"half")
    assert finished_attempt(folder, job) == folder.attempt(2) / TAKE
    edited = job.model_copy(update={"request": request_of(prompt="carp").as_dict()})
    assert finished_attempt(folder, edited) is None
