"""Whether a worker counts as hung: by the time that this process was awake, not by the clock."""

import pytest

from freeswim.protocol import Beat, Step
from freeswim.studio.executors.local import Patience, Watch

PATIENCE = Patience(beat_s=30, step_s=120, first_step_s=3600)


def step(number: int, stage: str = "refine") -> Step:
    return Step(job_id="0" * 16, stage=stage, step=number, num_steps=50, seconds=0)


class Watched:
    """A watch that is looked at once a second."""

    def __init__(self, patience: Patience = PATIENCE) -> None:
        self.now = 1000.0
        self.watch = Watch(patience, self.now)

    def passes(self, seconds: float, *, beats: bool = True) -> bool:
        """Whether the worker counts as hung at any of the looks."""
        is_hung = False
        for _ in range(round(seconds)):
            self.now += 1
            is_hung |= self.watch.look(self.now)
            if beats:
                self.watch.hear(Beat())
        return is_hung


def test_a_worker_that_says_nothing_is_hung_after_its_beat_is_overdue():
    watched = Watched()
    assert not watched.passes(30, beats=False)
    assert watched.passes(1, beats=False)


def test_a_worker_that_beats_but_does_no_step_is_hung():
    watched = Watched()
    watched.watch.hear(step(0))
    for number in range(1, 6):
        assert not watched.passes(5)
        watched.watch.hear(step(number))
    assert not watched.passes(120)
    assert watched.passes(1)


def test_slow_steps_are_given_ten_times_as_long():
    watched = Watched()
    watched.watch.hear(step(0))
    for number in range(1, 4):
        assert not watched.passes(60)
        watched.watch.hear(step(number))
    assert not watched.passes(600)
    assert watched.passes(1)


def test_the_first_step_of_a_stage_may_take_an_hour():
    watched = Watched()
    watched.watch.hear(step(0, "refine"))
    watched.passes(1)
    watched.watch.hear(step(1, "refine"))
    watched.watch.hear(step(0, "write"))
    assert not watched.passes(3600)
    assert watched.passes(1)


@pytest.mark.parametrize("asleep_s", [60, 8 * 3600, -86400])
def test_a_machine_that_slept_or_set_its_clock_has_no_hung_worker(asleep_s: float):
    watched = Watched()
    watched.watch.hear(step(0))
    watched.passes(20, beats=False)
    watched.now += asleep_s
    assert not watched.watch.look(watched.now)
    assert not watched.passes(7, beats=False)
