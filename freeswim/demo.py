"""`freeswim demo`: the method shown on any machine with the checkpoint that comes along.

A native draft, its regeneration at four times the size, a picture that compares what the method is
made of, and a timeline with both takes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from freeswim.errors import OutputExists
from freeswim.generate import (
    OnProgress,
    Story,
    base_pass,
    draft_frames,
    generate,
    load_checkpoint,
    read_prompt,
    refine_pass,
)
from freeswim.models.loading import choose_device
from freeswim.output import as_output_error, check_place, workspace
from freeswim.presets import load_preset
from freeswim.request import Request
from freeswim.sidecar import Take, latents_path
from freeswim.timeline.export import ClipTake, ShotTakes, write_timeline
from freeswim.video import canvas
from freeswim.video.autoencoder import decode_frames
from freeswim.video.reader import read_frames

# Chosen among ten pictures because it shows the differences plainly; others are less tidy.
PROMPT = "three white koi swimming up in teal water"
SEED = 7


@dataclass(frozen=True)
class DemoReport:
    """What the demo made."""

    files: list[Path]
    seconds: dict[str, dict[str, float]]  # run -> stage -> seconds


def run_demo(folder: Path, *, on_progress: OnProgress | None = None) -> DemoReport:
    """Make the folder of the demo, whole or not at all.

    Raises:
        OutputExists: the folder is there.
        FreeswimError: of any other kind.
    """
    folder = folder.expanduser().absolute()
    if os.path.lexists(folder):
        raise OutputExists(f"{folder} is already there.", hint="Name another folder.")
    check_place(folder, overwrite=False)
    with as_output_error(folder), workspace(folder) as parent:
        making = parent / folder.name
        making.mkdir()
        names, seconds = _make(making, on_progress)
        making.rename(folder)
    return DemoReport([folder / name for name in names], seconds)


def _make(
    folder: Path, on_progress: OnProgress | None
) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Files of the demo in the order a person looks at them, and the seconds of each run."""
    request = Request.parse(
        {"kind": "text", "prompt": PROMPT, "seed": SEED, **load_preset("demo").defaults}
    )
    names = ["draft.mp4", "regenerated.mp4", "comparison.png", "demo.otio"]
    draft_file, take_file, picture_file, timeline_file = (folder / name for name in names)

    draft = generate(request.changed(draft=True), draft_file, on_progress=on_progress)
    latents = latents_path(draft_file)
    take = generate(request, take_file, draft_latents=latents, on_progress=on_progress)
    pictures, seconds = _compare(request, latents, on_progress)
    middle = request.frames // 2
    pictures["FreeSwim"] = next(read_frames(take_file, start=middle, num_frames=1))
    _draw_comparison(pictures).save(picture_file)
    takes = (_clip_take(take, "regenerated"), _clip_take(draft, "draft"))
    write_timeline(timeline_file, [ShotTakes("koi", takes, active=0)], name="FreeSwim demo")
    return names, {"draft": draft.seconds, "regenerated": take.seconds, **seconds}


@torch.no_grad()
def _compare(
    request: Request, latents: Path, on_progress: OnProgress | None
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """The middle frame of what the take is compared with, and the seconds each took."""
    story = Story(on_progress)
    device = choose_device()
    text = read_prompt(request, device, story)
    components = load_checkpoint(request, device, story)
    draft = base_pass(components, request, text, [], latents, story)
    upsampled = list(draft_frames(components, draft, request, story))
    alone = replace(request.refine, guidance="none")
    ways = {
        "full attention": (
            alone,
            (request.window.rows, request.window.columns),
        ),  # a window as large as the frame
        "window only": (alone, None),
    }
    pictures, seconds = {"upsampled draft": _middle(upsampled, request)}, {}
    for way, (settings, native_grid) in ways.items():
        story = Story(on_progress)
        made = refine_pass(
            components, request, text, upsampled, [], story,
            settings=settings, native_grid=native_grid,
        )  # fmt: skip
        pictures[way] = _middle(list(decode_frames(components.vae, made)), request)
        seconds[way] = story.seconds | {"all": sum(story.seconds.values())}
    return pictures, seconds


def _middle(frames: list[Tensor], request: Request) -> np.ndarray:
    """The middle frame, (height, width, 3) uint16."""
    middle, size = frames[request.frames // 2], (request.width, request.height)
    return next(canvas.take_frames([middle], size=size, num_frames=1))


def _draw_comparison(pictures: dict[str, np.ndarray]) -> Image.Image:
    """The pictures side by side, each under its name."""
    font, gap, heading = ImageFont.load_default(20), 8, 32
    height, width = next(iter(pictures.values())).shape[:2]
    sheet = Image.new("RGB", ((width + gap) * len(pictures) - gap, height + heading), "#1c1c1c")
    draw = ImageDraw.Draw(sheet)
    for index, (name, picture) in enumerate(pictures.items()):
        left = index * (width + gap)
        draw.text((left + 4, 4), name, fill="#dddddd", font=font)
        sheet.paste(Image.fromarray((picture >> 8).astype(np.uint8)), (left, heading))
    return sheet


def _clip_take(take: Take, name: str) -> ClipTake:
    request = take.request
    width, height = request.take_size
    metadata = {
        "prompt": request.prompt,
        "negative": request.negative_prompt,
        "seed": str(request.seed),
        "model": request.checkpoint,
        "request_sha256": request.digest(),
    }
    return ClipTake(take.media, name, request.frames, take.frame_rate, width, height, metadata)
