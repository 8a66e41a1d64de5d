"""What becomes of jobs: made, stopped, failed, crashed, and picked up again after a restart."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from at_work import all_in, is_quiet, running_studio, submitted, until
from fake_worker import STEPS, chain_of
from send2trash import TrashPermissionError

from freeswim import paths
from freeswim.errors import Conflict, OutputError
from freeswim.request import Request
from freeswim.studio import publish
from freeswim.studio.executors.local import Patience
from freeswim.studio.folders import JobFolder
from freeswim.studio.job import Job, JobState, QueueMode, Reason, Verdict, Wish
from freeswim.studio.store import Store
from freeswim.studio.studio import Studio, Submission

pytestmark = pytest.mark.usefixtures("home")


async def job_of(studio: Studio, job_id: str) -> Job:
    return await studio.ask(lambda store: store.job(job_id))


async def until_running(studio: Studio, job_id: str, step: int = 1) -> None:
    async with asyncio.timeout(20):
        while True:
            progress = studio.progress.get(job_id)
            if progress is not None and progress.step >= step:
                return
            await studio.wait(studio.seq, 0.1)


def steps_of(job_id: str) -> list[int]:
    """The steps that were computed for a job, over all its attempts."""
    return [int(line) for line in (JobFolder(job_id).path / "steps.txt").read_text().split()]


def test_takes_land_in_the_takes_folder_with_sidecars_and_nothing_else():
    async def story() -> None:
        async with running_studio(slots=2) as studio:
            jobs, is_new = await studio.submit(
                Submission(
                    preset="demo",
                    request={"prompt": "koi"},
                    seeds=[1, 2, 3],
                    shot={"name": "SC 010"},  # pyright: ignore
                )
            )
            assert is_new and len(jobs) == 3
            await until(studio, all_in(JobState.DONE))
            takes = await studio.ask(lambda store: store.takes())
            assert sorted(take.number for take in takes) == [1, 2, 3]
            names = sorted(path.name for path in paths.takes().iterdir())
            assert names == [
                f"SC-010_take0{number}.{suffix}"
                for number in (1, 2, 3)
                for suffix in ("json", "mp4")
            ]
            for take in takes:
                job = await job_of(studio, take.job_id)
                media = paths.takes() / take.file
                assert media.read_text() == chain_of(Request.parse(job.request))
                sidecar = json.loads(media.with_suffix(".json").read_text())
                assert sidecar["media"]["file"] == take.file
                left = {path.name for path in JobFolder(job.id).path.iterdir()}
                assert left == {"spec.json", "manifest.json", "steps.txt"}

    asyncio.run(story())


def test_jobs_are_made_in_the_order_of_the_queue():
    async def story() -> None:
        async with running_studio() as studio:
            await studio.set_mode(QueueMode.STOP_AFTER)
            jobs = [await submitted(studio, f"koi {number}") for number in range(3)]
            await studio.change(lambda store: store.move([jobs[2].id], to="front"))
            await studio.set_mode(QueueMode.RUN)
            await until(studio, all_in(JobState.DONE))
            done = [await job_of(studio, job.id) for job in jobs]
            order = sorted(done, key=lambda job: job.ended_at or 0)
            assert [job.prompt for job in order] == ["koi 2", "koi 0", "koi 1"]

    asyncio.run(story())


@pytest.mark.parametrize("mishap", ["crash", "segfault", "hang", "silent"])
def test_a_job_that_always_breaks_its_worker_fails_and_the_next_goes_on(mishap: str):
    patience = Patience(beat_s=1.0, step_s=1.0, first_step_s=3.0)

    async def story() -> None:
        async with running_studio(patience=patience) as studio:
            bad = await submitted(studio, mishap)
            good = await submitted(studio)
            await until(studio, is_quiet)
            failed = await job_of(studio, bad.id)
            assert failed.state == JobState.FAILED and failed.failure is not None
            assert failed.failure.code == "crash" and failed.attempt == 3
            assert JobFolder(bad.id).log.is_file()
            assert (await job_of(studio, good.id)).state == JobState.DONE

    asyncio.run(story())


def test_a_crash_costs_the_steps_since_the_last_checkpoint_and_no_more():
    async def story() -> None:
        async with running_studio() as studio:
            job = await submitted(studio, "crash-once")
            await until(studio, is_quiet)
            done = await job_of(studio, job.id)
            assert done.state == JobState.DONE and done.attempt == 2
            assert steps_of(job.id) == [0, 1, 2, *range(2, STEPS)]
            take = (await studio.ask(lambda store: store.takes()))[0]
            assert (paths.takes() / take.file).read_text() == chain_of(Request.parse(job.request))

    asyncio.run(story())


def test_an_error_that_a_worker_names_fails_the_job_with_its_words():
    async def story() -> None:
        async with running_studio() as studio:
            job = await submitted(studio, "oom")
            await until(studio, is_quiet)
            failed = await job_of(studio, job.id)
            assert failed.failure is not None
            assert (failed.failure.code, failed.failure.message) == ("out_of_memory", "Too large.")
            assert JobFolder(job.id).read_ended() is not None

    asyncio.run(story())


def test_a_slot_on_which_three_jobs_crash_is_disabled_and_can_be_enabled():
    async def story() -> None:
        async with running_studio() as studio:
            for number in range(3):
                await submitted(studio, f"crash {number}")
            good = await submitted(studio)

            async with asyncio.timeout(30):
                while (await studio.machine())["slots"][0]["state"] != "disabled":
                    await studio.wait(studio.seq, 0.2)
            assert (await job_of(studio, good.id)).state == JobState.QUEUED
            await studio.change(lambda store: store.move([good.id], to="front"))
            studio.enable_slot("slot-0")
            await until(studio, lambda jobs: any(job.state == JobState.DONE for job in jobs))

    asyncio.run(story())


def test_three_failures_of_one_kind_stop_the_queue_and_others_do_not():
    async def story() -> None:
        async with running_studio() as studio:
            await studio.change(lambda store: store.set_mode(QueueMode.PAUSE))
            for prompt in ("oom", "oom", "koi", "oom", "oom"):
                await submitted(studio, prompt)
            await studio.change(lambda store: store.set_mode(QueueMode.RUN))
            await until(studio, is_quiet)
            assert (await studio.ask(Store.queue)).mode == QueueMode.RUN  # a take was between them

            last = [await submitted(studio, "oom"), await submitted(studio)]
            await until(
                studio, lambda jobs: any(job.id == last[0].id and job.failure for job in jobs)
            )
            assert (await studio.ask(Store.queue)).mode == QueueMode.STOP_AFTER
            assert (await job_of(studio, last[1].id)).state == JobState.QUEUED
            await studio.change(lambda store: store.set_mode(QueueMode.RUN))
            await until(studio, is_quiet)
            assert (await job_of(studio, last[1].id)).state == JobState.DONE

    asyncio.run(story())


def test_a_take_goes_into_the_systems_trash_with_what_lies_beside_it():
    async def story() -> None:
        async with running_studio() as studio:
            job = await submitted(studio)
            await until(studio, all_in(JobState.DONE))
            take_id = (await job_of(studio, job.id)).take_id
            taken = await studio.ask(lambda store: store.take(take_id))
            trashed = await studio.trash(take_id)
            assert trashed.verdict == Verdict.TRASHED and trashed.seq > taken.seq
            assert list(paths.takes().glob("*.*")) == []
            trash = Path(os.environ["XDG_DATA_HOME"]) / "Trash" / "files"
            assert {Path(taken.file).suffix, ".json"} <= {path.suffix for path in trash.iterdir()}
            assert await studio.ask(Store.takes) == []
            with pytest.raises(Conflict, match="is in the trash"):
                await studio.change(lambda store: store.judge(take_id, Verdict.APPROVED))
            again = await studio.again(job.id, new_seed=False)
            await until(studio, all_in(JobState.DONE))
            made = await studio.ask(lambda store: store.takes(shot_id=again.shot_id))
            assert [take.number for take in made] == [2]

    asyncio.run(story())


def test_a_take_that_the_system_does_not_take_stays_where_it_is(monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> None:
        raise TrashPermissionError(path)

    async def story() -> None:
        async with running_studio() as studio:
            job = await submitted(studio)
            await until(studio, all_in(JobState.DONE))
            take_id = (await job_of(studio, job.id)).take_id
            monkeypatch.setattr(publish, "send2trash", refuse)
            with pytest.raises(OutputError, match="cannot be moved to the trash"):
                await studio.trash(take_id)
            taken = await studio.ask(lambda store: store.take(take_id))
            assert taken.verdict == Verdict.NEW and (paths.takes() / taken.file).is_file()

    asyncio.run(story())


def test_cancel_is_felt_at_once_and_done_at_the_next_step():
    async def story() -> None:
        async with running_studio() as studio:
            job = await submitted(studio)
            await until_running(studio, job.id)
            assert (await studio.cancel(job.id)).wish == Wish.CANCEL
            await until(studio, is_quiet)
            cancelled = await job_of(studio, job.id)
            assert cancelled.state == JobState.CANCELLED and cancelled.wish == Wish.NONE
            assert not JobFolder(job.id).checkpoints.exists()
            assert (await studio.retry(job.id)).state == JobState.QUEUED
            await until(studio, all_in(JobState.DONE))

    asyncio.run(story())


def test_a_worker_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswim.studio.executors.local.PATIENCE_S", 0.05)

    async def story() -> None:
        async with running_studio() as studio:
            job = await submitted(studio, "stubborn")
            await until_running(studio, job.id)
            await studio.cancel(job.id)
            await until(studio, is_quiet)
            assert (await job_of(studio, job.id)).state == JobState.CANCELLED

    asyncio.run(story())


def test_a_paused_job_goes_on_from_its_checkpoint():
    async def story() -> None:
        async with running_studio() as studio:
            job = await submitted(studio)
            await until_running(studio, job.id, step=4)
            await studio.pause(job.id)
            await until(studio, all_in(JobState.PAUSED))
            await studio.resume(job.id)
            await until(studio, all_in(JobState.DONE))
            steps = steps_of(job.id)
            assert len(steps) <= STEPS + 1 and sorted(set(steps)) == list(range(STEPS))

    asyncio.run(story())


def test_pausing_the_queue_stops_the_job_that_runs_and_keeps_its_place():
    async def story() -> None:
        async with running_studio() as studio:
            first, second = await submitted(studio), await submitted(studio, "later")
            await until_running(studio, first.id)
            await studio.set_mode(QueueMode.PAUSE)
            await until(studio, all_in(JobState.QUEUED))
            queued = await studio.ask(lambda store: store.queued())
            assert [job.id for job in queued] == [first.id, second.id]
            await studio.set_mode(QueueMode.RUN)
            await until(studio, all_in(JobState.DONE))

    asyncio.run(story())


def test_a_job_waits_for_a_full_disk_and_goes_on_by_itself(home: Path):
    async def story() -> None:
        async with running_studio() as studio:
            (home / "full").touch()
            job = await submitted(studio, "full-disk")
            await until(studio, all_in(JobState.WAITING))
            waiting = await job_of(studio, job.id)
            assert waiting.reason == Reason.DISK and waiting.needed_bytes > 0
            (home / "full").unlink()
            await until(studio, all_in(JobState.DONE))

    asyncio.run(story())


def test_a_job_waits_for_its_checkpoint_and_goes_on_when_it_is_installed(
    home: Path,
):
    async def story() -> None:
        async with running_studio(worker=MISSING_MODEL) as studio:
            job = await submitted(studio)
            await until(studio, all_in(JobState.WAITING))
            waiting = await job_of(studio, job.id)
            assert waiting.reason == Reason.MODEL and waiting.failure is not None
            (paths.models() / "demo").mkdir(parents=True)
            await until(studio, all_in(JobState.FAILED))  # this worker says so for ever

    asyncio.run(story())


MISSING_MODEL = (
    sys.executable,
    "-c",
    "import sys, json\n"
    "print(json.dumps({'event': 'hello', 'protocol': 1, 'version': '', 'pid': 1}), flush=True)\n"
    "for line in sys.stdin:\n"
    "    run = json.loads(line)\n"
    "    if run['do'] == 'run':\n"
    "        print(json.dumps({'event': 'failed', 'job_id': run['job_id'], 'message': 'None.',\n"
    "                          'code': 'checkpoint_missing'}), flush=True)\n",
)


def test_the_same_key_adds_nothing_and_for_another_body_it_is_refused():
    async def story() -> None:
        async with running_studio() as studio:
            await studio.set_mode(QueueMode.STOP_AFTER)
            fields = {"preset": "demo", "request": {"prompt": "koi"}, "key": "0123456789"}
            first, is_new = await studio.submit(Submission.model_validate(fields))
            again, is_again_new = await studio.submit(Submission.model_validate(fields))
            assert (is_new, is_again_new) == (True, False)
            assert [job.id for job in first] == [job.id for job in again]
            with pytest.raises(Conflict):
                await studio.submit(Submission.model_validate(fields | {"seeds": [1]}))
            assert len(list(paths.jobs().iterdir())) == 1

    asyncio.run(story())


def test_a_draft_is_finished_as_a_new_take_of_its_shot():
    async def story() -> None:
        async with running_studio() as studio:
            await submitted(studio, request={"prompt": "koi", "seed": 4, "draft": True})
            await until(studio, all_in(JobState.DONE))
            draft = (await studio.ask(lambda store: store.takes()))[0]
            assert draft.is_draft and draft.file.endswith("_draft.mp4")
            await studio.finish(draft.id, {})
            await until(studio, all_in(JobState.DONE))
            finished = (await studio.ask(lambda store: store.takes()))[0]
            assert (finished.shot_id, finished.number, finished.seed) == (draft.shot_id, 2, 4)
            assert not finished.is_draft
            with pytest.raises(Conflict):
                await studio.finish(finished.id, {})

    asyncio.run(story())


def test_a_waiting_job_can_be_edited_and_made_again():
    async def story() -> None:
        async with running_studio() as studio:
            await studio.set_mode(QueueMode.STOP_AFTER)
            job = await submitted(studio)
            edited = await studio.edit(job.id, {"prompt": "carp", "refine": {"strength": 0.5}})
            assert edited.prompt == "carp" and edited.request["refine"]["strength"] == 0.5
            assert edited.request["refine"]["steps"] == job.request["refine"]["steps"]
            spec = JobFolder(job.id).read_spec()
            assert spec is not None and spec.request == edited.request
            same = await studio.again(job.id, new_seed=False)
            other = await studio.again(job.id, new_seed=True)
            assert same.request == edited.request and same.shot_id == job.shot_id
            assert other.request | {"seed": 1} == edited.request

    asyncio.run(story())


def test_a_lost_database_is_made_anew_from_the_job_folders(home: Path):
    async def before() -> None:
        async with running_studio() as studio:
            await submitted(studio, "done", key="0123456789")
            await submitted(studio, "oom")
            await until(studio, is_quiet)
            await studio.set_mode(QueueMode.STOP_AFTER)
            await submitted(studio, "still to be made")

    async def after() -> None:
        async with running_studio() as studio:
            jobs = await studio.ask(lambda store: store.history())
            states = {job.prompt: job.state for job in jobs}
            assert states["done"] == JobState.DONE and states["oom"] == JobState.FAILED
            assert "still to be made" in states
            takes = await studio.ask(lambda store: store.takes())
            assert len(takes) == 1 and (paths.takes() / takes[0].file).is_file()
            again = await submitted(studio, "done", key="0123456789")
            assert again.state == JobState.DONE
            await studio.change(lambda store: store.judge(takes[0].id, Verdict.APPROVED))
            await until(studio, is_quiet)

    asyncio.run(before())
    for path in home.glob("studio.*"):
        path.unlink()
    asyncio.run(after())


def test_a_finished_attempt_that_nobody_published_is_published_after_a_restart():
    async def before() -> str:
        async with running_studio() as studio:
            await studio.set_mode(QueueMode.STOP_AFTER)
            return (await submitted(studio)).id

    async def after(job_id: str) -> None:
        async with running_studio() as studio:
            await studio.set_mode(QueueMode.RUN)
            await until(studio, all_in(JobState.DONE))
            assert not (JobFolder(job_id).path / "steps.txt").exists()

    job_id = asyncio.run(before())
    folder = JobFolder(job_id)
    attempt = folder.begin(1)
    spec = folder.read_spec()
    assert spec is not None
    request = Request.parse(spec.request)
    chain = chain_of(request)
    (attempt / "take.mp4").write_text(chain)
    media = {
        "file": "take.mp4", "sha256": hashlib.sha256(chain.encode()).hexdigest(),
        "width": 1, "height": 1, "frames": 1, "frame_rate": "16",
    }  # fmt: skip
    sidecar = {"schema": 1, "media": media, "request": request.as_dict()}
    sidecar |= {"request_sha256": request.digest()}
    (attempt / "take.json").write_text(json.dumps(sidecar))
    asyncio.run(after(job_id))


def test_a_worker_whose_takes_are_never_what_they_say_is_not_tried_for_ever():
    async def story() -> None:
        async with running_studio() as studio:
            job, good = await submitted(studio, "lies"), await submitted(studio, "koi")
            await until(studio, is_quiet)
            ended = await job_of(studio, job.id)
            assert (ended.state, ended.attempt) == (JobState.FAILED, 3)
            assert ended.failure is not None and "is not what was written" in ended.failure.message
            assert (await job_of(studio, good.id)).state == JobState.DONE
            assert len(list(paths.takes().iterdir())) == 2

    asyncio.run(story())


def test_a_start_passes_over_folders_that_it_cannot_use():
    """One of a submission that was never acknowledged, and one of a version with other requests."""

    async def before() -> list[Job]:
        async with running_studio() as studio:
            await studio.set_mode(QueueMode.STOP_AFTER)
            jobs, _ = await studio.submit(
                Submission(preset="demo", request={"prompt": "a"}, seeds=[1, 2], key="k" * 8)
            )
            return [*jobs, await submitted(studio, "other")]

    async def after() -> list[str]:
        async with running_studio() as studio:
            jobs = await studio.ask(lambda store: store.history())
            again, is_new = await studio.submit(
                Submission(preset="demo", request={"prompt": "a"}, seeds=[1, 2], key="k" * 8)
            )
            assert is_new and len(again) == 2
            return [job.id for job in jobs]

    first, second, other = asyncio.run(before())
    paths.database().unlink()
    paths.database().with_suffix(".identity").unlink()
    shutil.rmtree(paths.backups(), ignore_errors=True)
    JobFolder(second.id).remove()
    spec = JobFolder(other.id).read_spec()
    assert spec is not None
    foreign = spec.model_copy(update={"request": spec.request | {"of_tomorrow": 1}})
    JobFolder(other.id).write_spec(foreign)
    assert asyncio.run(after()) == []
    assert not JobFolder(first.id).path.exists()
    assert JobFolder(other.id).read_spec() == foreign


def test_the_name_of_a_take_that_was_moved_away_is_not_given_again():
    async def story() -> None:
        async with running_studio() as studio:
            for _ in range(2):  # two shots of one name
                await submitted(studio, shot={"name": "sh010"})
                await until(studio, is_quiet)
                for path in paths.takes().iterdir():
                    path.unlink()
            takes = await studio.ask(lambda store: store.takes())
            assert sorted(take.file for take in takes) == ["sh010_take01-2.mp4", "sh010_take01.mp4"]

    asyncio.run(story())


def test_a_job_that_is_tried_again_has_not_ended():
    async def story() -> None:
        async with running_studio() as studio:
            job = await submitted(studio, "oom")
            await until(studio, is_quiet)
            assert JobFolder(job.id).read_ended() is not None
            await studio.set_mode(QueueMode.STOP_AFTER)
            await studio.retry(job.id)
            assert JobFolder(job.id).read_ended() is None

    asyncio.run(story())
