"""The state of the studio in SQLite: shots, jobs, takes. The only writer of it.

Every method is one transaction. One connection, used by one thread at a time; rollback journal,
each commit on the disk before the method returns. Every row carries the number of the change that
made it what it is (`seq`): clients derive all they show from rows, never from events.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freeswim.errors import Conflict, DiskFull, NotFound, StudioError
from freeswim.studio.job import (
    ENDED,
    IN_QUEUE,
    NEXT,
    Changes,
    Failure,
    Job,
    JobState,
    MoveTo,
    NewTake,
    Placing,
    PlacingState,
    Queue,
    QueueMode,
    Reason,
    Shot,
    Take,
    Verdict,
    Wish,
)

SCHEMA = 2
MOST_ROWS = 500  # of one page

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shots (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, placement TEXT NOT NULL, created_at REAL NOT NULL,
    seq INTEGER NOT NULL
);
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    shot_id TEXT NOT NULL REFERENCES shots (id),
    request TEXT NOT NULL, request_sha256 TEXT NOT NULL, prompt TEXT NOT NULL,
    draft_take TEXT NOT NULL DEFAULT '', state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    needed_bytes INTEGER NOT NULL DEFAULT 0, failure TEXT, wish TEXT NOT NULL DEFAULT '',
    rank REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
    publishing TEXT, is_cleared INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, started_at REAL, ended_at REAL, seq INTEGER NOT NULL
);
CREATE INDEX jobs_in_order ON jobs (state, rank);
CREATE INDEX jobs_changed ON jobs (seq);
CREATE TABLE takes (
    id TEXT PRIMARY KEY, shot_id TEXT NOT NULL REFERENCES shots (id), job_id TEXT NOT NULL UNIQUE,
    number INTEGER NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, frames INTEGER NOT NULL,
    frame_rate TEXT NOT NULL, seed INTEGER NOT NULL, prompt TEXT NOT NULL,
    is_draft INTEGER NOT NULL, verdict TEXT NOT NULL DEFAULT 'new', created_at REAL NOT NULL,
    seq INTEGER NOT NULL, placing TEXT
);
CREATE INDEX takes_changed ON takes (seq);
CREATE INDEX shots_changed ON shots (seq);
CREATE TABLE submissions (
    key TEXT PRIMARY KEY, body_sha256 TEXT NOT NULL, job_ids TEXT NOT NULL
) WITHOUT ROWID;
"""

# What makes a database of a schema one of the next.
MIGRATIONS = {1: "ALTER TABLE takes ADD COLUMN placing TEXT;"}

_JOBS = (
    "SELECT jobs.*, shots.name AS shot_name,"
    " COALESCE((SELECT takes.id FROM takes WHERE takes.job_id = jobs.id), '') AS take_id"
    " FROM jobs JOIN shots ON shots.id = jobs.shot_id"
)
_TAKES = "SELECT takes.*, shots.name AS shot_name FROM takes JOIN shots ON shots.id = takes.shot_id"

Clock = Callable[[], float]


@dataclass(frozen=True)
class NewShot:
    """A shot to be added with its first job."""

    id: str
    name: str
    placement: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class NewJob:
    """A job to be added."""

    id: str
    request: str  # JSON, as Request.as_json gives it
    draft_take: str = ""


class Store:
    """The tables. Times in them are for people: no decision is made by the clock."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock = time.time) -> None:
        """Use a database whose tables are there (`create_tables`, database.py)."""
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._connection.create_function("folded", 1, _folded, deterministic=True)
        self._clock = clock

    def close(self) -> None:
        """Nothing can be done with the store afterwards."""
        self._connection.close()

    def back_up(self, path: Path) -> None:
        """Write all of it to a new file at `path`."""
        self._connection.execute("VACUUM INTO ?", (str(path),))

    # --------------------------------------------------------------------------------- asking

    def job(self, job_id: str) -> Job:
        """A job. Raises NotFound."""
        return _as_job(self._row(f"{_JOBS} WHERE jobs.id = ?", job_id, "job"))

    def shot(self, shot_id: str) -> Shot:
        """A shot. Raises NotFound."""
        return _as_shot(self._row("SELECT * FROM shots WHERE id = ?", shot_id, "shot"))

    def take(self, take_id: str) -> Take:
        """A take. Raises NotFound."""
        return _as_take(self._row(f"{_TAKES} WHERE takes.id = ?", take_id, "take"))

    def queued(self, *, after: str = "", limit: int = MOST_ROWS) -> list[Job]:
        """Jobs that are not at their end, in the queue's order, from the one after job `after`."""
        rank = self.job(after).rank if after else float("-inf")
        return self._jobs(
            f"WHERE state IN ({_listed(IN_QUEUE)}) AND rank > ? ORDER BY rank LIMIT ?", rank, limit
        )

    def history(
        self, *, search: str = "", before: int | None = None, limit: int = MOST_ROWS
    ) -> list[Job]:
        """All jobs that were not cleared, the last one first, from the one before `before`.

        Args:
            search: words of the prompt or the shot's name, all of them.
            before: a job's number.
        """
        where, values = _search("jobs.prompt", search)
        return self._jobs(
            f"WHERE number < ? AND is_cleared = 0 {where} ORDER BY number DESC LIMIT ?",
            2**62 if before is None else before,
            *values,
            limit,
        )

    def shots(self) -> list[Shot]:
        """All shots, the first one first."""
        return [_as_shot(row) for row in self._rows("SELECT * FROM shots ORDER BY rowid")]

    def takes(
        self, *, shot_id: str = "", verdict: Verdict | None = None, search: str = "", limit: int = 0
    ) -> list[Take]:
        """Takes, the last one first.

        Args:
            verdict: None: all but those in the trash.
            limit: 0: all.
        """
        where, values = _search("takes.prompt", search)
        if shot_id:
            where, values = f"{where} AND takes.shot_id = ?", [*values, shot_id]
        compared = "!=" if verdict is None else "="
        where = f"{where} AND takes.verdict {compared} ?"
        values = [*values, verdict or Verdict.TRASHED]
        text = f"{_TAKES} WHERE 1 {where} ORDER BY takes.rowid DESC LIMIT ?"
        return [_as_take(row) for row in self._rows(text, *values, limit or -1)]

    def queue(self) -> Queue:
        """The queue as a whole."""
        counts = dict.fromkeys(JobState, 0)
        for state, count in self._rows(
            "SELECT state, COUNT(*) FROM jobs WHERE is_cleared = 0 GROUP BY state"
        ):
            counts[JobState(state)] = count
        return Queue(mode=self.mode, counts=counts, seq=self.seq)

    @property
    def resolve_settings(self) -> str:
        """How shots are made that are asked for inside Resolve: JSON, empty where nobody said."""
        return self._meta("resolve", "")

    def set_resolve_settings(self, settings: str) -> None:
        """How they are made from now on."""
        with self._change() as change:
            change.set_meta("resolve", settings)
            change.seq()

    @property
    def seq(self) -> int:
        """Number of the last change."""
        return int(self._meta("seq", "0"))

    @property
    def mode(self) -> QueueMode:
        """What the queue does with the jobs in it."""
        return QueueMode(self._meta("mode", QueueMode.RUN))

    def changes(self, after: int, limit: int = MOST_ROWS) -> Changes:
        """Every row that changed after change `after`, as it is now; the oldest change first."""
        now = self.seq
        if after > now:  # asked by who knew another database
            after = 0
        found = [
            (row["seq"], kind, row)
            for kind, text in (
                ("shots", "SELECT * FROM shots WHERE seq > ? ORDER BY seq LIMIT ?"),
                ("jobs", f"{_JOBS} WHERE jobs.seq > ? ORDER BY jobs.seq LIMIT ?"),
                ("takes", f"{_TAKES} WHERE takes.seq > ? ORDER BY takes.seq LIMIT ?"),
            )
            for row in self._rows(text, after, limit + 1)
        ]
        found.sort(key=lambda one: one[0])
        shown, is_whole = found[:limit], len(found) <= limit
        return Changes(
            seq=now if is_whole else shown[-1][0],
            is_whole=is_whole,
            mode=self.mode,
            shots=[_as_shot(row) for _, kind, row in shown if kind == "shots"],
            jobs=[_as_job(row) for _, kind, row in shown if kind == "jobs"],
            takes=[_as_take(row) for _, kind, row in shown if kind == "takes"],
        )

    def submitted(self, key: str, body_sha256: str) -> list[Job] | None:
        """The jobs that were added with `key` before, as far as known; None: there were none.

        Raises:
            Conflict: they were added for another body.
        """
        text = "SELECT body_sha256, job_ids FROM submissions WHERE key = ?"
        row = self._connection.execute(text, (key,)).fetchone()
        if row is None:
            return None
        if row["body_sha256"] != body_sha256:
            raise Conflict(
                "This key was used for another submission.", hint="Use a new key for a new job."
            )
        job_ids: list[str] = json.loads(row["job_ids"])
        marks = ", ".join("?" * len(job_ids))
        return self._jobs(f"WHERE jobs.id IN ({marks}) ORDER BY number", *job_ids)

    def under_way(self) -> list[Job]:
        """Jobs that run or are published, as far as the database knows."""
        return self._jobs("WHERE state IN ('running', 'publishing') ORDER BY rank")

    def waiting(self) -> list[Job]:
        """Jobs that wait for something."""
        return self._jobs("WHERE state = 'waiting' ORDER BY rank")

    def publishing(self, job_id: str) -> NewTake | None:
        """The take that a job is publishing."""
        said = self._row("SELECT publishing FROM jobs WHERE id = ?", job_id, "job")["publishing"]
        return None if said is None else NewTake.model_validate_json(said)

    def next_take_number(self, shot_id: str) -> int:
        """The number that the shot's next take gets."""
        text = "SELECT COALESCE(MAX(number), 0) + 1 FROM takes WHERE shot_id = ?"
        return int(self._connection.execute(text, (shot_id,)).fetchone()[0])

    def take_files(self) -> set[str]:
        """Names of all takes' files, whether these are still there or not."""
        return {row["file"] for row in self._rows("SELECT file FROM takes")}

    # ------------------------------------------------------------------------------- adding

    def add(
        self,
        jobs: Sequence[NewJob],
        *,
        shot: NewShot,
        key: str = "",
        body_sha256: str = "",
        front: bool = False,
    ) -> list[Job]:
        """Add jobs for one shot, which is added with them where it is new.

        Args:
            key: of the submission; the same one again adds nothing and gives the same jobs.
            body_sha256: of what was submitted with the key.
            front: before all others instead of after them.

        Raises:
            Conflict: the key was used for something else.
        """
        with self._change() as change:
            if key and (before := self.submitted(key, body_sha256)) is not None:
                return before
            self._add_shot(change, shot, self._clock())
            for job, rank in zip(jobs, self._ranks(len(jobs), front), strict=True):
                self._add_job(change, job, shot.id, rank, self._clock())
            if key:
                change.run(
                    "INSERT INTO submissions VALUES (?, ?, ?)",
                    key,
                    body_sha256,
                    json.dumps([job.id for job in jobs]),
                )
        return [self.job(job.id) for job in jobs]

    def adopt(
        self,
        job: NewJob,
        *,
        shot: NewShot,
        state: JobState,
        failure: Failure | None = None,
        take: NewTake | None = None,
        submission: tuple[str, str, Sequence[str]] | None = None,
        created_at: float,
    ) -> None:
        """Add a job that an older database knew, as its folder tells of it.

        Args:
            submission: key, checksum of the body, ids of all jobs of it.
        """
        with self._change() as change:
            self._add_shot(change, shot, created_at)
            self._add_job(change, job, shot.id, self._ranks(1, front=False)[0], created_at)
            change.run(
                "UPDATE jobs SET state = ?, failure = ?, ended_at = ? WHERE id = ?",
                state,
                None if failure is None else failure.model_dump_json(),
                created_at if state in ENDED else None,
                job.id,
            )
            if take is not None:
                self._add_take(change, self.job(job.id), take)
            if submission is not None:
                key, body_sha256, job_ids = submission
                change.run(
                    "INSERT OR IGNORE INTO submissions VALUES (?, ?, ?)",
                    key,
                    body_sha256,
                    json.dumps(job_ids),
                )

    def catch_up(
        self,
        job_id: str,
        *,
        request: str,
        state: JobState,
        failure: Failure | None = None,
        take: NewTake | None = None,
    ) -> None:
        """Make a job of a backup what its folder tells of it.

        Args:
            state: at its end, or queued where it has none: then it waits for what it waited for.
        """
        with self._change() as change:
            job = self.job(job_id)
            if job.state == JobState.DONE:
                return
            if take is not None:
                self._add_take(change, job, take)
            if state not in ENDED and job.state not in ENDED:
                state = job.state
            change.run(
                "UPDATE jobs SET request = ?, request_sha256 = ?, prompt = ?, seq = ? WHERE id = ?",
                request,
                request_sha256(request),
                json.loads(request)["prompt"],
                change.seq(),
                job_id,
            )
            if state != job.state:
                change.run(
                    "UPDATE jobs SET state = ?, reason = '', needed_bytes = 0, failure = ?,"
                    " wish = '', publishing = NULL, is_cleared = 0, ended_at = ? WHERE id = ?",
                    state,
                    None if failure is None else failure.model_dump_json(),
                    self._clock() if state in ENDED else None,
                    job_id,
                )

    def skip_changes(self, count: int) -> None:
        """Let every row have changed after all that a client of an older database can know."""
        with self._change() as change:
            for table in ("shots", "jobs", "takes"):
                change.run(f"UPDATE {table} SET seq = seq + ?", count)
            change.last_seq += count

    # ------------------------------------------------------------------ into an editor's timeline

    def add_shot(self, shot: NewShot) -> Shot:
        """A shot that waits for its first job; one that is there stays as it is."""
        with self._change() as change:
            self._add_shot(change, shot, self._clock())
        return self.shot(shot.id)

    def set_placement(self, shot_id: str, placement: Mapping[str, Any]) -> Shot:
        """Where a shot goes, from now on."""
        with self._change() as change:
            self.shot(shot_id)
            change.run(
                "UPDATE shots SET placement = ?, seq = ? WHERE id = ?",
                json.dumps(placement),
                change.seq(),
                shot_id,
            )
        return self.shot(shot_id)

    def shots_without_jobs(self) -> list[Shot]:
        """Shots that nobody has said enough of yet, the first one first."""
        text = (
            "SELECT * FROM shots WHERE placement <> '{}' AND NOT EXISTS"
            " (SELECT 1 FROM jobs WHERE jobs.shot_id = shots.id) ORDER BY rowid"
        )
        return [_as_shot(row) for row in self._rows(text)]

    def to_place(self) -> list[Take]:
        """Takes on their way into a timeline, the first one first."""
        text = (
            f"{_TAKES} WHERE json_extract(takes.placing, '$.state') IN ('wanted', 'waiting')"
            " ORDER BY takes.rowid"
        )
        return [_as_take(row) for row in self._rows(text)]

    def set_placing(self, take_id: str, placing: Placing) -> Take:
        """What became of a take inside the editor's program."""
        with self._change() as change:
            self.take(take_id)
            change.run(
                "UPDATE takes SET placing = ?, seq = ? WHERE id = ?",
                placing.model_dump_json(),
                change.seq(),
                take_id,
            )
        return self.take(take_id)

    def known_ids(self) -> set[str]:
        """Ids of all jobs."""
        return {row["id"] for row in self._rows("SELECT id FROM jobs")}

    # ------------------------------------------------------------------- the life of a job

    def claim(self) -> Job | None:
        """The first job of the queue, running from now on; None where there is none to run."""
        with self._change() as change:
            if self.mode != QueueMode.RUN:
                return None
            row = change.run(
                "SELECT id FROM jobs WHERE state = 'queued' ORDER BY rank LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            change.run(
                "UPDATE jobs SET state = 'running', attempt = attempt + 1, started_at = ?,"
                " wish = '', failure = NULL, seq = ? WHERE id = ?",
                self._clock(),
                change.seq(),
                row["id"],
            )
        return self.job(row["id"])

    def change(
        self,
        job_id: str,
        state: JobState,
        *,
        only_from: JobState | None = None,
        reason: Reason = Reason.NONE,
        needed_bytes: int = 0,
        failure: Failure | None = None,
        crashes: int | None = None,
        publishing: NewTake | None = None,
    ) -> Job:
        """Move a job to another state; what the person wished of it is dealt with by that.

        Raises:
            Conflict: its state is not one that this follows, or not `only_from`.
        """
        with self._change() as change:
            job = self.job(job_id)
            if state not in NEXT[job.state] or only_from not in (None, job.state):
                raise Conflict(
                    f"Job {job.number} is {job.state}: it cannot become {state}.",
                    hint="Ask for its state again.",
                )
            change.run(
                "UPDATE jobs SET state = ?, reason = ?, needed_bytes = ?, failure = ?, wish = '',"
                " crashes = ?, publishing = ?, ended_at = ?, is_cleared = 0, seq = ? WHERE id = ?",
                state,
                reason,
                needed_bytes,
                None if failure is None else failure.model_dump_json(),
                job.crashes if crashes is None else crashes,
                None if publishing is None else publishing.model_dump_json(),
                self._clock() if state in ENDED else None,
                change.seq(),
                job_id,
            )
        return self.job(job_id)

    def finish(self, job_id: str, take: NewTake) -> Take:
        """A published job is done and its take there, in one step. Twice is once."""
        with self._change() as change:
            job = self.job(job_id)
            if job.state == JobState.DONE:
                return self.take(job.take_id)
            if JobState.DONE not in NEXT[job.state]:
                raise Conflict(f"Job {job.number} is {job.state}: it cannot become done.")
            # Only here: a take that is found again after damage may be on its timeline long since.
            placement = self.shot(job.shot_id).placement
            is_wanted = bool(placement.get("places_by_itself")) and not take.is_draft
            placing = Placing(state=PlacingState.WANTED) if is_wanted else None
            self._add_take(change, job, take, placing)
            change.run(
                "UPDATE jobs SET state = 'done', reason = '', wish = '', publishing = NULL,"
                " failure = NULL, ended_at = ?, seq = ? WHERE id = ?",
                self._clock(),
                change.seq(),
                job_id,
            )
        return self.take(take.id)

    def wish(self, job_id: str, wish: Wish) -> Job:
        """What the person wants of a job: done at once, or left as a wish where it runs.

        Raises:
            Conflict: the job is at its end, or its take is being published.
        """
        job = self.job(job_id)
        if job.state == JobState.RUNNING:
            with self._change() as change:
                change.run(
                    "UPDATE jobs SET wish = ?, seq = ? WHERE id = ?", wish, change.seq(), job_id
                )
            return self.job(job_id)
        to = JobState.CANCELLED if wish == Wish.CANCEL else JobState.PAUSED
        return job if job.state == to else self.change(job_id, to)

    def edit(self, job_id: str, request: str) -> Job:
        """Give a job that does not run another request, a JSON object.

        Raises:
            Conflict: it runs, or is at its end.
        """
        with self._change() as change:
            job = self.job(job_id)
            if job.state not in (JobState.QUEUED, JobState.PAUSED, JobState.WAITING):
                raise Conflict(
                    f"Job {job.number} is {job.state}: only a job that waits can be edited.",
                    hint="Pause it first, or add a new job.",
                )
            change.run(
                "UPDATE jobs SET request = ?, request_sha256 = ?, prompt = ?, crashes = 0, seq = ?"
                " WHERE id = ?",
                request,
                request_sha256(request),
                json.loads(request)["prompt"],
                change.seq(),
                job_id,
            )
        return self.job(job_id)

    # ---------------------------------------------------------------------- the queue's order

    def move(self, job_ids: Sequence[str], *, to: MoveTo = "front", before: str = "") -> list[Job]:
        """Put jobs, in the order given, at the queue's front or end, or before job `before`.

        Raises:
            Conflict: one of them is at its end, or is to go before itself.
        """
        with self._change() as change:
            jobs = [self.job(job_id) for job_id in job_ids]
            target = self.job(before) if before else None
            for job in [*jobs, *([target] if target else [])]:
                if job.state in ENDED:
                    raise Conflict(f"Job {job.number} is {job.state}: it is not in the queue.")
            if before in job_ids:
                raise Conflict("A job cannot go before itself.")
            if target is None:
                ranks = self._ranks(len(jobs), to == "front")
            else:
                ranks = self._ranks_before(change, before, job_ids)
            for job_id, rank in zip(job_ids, ranks, strict=True):
                change.run(
                    "UPDATE jobs SET rank = ?, seq = ? WHERE id = ?", rank, change.seq(), job_id
                )
        return [self.job(job_id) for job_id in job_ids]

    def cancel_waiting(self) -> int:
        """Cancel every job of the queue that does not run; how many."""
        states = (JobState.QUEUED, JobState.PAUSED, JobState.WAITING)
        with self._change() as change:
            return change.run_many(
                f"state IN ({_listed(states)})",
                "state = 'cancelled', reason = '', needed_bytes = 0, failure = NULL, wish = '',"
                " ended_at = ?",
                self._clock(),
            )

    def clear(self, job_ids: Sequence[str] | None = None) -> int:
        """Take jobs at their end out of sight, all of them or some; how many. Takes stay."""
        where = f"state IN ({_listed(ENDED)}) AND is_cleared = 0"
        if job_ids is not None:
            where += f" AND id IN ({', '.join('?' * len(job_ids))})"
        with self._change() as change:
            return change.run_many(where, "is_cleared = 1", found=job_ids or ())

    def set_mode(self, mode: QueueMode) -> Queue:
        """What the queue does with the jobs in it, from now on."""
        with self._change() as change:
            change.set_meta("mode", mode)
            change.seq()
        return self.queue()

    # ----------------------------------------------------------------------- shots and takes

    def judge(self, take_id: str, verdict: Verdict) -> Take:
        """What the editor says of a take. Raises Conflict where it is in the trash."""
        with self._change() as change:
            take = self.take(take_id)
            if take.verdict == Verdict.TRASHED:
                raise Conflict(
                    f"{take.file} is in the trash.", hint="Make it again: its job is still known."
                )
            change.run(
                "UPDATE takes SET verdict = ?, seq = ? WHERE id = ?", verdict, change.seq(), take_id
            )
        return self.take(take_id)

    # -------------------------------------------------------------------------------- inside

    @contextmanager
    def _change(self) -> Generator[_Change]:
        """One transaction."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            before = self.seq
            change = _Change(self._connection, before)
            try:
                yield change
                if change.last_seq != before:
                    change.set_meta("seq", str(change.last_seq))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise store_error(error) from error

    def _add_shot(self, change: _Change, shot: NewShot, created_at: float) -> None:
        change.run(
            "INSERT INTO shots (id, name, placement, created_at, seq) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO NOTHING",
            shot.id,
            shot.name,
            json.dumps(shot.placement),
            created_at,
            change.seq(),
        )

    def _add_job(
        self, change: _Change, job: NewJob, shot_id: str, rank: float, created_at: float
    ) -> None:
        change.run(
            "INSERT INTO jobs (id, shot_id, request, request_sha256, prompt, draft_take,"
            " state, rank, created_at, seq) VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
            job.id,
            shot_id,
            job.request,
            request_sha256(job.request),
            json.loads(job.request)["prompt"],
            job.draft_take,
            rank,
            created_at,
            change.seq(),
        )

    def _add_take(
        self, change: _Change, job: Job, take: NewTake, placing: Placing | None = None
    ) -> None:
        fields = take.model_dump() | {
            "placing": None if placing is None else placing.model_dump_json(),
            "shot_id": job.shot_id,
            "job_id": job.id,
            "prompt": job.prompt,
            "created_at": self._clock(),
            "seq": change.seq(),
        }
        names = ", ".join(fields)
        marks = ", ".join("?" * len(fields))
        change.run(f"INSERT INTO takes ({names}) VALUES ({marks})", *fields.values())

    def _ranks(self, count: int, front: bool) -> list[float]:
        """Ranks before or behind all there are."""
        aggregate = "MIN" if front else "MAX"
        end = self._connection.execute(f"SELECT {aggregate}(rank) FROM jobs").fetchone()[0] or 0.0
        first = end - count if front else end + 1
        return [first + index for index in range(count)]

    def _ranks_before(self, change: _Change, before: str, moved: Sequence[str]) -> list[float]:
        """Ranks between job `before` and the one that comes before it when `moved` are gone."""
        for _ in range(2):
            end = self.job(before).rank
            marks = ", ".join("?" * len(moved))
            text = f"SELECT MAX(rank) FROM jobs WHERE rank < ? AND id NOT IN ({marks})"
            start = self._connection.execute(text, (end, *moved)).fetchone()[0]
            start = end - 1 if start is None else start
            gap = (end - start) / (len(moved) + 1)
            ranks = [start + gap * (index + 1) for index in range(len(moved))]
            if all(one < other for one, other in zip([start, *ranks], [*ranks, end], strict=True)):
                return ranks
            # No number is left between the two: count all of them anew.
            change.renumber()
        raise AssertionError("after counting anew there is room")

    def _jobs(self, rest: str, *values: Any) -> list[Job]:
        return [_as_job(row) for row in self._rows(f"{_JOBS} {rest}", *values)]

    def _rows(self, text: str, *values: Any) -> list[sqlite3.Row]:
        return self._connection.execute(text, values).fetchall()

    def _row(self, text: str, identity: str, what: str) -> sqlite3.Row:
        row = self._connection.execute(text, (identity,)).fetchone()
        if row is None:
            raise NotFound(f"There is no {what} {identity}.", hint=f"Ask for the list of {what}s.")
        return row

    def _meta(self, name: str, default: str) -> str:
        text = "SELECT value FROM meta WHERE name = ?"
        row = self._connection.execute(text, (name,)).fetchone()
        return default if row is None else row["value"]


class _Change:
    """One transaction under way."""

    def __init__(self, connection: sqlite3.Connection, last_seq: int) -> None:
        self._connection = connection
        self.last_seq = last_seq

    def seq(self) -> int:
        """The number of one more changed row."""
        self.last_seq += 1
        return self.last_seq

    def run(self, text: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(text, values)

    def run_many(self, where: str, changes: str, *values: Any, found: Sequence[Any] = ()) -> int:
        """Change all jobs that `where` finds, each with a number of its own; how many.

        Args:
            values: of the marks in `changes`.
            found: of the marks in `where`.
        """
        cursor = self._connection.execute(
            f"UPDATE jobs SET {changes}, seq = found.n + ? FROM (SELECT id AS found_id,"
            f" ROW_NUMBER() OVER (ORDER BY rank) AS n FROM jobs WHERE {where}) AS found"
            " WHERE jobs.id = found.found_id",
            (*values, self.last_seq, *found),
        )
        self.last_seq += cursor.rowcount
        return cursor.rowcount

    def renumber(self) -> None:
        """Ranks 1, 2, 3 … in the order that is."""
        self.run_many("1", "rank = found.n")

    def set_meta(self, name: str, value: str) -> None:
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", name, value)


def create_tables(connection: sqlite3.Connection, identity: str) -> None:
    """Make an empty database a store."""
    connection.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
    connection.execute("INSERT INTO meta VALUES ('identity', ?)", (identity,))
    connection.commit()


def request_sha256(request: str) -> str:
    """Of a request as a row has it: damage that SQLite does not see shows by it."""
    return hashlib.sha256(request.encode()).hexdigest()


def store_error(error: sqlite3.OperationalError) -> StudioError | DiskFull:
    """What a fault of the database means."""
    name = error_name(error)
    if name in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
        return DiskFull(
            "The disk with FreeSwim's data is full.", hint="Free some space; nothing was lost."
        )
    hint = "Look at the log: freeswim logs."
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        hint = "Make its folder writable, or name another with FREESWIM_HOME."
    return StudioError(f"FreeSwim's database cannot be used: {error}.", hint=hint)


def error_name(error: sqlite3.Error) -> str:
    """SQLite's name of an error; empty where Python's module raised it."""
    return getattr(error, "sqlite_errorname", "")


def _listed(states: Iterable[JobState]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


def _search(column: str, words: str) -> tuple[str, list[Any]]:
    """A condition that all words are in the column or the shot's name, whatever their case."""
    where, values = "", list[Any]()
    for word in words.split():
        where += f" AND (instr(folded({column}), ?) OR instr(folded(shots.name), ?))"
        values += [_folded(word)] * 2
    return where, values


def _folded(text: str) -> str:
    """The same for texts that differ in case, or in how a letter with an accent is put."""
    return unicodedata.normalize("NFC", text.casefold())


def _as_shot(row: sqlite3.Row) -> Shot:
    return Shot.model_validate(dict(row) | {"placement": json.loads(row["placement"])})


def _as_job(row: sqlite3.Row) -> Job:
    failure = row["failure"]
    return Job.model_validate(
        dict(row)
        | {
            "request": json.loads(row["request"]),
            "failure": None if failure is None else json.loads(failure),
        }
    )


def _as_take(row: sqlite3.Row) -> Take:
    placing = row["placing"]
    return Take.model_validate(
        dict(row) | {"placing": None if placing is None else json.loads(placing)}
    )
