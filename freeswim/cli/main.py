"""The `freeswim` command.

Importing this module loads no torch: each command imports what it needs when it runs, so that
help, bad usage and bad requests answer at once.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freeswim import __version__
from freeswim.cli import terminal
from freeswim.cli.bench import add_bench_commands
from freeswim.cli.delivery import add_delivery_commands
from freeswim.cli.models import add_models_commands
from freeswim.cli.options import Asked, add_command, add_takes
from freeswim.cli.queue import add_studio_commands
from freeswim.cli.resolve import add_resolve_commands
from freeswim.errors import Cancelled, FreeswimError
from freeswim.output import free_path
from freeswim.quiet import quiet_libraries

if TYPE_CHECKING:
    from freeswim.studio.client import Client


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
    add_bench_commands(commands)
    return parser
