"""Shots as rows of a list: the studio's, and drafts that this window alone knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QPersistentModelIndex,
    QSize,
    Qt,
    Signal,
)

from desktop import theme
from desktop.resolve.words import spot_of, spot_words, wish_of
from desktop.studio import Studio
from freeswim.studio.client import Json
from freeswim.studio.job import ENDED, Job, JobState, Shot, Take, Verdict

ROW_PX = 30

Index: TypeAlias = QModelIndex | QPersistentModelIndex


@dataclass
class ShotDraft:
    """A shot that has no job yet: known to this window alone."""

    key: str
    name: str = ""  # "": its prompt will name it
    created_at: float = 0.0  # seconds UTC
    asked: Json = field(default_factory=dict)  # what its settings begin with
    prompt: str = ""  # as it is typed by now
    kind: str = "text"


ShotOrDraft: TypeAlias = Shot | ShotDraft


def key_of(shot: ShotOrDraft) -> str:
    """What a shot is known by: its id, or a draft's key."""
    return shot.key if isinstance(shot, ShotDraft) else shot.id


class Role(IntEnum):
    """What the list's model says of a shot."""

    KEY = Qt.ItemDataRole.UserRole
    STATE = Qt.ItemDataRole.UserRole + 1
    NUM_TAKES = Qt.ItemDataRole.UserRole + 2
    NUM_APPROVED = Qt.ItemDataRole.UserRole + 3
    KIND = Qt.ItemDataRole.UserRole + 4
    SPOT = Qt.ItemDataRole.UserRole + 5  # where it goes in Resolve; "": nowhere


@dataclass(frozen=True)
class Row:
    """A shot as the list shows it."""

    shot: ShotOrDraft
    name: str
    state: str = "new"  # new, or a word of STATES
    num_takes: int = 0
    num_approved: int = 0
    words: str = ""  # that a search looks at
    kind: str = "text"
    spot: str = ""  # where it goes in Resolve

    @property
    def spoken(self) -> str:
        """All of it, for who does not see it."""
        takes = f"{self.num_takes} take{'' if self.num_takes == 1 else 's'}"
        parts = [self.name, STATES.get(self.state, ("", "", "new"))[2], takes]
        parts += [f"{self.num_approved} approved"] if self.num_approved else []
        parts += [f"from Resolve, for {self.spot}"] if self.spot else []
        return ", ".join(parts)


# State -> icon, colour, word.
STATES = {
    "running": ("play", theme.RUNNING, "running"),
    "queued": ("clock", theme.SECONDARY, "queued"),
    "paused": ("pause", theme.WARNING, "paused"),
    "waiting": ("clock", theme.WARNING, "waiting"),
    "failed": ("error", theme.FAILED, "failed"),
    "done": ("done", theme.DONE, "done"),
    "wish": ("place", theme.WARNING, "waits for its prompt"),
    "idle": ("more", theme.SECONDARY, "nothing to do"),
}
_LIVELIEST = ("running", "publishing", "queued", "waiting", "paused")


def state_of(jobs: Sequence[Job]) -> str:
    """What is going on with a shot, of all its jobs the liveliest; else how the last one ended."""
    states = {str(job.state) for job in jobs if job.state not in ENDED}
    for state in _LIVELIEST:
        if state in states:
            return "running" if state == "publishing" else state
    ended = [job for job in jobs if job.state != JobState.CANCELLED]
    if not ended:
        return "idle"
    return str(max(ended, key=lambda job: (job.ended_at or 0, job.number)).state)


def rows_of(studio: Studio, drafts: Iterable[ShotDraft]) -> list[Row]:
    """All shots as they are now, the oldest first."""
    jobs: dict[str, list[Job]] = {}
    takes: dict[str, list[Take]] = {}
    for job in studio.jobs.values():
        jobs.setdefault(job.shot_id, []).append(job)
    for take in studio.takes.values():
        if take.verdict != "trashed":
            takes.setdefault(take.shot_id, []).append(take)
    rows = [
        _row(shot, jobs.get(shot.id, []), takes.get(shot.id, []))
        for shot in studio.shots.values()
        if shot.id in jobs or not shot.placement.get("forgotten")
    ]
    for draft in drafts:
        name = draft.name or " ".join(draft.prompt.split())[:60] or "New shot"
        rows.append(Row(draft, name, words=f"{name}\n{draft.prompt}".casefold(), kind=draft.kind))
    return sorted(rows, key=lambda row: row.shot.created_at)


def is_wish(shot: Shot, studio: Studio) -> bool:
    """Whether a shot was asked for inside Resolve and has no job yet: somebody is to write for it."""
    has_job = any(job.shot_id == shot.id for job in studio.jobs.values())
    return not has_job and wish_of(shot) is not None


def _row(shot: Shot, jobs: Sequence[Job], takes: Sequence[Take]) -> Row:
    prompts = {job.prompt for job in jobs} | {take.prompt for take in takes}
    place = spot_of(shot)
    if not jobs and not takes and wish_of(shot) is not None:
        state = "wish"
    else:
        state = "done" if not jobs and takes else state_of(jobs)
    return Row(
        shot,
        shot.name,
        state,
        len(takes),
        sum(take.verdict == Verdict.APPROVED for take in takes),
        "\n".join([shot.name, *prompts]).casefold(),
        spot=spot_words(place) if place is not None else "",
    )


class ShotsModel(QAbstractListModel):
    """Shots as rows. Rows are put in and taken out one by one, so that a selection stays."""

    renamed = Signal(str, str)  # key of a draft, its new name

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 (Qt's signature)
        return 0 if parent.isValid() else len(self.rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or index.row() >= len(self.rows):
            return None
        row = self.rows[index.row()]
        return {
            Qt.ItemDataRole.DisplayRole: row.name,
            Qt.ItemDataRole.EditRole: row.name,
            Qt.ItemDataRole.AccessibleTextRole: row.spoken,
            Qt.ItemDataRole.ToolTipRole: row.spoken,
            Qt.ItemDataRole.SizeHintRole: QSize(0, ROW_PX),
            Role.KEY: key_of(row.shot),
            Role.STATE: row.state,
            Role.NUM_TAKES: row.num_takes,
            Role.NUM_APPROVED: row.num_approved,
            Role.KIND: row.kind,
            Role.SPOT: row.spot,
        }.get(role)

    def flags(self, index: Index) -> Qt.ItemFlag:
        flags = super().flags(index)
        is_draft = index.isValid() and isinstance(self.rows[index.row()].shot, ShotDraft)
        return flags | Qt.ItemFlag.ItemIsEditable if is_draft else flags

    def setData(self, index: Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        if role != Qt.ItemDataRole.EditRole or not index.isValid():
            return False
        self.renamed.emit(key_of(self.rows[index.row()].shot), str(value))
        return True

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Have these rows; those that were there before keep their order."""
        kept = {key_of(row.shot) for row in rows}
        for number in reversed(range(len(self.rows))):
            if key_of(self.rows[number].shot) not in kept:
                self.beginRemoveRows(QModelIndex(), number, number)
                del self.rows[number]
                self.endRemoveRows()
        for number, one in enumerate(rows):
            here = self.rows[number] if number < len(self.rows) else None
            if here is None or key_of(here.shot) != key_of(one.shot):
                self.beginInsertRows(QModelIndex(), number, number)
                self.rows.insert(number, one)
                self.endInsertRows()
            elif here != one:
                self.rows[number] = one
                self.dataChanged.emit(self.index(number), self.index(number))

    def find(self, key: str) -> int:
        """Number of a shot's row; -1: it has none."""
        keys = (key_of(row.shot) for row in self.rows)
        return next((number for number, one in enumerate(keys) if one == key), -1)


def read_draft(said: Any) -> ShotDraft | None:
    """A draft as it was saved; None: it cannot be read."""
    if not isinstance(said, dict):
        return None
    values = {
        name: said[name]
        for name, kind in (("key", str), ("name", str), ("prompt", str), ("asked", dict))
        if isinstance(said.get(name), kind)
    }
    created_at = said.get("created_at")
    if not str(values.get("key", "")).startswith("draft "):
        return None
    kind = said.get("kind") if said.get("kind") in ("text", "image", "clip") else "text"
    is_time = isinstance(created_at, int | float)
    return ShotDraft(**values, created_at=float(created_at) if is_time else 0.0, kind=str(kind))
