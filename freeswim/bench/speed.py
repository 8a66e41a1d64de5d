"""`freeswim bench`: how fast this machine is, as ratios measured in one run.

A second is worth little on its own: machines differ, and others use them. So every way of doing a
thing is measured in turn, round after round, and what is reported is the median of the rounds'
ratios against

* full attention,
* the official cost: tests/bench/official_cost.py, our own plain reading of what the official
  program computes. It is not part of the installed package: it is found beside the package in a
  checkout, and without it that column is left out. No option names another file, for it is run;
* diffusers' own coding of video in tiles (coding.py), with the memory that both take.

The transformer is random: what it costs does not depend on what it has learned.
"""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from freeswim import __version__
from freeswim.bench import coding
from freeswim.errors import FreeswimError, RequestError
from freeswim.machine import cpu_model
from freeswim.method import RefineSettings, refine
from freeswim.method.attention import available_backends, full_attention, window_attention
from freeswim.method.window import InwardWindow
from freeswim.models.loading import choose_device
from freeswim.output import as_output_error, check_place, publish, workspace
from freeswim.video.codecs import CODECS, Codec
from freeswim.video.writer import write_video

Benchmark = Literal["attention", "refine", "autoencoder", "write"]
Clock = Literal["wall", "processor"]
BENCHMARKS: tuple[Benchmark, ...] = ("attention", "refine", "autoencoder", "write")

CHECKOUT = Path(__file__).parents[2]
OFFICIAL_COST = CHECKOUT / "tests" / "bench" / "official_cost.py"

INTERVALS = (2, 5)  # refresh intervals that the official cost is measured at
# Relative L2 distance up to which two programs compute the same, by the transformer's dtype.
AGREEMENT = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Shape:
    """What is measured: a random Wan transformer and the clips it sees."""

    windows: tuple[InwardWindow, ...]  # of the attention benchmark; the first is the refine pass's
    heads: int
    head_dim: int  # a multiple of 4
    ffn_dim: int  # feed-forward width
    blocks: int
    text_tokens: int
    coded_size: tuple[int, int] = (1920, 1088)  # through the autoencoder, px
    coded_frames: int = 9  # 4n + 1
    sizes: tuple[tuple[int, int], ...] = ((1920, 1080), (3840, 2160))  # written, px
    frames: int = 8  # written
    dtype: torch.dtype = torch.float32  # of the transformer


_WAN_1_3B: dict[str, Any] = {
    "heads": 12, "head_dim": 128, "ffn_dim": 8960, "blocks": 30, "text_tokens": 512,
    "dtype": torch.bfloat16,
}  # fmt: skip
SHAPES = {
    "quick": Shape(
        (InwardWindow(2, 10, 12, 5, 6),),
        heads=2, head_dim=16, ffn_dim=64, blocks=2, text_tokens=8, coded_size=(64, 48), coded_frames=5,
        sizes=((256, 144),), frames=2,
    ),
    "mid": Shape(
        (
            InwardWindow(5, 48, 64, 15, 21),
            InwardWindow(5, 32, 48, 15, 21),
            InwardWindow(2, 68, 120, 30, 52),
        ),
        heads=4, head_dim=64, ffn_dim=1024, blocks=6, text_tokens=64,
    ),
    "1.3b-1080p": Shape((InwardWindow(21, 68, 120, 30, 52),), **_WAN_1_3B),
    "1.3b-4k": Shape(
        (InwardWindow(21, 136, 240, 30, 52),), coded_size=(3840, 2160), **_WAN_1_3B
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One way of doing one thing."""

    benchmark: Benchmark
    case: str  # what was done
    way: str  # how
    unit: str  # what `seconds` is for
    seconds: float  # median of the rounds
    rounds: list[float]  # seconds of each, in the order they ran
    ratios: dict[str, float] = field(default_factory=dict)  # name -> median of the rounds' ratios
    relative_error: float | None = None  # relative L2 distance from the official cost's output


@dataclass(frozen=True)
class Report:
    """All of one run."""

    machine: dict[str, Any]
    versions: dict[str, str]
    commit: str | None  # of the checkout, "-dirty" where it was changed since; None: no checkout
    shape: str
    clock: Clock  # "processor" where one CPU thread computes; coding and writing are always "wall"
    results: list[Result]
    notes: list[str]


def run_bench(
    benchmarks: Iterable[Benchmark],
    *,
    shape: str = "mid",
    device: str = "auto",
    threads: int | None = None,
    rounds: int = 3,
    coded_frames: int | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> Report:
    """Measure.

    Args:
        benchmarks: which.
        shape: a name of `SHAPES`.
        device: as `choose_device` takes it.
        threads: of torch on a CPU; None: as many as torch takes. With one, time is processor time,
            which others on the machine change little.
        rounds: how often each way is measured.
        coded_frames: that go through the autoencoder, 4n + 1; None: as many as the shape has.
        on_note: called with a line at every round.

    Raises:
        RequestError: no such device, or a number of frames that the autoencoder does not have.
        FreeswimError: two ways that must agree do not.
    """
    where, what = choose_device(device), SHAPES[shape]
    if coded_frames is not None:
        if coded_frames % 4 != 1:
            raise RequestError(
                f"The autoencoder cannot code {coded_frames} frames.",
                hint=f"Use {-(-(coded_frames - 1) // 4) * 4 + 1}: one frame, and groups of four.",
            )
        what = replace(what, coded_frames=coded_frames)
    own_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or own_threads)
        one_thread = where.type == "cpu" and torch.get_num_threads() == 1
        stopwatch = _Stopwatch(where, rounds, on_note, "processor" if one_thread else "wall")
        machine, notes, results = _machine(where), [], []
        if "refine" in benchmarks and not OFFICIAL_COST.is_file():
            notes.append("Not a checkout: the official cost is left out.")
        for name in benchmarks:
            results += _MEASURES[name](what, stopwatch)
        if any(one.benchmark == "autoencoder" and PEAK not in one.ratios for one in results):
            notes.append("Peak memory: not measured, for this system does not tell it.")
        machine["load_at_end"] = _load()
    finally:
        torch.set_num_threads(own_threads)
    return Report(machine, _versions(), _commit(), shape, stopwatch.clock, results, notes)


def save_report(report: Report, path: Path, *, overwrite: bool) -> None:
    """Write the report as JSON.

    Raises:
        OutputExists: the file is there and overwrite is not set.
        OutputError: the disk is full or the folder cannot be written.
    """
    check_place(path, overwrite)
    with workspace(path) as folder, as_output_error(path):
        part = folder / path.name
        part.write_text(json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n", "utf-8")
        publish(part, path, overwrite)


def tables(report: Report) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Headings and rows of one table for each benchmark."""
    for benchmark, group in itertools.groupby(report.results, lambda result: result.benchmark):
        results = list(group)
        names = list(dict.fromkeys(name for result in results for name in result.ratios))
        rows = [
            [f"{result.case}, {result.way}", f"{result.seconds:.4g}"]
            + [f"{result.ratios[name]:.3g}" if name in result.ratios else "" for name in names]
            for result in results
        ]
        headings = [benchmark, f"seconds per {results[0].unit}", *names]
        if any(result.relative_error is not None for result in results):
            headings.append("relative error")
            for result, row in zip(results, rows, strict=True):
                error = result.relative_error
                row.append("" if error is None else f"{error:.1e}")
        yield headings, rows


def relative_error(got: Tensor, want: Tensor) -> float:
    """Relative L2 distance."""
    return float((got - want).norm() / want.norm())


# -------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class _Stopwatch:
    device: torch.device
    num_rounds: int
    on_note: Callable[[str], None]
    clock: Clock

    def alternate(
        self, what: str, ways: dict[str, Callable[[], Any]], *, clock: Clock | None = None
    ) -> dict[str, list[float]]:
        """Seconds of every way in every round; the ways take turns, so that drift meets all."""
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(self.num_rounds):
            self.on_note(f"{what}, round {number + 1} of {self.num_rounds}")
            for name, way in ways.items():
                seconds[name].append(self._time(way, clock or self.clock))
        return seconds

    def _time(self, way: Callable[[], Any], clock: Clock) -> float:
        now = time.thread_time if clock == "processor" else time.perf_counter
        gc.collect()
        self._synchronise()
        began = now()
        way()
        self._synchronise()
        return now() - began

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _ratio(above: list[float], below: list[float]) -> float:
    """Median of the rounds' ratios: a disturbance that lasts a round meets both alike."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


# -------------------------------------------------------------------------------------- attention


@torch.no_grad()
def _bench_attention(shape: Shape, stopwatch: _Stopwatch) -> list[Result]:
    return [
        result for window in shape.windows for result in _attention_of(window, shape, stopwatch)
    ]


def _attention_of(window: InwardWindow, shape: Shape, stopwatch: _Stopwatch) -> list[Result]:
    """Full attention, then the window attention of every backend, at one window."""
    generator = torch.Generator().manual_seed(0)
    size = (1, window.num_tokens, shape.heads, shape.head_dim)
    query, key, value = (
        torch.randn(size, generator=generator).to(stopwatch.device, shape.dtype) for _ in range(3)
    )
    scale = shape.head_dim**-0.5
    ways: dict[str, Callable[[], Any]] = {
        "full": lambda: full_attention(query, key, value, scale=scale)
    }
    for backend in available_backends(window, stopwatch.device):
        ways[backend] = lambda backend=backend: window_attention(
            query, key, value, window, scale=scale, backend=backend
        )
    for backend in list(ways)[1:]:
        ways[backend]()  # compiles, and lays out its masks; full attention has nothing to prepare
    case = _window_name(window)
    seconds = stopwatch.alternate(f"attention {case}", ways)
    share = window.num_keys / window.num_tokens
    return [
        Result(
            "attention", case, way, "attention", statistics.median(rounds), rounds,
            ratios={
                "faster than full": _ratio(seconds["full"], rounds),
                # keys seen x time per key of full attention; 1 would be no loss at all
                "× ideal": _ratio(rounds, seconds["full"]) / (1 if way == "full" else share),
            },
        )
        for way, rounds in seconds.items()
    ]  # fmt: skip


def _window_name(window: InwardWindow) -> str:
    return (
        f"{window.frames}x{window.rows}x{window.columns} of "
        f"{window.native_rows}x{window.native_columns}"
    )


# ----------------------------------------------------------------------------------------- refine


@dataclass(frozen=True)
class _Pass:
    """A refine pass that is measured: one whole period between two refreshes."""

    program: Callable[..., Tensor]
    native_grid: tuple[int, int]
    settings: RefineSettings

    @property
    def steps(self) -> int:
        return self.settings.steps


def _bench_refine(shape: Shape, stopwatch: _Stopwatch) -> list[Result]:
    passes, inputs = _passes(shape), _refine_inputs(shape, stopwatch.device)
    outputs: dict[str, Tensor] = {}

    def run(name: str) -> None:
        one = passes[name]
        outputs[name] = one.program(*inputs, native_grid=one.native_grid, settings=one.settings)

    case = _window_name(shape.windows[0])
    if stopwatch.device.type == "cuda":  # compiles; a CPU has nothing that a first run prepares
        for name in passes:
            run(name)
    ways = {name: lambda name=name: run(name) for name in passes}
    seconds = {
        name: [one / passes[name].steps for one in rounds]
        for name, rounds in stopwatch.alternate(f"refine {case}", ways).items()
    }
    errors = _agreement(outputs, shape.dtype)
    return [
        Result(
            "refine", case, name, "step", statistics.median(rounds), rounds,
            ratios=_refine_ratios(name, seconds), relative_error=errors.get(name),
        )
        for name, rounds in seconds.items()
    ]  # fmt: skip


def _passes(shape: Shape) -> dict[str, _Pass]:
    """Everything that is measured, by the name it has in the table.

    The costs of a period repeat for the rest of a pass, so one period is measured, by the step.
    """
    window = shape.windows[0]
    native, whole = (window.native_rows, window.native_columns), (window.rows, window.columns)
    programs = {"freeswim": refine}
    if OFFICIAL_COST.is_file():
        programs["official cost"] = _official_cost()
    alone = RefineSettings(steps=1, strength=1.0, guidance="none")
    passes = {
        "full attention": _Pass(refine, whole, alone),
        "freeswim, interval 1": _Pass(refine, native, _one_period(1)),
    }
    for interval in INTERVALS:
        for name, program in programs.items():
            passes[f"{name}, interval {interval}"] = _Pass(program, native, _one_period(interval))
    return passes


def _one_period(interval: int) -> RefineSettings:
    return RefineSettings(steps=interval, strength=1.0, refresh_interval=interval)


def _refine_inputs(
    shape: Shape, device: torch.device
) -> tuple[WanTransformer3DModel, Tensor, Tensor, Tensor]:
    """A random transformer, noise, and two random texts; the same ones every time."""
    window, text_dim, channels = shape.windows[0], 64, 16
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = WanTransformer3DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.head_dim,
            in_channels=channels,
            out_channels=channels,
            text_dim=text_dim,
            ffn_dim=shape.ffn_dim,
            num_layers=shape.blocks,
        )
        latents = torch.randn(1, channels, window.frames, 2 * window.rows, 2 * window.columns)
        texts = torch.randn(2, 1, shape.text_tokens, text_dim)
    prompt, negative = texts.to(device)
    for name, parameter in transformer.named_parameters():
        # Some stay in float32, as in a checkpoint that diffusers loads.
        keeps = any(part in name for part in transformer._keep_in_fp32_modules)
        parameter.data = parameter.data.to(device, None if keeps else shape.dtype)
    transformer.eval().to(device)  # pyright: ignore[reportArgumentType] (diffusers decorates it)
    return transformer, latents.to(device), prompt, negative


def _official_cost() -> Callable[..., Tensor]:
    """The refine pass of the baseline in this checkout."""
    spec = importlib.util.spec_from_file_location("freeswim_official_cost", OFFICIAL_COST)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module.refine


def _agreement(outputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, float]:
    """How far our passes are from the baseline's, which must be rounding only."""
    errors: dict[str, float] = {}
    for interval in INTERVALS:
        ours, theirs = f"freeswim, interval {interval}", f"official cost, interval {interval}"
        if theirs not in outputs:
            continue
        errors[ours] = relative_error(outputs[ours], outputs[theirs])
        if not errors[ours] < AGREEMENT[dtype]:
            raise FreeswimError(
                f"At interval {interval} the refine pass and its baseline differ by "
                f"{errors[ours]:.1e} of their size: a speed of this means nothing.",
                hint="Run the tests: pytest tests/bench tests/method.",
            )
    return errors


def _refine_ratios(name: str, seconds: dict[str, list[float]]) -> dict[str, float]:
    ratios = {"faster than full attention": _ratio(seconds["full attention"], seconds[name])}
    baseline = name.replace("freeswim", "official cost")
    if baseline in seconds and baseline != name:
        ratios["faster than official cost"] = _ratio(seconds[baseline], seconds[name])
    return ratios


# ------------------------------------------------------------------------------------ autoencoder

PEAK = "peak MiB above the model"


def _bench_autoencoder(shape: Shape, stopwatch: _Stopwatch) -> list[Result]:
    """Every way of coding in a process of its own, in turn. Encoders are children: wall clock."""
    width, height = shape.coded_size
    case = f"{width}x{height}, {shape.coded_frames} frames"
    costs: dict[str, list[coding.Cost]] = {way: [] for way in coding.WAYS}
    for number in range(stopwatch.num_rounds):
        stopwatch.on_note(f"autoencoder {case}, round {number + 1} of {stopwatch.num_rounds}")
        for way, measured in costs.items():
            measured.append(
                coding.measure(
                    coding.Coding(
                        way, width, height, shape.coded_frames,
                        str(stopwatch.device), torch.get_num_threads(),
                    )
                )
            )  # fmt: skip
    seconds = {
        way: [cost.seconds / shape.coded_frames for cost in measured]
        for way, measured in costs.items()
    }
    results: list[Result] = []
    for way, rounds in seconds.items():
        ratios: dict[str, float] = {}
        baseline = way.replace("freeswim", coding.BASELINE)
        if baseline != way:
            ratios["faster than diffusers"] = _ratio(seconds[baseline], rounds)
        peaks = [cost.peak_bytes for cost in costs[way] if cost.peak_bytes is not None]
        if peaks:
            ratios[PEAK] = statistics.median(peaks) / 2**20
        median = statistics.median(rounds)
        results.append(Result("autoencoder", case, way, "frame", median, rounds, ratios))
    return results


# ------------------------------------------------------------------------------------------ write


def _bench_write(shape: Shape, stopwatch: _Stopwatch) -> list[Result]:
    return [
        _write_of(codec, size, shape.frames, stopwatch)
        for codec in CODECS.values()
        for size in shape.sizes
    ]


def _write_of(
    codec: Codec, size: tuple[int, int], num_frames: int, stopwatch: _Stopwatch
) -> Result:
    """Frames encoded, verified and put in place. The encoder is a child: wall clock."""
    width, height = size
    pictures = _textured(width, height)
    peaks: list[int] = []

    def write() -> None:
        with tempfile.TemporaryDirectory() as folder, peak_memory(peaks):
            frames = itertools.islice(itertools.cycle(pictures), num_frames)
            write_video(
                Path(folder) / ("bench" if codec.is_sequence else f"bench{codec.extension}"),
                frames, codec=codec.name, width=width, height=height, frame_rate=Fraction(24), num_frames=num_frames,
            )  # fmt: skip

    case = f"{width}x{height}"
    what = f"write {codec.name} {case}"
    seconds = stopwatch.alternate(what, {codec.name: write}, clock="wall")[codec.name]
    per_frame = [one / num_frames for one in seconds]
    median = statistics.median(per_frame)
    ratios = {"frames/s": 1 / median, "peak MiB": statistics.median(peaks) / 2**20}
    return Result("write", case, codec.name, "frame", median, per_frame, ratios)


@contextmanager
def peak_memory(peaks: list[int]) -> Iterator[None]:
    """Add to `peaks` the most bytes that this block took, here and in the processes it started.

    Looked at every 10 ms: an encoder holds its frames far longer.
    """
    own = psutil.Process()
    before = own.memory_info().rss
    peak, is_over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(0.01):
            taken = own.memory_info().rss - before
            for child in own.children(recursive=True):
                with suppress(psutil.Error):
                    taken += child.memory_info().rss
            peak = max(peak, taken)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        peaks.append(peak)


def _textured(width: int, height: int) -> list[np.ndarray]:
    """Two frames of a gradient under noise, (height, width, 3) uint16: flat ones cost nothing."""
    generator = np.random.default_rng(0)
    gradient = np.linspace(8_000, 50_000, width, dtype=np.float32)[None, :, None]
    noise = (generator.normal(0, 1_500, (height, width, 3)).astype(np.float32) for _ in range(2))
    return [(gradient + one).clip(0, 65_535).astype(np.uint16) for one in noise]


_MEASURES: dict[Benchmark, Callable[[Shape, _Stopwatch], list[Result]]] = {
    "attention": _bench_attention,
    "refine": _bench_refine,
    "autoencoder": _bench_autoencoder,
    "write": _bench_write,
}


# ---------------------------------------------------------------------------------------- machine


def _machine(device: torch.device) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "system": platform.system(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "gpu": gpu,
        "load_at_start": _load(),
    }


def _load() -> float | None:
    """Load average of the last minute, where the system counts it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _versions() -> dict[str, str]:
    versions = {"freeswim": __version__, "python": platform.python_version()}
    for package in ("torch", "diffusers", "natten"):
        if importlib.util.find_spec(package) is not None:
            versions[package] = importlib.metadata.version(package)
    return versions


def _commit() -> str | None:
    if not (CHECKOUT / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
