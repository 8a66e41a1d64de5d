from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_wheel_holds_every_preset_and_the_demo_checkpoint(wheel: zipfile.ZipFile):
    names = set(wheel.namelist())
    for preset in (ROOT / "presets").glob("*.yaml"):
        assert f"freeswim/preset_files/{preset.name}" in names
    weights = ROOT / "freeswim" / "models" / "demo" / "weights"
    for file in weights.rglob("*"):
        if file.is_file():
            assert file.relative_to(ROOT).as_posix() in names


def test_wheel_holds_what_is_installed_into_resolve(wheel: zipfile.ZipFile):
    names = set(wheel.namelist())
    plugin = ROOT / "resolve_plugin"
    parts = [*plugin.rglob("*.py"), *plugin.rglob("*.lua"), *plugin.rglob("*.txt")]
    assert {part.relative_to(ROOT).as_posix() for part in parts} <= names


def test_wheel_installs_both_commands(wheel: zipfile.ZipFile):
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert "freeswim = freeswim.cli.main:main" in text
    assert "freeswim-desktop = desktop.app:main" in text


def test_wheel_holds_no_tests_and_no_clips(wheel: zipfile.ZipFile):
    assert not [name for name in wheel.namelist() if name.startswith("tests/") or ".mp4" in name]
    assert sum(info.compress_size for info in wheel.infolist()) < 20e6


def test_installed_package_finds_its_presets_and_weights(wheel: zipfile.ZipFile, tmp_path: Path):
    wheel.extractall(tmp_path)
    code = (
        "from freeswim import paths, presets;"
        "print(paths.presets(), paths.demo_weights(), *presets.preset_names(), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    presets, weights, *names = done.stdout.split()
    assert Path(presets) == tmp_path / "freeswim" / "preset_files"
    assert (Path(weights) / "model_index.json").is_file()
    assert sorted(names) == sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
