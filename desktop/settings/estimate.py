"""The line above the button: what the take will take, what is wrong, and what would help."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from desktop import theme
from desktop.settings.fields import tint
from desktop.settings.sheet import Flat, fixes_in
from desktop.studio import Studio
from freeswim.errors import FreeswimError
from freeswim.models.catalog import Checkpoint
from freeswim.studio.client import Json

GB = 10**9
REST_MS = 200  # without a keystroke, before it is asked


class Line(QWidget):
    """An icon, words, a hint, and a button for each thing that can be done about it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.icon = QLabel()
        self.icon.setFixedSize(16, 18)
        self.words, self.hint = QLabel(), QLabel()
        self.words.setAccessibleName(name)
        self.hint.setProperty("role", "secondary")
        for label in (self.words, self.hint):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.buttons: list[QPushButton] = []
        self._below = QVBoxLayout()
        self._below.setSpacing(0)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        grid.addWidget(self.icon, 0, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.words, 0, 1)
        grid.addWidget(self.hint, 1, 1)
        grid.addLayout(self._below, 2, 1)

    def say(
        self,
        words: str,
        hint: str = "",
        *,
        icon: str = "",
        colour: str = theme.SECONDARY,
        can: Iterable[tuple[str, Callable[[], Any]]] = (),
    ) -> None:
        """Show this, and nothing of what was shown before; no words: nothing at all."""
        self.setVisible(bool(words))
        self.words.setText(words)
        tint(self.words, colour)
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))
        self.icon.setVisible(bool(icon))
        if icon:
            self.icon.setPixmap(theme.icon(icon, colour).pixmap(16, 16))
        self.setToolTip("")
        for button in self.buttons:
            self._below.removeWidget(button)
            button.hide()
            button.deleteLater()
        self.buttons = [link(does) for does, _ in can]
        for button, (_, do) in zip(self.buttons, can, strict=True):
            button.clicked.connect(lambda _, do=do: do())
            self._below.addWidget(button, 0, Qt.AlignmentFlag.AlignLeft)


class Estimate(QWidget):
    """Asks the studio for a forecast whenever something was changed, and says it in a line.

    Below it stands what else is to be said: a refusal, a checkpoint that is missing.
    """

    fix_chosen = Signal(object)  # Flat: changes
    model_wanted = Signal(str)  # name of a checkpoint
    told = Signal()  # the studio answered

    def __init__(self, studio: Studio) -> None:
        super().__init__()
        self._studio = studio
        self._asked: Json | None = None  # what the last forecast is of, or will be
        self._instead: tuple[str, Flat] | None = None
        self._number = 0  # of the last question; older answers are stale
        self.error: FreeswimError | None = None  # why the request cannot be made
        self._timer = QTimer(self, singleShot=True, interval=REST_MS)
        self._timer.timeout.connect(self._ask)
        self.forecast, self.notice = Line("Estimate"), Line("Notice")
        self.missing = Line("Missing model")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for line in (self.forecast, self.missing, self.notice):
            column.addWidget(line)
            line.say("")

    # -------------------------------------------------------------------------------- asking

    def ask_for(self, asked: Json, instead: tuple[str, Flat] | None = None) -> None:
        """Have a forecast made of a submission, once nothing was changed for a moment.

        Args:
            instead: words and changes that help where it cannot be made as it is asked for.
        """
        self._instead = instead
        if asked == self._asked:
            return
        self._asked = asked
        self._number += 1
        self.error = None
        if not self.forecast.words.text():
            self.forecast.say("Estimating…")
        self._timer.start()

    def forget(self) -> None:
        """The next time, ask whatever was asked before: something else has changed."""
        self._asked = None

    def stop(self) -> None:
        """Nobody answers by now."""
        self.forget()
        self._number += 1
        self._timer.stop()
        self.error = None
        self.forecast.say("")

    def _ask(self) -> None:
        number, asked = self._number, self._asked
        if asked is None:
            return

        def if_last(show: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda said: show(said) if number == self._number else None

        self._studio.ask(
            lambda client: client.post("/plan", asked),
            if_last(self._show_forecast),
            if_last(self._show_error),
        )

    # ------------------------------------------------------------------------------- showing

    def refuse(self, error: FreeswimError) -> None:
        """Show why something was not done, until something is changed."""
        if fixes := self._fixes(error.hint):
            self.warn(error.message, can=fixes)
        else:
            self.notice.say(error.message, error.hint, icon="error", colour=theme.FAILED)

    def warn(
        self, words: str, hint: str = "", *, can: Iterable[tuple[str, Callable[[], Any]]] = ()
    ) -> None:
        """Show a warning, until something is changed; no words: none."""
        self.notice.say(words, hint, icon="warning", colour=theme.WARNING, can=can)

    def show_missing(self, checkpoint: Checkpoint | None) -> None:
        """Say that a checkpoint is not here, and offer to fetch it; None: it is."""
        if checkpoint is None:
            self.missing.say("")
            return
        title, size = checkpoint.title.partition(",")[0], checkpoint.download_bytes / GB
        words = f"{title} is not installed ({size:.1f} GB)."
        if words == self.missing.words.text():
            return
        can = [("Download", lambda: self.model_wanted.emit(checkpoint.name))]
        self.missing.say(words, icon="download", colour=theme.WARNING, can=can)
        self.missing.buttons[0].setAccessibleName(f"Download {title}")
        self.missing.setToolTip("Jobs can be added by now; they wait until it is here.")

    def _show_forecast(self, said: Json) -> None:
        self.error = None
        if said["is_admitted"]:
            self.forecast.say(words_of(said))
            self.forecast.setToolTip(details_of(said))
        else:
            can = self._fixes(said["hint"])
            words = shortage_of(said)
            hint = "" if can else said["hint"]
            self.forecast.say(words, hint, icon="warning", colour=theme.WARNING, can=can)
        self.told.emit()

    def _show_error(self, error: FreeswimError) -> None:
        self.error = error
        can = [] if self._instead is None else [self._fix(*self._instead)]
        hint = "" if can else error.hint
        self.forecast.say(error.message, hint, icon="error", colour=theme.FAILED, can=can)
        self.told.emit()

    def _fixes(self, hint: str) -> list[tuple[str, Callable[[], Any]]]:
        return [self._fix(*fix) for fix in fixes_in(hint)]

    def _fix(self, words: str, changes: Flat) -> tuple[str, Callable[[], Any]]:
        return words, lambda: self.fix_chosen.emit(changes)


def link(words: str) -> QPushButton:
    """A button that looks like a link."""
    button = QPushButton(words)
    button.setProperty("role", "link")
    button.setCursor(Qt.CursorShape.PointingHandCursor)
    return button


def words_of(said: Mapping[str, Any]) -> str:
    """A forecast in one line: time, memory, disk."""
    need = next(need for need in said["needs"] if need["verdict"] == "taken")
    device_bytes = need["device_bytes"]
    memory = f"{_gb(device_bytes)} GPU" if device_bytes else f"{_gb(need['host_bytes'])} RAM"
    return f"{_time(said['minutes'])} · {memory} · {_gb(said['disk_bytes'])} disk"


def shortage_of(said: Mapping[str, Any]) -> str:
    """What a refused take lacks, in a sentence."""
    least, machine = said["needs"][-1], said["machine"]
    on_gpu = machine["device_type"] != "cpu" and least["host_bytes"] <= machine["host_bytes"]
    kind = "device_bytes" if on_gpu else "host_bytes"
    where = "GPU memory" if on_gpu else "memory"
    return f"Does not fit: needs {_gb(least[kind])} of {where}, {_gb(machine[kind])} are free."


def details_of(said: Mapping[str, Any]) -> str:
    """A forecast stage by stage, and where the weights will be."""
    need = next(need for need in said["needs"] if need["verdict"] == "taken")
    lines = [f"{said['machine']['name']}: {need['policy']}"]
    for stage, minutes in said["minutes"].items():
        words = "not measured yet" if minutes is None else _minutes(minutes)
        lines.append(f"{stage.capitalize()}: {words}")
    return "\n".join(lines)


def _time(minutes: Mapping[str, float | None]) -> str:
    known = [value for value in minutes.values() if value is not None]
    return _minutes(sum(known)) if len(known) == len(minutes) else "first time, measuring"


def _minutes(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    hours, rest = divmod(round(minutes), 60)
    if not hours:
        return f"about {rest} min"
    return f"about {hours} h {rest} min" if rest else f"about {hours} h"


def _gb(num_bytes: float) -> str:
    """Gigabytes with a decimal below ten; never nothing of something."""
    gigabytes = num_bytes / GB
    return f"{gigabytes:.0f} GB" if gigabytes >= 10 else f"{max(0.1, round(gigabytes, 1)):g} GB"
