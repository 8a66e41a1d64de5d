"""The store against a small model of it, and what the model does not say."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rows import SHOT, add, body, make, new_id, new_take, prompts, request

from freeswim.errors import Conflict, NotFound
from freeswim.studio.job import ENDED, Failure, Job, JobState, QueueMode, Reason, Verdict, Wish
from freeswim.studio.store import NewJob, NewShot, Store, create_tables

DAY_S = 86400.0

# What may follow what, as a person would say it; the store has a table of its own.
MAY_FOLLOW = {
    "queued": "running paused cancelled",
    "running": "publishing queued paused waiting failed cancelled",
    "publishing": "publishing done queued failed",
    "paused": "queued cancelled",
    "waiting": "queued paused cancelled",
    "failed": "queued",
    "cancelled": "queued",
    "done": "",
}
WAITS = {"queued", "paused", "waiting"}
ENDS = {"done", "failed", "cancelled"}


@dataclass
class ModelJob:
    """What is expected of a job."""

    state: str = "queued"
    wish: str = ""
    prompt: str = ""
    crashes: int = 0
    attempt: int = 0
    is_cleared: bool = False
    take: str = ""


@dataclass
class Model:
    """What is expected of a store."""

    jobs: dict[str, ModelJob] = field(default_factory=dict[str, ModelJob])
    order: list[str] = field(default_factory=list[str])  # of all jobs, those at their end as well
    keys: dict[str, tuple[str, list[str]]] = field(default_factory=dict[str, tuple[str, list[str]]])
    mode: str = "run"

    def place(self, ids: list[str], index: int) -> None:
        self.order[index:index] = ids

    def take_out(self, ids: list[str]) -> None:
        self.order = [job_id for job_id in self.order if job_id not in ids]

    def in_state(self, *states: str) -> list[str]:
        return [job_id for job_id in self.order if self.jobs[job_id].state in states]

    def change(self, job_id: str, state: str) -> bool:
        """Whether the change is allowed; then it is made."""
        job = self.jobs[job_id]
        if state not in MAY_FOLLOW[job.state].split():
            return False
        job.state, job.wish, job.is_cleared = state, "", False
        return True


@dataclass
class Follower:
    """A client that knows the store by its changes alone."""

    seq: int = 0
    rows: dict[str, object] = field(default_factory=dict[str, object])

    def read(self, store: Store, limit: int) -> bool:
        """Read one page; whether there is no more."""
        changes = store.changes(self.seq, limit)
        for row in (*changes.shots, *changes.jobs, *changes.takes):
            assert row.seq > self.seq
            self.rows[row.id] = row
        assert len(changes.shots) + len(changes.jobs) + len(changes.takes) <= limit
        self.seq = changes.seq
        self.rows["mode"] = changes.mode
        return changes.is_whole


def everything(store: Store, ids: list[str]) -> dict[str, object]:
    """The whole state, row by row."""
    rows = [*store.shots(), *store.takes(), *(store.job(job_id) for job_id in ids)]
    return {"mode": store.mode} | {row.id: row for row in rows}


class Stores(RuleBasedStateMachine):
    """All a client and a runner can do to a store, in any order, while the clock jumps."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="freeswim-store-")
        self.path = Path(self.folder.name) / "studio.db"
        with closing(sqlite3.connect(self.path)) as connection:
            create_tables(connection, "0" * 32)
        self.now = 1_800_000_000.0
        self.store = self.opened()
        self.model = Model()
        self.followers = [Follower()]
        self.last_seq = 0
        jobs = add(self.store, "koi", "koi", "koi", "koi")
        self.model.jobs |= {job.id: ModelJob(prompt=job.prompt) for job in jobs}
        self.model.place([job.id for job in jobs], 0)

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.followers_catch_up(2)
        self.store.close()
        self.folder.cleanup()

    def opened(self) -> Store:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        return Store(connection, clock=lambda: self.now)

    def some(self, data: st.DataObject, ids: list[str] | None = None) -> str:
        return data.draw(st.sampled_from(ids or self.model.order), label="job")

    def refused(self, work: Callable[[], object]) -> None:
        seq = self.store.seq
        with pytest.raises(Conflict):
            work()
        assert self.store.seq == seq

    # ------------------------------------------------------------------------------- rules

    @rule(jump=st.sampled_from([-DAY_S, -1, 0.001, DAY_S]))
    def clock_jumps(self, jump: float) -> None:
        self.now += jump

    @rule(count=st.integers(1, 3), front=st.booleans(), shot=st.sampled_from("123"), data=st.data())
    def add(self, count: int, front: bool, shot: str, data: st.DataObject) -> None:
        jobs = [NewJob(new_id(), request(f"koi {index}")) for index in range(count)]
        key = data.draw(st.sampled_from(["", f"key-{len(self.model.keys)}"]))
        added = self.store.add(
            jobs,
            shot=NewShot(shot * 16, f"SC {shot}"),
            key=key,
            body_sha256=body(key),
            front=front,
        )
        ids = [job.id for job in jobs]
        assert [job.id for job in added] == ids
        self.model.jobs |= {job.id: ModelJob(prompt=job.prompt) for job in added}
        self.model.place(ids, 0 if front else len(self.model.order))
        if key:
            self.model.keys[key] = body(key), ids

    @precondition(lambda self: self.model.keys)
    @rule(is_same=st.booleans(), data=st.data())
    def add_with_a_used_key(self, is_same: bool, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.keys)))
        sha256, ids = self.model.keys[key]
        jobs = [NewJob(new_id(), request("another"))]

        def again() -> list[Job]:
            said = sha256 if is_same else body("another")
            return self.store.add(jobs, shot=SHOT, key=key, body_sha256=said)

        if is_same:
            seq = self.store.seq
            assert [job.id for job in again()] == ids
            assert self.store.seq == seq
        else:
            self.refused(again)

    @rule()
    def claim(self) -> None:
        first = self.model.in_state("queued")[:1] if self.model.mode == "run" else []
        claimed = self.store.claim()
        assert [claimed.id for claimed in [claimed] if claimed] == first
        if claimed is not None:
            self.model.change(claimed.id, "running")
            self.model.jobs[claimed.id].attempt += 1

    @precondition(lambda self: self.model.in_state("running"))
    @rule(wish=st.sampled_from(list(Wish)), is_edited=st.booleans(), data=st.data())
    def crash(self, wish: Wish, is_edited: bool, data: st.DataObject) -> None:
        job_id = self.some(data, self.model.in_state("running"))
        job = self.model.jobs[job_id]
        assert self.store.wish(job_id, wish).wish == wish
        self.model.change(job_id, "queued")
        job.crashes += 1
        self.store.change(job_id, JobState.QUEUED, crashes=job.crashes)
        if is_edited:
            self.store.edit(job_id, request("edited"))
            job.prompt, job.crashes = "edited", 0

    @rule(
        state=st.sampled_from(sorted(set(JobState) - {"running", "done"})),
        runs=st.booleans(),
        data=st.data(),
    )
    def change(self, state: JobState, runs: bool, data: st.DataObject) -> None:
        job_id = self.some(data, self.model.in_state("running") if runs else None)
        crashes = data.draw(st.sampled_from([None, 0, 2]))
        waits = state == "waiting"
        failure = Failure(code="crash", message="It died.") if waits or state == "failed" else None

        def change() -> Job:
            return self.store.change(
                job_id,
                state,
                crashes=crashes,
                failure=failure,
                reason=Reason.DISK if waits else Reason.NONE,
                needed_bytes=7 if waits else 0,
            )

        if not self.model.change(job_id, state):
            self.refused(change)
            return
        assert change().failure == failure
        if crashes is not None:
            self.model.jobs[job_id].crashes = crashes

    @rule(data=st.data())
    def change_from_a_state_that_it_left(self, data: st.DataObject) -> None:
        job_id = self.some(data)
        others = sorted(set(JobState) - {self.model.jobs[job_id].state})
        other = data.draw(st.sampled_from(others))
        state = data.draw(st.sampled_from(list(JobState)))
        self.refused(lambda: self.store.change(job_id, state, only_from=other))

    @precondition(lambda self: self.model.in_state("queued", "running"))
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        if not self.model.in_state("running"):
            self.set_mode(QueueMode.RUN)
            self.claim()
        job_id = self.some(data, self.model.in_state("running"))
        take = new_take()
        self.store.change(job_id, JobState.PUBLISHING, publishing=take)
        self.model.change(job_id, "publishing")
        assert self.store.publishing(job_id) == take

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        job_id = self.some(data, self.model.in_state("publishing", "done"))
        job = self.model.jobs[job_id]
        take = new_take()
        if job.state == "done":
            seq = self.store.seq
            assert self.store.finish(job_id, take).id == job.take
            assert self.store.seq == seq
        elif self.model.change(job_id, "done"):
            job.take = self.store.finish(job_id, take).id
            assert job.take == take.id
        else:
            self.refused(lambda: self.store.finish(job_id, take))

    @rule(wish=st.sampled_from([Wish.CANCEL, Wish.PAUSE]), runs=st.booleans(), data=st.data())
    def wish(self, wish: Wish, runs: bool, data: st.DataObject) -> None:
        job_id = self.some(data, self.model.in_state("running") if runs else None)
        job = self.model.jobs[job_id]
        to = "cancelled" if wish == Wish.CANCEL else "paused"
        if job.state == "running":
            job.wish = wish
            self.store.wish(job_id, wish)
        elif job.state == to or self.model.change(job_id, to):
            self.store.wish(job_id, wish)
        else:
            self.refused(lambda: self.store.wish(job_id, wish))

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        job_id = self.some(data)
        job = self.model.jobs[job_id]
        if job.state not in WAITS:
            self.refused(lambda: self.store.edit(job_id, request("edited")))
            return
        self.store.edit(job_id, request("edited"))
        job.prompt, job.crashes = "edited", 0

    @rule(front=st.booleans(), data=st.data())
    def move_to_an_end(self, front: bool, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(self.model.order), unique=True, max_size=3))

        def move() -> list[Job]:
            return self.store.move(ids, to="front" if front else "end")

        if set(ids) & set(self.model.in_state(*ENDS)):
            self.refused(move)
            return
        assert [job.id for job in move()] == ids
        self.model.take_out(ids)
        self.model.place(ids, 0 if front else len(self.model.order))

    @rule(data=st.data())
    def move_before(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(self.model.order), unique=True, max_size=3))
        target = self.some(data)
        if target in ids or {target, *ids} & set(self.model.in_state(*ENDS)):
            self.refused(lambda: self.store.move(ids, before=target))
            return
        self.store.move(ids, before=target)
        self.model.take_out(ids)
        self.model.place(ids, self.model.order.index(target))

    @precondition(lambda self: self.model.in_state(*WAITS))
    @rule()
    def cancel_waiting(self) -> None:
        waiting = self.model.in_state(*WAITS)
        assert self.store.cancel_waiting() == len(waiting)
        for job_id in waiting:
            self.model.change(job_id, "cancelled")

    @precondition(lambda self: self.store.history() and self.model.in_state(*ENDS))
    @rule()
    def clear(self) -> None:
        ended = [job_id for job_id in self.model.in_state(*ENDS)]
        count = sum(not self.model.jobs[job_id].is_cleared for job_id in ended)
        assert self.store.clear([]) == 0
        assert self.store.clear([*ended[:1], "0" * 16]) == min(
            count, len([job_id for job_id in ended[:1] if not self.model.jobs[job_id].is_cleared])
        )
        count -= sum(not self.model.jobs[job_id].is_cleared for job_id in ended[:1])
        assert self.store.clear() == count
        for job_id in ended:
            self.model.jobs[job_id].is_cleared = True

    @rule(mode=st.sampled_from([QueueMode.RUN, *QueueMode]))
    def set_mode(self, mode: QueueMode) -> None:
        self.model.mode = mode
        assert self.store.set_mode(mode).mode == mode

    @precondition(lambda self: self.model.in_state("done"))
    @rule(
        verdict=st.sampled_from([Verdict.NEW, Verdict.APPROVED, Verdict.REJECTED]), data=st.data()
    )
    def judge(self, verdict: Verdict, data: st.DataObject) -> None:
        job = self.model.jobs[self.some(data, self.model.in_state("done"))]
        assert self.store.judge(job.take, verdict).verdict == verdict

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.opened()

    @rule(limit=st.integers(1, 4))
    def a_follower_reads_a_page(self, limit: int) -> None:
        self.followers[-1].read(self.store, limit)

    @rule()
    def a_follower_comes(self) -> None:
        self.followers.append(Follower())

    @rule(limit=st.integers(1, 4))
    def followers_catch_up(self, limit: int) -> None:
        now = everything(self.store, self.model.order)
        for follower in self.followers:
            while not follower.read(self.store, limit):
                pass
            assert follower.rows == now and follower.seq == self.store.seq

    # -------------------------------------------------------------------------- invariants

    @invariant()
    def the_queue_has_the_order_of_the_model(self) -> None:
        in_queue = [
            job_id for job_id in self.model.order if self.model.jobs[job_id].state not in ENDS
        ]
        assert [job.id for job in self.store.queued()] == in_queue
        paged, last = list[str](), ""
        while page := self.store.queued(after=last, limit=2):
            last = page[-1].id
            paged += [job.id for job in page]
        assert paged == in_queue

    @invariant()
    def jobs_are_as_in_the_model(self) -> None:
        for job_id, expected in self.model.jobs.items():
            job = self.store.job(job_id)
            told = ModelJob(
                job.state, job.wish, job.prompt, job.crashes, job.attempt, job.is_cleared,
                job.take_id,
            )  # fmt: skip
            assert told == expected
            assert job.request["prompt"] == job.prompt
            assert (job.ended_at is not None) == (job.state in ENDED)
            assert (job.failure is not None) == (job.state in ("failed", "waiting"))
            waits = job.state == "waiting"
            assert (job.reason, job.needed_bytes) == (("disk", 7) if waits else ("", 0))
            assert (self.store.publishing(job_id) is None) or job.state == "publishing"
        taken = sorted(job.take for job in self.model.jobs.values() if job.take)
        assert sorted(take.id for take in self.store.takes()) == taken

    @invariant()
    def counts_add_up(self) -> None:
        shown = [job for job in self.model.jobs.values() if not job.is_cleared]
        counts = self.store.queue().counts
        assert {state: count for state, count in counts.items() if count} == {
            state: sum(job.state == state for job in shown)
            for state in {job.state for job in shown}
        }
        assert len(self.store.history()) == len(shown)

    @invariant()
    def changes_are_counted_up(self) -> None:
        assert self.store.seq >= self.last_seq
        self.last_seq = self.store.seq
        assert self.store.mode == self.model.mode


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


# ------------------------------------------------------------------------------- one by one


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(sqlite3.connect(tmp_path / "studio.db")) as connection:
        create_tables(connection, "0" * 32)
    connection = sqlite3.connect(tmp_path / "studio.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    with closing(Store(connection)) as store:
        yield store


def with_clock(store: Store, clock: Callable[[], float]) -> Store:
    """The same store, told another time."""
    store._clock = clock  # pyright: ignore[reportPrivateUsage]
    return store


def test_a_clock_that_jumps_a_day_changes_no_order(store: Store):
    jumps = iter([0.0, DAY_S, -DAY_S, 3600.0, -2 * DAY_S, 0.5] * 100)
    with_clock(store, lambda: 1_800_000_000.0 + next(jumps))
    shots = [NewShot(f"{number:016x}", f"SC {9 - number}") for number in range(6)]
    for number, shot in enumerate(shots):
        add(store, f"koi {number}", shot=shot)
    wanted = [f"koi {number}" for number in range(6)]
    assert prompts(store.queued()) == wanted
    assert prompts(store.history()) == wanted[::-1]
    assert [shot.id for shot in store.shots()] == [shot.id for shot in shots]
    assert [make(store).prompt for _ in shots] == wanted
    assert [take.prompt for take in store.takes()] == wanted[::-1]
    assert prompts(store.changes(0).jobs) == wanted


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["koi", "100% wool", "a_b", 'it\'s "so"', "Straße", "КОТ", "cafe\u0301", "鯉"]),
        ("%", ["100% wool"]),
        ("_", ["a_b"]),
        ("it's", ['it\'s "so"']),
        ('"so"', ['it\'s "so"']),
        ("' OR 1 --", []),
        ("STRASSE", ["Straße"]),
        ("кот", ["КОТ"]),
        ("caf\u00e9", ["cafe\u0301"]),
        ("鯉", ["鯉"]),
        ("wool 100", ["100% wool"]),
        ("wool koi", []),
        ("wool sc", ["100% wool"]),
        ("*", []),
        ("\\", []),
    ],
)
def test_history_finds_words_of_the_prompt_or_the_shot_as_they_are_written(
    store: Store, search: str, found: list[str]
):
    every = ["koi", "100% wool", "a_b", 'it\'s "so"', "Straße", "КОТ", "cafe\u0301", "鯉"]
    add(store, *every)
    assert prompts(store.history(search=search)) == found[::-1]
    for _ in every:
        make(store)
    assert [take.prompt for take in store.takes(search=search)] == found[::-1]


def test_pages_of_the_history_are_whole_and_hold_no_job_twice(store: Store):
    jobs = add(store, *(f"koi {number}" for number in range(10)))
    page = store.history(limit=4)
    seen = prompts(page)
    add(store, "meanwhile")
    while page := store.history(limit=4, before=page[-1].number):
        seen += prompts(page)
    assert seen == [job.prompt for job in reversed(jobs)]


def test_pages_of_the_queue_go_on_where_the_last_job_is_by_now(store: Store):
    jobs = add(store, *(f"koi {number}" for number in range(6)))
    page = store.queued(limit=3)
    store.wish(page[-1].id, Wish.CANCEL)
    assert [job.id for job in store.queued(after=page[-1].id)] == [job.id for job in jobs[3:]]


def test_a_place_can_be_halved_for_ever(store: Store):
    first, second, third = add(store, "1", "2", "3")
    for _ in range(70):
        store.move([third.id], before=second.id)
        store.move([second.id], before=third.id)
        assert [job.id for job in store.queued()] == [first.id, second.id, third.id]


def test_a_client_that_is_ahead_of_a_restored_store_is_told_everything(store: Store):
    add(store, "koi")
    changes = store.changes(store.seq + 100)
    assert prompts(changes.jobs) == ["koi"] and len(changes.shots) == 1
    assert changes.seq == store.seq and changes.is_whole


def test_the_same_key_for_another_body_is_refused_with_a_hint(store: Store):
    jobs = [NewJob(new_id(), request("koi"))]
    store.add(jobs, shot=SHOT, key="key-0", body_sha256=body("one"))
    assert store.submitted("key-1", body("one")) is None
    for ask in (
        lambda: store.submitted("key-0", body("other")),
        lambda: store.add(jobs, shot=SHOT, key="key-0", body_sha256=body("other")),
    ):
        with pytest.raises(Conflict) as refused:
            ask()
        assert refused.value.hint


def test_a_submission_of_which_one_folder_was_lost_gives_the_jobs_that_are_left(store: Store):
    left, lost = new_id(), new_id()
    store.adopt(
        NewJob(left, request("koi")),
        shot=SHOT,
        state=JobState.QUEUED,
        submission=("key-0", body("one"), [left, lost]),
        created_at=1.0,
    )
    again = store.submitted("key-0", body("one"))
    assert again is not None and [job.id for job in again] == [left]


def test_an_adopted_job_is_as_its_folder_tells(store: Store):
    take, failure = new_take(3), Failure(code="media", message="No video.")
    for prompt, state, told in (
        ("done", JobState.DONE, take),
        ("failed", JobState.FAILED, None),
        ("queued", JobState.QUEUED, None),
    ):
        store.adopt(
            NewJob(new_id(), request(prompt)),
            shot=SHOT,
            state=state,
            failure=failure if prompt == "failed" else None,
            take=told,
            created_at=1.0,
        )
    jobs = {job.prompt: job for job in store.history()}
    assert {job.state for job in jobs.values()} == {"done", "failed", "queued"}
    assert all(job.state == prompt for prompt, job in jobs.items())
    assert jobs["failed"].failure == failure and jobs["done"].take_id == take.id
    assert store.next_take_number(SHOT.id) == 4
    assert prompts(store.queued()) == ["queued"]


def test_a_take_may_have_the_name_of_one_that_was_moved_away(store: Store):
    add(store, "first")
    add(store, "second", shot=NewShot("6" * 16, "SC 010"))
    assert make(store, "SC-010_take01.mp4").id != make(store, "SC-010_take01.mp4").id
    assert len(store.takes()) == 2


def test_takes_of_a_shot_are_numbered_on_and_found_by_shot_and_verdict(store: Store):
    add(store, "one", "two", "three")
    add(store, "elsewhere", shot=NewShot("6" * 16, "SC 020"))
    takes = [make(store) for _ in range(4)]
    assert [take.number for take in takes] == [1, 2, 3, 1]
    store.judge(takes[1].id, Verdict.APPROVED)
    assert [take.prompt for take in store.takes(verdict=Verdict.APPROVED)] == ["two"]
    assert [take.prompt for take in store.takes(shot_id=SHOT.id, limit=2)] == ["three", "two"]


def test_what_is_not_there_is_named(store: Store):
    for what, ask in (("job", store.job), ("shot", store.shot), ("take", store.take)):
        with pytest.raises(NotFound, match=f"no {what} nothing"):
            ask("nothing")
    with pytest.raises(NotFound):
        store.move(["nothing"])


def test_a_change_that_fails_half_way_changes_nothing(store: Store):
    job = add(store, "koi")[0]
    before = everything(store, [job.id]), store.seq
    with pytest.raises(sqlite3.IntegrityError):
        store.add(
            [NewJob(new_id(), request("new")), NewJob(job.id, request("again"))],
            shot=NewShot("6" * 16, "SC 020"),
            key="key-0",
        )
    with pytest.raises(NotFound):
        store.move([job.id, "nothing"], to="end")
    assert (everything(store, [job.id]), store.seq) == before
    assert len(store.history()) == 1 and store.submitted("key-0", "") is None


def test_a_backup_is_the_whole_store(store: Store, tmp_path: Path):
    add(store, "koi", "carp")
    make(store)
    store.back_up(tmp_path / "backup.db")
    connection = sqlite3.connect(tmp_path / "backup.db", isolation_level=None)
    with closing(Store(connection)) as copy:
        ids = [job.id for job in store.history()]
        assert everything(copy, ids) == everything(store, ids) and copy.seq == store.seq
