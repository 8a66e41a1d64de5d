"""How fast the viewer compares two 4K clips, and where the time goes.

    python tests/bench/viewer.py [--frames 49] [--codec h264] [--size 1280x720] [--folder FOLDER]

The clips are panned pictures with grain, written by FreeSwim's own codec table. `first pass` plays
what was hardly decoded before; `again` plays the loop out of memory. What is shown is counted where it is
painted. `sound` is what hearing a small clip takes beside seeing it, on the device of this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parents[2]))

from PySide6.QtCore import QEventLoop, QSize, QTimer
from PySide6.QtWidgets import QApplication

from desktop import theme
from desktop.studio import Studio
from desktop.viewer.canvas import Mode
from desktop.viewer.frames import Clip, Frames, Renderer
from desktop.viewer.panel import Viewer
from desktop.viewer.speakers import Speakers
from freeswim.video.writer import Audio, write_video
from tests.desktop.viewer_sounds import noise, write_source

WIDTH, HEIGHT = 3840, 2160
CORES = os.cpu_count() or 1
RATE = 48_000
GOAL = 12  # pictures a second, of two clips


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How fast the viewer compares 4K clips")
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--size", default="1280x720", help="of the picture on the screen")
    parser.add_argument("--folder", type=Path, help="where the clips are kept from run to run")
    given = parser.parse_args()
    width, height = (int(side) for side in given.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("FREESWIM_HOME", folder)
        place = given.folder or Path(folder)
        clips = [_clip(place, name, given.codec, given.frames) for name in ("Source", "Take 1")]
        rows = [*_parts(clips[0], QSize(width, height)), *_played(clips, QSize(width, height))]
        rows += _heard(Path(folder))
    table = Table("", "measured")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _clip(folder: Path, name: str, codec: str, num_frames: int) -> Clip:
    extension = ".mp4" if codec.startswith("h26") else ".mov"
    path = folder / f"{name.replace(' ', '-')}-{codec}-{num_frames}{extension}"
    if not path.exists():
        write_video(
            path,
            _pictures(num_frames, seed=len(name)),
            width=WIDTH,
            height=HEIGHT,
            frame_rate=Fraction(24),
            num_frames=num_frames,
            codec=codec,
        )
    return Clip(path, name)


def _pictures(count: int, seed: int) -> Iterator[np.ndarray]:
    dice = np.random.default_rng(seed)
    coarse = dice.random((40, 72, 3), np.float32)
    large = coarse.repeat(64, axis=0).repeat(64, axis=1)
    for axis in (0, 1):
        large = np.mean([np.roll(large, shift, axis) for shift in range(0, 64, 4)], axis=0)
    grain = dice.normal(0, 0.003, (HEIGHT, WIDTH, 1)).astype(np.float32)
    for number in range(count):
        part = large[number : number + HEIGHT, 4 * number : 4 * number + WIDTH]
        noisy = part + np.roll(grain, 997 * number)
        yield (np.clip(noisy, 0, 1) * 65535).astype(np.uint16)


def _parts(clip: Clip, size: QSize) -> list[tuple[str, str]]:
    begun = time.perf_counter()
    frames = Frames(clip)
    opened = time.perf_counter() - begun
    begun, cpu = time.perf_counter(), time.process_time()
    pictures = list(islice(frames.from_frame(0), 24))
    decode = (time.perf_counter() - begun) / len(pictures)
    decode_cpu = (time.process_time() - cpu) / len(pictures)
    megabits = clip.path.stat().st_size * 8 * 24 / frames.facts.num_frames / 1e6
    rows = [
        ("clip", f"{WIDTH} x {HEIGHT}, {frames.facts.codec}, {megabits:.0f} Mbit/s"),
        ("opening", f"{opened * 1e3:.0f} ms"),
        ("decoding alone", f"{decode * 1e3:.1f} ms a picture, {decode_cpu * 1e3:.1f} ms of CPU"),
    ]
    for one in (size, QSize(WIDTH, HEIGHT)):
        renderer = Renderer(clip.path)
        renderer.picture(pictures[0][1], range(1), one)
        cpu = time.process_time()
        for shown, picture in pictures[:10]:
            renderer.picture(picture, shown, one)
        taken = (time.process_time() - cpu) / 10
        name = f"{one.width()} x {one.height()}"
        rows.append((f"conversion to {name}", f"{taken * 1e3:.1f} ms of CPU"))
        # what else this machine does takes nothing from this number
        pair = 2 * (decode_cpu + taken)
        most = f"at most {CORES / pair:.0f} a second on {CORES} idle cores (goal {GOAL})"
        rows.append((f"a new pair in {name}", f"{pair * 1e3:.0f} ms of CPU: {most}"))
    return rows


def _played(clips: list[Clip], size: QSize) -> list[tuple[str, str]]:
    app = QApplication.instance() or QApplication([])
    assert isinstance(app, QApplication)
    theme.apply(app)
    viewer = Viewer(Studio())
    viewer.show()
    viewer.resize(size.width(), size.height() + viewer.height() - viewer.canvas.height())
    times: list[float] = []
    viewer.player.shown.connect(lambda _: times.append(time.perf_counter()))
    begun = time.perf_counter()
    viewer.show_clips(*clips)
    while not viewer.canvas.pair.sides:
        _spin(5)
    rows = [("first picture of both", f"{(time.perf_counter() - begun) * 1e3:.0f} ms")]
    for name in ("first pass", "again"):
        rows.append((f"{name}: wipe", _rate(viewer, times)))
    for mode in (Mode.DIFFERENCE, Mode.A):
        viewer.canvas.set_mode(mode)
        rows.append((f"again: {mode}", _rate(viewer, times)))
    for mode in Mode:
        viewer.canvas.set_mode(mode)
        rows.append((f"painting: {mode}", f"{_paint_ms(viewer):.1f} ms"))
    megabytes = viewer.player.num_bytes / 1e6
    rows.append(("pictures in memory", f"{megabytes:.0f} MB"))
    viewer.canvas.set_mode(Mode.WIPE)
    viewer.canvas.one_to_one()
    _spin(300)
    rows.append(("1:1, first pass: wipe", _rate(viewer, times)))
    rows.append(("pictures in memory", f"{viewer.player.num_bytes / 1e6:.0f} MB"))
    rows.append(("the process", f"{psutil.Process().memory_info().rss / 1e6:.0f} MB"))
    return rows


def _heard(folder: Path) -> list[tuple[str, str]]:
    """Of a clip that is so small that its pictures cost little."""
    begun = time.perf_counter()
    speakers = Speakers()
    speakers.start()
    rows = [("sound: opening the device", f"{(time.perf_counter() - begun) * 1e3:.0f} ms")]
    while speakers.rate and not speakers.num_played and time.perf_counter() - begun < 2:
        speakers.write(np.zeros((min(480, speakers.num_free), speakers.channels), np.float32))
        _spin(5)
    if not speakers.num_played:
        return [*rows, ("sound", "this machine has no device that plays")]
    rows.append(("sound: until it plays", f"{(time.perf_counter() - begun) * 1e3:.0f} ms"))
    speakers.stop()
    source = write_source(folder / "source.mov", noise(0, 4, RATE), RATE, num_frames=100)
    black = [np.zeros((36, 64, 3), np.uint16)] * 100
    shape = {"width": 64, "height": 36, "frame_rate": Fraction(25), "num_frames": 100}
    spent: list[float] = []
    for name, audio in (("heard", Audio(source)), ("mute", None)):
        write_video(folder / f"{name}.mp4", black, audio=audio, **shape)
        viewer = Viewer(Studio())
        viewer.show()
        viewer.show_clips(None, Clip(folder / f"{name}.mp4", name))
        while not viewer.canvas.pair.sides:
            _spin(5)
        _spin(1000)
        cpu = time.process_time()
        viewer.player.play()
        _spin(4000)
        spent.append((time.process_time() - cpu) / 4)
        viewer.close()
        viewer.deleteLater()
        _spin(100)
    heard, mute = (f"{share * 100:.1f} %" for share in spent)
    return [*rows, ("sound: of one core while playing", f"{heard} with it, {mute} without")]


def _rate(viewer: Viewer, times: list[float]) -> str:
    """Pictures shown per second in one round."""
    player = viewer.player
    player.seek(0)
    times.clear()
    begun, cpu = time.perf_counter(), time.process_time()
    player.play()
    while len(times) < player.num_frames - 1 and time.perf_counter() - begun < 20:
        _spin(5)
    taken = time.perf_counter() - begun
    player.stop()
    each = (time.process_time() - cpu) / max(1, len(times))
    return f"{len(times) / taken:.1f} of 24 a second; {each * 1e3:.0f} ms of CPU each"


def _paint_ms(viewer: Viewer) -> float:
    begun = time.perf_counter()
    for _ in range(10):
        viewer.canvas.wipe += 0.001  # so that nothing of the last painting helps
        viewer.canvas.repaint()
    return (time.perf_counter() - begun) * 100


def _spin(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


if __name__ == "__main__":
    main()
