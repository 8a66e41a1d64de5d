"""`freeswim bench`: speed, quality, blind tests."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from freeswim.cli import terminal
from freeswim.cli.options import add_command, at_least_one
from freeswim.errors import RequestError

_QUICK = "what shows that it runs, no more"


def add_bench_commands(commands: Any) -> None:
    """`freeswim bench` and what there is to measure."""
    bench = commands.add_parser(
        "bench",
        help="how fast this machine is, and how good the method; a blind test",
        description="Measure speeds, as ratios in one run; quality, on clips that can be counted.",
    )
    benchmarks = bench.add_subparsers(required=True, metavar="WHAT")
    for what, text in (
        ("attention", "window attention against full attention"),
        ("refine", "the refine pass against full attention and the official cost"),
        ("autoencoder", "coding video against diffusers' own way, with its memory"),
        ("write", "writing the finished file"),
        ("all", "all speeds"),
    ):
        speed = add_command(benchmarks, what, _speed, text)
        speed.set_defaults(what=what)
        speed.add_argument("--shape", choices=("mid", "1.3b-1080p", "1.3b-4k"), default="mid")
        speed.add_argument("--quick", action="store_true", help=_QUICK)
        speed.add_argument(
            "--frames", type=at_least_one, metavar="N", help="through the autoencoder; default 9"
        )
        speed.add_argument("--rounds", type=at_least_one, default=3, metavar="N", help="default 3")
        speed.add_argument(
            "--threads",
            type=at_least_one,
            metavar="N",
            help="of a CPU; 1: processor time, not wall",
        )
        speed.add_argument(
            "--out", type=Path, metavar="FILE", help="default: ./freeswim-bench.json"
        )
        speed.add_argument("--overwrite", action="store_true", help="replace a file that is there")
        speed.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")

    quality = add_command(
        benchmarks, "quality", _quality, "what the method is worth, in clips that are counted"
    )
    quality.add_argument("--preset", default="demo", help="whose checkpoint, sizes and settings")
    quality.add_argument("--prompts", type=Path, metavar="FILE", help="one a line; default: koi")
    quality.add_argument("--quick", action="store_true", help=_QUICK)
    quality.add_argument("--seeds", type=at_least_one, default=2, metavar="N", help="default 2")
    quality.add_argument(
        "--frames", type=at_least_one, metavar="N", help="of a clip; default: the preset's"
    )
    quality.add_argument(
        "--workers", type=at_least_one, default=1, metavar="N", help="processes; default 1"
    )
    quality.add_argument("--threads", type=at_least_one, metavar="N", help="of each, on a CPU")
    quality.add_argument("--out", type=Path, metavar="FOLDER", help="default: ./freeswim-quality")
    quality.add_argument(
        "--units", type=Path, metavar="FOLDER", help="what is made; a run that is cut goes on in it"
    )
    quality.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")

    blind = add_command(benchmarks, "blind", _blind, "pairs of clips for a blind test")
    blind.add_argument("manifest", type=Path, metavar="MANIFEST", help="JSON; quality makes one")
    blind.add_argument("--out", type=Path, metavar="FOLDER", help="default: ./freeswim-blind")
    blind.add_argument("--seed", type=int, default=0, metavar="N", help="of the shuffling")
    score = add_command(benchmarks, "score", _score, "the answers of a blind test, counted")
    score.add_argument("kit", type=Path, metavar="FOLDER", help="that `bench blind` made")


def _speed(options: argparse.Namespace) -> None:
    from freeswim.output import check_place

    out = (options.out or Path("freeswim-bench.json")).expanduser().absolute()
    check_place(out, options.overwrite)  # before minutes are spent
    from freeswim.bench.speed import BENCHMARKS, run_bench, save_report, tables

    report = run_bench(
        BENCHMARKS if options.what == "all" else (options.what,),
        shape="quick" if options.quick else options.shape,
        device=options.device,
        threads=options.threads,
        rounds=1 if options.quick else options.rounds,
        coded_frames=options.frames,
        on_note=terminal.note,
    )
    save_report(report, out, overwrite=options.overwrite)
    if options.json:
        terminal.event("bench", report=str(out))
        return
    for headings, rows in tables(report):
        terminal.table(headings, rows)
    for text in report.notes:
        terminal.note(f"Note: {text}")
    terminal.result(str(out))


def _quality(options: argparse.Namespace) -> None:
    out = (options.out or Path("freeswim-quality")).expanduser().absolute()
    units = (options.units or out / "units").expanduser().absolute()
    prompts: list[str] = []
    if options.prompts is not None:
        prompts = [line for line in _text_of(options.prompts).splitlines() if line.strip()]
    from freeswim.bench.plan import make_plan
    from freeswim.bench.quality import run
    from freeswim.bench.report import blind_manifest, claims, save_report

    plan = make_plan(
        options.preset,
        quick=options.quick,
        prompts=prompts,
        num_seeds=options.seeds,
        frames=options.frames,
    )
    clips = run(
        plan,
        units,
        device=options.device,
        workers=options.workers,
        threads=options.threads,
        on_note=terminal.note,
    )
    files = [*save_report(clips, plan, units, out), blind_manifest(plan, units, units)]
    if options.json:
        terminal.event("quality", files=[str(file) for file in files])
        return
    rows = [[one.text, one.measured, "yes" if one.holds else "no"] for one in claims(clips, plan)]
    terminal.table(
        ["what the numbers have to show", "measured", "holds"], rows, ("measured", "holds")
    )
    for file in files:
        terminal.result(str(file))


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{path.name} cannot be read as text.", hint="Check the path."
        ) from error


def _blind(options: argparse.Namespace) -> None:
    from freeswim.bench.blind import make_kit

    page = make_kit(options.manifest, options.out or Path("freeswim-blind"), seed=options.seed)
    if options.json:
        terminal.event("blind", page=str(page))
    else:
        terminal.result(str(page))


def _score(options: argparse.Namespace) -> None:
    from freeswim.bench.blind import score

    scores = score(options.kit)
    if options.json:
        terminal.event("score", scores=[asdict(one) for one in scores])
        return
    rows = [
        [*one.ways, *map(str, one.preferred), str(one.same), f"{one.chance:.3f}"] for one in scores
    ]
    terminal.table(
        ["one way", "other way", "one preferred", "other preferred", "same", "chance"],
        rows,
        ("other way",),
    )
