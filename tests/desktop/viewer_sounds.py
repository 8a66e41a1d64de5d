"""Clips whose sound says which moment it is: noise, of which any 50 ms are found again."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from freeswim.video.writer import Audio, write_video

LOUDNESS = 0.15  # standard deviation; at 5 of them it would be cut off
_CHANNELS = {"mono": 1, "stereo": 2, "5.1": 6}
_SIZE = (64, 36)


def noise(seed: int, seconds: float, rate: int) -> np.ndarray:
    """(samples,) float32; a longer one begins with a shorter one."""
    found = np.random.default_rng(seed).normal(0, LOUDNESS, round(seconds * rate))
    return found.clip(-1, 1).astype(np.float32)


def resampled(samples: np.ndarray, rate: int, to_rate: int) -> np.ndarray:
    """The same sound at another rate."""
    if rate == to_rate:
        return samples
    resampler = AudioResampler("flt", "mono", to_rate)
    frame = AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([one.to_ndarray()[0] for one in frames])


def write_source(
    path: Path,
    sound: np.ndarray,
    rate: int,
    *,
    layout: str = "stereo",
    codec: str = "pcm_s16le",
    frame_rate: Fraction = Fraction(25),
    num_frames: int = 72,
    begins_s: Fraction = Fraction(0),
) -> Path:
    """A clip with pictures and sound, as a camera may write it: the sound begins where it likes."""
    width, height = _SIZE
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=frame_rate)
        heard = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(pictures, VideoStream) and isinstance(heard, AudioStream)
        pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
        black = np.zeros((height, width, 3), np.uint8)
        for _ in range(num_frames):
            container.mux(pictures.encode(VideoFrame.from_ndarray(black, format="rgb24")))
        container.mux(pictures.encode(None))
        whole = np.repeat((sound * 32767).astype(np.int16)[:, None], _CHANNELS[layout], axis=1)
        for first in range(0, len(whole), 1024):
            part = np.ascontiguousarray(whole[first : first + 1024]).reshape(1, -1)
            frame = AudioFrame.from_ndarray(part, format="s16", layout=layout)
            frame.sample_rate = rate
            frame.pts, frame.time_base = first + round(begins_s * rate), Fraction(1, rate)
            container.mux(heard.encode(frame))
        container.mux(heard.encode(None))
    return path


def write_clip(
    path: Path,
    sound: np.ndarray,
    rate: int,
    *,
    layout: str = "stereo",
    frame_rate: Fraction = Fraction(25),
    num_frames: int = 72,
    size: tuple[int, int] = _SIZE,
) -> Path:
    """A take as FreeSwim writes it: ProRes with PCM as .mov, H.264 with AAC as .mp4."""
    source = write_source(path.with_suffix(".source.mov"), sound, rate, layout=layout)
    row = np.linspace(0, 65535, size[0]).astype(np.uint16)
    picture = np.broadcast_to(row[None, :, None], (size[1], size[0], 3))

    def pictures() -> Iterator[np.ndarray]:
        for number in range(num_frames):
            yield np.roll(picture, number, axis=1)

    write_video(
        path,
        pictures(),
        codec="prores-hq" if path.suffix == ".mov" else "h264",
        width=size[0],
        height=size[1],
        frame_rate=frame_rate,
        num_frames=num_frames,
        audio=Audio(source),
    )
    return path


def damage_sound(path: Path, packets: range) -> None:
    """Break some packets of a file's sound; the pictures stay whole."""
    with av.open(str(path)) as container:
        whole = [p for p in container.demux(container.streams.audio[0]) if p.size]
        spots = [(whole[number].pos, whole[number].size) for number in packets]
    content = bytearray(path.read_bytes())
    for place, size in spots:
        assert place is not None
        content[place : place + size] = b"\xff" * size
    path.write_bytes(content)


def place_of(heard: np.ndarray, sound: np.ndarray, near: int, within: int) -> int | None:
    """Where a piece of sound comes from; None: from nowhere near, or it is silence.

    Args:
        heard: (samples,), some hundreds of them.
        sound: of the clip, before its first sample and after its last one silence.
        near: where it ought to come from.
        within: samples before and after it, in which it is looked for.
    """
    if np.std(heard) < LOUDNESS / 100:
        return None
    padded = np.pad(sound, within + len(heard))
    first = near + len(heard)
    part = padded[max(0, first) : first + 2 * within + len(heard)]
    if len(part) < len(heard):
        return None
    size = len(part) + len(heard)
    both = np.fft.rfft(part, size) * np.conj(np.fft.rfft(heard, size))
    likeness = np.fft.irfft(both, size)[: len(part) - len(heard) + 1]
    best = int(np.argmax(np.abs(likeness)))
    power = np.linalg.norm(heard) * np.linalg.norm(part[best : best + len(heard)])
    return near - within + best if abs(likeness[best]) > power / 2 else None
