"""The folder of a job: what it is asked for, what it made so far, and how it ended.

    jobs/<id>/spec.json        what was asked for; written before the job is acknowledged
              checkpoints/     of its passes (checkpoint.py)
              attempt-N/       where attempt N writes its take, and nothing else
              preview.jpg      how the take looks by now
              worker.log       what libraries said
              manifest.json    the take that was published
              ended.json       how it ended, where no take came of it

It holds all that a new database needs, so that no damage to the old one loses a job or a take.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from freeswim import paths
from freeswim.errors import OutputError
from freeswim.output import keep_name
from freeswim.studio.job import Failure, Job, JobState, NewTake

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)

ID = re.compile(r"[0-9a-f]{16}")


class Spec(BaseModel):
    """What a job is asked for."""

    model_config = ConfigDict(frozen=True)

    id: str
    shot_id: str
    shot_name: str
    placement: dict[str, JsonValue] = {}
    request: dict[str, Any]
    draft_take: str = ""
    key: str = ""  # of the submission
    body_sha256: str = ""
    job_ids: list[str] = []  # of all jobs of the submission
    created_at: float


class Ended(BaseModel):
    """How a job ended that has no take."""

    model_config = ConfigDict(frozen=True)

    state: Literal[JobState.FAILED, JobState.CANCELLED]
    failure: Failure | None = None


@dataclass(frozen=True)
class JobFolder:
    """The folder of one job."""

    job_id: str

    @property
    def path(self) -> Path:
        """Where it is."""
        if not ID.fullmatch(self.job_id):
            raise ValueError(f"{self.job_id!r} is no id of a job")
        return paths.jobs() / self.job_id

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def preview(self) -> Path:
        return self.path / "preview.jpg"

    @property
    def log(self) -> Path:
        return self.path / "worker.log"

    def attempt(self, number: int) -> Path:
        """Where attempt `number` writes."""
        return self.path / f"attempt-{number}"

    def attempts(self) -> list[Path]:
        """Folders of the attempts that left something, the last one first."""
        found = [
            (int(match[1]), path)
            for path in self.path.glob("attempt-*")
            if (match := re.fullmatch(r"attempt-(\d+)", path.name))
        ]
        return [path for _, path in sorted(found, reverse=True)]

    def write_spec(self, spec: Spec) -> None:
        """Put what is asked for on the disk; it is there for good when this returns."""
        self._refuse_link()
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self.path / "spec.json", spec)

    def read_spec(self) -> Spec | None:
        """What is asked for; None: it cannot be read."""
        spec = _read(self.path / "spec.json", Spec)
        return spec if spec is not None and spec.id == self.job_id else None  # a copy, of another

    def write_manifest(self, take: NewTake) -> None:
        """Say which take was published."""
        self._refuse_link()
        _write(self.path / "manifest.json", take)

    def read_manifest(self) -> NewTake | None:
        """The take that was published, if one was."""
        return _read(self.path / "manifest.json", NewTake)

    def write_ended(self, job: Job) -> None:
        """Say how the job ended, unless a link is where the folder was."""
        if self.path.is_symlink():
            return
        said = {"state": job.state, "failure": job.failure}
        _write(self.path / "ended.json", Ended.model_validate(said))

    def read_ended(self) -> Ended | None:
        """How the job ended, if it has and without a take."""
        return _read(self.path / "ended.json", Ended)

    def begin(self, attempt: int) -> Path:
        """An empty folder for an attempt; those before it left nothing that is needed.

        Raises:
            OutputError: a link is where the job's folder was.
            OSError: the disk refused.
        """
        self._refuse_link()
        for old in self.attempts():
            _remove(old)
        self.forget_end()
        folder = self.attempt(attempt)
        folder.mkdir(parents=True)
        for path in (self.checkpoints, self.preview, self.log):
            if path.is_symlink():  # the worker would write to where it leads
                path.unlink()
        self.checkpoints.mkdir(exist_ok=True)
        return folder

    @property
    def was_begun(self) -> bool:
        """Whether anything was made of the job, or became of it."""
        names = ("checkpoints", "manifest.json", "ended.json")
        return any((self.path / name).exists() for name in names) or bool(self.attempts())

    def forget_end(self) -> None:
        """The job has not ended after all."""
        (self.path / "ended.json").unlink(missing_ok=True)

    def progress_mark(self) -> str:
        """Changes whenever the job got further: what a crash is measured by."""
        names = [path.name for path in self.checkpoints.glob("*") if not path.name.startswith(".")]
        return " ".join(sorted(names))

    def remove(self) -> None:
        """Of a job that never came to be."""
        _remove(self.path)

    def tidy(self, *, keep_log: bool = False) -> None:
        """Remove all that a job at its end needs no more, unless a link is where the folder was."""
        if self.path.is_symlink():
            return
        for folder in [*self.attempts(), self.checkpoints]:
            _remove(folder)
        self.preview.unlink(missing_ok=True)
        if not keep_log:
            self.log.unlink(missing_ok=True)

    def is_untidy(self) -> bool:
        """Whether there is something that a job at its end needs no more."""
        has_take = (self.path / "manifest.json").exists()
        untidy = [self.checkpoints, self.preview, *([self.log] if has_take else [])]
        return bool(self.attempts()) or any(path.exists() for path in untidy)

    def remove_unfinished(self) -> None:
        """Remove what a submission left that died before the job was acknowledged."""
        if {path.name for path in self.path.iterdir()} <= {"spec.part"}:
            _remove(self.path)

    def _refuse_link(self) -> None:
        if self.path.is_symlink():
            raise OutputError(
                f"The folder of job {self.job_id} is a link.", hint=f"Remove it: {self.path}."
            )


def all_folders() -> Iterator[JobFolder]:
    """The folder of every job."""
    if not paths.jobs().is_dir():
        return
    for path in sorted(paths.jobs().iterdir()):
        if ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield JobFolder(path.name)


def _remove(folder: Path) -> None:
    """A folder; or a file or link that somebody put in its place: then that alone."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
        return
    shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, content: BaseModel) -> None:
    """A whole new file or none, on the disk when this returns."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:  # never through a link
        file.write(content.model_dump_json(indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    keep_name(path.parent)


def _read(path: Path, model: type[Model]) -> Model | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        log.warning("%s is passed over: %s", path.name, type(error).__name__)
        return None
