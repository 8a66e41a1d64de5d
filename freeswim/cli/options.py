"""What more than one command takes: their options, and the request that these describe.

Nothing heavy is imported here: options are read before anything else happens.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freeswim.cli import terminal
from freeswim.errors import RequestError
from freeswim.output import free_path, take_name

if TYPE_CHECKING:
    from freeswim.request import Request

DEFAULT_PRESETS = ("wan21-1.3b-1080p", "demo")  # the first whose checkpoint is on this machine
MOST_SEEDS = 64  # of one submission
MOST_LISTED = 500  # rows of one answer of the studio

Run = Callable[[argparse.Namespace], None]


@dataclass(frozen=True)
class Asked:
    """What the person asked to have made."""

    request: Request
    name: str  # of the file, where the person named none
    out: Path | None
    draft: Path | None = None  # the video of the draft that is finished
    draft_latents: Path | None = None  # its latents, if they are still there

    def place(self) -> Path:
        """Where the take goes that is made here: its name in this folder, where none was given."""
        return self.out or free_path(Path.cwd() / self.name, ".json")


def _generate(options: argparse.Namespace) -> Asked:
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
    return Asked(request, name, options.out)


def _refine(options: argparse.Namespace) -> Asked:
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
    return Asked(Request.parse(fields), name, options.out)


def _finish(options: argparse.Namespace) -> Asked:
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
    return Asked(draft.changed(draft=False), name, options.out, media, latents)


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
    fields: dict[str, Any] = preset.defaults | {"loras": [read_lora(text) for text in options.lora]}
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


def read_lora(text: str) -> dict[str, Any]:
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


def _seed(options: argparse.Namespace) -> int:
    return random.randrange(2**32) if options.seed is None else options.seed


# -------------------------------------------------------------------------------------- options


def add_command(commands: Any, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """A command with the options that all of them have."""
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="events for programs, one a line")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def add_takes(commands: Any, run: Run, *, for_queue: bool = False) -> None:
    """The three commands that ask for a take.

    Args:
        run: gets options of which `ask` makes an Asked.
        for_queue: the studio makes them, so nothing can be said of where and on what.
    """
    add_place = _add_queued if for_queue else _add_output
    generate = add_command(commands, "generate", run, "a take from a prompt or a first frame")
    generate.set_defaults(ask=_generate)
    generate.add_argument("prompt", metavar="PROMPT")
    generate.add_argument("--image", type=Path, metavar="FILE", help="first frame")
    generate.add_argument("--last-image", type=Path, metavar="FILE", help="last frame")
    generate.add_argument("--size", metavar="WxH", help="of the take, or a multiple: 2x")
    generate.add_argument("--target_width", type=int, metavar="N", help="the same, one side")
    generate.add_argument("--target_height", type=int, metavar="N", help="the same, one side")
    generate.add_argument("--frames", type=int, metavar="N", help="of the take")
    generate.add_argument("--draft", action="store_true", help="stop at native size")
    add_place(generate)
    _add_making(generate)

    refine = add_command(commands, "refine", run, "a clip made again at high resolution")
    refine.set_defaults(ask=_refine)
    refine.add_argument("file", type=Path, metavar="FILE", help="any video file")
    refine.add_argument("--prompt", default="", metavar="TEXT", help="what the clip shows")
    refine.add_argument("--size", default="2x", metavar="WxH", help="or a multiple; default 2x")
    refine.add_argument("--start", type=int, default=0, metavar="N", help="first frame of the clip")
    refine.add_argument("--frames", type=int, metavar="N", help="default: to the clip's end")
    add_place(refine)
    _add_making(refine)

    finish = add_command(commands, "finish", run, "a draft carried on to its full size")
    finish.set_defaults(ask=_finish)
    finish.add_argument("take", type=Path, metavar="TAKE", help="the draft's video")
    if for_queue:
        finish.set_defaults(out=None, seeds=[])
        _add_order(finish)
    else:
        _add_output(finish)


def at_least_one(text: str) -> int:
    """A count as an option has it."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _bytes(text: str) -> float:
    """Memory written in gigabytes: 12, or 12GB."""
    number = float(text.lower().removesuffix("gb"))
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no memory")
    return number * 1e9


def _seeds(text: str) -> list[int]:
    """Seeds written with commas between: 1,2,3."""
    seeds = [int(part) for part in text.split(",")]
    if len(seeds) > MOST_SEEDS:
        raise argparse.ArgumentTypeError(f"{len(seeds)} are more than {MOST_SEEDS}")
    return seeds


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
    command.add_argument(
        "--local", action="store_true", help="make it here, not in the studio that runs"
    )


def _add_queued(command: argparse.ArgumentParser) -> None:
    command.set_defaults(out=None)
    command.add_argument(
        "--seeds", type=_seeds, default=[], metavar="N,N,N", help="a job for each, of one shot"
    )
    command.add_argument("--shot", default="", metavar="NAME", help="that the takes are of")
    _add_order(command)


def _add_order(command: argparse.ArgumentParser) -> None:
    command.add_argument("--front", action="store_true", help="before all jobs that wait")


def _add_making(command: argparse.ArgumentParser) -> None:
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
