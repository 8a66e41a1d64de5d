"""What the button sends: submissions, one after the other, until one is refused."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from desktop.settings.sheet import Sheet
from freeswim.errors import FreeswimError
from freeswim.request import MAX_SEED
from freeswim.studio.client import Client, Json


@dataclass(frozen=True)
class Order:
    """One submission, and the shot that it is for."""

    key: str
    submission: Json


@dataclass(frozen=True)
class Outcome:
    """What became of orders: those that were carried out, and what stopped the others."""

    added: list[tuple[str, list[Json]]]  # key, jobs
    error: FreeswimError | None


def carry_out(client: Client, orders: Sequence[Order]) -> Outcome:
    """Submit orders one after the other; those of a draft all go to the shot it becomes."""
    added: list[tuple[str, list[Json]]] = []
    shot_ids: dict[str, str] = {}
    for order in orders:
        submission = dict(order.submission)
        if order.key in shot_ids:
            submission.pop("shot", None)
            submission["shot_id"] = shot_ids[order.key]
        try:
            jobs = client.submit(submission)
        except FreeswimError as error:
            return Outcome(added, error)
        added.append((order.key, jobs))
        shot_ids[order.key] = jobs[0]["shot_id"]
    return Outcome(added, None)


def seeds_of(sheet: Sheet, count: int) -> list[int]:
    """Seeds of one submission: the locked one and those after it, or new ones."""
    if sheet.is_seed_locked:
        return [(sheet.seed + number) % (MAX_SEED + 1) for number in range(count)]
    return random.sample(range(MAX_SEED + 1), count)
