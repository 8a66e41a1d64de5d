from __future__ import annotations

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

try:
    from PySide6.QtWidgets import QAbstractButton
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAccessible, QDragEnterEvent, QDropEvent, QImage, QWheelEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QSlider,
    QWidget,
)
from pytestqt.qtbot import QtBot

from desktop.settings.estimate import words_of
from desktop.settings.fields import Length
from desktop.settings.panel import SettingsPanel
from desktop.settings.preset_chooser import PresetChooser
from desktop.settings.sheet import Library, Sheet, fixes_in, frames_of, seconds_of
from desktop.shots.rows import ShotDraft
from desktop.studio import Studio
from freeswim.cli.main import _parser
from freeswim.models.catalog import CATALOG
from freeswim.presets import load_preset, preset_names
from freeswim.request import Request
from freeswim.studio.job import Job
from freeswim.studio.studio import _request_fields
from freeswim.studio.wire import PresetSaid

pytestmark = pytest.mark.qt_log_ignore(
    "does not support (propagateSizeHints|raise|grabbing the keyboard)"
)
DEMO = load_preset("demo").defaults
FRAMES, STRENGTH = DEMO["frames"], DEMO["refine"]["strength"]
LEFT = Qt.MouseButton.LeftButton
CTRL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
RATES = st.sampled_from(
    [*{one.frame_rate for one in CATALOG}, Fraction(24000, 1001), Fraction(25), Fraction(60)]
)


def order(qtbot: QtBot, studio: Studio, call: Any) -> Any:
    """What the studio answers, after everything that was ordered before."""
    answers: list[Any] = []
    studio.order(call, answers.append)
    qtbot.waitUntil(lambda: bool(answers), timeout=60_000)
    return answers[0]


@pytest.fixture
def panel(qtbot: QtBot, studio: Studio) -> Iterator[SettingsPanel]:
    """The settings beside a studio whose queue is paused."""
    order(qtbot, studio, lambda client: client.patch("/queue", {"mode": "pause"}))
    panel = SettingsPanel(studio)
    qtbot.addWidget(panel)
    panel.resize(300, 640)
    with qtbot.waitActive(panel):
        panel.show()
        panel.activateWindow()
    qtbot.waitUntil(lambda: panel.form.preset.isEnabled(), timeout=60_000)
    yield panel
    panel.estimate.stop()


@pytest.fixture(scope="module")
def library() -> Library:
    """All presets, with the demo's checkpoint alone on the machine."""
    return Library([PresetSaid(**vars(load_preset(name))) for name in preset_names()], ["demo"])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """48 frames of 64 x 32 at 24 per second, from 01:00:00:00 on."""
    path = tmp_path / "A004_C012.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.metadata["timecode"] = "01:00:00:00"
        for shade in range(48):
            frame = np.full((32, 64, 3), 5 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def image(tmp_path: Path, qapp: QApplication) -> Path:
    path = tmp_path / "harbor.png"
    picture = QImage(64, 32, QImage.Format.Format_RGB32)
    picture.fill(Qt.GlobalColor.darkGreen)
    assert picture.save(str(path))
    return path


def send(qtbot: QtBot, panel: SettingsPanel, do: Any = None) -> list[Job]:
    """The jobs that come of pressing the button, or of `do`."""
    with qtbot.waitSignal(panel.submitted, timeout=60_000) as said:
        (do or (lambda: qtbot.mouseClick(panel.button, LEFT)))()
    ids = said.args[0]
    jobs = order(qtbot, panel._studio, lambda client: client.get("/jobs"))["jobs"]
    by_id = {job["id"]: Job.model_validate(job) for job in jobs}
    return [by_id[one] for one in ids]


def type_prompt(qtbot: QtBot, panel: SettingsPanel, words: str = "two koi") -> None:
    panel.form.prompt.setFocus()
    qtbot.keyClicks(panel.form.prompt, words)


def asked(*arguments: str) -> dict[str, Any]:
    """The request that the command line makes of its arguments."""
    options: argparse.Namespace = _parser().parse_args(arguments)
    return options.ask(options).request.as_dict()


def mine(**changes: Any) -> PresetSaid:
    """A preset of the person's own: the demo's with changes."""
    defaults = load_preset("demo").defaults | changes
    return PresetSaid(
        name="file mine", title="Mine", description="", needs_lora=False, defaults=defaults
    )


def drop_on(widget: QWidget, *paths: Path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    buttons, modifiers = LEFT, Qt.KeyboardModifier.NoModifier
    action = Qt.DropAction.CopyAction
    for event in (
        QDragEnterEvent(QPoint(4, 4), action, mime, buttons, modifiers),
        QDropEvent(QPointF(4, 4), action, mime, buttons, modifiers),
    ):
        QApplication.sendEvent(widget, event)
        assert event.isAccepted()


# ------------------------------------------------------------------------------ what is sent


def test_what_is_sent_is_what_the_command_line_sends(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    (job,) = send(qtbot, panel)
    seed = str(job.request["seed"])
    assert job.request == asked("generate", "two koi", "--preset", "demo", "--seed", seed)
    assert job.shot_name == "two koi"
    assert panel.form.seed.number.value() == job.request["seed"]
    assert panel.sheet.is_seed_locked is False


def test_a_clip_is_sent_as_refine_sends_it(qtbot: QtBot, panel: SettingsPanel, clip: Path):
    panel.form.kinds["clip"].click()
    assert "Give the clip" in panel.obstacle.text()
    drop_on(panel.form.slots["clip"], clip)
    qtbot.waitUntil(panel.button.isEnabled, timeout=60_000)
    assert panel.button.text() == "Regenerate clip"
    (job,) = send(qtbot, panel)
    arguments = ("refine", str(clip), "--preset", "demo", "--seed", str(job.request["seed"]))
    assert job.request == asked(*arguments)
    assert job.shot_name == "A004_C012"


@pytest.mark.parametrize(
    "options, changes",
    [
        (("--strength", "0.5"), {"refine.strength": 0.5}),
        (("--size", "2560x1440"), {"width": 2560, "height": 1440}),
        (("--frames", "17", "--draft"), {"frames": 17, "draft": True}),
        (("--steps", "9"), {"base.steps": 9, "refine.steps": 9}),
        (("--interval", "3"), {"refine.refresh_interval": 3}),
        (("--weights", "int8"), {"weights": "int8"}),
        (("--model", "wan2.2-ti2v-5b"), {"checkpoint": "wan2.2-ti2v-5b"}),
        (("--full-branch", "native"), {"refine.guidance": "native"}),
    ],
)
def test_each_change_is_that_of_an_option(
    library: Library, options: tuple[str, ...], changes: dict[str, Any]
):
    sheet = Sheet(preset="wan21-1.3b-1080p", prompt="a pond", seed=7, is_seed_locked=True)
    sheet.changes.update(changes)
    submission = library.submission(sheet)
    assert submission["preset"] == "wan21-1.3b-1080p"
    flags = ("--preset", "wan21-1.3b-1080p", "--seed", "7", *options)
    request = Request.parse(_request_fields(submission["preset"], submission["request"]))
    assert request.as_dict() == asked("generate", "a pond", *flags)
    sent = submission["request"]
    said = {"prompt", "seed", *(name.partition(".")[0] for name in changes)}
    assert set(sent) == said, "the preset and what differs from it, nothing else"


def test_each_field_changes_the_request(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    form = panel.form
    form.open_advanced(True)
    form.strength.number.setValue(0.6)
    form.length.frames.setValue(13)
    form.size_field.choice.setCurrentIndex(form.size_field.choice.findData("own"))
    form.size_field.choice.activated.emit(form.size_field.choice.currentIndex())
    form.size_field.width_px.setValue(256)
    form.size_field.height_px.setValue(192)
    qtbot.keyClicks(form.advanced.negative, "rain")
    form.seed.number.setValue(2**32 - 1)
    (job,) = send(qtbot, panel)
    request = job.request
    assert (request["width"], request["height"], request["frames"]) == (256, 192, 13)
    assert request["refine"]["strength"] == 0.6
    assert request["negative_prompt"] == "rain" and request["seed"] == 2**32 - 1
    assert panel.sheet.is_seed_locked, "who types a seed wants that one"


def test_a_sheet_comes_back_from_its_request(library: Library):
    for name in preset_names():
        sheet = Sheet(preset=name, prompt="a pond", seed=3, is_seed_locked=True)
        sheet.changes["refine.strength"] = 0.33
        fields = load_preset(name).defaults | {"kind": "text", "prompt": "a pond", "seed": 3}
        request = Request.parse(fields)
        request = request.changed(refine=request.as_dict()["refine"] | {"strength": 0.33})
        again = library.sheet_of(request.as_dict(), is_seed_locked=True)
        assert again.tuned == {name: {"refine.strength": 0.33}}
        assert library.edits(again, request.as_dict()) == {}


def test_a_damaged_sheet_keeps_its_words(qtbot: QtBot, offline: Studio):
    panel = SettingsPanel(offline)
    qtbot.addWidget(panel)
    broken = {"prompt": "an old harbor", "kind": "opera", "seed": -1}
    odd = {"prompt": "rain", "tuned": {"demo": {"frames": "many", "refine.strength": 0.5, "x": 1}}}
    panel.restore({"sheets": {"": broken, "draft 1": odd}, "presets": [7], "is_advanced_open": 3})
    assert panel.form.prompt.toPlainText() == "an old harbor"
    assert panel.unsent()["sheets"]["draft 1"]["tuned"] == {"demo": {"refine.strength": 0.5}}
    panel.restore({"sheets": None, "presets": {}})


def test_all_that_was_typed_comes_back(qtbot: QtBot, panel: SettingsPanel, studio: Studio):
    with qtbot.waitSignal(panel.edited):
        type_prompt(qtbot, panel, "a harbor in rain")
    panel.form.strength.number.setValue(0.5)
    panel.form.open_advanced(True)
    said = panel.unsent()
    other = SettingsPanel(studio)
    qtbot.addWidget(other)
    other.restore(said)
    qtbot.waitUntil(lambda: other.form.preset.isEnabled(), timeout=60_000)
    assert other.form.prompt.toPlainText() == "a harbor in rain"
    assert other.form.strength.number.value() == 0.5
    assert other.form.fold.isChecked() and other.unsent() == said
    other.estimate.stop()


# ------------------------------------------------------------------------------------- fields


@given(frames=st.integers(1, 4093), rate=RATES)
def test_frames_survive_the_seconds_that_are_shown(frames: int, rate: Fraction):
    assert frames_of(round(seconds_of(frames, rate), 2), rate) == frames


@given(seconds=st.floats(0.01, 300), rate=RATES)
def test_a_time_becomes_the_nearest_frame(seconds: float, rate: Fraction):
    frames = frames_of(seconds, rate)
    assert frames == 1 or abs(seconds_of(frames, rate) - seconds) <= float(1 / rate) / 2 + 1e-9


def test_seconds_and_frames_keep_in_step(qtbot: QtBot, look: None):
    length = Length()
    qtbot.addWidget(length)
    length.show_value(81, Fraction(16), 4093)
    assert length.seconds.value() == 5.06
    with qtbot.waitSignal(length.edited) as said:
        length.seconds.setValue(2)
    assert said.args == [32] and length.frames.value() == 32
    length.frames.setValue(33)
    assert length.seconds.value() == 2.06


def test_a_change_has_a_dot_and_a_double_click_takes_it_back(qtbot: QtBot, panel: SettingsPanel):
    label = next(row.label for row in panel.form.rows.rows if row.field is panel.form.strength)
    assert not label.is_changed
    panel.form.strength.slider.setValue(70)
    assert label.is_changed and label.toolTip().startswith(f"preset: {STRENGTH:.2f}")
    assert f"Changed; preset: {STRENGTH:.2f}" in panel.form.strength.number.accessibleDescription()
    qtbot.mouseDClick(label, LEFT)
    assert panel.form.strength.number.value() == STRENGTH and not label.is_changed
    panel.form.strength.number.setValue(0.8)
    panel.form.strength.number.setFocus()
    panel.reset.trigger()
    assert panel.sheet.changes == {}


def test_each_preset_keeps_what_was_changed_in_it(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    panel.form.strength.number.setValue(0.6)
    panel.form.tune({"preset": "draft-480p"})
    assert panel.form.strength.number.value() == 0.7 and panel.button.text() == "Add draft to queue"
    panel.form.tune({"preset": "demo"})
    assert panel.form.strength.number.value() == 0.6
    assert panel.form.prompt.toPlainText() == "two koi"


def test_the_wheel_turns_a_field_only_while_it_has_the_focus(qtbot: QtBot, panel: SettingsPanel):
    spin = panel.form.length.frames
    panel.form.prompt.setFocus()

    def turn() -> None:
        place = QPointF(5, 5)
        event = QWheelEvent(
            *(place, spin.mapToGlobal(place), QPoint(), QPoint(0, 120)),
            *(Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier),
            *(Qt.ScrollPhase.NoScrollPhase, False),
        )
        QApplication.sendEvent(spin, event)

    turn()
    assert spin.value() == FRAMES
    spin.setFocus()
    turn()
    assert spin.value() == FRAMES + 4


def test_a_clip_begins_at_a_timecode(qtbot: QtBot, panel: SettingsPanel, clip: Path):
    panel.form.kinds["clip"].click()
    drop_on(panel.form.slots["clip"], clip)
    qtbot.waitUntil(panel.button.isEnabled, timeout=60_000)
    assert panel.form.timecode.text() == "01:00:00:00"
    assert panel.form.clip_words.text() == "64 × 32 · 48 frames · 2.00 s · 24 fps"
    panel.form.timecode.setText("01:00:01:12")
    panel.form.timecode.editingFinished.emit()
    assert panel.form.start_frame.value() == 36 and panel.form.length.frames.value() == 12
    panel.form.length.frames.setValue(20)
    assert "20 from frame 36 on are not in it" in panel.obstacle.text()
    panel.form.timecode.setText("soon")
    panel.form.timecode.editingFinished.emit()
    assert "no timecode" in panel.estimate.notice.words.text()
    assert panel.form.timecode.text() == "01:00:01:12"


def test_a_file_of_the_wrong_kind_is_refused_with_a_reason(
    qtbot: QtBot, panel: SettingsPanel, image: Path, tmp_path: Path
):
    panel.form.kinds["image"].click()
    slot = panel.form.slots["first_image"]
    drop_on(slot, tmp_path / "notes.pdf")
    assert panel.estimate.notice.words.text() == "PDF is not an image."
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    drop_on(slot, broken)
    qtbot.waitUntil(lambda: "broken.png" in panel.obstacle.text(), timeout=60_000)
    drop_on(slot, image)
    qtbot.waitUntil(lambda: not slot.button.icon().isNull() and not panel.form.problem)
    assert panel.sheet.first_image == str(image)
    slot.clear.click()
    assert panel.sheet.first_image == ""


def test_an_image_offers_a_preset_that_takes_one(qtbot: QtBot, panel: SettingsPanel, image: Path):
    type_prompt(qtbot, panel)
    panel.form.kinds["image"].click()
    drop_on(panel.form.slots["first_image"], image)
    qtbot.waitUntil(lambda: bool(panel.estimate.forecast.buttons), timeout=60_000)
    (use,) = panel.estimate.forecast.buttons
    assert use.text() == "Use Wan 2.2 5B, 1440p" and not panel.button.isEnabled()
    use.click()
    (missing,) = panel.estimate.missing.buttons
    assert panel.estimate.missing.words.text().startswith("Wan 2.2 5B is not installed (")
    with qtbot.waitSignal(panel.model_wanted) as said:
        missing.click()
    assert said.args == ["wan2.2-ti2v-5b"]


# ------------------------------------------------------------------------------- the estimate


class Counting(Studio):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_asked = 0

    def ask(self, *arguments: Any, **named: Any) -> None:
        self.num_asked += 1
        super().ask(*arguments, **named)


def test_typing_asks_for_one_forecast(qtbot: QtBot, home: Path, look: None):
    from freeswim.studio import client

    studio = Counting()
    panel = SettingsPanel(studio)
    qtbot.addWidget(panel)
    with qtbot.waitSignal(panel.estimate.told, timeout=120_000):
        studio.start()
    before = studio.num_asked
    with qtbot.waitSignal(panel.estimate.told, timeout=60_000):
        for frames in range(13, 53, 4):
            panel.form.length.frames.setValue(frames)
    assert studio.num_asked == before + 1
    words = panel.estimate.forecast.words.text()
    assert words.startswith("first time, measuring · ") and words.endswith(" GB disk")
    type_prompt(qtbot, panel)  # words cost nothing
    assert not panel.estimate._timer.isActive()
    studio.close()
    running = client.connect()
    assert running is not None
    running.stop()


def test_what_does_not_fit_says_what_would(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    with qtbot.waitSignal(panel.estimate.told, timeout=60_000):
        panel.form.tune({"width": 4096, "height": 4096, "frames": 1021})
    assert panel.estimate.forecast.words.text().startswith("Does not fit: needs ")
    assert panel.button.isEnabled(), "memory may be free by the time it is made"
    button = next(one for one in panel.estimate.forecast.buttons if "frames" in one.text())
    frames = int(button.text().split()[1])
    with qtbot.waitSignal(panel.estimate.told, timeout=60_000):
        button.click()
    assert panel.sheet.changes["frames"] == frames
    assert "GB disk" in panel.estimate.forecast.words.text()


def test_fixes_are_read_from_the_hint():
    hint = (
        "This would fit: --weights int8, or --full-branch native, or 77 frames, or 1824x1026. "
        "Or close what else uses memory."
    )
    assert [fix.changes for fix in fixes_in(hint)] == [
        *({"weights": "int8"}, {"refine.guidance": "native"}),
        *({"frames": 77}, {"width": 1824, "height": 1026}),
    ]
    assert fixes_in("Use a smaller checkpoint. Or close what else uses memory.") == []


def test_a_forecast_in_words():
    need = {"verdict": "taken", "device_bytes": 19.2e9, "host_bytes": 4e9}
    said = {"needs": [need], "minutes": {"base": 1.0, "refine": 5.2}, "disk_bytes": 9e8}
    assert words_of(said) == "about 6 min · 19 GB GPU · 0.9 GB disk"
    cpu = {"needs": [need | {"device_bytes": 0}], "minutes": {"base": None}, "disk_bytes": 1}
    assert words_of(cpu) == "first time, measuring · 4 GB RAM · 0.1 GB disk"
    assert words_of(said | {"minutes": {"base": 150}}).startswith("about 2 h 30 min")


def test_a_refusal_is_shown_and_nothing_is_lost(qtbot: QtBot, panel: SettingsPanel):
    panel.form.prompt.setPlainText("nul \0 in it")
    panel.send()
    qtbot.waitUntil(lambda: panel.estimate.notice.isVisible(), timeout=60_000)
    assert panel.estimate.notice.words.text() == "The body holds a NUL character."
    assert panel.form.prompt.toPlainText() == "nul \0 in it" and panel.button.isEnabled()
    panel.form.prompt.setPlainText("two koi")
    assert not panel.estimate.notice.isVisible()
    send(qtbot, panel)


def test_without_a_studio_what_is_typed_stays(qtbot: QtBot, offline: Studio):
    panel = SettingsPanel(offline)
    qtbot.addWidget(panel)
    panel.show()
    assert not panel.button.isEnabled()
    assert panel.obstacle.text() == "Waiting for the studio. What is typed here is kept."
    type_prompt(qtbot, panel, "a pond")
    assert panel.unsent()["sheets"] == {"": {"prompt": "a pond"}}


# ------------------------------------------------------------------------------- ways to add


def test_keys_alone_make_a_shot(qtbot: QtBot, panel: SettingsPanel):
    panel.form.prompt.setFocus()
    qtbot.keyClicks(panel.form.prompt, "one koi")
    press = lambda *keys: qtbot.keyClick(QApplication.focusWidget(), *keys)  # noqa: E731
    (first,) = send(qtbot, panel, lambda: press(Qt.Key.Key_Return, CTRL))
    (second,) = send(qtbot, panel, lambda: press(Qt.Key.Key_Return, CTRL | SHIFT))
    assert second.shot_id == first.shot_id and second.rank < first.rank
    walked: set[QWidget | None] = set()
    for _ in range(20):
        walked.add(QApplication.focusWidget())
        press(Qt.Key.Key_Tab)
    form = panel.form
    fields = {form.preset, form.prompt, form.strength.slider, form.strength.number}
    fields |= {form.size_field.choice, form.length.seconds, form.length.frames, form.fold}
    assert fields | {form.seed.number, form.seed.lock, panel.button, panel.more} <= walked


def test_four_seeds_make_four_takes_of_one_shot(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    jobs = send(qtbot, panel, panel.add_seeds.trigger)
    assert len(jobs) == 4 and len({job.shot_id for job in jobs}) == 1
    assert len({job.request["seed"] for job in jobs}) == 4
    panel.form.seed.number.setValue(2**32 - 2)
    jobs = send(qtbot, panel, panel.add_seeds.trigger)
    assert [job.request["seed"] for job in jobs] == [2**32 - 2, 2**32 - 1, 0, 1]


def test_a_draft_only(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    (job,) = send(qtbot, panel, panel.add_draft.trigger)
    assert job.request["draft"] and not panel._library.values(panel.sheet)["draft"]
    panel.form.kinds["clip"].click()
    assert not panel.add_draft.isEnabled()


def test_one_job_with_each_preset_and_the_same_seed(qtbot: QtBot, panel: SettingsPanel):
    panel.use_preset(mine(frames=5))
    panel.form.tune({"preset": "demo"})
    type_prompt(qtbot, panel)
    panel.form.strength.number.setValue(0.6)
    panel.add_presets.trigger()
    chooser = panel.findChild(PresetChooser)
    assert chooser is not None
    chooser.boxes["file mine"].setChecked(True)
    assert chooser.button.text() == "Add 2 jobs"
    assert not chooser.boxes["wan21-14b-1440p-8-steps"].isEnabled()
    jobs = send(qtbot, panel, lambda: qtbot.mouseClick(chooser.button, LEFT))
    assert [job.request["frames"] for job in jobs] == [FRAMES, 5]
    assert [job.request["refine"]["strength"] for job in jobs] == [0.6, STRENGTH]
    assert len({job.request["seed"] for job in jobs}) == len({job.shot_id for job in jobs}) == 1


def test_several_shots_each_with_its_own_settings(qtbot: QtBot, panel: SettingsPanel):
    drafts = [ShotDraft(f"draft {n}", f"SHOT_0{n}0", asked={"prompt": f"{n} koi"}) for n in (1, 2)]
    panel.show_shot(drafts[0])
    panel.set_selected(drafts)
    assert panel.button.text() == "Add 2 shots"
    settled: list[tuple[str, str]] = []
    panel.settled.connect(lambda *said: settled.append(said))
    jobs = send(qtbot, panel)
    assert [(job.shot_name, job.prompt) for job in jobs] == [
        *(("SHOT_010", "1 koi"), ("SHOT_020", "2 koi"))
    ]
    assert settled == [(draft.key, job.shot_id) for draft, job in zip(drafts, jobs, strict=True)]
    (more,) = send(qtbot, panel, lambda: (panel.show_shot(panel._shot), panel.send()))
    assert more.shot_id == jobs[0].shot_id


def test_a_second_press_makes_no_second_shot(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    panel.send()
    assert panel.obstacle.text() == "Adding…"
    (job,) = send(qtbot, panel, panel.send)
    jobs = order(qtbot, panel._studio, lambda client: client.get("/jobs"))["jobs"]
    assert [one["id"] for one in jobs] == [job.id]


# ----------------------------------------------------------------- jobs and takes taken up again


def test_a_waiting_job_is_edited(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    (job,) = send(qtbot, panel)
    type_prompt(qtbot, panel, "unsent ")
    panel.edit_job(job)
    assert panel.button.text() == "Save job" and panel.strip.isVisible()
    assert panel.form.prompt.toPlainText() == "two koi"
    panel.form.strength.number.setValue(0.55)
    qtbot.keyClick(panel.form.prompt, Qt.Key.Key_Escape)
    assert not panel.strip.isVisible()
    assert "unsent" in panel.form.prompt.toPlainText()

    panel.edit_job(job)
    panel.form.prompt.setPlainText("three koi")
    with qtbot.waitSignal(panel.job_left, timeout=60_000):
        qtbot.keyClick(panel.form.prompt, Qt.Key.Key_Return, CTRL)
    said = order(qtbot, panel._studio, lambda client: client.get(f"/jobs/{job.id}"))["job"]
    assert said["request"] == job.request | {"prompt": "three koi"}


def test_a_job_that_was_begun_leaves_its_changes_behind(qtbot: QtBot, panel: SettingsPanel):
    type_prompt(qtbot, panel)
    (job,) = send(qtbot, panel)
    panel.edit_job(job)
    panel.form.prompt.setPlainText("three koi")
    with qtbot.waitSignal(panel.job_left, timeout=60_000):
        order(qtbot, panel._studio, lambda client: client.post(f"/jobs/{job.id}/cancel"))
    assert panel.button.text() == "Add to queue"
    assert panel.form.prompt.toPlainText() == "three koi"
    assert panel.estimate.notice.words.text() == f"Job {job.number} is cancelled by now."


def test_settings_of_a_take_come_without_its_seed(qtbot: QtBot, panel: SettingsPanel):
    fields = load_preset("demo").defaults | {"kind": "text", "prompt": "a pond", "seed": 41}
    request = Request.parse(fields).changed(frames=17).as_dict()
    type_prompt(qtbot, panel, "mine")
    panel.use_settings(request)
    assert panel.form.prompt.toPlainText() == "a pond"
    assert panel.form.length.frames.value() == 17
    assert (panel.sheet.seed, panel.sheet.is_seed_locked) == (41, False)
    panel.form.prompt.undo()
    assert panel.form.prompt.toPlainText() == "mine"
    panel.use_settings(request, with_seed=True)
    (job,) = send(qtbot, panel)
    assert job.request == request


def test_a_preset_file_is_sent_whole(qtbot: QtBot, panel: SettingsPanel):
    panel.use_preset(mine(frames=5))
    type_prompt(qtbot, panel)
    (job,) = send(qtbot, panel)
    seed = str(job.request["seed"])
    assert job.request == asked(
        *("generate", "two koi", "--preset", "demo", "--seed", seed, "--frames", "5")
    )


# ---------------------------------------------------------------------------------- for everyone


def test_every_control_has_a_name(panel: SettingsPanel, qtbot: QtBot):
    panel.form.open_advanced(True)
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QPlainTextEdit, QSlider)
    controls = [one for kind in kinds for one in panel.findChildren(kind)]
    for control in controls:
        inside = isinstance(control.parent(), QAbstractSpinBox | QComboBox)
        named = QAccessible.queryAccessibleInterface(control)
        name = named.text(QAccessible.Text.Name) or control.accessibleName()
        assert inside or name or not control.isVisible(), control


def test_the_panel_looks_right(panel: SettingsPanel, qtbot: QtBot):
    picture = panel.grab().toImage()
    assert picture.width() == 300 * picture.devicePixelRatio()
    assert picture.pixelColor(2, picture.height() // 2).lightness() < 60
