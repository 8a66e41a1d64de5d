"""Clips whose every frame says which it is, random cuts of them, and what a player must show.

A frame is a row of 16 black or white cells: 4 bits of the clip, 12 bits of the frame. They survive
any codec and are read without a font.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from freeswim.timeline.cut import Clip, Cut, Dissolve, Gap, Item, Media, Track
from freeswim.video.writer import write_video

CELLS = 16
WIDTH, HEIGHT = 160, 90
LENGTH = 60  # frames of every clip
BLACK = np.zeros(CELLS)

# Two files of one name; spaces, accents, and what shells, URLs and XML take for theirs.
PLACES = ("a/take.mp4", "b/take.mp4", "müde Köi & 'co'/s 01 #50% <x>.mp4", "tc/01:00 clip.mp4")


def bits(clip: int, frame: int) -> np.ndarray:
    """The cells of a frame, 0 or 1."""
    number = clip << 12 | frame
    return np.array([number >> bit & 1 for bit in reversed(range(CELLS))], dtype=float)


def write_clips(folder: Path, rate: Fraction) -> list[Media]:
    """A bar-coded clip at each of PLACES; the last carries the timecode 01:00:00:00."""
    return [_write_clip(folder / place, clip, rate) for clip, place in enumerate(PLACES, start=1)]


def _write_clip(path: Path, clip: int, rate: Fraction) -> Media:
    path.parent.mkdir(parents=True, exist_ok=True)
    has_timecode = path.parent.name == "tc"
    target = path.parent / "plain.mp4" if has_timecode else path
    write_video(
        target,
        (_picture(clip, frame) for frame in range(LENGTH)),
        width=WIDTH,
        height=HEIGHT,
        frame_rate=rate,
        num_frames=LENGTH,
    )
    start_frame = round(rate) * 3600 if has_timecode else 0
    if has_timecode:
        _run(
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", target, "-c", "copy"),
            *("-timecode", "01:00:00:00", f"file:{path}"),
        )
        target.unlink()
    return Media(path, LENGTH, rate, WIDTH, HEIGHT, start_frame, has_timecode)


def _picture(clip: int, frame: int) -> np.ndarray:
    row = np.repeat(bits(clip, frame) * 65535, WIDTH // CELLS).astype(np.uint16)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)))


def _run(*command: object) -> bytes:
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def read_cells(video: Path) -> np.ndarray:
    """(frames, 16) brightness of the cells of a rendered video, 0..1."""
    raw = _run(
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", f"file:{video}"),
        *("-map", "0:v:0", "-vf", f"scale={WIDTH}:{HEIGHT}:flags=area:out_range=full"),
        *("-f", "rawvideo", "-pix_fmt", "gray", "-fps_mode", "passthrough", "-"),
    )
    frames = np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, CELLS, WIDTH // CELLS)
    inner = frames[:, HEIGHT // 4 : -HEIGHT // 4, :, 3:-3]  # an encoder smears the edges
    return inner.mean(axis=(1, 3)) / 255


def random_cut(dice: random.Random, rate: Fraction, media: list[Media], shortest: int = 1) -> Cut:
    """One to three tracks with all that a cut can hold; the shortest clip in frames."""
    tracks = tuple(
        Track(f"V{number}", tuple(_random_items(dice, media, shortest)))
        for number in range(1, dice.randint(1, 3) + 1)
    )
    return Cut("Köi <&> cut", rate, WIDTH, HEIGHT, tracks)


def _random_items(dice: random.Random, media: list[Media], shortest: int) -> Iterator[Item]:
    before: Clip | None = None
    free = 0  # frames of the clip before that no dissolve takes
    for number in range(dice.randint(4, 8)):
        if dice.random() < 0.25:
            yield Gap(dice.randint(1, 9))
            before = None
        clip = _random_clip(dice, media, shortest)
        dissolve = _random_dissolve(dice, before, free, clip) if before and number else None
        if dissolve:
            yield dissolve
        yield clip
        before, free = clip, clip.num_frames - (dissolve.after_cut if dissolve else 0)


def _random_clip(dice: random.Random, media: list[Media], shortest: int) -> Clip:
    num_frames = dice.randint(shortest, 20)
    start = dice.choice([0, LENGTH - num_frames, dice.randint(0, LENGTH - num_frames)])
    name = dice.choice(["same name", "other"])
    return Clip(name, dice.choice(media), start, num_frames, is_enabled=dice.random() > 0.15)


def _random_dissolve(dice: random.Random, first: Clip, free: int, second: Clip) -> Dissolve | None:
    most_before = min(second.start, free, 8)  # all that is free: two dissolves meet
    most_after = min(LENGTH - first.start - first.num_frames, second.num_frames, 8)
    dissolve = Dissolve(
        dice.choice([most_before, dice.randint(0, most_before)]),
        dice.choice([most_after, dice.randint(0, most_after)]),
    )
    return dissolve if dissolve.num_frames > 1 and dice.random() < 0.6 else None


@dataclass(frozen=True)
class Shown:
    """What a player must show: a picture, or one that turns into another."""

    cells: np.ndarray  # 0 or 1 each
    into: np.ndarray | None = None
    share: float = 0.0  # of the dissolve that lies before the middle of this frame
    frame: float = 0.0  # of the dissolve that this frame is
    dissolve: tuple[str, int] = ("", 0)  # its track and its place there


def expected(cut: Cut, media: list[Media], longer: int = 0) -> list[Shown]:
    """Frame by frame: the topmost track with something on it, worked out without the writers.

    Args:
        longer: frames by which a player counts a dissolve longer than it is; Kdenlive's is 1.
    """
    layers = [_layer(track, media, longer) for track in cut.tracks]
    return [
        next((layer[t] for layer in reversed(layers) if t in layer), Shown(BLACK))
        for t in range(max(_length(track) for track in cut.tracks))
    ]


def _length(track: Track) -> int:
    return sum(item.num_frames for item in track.items if not isinstance(item, Dissolve))


def _layer(track: Track, media: list[Media], longer: int) -> dict[int, Shown]:
    code = {file.path: number for number, file in enumerate(media, start=1)}

    def cells(clip: Clip, frame: int) -> np.ndarray:
        return bits(code[clip.media.path], frame)

    layer: dict[int, Shown] = {}
    now, starts = 0, []
    for item in track.items:
        starts.append(now)
        now += 0 if isinstance(item, Dissolve) else item.num_frames
        if isinstance(item, Clip) and item.is_enabled:
            layer |= {
                starts[-1] + n: Shown(cells(item, item.start + n)) for n in range(item.num_frames)
            }
    for index, item in enumerate(track.items):
        if not isinstance(item, Dissolve):
            continue
        a, b = track.items[index - 1], track.items[index + 1]
        assert isinstance(a, Clip) and isinstance(b, Clip)
        if not (a.is_enabled and b.is_enabled):
            continue
        for n in range(-item.before_cut, item.after_cut):
            one, other = cells(a, a.start + a.num_frames + n), cells(b, b.start + n)
            frame = 1 / (item.num_frames + longer)
            share = (n + item.before_cut + 0.5) * frame
            layer[starts[index] + n] = Shown(one, other, share, frame, (track.name, index))
    return layer


def faults(shown: np.ndarray, wanted: list[Shown]) -> list[str]:
    """Where a rendered video is not what was wanted; empty where it is.

    A dissolve must be one mix of its two pictures in all cells, grow, and be as far along as some
    moment of its frame: players differ in whether they mean its start, its middle or its end.
    """
    if len(shown) != len(wanted):
        return [f"{len(shown)} frames, not {len(wanted)}"]
    found: list[str] = []
    last, before = 0.0, ("", 0)
    for number, (cells, want) in enumerate(zip(shown, wanted, strict=True)):
        if want.into is None or np.array_equal(want.cells, want.into):
            error, last = np.abs(cells - want.cells).max(), 0.0
        else:
            moves = want.into != want.cells
            mix = float(np.mean(np.where(want.into > 0, cells, 1 - cells)[moves]))
            error = np.abs(cells - want.cells - mix * (want.into - want.cells)).max()
            last = last if want.dissolve == before else 0.0
            if mix < last - 0.02 or abs(mix - want.share) > want.frame / 2 + 0.03:
                found.append(f"frame {number}: a mix of {mix:.2f}, not {want.share:.2f}")
            last, before = mix, want.dissolve
        if error > 0.1:
            found.append(f"frame {number}: cells off by {error:.2f}")
    return found
