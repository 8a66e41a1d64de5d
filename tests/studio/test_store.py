"""The store against a small model of it, and what the model does not say."""

from __future__ import annotations

import json
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
        return data.draw(st.sampled_from(self.model.order if ids is None else ids), label="job")

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

    @precondition(lambda self: self.model.order)
    @rule(state=st.sampled_from(sorted(set(JobState) - {"running", "done"})), data=st.data())
    def change(self, state: JobState, data: st.DataObject) -> None:
        job_id = self.some(data)
        crashes = data.draw(st.sampled_from([None, 0, 2]))
        failure = Failure(code="crash", message="It died.") if state == "failed" else None

        def change() -> Job:
            return self.store.change(job_id, state, crashes=crashes, failure=failure)

        if not self.model.change(job_id, state):
            self.refused(change)
            return
        assert change().failure == failure
        if crashes is not None:
            self.model.jobs[job_id].crashes = crashes

    @precondition(lambda self: self.model.order)
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

    @precondition(lambda self: self.model.order)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        job_id = self.some(data, self.model.in_state("publishing", "done") or None)
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

    @precondition(lambda self: self.model.order)
    @rule(wish=st.sampled_from([Wish.CANCEL, Wish.PAUSE]), data=st.data())
    def wish(self, wish: Wish, data: st.DataObject) -> None:
        job_id = self.some(data)
        job = self.model.jobs[job_id]
        to = "cancelled" if wish == Wish.CANCEL else "paused"
        if job.state == "running":
            job.wish = wish
            self.store.wish(job_id, wish)
        elif job.state == to or self.model.change(job_id, to):
            self.store.wish(job_id, wish)
        else:
            self.refused(lambda: self.store.wish(job_id, wish))

    @precondition(lambda self: self.model.order)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        job_id = self.some(data)
        job = self.model.jobs[job_id]
        if job.state not in WAITS:
            self.refused(lambda: self.store.edit(job_id, request("edited")))
            return
        self.store.edit(job_id, request("edited"))
        job.prompt, job.crashes = "edited", 0

    @precondition(lambda self: self.model.order)
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

    @precondition(lambda self: self.model.order)
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

    @rule()
    def cancel_waiting(self) -> None:
        waiting = self.model.in_state(*WAITS)
        assert self.store.cancel_waiting() == len(waiting)
        for job_id in waiting:
            self.model.change(job_id, "cancelled")

    @rule()
    def clear(self) -> None:
        ended = [job_id for job_id in self.model.in_state(*ENDS)]
        count = sum(not self.model.jobs[job_id].is_cleared for job_id in ended)
        assert self.store.clear() == count
        for job_id in ended:
            self.model.jobs[job_id].is_cleared = True

    @rule(mode=st.sampled_from(list(QueueMode)))
    def set_mode(self, mode: QueueMode) -> None:
        self.model.mode = mode
        assert self.store.set_mode(mode).mode == mode

    @precondition(lambda self: self.model.in_state("done"))
    @rule(verdict=st.sampled_from(list(Verdict)), data=st.data())
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
        in_queue = [job_id for job_id in self.model.order if self.model.jobs[job_id].state not in ENDS]
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
            assert job.failure is None or job.state == "failed"
            assert job.reason == Reason.NONE and job.needed_bytes == 0
            assert (self.store.publishing(job_id) is None) or job.state == "publishing"
        taken = sorted(job.take for job in self.model.jobs.values() if job.take)
        assert sorted(take.id for take in self.store.takes()) == taken

    @invariant()
    def counts_add_up(self) -> None:
        shown = [job for job in self.model.jobs.values() if not job.is_cleared]
        counts = self.store.queue().counts
        assert {state: count for state, count in counts.items() if count} == {
            state: sum(job.state == state for job in shown) for state in {job.state for job in shown}
        }
        assert len(self.store.history()) == len(shown)

    @invariant()
    def changes_are_counted_up(self) -> None:
        assert self.store.seq >= self.last_seq
        self.last_seq = self.store.seq
        assert self.store.mode == self.model.mode


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
