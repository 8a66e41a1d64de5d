"""Clips that sound in every frame which they are, and what must be heard of a cut of them.

A frame is one tone, whose pitch is of that frame of that clip and of no other. In the middle of a
frame of a rendered cut the expected tones are there, as loud as they were, and nothing beside them.
"""

from __future__ import annotations

import subprocess
import wave
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from bar_codes import HEIGHT, LENGTH, WIDTH

from freeswim.timeline.cut import Clip, Cut, Dissolve, Media, Track
from freeswim.video.writer import Audio, write_video

SAMPLES = 48000  # a second
LOUDNESS = 0.2  # amplitude of a tone; three tracks at once are still below 1
BLOCK = 2048  # samples: players fill the last one of a file with silence
LOWEST, STEP = 500, 100  # Hz: of the first tone, and to the next

# Two files of one name; stereo and mono; a name that shells and XML take for theirs; a silent one.
PLACES = {
    "a/take.mov": 2,
    "b/take.mov": 1,
    "müde Köi & 'co'/s 01 #50% <x>.mov": 2,
    "silent clip.mov": 0,
}

Tone = tuple[int, int]  # clip, from 1, and frame


def pitch(tone: Tone) -> int:
    """Hz."""
    clip, frame = tone
    return LOWEST + STEP * (3 * frame + clip - 1)  # three of them sound


def write_clips(folder: Path, rate: Fraction) -> list[Media]:
    """A clip at each of PLACES, as masters are written."""
    return [
        _write_clip(folder / place, clip, rate, num_channels)
        for clip, (place, num_channels) in enumerate(PLACES.items(), start=1)
    ]


def _write_clip(path: Path, clip: int, rate: Fraction, num_channels: int) -> Media:
    path.parent.mkdir(parents=True, exist_ok=True)
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    sound = None
    if num_channels:
        sound = Audio(path.with_suffix(".source.mkv"))
        _write_sound(sound.path, clip, rate, num_channels)
    write_video(
        path,
        (black for _ in range(LENGTH)),
        codec="prores-proxy",
        width=WIDTH,
        height=HEIGHT,
        frame_rate=rate,
        num_frames=LENGTH,
        audio=sound,
    )
    return Media(path, LENGTH, rate, WIDTH, HEIGHT, num_channels=num_channels)


def _write_sound(path: Path, clip: int, rate: Fraction, num_channels: int) -> None:
    """A film with the tones of a clip, and a picture as it has to have one."""
    at = np.arange(round(LENGTH / rate * SAMPLES)) / SAMPLES  # seconds
    frames = np.minimum((at * float(rate) + 1e-6).astype(int), LENGTH - 1)
    pitches = np.array([pitch((clip, frame)) for frame in range(LENGTH)])[frames]
    samples = (LOUDNESS * np.sin(2 * np.pi * pitches * at) * 32767).astype("<i2")
    command = (
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"),
        *("-f", "s16le", "-ar", SAMPLES, "-ac", num_channels, "-i", "pipe:0"),
        *("-f", "lavfi", "-i", "color=size=16x16", "-shortest", "-c:a", "copy", "-c:v", "ffv1"),
        f"file:{path}",
    )
    raw = np.repeat(samples, num_channels).tobytes()
    subprocess.run([str(word) for word in command], input=raw, check=True)


def read_wave(path: Path) -> np.ndarray:
    """Samples of a rendered cut, (samples, channels), -1..1."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getsampwidth()) == (SAMPLES, 2)
        raw = file.readframes(file.getnframes())
        return np.frombuffer(raw, "<i2").reshape(-1, file.getnchannels()) / 32768


@dataclass
class Heard:
    """What must be heard in a frame."""

    tones: defaultdict[Tone, float] = field(default_factory=lambda: defaultdict(float))  # how loud
    fading: list[tuple[Tone, Tone, float]] = field(default_factory=list)  # from, to, how far
    perhaps: set[Tone] = field(default_factory=set)  # a dissolve with a silent clip


def expected(
    cut: Cut, media: list[Media], *, longer: int = 0, skips_single: bool = False
) -> list[Heard]:
    """Frame by frame, of all tracks together, worked out without the writers.

    Args:
        longer: frames by which a player fades longer than it is told to; Kdenlive's and Blender's
            is 1.
        skips_single: whether a player may miss a frame that a clip has alone, between its
            dissolves; melt does.
    """
    heard = [Heard() for _ in range(cut.num_frames)]
    number = {one.path: number for number, one in enumerate(media, start=1)}
    for track in cut.tracks:
        for now, index in _cuts(track):
            _add(heard, track, now, index, number, longer)
        if skips_single:
            _skip_single(heard, track, number)
    return heard


def _cuts(track: Track) -> Iterator[tuple[int, int]]:
    """The frame at which each item begins, a dissolve at its cut, with its index."""
    now = 0
    for index, item in enumerate(track.items):
        yield now, index
        now += 0 if isinstance(item, Dissolve) else item.num_frames


def _add(
    heard: list[Heard],
    track: Track,
    now: int,
    index: int,
    number: dict[Path, int],
    longer: int,
) -> None:
    item = track.items[index]
    if isinstance(item, Clip) and _is_heard(item):
        for n in range(item.num_frames):
            heard[now + n].tones[number[item.media.path], item.start + n] += _loudness_of(item)
    if isinstance(item, Dissolve):
        a, b = track.items[index - 1], track.items[index + 1]
        assert isinstance(a, Clip) and isinstance(b, Clip)
        if a.is_enabled and b.is_enabled:
            _fade(heard, now, item, (a, b), number, longer)


def _skip_single(heard: list[Heard], track: Track, number: dict[Path, int]) -> None:
    for now, index in _cuts(track):
        item = track.items[index]
        if not isinstance(item, Clip):
            continue
        into, out_of = track.dissolves_at(index)
        before, after = (into.after_cut if into else 0), (out_of.before_cut if out_of else 0)
        if item.num_frames - before - after == 1:
            tone = number[item.media.path], item.start + before
            heard[now + before].perhaps |= {tone} if _is_heard(item) else set()


def _fade(
    heard: list[Heard],
    cut: int,
    dissolve: Dissolve,
    clips: tuple[Clip, Clip],
    number: dict[Path, int],
    longer: int,
) -> None:
    a, b = clips
    first, second = (number[clip.media.path] for clip in clips)
    for n in range(-dissolve.before_cut, dissolve.after_cut):
        frame = heard[cut + n]
        gone, come = (first, a.start + a.num_frames + n), (second, b.start + n)
        alone, clip = (gone, a) if n < 0 else (come, b)
        frame.tones[alone] -= _loudness_of(clip) if _is_heard(clip) else 0
        if _is_heard(a) and _is_heard(b):
            share = (n + dissolve.before_cut + 0.5) / dissolve.num_frames
            frame.fading.append((gone, come, share))
        else:
            frame.perhaps |= {tone for tone, clip in ((gone, a), (come, b)) if _is_heard(clip)}
    for n in range(dissolve.after_cut, min(dissolve.after_cut + longer, b.num_frames)):
        heard[cut + n].perhaps |= {(second, b.start + n)} if _is_heard(b) else set()


def _is_heard(clip: Clip) -> bool:
    return clip.is_enabled and clip.media.has_audio


def _loudness_of(clip: Clip) -> float:
    """In each of two channels: one that is spread over both is as strong in all, not in each."""
    return 0.5**0.5 if clip.media.num_channels == 1 else 1


def faults(samples: np.ndarray, wanted: list[Heard], rate: Fraction, slack: float = 0) -> list[str]:
    """Where a rendered cut is not heard as it must be; empty where it is.

    Args:
        slack: frames by which a player may be early or late, less than 1. melt finds a place in a
            file's sound to half a frame.
    """
    num_samples = round(len(wanted) / rate * SAMPLES)
    if not -2 <= len(samples) - num_samples < BLOCK:
        return [f"{len(samples)} samples, not {num_samples}"]
    found: list[str] = []
    for number, want in enumerate(wanted):
        shifted = (
            _faults_of_frame(_middle(samples, number + shift, rate), want)
            for shift in (0, slack / 2, -slack / 2, slack, -slack)
        )
        unshifted = next(shifted)
        if unshifted and all(shifted):
            found += [f"frame {number}: {fault}" for fault in unshifted]
    return found


def _middle(samples: np.ndarray, frame: float, rate: Fraction) -> np.ndarray:
    """Two fifths of a frame."""
    first, last = (round((frame + part) / rate * SAMPLES) for part in (0.3, 0.7))
    return samples[max(first, 0) : last]


def _faults_of_frame(samples: np.ndarray, want: Heard) -> list[str]:
    return [fault for channel in samples.T for fault in _faults_of_channel(channel, want)]


def _faults_of_channel(samples: np.ndarray, want: Heard) -> list[str]:
    steady = {tone: times for tone, times in want.tones.items() if times > 0.01}
    tones = sorted({*steady, *want.perhaps, *(one for fade in want.fading for one in fade[:2])})
    loud, rest = _loudness(samples, tones)
    found = [f"{rest:.2f} of something else"] if rest > 0.15 else []
    free = want.perhaps.union(*(fade[:2] for fade in want.fading))
    for tone, times in steady.items():
        is_heard_twice = times > 1.01  # the two add up or cancel out
        if tone not in free and not is_heard_twice and abs(loud[tone] - times) > 0.15 * times:
            found.append(f"{tone} is {loud[tone]:.2f}, not {times:.2f}")
    for gone, come, share in want.fading:
        both = loud[gone] + loud[come]
        if gone != come and not 0.6 < both < 1.6 + sum(steady.values()):
            found.append(f"{gone} and {come} are {both:.2f} together")
        if gone != come and 0.3 < share < 0.7 and min(loud[gone], loud[come]) < 0.04:
            found.append(f"{gone} is {loud[gone]:.2f} and {come} {loud[come]:.2f}")
    return found


def _loudness(samples: np.ndarray, tones: list[Tone]) -> tuple[dict[Tone, float], float]:
    """How loud each tone is, and all that is none of them; 1: as loud as one was made."""
    at = np.arange(len(samples)) / SAMPLES
    waves = [wave(2 * np.pi * pitch(tone) * at) for tone in tones for wave in (np.sin, np.cos)]
    parts = np.array(waves).T if waves else np.zeros((len(samples), 1))
    shares = np.linalg.lstsq(parts, samples, rcond=None)[0]
    rest = float(np.sqrt(2 * np.mean((samples - parts @ shares) ** 2))) / LOUDNESS
    loud = {
        tone: float(np.hypot(*shares[2 * number : 2 * number + 2])) / LOUDNESS
        for number, tone in enumerate(tones)
    }
    return loud, rest
