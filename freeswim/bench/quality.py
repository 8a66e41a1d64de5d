"""`freeswim bench quality`: what the method is worth, in pictures that can be counted.

Every prompt is drafted at native size; every method makes the same draft larger, from the same
noise; measures.py says what became of it. plan.py lists the units of the work, and each is a file
in the folder of the run: a run that is started again goes on, and several processes share them.

For the demo checkpoint the pond is counted and compared with true renders. For others, whose
pictures nobody can count, those columns are left out; what takes the place of the truth is the
enlarged draft.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from freeswim.bench.measures import Clip, Floats, clip_figures, true_render
from freeswim.bench.plan import (
    CODED_TRUTH,
    COMPARED,
    DRAFT,
    ENLARGED,
    METHODS,
    TRUTH,
    Method,
    Plan,
    Unit,
    file_stem,
)
from freeswim.errors import FreeswimError, RequestError
from freeswim.generate import Story, base_pass, draft_frames, load_checkpoint, read_prompt
from freeswim.method.denoise import refine
from freeswim.method.schedule import add_noise
from freeswim.method.settings import RefineSettings
from freeswim.models.conditioning import Text
from freeswim.models.loading import Components, choose_device
from freeswim.output import publish, workspace
from freeswim.presets import load_preset
from freeswim.quiet import quiet_libraries
from freeswim.request import Request
from freeswim.video import autoencoder
from freeswim.video.writer import write_video

FIRST_SEED = 700
LOOK_EVERY = 0.5  # seconds between looks at the workers
PICTURE = 160  # pixels along the longer side of a picture in a sheet


def run(
    plan: Plan,
    folder: Path,
    *,
    device: str = "auto",
    workers: int = 1,
    threads: int | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> list[Clip]:
    """Make and measure what `folder` lacks of the plan; returns the clips of all units.

    Args:
        folder: of the run; it may hold a part of it.
        device: as `choose_device` takes it.
        workers: processes that share the units; 1: this one does it all.
        threads: of torch in each process, on a CPU; None: its share of what torch takes.
        on_note: called with a line after every unit.

    Raises:
        RequestError: the folder holds a run of another plan.
        FreeswimError: a worker failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, plan)
    choose_device(device)
    threads = threads or max(1, torch.get_num_threads() // workers)
    if workers == 1:
        own_threads = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            _work(folder, device, 0, 1, on_note)
        finally:
            torch.set_num_threads(own_threads)
    else:
        _work_together(plan, folder, device, workers, threads, on_note)
    return [
        Clip(**fields)
        for unit in plan.units()
        for fields in json.loads((folder / f"{unit.name}.json").read_text("utf-8"))
    ]


def _claim(folder: Path, plan: Plan) -> None:
    place, text = folder / "plan.json", json.dumps(asdict(plan), indent=1) + "\n"
    if not place.exists():
        _write(place, text)
    elif place.read_text("utf-8") != text:
        raise RequestError(
            f"{folder} holds a run of something else: other settings, or other weights.",
            hint="Name another folder.",
        )


def _work_together(
    plan: Plan,
    folder: Path,
    device: str,
    workers: int,
    threads: int,
    on_note: Callable[[str], None],
) -> None:
    """As many processes as workers; a process that ends badly is an error."""
    units = plan.units()
    waiting = {unit.name for unit in units if not (folder / f"{unit.name}.json").exists()}
    with ExitStack() as stack:
        processes = []
        for number in range(workers):
            said = stack.enter_context((folder / f"worker-{number}.log").open("w"))
            argument = json.dumps([str(folder), device, number, workers, threads])
            command = [sys.executable, "-m", "freeswim.bench.quality", argument]
            processes.append(subprocess.Popen(command, stdout=said, stderr=said))
            stack.callback(processes[-1].wait)
            stack.callback(processes[-1].kill)
        states: list[int | None] = [None]
        while None in states:
            time.sleep(LOOK_EVERY)
            states = [process.poll() for process in processes]
            for name in sorted(waiting):
                if (folder / f"{name}.json").exists():
                    waiting.remove(name)
                    on_note(f"{name}, {len(units) - len(waiting)} of {len(units)}")
            if any(states):
                break
    for number, state in enumerate(states):
        if state:
            lines = (folder / f"worker-{number}.log").read_text("utf-8").strip().splitlines()
            last = lines[-1] if lines else f"exit status {state}"
            raise FreeswimError(f"A process of the benchmark failed: {last}")


def _work(
    folder: Path, device: str, number: int, workers: int, on_note: Callable[[str], None]
) -> None:
    """Every unit of this worker's share that is not there yet."""
    fields = json.loads((folder / "plan.json").read_text("utf-8"))
    lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
    plan = Plan(**(fields | lists))
    maker = Maker(plan, choose_device(device))
    units = plan.units()
    for index, unit in enumerate(units):
        place = folder / f"{unit.name}.json"
        if index % workers != number or place.exists():
            continue
        began = time.monotonic()
        made = maker.make(unit)
        clips = [clip for clip, _ in made]
        if unit.is_shown:
            _keep_pictures(folder, unit, made, maker)
        _write(place, json.dumps([asdict(clip) for clip in clips]) + "\n")
        seconds = time.monotonic() - began
        on_note(f"{unit.name}, {index + 1} of {len(units)}: {seconds:.0f} s")


# ------------------------------------------------------------------------------------- one unit


@dataclass(frozen=True)
class _Start:
    """What every method starts from."""

    request: Request
    text: Text
    base: Tensor  # latents of the draft
    draft: Floats  # (T, h, w, 3), 0…1
    enlarged: Floats  # (T, H, W, 3), 0…1
    clean: Tensor  # latents of the enlarged draft


class Maker:
    """Makes units, with a checkpoint that stays loaded."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        self._prompts = plan.all_prompts()
        self._components: Components | None = None

    def request(self, unit: Unit) -> Request:
        """What the preset would make of a unit."""
        fields = load_preset(self.plan.preset).defaults
        native = Request.parse({"kind": "text", "prompt": "koi", **fields, "draft": False})
        width, height = native.base_size
        return native.changed(
            prompt=self._prompts[unit.prompt].text,
            seed=FIRST_SEED + 1000 * unit.seed + unit.prompt,
            width=width * unit.factor,
            height=height * unit.factor,
            frames=self.plan.frames,
            base=asdict(replace(native.base, steps=self.plan.base_steps)),
            refine=asdict(replace(native.refine, steps=self.plan.refine_steps)),
        )

    @torch.no_grad()
    def make(self, unit: Unit) -> list[tuple[Clip, Floats]]:
        """Every row of the table for one unit, and its frames, (T, H, W, 3), 0…1."""
        prompt = self._prompts[unit.prompt]
        start = self._start(self.request(unit))
        truth = true_render(prompt, start.request) if prompt.is_pond else None
        measured = partial(
            clip_figures, prompt, start.request.seed, unit.factor,
            base=start.draft, truth=start.enlarged if truth is None else truth,
        )  # fmt: skip
        made = [
            (measured(DRAFT, None, start.draft, seconds=0.0), start.draft),
            (measured(ENLARGED, None, start.enlarged, seconds=0.0), start.enlarged),
        ]
        if truth is not None:
            coded = self._coded(truth)
            made += [
                (measured(TRUTH, None, truth, seconds=0.0), truth),
                (measured(CODED_TRUTH, None, coded, seconds=0.0), coded),
            ]
        for strength in self.plan.strengths:
            for method in METHODS:
                began = time.monotonic()
                latents = self._refined(start, method, strength)
                seconds = time.monotonic() - began
                video = self._decoded(latents)
                made.append((measured(method.name, strength, video, seconds=seconds), video))
        return made

    @property
    def vae(self) -> Any:
        """The checkpoint's autoencoder."""
        assert self._components is not None
        return self._components.vae

    def _start(self, request: Request) -> _Start:
        story = Story()
        text = read_prompt(request, self.device, story)
        if self._components is None:
            self._components = load_checkpoint(request, self.device, story)
            _in_half(self._components)
        base = base_pass(self._components, request, text, [], None, story)
        frames = torch.stack(list(draft_frames(self._components, base, request, story)), dim=1)
        clean = autoencoder.encode(self.vae, frames[None])
        return _Start(request, text, base, self._decoded(base), _as_frames(frames), clean)

    def _refined(self, start: _Start, method: Method, strength: float) -> Tensor:
        """The refine pass of `generate`, with other settings."""
        assert self._components is not None
        request = start.request
        settings: RefineSettings = replace(
            request.refine,
            strength=strength,
            guidance=method.guidance,
            refresh_interval=method.interval,
        )
        window = request.window
        native = (window.native_rows, window.native_columns)
        generator = torch.Generator().manual_seed(request.seed + 2**32)
        noise = torch.randn(start.clean.shape, generator=generator).to(start.clean)
        return refine(
            self._components.transformer,
            add_noise(start.clean, noise, settings),
            start.text.prompt,
            start.text.negative,
            native_grid=(window.rows, window.columns) if method.is_whole else native,
            settings=settings,
            low_noise=self._components.low_noise,
        )

    def _decoded(self, latents: Tensor) -> Floats:
        return _as_frames(autoencoder.decode(self.vae, latents)[0])

    def _coded(self, frames: Floats) -> Floats:
        """Frames after a round trip through the autoencoder."""
        video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] * 2 - 1
        return self._decoded(autoencoder.encode(self.vae, video))


def _in_half(components: Components) -> None:
    """The transformers in bfloat16, on a CPU too, as they are computed on a GPU.

    On a CPU the autoencoder as well. Where the processor knows bfloat16, the first are twice as fast
    and the second five times; its pictures are 57 dB from those in float32. What a checkpoint keeps in
    float32 stays so.
    """
    parts: list[Any] = [components.transformer]
    if components.low_noise is not None:
        parts.append(components.low_noise.transformer)
    if components.device.type == "cpu":
        parts.append(components.vae)
    for part in parts:
        kept = part._keep_in_fp32_modules or ()
        for name, weight in part.named_parameters():
            if not any(one in name for one in kept):
                weight.data = weight.data.to(torch.bfloat16)


def _as_frames(video: Tensor) -> Floats:
    """(3, T, H, W) in [-1, 1] → (T, H, W, 3), 0…1, float32."""
    return ((video.permute(1, 2, 3, 0) + 1) / 2).clamp(0, 1).float().cpu().numpy()


# ---------------------------------------------------------------------------------------- files


def _keep_pictures(
    folder: Path, unit: Unit, made: Sequence[tuple[Clip, Floats]], maker: Maker
) -> None:
    """The middle frames of a unit, small, and the clips that a blind test compares."""
    for clip, frames in made:
        stem = file_stem(unit.name, clip.method, clip.strength)
        frame = Image.fromarray((frames[len(frames) // 2] * 255).round().astype(np.uint8))
        side = PICTURE / max(frame.size)
        small = frame.resize(
            (round(frame.width * side), round(frame.height * side)), Image.Resampling.LANCZOS
        )
        _replace(folder / f"{stem}.png", small.save)
        if clip.method not in COMPARED or clip.strength != maker.plan.strengths[0]:
            continue
        num_frames, height, width, _ = frames.shape
        _replace(
            folder / f"{stem}.mp4",
            partial(
                write_video, frames=_written(frames), width=width, height=height,
                frame_rate=maker.request(unit).model.frame_rate, num_frames=num_frames,
            ),
        )  # fmt: skip


def _written(frames: Floats) -> Iterator[np.ndarray]:
    for frame in frames:
        yield (frame * 65535).round().astype(np.uint16)


def _write(place: Path, text: str) -> None:
    _replace(place, lambda part: part.write_bytes(text.encode()))


def _replace(place: Path, write: Callable[[Path], object]) -> None:
    """A file in its place in one step, whatever was there."""
    with workspace(place) as folder:
        part = folder / place.name
        write(part)
        publish(part, place, overwrite=True)


def main(argument: str) -> None:
    """Be one worker of several."""
    folder, device, number, workers, threads = json.loads(argument)
    torch.set_num_threads(threads)
    _work(Path(folder), device, number, workers, lambda line: None)


if __name__ == "__main__":
    quiet_libraries()
    main(sys.argv[1])
