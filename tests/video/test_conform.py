"""A clip at another rate lasts as long, shows the right instants and loses nothing it can keep."""

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freeswim.errors import MediaError, RequestError
from freeswim.timeline.cut import RATES
from freeswim.video.conform import Way, conform, num_conformed, speed_to_fill

WAYS: tuple[Way, ...] = ("nearest", "blend", "interpolate")
MADE_RATES = (Fraction(16), Fraction(24))  # Wan 2.1 and 2.2
rates = st.sampled_from([*RATES, *MADE_RATES, Fraction(12), Fraction(15), Fraction(999, 40)])
speeds = st.fractions(Fraction(1, 4), 4, max_denominator=50)


def numbered(num_frames: int) -> Iterator[np.ndarray]:
    """Frame i holds the value 100 i."""
    return (np.full((2, 2, 3), 100 * index, np.uint16) for index in range(num_frames))


def noise(num_frames: int, seed: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 65536, (64, 96, 3), np.uint16) for _ in range(num_frames)]


def values(frames: Iterator[np.ndarray]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rate", [Fraction(16), Fraction(24000, 1001)])
def test_at_its_own_rate_a_clip_is_itself(way: Way, rate: Fraction):
    source = noise(5)
    same = conform(iter(source), num_frames=5, frame_rate=rate, to_rate=rate, way=way)
    for one, other in zip(same, source, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("way", ["nearest", "blend"])
@pytest.mark.parametrize("to_rate", RATES)
@pytest.mark.parametrize("frame_rate", [*MADE_RATES, *RATES])
@pytest.mark.parametrize("num_frames", [1, 81, 121])
def test_a_clip_lasts_as_long_as_before(
    num_frames: int, frame_rate: Fraction, to_rate: Fraction, way: Way
):
    made = conform(
        numbered(num_frames), num_frames=num_frames, frame_rate=frame_rate, to_rate=to_rate, way=way
    )
    count = len(list(made))
    assert count == num_conformed(num_frames, frame_rate, to_rate)
    assert abs(count / to_rate - num_frames / frame_rate) <= 1 / to_rate / 2 or count == 1


@pytest.mark.parametrize(
    ("frame_rate", "to_rate", "expected"),
    [
        ("16", "24000/1001", 121),
        ("16", "24", 121),  # 121.5: the last one is frame 80, at 5 s in both
        ("24", "25", 84),
        ("25", "30000/1001", 97),
        ("16", "60", 304),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_81_frames_are_so_many_at_another_rate(
    frame_rate: str, to_rate: str, expected: int, way: Way
):
    still = np.full((32, 32, 3), 12345, np.uint16)
    rates = {"frame_rate": Fraction(frame_rate), "to_rate": Fraction(to_rate)}
    made = list(conform([still] * 81, num_frames=81, way=way, **rates))
    assert len(made) == expected
    assert all(frame.tobytes() == still.tobytes() for frame in made)  # 16 bits, also between


@given(
    num_frames=st.integers(1, 40),
    frame_rate=rates,
    to_rate=rates,
    speed=speeds,
    to_frames=st.none() | st.integers(1, 90),
)
@settings(max_examples=150, deadline=None)
def test_nearest_shows_the_frame_that_is_nearest_in_time(
    num_frames: int, frame_rate: Fraction, to_rate: Fraction, speed: Fraction, to_frames: int | None
):
    made = values(
        conform(
            numbered(num_frames),
            num_frames=num_frames,
            frame_rate=frame_rate,
            to_rate=to_rate,
            to_frames=to_frames,
            speed=speed,
        )
    )
    assert to_frames is None or len(made) == to_frames
    for index, value in enumerate(made):
        seconds = index / to_rate * speed
        distances = [abs(number / frame_rate - seconds) for number in range(num_frames)]
        assert value == 100 * distances.index(min(distances))  # the first of two


@given(
    num_frames=st.integers(1, 12),
    frame_rate=rates,
    to_rate=rates,
    speed=speeds,
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_blend_is_the_weighted_mean_of_both_neighbours(
    num_frames: int, frame_rate: Fraction, to_rate: Fraction, speed: Fraction, seed: int
):
    random = np.random.default_rng(seed)
    source = [random.integers(0, 65536, (3, 2, 3), np.uint16) for _ in range(num_frames)]
    made = conform(
        iter(source),
        num_frames=num_frames,
        frame_rate=frame_rate,
        to_rate=to_rate,
        way="blend",
        speed=speed,
    )
    for index, frame in enumerate(made):
        place = min(index * frame_rate * speed / to_rate, num_frames - 1)
        after = min(int(place) + 1, num_frames - 1)
        share = place - int(place)
        for one, first, second in zip(
            frame.flat, source[int(place)].flat, source[after].flat, strict=True
        ):
            exact = int(first) * (1 - share) + int(second) * share
            assert int(one) == int(exact + Fraction(1, 2))


def test_a_number_of_frames_asked_for_is_cut_held_or_filled():
    at = {"num_frames": 6, "frame_rate": Fraction(24), "to_rate": Fraction(24)}
    assert values(conform(numbered(6), to_frames=3, **at)) == [0, 100, 200]
    assert values(conform(numbered(6), to_frames=8, **at)) == [0, 100, 200, 300, 400, 500, 500, 500]
    slow = speed_to_fill(6, Fraction(24), 12, Fraction(24))
    assert slow == Fraction(1, 2)
    assert values(conform(numbered(6), to_frames=12, speed=slow, **at))[-4:] == [400, 400, 500, 500]
    fast = speed_to_fill(6, Fraction(24), 3, Fraction(24))
    assert values(conform(numbered(6), to_frames=3, speed=fast, **at)) == [0, 200, 400]


@given(
    num_frames=st.integers(1, 200), frame_rate=rates, to_frames=st.integers(1, 500), to_rate=rates
)
def test_the_speed_that_fills_fills(
    num_frames: int, frame_rate: Fraction, to_frames: int, to_rate: Fraction
):
    speed = speed_to_fill(num_frames, frame_rate, to_frames, to_rate)
    assert num_conformed(num_frames, frame_rate, to_rate, speed) == to_frames


# Motion

START, WIDTH, BAR = 10, 256, 14


def moving_bar(num_frames: int, pixels_per_frame: float) -> Iterator[np.ndarray]:
    """A smooth bar over a texture in another channel, 16 bits."""
    columns = np.arange(WIDTH)
    for index in range(num_frames):
        left = START + pixels_per_frame * index
        frame = np.full((64, WIDTH, 3), 5003, np.uint16)
        inside = np.clip(columns - left + 1, 0, 1) * np.clip(left + BAR - columns, 0, 1)
        frame[..., :2] = (5003 + 50000 * inside)[:, None].astype(np.uint16)
        yield frame


def bar_at(frame: np.ndarray) -> float:
    """Left edge of the bar: its centre of gravity, less half of it."""
    weights = frame[32, :, 0].astype(float) - 5003
    return float(weights @ np.arange(WIDTH) / weights.sum()) - (BAR - 1) / 2


@pytest.mark.parametrize(
    ("frame_rate", "to_rate", "speed"),
    [
        (16, "24", "1"),
        (16, "24000/1001", "1"),
        (24, "25", "1"),
        (16, "60", "1"),
        (24, "16", "1"),  # every second one between
        (24, "24", "7/2"),
        (24, "24", "1/3"),
    ],
)
def test_a_bar_lies_where_its_motion_puts_it(frame_rate: int, to_rate: str, speed: str):
    step = frame_rate * Fraction(speed) / Fraction(to_rate)
    made = conform(
        moving_bar(41, 4),
        num_frames=41,
        frame_rate=Fraction(frame_rate),
        to_rate=Fraction(to_rate),
        way="interpolate",
        speed=Fraction(speed),
    )
    for index, frame in enumerate(made):
        expected = START + 4 * float(min(index * step, 40))
        assert abs(bar_at(frame) - expected) < 1
        edge = np.ptp(frame[32, :, 0].astype(int))
        assert edge > 45000  # one whole bar, not two pale ones
    assert index + 1 == num_conformed(41, Fraction(frame_rate), Fraction(to_rate), Fraction(speed))


def test_of_interpolated_frames_those_on_a_source_frame_are_that_frame():
    source = noise(9)
    made = conform(
        iter(source),
        num_frames=9,
        frame_rate=Fraction(16),
        to_rate=Fraction(24),
        way="interpolate",
    )
    for index, frame in enumerate(made):
        if index % 3 == 0:
            assert frame.tobytes() == source[index * 2 // 3].tobytes()


def test_what_stands_still_keeps_sixteen_bits_between_frames():
    still = noise(1)[0]
    made = conform(
        [still] * 4, num_frames=4, frame_rate=Fraction(16), to_rate=Fraction(60), way="interpolate"
    )
    for frame in made:
        np.testing.assert_array_equal(frame, still)


def test_colours_keep_their_channels():
    frame = np.zeros((32, 32, 3), np.uint16)
    frame[...] = (60000, 30000, 10000)
    made = conform(
        [frame] * 3, num_frames=3, frame_rate=Fraction(16), to_rate=Fraction(24), way="interpolate"
    )
    assert all((one[9, 9] == (60000, 30000, 10000)).all() for one in made)


def test_across_a_hard_cut_a_neighbour_is_repeated_and_nothing_mixed():
    before, after = noise(2)
    before, after = before // 2, after // 2 + 32767
    made = list(
        conform(
            [before] * 6 + [after] * 6,
            num_frames=12,
            frame_rate=Fraction(16),
            to_rate=Fraction(60),
            way="interpolate",
        )
    )
    for index, frame in enumerate(made):
        far = min(int(np.abs(frame.astype(int) - one.astype(int)).max()) for one in (before, after))
        assert far <= 257, index  # what 8 bits lose
    changes = sum(abs(int(a.mean()) - int(b.mean())) > 10000 for a, b in pairwise(made))
    assert changes == 1


def test_the_same_frames_give_the_same_bytes():
    made = [
        [
            frame.tobytes()
            for frame in conform(
                moving_bar(8, 3),
                num_frames=8,
                frame_rate=Fraction(16),
                to_rate=Fraction(25),
                way="interpolate",
            )
        ]
        for _ in range(2)
    ]
    assert made[0] == made[1]


# One at a time


@pytest.mark.parametrize("way", WAYS)
def test_no_more_frames_are_taken_than_are_needed(way: Way):
    taken = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal taken
        for frame in moving_bar(1000, 0):
            taken += 1
            yield frame

    made = conform(
        counted(), num_frames=1000, frame_rate=Fraction(16), to_rate=Fraction(24), way=way
    )
    for _ in range(30):
        next(made)
    assert 20 <= taken <= 25
    made.close()  # pyright: ignore[reportAttributeAccessIssue]


MEMORY = """
import resource, sys
from fractions import Fraction
import numpy as np
from freeswim.video.conform import conform

def frames(count):
    for index in range(count):
        frame = np.full((256, 512, 3), 9000, np.uint16)  # zeros would take no memory
        frame[:, index : index + 40] = 60000
        yield frame

def peak(count):
    made = conform(frames(count), num_frames=count, frame_rate=Fraction(16), to_rate=Fraction(24),
                   way=sys.argv[1], speed=Fraction(sys.argv[2]))
    for frame in made:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

short = peak(20)
print(peak(80) - short)
"""


@pytest.mark.parametrize(
    ("way", "speed"), [("nearest", "1"), ("blend", "1"), ("interpolate", "1"), ("interpolate", "9")]
)
def test_a_long_clip_takes_no_more_memory_than_a_short_one(way: Way, speed: str):
    command = [sys.executable, "-c", MEMORY, way, speed]
    grown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(grown.stdout) < 25  # MiB; 60 more frames are 45


# Refused


def test_what_cannot_be_converted_is_refused_at_once():
    good = {"num_frames": 3, "frame_rate": Fraction(16), "to_rate": Fraction(24)}
    for wrong in (
        {"num_frames": 0},
        {"frame_rate": Fraction(0)},
        {"to_rate": Fraction(-24)},
        {"to_frames": 0},
        {"speed": Fraction(0)},
        {"way": "magic"},
        {"way": "interpolate", "speed": Fraction(2**40 + 1, 2**40)},
    ):
        with pytest.raises(RequestError) as caught:
            conform(numbered(3), **{**good, **wrong})
        assert caught.value.hint


def test_motion_in_a_picture_too_small_for_it_is_refused():
    with pytest.raises(RequestError, match="2 x 2"):
        list(
            conform(
                numbered(3),
                num_frames=3,
                frame_rate=Fraction(16),
                to_rate=Fraction(24),
                way="interpolate",
            )
        )


@pytest.mark.parametrize("way", ["nearest", "blend"])
def test_a_source_that_breaks_its_word_is_refused(way: Way):
    at = {"frame_rate": Fraction(16), "to_rate": Fraction(24)}
    with pytest.raises(MediaError, match="2 frames came of the 3"):
        list(conform(numbered(2), num_frames=3, way=way, **at))
    mixed = [np.zeros((2, 2, 3), np.uint16), np.zeros((2, 4, 3), np.uint16)]
    with pytest.raises(MediaError, match="Frame 1"):
        list(conform(mixed, num_frames=2, way=way, **at))
    eight_bits = [np.zeros((2, 2, 3), np.uint8)]
    with pytest.raises(MediaError, match="uint8"):
        list(conform(eight_bits, num_frames=1, way=way, **at))
