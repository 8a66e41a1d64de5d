"""How shots are made that are asked for inside Resolve; each change takes effect at once."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

from PySide6.QtWidgets import QCheckBox, QFormLayout, QLabel, QWidget

from desktop import theme
from desktop.resolve.connection import Resolve
from desktop.settings.fields import CONTROL_PX, Choice, Number
from desktop.studio import Studio
from freeswim.errors import FreeswimError
from freeswim.studio.client import Json
from freeswim.studio.resolve.placer import ResolveNow
from freeswim.studio.resolve.planner import MOST_HANDLES, MOST_SECONDS, MarkerColor, ResolveSettings

SIZES = (("uhd", "3840 × 2160, whatever the preset makes"), ("preset", "The preset's"))


class ResolveSettingsForm(QWidget):
    """A page's part; what it shows is what the studio says."""

    def __init__(self, resolve: Resolve, studio: Studio) -> None:
        super().__init__()
        self._resolve, self._studio = resolve, studio
        self.preset = Choice("Preset")
        self.delivered = Choice("Size", SIZES)
        self.seconds = Number("Length", 1, MOST_SECONDS, unit="s")
        self.handles = Number("Handles", 0, MOST_HANDLES, unit="frames")
        for number in (self.seconds, self.handles):
            number.setKeyboardTracking(False)  # what is half typed is not sent
        self.marker_color = Choice("Marker colour", [(one, one) for one in get_args(MarkerColor)])
        self.as_take = QCheckBox("As a &take of the original clip, not on a track above it")
        self.places_by_itself = QCheckBox("Takes &go to the timeline as soon as they are finished")
        self.refusal = theme.label("failed")
        self.refusal.hide()
        self._lay_out()
        for name, field in (
            ("preset", self.preset),
            ("size", self.delivered),
            ("seconds", self.seconds),
            ("handles", self.handles),
            ("marker_color", self.marker_color),
        ):
            field.edited.connect(partial(self._change, name))
        self.as_take.clicked.connect(lambda is_on: self._change("as_take", is_on))
        self.places_by_itself.clicked.connect(lambda is_on: self._change("places_by_itself", is_on))
        resolve.told.connect(self._show)
        self._show(resolve.now)
        if studio.is_connected:
            self._ask_presets()
        studio.connected.connect(self._ask_presets)

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setHorizontalSpacing(12)
        form.setVerticalSpacing(6)
        for words, field, tip in (
            ("&Preset", self.preset, "Of shots whose marker names no other"),
            ("&Size", self.delivered, "What a take is delivered in"),
            ("&Length", self.seconds, "Of a shot at the playhead, without in and out"),
            ("&Handles", self.handles, "On each side of a clip that is made again"),
            ("&Marker colour", self.marker_color, "Of the markers whose notes are prompts"),
        ):
            label = QLabel(words)
            label.setMinimumHeight(CONTROL_PX)
            label.setBuddy(field)
            for widget in (label, field):
                widget.setToolTip(tip)
            form.addRow(label, field)
        for widget in (self.as_take, self.places_by_itself, self.refusal):
            form.addRow(widget)

    # -------------------------------------------------------------------------------- showing

    def _show(self, now: ResolveNow | None) -> None:
        self.setEnabled(now is not None)
        if now is not None:
            self._show_settings(now.settings)

    def _show_settings(self, settings: ResolveSettings) -> None:
        self.preset.show_value(settings.preset)
        self.delivered.show_value(settings.size)
        self.seconds.show_value(settings.seconds)
        self.handles.show_value(settings.handles)
        self.marker_color.show_value(settings.marker_color)
        self.as_take.setChecked(settings.as_take)
        self.places_by_itself.setChecked(settings.places_by_itself)

    def _ask_presets(self) -> None:
        self._studio.ask(lambda client: client.get("/presets"), self._offer, lambda _: None)

    def _offer(self, said: Json) -> None:
        self.preset.set_items([(one["name"], one["title"]) for one in said["presets"]])
        self._show(self._resolve.now)

    # --------------------------------------------------------------------------------- changing

    def _change(self, name: str, value: Any) -> None:
        self.refusal.hide()
        self._studio.order(
            lambda client: client.patch("/resolve/settings", {name: value}), None, self._refuse
        )

    def _refuse(self, error: FreeswimError) -> None:
        self.refusal.setText(f"{error.message} {error.hint}".strip())
        self.refusal.show()
        self._show(self._resolve.now)
