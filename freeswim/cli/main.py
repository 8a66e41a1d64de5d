"""The `freeswim` command.

Importing this module loads no torch: each command imports what it needs when it runs, so that
help, bad usage and bad requests answer at once.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeswim import __version__
from freeswim.cli import terminal
from freeswim.cli.delivery import add_delivery_commands
from freeswim.cli.models import add_models_commands
from freeswim.cli.options import Asked, add_command, add_takes, at_least_one
from freeswim.cli.queue import add_studio_commands
from freeswim.cli.resolve import add_resolve_commands
from freeswim.errors import Cancelled, FreeswimError, RequestError
from freeswim.output import free_path
from freeswim.quiet import quiet_libraries

if TYPE_CHECKING:
    from freeswim.studio.client import Client

_QUICK = "what shows that it runs, no more"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = _parser().parse_args(arguments)
    quiet_libraries()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up, as Ctrl-C does
    try:
        options.run(options)
    except FreeswimError as error:
        return _fail(error, options)
    except KeyboardInterrupt:
        return _fail(Cancelled(), options)
    except Exception as error:
        if options.debug:
            raise
        what = str(error).strip().splitlines() or [type(error).__name__]
        return _fail(
            FreeswimError(
                f"Something went wrong inside FreeSwim: {what[0]}",
                hint="Run the command again with --debug and report what it prints.",
            ),
            options,
        )
    return 0


def _fail(error: FreeswimError, options: argparse.Namespace) -> int:
    if options.debug:
        import traceback

        traceback.print_exc()
    terminal.failure(error, as_json=options.json)
    return error.exit_status


# ------------------------------------------------------------------------------------- commands


def _demo(options: argparse.Namespace) -> None:
    from freeswim.demo import run_demo

    folder = options.out or free_path(Path.cwd() / "freeswim-demo")
    with terminal.shown_progress(as_json=options.json) as on_progress:
        report = run_demo(folder, on_progress=on_progress)
    if options.json:
        terminal.event("demo", files=[str(path) for path in report.files], seconds=report.seconds)
        return
    runs = report.seconds.values()
    stages = dict.fromkeys(stage for run in runs for stage in run if stage != "all")
    rows = [
        [stage, *(f"{run[stage]:.1f}" if stage in run else "" for run in runs)]
        for stage in (*stages, "all")
    ]
    terminal.table(["seconds", *report.seconds], rows)
    for path in report.files:
        terminal.result(str(path))


def _bench(options: argparse.Namespace) -> None:
    from freeswim.output import check_place

    out = (options.out or Path("freeswim-bench.json")).expanduser().absolute()
    check_place(out, options.overwrite)  # before minutes are spent
    from freeswim.bench import BENCHMARKS, run_bench, save_report, tables

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


def _bench_quality(options: argparse.Namespace) -> None:
    out = (options.out or Path("freeswim-quality")).expanduser().absolute()
    units = (options.units or out / "units").expanduser().absolute()
    prompts: list[str] = []
    if options.prompts is not None:
        prompts = [line for line in _text_of(options.prompts).splitlines() if line.strip()]
    from freeswim.bench_quality import make_plan, run
    from freeswim.bench_report import blind_manifest, claims, save_report

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


def _bench_blind(options: argparse.Namespace) -> None:
    from freeswim.bench_blind import make_kit

    page = make_kit(options.manifest, options.out or Path("freeswim-blind"), seed=options.seed)
    if options.json:
        terminal.event("blind", page=str(page))
    else:
        terminal.result(str(page))


def _bench_score(options: argparse.Namespace) -> None:
    from freeswim.bench_blind import score

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


def _make(options: argparse.Namespace) -> None:
    """Make the take that was asked for and say what became of it."""
    asked: Asked = options.ask(options)
    from freeswim.video.writer import check_output

    place = asked.place()
    check_output(place.expanduser().absolute(), options.overwrite)  # before torch takes seconds
    if (client := _studio(options)) is not None:
        from freeswim.cli.studio import make_in_studio

        make_in_studio(client, asked, as_json=options.json)
        return
    from freeswim.generate import generate

    with terminal.shown_progress(as_json=options.json) as on_progress:
        take = generate(
            asked.request,
            place,
            device=options.device,
            overwrite=options.overwrite,
            draft_latents=asked.draft_latents,
            job_dir=options.job,
            memory=options.memory,
            on_progress=on_progress,
        )
    terminal.finished(take, as_json=options.json)


def _studio(options: argparse.Namespace) -> Client | None:
    """The studio that makes the take; None: none runs, or it is asked for here and thus."""
    is_for_here = options.local or options.overwrite or options.device != "auto"
    if is_for_here or options.job is not None or options.memory is not None:
        return None
    from freeswim.studio.client import connect

    return connect()


def _plan(options: argparse.Namespace) -> None:
    """Say what the take that is asked for would take."""
    asked: Asked = options.ask(options)
    from freeswim.history import past_runs
    from freeswim.machine import inspect
    from freeswim.models.loading import choose_device
    from freeswim.plan import admit, make_plan

    machine = inspect(choose_device(options.device)).limited(options.memory)
    plan = make_plan(asked.request, machine, past_runs())
    terminal.planned(plan, as_json=options.json)
    admit(plan)


def _serve(options: argparse.Namespace) -> None:
    """Serve the queue until the process is told to stop."""
    from freeswim import paths

    if options.stop:
        _stop_studio(options)
        return
    from freeswim.studio.daemon import serve

    if not options.json:
        terminal.note(f"The studio serves {paths.home()}; Ctrl-C stops it.")
    serve(exit_when_idle=options.exit_when_idle)


def _stop_studio(options: argparse.Namespace) -> None:
    from freeswim.studio.client import connect

    client = connect()
    if client is not None:
        client.stop()
    if options.json:
        terminal.event("stopped", was_running=client is not None)
    else:
        terminal.result("No studio runs." if client is None else "The studio has stopped.")


# --------------------------------------------------------------------------------------- parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freeswim",
        description="Make and remake shots, up to 4K, on your own GPU.",
    )
    parser.add_argument("--version", action="version", version=f"freeswim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = add_command(commands, "demo", _demo, "a koi clip and its regeneration, on any machine")
    demo.add_argument("--out", type=Path, metavar="FOLDER", help="default: ./freeswim-demo")

    add_takes(commands, _make)
    plan = commands.add_parser(
        "plan",
        help="what a take would need: work, memory, disk, minutes",
        description="Forecast the take that the command after `plan` would make.",
    )
    add_takes(plan.add_subparsers(required=True, metavar="COMMAND"), _plan)

    add_studio_commands(commands)
    add_delivery_commands(commands)
    add_models_commands(commands)
    add_resolve_commands(commands)
    serve = add_command(commands, "serve", _serve, "the studio, which serves the queue")
    serve.add_argument(
        "--exit-when-idle", type=float, metavar="MINUTES", help="without a job and without a client"
    )
    serve.add_argument("--stop", action="store_true", help="stop the one that runs")

    bench = commands.add_parser(
        "bench",
        help="how fast this machine is, and how good the method; a blind test",
        description="Measure speeds, as ratios in one run; quality, on clips that can be counted.",
    )
    _add_benchmarks(bench.add_subparsers(required=True, metavar="WHAT"))
    return parser


def _add_benchmarks(benchmarks: Any) -> None:
    for what, text in (
        ("attention", "window attention against full attention"),
        ("refine", "the refine pass against full attention and the official cost"),
        ("autoencoder", "coding video against diffusers' own way, with its memory"),
        ("write", "writing the finished file"),
        ("all", "all speeds"),
    ):
        speed = add_command(benchmarks, what, _bench, text)
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
        benchmarks, "quality", _bench_quality, "what the method is worth, in clips that are counted"
    )
    quality.add_argument("--preset", default="demo", help="whose checkpoint, sizes and settings")
    quality.add_argument("--prompts", type=Path, metavar="FILE", help="one a line; default: koi")
    quality.add_argument("--quick", action="store_true", help=_QUICK)
    quality.add_argument("--seeds", type=at_least_one, default=2, metavar="N", help="default 2")
    quality.add_argument(
        "--frames", type=at_least_one, metavar="N", help="of a clip; default 9, or the preset's"
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

    blind = add_command(benchmarks, "blind", _bench_blind, "pairs of clips for a blind test")
    blind.add_argument("manifest", type=Path, metavar="MANIFEST", help="JSON; quality makes one")
    blind.add_argument("--out", type=Path, metavar="FOLDER", help="default: ./freeswim-blind")
    blind.add_argument("--seed", type=int, default=0, metavar="N", help="of the shuffling")
    score = add_command(benchmarks, "score", _bench_score, "the answers of a blind test, counted")
    score.add_argument("kit", type=Path, metavar="FOLDER", help="that `bench blind` made")
