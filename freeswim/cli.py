"""The `freeswim` command.

Importing this module loads no torch: each command imports what it needs when it runs, so that
help, bad usage and bad requests answer at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeswim import __version__, terminal
from freeswim.errors import Cancelled, FreeswimError, RequestError
from freeswim.output import free_path, take_name

if TYPE_CHECKING:
    from freeswim.request import Request

DEFAULT_PRESETS = ("wan21-1.3b-1080p", "demo")  # the first whose checkpoint is on this machine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = _parser().parse_args(arguments)
    _quiet_libraries()
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


def _quiet_libraries() -> None:
    """The libraries: no bars and chatter among ours, no network, no spinning threads."""
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DIFFUSERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("DIFFUSERS_DISABLE_REMOTE_CODE", "1"),
        # Threads that spin while they wait make a busy machine crawl: 6 s became 40 and more beside
        # one other generation on two cores.
        ("OMP_WAIT_POLICY", "PASSIVE"),
    ):
        os.environ.setdefault(name, value)
    # diffusers imports torchao wherever it is installed; it says which of its kernels are not for
    # this machine, and torch that torchao calls it in an old way.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


# ------------------------------------------------------------------------------------- commands


@dataclass(frozen=True)
class _Asked:
    """What the person asked to have made."""

    request: Request
    out: Path
    draft_latents: Path | None = None  # of the draft that is finished


def _generate(options: argparse.Namespace) -> _Asked:
    from freeswim.request import Media, Request

    fields = _preset_fields(options)
    if options.image:
        fields |= {"kind": "image", "first_image": Media.of(options.image)}
        if options.last_image:
            fields["last_image"] = Media.of(options.last_image)
    elif options.last_image:
        raise RequestError("A last image needs a first one.", hint="Give it with --image.")
    else:
        fields["kind"] = "text"
    fields |= {"prompt": options.prompt, "seed": _seed(options)}
    if options.draft:
        fields["draft"] = True
    if options.frames is not None:
        fields["frames"] = options.frames
    width, height = _asked_size(options, fields)
    request = Request.parse(fields | {"width": width, "height": height})
    name = take_name(options.prompt, request.seed, is_draft=request.draft)
    return _Asked(request, options.out or _free(name))


def _refine(options: argparse.Namespace) -> _Asked:
    from freeswim.request import Media, Request
    from freeswim.video.reader import probe

    clip = probe(options.file)
    fields = _preset_fields(options)
    fields.pop("draft", None)
    width, height = _size(options.size, (clip.width, clip.height))
    frames = options.frames if options.frames is not None else clip.num_frames - options.start
    fields |= {
        "kind": "clip",
        "clip": Media.of(options.file),
        "clip_start": options.start,
        "prompt": options.prompt,
        "seed": _seed(options),
        "width": width,
        "height": height,
        "frames": frames,
    }
    name = f"{options.file.stem}-refined.mp4"
    return _Asked(Request.parse(fields), options.out or _free(name))


def _finish(options: argparse.Namespace) -> _Asked:
    from freeswim.request import Request
    from freeswim.sidecar import draft_latents, read_sidecar

    sidecar = read_sidecar(options.take)
    draft = Request.parse(sidecar["request"])
    if not draft.draft:
        raise RequestError(
            f"{options.take.name} is not a draft.",
            hint="Make it again at another size with: freeswim refine.",
        )
    media = options.take.with_suffix(".mp4")
    latents = draft_latents(media, sidecar)
    if latents is None and not options.json:
        terminal.note("The draft's latents are gone: its base pass runs again, to the same result.")
    name = f"{media.stem.removesuffix('-draft')}-finished.mp4"
    return _Asked(draft.changed(draft=False), options.out or _free(name), latents)


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


def _make(options: argparse.Namespace) -> None:
    """Make the take that was asked for and say what became of it."""
    asked: _Asked = options.ask(options)
    from freeswim.video.writer import check_output

    check_output(asked.out.expanduser().absolute(), options.overwrite)  # before torch takes seconds
    from freeswim.generate import generate

    with terminal.shown_progress(as_json=options.json) as on_progress:
        take = generate(
            asked.request,
            asked.out,
            device=options.device,
            overwrite=options.overwrite,
            draft_latents=asked.draft_latents,
            job_dir=options.job,
            memory=options.memory,
            on_progress=on_progress,
        )
    terminal.finished(take, as_json=options.json)


def _plan(options: argparse.Namespace) -> None:
    """Say what the take that is asked for would take."""
    asked: _Asked = options.ask(options)
    from freeswim.history import past_runs
    from freeswim.machine import inspect
    from freeswim.models.loading import choose_device
    from freeswim.plan import admit, make_plan

    machine = inspect(choose_device(options.device)).limited(options.memory)
    plan = make_plan(asked.request, machine, past_runs())
    terminal.planned(plan, as_json=options.json)
    admit(plan)


# ------------------------------------------------------------------- from options to a request


# Option -> what it changes: part of the request, field. An option that is not given changes nothing.
_CHANGES = (
    ("model", "request", "checkpoint"),
    ("negative_prompt", "request", "negative_prompt"),
    ("weights", "request", "weights"),
    ("steps", "base", "steps"),
    ("steps", "refine", "steps"),
    ("guidance", "base", "guidance_scale"),
    ("guidance", "refine", "guidance_scale"),
    ("strength", "refine", "strength"),
    ("interval", "refine", "refresh_interval"),
    ("full_branch", "refine", "guidance"),
    ("keep", "refine", "kept_precision"),
    ("step_cache", "refine", "step_cache"),
    ("attention", "refine", "attention"),
)


def _preset_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The preset's defaults with the options' changes to the settings of the passes."""
    from freeswim.presets import load_preset

    preset = load_preset(options.preset or _default_preset(options))
    preset.check_loras(len(options.lora))
    fields: dict[str, Any] = preset.defaults | {"loras": [_lora(text) for text in options.lora]}
    parts: dict[str, dict[str, Any]] = {
        "request": fields,
        "base": dict(fields.get("base", {})),
        "refine": dict(fields.get("refine", {})),
    }
    for option, part, field in _CHANGES:
        if (value := getattr(options, option)) is not None:
            parts[part][field] = value
    if options.mode == "nocache":
        parts["refine"] |= {"refresh_interval": 1, "override_unconditional": True}
    return fields | {"base": parts["base"], "refine": parts["refine"]}


def _default_preset(options: argparse.Namespace) -> str:
    from freeswim import paths
    from freeswim.models.catalog import find_checkpoint
    from freeswim.presets import load_preset

    for name in DEFAULT_PRESETS:
        checkpoint = find_checkpoint(load_preset(name).defaults["checkpoint"])
        if checkpoint.repository and not (paths.models() / checkpoint.name).is_dir():
            continue
        if name != DEFAULT_PRESETS[0] and not options.json:
            terminal.note(
                f"Wan 2.1 1.3B is not on this machine: taking preset {name}, which knows koi only."
            )
        return name
    raise AssertionError("the demo checkpoint is part of the package")


def _asked_size(options: argparse.Namespace, fields: dict[str, Any]) -> tuple[int, int]:
    from freeswim.models.catalog import find_checkpoint

    checkpoint = find_checkpoint(fields["checkpoint"])
    width, height = fields["width"], fields["height"]
    if options.size:
        width, height = _size(options.size, (checkpoint.native_width, checkpoint.native_height))
    if options.target_width is not None:
        width = options.target_width
    if options.target_height is not None:
        height = options.target_height
    return width, height


def _size(text: str, of: tuple[int, int]) -> tuple[int, int]:
    """A size written as WIDTHxHEIGHT, or as a multiple of another, such as 2x."""
    if match := re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})", text):
        return int(match[1]), int(match[2])
    if match := re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?)[xX×]", text):
        return round(of[0] * float(match[1])), round(of[1] * float(match[1]))
    raise RequestError(f"{text!r} is not a size.", hint="Write 1920x1080, or 2x.")


def _lora(text: str) -> dict[str, Any]:
    """A LoRA written as [high=|low=]FILE[:WEIGHT], as a request has it."""
    from freeswim.request import Media

    expert, equals, rest = text.partition("=")
    if not (equals and expert in ("high", "low")):
        expert, rest = "both", text
    # What follows the last colon is a weight where it is a number: C:\koi.safetensors has none.
    path, colon, after = rest.rpartition(":")
    try:
        weight = float(after) if colon else 1.0
    except ValueError:
        if path.endswith(".safetensors"):
            raise RequestError(
                f"{after!r} is not the weight of a LoRA.", hint="Write a number: FILE:0.8."
            ) from None
        path, weight = rest, 1.0
    return {"file": Media.of(Path(path or rest)), "weight": weight, "expert": expert}


def _free(name: str) -> Path:
    """A place in the current folder for a take and its sidecar."""
    return free_path(Path.cwd() / name, ".json")


def _seed(options: argparse.Namespace) -> int:
    return random.randrange(2**32) if options.seed is None else options.seed


# --------------------------------------------------------------------------------------- parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freeswim",
        description="Make and remake shots, up to 4K, on your own GPU.",
    )
    parser.add_argument("--version", action="version", version=f"freeswim {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = _command(commands, "demo", _demo, "a koi clip and its regeneration, on any machine")
    demo.add_argument("--out", type=Path, metavar="FOLDER", help="default: ./freeswim-demo")

    _add_takes(commands, _make)
    plan = commands.add_parser(
        "plan",
        help="what a take would need: work, memory, disk, minutes",
        description="Forecast the take that the command after `plan` would make.",
    )
    _add_takes(plan.add_subparsers(required=True, metavar="COMMAND"), _plan)

    bench = _command(commands, "bench", _bench, "how fast this machine is, as ratios in one run")
    bench.add_argument("what", choices=("attention", "refine", "autoencoder", "write", "all"))
    bench.add_argument("--shape", choices=("mid", "1.3b-1080p", "1.3b-4k"), default="mid")
    bench.add_argument("--quick", action="store_true", help="a shape that shows it runs, no more")
    bench.add_argument(
        "--frames", type=_at_least_one, metavar="N", help="through the autoencoder; default 9"
    )
    bench.add_argument("--rounds", type=_at_least_one, default=3, metavar="N", help="default 3")
    bench.add_argument(
        "--threads", type=_at_least_one, metavar="N", help="of a CPU; 1: processor time, not wall"
    )
    bench.add_argument("--out", type=Path, metavar="FILE", help="default: ./freeswim-bench.json")
    bench.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    bench.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    return parser


def _add_takes(commands: Any, run: Callable[[argparse.Namespace], None]) -> None:
    """The three commands that ask for a take."""
    generate = _command(commands, "generate", run, "a take from a prompt or a first frame")
    generate.set_defaults(ask=_generate)
    generate.add_argument("prompt", metavar="PROMPT")
    generate.add_argument("--image", type=Path, metavar="FILE", help="first frame")
    generate.add_argument("--last-image", type=Path, metavar="FILE", help="last frame")
    generate.add_argument("--size", metavar="WxH", help="of the take, or a multiple: 2x")
    generate.add_argument("--target_width", type=int, metavar="N", help="the same, one side")
    generate.add_argument("--target_height", type=int, metavar="N", help="the same, one side")
    generate.add_argument("--frames", type=int, metavar="N", help="of the take")
    generate.add_argument("--draft", action="store_true", help="stop at native size")
    _add_making(generate)

    refine = _command(commands, "refine", run, "a clip made again at high resolution")
    refine.set_defaults(ask=_refine)
    refine.add_argument("file", type=Path, metavar="FILE", help="any video file")
    refine.add_argument("--prompt", default="", metavar="TEXT", help="what the clip shows")
    refine.add_argument("--size", default="2x", metavar="WxH", help="or a multiple; default 2x")
    refine.add_argument("--start", type=int, default=0, metavar="N", help="first frame of the clip")
    refine.add_argument("--frames", type=int, metavar="N", help="default: to the clip's end")
    _add_making(refine)

    finish = _command(commands, "finish", run, "a draft carried on to its full size")
    finish.set_defaults(ask=_finish)
    finish.add_argument("take", type=Path, metavar="TAKE", help="the draft's video")
    _add_output(finish)


def _bytes(text: str) -> float:
    """Memory written in gigabytes: 12, or 12GB."""
    number = float(text.lower().removesuffix("gb"))
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no memory")
    return number * 1e9


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="events for programs, one a line")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, metavar="FILE", help="the take, .mp4")
    command.add_argument("--overwrite", action="store_true", help="replace files that are there")
    command.add_argument(
        "--job",
        type=Path,
        metavar="FOLDER",
        help="keep checkpoints there; the same command goes on",
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    command.add_argument(
        "--memory",
        type=_bytes,
        metavar="GB",
        help="of the device, to use at most; default: all free",
    )


def _add_making(command: argparse.ArgumentParser) -> None:
    _add_output(command)
    command.add_argument("--preset", metavar="NAME", help="named defaults; see the presets folder")
    command.add_argument("--model", metavar="NAME", help="another checkpoint than the preset's")
    command.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="a LoRA, .safetensors; may be given again; high=FILE or low=FILE: for one expert",
    )
    command.add_argument("--negative-prompt", metavar="TEXT")
    command.add_argument("--seed", type=int, metavar="N", help="default: a new one")
    command.add_argument(
        "--strength", type=float, metavar="S", help="how much is made anew, 0 to 1"
    )
    command.add_argument("--steps", type=int, metavar="N", help="of both passes")
    command.add_argument("--guidance", type=float, metavar="G", help="of both passes; 1 is off")
    command.add_argument("--interval", type=int, metavar="N", help="steps between refreshes")
    command.add_argument(
        "--mode", choices=("cache", "nocache"), help="nocache: refresh at every step, both forwards"
    )
    command.add_argument("--attention", choices=("auto", "natten", "flex", "tiled"))
    command.add_argument(
        "--full-branch",
        choices=("full", "interpolated", "native", "none"),
        help="what it sees; native costs little, none leaves it out",
    )
    command.add_argument(
        "--keep",
        choices=("plain", "fp8"),
        help="what the full branch leaves; fp8 in half the memory",
    )
    command.add_argument(
        "--step-cache",
        choices=("none", "first-block", "taylorseer"),
        help="skip work between refreshes; faster, and near",
    )
    command.add_argument(
        "--weights",
        choices=("plain", "int8", "fp8", "fp8-cast"),
        help="smaller than plain needs less memory and changes the picture a little",
    )


if __name__ == "__main__":
    sys.exit(main())
