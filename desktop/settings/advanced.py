"""The part of the form that is seldom opened."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from desktop.settings.fields import Number, row
from desktop.settings.file_fields import Loras
from desktop.settings.rows import Row, Rows, secondary, show_text, text_field
from freeswim.models.catalog import CATALOG

NEGATIVE_PX = 56

WEIGHTS = (("plain", "As published"), ("int8", "8 bits"), ("fp8", "fp8"), ("fp8-cast", "fp8, cast"))
FULL_BRANCH = (
    *(("full", "Whole frame"), ("interpolated", "Interpolated")),
    *(("native", "Native size"), ("none", "Off")),
)
KEPT = (("plain", "As computed"), ("fp8", "fp8, half the memory"))
STEP_CACHES = (("none", "None"), ("first-block", "First block"), ("taylorseer", "TaylorSeer"))
ATTENTION = (("auto", "Automatic"), ("natten", "NATTEN"), ("flex", "Flex"), ("tiled", "Tiled"))


class Advanced(Rows):
    """Negative prompt, model, LoRAs, and all that the two passes can be told."""

    negative_reset = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.negative = text_field("Negative prompt", NEGATIVE_PX)
        tip = "What the picture should not show."
        self.keep(
            Row(
                self.line("Negative", self.negative, tip),
                self.negative,
                lambda values: show_text(self.negative, values["negative_prompt"]),
                lambda usual: usual["negative_prompt"][:60] or "empty",
                lambda sheet: sheet.negative_prompt is not None,
                self.negative_reset.emit,
            )
        )
        models = [(one.name, one.title) for one in CATALOG]
        self.choice("Model", "checkpoint", models, "What the take is made with.")
        self.loras = Loras()
        self.line("LoRAs", self.loras, "Files that change the model; each has a weight.")
        self._passes()
        self._refining()

    def _passes(self) -> None:
        """What both passes have, side by side."""
        heads = QWidget()
        heads.setLayout(row(secondary("Base pass"), secondary("Refine pass")))
        self.grid.addWidget(heads, self.grid.rowCount(), 1)
        more = "More steps: finer, slower."
        steps = [
            Number(f"Steps of the {words} pass", 1, 1000, step=5) for words in ("base", "refine")
        ]
        self.pair("Steps", steps, "steps", more)
        follow = "How closely the prompt is followed; 1 is off, and twice as fast."
        scales = [
            Number(f"Guidance of the {words} pass", 1, 30, decimals=1, step=0.5)
            for words in ("base", "refine")
        ]
        self.pair("Guidance", scales, "guidance_scale", follow)

    def _refining(self) -> None:
        """What only the refine pass has, and how weights are stored."""
        interval = Number("Steps between refreshes", 1, 1000, unit="steps")
        self.field(
            *("Refresh", interval, "refine.refresh_interval"),
            lambda value: f"{value} steps",
            "Steps between two looks at the whole frame. More: faster, less true to the layout.",
        )
        shift = Number("Flow shift", 0.1, 100, decimals=1, step=0.5)
        self.field(
            *("Flow shift", shift, "refine.flow_shift"),
            lambda value: f"{value:g}",
            "Higher: more steps go to the layout, fewer to detail.",
        )
        name = "refine.guidance"
        tip = "What the full branch sees. Native size: less memory and time, near."
        self.choice("Full branch", name, FULL_BRANCH, tip)
        tip = "What is kept between refreshes; fp8 in half the memory."
        self.choice("Kept", "refine.kept_precision", KEPT, tip)
        tip = "Skips work between refreshes: faster, and near."
        self.choice("Step cache", "refine.step_cache", STEP_CACHES, tip)
        tip = "Smaller weights need less memory and change the picture a little."
        self.choice("Weights", "weights", WEIGHTS, tip)
        tip = "How windows are computed: time, never the picture."
        self.choice("Attention", "refine.attention", ATTENTION, tip)
