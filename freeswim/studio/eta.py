"""How long it will take: from what this machine has done before, and how far the job is."""

from __future__ import annotations

from collections.abc import Mapping

from freeswim.studio.runner import JobProgress


def seconds_left(minutes: Mapping[str, float | None], progress: JobProgress | None) -> float | None:
    """Seconds until a take is made; None: its kind was not made here yet.

    Args:
        minutes: of each stage in its order (plan.Plan.minutes).
        progress: of a job that runs.
    """
    left = 0.0
    begun = list(minutes).index(progress.stage) if progress and progress.stage in minutes else -1
    for index, (stage, spent) in enumerate(minutes.items()):
        if index < begun:
            continue
        if spent is None:
            return None
        share = 1.0
        if progress is not None and stage == progress.stage:
            share = 1 - min(1.0, progress.step / progress.num_steps)
        left += 60 * spent * share
    return left
