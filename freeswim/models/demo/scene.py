"""Scenes of the koi pond and the captions that go with them.

Lengths are in ponds: the pond is the unit square, x to the right, y downwards. Times are in clips
of 9 frames: frame k is at k / 8. Nothing here knows a resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from freeswim.errors import RequestError

Color = Literal["orange", "red", "white", "gold"]
Direction = Literal["right", "down", "left", "up"]
Water = Literal["blue", "green", "teal", "purple"]
_Choice = TypeVar("_Choice")

COUNTS = (1, 2, 3)
COLORS: tuple[Color, ...] = get_args(Color)
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
WATERS: tuple[Water, ...] = get_args(Water)

HEADING_RAD: dict[Direction, float] = {
    "right": 0.0,
    "down": math.pi / 2,
    "left": math.pi,
    "up": -math.pi / 2,
}
COUNT_WORDS = ("one", "two", "three")

_PLACING_ATTEMPTS = 400
_TAIL_TIP, _NOSE = -0.62, 0.5  # along the koi, in koi lengths from its centre


@dataclass(frozen=True)
class Koi:
    middle: tuple[float, float]  # where its centre is at half time, ponds
    heading: tuple[float, float]  # unit vector it swims along
    travel: float  # way swum in one clip, ponds, 0.10…0.20
    length: float  # ponds, 0.38…0.46
    phase: float  # of the tail beat at time 0, radians
    beat: float  # tail beat, radians per clip, 5.5…8
    swing: float  # amplitude of the tail beat, koi lengths, 0.05…0.075
    tint: tuple[float, float, float]  # relative change of its R, G, B, ±0.06

    def centre(self, time: float) -> tuple[float, float]:
        """Where the centre is at `time` (clips), ponds."""
        x, y = (
            place - axis * self.travel / 2 + axis * self.travel * time
            for place, axis in zip(self.middle, self.heading, strict=True)
        )
        return x, y


@dataclass(frozen=True)
class LilyPad:
    centre: tuple[float, float]  # ponds
    radius: float  # ponds, 0.09…0.15
    notch: float  # direction of its cut, radians
    num_veins: int  # 9…13


@dataclass(frozen=True)
class Scene:
    color: Color
    direction: Direction
    water: Water
    koi: tuple[Koi, ...]  # 1…3, none over another, all inside the pond for the whole clip
    lily_pads: tuple[LilyPad, ...]  # 0…2
    ripple_phases: tuple[float, ...]  # 12, radians
    water_tint: tuple[float, float, float]  # relative change of the water's R, G, B, ±0.05


@dataclass(frozen=True)
class View:
    """A square of the pond; a frame that is wider than high shows more to the right."""

    x: float  # left edge, ponds
    y: float  # top edge, ponds
    size: float  # height, ponds; 1 is the whole pond


WHOLE_POND = View(0.0, 0.0, 1.0)


def sample_scene(
    rng: np.random.Generator,
    *,
    count: int | None = None,
    color: Color | None = None,
    direction: Direction | None = None,
    water: Water | None = None,
    lily_pads: bool | None = None,
) -> Scene:
    """A random scene; what is given is kept, what is None is drawn.

    Args:
        rng: the same state gives the same scene.
        count: koi in the scene, 1…3, exactly.
        lily_pads: whether there are any; drawn, they are there in a quarter of the scenes.

    Raises:
        RequestError: count, color, direction or water is not one of those the pond knows.
    """
    count = _choose(rng, "count", count, COUNTS)
    color = _choose(rng, "color", color, COLORS)
    direction = _choose(rng, "direction", direction, DIRECTIONS)
    water = _choose(rng, "water", water, WATERS)
    if lily_pads is None:
        lily_pads = bool(rng.random() < 0.25)
    koi = _place_koi(rng, count, HEADING_RAD[direction])
    num_pads = int(rng.integers(1, 3)) if lily_pads else 0
    return Scene(
        color=color,
        direction=direction,
        water=water,
        koi=koi,
        lily_pads=tuple(_sample_pad(rng) for _ in range(num_pads)),
        ripple_phases=tuple(rng.uniform(0, 6.28, 12).tolist()),
        water_tint=_three(rng, 0.05),
    )


def _choose(
    rng: np.random.Generator, field: str, asked: _Choice | None, known: tuple[_Choice, ...]
) -> _Choice:
    if asked is None:
        return known[rng.integers(len(known))]
    if asked not in known:
        raise RequestError(
            f"The pond has no {field} {asked!r}.", hint=f"Use one of {', '.join(map(str, known))}."
        )
    return asked


def _place_koi(rng: np.random.Generator, count: int, heading_rad: float) -> tuple[Koi, ...]:
    placed: list[Koi] = []
    while len(placed) < count:  # the first koi can leave no room for a third: start again
        placed = []
        for _ in range(_PLACING_ATTEMPTS):
            if len(placed) == count:
                break
            koi = _sample_koi(rng, heading_rad, placed)
            if koi is not None:
                placed.append(koi)
    return tuple(placed)


def _sample_koi(rng: np.random.Generator, heading_rad: float, others: list[Koi]) -> Koi | None:
    """One koi, or None where it would leave the pond or come too near to another."""
    length = rng.uniform(0.38, 0.46)
    angle = heading_rad + rng.uniform(-0.22, 0.22)
    travel = rng.uniform(0.10, 0.2)
    heading = np.array([np.cos(angle), np.sin(angle)])
    middle = rng.uniform(0.0, 1.0, 2)
    if not _is_inside(middle, heading, travel, length):
        return None
    if any(_is_near(middle - np.array(other.middle), heading) for other in others):
        return None
    koi = Koi(
        middle=(float(middle[0]), float(middle[1])),
        heading=(float(heading[0]), float(heading[1])),
        travel=travel,
        length=length,
        phase=rng.uniform(0, 6.28),
        beat=rng.uniform(5.5, 8.0),
        swing=rng.uniform(0.05, 0.075),
        tint=_three(rng, 0.06),
    )
    rng.uniform(size=4)  # unused; the training set drew it, so a seed stays the scene it was there
    return koi


def _is_inside(
    middle: NDArray[np.float64], heading: NDArray[np.float64], travel: float, length: float
) -> bool:
    """Whether nose, tail and flanks stay 0.05 ponds off the edge for the whole clip."""
    flank = np.array([-heading[1], heading[0]]) * 0.08
    first, last = middle - heading * travel / 2, middle + heading * travel / 2
    ends = [
        centre + heading * length * end for centre in (first, last) for end in (_NOSE, _TAIL_TIP)
    ]
    points = np.stack([*ends, middle + flank, middle - flank])
    return bool(points.min() >= 0.05 and points.max() <= 0.95)


def _is_near(distance: NDArray[np.float64], heading: NDArray[np.float64]) -> bool:
    along = abs(distance @ heading)
    across = abs(distance @ np.array([-heading[1], heading[0]]))
    return bool(across <= 0.25 and along <= 0.60)


def _sample_pad(rng: np.random.Generator) -> LilyPad:
    x, y = rng.uniform(0.05, 0.95, 2).tolist()
    radius, notch = rng.uniform(0.09, 0.15), rng.uniform(0, 6.28)
    return LilyPad((x, y), radius, notch, int(rng.integers(9, 14)))


def _three(rng: np.random.Generator, limit: float) -> tuple[float, float, float]:
    first, second, third = rng.uniform(-limit, limit, 3).tolist()
    return first, second, third


def caption(scene: Scene, view: View | None = None) -> str:
    """The sentence that the checkpoint learned for this scene, or for a close-up of it.

    A close-up says nothing about the count, because a view shows parts of koi.
    """
    school = f"{scene.color} koi swimming {scene.direction} in "
    water = f"{scene.water} water"
    if view is None:
        pads = " with lily pads" if scene.lily_pads else ""
        return f"{COUNT_WORDS[len(scene.koi) - 1]} {school}{water}{pads}"
    if not any(_shows_koi(view, koi) for koi in scene.koi):
        school = ""
    pads = " with lily pads" if any(_shows_pad(view, pad) for pad in scene.lily_pads) else ""
    return f"close-up of {school}{water}{pads}"


def _shows_koi(view: View, koi: Koi) -> bool:
    """Whether a point of the koi's midline is in the view at the start, middle or end."""
    for x, y in map(koi.centre, (0.0, 0.5, 1.0)):
        for along in (-0.45, -0.25, 0.0, 0.25, 0.45):
            u = x + koi.heading[0] * along * koi.length - view.x
            v = y + koi.heading[1] * along * koi.length - view.y
            if 0 < u < view.size and 0 < v < view.size:
                return True
    return False


def _shows_pad(view: View, pad: LilyPad) -> bool:
    u, v = pad.centre[0] - view.x, pad.centre[1] - view.y
    return all(-pad.radius < place < view.size + pad.radius for place in (u, v))
