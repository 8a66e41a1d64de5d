"""Job folders: what they tell, how they are written, and links that somebody planted in them."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from at_work import running_studio, submitted
from rows import new_id, new_take

from freeswim import paths
from freeswim.errors import OutputError
from freeswim.studio import runner
from freeswim.studio.folders import JobFolder, Spec, all_folders
from freeswim.studio.job import Failure, Job, JobState

pytestmark = pytest.mark.usefixtures("home")


def spec_of(job_id: str, **fields: object) -> Spec:
    return Spec.model_validate(
        {
            "id": job_id,
            "shot_id": "5" * 16,
            "shot_name": "SC 010",
            "placement": {"track": 1, "name": "鯉 \N{WAVE DASH}"},
            "request": {"prompt": "koi"},
            "created_at": 1.5,
        }
        | fields
    )


def job_in(state: JobState, failure: Failure | None = None) -> Job:
    return Job.model_validate(
        {
            "id": new_id(), "number": 1, "shot_id": "5" * 16, "shot_name": "SC 010",
            "request": {}, "request_sha256": "", "prompt": "", "state": state, "rank": 1,
            "created_at": 1, "seq": 1, "failure": failure,
        }
    )  # fmt: skip


@pytest.fixture
def folder() -> JobFolder:
    """The folder of a job, begun once."""
    folder = JobFolder(new_id())
    folder.write_spec(spec_of(folder.job_id))
    folder.begin(1)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody else, with all names that a job folder has."""
    outside = tmp_path / "outside"
    for name in ("attempt-1", "checkpoints"):
        (outside / name).mkdir(parents=True)
        (outside / name / "theirs").write_text("theirs")
    for name in ("spec.json", "ended.json", "manifest.json", "preview.jpg", "worker.log", "x"):
        (outside / name).write_text("theirs")
    return outside


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def test_what_is_written_is_read_again(folder: JobFolder):
    take, failure = new_take(), Failure(code="media", message="No video.", details={"frame": 3})
    folder.write_manifest(take)
    folder.write_ended(job_in(JobState.FAILED, failure))
    assert folder.read_spec() == spec_of(folder.job_id)
    assert folder.read_manifest() == take
    ended = folder.read_ended()
    assert ended is not None and (ended.state, ended.failure) == (JobState.FAILED, failure)
    assert [found.job_id for found in all_folders()] == [folder.job_id]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b'{"id": 1}', b"[" * 100_000],
    ids=["empty", "half", "null", "list", "nothing", "no-text", "wrong", "deep"],
)
def test_a_file_that_cannot_be_read_tells_nothing(folder: JobFolder, content: bytes):
    for name in ("spec.json", "manifest.json", "ended.json"):
        (folder.path / name).write_bytes(content)
    assert folder.read_spec() is folder.read_manifest() is folder.read_ended() is None


@pytest.mark.parametrize("state", ["done", "queued", "running"])
def test_a_job_that_did_not_end_without_a_take_is_not_read_as_ended(folder: JobFolder, state: str):
    (folder.path / "ended.json").write_text(f'{{"state": "{state}"}}')
    assert folder.read_ended() is None


def test_a_copy_of_a_job_folder_is_no_job(folder: JobFolder):
    copy = JobFolder(new_id())
    shutil.copytree(folder.path, copy.path)
    assert copy.read_spec() is None and folder.read_spec() is not None


@pytest.mark.parametrize("job_id", ["", "..", "../jobs", "A" * 16, "0" * 15, "0" * 17, "/" * 16])
def test_what_is_no_id_of_a_job_has_no_folder(job_id: str):
    with pytest.raises(ValueError, match="no id"):
        JobFolder(job_id).path


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_file_is_written_whole_or_stays_what_it_was(
    folder: JobFolder, call: str, monkeypatch: pytest.MonkeyPatch
):
    take = new_take()
    folder.write_manifest(take)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(Path, "open", fail)
        else:
            patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            folder.write_manifest(new_take())
    assert folder.read_manifest() == take
    other = new_take()
    folder.write_manifest(other)
    assert folder.read_manifest() == other


def test_a_file_is_on_the_disk_before_it_gets_its_name(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file))[1])
    monkeypatch.setattr(
        os, "replace", lambda *names, **more: (calls.append("name"), replace(*names, **more))[1]
    )
    folder.write_manifest(new_take())
    assert calls[:2] == ["fsync", "name"]


def test_an_attempt_begins_with_nothing_of_those_before_it_but_the_checkpoints(folder: JobFolder):
    (folder.attempt(1) / "take.mp4").write_text("half")
    (folder.checkpoints / "step-1").write_text("whole")
    (folder.path / "attempt-7").write_text("a file that is no folder")
    folder.write_ended(job_in(JobState.CANCELLED))
    attempt = folder.begin(7)
    assert list(attempt.iterdir()) == [] and folder.attempts() == [attempt]
    assert (folder.checkpoints / "step-1").read_text() == "whole"
    assert folder.read_ended() is None


def test_the_last_attempt_comes_first(folder: JobFolder):
    for number in (2, 10, 9):
        folder.attempt(number).mkdir()
    (folder.path / "attempt-x").mkdir()
    names = [path.name for path in folder.attempts()]
    assert names == ["attempt-10", "attempt-9", "attempt-2", "attempt-1"]


def test_progress_shows_by_whole_checkpoints_only(folder: JobFolder):
    mark = folder.progress_mark()
    (folder.checkpoints / ".part").touch()
    assert folder.progress_mark() == mark
    (folder.checkpoints / "step-1").touch()
    assert folder.progress_mark() != mark


@pytest.mark.parametrize("keep_log", [True, False])
def test_a_job_at_its_end_leaves_what_tells_of_it_and_nothing_else(
    folder: JobFolder, keep_log: bool
):
    folder.write_manifest(new_take())
    folder.preview.touch()
    folder.log.touch()
    (folder.attempt(1) / "take.mp4").touch()
    (folder.checkpoints / "step-1").touch()
    for _ in range(2):
        folder.tidy(keep_log=keep_log)
        left = {path.name for path in folder.path.iterdir()}
        assert left == {"spec.json", "manifest.json"} | ({"worker.log"} if keep_log else set())


# ------------------------------------------------------------------------------------- links


def test_a_link_in_place_of_a_job_folder_is_not_written_to_and_nothing_deleted_behind_it(
    outside: Path,
):
    folder = JobFolder(new_id())
    paths.jobs().mkdir(parents=True)
    folder.path.symlink_to(outside, target_is_directory=True)
    before = tree(outside)
    assert list(all_folders()) == []
    for work in (
        lambda: folder.begin(1),
        lambda: folder.write_spec(spec_of(folder.job_id)),
        lambda: folder.write_manifest(new_take()),
    ):
        with pytest.raises(OutputError) as refused:
            work()
        assert "link" in refused.value.message and refused.value.hint
    folder.write_ended(job_in(JobState.FAILED))
    folder.tidy()
    assert tree(outside) == before
    folder.remove()
    assert tree(outside) == before and not folder.path.is_symlink()


def test_links_in_a_job_folder_are_removed_and_not_followed(folder: JobFolder, outside: Path):
    before = tree(outside)

    def plant() -> None:
        shutil.rmtree(folder.path)
        folder.path.mkdir()
        for name in ("attempt-1", "attempt-2", "checkpoints", "preview.jpg", "worker.log"):
            (folder.path / name).symlink_to(outside / name.replace("-2", "-1"))
        for name in ("spec", "manifest", "ended"):
            (folder.path / f"{name}.json").symlink_to(outside / f"{name}.json")
            (folder.path / f"{name}.part").symlink_to(outside / "x")

    plant()
    folder.write_spec(spec_of(folder.job_id))
    folder.write_manifest(new_take())
    folder.write_ended(job_in(JobState.CANCELLED))
    folder.begin(2)
    assert not [path for path in folder.path.rglob("*") if path.is_symlink()]
    assert tree(outside) == before
    plant()
    folder.tidy()
    assert tree(outside) == before
    assert not [path for path in folder.path.glob("[!semx]*") if path.is_symlink()]


def test_a_job_whose_folder_became_a_link_fails_with_a_hint_and_the_next_goes_on(
    outside: Path, monkeypatch: pytest.MonkeyPatch
):
    from at_work import is_quiet, until

    from freeswim.studio.job import QueueMode

    monkeypatch.setattr(runner, "LOOK_EVERY_S", 0.05)

    async def story() -> None:
        async with running_studio() as studio:
            await studio.set_mode(QueueMode.STOP_AFTER)
            bad, good = await submitted(studio, "bad"), await submitted(studio, "good")
            shutil.rmtree(JobFolder(bad.id).path)
            JobFolder(bad.id).path.symlink_to(outside, target_is_directory=True)
            before = tree(outside)
            await studio.set_mode(QueueMode.RUN)
            await until(studio, is_quiet)
            jobs = {job.id: job for job in await studio.ask(lambda store: store.history())}
            assert jobs[good.id].state == JobState.DONE
            assert jobs[bad.id].state == JobState.FAILED
            failure = jobs[bad.id].failure
            assert failure is not None and "link" in failure.message and failure.hint
            assert tree(outside) == before

    asyncio.run(story())
