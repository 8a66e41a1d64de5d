"""Every state of the window can be looked at: pictures are made of all, at scale 1 and 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

try:
    from PySide6.QtGui import QImage
except ImportError as error:
    pytest.skip(f"system package for Qt is missing: {error}", allow_module_level=True)

SCREENS = Path(__file__).with_name("screens.py")


@pytest.mark.parametrize("scale", [1, 2])
def test_pictures_of_every_state(tmp_path: Path, scale: int):
    done = subprocess.run(
        [sys.executable, str(SCREENS), str(tmp_path)],
        env=os.environ | {"QT_SCALE_FACTOR": str(scale), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pictures = {path.stem: QImage(str(path)) for path in tmp_path.glob("*.png")}
    assert len(pictures) == 28
    window = pictures["compare"]
    assert (window.width(), window.height()) == (1440 * scale, 860 * scale)
    corner = window.pixelColor(4 * scale, window.height() // 2)
    assert max(corner.red(), corner.green(), corner.blue()) < 80  # dark, whatever the system's
