"""One stage of training that survives being killed at any moment.

All that a step depends on is the weights, the optimiser's state and the step's number. They lie in
one file that is replaced in one step, so a run that goes on ends at the bits of one that was never
stopped: with as many threads, on the same kind of processor.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from freeswim.models.demo.training.optimiser import Muon
from freeswim.models.demo.training.recipe import Schedule
from freeswim.output import publish, workspace

Figures = dict[str, float]


class OutOfTime(Exception):
    """The minutes that were given are over; everything is saved."""


@dataclass
class Run:
    """A training folder, its log, and how long this process may go on."""

    folder: Path
    deadline: float | None = None  # of time.monotonic
    started: float = field(default_factory=time.monotonic)

    def log(self, **line: Any) -> None:
        """Add a line to log.jsonl, and to standard error."""
        text = json.dumps({"time": round(time.time(), 1), **line})
        path = self.folder / "log.jsonl"
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":  # a kill cut the last line
                    file.write(b"\n")
            file.write(f"{text}\n".encode())
        sys.stderr.write(f"{text}\n")

    def check_time(self) -> None:
        """Raise OutOfTime when it is over."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise OutOfTime


@dataclass(frozen=True)
class Trainee:
    """What a stage trains."""

    name: str
    optimiser: Muon
    loss: Callable[[int], tuple[Tensor, Figures]]  # of a step: what is to fall; what is logged
    check: Callable[[], Figures]  # on what is not trained on
    memory: float = 0.999  # of the average of the weights, the result of the stage


def train(trainee: Trainee, schedule: Schedule, run: Run) -> None:
    """Run a stage, or what is left of it; in the end the averaged weights are in place.

    Raises:
        OutOfTime: another run has to go on.
    """
    place = run.folder / f"{trainee.name}.state"
    weights = trainee.optimiser.weights
    average = {name: weight.detach().clone() for name, weight in weights.items()}
    step, spent = 0, 0.0
    if place.exists():
        step, spent = _resume(place, trainee, average)
        run.log(stage=trainee.name, resumed=step)
    began, seen, since = time.monotonic(), _Means(), time.monotonic()
    while step < schedule.steps:
        loss, figures = trainee.loss(step)
        for weight in weights.values():
            weight.grad = None
        loss.backward()
        trainee.optimiser.step(schedule.rate(step))
        step += 1
        _move_average(average, weights, min(trainee.memory, (1 + step) / (20 + step)))
        seen.add(figures)
        if step % schedule.log_every == 0:
            now = time.monotonic()
            pace = (now - since) / schedule.log_every
            run.log(stage=trainee.name, step=step, **seen.take(), seconds_per_step=round(pace, 4))
            since = now
        is_last = step == schedule.steps
        if step % schedule.check_every == 0 or is_last:
            with _in_place(average, weights):
                run.log(stage=trainee.name, step=step, **trainee.check())
        late = run.deadline is not None and time.monotonic() > run.deadline
        if step % schedule.save_every == 0 or is_last or late:
            content = {
                "step": step,
                "seconds": spent + time.monotonic() - began,
                "weights": {name: weight.detach() for name, weight in weights.items()},
                "average": average,
                "optimiser": trainee.optimiser.state_dict(),
            }
            save_whole(place, lambda file, content=content: torch.save(content, file))
        if late and not is_last:
            raise OutOfTime
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(average[name])


def seconds_spent(folder: Path, name: str) -> float:
    """Wall-clock seconds that a stage has taken so far, over all runs."""
    state = torch.load(folder / f"{name}.state", weights_only=True, map_location="cpu")
    return float(state["seconds"])


def save_whole(place: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file, and put it in place in one step."""
    with workspace(place) as folder:
        part = folder / place.name
        write(part)
        publish(part, place, overwrite=True)


def _resume(place: Path, trainee: Trainee, average: dict[str, Tensor]) -> tuple[int, float]:
    state = torch.load(place, weights_only=True)
    with torch.no_grad():
        for name, weight in trainee.optimiser.weights.items():
            weight.copy_(state["weights"][name])
            average[name].copy_(state["average"][name])
    trainee.optimiser.load_state_dict(state["optimiser"])
    return int(state["step"]), float(state["seconds"])


@torch.no_grad()
def _move_average(
    average: Mapping[str, Tensor], weights: Mapping[str, nn.Parameter], memory: float
) -> None:
    torch._foreach_lerp_(
        list(average.values()), [weight.detach() for weight in weights.values()], 1 - memory
    )


@contextmanager
def _in_place(average: Mapping[str, Tensor], weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """The averaged weights, for as long as the block runs."""
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(average[name])
        yield
        for name, weight in weights.items():
            weight.copy_(kept[name])


class _Means:
    """Means of the figures since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, figures: Figures) -> None:
        for name, value in figures.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def take(self) -> Figures:
        means = {name: round(total / count, 5) for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means
