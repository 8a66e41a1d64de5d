"""The database file, damaged in every way we could think of, and the disk that refuses it."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from at_work import running_studio, submitted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows import add, new_take

from freeswim import paths
from freeswim.errors import DiskFull, FreeswimError, StudioError
from freeswim.studio import database, runner
from freeswim.studio.database import back_up, open_database, release_reserve
from freeswim.studio.folders import JobFolder
from freeswim.studio.job import ENDED, Job, JobState, QueueMode, Take, Wish
from freeswim.studio.store import SCHEMA, Store

pytestmark = pytest.mark.usefixtures("home")

PAGE = 4096
MARK = "koi in the pond"  # where a request's payload is, to be flipped


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK_EVERY_S", 0.02)


# --------------------------------------------------------------------------- a studio's past


def finished(store: Store, prompt: str) -> None:
    """The take of a job that is in the queue, as a runner leaves it."""
    (job,) = (job for job in store.queued() if job.prompt == prompt)
    store.move([job.id])
    store.set_mode(QueueMode.RUN)
    assert store.claim() is not None
    take = new_take(store.next_take_number(job.shot_id))
    store.change(job.id, JobState.PUBLISHING, publishing=take)
    JobFolder(job.id).write_manifest(take)
    store.finish(job.id, take)
    JobFolder(job.id).tidy()


def cancelled(store: Store, prompt: str) -> None:
    (job,) = (job for job in store.queued() if job.prompt == prompt)
    JobFolder(job.id).write_ended(store.change(job.id, JobState.CANCELLED))


async def fill(*, with_backup: bool) -> None:
    """A studio with a past, of which a backup knows the first half."""
    async with running_studio(slots=0) as studio:
        await submitted(studio, "done before", key="key-0000")
        await submitted(studio, MARK)
        await submitted(studio, "carp " * 1900)  # more than a page
        await submitted(studio, "cancelled before")
        await submitted(studio, "done after")
        await submitted(studio, "cancelled after")
        await studio.change(lambda store: finished(store, "done before"))
        await studio.change(lambda store: cancelled(store, "cancelled before"))
        if with_backup:
            await studio.ask(back_up)
        await submitted(studio, "new and done")
        await submitted(studio, "new")
        await studio.change(lambda store: finished(store, "new and done"))
        await studio.change(lambda store: finished(store, "done after"))
        await studio.change(lambda store: cancelled(store, "cancelled after"))


@pytest.fixture(scope="module")
def pasts(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Folders of studios with a past: with a backup, and without."""
    folders: dict[bool, Path] = {}
    for with_backup in (True, False):
        folders[with_backup] = tmp_path_factory.mktemp("past") / "home"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FREESWIM_HOME", str(folders[with_backup]))
            patch.setattr(runner, "LOOK_EVERY_S", 0.02)
            asyncio.run(fill(with_backup=with_backup))
    return folders


@pytest.fixture(params=[True, False], ids=["with-backup", "without-backup"])
def past(request: pytest.FixtureRequest, home: Path, pasts: dict[bool, Path]) -> Path:
    """The folder of a studio with a past."""
    shutil.copytree(pasts[request.param], home)
    return home


async def read() -> tuple[list[Job], list[Take]]:
    async with running_studio(slots=0) as studio:
        return await studio.ask(lambda store: (store.history(), store.takes()))


def remembered() -> tuple[dict[str, JobState], set[tuple[str, str]]]:
    """What a studio that is started here knows: (jobs' ends, files of takes by their jobs)."""
    jobs, takes = asyncio.run(read())
    ends = {job.id: job.state if job.state in ENDED else JobState.QUEUED for job in jobs}
    return ends, {(take.job_id, take.file) for take in takes}


def quarantined(home: Path) -> list[Path]:
    return sorted(home.glob("studio.db.corrupt-*"))


# --------------------------------------------------------------------------------- damage


def truncated(size: Callable[[int], int]) -> Callable[[bytes], bytes]:
    return lambda content: content[: size(len(content))]


def with_garbage(start: int, end: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:start] + random.Random(1).randbytes(end - start) + content[end:]


def with_a_flipped_request(content: bytes) -> bytes:
    where = content.index(f'"prompt":"{MARK}'.encode()) + len('"prompt":"')
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


DAMAGES = {
    "empty": truncated(lambda _: 0),
    "50-bytes": truncated(lambda _: 50),
    "100-bytes": truncated(lambda _: 100),
    "one-page": truncated(lambda _: PAGE),
    "half": truncated(lambda size: size // 2),
    "half-in-pages": truncated(lambda size: size // PAGE // 2 * PAGE),
    "a-page-less": truncated(lambda size: size - PAGE),
    "a-byte-less": truncated(lambda size: size - 1),
    "a-byte-more": lambda content: content + b"\0",
    "a-page-more": lambda content: content + bytes(PAGE),
    "header": with_garbage(0, 100),
    "header-behind-the-magic": with_garbage(16, 100),
    "first-page": with_garbage(100, PAGE),
    "zeros": lambda content: bytes(len(content)),
    "flipped-request": with_a_flipped_request,
    "text": lambda _: b"not a database",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_kept_aside_and_no_job_and_no_take_is_lost(past: Path, damage: str):
    before = remembered()
    broken = DAMAGES[damage](paths.database().read_bytes())
    paths.database().write_bytes(broken)
    after = remembered()
    assert after == before
    (aside,) = quarantined(past)
    assert aside.read_bytes() == broken
    assert remembered() == before and len(quarantined(past)) == 1


def test_a_database_that_is_gone_is_made_anew_from_what_is_left(past: Path):
    before = remembered()
    paths.database().unlink()
    assert remembered() == before
    assert not quarantined(past)


def test_the_queue_keeps_its_order_and_its_pauses_where_a_backup_has_them(
    home: Path, pasts: dict[bool, Path]
):
    shutil.copytree(pasts[True], home)
    with closing(open_database().store) as store:
        jobs = store.queued()
        store.move([jobs[-1].id, jobs[0].id])
        store.wish(jobs[1].id, Wish.PAUSE)
        order = [(job.id, job.state) for job in store.queued()]
        back_up(store)
    paths.database().write_bytes(b"")
    with closing(open_database().store) as store:
        assert [(job.id, job.state) for job in store.queued()] == order


def test_a_job_edited_or_tried_again_after_the_backup_is_the_newer_one(
    home: Path, pasts: dict[bool, Path]
):
    async def story() -> None:
        async with running_studio(slots=0) as studio:
            jobs = {job.prompt: job for job in await studio.ask(lambda store: store.history())}
            await studio.edit(jobs[MARK].id, {"prompt": "edited"})
            job = await studio.retry(jobs["cancelled before"].id)
            JobFolder(job.id).begin(1)

    shutil.copytree(pasts[True], home)
    asyncio.run(story())
    paths.database().write_bytes(b"")
    with closing(open_database().store) as store:
        states = {job.prompt: job.state for job in store.history()}
        assert states["edited"] == states["cancelled before"] == JobState.QUEUED
        assert MARK not in states


def test_no_page_of_garbage_is_taken_for_sound(home: Path, pasts: dict[bool, Path]):
    """Whatever page is hit: the database is put aside, or nothing of it has changed."""
    shutil.copytree(pasts[True], home)
    content = paths.database().read_bytes()
    with closing(open_database().store) as store:
        before = store.history(), store.takes(), store.shots()
    kept = 0
    for start in range(0, len(content), PAGE):
        paths.database().write_bytes(with_garbage(start, start + PAGE)(content))
        opened = open_database()
        with closing(opened.store) as store:
            if opened.quarantined is None:
                assert (store.history(), store.takes(), store.shots()) == before
                kept += 1
    assert kept <= 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_leaves_a_database_that_can_be_read(
    home: Path, pasts: dict[bool, Path], place: float, bit: int
):
    content = bytearray((pasts[True] / "studio.db").read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(pasts[True], home)
    paths.database().write_bytes(content)
    opened = open_database()
    with closing(opened.store) as store:
        assert len(store.history()) == (6 if opened.quarantined else 8)
        store.takes()
        store.queue()
        store.changes(0)


def test_what_a_crash_left_half_written_is_rolled_back_and_nothing_put_aside(home: Path):
    with closing(open_database().store) as store:
        add(store, "koi")
    crashed = home / "crashed"
    crashed.mkdir()
    with closing(sqlite3.connect(paths.database(), isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("PRAGMA cache_spill = 1")
        connection.execute("BEGIN IMMEDIATE")
        for number in range(200):
            connection.execute(
                "INSERT INTO submissions VALUES (?, ?, '[]')", (f"{number}", "x" * 1000)
            )
        for name in ("studio.db", "studio.db-journal"):
            shutil.copy(home / name, crashed / name)
        connection.execute("ROLLBACK")
    whole = paths.database().stat().st_size
    for path in crashed.iterdir():
        path.replace(home / path.name)
    assert paths.database().stat().st_size > whole
    opened = open_database()
    with closing(opened.store) as store:
        assert opened.quarantined is None and not opened.is_new
        assert [job.prompt for job in store.history()] == ["koi"]
        assert store.submitted("1", "x" * 1000) is None
    assert paths.database().stat().st_size == whole


# ---------------------------------------------------------------------------- other versions


@pytest.mark.parametrize("journal_mode", ["DELETE", "WAL"])
def test_a_database_of_a_newer_version_is_refused_and_not_touched(home: Path, journal_mode: str):
    with closing(open_database().store) as store:
        add(store, "koi")
        back_up(store)
    with closing(sqlite3.connect(paths.database())) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
        connection.execute("ALTER TABLE jobs ADD COLUMN mood TEXT")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    with pytest.raises(StudioError, match="newer") as refused:
        open_database()
    assert "Install" in refused.value.hint
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_a_database_without_its_sentinel_is_used_and_gets_it_again(home: Path):
    with closing(open_database().store) as store:
        add(store, "koi")
    sentinel = home / "studio.identity"
    said = sentinel.read_text()
    for change in (sentinel.unlink, lambda: sentinel.write_text("")):
        change()
        opened = open_database()
        with closing(opened.store) as store:
            assert opened.quarantined is None and len(store.history()) == 1
        assert sentinel.read_text() == said


def test_an_empty_file_without_a_sentinel_does_not_pass_for_a_new_database(
    home: Path, pasts: dict[bool, Path]
):
    shutil.copytree(pasts[True], home)
    (home / "studio.identity").unlink()
    paths.database().write_bytes(b"")
    opened = open_database()
    with closing(opened.store) as store:
        assert opened.restored_from is not None and len(store.history()) == 6


def test_all_files_of_the_database_can_be_lost_but_the_backups(home: Path, pasts: dict[bool, Path]):
    shutil.copytree(pasts[True], home)
    for path in home.glob("studio.*"):
        path.unlink()
    opened = open_database()
    with closing(opened.store) as store:
        assert opened.restored_from is not None and len(store.history()) == 6


def test_the_database_of_another_folder_is_not_taken_for_this_one(
    home: Path, pasts: dict[bool, Path]
):
    shutil.copytree(pasts[True], home)
    shutil.copy(pasts[False] / "studio.db", paths.database())
    opened = open_database()
    with closing(opened.store) as store:
        assert opened.quarantined is not None and len(store.history()) == 6


# ------------------------------------------------------------------------------------ backups


def backups() -> list[Path]:
    return sorted(paths.backups().glob("*"))


def test_five_backups_are_kept_and_none_is_made_where_nothing_changed(home: Path):
    with closing(open_database().store) as store:
        for number in range(8):
            add(store, f"koi {number}")
            back_up(store)
            back_up(store)
            assert len(backups()) == min(number + 1, 5)
        newest = backups()[-1]
    with closing(sqlite3.connect(newest)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM jobs").fetchone() == (8,)


def test_the_newest_backup_is_the_last_one_made_whatever_the_clock_says(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    now = time.time_ns()
    hours = iter([0, 24, -24, -48, 72, -72, 1, 2])
    monkeypatch.setattr(time, "time_ns", lambda: now + next(hours) * 3600 * 10**9)
    with closing(open_database().store) as store:
        for number in range(7):
            add(store, f"koi {number}")
            back_up(store)
    paths.database().write_bytes(b"")
    with closing(open_database().store) as store:
        assert len(store.history()) == 7
    assert len(backups()) == 5


@pytest.mark.parametrize("damage", ["empty", "half", "flipped-request", "text", "a-byte-less"])
def test_a_damaged_backup_is_passed_over_for_an_older_one(home: Path, damage: str):
    with closing(open_database().store) as store:
        add(store, MARK)
        back_up(store)
        add(store, "carp")
        back_up(store)
    older, newer = backups()
    newer.write_bytes(DAMAGES[damage](newer.read_bytes().replace(b'"prompt": ', b'"prompt":')))
    paths.database().write_bytes(b"")
    opened = open_database()
    with closing(opened.store) as store:
        assert opened.restored_from == older
        assert [job.prompt for job in store.history()] == [MARK]
        add(store, "another")
        back_up(store)
        assert len(backups()) == 3
    assert older.read_bytes() == opened.restored_from.read_bytes()


def test_a_backup_that_the_disk_has_no_room_for_harms_nothing(
    home: Path, caplog: pytest.LogCaptureFixture
):
    with closing(open_database().store) as store:
        add(store, "koi")
        paths.backups().write_text("a file where the folder should be")
        back_up(store)
        assert "backup" in caplog.text
        assert [job.prompt for job in store.history()] == ["koi"]


def test_a_client_of_the_damaged_database_is_told_of_all_that_was_restored(
    home: Path, pasts: dict[bool, Path]
):
    shutil.copytree(pasts[True], home)
    with closing(open_database().store) as store:
        back_up(store)
        seq = store.seq
    paths.database().write_bytes(b"")
    with closing(open_database().store) as store:
        everything = {job.id for job in store.history()}
        assert {job.id for job in store.changes(seq).jobs} == everything
        assert {job.id for job in store.changes(3).jobs} == everything
        assert store.changes(store.seq).jobs == []


# ------------------------------------------------------------------------- disks that refuse


def refused(ask: Callable[[], object]) -> FreeswimError:
    with pytest.raises(FreeswimError) as told:
        ask()
    message, hint = told.value.message, told.value.hint
    assert message.endswith(".") and "\n" not in message and "Traceback" not in message
    assert hint.endswith(".")
    return told.value


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite as it is on a disk that takes no writes."""
    connect = sqlite3.connect

    def connect_to_read(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        if args[0] != ":memory:":
            connection.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_to_read)


@pytest.mark.usefixtures("read_only")
def test_a_new_database_on_a_disk_that_is_read_only_ends_with_a_sentence_and_a_hint():
    assert "FREESWIM_HOME" in refused(open_database).hint


def test_a_database_that_is_read_only_can_be_read_and_a_change_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    with closing(open_database().store) as store:
        add(store, "koi")
    before = paths.database().read_bytes()
    request.getfixturevalue("read_only")
    opened = open_database()
    with closing(opened.store) as store:
        assert opened.quarantined is None and len(store.history()) == 1
        assert isinstance(refused(lambda: add(store, "carp")), StudioError)
        assert len(store.history()) == 1
    assert paths.database().read_bytes() == before


@pytest.mark.parametrize("fault", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_made_ends_with_a_sentence_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, fault: int
):
    def mkdir(path: object, mode: int = 0o777) -> None:
        raise OSError(fault, os.strerror(fault), str(path))

    monkeypatch.setattr(os, "mkdir", mkdir)
    assert os.strerror(fault) in refused(open_database).message


def test_a_file_where_the_folder_should_be_ends_with_a_sentence_and_a_hint(home: Path):
    home.write_text("")
    refused(open_database)


def test_a_disk_that_fills_up_while_the_database_is_made_leaves_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    connect = sqlite3.connect

    def connect_to_little(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.execute("PRAGMA max_page_count = 3")  # then SQLite says that the disk is full
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect_to_little)
        assert isinstance(refused(open_database), DiskFull)
    assert not paths.database().exists()
    opened = open_database()
    assert opened.is_new
    opened.store.close()


def test_a_change_on_a_full_disk_is_refused_whole_and_made_when_there_is_room(home: Path):
    store = open_database().store
    with closing(store):
        add(store, "koi")
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]  # pyright: ignore
        store._connection.execute(f"PRAGMA max_page_count = {pages}")  # pyright: ignore
        assert isinstance(refused(lambda: add(store, "koi", "carp " * 4000)), DiskFull)
        assert len(store.history()) == 1
        store._connection.execute("PRAGMA max_page_count = 1000000")  # pyright: ignore
        add(store, "carp " * 4000)
        assert len(store.history()) == 2


def test_the_room_that_is_kept_is_given_up_once_and_kept_again_at_the_next_start(home: Path):
    open_database().store.close()
    reserve = home / "studio.reserve"
    assert reserve.stat().st_size == database.RESERVE_BYTES
    assert release_reserve() and not reserve.exists()
    assert not release_reserve()
    open_database().store.close()
    assert reserve.stat().st_size == database.RESERVE_BYTES
