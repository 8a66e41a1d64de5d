"""Random cuts, for the formats that are written from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from freeswim.timeline.cut import RATES, Clip, Cut, Dissolve, Gap, Item, Marker, Media, Track
from freeswim.timeline.timecode import frames_of, is_drop_frame, source_start

FILM = Fraction(24000, 1001)
# Names of people: duplicates, accents, and what XML, URLs and shells take for theirs.
NAMES = ("shot", "shot", "Müde Köi – 01", "a & b <c> \"d\" 'e'", "new\nline\ttab", "bell\x07 #50%?")
PLACES = (
    "/media/take.mov",
    "/media/b/take.mov",
    "/media/müde Köi & 'co'/s 01 #50% <x>.mov",
    "/media/01:00 clip.mov",
)


class Shown(NamedTuple):
    """A clip as every format must give it back."""

    track: int
    at: int
    num_frames: int
    source: int  # frame of the media's timecode
    is_enabled: bool


def shown(cut: Cut, tracks: Sequence[Track] | None = None) -> list[Shown]:
    """The clips of a cut, or of other tracks of it."""
    return [
        Shown(number, at, item.num_frames, source_start(item.media) + item.start, item.is_enabled)
        for number, track in enumerate(tracks or cut.tracks)
        for at, item in track.placed()
        if isinstance(item, Clip)
    ]


def shown_sound(cut: Cut) -> list[Shown]:
    """The sound of its clips, by tracks of sound."""
    heard = [index for index, track in enumerate(cut.tracks) if _heard(track)]
    return [
        Shown(number, at, item.num_frames, source_start(item.media) + item.start, item.is_enabled)
        for number, index in enumerate(heard)
        for at, item in cut.tracks[index].placed()
        if isinstance(item, Clip) and item.media.num_channels
    ]


def _heard(track: Track) -> bool:
    return any(isinstance(item, Clip) and item.media.num_channels for item in track.items)


def dissolves(cut: Cut) -> list[tuple[int, int, int]]:
    """Their track, first frame and length."""
    return [
        (number, at, item.num_frames)
        for number, track in enumerate(cut.tracks)
        for at, item in track.placed()
        if isinstance(item, Dissolve)
    ]


def media_at(place: str, rate: Fraction, num_frames: int = 100, start_frame: int = 0) -> Media:
    """A file of 1920 × 1080 with a timecode where it is not 0."""
    path = Path(place)
    return Media(
        path, num_frames, rate, 1920, 1080, start_frame=start_frame, has_timecode=start_frame > 0
    )


def demo_cut(rate: Fraction = FILM) -> Cut:
    """Two clips and a dissolve on V1, then a gap and a third; a take and a proxy on V2."""
    a, b, c, d = (media_at(f"/media/{name}.mov", rate, 120) for name in "abcd")
    hour = frames_of(f"01:00:00{';' if is_drop_frame(rate) else ':'}00", rate)
    b = replace(b, start_frame=hour, has_timecode=True, reel="FS000012", num_channels=2)
    d = replace(d, metadata={"prompt": "a koi", "seed": 2**40})
    others = {
        "take_02": media_at("/media/d_02.mov", rate, 30),
        "proxy": media_at("/media/proxy/d.mov", rate, 120),
        "native": media_at("/media/native/d.mov", Fraction(16), 80),
    }
    first = (
        Clip("A", a, 24, 48, markers=(Marker(3, "look\nhere", metadata={"job": 7}),)),
        Dissolve(6, 6),
        Clip("B", b, 12, 48),
        Gap(24),
        Clip("C", c, 30, 24, is_enabled=False),
    )
    second = (Gap(72), Clip("D", d, 10, 24, others=others, metadata={"keywords": ["koi", "pond"]}))
    markers = (Marker(0, "begin"), Marker(100, "in the gap", num_frames=5))
    return Cut(
        "Demo & co", rate, 1920, 1080, (Track("V1", first), Track("V2", second)), hour, markers
    )


@st.composite
def random_cuts(draw: st.DrawFn, rates: Sequence[Fraction] = RATES) -> Cut:
    """1 to 3 tracks of clips, gaps and dissolves that `Cut.check` accepts; names, timecode, sound."""
    rate = draw(st.sampled_from(rates))
    starts = st.sampled_from((0, 0, 1, 1799, 3600 * round(rate)))
    lengths = st.integers(1, 90)
    channels = st.integers(0, 2)
    media = [
        replace(media_at(place, rate, draw(lengths), draw(starts)), num_channels=draw(channels))
        for place in PLACES
    ]
    numbers = range(1, draw(st.integers(1, 3)) + 1)
    tracks = [Track(f"V{number}", draw(_items(media))) for number in numbers]
    cut = Cut(
        draw(st.sampled_from(NAMES)),
        *(rate, 1920, 1080, tuple(tracks), draw(starts)),
        markers=tuple(draw(st.lists(_markers(), max_size=2))),
    )
    cut.check()
    return cut


def _markers() -> st.SearchStrategy[Marker]:
    return st.builds(
        Marker,
        st.integers(0, 100),
        st.sampled_from(NAMES),
        color=st.sampled_from(("RED", "CYAN")),
        num_frames=st.integers(1, 5),
    )


@st.composite
def _clips(draw: st.DrawFn, media: Sequence[Media]) -> Clip:
    of = draw(st.sampled_from(media))
    start = draw(st.integers(0, of.num_frames - 1))
    return Clip(
        draw(st.sampled_from(NAMES)),
        *(of, start, draw(st.integers(1, of.num_frames - start))),
        is_enabled=draw(st.booleans()),
        markers=tuple(draw(st.lists(_markers(), max_size=1))),
        metadata=draw(st.sampled_from(({}, {"prompt": "Köi\nim Teich", "seed": 2**63}))),
    )


@st.composite
def _items(draw: st.DrawFn, media: Sequence[Media]) -> tuple[Item, ...]:
    plain = draw(
        st.lists(_clips(media) | st.builds(Gap, st.integers(1, 30)), min_size=1, max_size=5)
    )
    items: list[Item] = [plain[0]]
    spent = 0  # frames of the clip before that are in a dissolve
    for before, after in pairwise(plain):
        dissolve = draw(_dissolve_between(before, after, spent))
        spent = dissolve.after_cut if dissolve else 0
        items += [dissolve, after] if dissolve else [after]
    return tuple(items)


def _dissolve_between(before: Item, after: Item, spent: int) -> st.SearchStrategy[Dissolve | None]:
    if not isinstance(before, Clip) or not isinstance(after, Clip):
        return st.none()
    tail = before.media.num_frames - before.start - before.num_frames
    most_before = min(after.start, before.num_frames - spent)
    most_after = min(tail, after.num_frames)
    found = st.builds(Dissolve, st.integers(0, most_before), st.integers(0, most_after))
    return found.map(lambda dissolve: dissolve if dissolve.num_frames else None)
