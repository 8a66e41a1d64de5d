"""What the banner says of the studio: interruptions, failures in a row, a full disk, no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, QUrl
from PySide6.QtGui import QDesktopServices

from desktop.banner import Banner, Notice
from desktop.status import GB, LOW_BYTES
from desktop.studio import Changed, Studio
from freeswim import paths
from freeswim.errors import FreeswimError
from freeswim.studio.job import IN_QUEUE, JobState, QueueMode

MOST_SAME = 3  # failures of one kind in a row, at which the studio stops the queue (runner.py)


class Notices(QObject):
    """Writes the banner."""

    def __init__(self, studio: Studio, banner: Banner, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._studio, self._banner = studio, banner
        self._was_lost = False
        self._failed: list[str] = []  # ids of jobs, the last ones at the end
        studio.lost.connect(self._on_lost)
        studio.connected.connect(self._on_connected)
        studio.changed.connect(self._on_changed)
        studio.refused.connect(self._on_refused)

    def see_machine(self, machine: dict[str, Any]) -> None:
        """Warn of what the machine lacks; the answer of /machine."""
        self._say_gpu(machine)
        self._say_disk(machine["disk"]["free_bytes"])

    def _on_lost(self, error: FreeswimError) -> None:
        self._was_lost = True
        text = f"{error.message} Trying again; jobs go on where they were."
        self._banner.show_notice(
            "studio",
            Notice(text, (("Show logs", _open_logs),), is_error=True, can_be_dismissed=False),
        )

    def _on_connected(self) -> None:
        self._banner.take_back("studio")
        if self._studio.is_new:
            self._say_interrupted()
        self._was_lost = False

    def _say_interrupted(self) -> None:
        """The studio that was started finds jobs that another one had begun."""
        jobs = [
            job
            for job in self._studio.jobs.values()
            if job.state in IN_QUEUE - {JobState.PAUSED} and job.attempt > 0
        ]
        if not jobs:
            return
        what = f"{jobs[0].shot_name} was" if len(jobs) == 1 else f"{len(jobs)} jobs were"
        why = "The studio stopped and was started again" if self._was_lost else "Last time"
        goes = "It goes" if len(jobs) == 1 else "They go"
        self._banner.show_notice(
            "interrupted", Notice(f"{why}: {what} interrupted. {goes} on from the last step.")
        )

    def _on_changed(self, changed: Changed) -> None:
        for job_id in changed.jobs:
            state = self._studio.jobs[job_id].state
            if state == JobState.FAILED and job_id not in self._failed:
                self._failed.append(job_id)
            elif state == JobState.DONE:
                self._failed.clear()
        if self._studio.mode == QueueMode.STOP_AFTER:
            self._say_same_failures()
        else:
            self._banner.take_back("same")

    def _say_same_failures(self) -> None:
        failures = [self._studio.jobs[job_id].failure for job_id in self._failed[-MOST_SAME:]]
        codes = {failure.code for failure in failures if failure is not None}
        last = failures[-1] if failures else None
        if len(failures) < MOST_SAME or len(codes) != 1 or last is None:
            return
        text = f"The queue stopped: {MOST_SAME} jobs in a row failed. {last.message} {last.hint}"
        resume = ("Resume queue", self._resume)
        self._banner.show_notice("same", Notice(text.strip(), (resume,), is_error=True))

    def _resume(self) -> None:
        self._studio.order(lambda client: client.patch("/queue", {"mode": "run"}))

    def _on_refused(self, error: FreeswimError) -> None:
        self._banner.show_notice("refused", Notice(f"{error.message} {error.hint}".strip()))

    def _say_gpu(self, machine: dict[str, Any]) -> None:
        if not machine["gpus"]:
            text = (
                "No NVIDIA GPU found. Wan models need one with 12 GB or more; "
                "the demo model runs on the processor."
            )
            self._banner.show_notice("gpu", Notice(text))
        for slot in machine["slots"]:
            name = f"slot {slot['name']}"
            if slot["state"] == "disabled":
                enable = ("Use it again", self._enabling(slot["name"]))
                self._banner.show_notice(name, Notice(slot["message"], (enable,), is_error=True))
            else:
                self._banner.take_back(name)

    def _enabling(self, slot: str) -> Callable[[], None]:
        path = f"/machine/slots/{slot}/enable"
        return lambda: self._studio.order(lambda client: client.post(path))

    def _say_disk(self, free_bytes: int) -> None:
        if free_bytes >= LOW_BYTES:
            self._banner.take_back("disk")
            return
        takes = paths.takes()
        text = f"{free_bytes / GB:.1f} GB left where takes are kept. Jobs wait when there is too little."
        self._banner.show_notice("disk", Notice(text, (("Show folder", lambda: _open(takes)),)))


def _open_logs() -> None:
    _open(paths.logs())


def _open(folder: Any) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
