"""The rules of ARCHITECTURE.md that imports can break."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "diffusers", "transformers", "peft", "accelerate"}

# Rooms that must serve processes without torch.
TORCH_FREE = [
    "freeswim/__init__.py",
    "freeswim/bench/__init__.py",
    "freeswim/cli/bench.py",
    "freeswim/cli/delivery.py",
    "freeswim/cli/main.py",
    "freeswim/cli/models.py",
    "freeswim/cli/options.py",
    "freeswim/cli/queue.py",
    "freeswim/cli/studio.py",
    "freeswim/cli/terminal.py",
    "freeswim/cli/watch.py",
    "freeswim/errors.py",
    "freeswim/history.py",
    "freeswim/limits.py",
    "freeswim/method/__init__.py",
    "freeswim/method/settings.py",
    "freeswim/method/window.py",
    "freeswim/models/__init__.py",
    "freeswim/models/adoption.py",
    "freeswim/models/catalog.py",
    "freeswim/models/download.py",
    "freeswim/models/hub.py",
    "freeswim/models/memory.py",
    "freeswim/models/demo/koi.py",
    "freeswim/models/demo/measure.py",
    "freeswim/models/demo/pace.py",
    "freeswim/models/demo/quality.py",
    "freeswim/models/demo/scene.py",
    "freeswim/models/demo/train.py",
    "freeswim/output.py",
    "freeswim/paths.py",
    "freeswim/plan.py",
    "freeswim/presets.py",
    "freeswim/quiet.py",
    "freeswim/protocol.py",
    "freeswim/request.py",
    "freeswim/sidecar.py",
    "freeswim/studio/client.py",
    "freeswim/studio/daemon.py",
    "freeswim/timeline/delivery.py",
    "freeswim/timeline/export.py",
    "freeswim/timeline/verify.py",
    "freeswim/video/codecs.py",
    "freeswim/video/conform.py",
    "freeswim/video/encoder.py",
    "freeswim/video/opening.py",
    "freeswim/video/pixels.py",
    "freeswim/video/reader.py",
    "freeswim/video/sequence.py",
    "freeswim/video/timing.py",
    "freeswim/video/writer.py",
    "freeswim/worker.py",
]

# From the top of the house to its ground; imports point down, never up.
FLOORS = [
    ["cli.main"],
    ["cli.queue", "cli.models"],
    ["cli.delivery"],
    ["cli.finding"],
    ["cli.studio"],
    ["cli.watch"],
    ["cli.options", "studio.client"],
    ["cli.terminal"],
    ["studio.daemon"],
    ["studio.api"],
    ["studio.files", "studio.guard"],
    ["studio.wire", "studio.discovery"],
    ["studio.studio"],
    ["studio.eta"],
    ["studio.mailbox"],
    ["studio.resolve"],
    ["studio.runner"],
    ["studio.downloads"],
    ["studio.publish", "studio.database", "studio.desk", "studio.executors", "studio.hardware"],
    ["studio.store", "studio.folders"],
    ["studio.job"],
    ["demo", "bench.speed", "bench.report", "worker", "prepare"],
    ["bench.coding", "bench.quality", "bench.blind", "protocol"],
    ["generate"],
    ["bench.plan"],
    ["timeline.verify"],
    ["timeline.delivery", "timeline.reuse"],
    ["timeline.master"],
    ["preview", "models.warm", "machine"],
    [
        "checkpoint",
        "sidecar",
        "presets",
        "plan",
        "ladder",
        "models.conditioning",
        "timeline.export",
    ],
    ["timeline.otioz"],
    [
        *("timeline.otio", "timeline.mlt", "timeline.fcpxml", "timeline.fcp7", "timeline.edl"),
        *("timeline.aaf", "timeline.blender", "timeline.reading", "timeline.editors"),
    ],
    ["timeline.timecode", "timeline.words"],
    ["timeline.cut"],
    ["models.loading"],
    ["models.lora"],
    ["bench.measures"],
    ["request", "history", "models.adoption"],
    ["models.download"],
    ["models.hub"],
    ["models.demo", "video", "method", "models.catalog", "models.memory"],
    ["output", "paths"],
    ["errors", "limits", "quiet"],
]


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Names of the modules that `path` imports anywhere outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def floor_of(module: str) -> int | None:
    """The floor of freeswim.<module>, by its longest name in FLOORS."""
    best: tuple[int, int] | None = None
    for floor, names in enumerate(FLOORS):
        for name in names:
            if module == name or module.startswith(f"{name}."):
                best = max(best or (0, 0), (len(name), floor))
    return best and best[1]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("path", TORCH_FREE)
def test_room_without_torch_loads_none(path: str):
    module = path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
    loaded = run_python(f"import {module}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))")
    assert loaded == ""


@pytest.mark.parametrize("path", modules("freeswim"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_the_house(path: Path):
    own = ".".join(path.relative_to(ROOT / "freeswim").with_suffix("").parts)
    own_floor = floor_of(own.removesuffix(".__init__"))
    for name in imports_of(path):
        floor = floor_of(name.removeprefix("freeswim.")) if name.startswith("freeswim.") else None
        if floor is not None and own_floor is not None:
            assert floor >= own_floor, f"{own} (floor {own_floor}) imports {name} (floor {floor})"


@pytest.mark.parametrize(
    "folder, forbidden",
    [
        ("freeswim", {"desktop", "resolve_plugin", "PySide6"}),
        ("desktop", {*HEAVY, "resolve_plugin"}),
    ],
)
def test_packages_keep_out_of_each_other(folder: str, forbidden: set[str]):
    for path in modules(folder):
        packages = {name.split(".")[0] for name in imports_of(path)}
        assert not packages & forbidden, f"{path.relative_to(ROOT)} imports {packages & forbidden}"


def test_importing_the_package_is_quick_and_loads_no_torch():
    """Under 0.3 s; measured in a child, so that what tests have loaded does not help."""
    seconds, loaded = run_python(
        "import time; t = time.perf_counter(); import freeswim, sys;"
        f"print(time.perf_counter() - t, len({HEAVY!r} & set(sys.modules)))"
    ).split()
    assert float(seconds) < 0.3
    assert loaded == "0"


def test_help_answers_at_once():
    """Under 0.5 s: the processor time of the whole command, which a busy machine does not change."""
    used = run_python(
        "import resource, subprocess, sys;"
        "subprocess.run([sys.executable, '-m', 'freeswim.cli', '--help'], check=True,"
        " stdout=subprocess.DEVNULL);"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(usage.ru_utime + usage.ru_stime)"
    )
    assert float(used) < 0.5


def test_every_test_file_has_a_name_of_its_own():
    """Without packages of tests, pytest tells modules apart by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []
