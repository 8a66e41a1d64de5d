"""Work on media, in the process of its own that the daemon has it done in."""

from __future__ import annotations

import json
import math
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from freeswim.studio.resolve.placer import PREPARE, codec_for
from freeswim.video.reader import probe
from freeswim.video.writer import write_video

Json = dict[str, Any]


def test_a_master_that_is_there_already_is_that_master(tmp_path: Path):
    """Made by a daemon that died afterwards."""
    rate = "30000/1001"
    take = make_video(tmp_path / "take.mp4", frames=17)
    frames = math.ceil(17 / Fraction(16) * Fraction(rate)) - 1
    target = tmp_path / "out" / "take.mov"
    task = {
        "task": "master",
        "source": str(take),
        "target": str(target),
        "codec": codec_for("linux", 256, 128),
        "rate": rate,
        "frames": frames,
    }
    assert prepared(task) == {"ok": True}
    made = target.stat()
    assert prepared(task) == {"ok": True}
    assert target.stat() == made
    master = probe(target)
    assert (master.frame_rate, master.num_frames) == (Fraction(rate), frames)
    assert (master.width, master.height, master.codec) == (256, 128, "dnxhd")
    assert master.start_timecode in ("", "00:00:00:00", "00:00:00;00")


def test_a_frame_is_the_files_own(tmp_path: Path):
    take = make_video(tmp_path / "take.mp4", frames=5)
    for frame, shown in ((0, 0), (3, 3), (99, 4)):
        target = tmp_path / "out" / f"{frame}.png"
        task = {"task": "frame", "source": str(take), "target": str(target), "frame": frame}
        assert prepared(task) == {"ok": True}
        assert abs(float(np.asarray(Image.open(target)).mean()) - 40 * shown) < 3


def test_what_is_no_video_is_said_in_a_sentence(tmp_path: Path):
    (tmp_path / "take.mp4").write_bytes(b"no video")
    task = {
        "task": "frame",
        "source": str(tmp_path / "take.mp4"),
        "target": str(tmp_path / "out.png"),
        "frame": 0,
    }
    said = prepared(task)
    assert said["code"] == "media" and "take.mp4" in said["message"] and said["hint"]


def make_video(path: Path, *, frames: int) -> Path:
    """Grey, 40 brighter with every frame; 16 frames per second."""
    pictures = (np.full((128, 256, 3), 40 * 257 * (n % 6), np.uint16) for n in range(frames))
    write_video(
        path,
        pictures,
        codec="h264",
        width=256,
        height=128,
        frame_rate=Fraction(16),
        num_frames=frames,
    )
    return path


def prepared(task: Json) -> Json:
    done = subprocess.run(
        PREPARE, input=json.dumps(task), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
