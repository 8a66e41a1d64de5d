"""The queue as rows: which jobs, in which order, and what is said of each.

Rows are kept sorted by a key of their job, so one is found by bisection: what changes costs the
same with ten jobs and with ten thousand, and is told to views row by row, never by a reset.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from PySide6.QtCore import (
    QMimeData,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QSize,
    QStringListModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QImage

from desktop.queue.times import Times
from desktop.queue.words import Row, Sight, Titles, describe, failure_text, kind_of
from desktop.studio import Changed, Studio
from freeswim.studio.job import ENDED, Job, JobState
from freeswim.studio.runner import JobProgress

ID, ROW, PICTURE = (int(Qt.ItemDataRole.UserRole) + number for number in range(3))
DRAGGED = "application/x-freeswim-jobs"  # ids, one a line
PICTURE_SIZE = QSize(128, 72)  # pixels; twice what a row shows, for screens with more of them

UNDER_WAY = frozenset({JobState.RUNNING, JobState.PUBLISHING})
WAITS = frozenset({JobState.QUEUED, JobState.PAUSED, JobState.WAITING})

# Stages with their shares of the time, as far as anybody knows beforehand.
STAGES = {"encode prompt": 2, "load": 3, "base": 27, "upsample": 6, "refine": 50, "write": 12}

Index = QModelIndex | QPersistentModelIndex
Key = tuple[float, float, int]  # part of the list, place in it, number of the job
Placed = list[tuple[Key, str]]


class JobModel(QStringListModel):
    """Some of the studio's jobs, as rows in an order.

    The model of strings under it only counts the rows. A view that lays out its rows asks for
    their number twice a row: of ten thousand, Python's answers take longer than a frame.
    """

    def __init__(self, studio: Studio, titles: Titles, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.studio = studio
        self.titles = titles
        self._ids: list[str] = []  # in the order of the rows ...
        self._keys: list[Key] = []  # ... with their keys, ascending
        self._key_of: dict[str, Key] = {}
        self._hidden: set[str] = set()  # jobs that the person has taken out of the list
        self._block: Placed = []  # jobs whose rows come, or go elsewhere
        # Before all views, which were not there yet: they find the jobs of the rows.
        self.rowsInserted.connect(self._on_inserted)
        self.rowsRemoved.connect(self._on_removed)
        self.rowsMoved.connect(self._on_moved)
        titles.known.connect(self.touch_all)
        studio.changed.connect(self._on_change)

    def key(self, job: Job) -> Key | None:
        """Where the job's row is; None: it has none here."""
        raise NotImplementedError

    def words_of(self, job: Job) -> Row:
        """What its row says."""
        raise NotImplementedError

    @property
    def ids(self) -> Sequence[str]:
        """Of the jobs, in the order of the rows."""
        return self._ids

    def job(self, row: int) -> Job:
        """The job in a row."""
        return self.studio.jobs[self._ids[row]]

    def row_of(self, job_id: str) -> int | None:
        """The row of a job; None: it has none here."""
        key = self._key_of.get(job_id)
        return None if key is None else bisect_left(self._keys, key)

    def hide(self, job_ids: Iterable[str]) -> None:
        """Take these out of the list, until they are queued again."""
        job_ids = list(job_ids)
        self._hidden.update(job_ids)
        self.take_in(job_ids)

    def take_in(self, job_ids: Iterable[str]) -> None:
        """Look at these jobs again: their rows come, go, move or say something else."""
        new: Placed = []
        moved: Placed = []
        gone: list[str] = []
        same: list[str] = []
        for job_id in job_ids:
            before, after = self._key_of.get(job_id), self._key_now(job_id)
            if after is None:
                if before is not None:
                    gone.append(job_id)
            elif before is None:
                new.append((after, job_id))
            else:
                same.append(job_id)
                if after != before:
                    moved.append((after, job_id))
        self._remove(gone)
        self._add(sorted(new))
        self._move(sorted(moved))
        self.touch(same)

    def touch(self, job_ids: Iterable[str]) -> None:
        """What is said of these jobs is something else by now."""
        rows = (self.row_of(job_id) for job_id in job_ids)
        for first, last in _runs(sorted(row for row in rows if row is not None)):
            self.dataChanged.emit(self.index(first), self.index(last))

    def touch_all(self) -> None:
        """What is said of all jobs is something else by now."""
        if self._ids:
            self.dataChanged.emit(self.index(0), self.index(len(self._ids) - 1))

    # ------------------------------------------------------------------------ as Qt asks for it

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Rows can be selected."""
        if not index.isValid():
            return Qt.ItemFlag.NoItemFlags
        return Qt.ItemFlag.ItemIsSelectable | Qt.ItemFlag.ItemIsEnabled

    def data(self, index: Index, role: int = int(Qt.ItemDataRole.DisplayRole)) -> Any:
        """What is said of the job in a row."""
        if not index.isValid():
            return None
        job = self.job(index.row())
        if role == ID:
            return job.id
        if role == ROW:
            return self.words_of(job)
        if role == Qt.ItemDataRole.DisplayRole:
            return job.shot_name
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return self.words_of(job).spoken
        if role == Qt.ItemDataRole.ToolTipRole:
            return _tool_tip(job, self.words_of(job))
        return None

    # ---------------------------------------------------------------------------------- inside

    def _on_change(self, changed: Changed) -> None:
        self.take_in(changed.jobs)

    def _key_now(self, job_id: str) -> Key | None:
        job = self.studio.jobs[job_id]
        if job.state not in ENDED:
            self._hidden.discard(job_id)
        return None if job.is_cleared or job_id in self._hidden else self.key(job)

    def _remove(self, job_ids: list[str]) -> None:
        rows = sorted(bisect_left(self._keys, self._key_of.pop(job_id)) for job_id in job_ids)
        for first, last in reversed(list(_runs(rows))):
            self.removeRows(first, last - first + 1)

    def _add(self, new: Placed) -> None:
        """New rows, sorted; those that come to lie beside each other at once."""
        while new:
            at = bisect_left(self._keys, new[0][0])
            count = len(new) if at == len(self._keys) else bisect_left(new, (self._keys[at], ""))
            self._block, new = new[:count], new[count:]
            self.insertRows(at, count)

    def _move(self, moved: Placed) -> None:
        """Rows with new keys, sorted; those that stay together go together."""
        while moved:
            row = bisect_left(self._keys, self._key_of[moved[0][1]])
            count = 1
            while count < len(moved) and self._ids[row + count : row + count + 1] == [
                moved[count][1]
            ]:
                count += 1
            lowest = bisect_left(self._keys, moved[0][0])
            highest = bisect_left(self._keys, moved[count - 1][0])
            if lowest != highest and not row <= lowest <= highest <= row + count:
                count = 1  # others lie between where they go
            block, moved = moved[:count], moved[count:]
            self._move_block(row, block)

    def _move_block(self, row: int, block: Placed) -> None:
        count = len(block)
        lowest, highest = (bisect_left(self._keys, key) for key in (block[0][0], block[-1][0]))
        if row <= lowest and highest <= row + count:
            self._keys[row : row + count] = [key for key, _ in block]
            self._key_of.update((job_id, key) for key, job_id in block)
            return
        self._block = block
        self.moveRows(QModelIndex(), row, count, QModelIndex(), lowest)

    def _on_inserted(self, _: QModelIndex, first: int, last: int) -> None:
        self._ids[first:first] = [job_id for _, job_id in self._block]
        self._keys[first:first] = [key for key, _ in self._block]
        self._key_of.update((job_id, key) for key, job_id in self._block)

    def _on_removed(self, _: QModelIndex, first: int, last: int) -> None:
        del self._ids[first : last + 1], self._keys[first : last + 1]

    def _on_moved(self, parent: QModelIndex, first: int, last: int, _: object, to: int) -> None:
        self._on_removed(parent, first, last)
        at = to if to < first else to - (last - first + 1)
        self._on_inserted(parent, at, last)


class FinishedModel(JobModel):
    """Jobs that are done or were cancelled, the last one first."""

    def __init__(self, studio: Studio, titles: Titles, parent: QObject | None = None) -> None:
        super().__init__(studio, titles, parent)
        self.take_in(studio.jobs)

    def key(self, job: Job) -> Key | None:
        """By when it ended."""
        if job.state in (JobState.DONE, JobState.CANCELLED):
            return (0.0, -(job.ended_at or 0.0), -job.number)
        return None

    def words_of(self, job: Job) -> Row:
        """What its row says."""
        take = self.studio.takes.get(job.take_id)
        return describe(job, Sight(subtitle=self.titles.of(job), take=take))


class QueueModel(JobModel):
    """Jobs of the queue: those that run, those that wait in their order, and those that failed."""

    move_wanted = Signal(list, str)  # ids, and before which job they go; "": to the end

    def __init__(
        self, studio: Studio, titles: Titles, times: Times, parent: QObject | None = None
    ) -> None:
        super().__init__(studio, titles, parent)
        self._times = times
        self._courses: dict[str, Course] = {}
        self._pictures: dict[str, QImage] = {}  # of jobs that run
        self._asked: dict[str, str] = {}  # what is about to happen to a job: "Cancelling"
        self._ended: set[str] = set()  # jobs at their end: queued after that, they are so again
        self._placed: dict[str, tuple[float, int]] = {}  # rank by now, and number of the move
        self._num_moves = 0
        studio.progressed.connect(self._on_progress)
        studio.lost.connect(lambda _: self._forget_asked())
        times.ticked.connect(self._on_tick)
        self._look_at(studio.jobs)
        self.take_in(studio.jobs)

    # ------------------------------------------------------------------------- parts of the list

    @property
    def num_left(self) -> int:
        """How many jobs are not at their end."""
        return bisect_left(self._keys, (2.0,))

    @property
    def waiting(self) -> range:
        """Rows of the jobs that wait."""
        return range(bisect_left(self._keys, (1.0,)), self.num_left)

    @property
    def num_failed(self) -> int:
        """How many jobs failed and are still shown."""
        return len(self._keys) - self.num_left

    def key(self, job: Job) -> Key | None:
        """By what it does, then by the queue's order."""
        if job.state in UNDER_WAY:
            return (0.0, job.rank, job.number)
        if job.state in WAITS:
            placed = self._placed.get(job.id)
            return (1.0, job.rank if placed is None else placed[0], job.number)
        if job.state == JobState.FAILED:
            return (2.0, -(job.ended_at or 0.0), -job.number)
        return None

    def words_of(self, job: Job) -> Row:
        """What its row says."""
        course = self._courses.get(job.id)
        has_time = job.state in (JobState.RUNNING, JobState.QUEUED)
        return describe(
            job,
            Sight(
                subtitle=self.titles.of(job),
                progress=self.studio.progress.get(job.id),
                share=None if course is None else course.share,
                seconds_left=self._times.left(job) if has_time else None,
                is_slower=self._times.is_slower(job.id),
                is_again=job.id in self._ended,
                asked=self._asked.get(job.id, ""),
                mode=self.studio.mode,
            ),
        )

    def stage_seconds(self, job_id: str) -> dict[str, float]:
        """Seconds of each stage of a job that runs, as far as it was watched."""
        course = self._courses.get(job_id)
        return {} if course is None else dict(course.seconds)

    def ask(self, job_ids: Sequence[str], state: str) -> None:
        """Say that this is about to happen to the jobs, until it has; "": it will not."""
        for job_id in job_ids:
            if state:
                self._asked[job_id] = state
            else:
                self._asked.pop(job_id, None)
        self.touch(job_ids)

    # ------------------------------------------------------------------------------------ moving

    def place(self, job_ids: Sequence[str], before: str) -> int:
        """Show waiting jobs before another one, or at the end, ahead of the studio's word.

        Returns:
            The number of the move, to `settle` or `take_back`.
        """
        self._num_moves += 1
        for job_id, rank in zip(job_ids, self._ranks(job_ids, before), strict=True):
            self._placed[job_id] = (rank, self._num_moves)
        self.take_in(job_ids)
        return self._num_moves

    def settle(self, move: int, jobs: Iterable[Job]) -> None:
        """The studio has moved the jobs, and says where they are."""
        for job in jobs:
            if self._placed.get(job.id, (0.0, 0))[1] == move:
                if self.studio.jobs[job.id].seq >= job.seq:
                    del self._placed[job.id]
                else:  # until the change itself arrives
                    self._placed[job.id] = (job.rank, -job.seq)
        self.take_in(job.id for job in jobs)

    def take_back(self, move: int) -> None:
        """The studio has refused the move: the jobs are where they were."""
        job_ids = [job_id for job_id, (_, number) in self._placed.items() if number == move]
        for job_id in job_ids:
            del self._placed[job_id]
        self.take_in(job_ids)

    def _ranks(self, job_ids: Sequence[str], before: str) -> list[float]:
        """As the studio will count them: between the job before and the next one."""
        moved, waiting = set(job_ids), self.waiting
        row = self.row_of(before) if before else waiting.stop
        assert row is not None
        above = row - 1
        while above >= waiting.start and self._ids[above] in moved:
            above -= 1
        start = self._keys[above][1] if above >= waiting.start else None
        end = self._keys[row][1] if before else None
        if start is None:
            start = (0.0 if end is None else end) - len(job_ids) - 1
        step = 1.0 if end is None else (end - start) / (len(job_ids) + 1)
        return [start + step * (index + 1) for index in range(len(job_ids))]

    # ---------------------------------------------------------------------------------- dragging

    def flags(self, index: Index) -> Qt.ItemFlag:
        """Jobs that wait can be dragged, and dropped between each other."""
        if not index.isValid():
            return Qt.ItemFlag.ItemIsDropEnabled  # between rows
        can_move = self.job(index.row()).state in WAITS
        drag = Qt.ItemFlag.ItemIsDragEnabled if can_move else Qt.ItemFlag.NoItemFlags
        return super().flags(index) | drag

    def supportedDropActions(self) -> Qt.DropAction:
        """Moved, never copied."""
        return Qt.DropAction.MoveAction

    def mimeTypes(self) -> list[str]:
        """What can be dropped here."""
        return [DRAGGED]

    def mimeData(self, indexes: Sequence[QModelIndex]) -> QMimeData:
        """The jobs of the rows, in their order; those that cannot move stay."""
        rows = sorted(index.row() for index in indexes)
        dragged = [self._ids[row] for row in rows if self.job(row).state in WAITS]
        said = QMimeData()
        said.setData(DRAGGED, "\n".join(dragged).encode())
        return said

    def canDropMimeData(
        self, data: QMimeData, action: Qt.DropAction, row: int, column: int, parent: Index
    ) -> bool:
        """Between jobs that wait."""
        waiting = self.waiting
        if row < 0:  # below the last row
            row = len(self._ids)
        return data.hasFormat(DRAGGED) and waiting.start <= row <= waiting.stop

    def dropMimeData(
        self, data: QMimeData, action: Qt.DropAction, row: int, column: int, parent: Index
    ) -> bool:
        """Ask for the move; whoever hears it carries it out."""
        if not self.canDropMimeData(data, action, row, column, parent):
            return False
        waiting = self.waiting
        moved = [
            job_id
            for job_id in bytes(data.data(DRAGGED).data()).decode().split("\n")
            if job_id in self._key_of and self.studio.jobs[job_id].state in WAITS
        ]
        row = waiting.stop if row < 0 else row
        while row in waiting and self._ids[row] in moved:
            row += 1
        if moved:
            self.move_wanted.emit(moved, self._ids[row] if row in waiting else "")
        return bool(moved)

    def data(self, index: Index, role: int = int(Qt.ItemDataRole.DisplayRole)) -> Any:
        """What is said and shown of the job in a row."""
        if role == PICTURE and index.isValid():
            return self._pictures.get(self._ids[index.row()])
        return super().data(index, role)

    # ---------------------------------------------------------------------------------- inside

    def _on_change(self, changed: Changed) -> None:
        self._look_at(changed.jobs)
        super()._on_change(changed)

    def _look_at(self, job_ids: Iterable[str]) -> None:
        """What is known of jobs beside the studio's rows, kept true to these."""
        for job_id in job_ids:
            job = self.studio.jobs[job_id]
            self._asked.pop(job_id, None)
            _, move = self._placed.get(job_id, (0.0, 0))
            if job.state not in WAITS or (move < 0 and job.seq >= -move):
                self._placed.pop(job_id, None)
            if job.state != JobState.RUNNING:
                self._pictures.pop(job_id, None)
            if job.state in ENDED:
                self._courses.pop(job_id, None)
                self._ended.add(job_id)
            elif job.state == JobState.RUNNING:
                self._ended.discard(job_id)

    def _on_progress(self, progress: JobProgress) -> None:
        job = self.studio.jobs[progress.job_id]
        if job.id not in self._courses:
            self._courses[job.id] = Course(kind_of(job).stages)
        course = self._courses[job.id]
        course.follow(progress)
        if progress.preview and progress.preview != course.preview:
            course.preview = progress.preview
            self._ask_picture(job.id)
        self.touch([job.id])

    def _ask_picture(self, job_id: str) -> None:
        def show(picture: QImage) -> None:
            if self.studio.jobs[job_id].state == JobState.RUNNING and not picture.isNull():
                self._pictures[job_id] = picture
                self.touch([job_id])

        self.studio.ask(
            lambda client: _picture(client.get_bytes(f"/jobs/{job_id}/preview.jpg")),
            show,
            lambda _: None,  # it has ended meanwhile, or the next one will come
        )

    def _on_tick(self) -> None:
        self.touch(self._ids[: self.waiting.start])

    def _forget_asked(self) -> None:
        self.ask(list(self._asked), "")


class Course:
    """How much of a job's work is done, 0 to 1. It never goes back, whatever is begun anew."""

    def __init__(self, stages: Sequence[str]) -> None:
        self.share = 0.0
        self.preview = 0  # number of the newest one that was asked for
        self.seconds: dict[str, float] = {}  # of each stage of this attempt
        self._stages = stages
        self._began = 0.0
        self._stage = ""

    def follow(self, progress: JobProgress) -> None:
        """The job is as far as this."""
        self._time(progress)
        if progress.stage not in self._stages:
            return
        shares = [STAGES[stage] for stage in self._stages]
        index = self._stages.index(progress.stage)
        done = shares[index] * min(1.0, progress.step / progress.num_steps)
        self.share = max(self.share, (sum(shares[:index]) + done) / sum(shares))

    def _time(self, progress: JobProgress) -> None:
        if progress.seconds < self._began:  # another attempt
            self.seconds.clear()
            self._stage = ""
        if progress.stage != self._stage:
            self._stage, self._began = progress.stage, progress.seconds
        if progress.stage:
            self.seconds[progress.stage] = progress.seconds - self._began


def _picture(content: bytes) -> QImage:
    """A preview as a row shows it. Not on the window's thread: it is decoded here."""
    return QImage.fromData(content).scaled(
        PICTURE_SIZE,
        Qt.AspectRatioMode.KeepAspectRatioByExpanding,
        Qt.TransformationMode.SmoothTransformation,
    )


def _tool_tip(job: Job, row: Row) -> str:
    said = [f"{row.title}  {row.subtitle}", row.facts, row.status, "", job.prompt]
    if job.failure is not None:
        said[2] = f"{row.state}: {failure_text(job.failure)}"
    return "\n".join(said).strip()


def _runs(rows: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Ascending numbers as stretches without gaps: (first, last) of each."""
    for _, run in itertools.groupby(enumerate(rows), lambda one: one[1] - one[0]):
        stretch = [row for _, row in run]
        yield stretch[0], stretch[-1]
