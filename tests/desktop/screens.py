"""Every state of the window and of its companions, as pictures.

    python tests/desktop/screens.py FOLDER [--for-readme]

The studio is real and made two takes with the demo checkpoint; what cannot be had on any machine
(a full disk, a failure, forty jobs) is told to the window as the studio would. With QT_SCALE_FACTOR=2
the pictures are those of a screen with twice the pixels. `--for-readme` makes the few of docs/screens.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from pydantic import JsonValue
from PySide6.QtCore import QDeadlineTimer, QEventLoop, Qt
from PySide6.QtWidgets import QApplication, QWidget

from desktop import theme
from desktop.app import QUIET
from desktop.remembered import Remembered
from desktop.studio import Studio
from desktop.trouble import Trouble
from desktop.window import SAMPLE_PROMPT, Window
from freeswim.errors import StudioError
from freeswim.studio import client
from freeswim.studio.job import (
    Changes,
    Failure,
    Job,
    JobState,
    Placing,
    PlacingState,
    QueueMode,
    Reason,
    Shot,
    Verdict,
)
from freeswim.studio.resolve.links import LinkNow, WhereNow
from freeswim.studio.resolve.placer import News, ResolveNow
from freeswim.studio.resolve.planner import ResolveSettings, Verb
from freeswim.studio.runner import JobProgress

SEEDS = (2, 6)  # with which the sample has the koi that it asks for
PATIENCE_S = 240.0
FOR_README = {
    "compare": "window", "running": "running", "models": "models", "resolve-wish": "resolve",
}  # fmt: skip


class Camera:
    """Takes the pictures, and sees that none is blank."""

    def __init__(self, folder: Path, *, for_readme: bool) -> None:
        self.folder, self.for_readme = folder, for_readme
        folder.mkdir(parents=True, exist_ok=True)

    def shoot(self, widget: QWidget, name: str) -> None:
        settle()
        image = widget.grab().toImage()
        colours = {
            image.pixel(x, y)
            for x in range(0, image.width(), 8)
            for y in range(0, image.height(), 8)
        }
        assert len(colours) > 8, f"{name} is blank"
        if not self.for_readme:
            assert image.save(str(self.folder / f"{name}.png"))
        elif name in FOR_README:
            file = self.folder / f"{FOR_README[name]}.webp"
            assert image.save(str(file), "webp", 82)  # pyright: ignore


def settle(seconds: float = 0.15) -> None:
    """Let the window do what it has to do."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, QDeadlineTimer(20))
        time.sleep(0.01)  # the worker needs the processor more than we do


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it takes too long"
        settle(0.05)


def tell(studio: Studio, *jobs: Job, mode: QueueMode = QueueMode.RUN) -> None:
    """What the studio would say."""
    studio._take_in(Changes(seq=1, is_whole=True, mode=mode, shots=[], jobs=list(jobs), takes=[]))


def like(job: Job, number: int, state: JobState, **changes: object) -> Job:
    """Another job of the same kind."""
    fields: dict[str, object] = {
        "id": f"{number:016x}", "number": number, "shot_name": f"SHOT_{number:03}", "state": state,
        "take_id": "", "attempt": 0, "rank": float(number), "ended_at": None, "started_at": None,
    }  # fmt: skip
    if state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED):
        fields |= {"ended_at": time.time() - 60.0 * number, "started_at": time.time() - 600.0}
    return job.model_copy(update=fields | changes)


def shoot_real(window: Window, studio: Studio, camera: Camera) -> Job:
    """First start, a take that is made, two of them compared; the last job."""
    until(window.first_run.isVisible)
    settle(1.0)
    camera.shoot(window.first_run, "first-run")
    window.first_run.close()
    until(lambda: window.settings.button.text() == "Add to queue")
    camera.shoot(window, "no-shots")
    window._make_sample()
    if not camera.for_readme:  # smaller takes are made sooner
        window.settings.form.tune({"width": 256, "height": 256})
    until(lambda: window.settings.button.isEnabled())
    camera.shoot(window, "ready")
    window.settings.form.seed.edited.emit((SEEDS[0], True))
    window.settings.send()
    until(lambda: any(one.preview > 0 for one in studio.progress.values()))
    settle(1.0)
    camera.shoot(window, "running")
    camera.shoot(window.quit_sheet, "quit")
    until(lambda: len(studio.takes) == 1 and window.viewer.clips[1])
    window.settings.form.seed.edited.emit((SEEDS[1], True))
    window.settings.send()
    until(lambda: len(studio.takes) == 2)
    first, second = sorted(studio.takes.values(), key=lambda take: take.number)
    studio.order(lambda asked: asked.patch(f"/takes/{second.id}", {"verdict": "approved"}))
    until(lambda: studio.takes[second.id].verdict == "approved")
    window._compare(first.id, "A")
    window.takes.choose(second.id)
    until(lambda: all(window.viewer.clips))
    settle(1.5)
    camera.shoot(window, "compare")
    for key, name in (("s", "side-by-side"), ("d", "difference"), ("w", "wipe")):
        for action in window.viewer.actions():
            if [one.toString().lower() for one in action.shortcuts()] == [key]:
                action.trigger()
        settle(0.5)
        camera.shoot(window.viewer, name)
    return max(studio.jobs.values(), key=lambda job: job.number)


def shoot_queue(window: Window, studio: Studio, camera: Camera, job: Job) -> None:
    """Each state that a job can be in, and that the queue can be in."""
    no_memory = Failure(
        code="out_of_memory",
        message="Out of GPU memory at refine 3/50: it needed 21.3 GB, 18.0 GB were free.",
        hint="Make it 1280x720, or keep weights in RAM.",
    )
    tell(
        studio,
        like(job, 20, JobState.RUNNING, attempt=1, started_at=time.time() - 60),
        like(job, 30, JobState.QUEUED),
        like(job, 35, JobState.QUEUED, attempt=1),
        like(job, 40, JobState.WAITING, reason=Reason.DISK, needed_bytes=4_000_000_000),
        like(job, 45, JobState.WAITING, reason=Reason.MODEL),
        like(job, 50, JobState.PAUSED),
        like(job, 15, JobState.FAILED, failure=no_memory),
        like(job, 10, JobState.CANCELLED),
    )
    running = f"{20:016x}"
    loading = JobProgress(job_id=running, stage="load", step=1, num_steps=3, change=1)
    studio._take_progress(loading)
    camera.shoot(window, "loading-model")
    refining = JobProgress(job_id=running, stage="refine", step=6, num_steps=50, change=2)
    studio._take_progress(refining)
    camera.shoot(window, "queue-states")
    window.queue._toggle_finished()
    tell(studio, mode=QueueMode.PAUSE)
    camera.shoot(window, "paused")
    tell(studio, mode=QueueMode.STOP_AFTER)
    camera.shoot(window, "stopping-after-this")
    same = [like(job, 60 + n, JobState.FAILED, failure=no_memory) for n in range(3)]
    tell(studio, *same, mode=QueueMode.STOP_AFTER)
    camera.shoot(window, "three-failures")
    tell(studio)


def shoot_resolve(window: Window, studio: Studio, camera: Camera) -> None:
    """DaVinci Resolve in the app: nobody there, an editor at work, what arrived, where takes went."""
    window.resolve._timer.stop()  # from here on it is told what there is
    window.show_resolve.setChecked(True)
    settle(2.0)  # the plugin's doctor
    camera.shoot(window, "resolve-not-connected")
    place = {
        "project": "p", "project_name": "Harbor", "timeline": "t", "timeline_name": "Reel 2",
        "rate": "24000/1001", "is_drop_frame": False, "start_frame": 86400,
        "record_frame": 86640, "num_frames": 120,
    }  # fmt: skip
    now = time.time()
    news = [
        said(now - 5, "generate_at_playhead", "1 shot kept: write the prompt in FreeSwim."),
        said(now - 90, "fill_gap", "The playhead is in no gap between two clips.",
             hint="Park it in the gap, and choose this again.", is_error=True),
        said(now - 600, "generate_from_markers", "3 shots queued."),
    ]  # fmt: skip
    inside = resolve_now(news)
    window.resolve._hear(inside)
    wish = {"preset": "demo", "request": {"kind": "text", "prompt": "", "frames": 41}, "takes": 1}
    shot = Shot(
        id="c" * 16, name="Shot", created_at=time.time(), seq=1,
        placement={"resolve": place, "places_by_itself": True, "wish": wish},
    )  # fmt: skip
    studio._take_in(
        Changes(seq=1, is_whole=True, mode=QueueMode.RUN, shots=[shot], jobs=[], takes=[])
    )
    settle(1.0)
    camera.shoot(window, "resolve-wish")
    shoot_placings(window, studio, camera, place)
    window.resolve._hear({**inside, "state": "busy", "message": BUSY})
    camera.shoot(window, "resolve-waits-for-you")
    lua = resolve_now([], version="21.1.0.17", transport="mailbox", timeline="")
    window.resolve._hear(lua)
    camera.shoot(window, "resolve-no-timeline")
    window.show_resolve.setChecked(False)
    window.banner.take_back("resolve")


def shoot_placings(
    window: Window, studio: Studio, camera: Camera, place: dict[str, JsonValue]
) -> None:
    """Takes that went to the timeline, and such as did not; shots that came with their prompts."""
    shots = [
        Shot(
            id=f"{number:016x}", name=f"Gull {number}", created_at=time.time() + 60, seq=1,
            placement={
                "resolve": {**place, "record_frame": 86400 + 240 * number},
                "wish": {"preset": "demo", "request": {"prompt": "a gull"}, "takes": 1},
            },
        )
        for number in (71, 72, 73)
    ]  # fmt: skip
    window.settings.form.prompt.clearFocus()
    real = list(studio.takes.values())
    placings = (
        Placing(state=PlacingState.PLACED, message="On V2 at 01:11:20:00.", track=2,
                record_frame=86400 + 240 * 71),
        Placing(state=PlacingState.WAITING, message="Finished. Resolve is not connected."),
        Placing(state=PlacingState.POOL, message="In the media pool only, in the bin 'FreeSwim': "
                "its marker, at 01:11:20:00, was deleted."),
        Placing(state=PlacingState.FAILED, message="Resolve cannot read Gull.mov."),
        Placing(state=PlacingState.WANTED),
    )  # fmt: skip
    takes = [
        real[number % len(real)].model_copy(
            update={
                "id": f"{900 + number:016x}", "number": number + 1, "shot_id": shots[0].id,
                "verdict": Verdict.APPROVED if number == 0 else Verdict.NEW, "placing": placing,
                "shot_name": shots[0].name,
            }
        )
        for number, placing in enumerate(placings)
    ]  # fmt: skip
    for take in takes:
        window.takes.model.files[take.id] = window.takes.model.files[real[take.number % 2 - 1].id]
    changes = Changes(seq=1, is_whole=True, mode=QueueMode.RUN, shots=shots, jobs=[], takes=takes)
    studio._take_in(changes)
    settle(1.5)
    window.banner.take_back("refused")  # the studio knows nothing of these takes
    camera.shoot(window, "resolve-arrived-and-placed")
    window._show_arrived([shots[0].id])


BUSY = "Resolve does not go on: look whether a window of it waits for you."


def said(at: float, verb: Verb, message: str, **more: Any) -> News:
    """A sentence of the studio's."""
    return News(at=at, verb=verb, message=message, **more)


def resolve_now(
    news: list[News],
    *,
    version: str = "20.3.2.9",
    transport: Literal["http", "mailbox"] = "http",
    timeline: str = "t",
) -> dict[str, Any]:
    """What /resolve says while somebody is connected."""
    where = WhereNow(
        page="edit",
        project="p",
        project_name="Harbor",
        timeline=timeline,
        timeline_name="Reel 2" if timeline else "",
        rate="24000/1001",
        is_drop_frame=False,
        start_timecode="01:00:00:00",
    )
    link = LinkNow(
        product="DaVinci Resolve",
        version=version,
        edition="free",
        transport=transport,
        is_owner=True,
        page="edit",
        project="p",
        timeline=timeline,
        where=where,
        seconds_silent=12.0 if transport == "mailbox" else 0.0,
        busy_seconds=0.0,
    )
    now = ResolveNow(
        state="connected",
        message="",
        links=[link],
        settings=ResolveSettings(),
        wishes=[],
        news=news,
    )
    return now.model_dump(mode="json")


def shoot_trouble(window: Window, studio: Studio, camera: Camera) -> None:
    """What an editor is told when something is missing."""
    low = {"gpus": [], "slots": [], "disk": {"free_bytes": 4_100_000_000}, "host": {}}
    window.notices.see_machine(low)
    camera.shoot(window, "disk-low-and-no-gpu")
    crashed = {"name": "cpu", "state": "disabled", "message": "3 jobs in a row crashed here."}
    window.notices.see_machine({**low, "slots": [crashed]})
    camera.shoot(window, "slot-disabled")
    window.settings.form.tune({"preset": "wan21-1.3b-1080p"})
    settle(1.0)
    camera.shoot(window, "model-missing")
    studio.lost.emit(StudioError("The studio does not answer."))
    camera.shoot(window, "studio-lost")


def shoot_companions(window: Window, camera: Camera) -> None:
    """The windows beside the main one."""
    for name, companion in {
        "models": window.models,
        "preferences": window.preferences,
        "export": window.export,
        "report": window.report,
    }.items():
        companion.show()
        settle(1.0)
        camera.shoot(companion, name)
        companion.close()
    window._show_shortcuts()
    camera.shoot(window.shortcuts, "shortcuts")
    window.shortcuts.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--for-readme", action="store_true")
    options = parser.parse_args()
    os.environ["QT_LOGGING_RULES"] = QUIET
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ["FREESWIM_HOME"] = home
        app = QApplication(sys.argv[:1])
        app.setApplicationName("FreeSwim")
        theme.apply(app)
        studio, trouble = Studio(), Trouble()
        troubles: list[str] = []
        trouble.happened.connect(troubles.append)
        window = Window(studio, Remembered(), trouble)
        window.setAttribute(Qt.WidgetAttribute.WA_DontShowOnScreen)
        window.show()
        studio.start()
        until(lambda: studio.is_connected)
        settle(1.0)
        camera = Camera(options.folder, for_readme=options.for_readme)
        try:
            job = shoot_real(window, studio, camera)
            shoot_companions(window, camera)
            shoot_resolve(window, studio, camera)
            shoot_queue(window, studio, camera, job)
            shoot_trouble(window, studio, camera)
        finally:
            window.leave()
            studio.close()
            trouble.close()
            if (running := client.connect()) is not None:
                running.stop()
        assert troubles == [], troubles
    sys.stdout.write(f"{SAMPLE_PROMPT}: {len(list(options.folder.iterdir()))} pictures\n")
    sys.stdout.flush()
    os._exit(0)  # Qt's own end is of no interest here


if __name__ == "__main__":
    main()
