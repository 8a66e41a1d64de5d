"""The story of one take, readable top to bottom: load, base pass, upsample, refine pass, write.

The method itself is in method/; everything that decides the pixels is in the request.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from freeswim import __version__, sidecar
from freeswim.checkpoint import Checkpoints
from freeswim.errors import MediaError, RequestError
from freeswim.history import PastRun, past_runs, remember
from freeswim.ladder import AllRungsFailed, climb
from freeswim.machine import inspect
from freeswim.method.attention import choose_backends, window_candidates
from freeswim.method.denoise import refine, sample_base
from freeswim.method.schedule import ResumePoint, add_noise
from freeswim.method.settings import RefineSettings
from freeswim.models.conditioning import Text, encode_prompt, image_condition
from freeswim.models.loading import (
    NO_CHANGES,
    Components,
    check_checkpoint,
    choose_device,
    load,
    plan_loras,
)
from freeswim.models.lora import Changes
from freeswim.models.memory import MemoryPolicy
from freeswim.models.warm import Warm
from freeswim.output import as_output_error, check_disk, check_place, publish, workspace
from freeswim.plan import Plan, admit, make_plan, shape_of, too_large
from freeswim.preview import Previews
from freeswim.request import Request
from freeswim.sidecar import Take
from freeswim.video import autoencoder, canvas
from freeswim.video.reader import Clip, probe, read_frames, read_image
from freeswim.video.writer import check_output, encode_video


@dataclass(frozen=True)
class Progress:
    """How far a take is. `step` counts finished steps of the stage."""

    stage: str  # encode prompt, load, base, upsample, refine, write
    step: int
    num_steps: int
    seconds: float  # since the work began


# Called at every step; may raise Cancelled to stop. Nothing is left behind then.
OnProgress = Callable[[Progress], None]


@dataclass
class Story:
    """Where one run is: reports progress, measures stages, has its checkpoints."""

    on_progress: OnProgress | None = None
    checkpoints: Checkpoints | None = None  # None: the run is not to be resumed
    scratch: Path | None = None  # folder of temporary files; None: the system's
    previews: Previews | None = None
    policy: MemoryPolicy = field(default_factory=MemoryPolicy)
    failed: list[str] = field(default_factory=list[str])  # policies that ran out of memory
    points: dict[str, ResumePoint] = field(default_factory=dict[str, ResumePoint])  # of each pass
    runs: dict[str, int] = field(default_factory=dict[str, int])  # how often a stage ran whole
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str, num_steps: int = 1) -> Iterator[Callable[..., None]]:
        """A stage of the work; yields what is to be called after each of its steps."""

        def report(step: int, *_: object) -> None:
            if self.on_progress is not None:
                self.on_progress(Progress(name, step, num_steps, time.monotonic() - self.started))

        began = time.monotonic()
        report(0)
        yield report
        report(num_steps)
        self.runs[name] = self.runs.get(name, 0) + 1
        spent = self.seconds.get(name, 0.0) + time.monotonic() - began
        self.seconds[name] = round(spent, 3)

    def look(
        self, components: Components, report: Callable[[int], None]
    ) -> Callable[[int, int, Tensor, Tensor], None]:
        """What a pass is to call after each of its steps: `report`, and a preview at times."""

        def after_step(step: int, num_steps: int, latents: Tensor, denoised: Tensor) -> None:
            report(step)
            if self.previews is not None:
                self.previews.show(components.vae, denoised)

        return after_step

    def resume_point(self, name: str, device: torch.device) -> ResumePoint | None:
        """Where a rung of the ladder, or an earlier run of the same request, left pass `name`."""
        point = self.points.get(name)
        if point is None and self.checkpoints is not None:
            point = self.checkpoints.latest(name)
        if point is None:
            return None
        self.runs[name] = 1  # a run before this one: what is left of the pass is not all of it
        return point.to(device)

    def keep(self, name: str, point: ResumePoint) -> None:
        """Keep a resume point of pass `name`, in host memory and, for a job, on the disk."""
        self.points[name] = point.to(torch.device("cpu"))
        if self.checkpoints is not None:
            self.checkpoints.save(name, point)


@torch.no_grad()
def generate(
    request: Request,
    output: Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    draft_latents: Path | None = None,
    job_dir: Path | None = None,
    memory: float | None = None,
    warm: Warm | None = None,
    previews: Previews | None = None,
    on_progress: OnProgress | None = None,
) -> Take:
    """Make the take that `request` describes and write it to `output`, its sidecar beside it.

    Args:
        request: everything that decides the pixels.
        output: the video file, .mp4.
        device: auto, or a device of torch.
        overwrite: whether files at `output` may be replaced.
        draft_latents: of the draft that this request finishes; they spare the base pass and
            change nothing else.
        job_dir: a folder for checkpoints; the same request goes on from them, to the same bytes.
        memory: bytes of the device's memory that may be used; None: all that is free.
        warm: what the last take left loaded, and where this one leaves its checkpoint.
        previews: where pictures of the take under way go; None: there are none.
        on_progress: called at every step; may raise to stop.

    Returns:
        The take as it lies on the disk.

    Raises:
        FreeswimError: of any kind; nothing new is left behind then but checkpoints in `job_dir`.
    """
    output = output.expanduser().absolute()
    for path in (sidecar.sidecar_path(output), sidecar.latents_path(output)):
        check_place(path, overwrite)
    check_output(output, overwrite)
    source = open_clip(request)
    images = open_images(request)
    check_checkpoint(request.model)
    loras = open_loras(request)
    torch_device = choose_device(device)
    if request.needs_refine:
        window_candidates(request.refine, request.window, torch_device)  # or ends here
    warm = warm or Warm()
    machine = inspect(torch_device)
    machine = replace(machine, host_bytes=machine.host_bytes + warm.memory_bytes)
    plan = make_plan(request, machine.limited(memory), past_runs())
    policies = admit(plan)
    check_disk(output, plan.disk_bytes)
    story = Story(on_progress, scratch=output.parent, previews=previews)

    def make(policy: MemoryPolicy) -> Take:
        story.policy = policy
        with as_output_error(output):
            text = read_prompt(request, torch_device, story)
        key = f"{request.weights_key()} {torch_device} {policy}"
        load_anew = partial(load_checkpoint, request, torch_device, story, loras)
        with warm.components(key, load_anew) as components:
            story.checkpoints = _checkpoints(request, components, job_dir)
            with as_output_error(output):
                if source is None:
                    latents = base_pass(components, request, text, images, draft_latents, story)
                    if request.needs_refine:
                        frames = draft_frames(components, latents, request, story)
                        latents = refine_pass(components, request, text, frames, images, story)
                else:
                    frames, shown = clip_frames(source, request), first_frame_of(source, request)
                    latents = refine_pass(components, request, text, frames, shown, story)

            take = Take(
                media=output,
                request=request,
                frame_rate=request.model.frame_rate if source is None else source.frame_rate,
                attention_backend=attention_backend(request, components),
                device=str(torch_device),
                dtype=str(components.transformer.dtype).removeprefix("torch."),
                memory_policy=str(policy),
                out_of_memory=tuple(story.failed),
                seconds=story.seconds,
                versions=_versions(),
                latents=sidecar.latents_path(output) if request.draft else None,
            )
            write_take(components, take, latents, story, overwrite=overwrite)
            return take

    try:
        take = climb(policies, make, lambda policy: story.failed.append(str(policy)))
    except AllRungsFailed as error:
        remember(_past_run(plan, story, policy=""))
        raise too_large(plan) from error
    remember(_past_run(plan, story, policy=take.memory_policy))
    if story.checkpoints is not None:
        story.checkpoints.clear()
    return take


# ------------------------------------------------------------------------ what the person gave


def open_clip(request: Request) -> Clip | None:
    """The clip that is remade, checked against the request."""
    if request.clip is None:
        return None
    request.clip.check_unchanged()
    clip = probe(request.clip.path)
    if request.clip_start + request.frames > clip.num_frames:
        raise RequestError(
            f"{request.clip.path.name} has {clip.num_frames} frames; "
            f"{request.frames} from frame {request.clip_start} are more than there are.",
            hint=f"Ask for {max(clip.num_frames - request.clip_start, 0)} or fewer.",
        )
    return clip


def open_images(request: Request) -> list[np.ndarray]:
    """First and last frame, as far as the request has them, (H, W, 3) uint8."""
    images = []
    for media in (request.first_image, request.last_image):
        if media is not None:
            media.check_unchanged()
            images.append(read_image(media.path))
    return images


def open_loras(request: Request) -> Mapping[str, Changes]:
    """What the request's LoRAs change in each transformer, checked against the checkpoint."""
    for lora in request.loras:
        lora.file.check_unchanged()
    return plan_loras(request.model, request.loras)


def attention_backend(request: Request, components: Components) -> str | None:
    """What the refine pass computed attention with, as the sidecar says it.

    That of the window, `full` where it covers everything; with `+sage` where SageAttention
    computed the full branch.
    """
    if not request.needs_refine:
        return None
    transformer = components.transformer
    backends = choose_backends(
        request.refine,
        request.window,
        components.device,
        transformer.dtype,
        transformer.config["attention_head_dim"],
    )
    window = "full" if request.window.is_full else backends.window
    return window if backends.full == "exact" else f"{window}+{backends.full}"


def first_frame_of(clip: Clip, request: Request) -> list[np.ndarray]:
    """What a checkpoint that needs an image gets where a clip is remade: its first frame."""
    if request.model.takes_text:
        return []
    first = next(clip_frames(clip, request))
    return [np.rint((first.permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)]


# -------------------------------------------------------------------------------------- stages


def read_prompt(request: Request, device: torch.device, story: Story) -> Text:
    """Prompt and negative prompt through the text encoder, or from where they are kept."""
    with story.stage("encode prompt"):
        return encode_prompt(request.model, request.prompt, request.negative_prompt, device)


def load_checkpoint(
    request: Request,
    device: torch.device,
    story: Story,
    loras: Mapping[str, Changes] = NO_CHANGES,
) -> Components:
    """The checkpoint of the request, LoRAs in its weights, where the memory policy wants it."""
    with story.stage("load"):
        return load(
            request.model, device, changes=loras, precision=request.weights, policy=story.policy
        )


def base_pass(
    components: Components,
    request: Request,
    text: Text,
    images: Sequence[np.ndarray],
    draft_latents: Path | None,
    story: Story,
) -> Tensor:
    """Clean latents at native size, (1, C, T, h, w): sampled, or taken from the draft."""
    noise = _noise(components, request, request.base_size, request.seed)
    if draft_latents is not None:
        return _read_latents(draft_latents, noise.shape).to(components.device)
    with story.stage("base", request.base.steps) as report:
        return sample_base(
            components.transformer,
            noise,
            text.prompt,
            text.negative,
            scheduler=components.scheduler,
            settings=request.base,
            condition=image_condition(
                components, images, request.base_size, request.computed_frames
            ),
            low_noise=components.low_noise,
            resume=story.resume_point("base", components.device),
            on_step=story.look(components, report),
            on_resume_point=partial(story.keep, "base"),
        )


def draft_frames(
    components: Components, latents: Tensor, request: Request, story: Story
) -> Iterator[Tensor]:
    """Frames of the base video at the computed size, bilinear: (3, height, width) in [-1, 1].

    Each is decoded and resized when it is asked for: the whole clip is never in memory.
    """
    decoded = autoencoder.decode_frames(components.vae, latents, folder=story.scratch)
    return canvas.resized(decoded, request.computed_size)


def clip_frames(clip: Clip, request: Request) -> Iterator[Tensor]:
    """Frames of the person's clip at the take's size, on the computed canvas; as `draft_frames`."""
    return canvas.filled(
        read_frames(clip.path, start=request.clip_start, num_frames=request.frames),
        size=(request.width, request.height),
        canvas_size=request.computed_size,
        canvas_frames=request.computed_frames,
    )


def refine_pass(
    components: Components,
    request: Request,
    text: Text,
    frames: Iterable[Tensor],
    images: Sequence[np.ndarray],
    story: Story,
    *,
    settings: RefineSettings | None = None,
    native_grid: tuple[int, int] | None = None,
) -> Tensor:
    """Latents of a video made again at its own size by the refine pass.

    Args:
        frames: (3, height, width) in [-1, 1] each, at the computed size; not read where the pass
            goes on from a checkpoint.
        settings: other settings than the request's, for comparisons.
        native_grid: another window than the checkpoint's, for comparisons; (rows, columns).
    """
    settings = settings or request.refine
    native_grid = native_grid or (request.window.native_rows, request.window.native_columns)
    resume = story.resume_point("refine", components.device)
    if resume is not None:
        latents = resume.latents
    else:
        with story.stage("upsample", request.computed_frames) as report:
            clean = autoencoder.encode_frames(
                components.vae,
                frames,
                num_frames=request.computed_frames,
                size=request.computed_size,
                on_frame=report,
                folder=story.scratch,
            )
        # A stream of its own: the noise is the same whether the base pass has run here or not.
        noise = _noise(components, request, request.computed_size, request.seed + 2**32)
        latents = add_noise(clean, noise, settings)
    with story.stage("refine", settings.num_refine_steps) as report:
        latents = refine(
            components.transformer,
            latents,
            text.prompt,
            text.negative,
            native_grid=native_grid,
            settings=settings,
            condition=image_condition(
                components, images, request.computed_size, request.computed_frames
            ),
            low_noise=components.low_noise,
            keep_on=story.policy.kept,
            resume=resume,
            on_step=story.look(components, report),
            on_resume_point=partial(story.keep, "refine"),
        )
    return latents


def write_take(
    components: Components, take: Take, latents: Tensor, story: Story, *, overwrite: bool
) -> None:
    """Decode, cut, encode and put in place: the video, its sidecar, and a draft's latents.

    Frames go to the video file as they are finished; the whole clip is never in memory.
    """
    request, output = take.request, take.media
    width, height = request.take_size
    with as_output_error(output), workspace(output) as folder:
        media, said, kept = folder / output.name, folder / "take.json", None
        with story.stage("write", request.computed_frames) as report:
            frames = autoencoder.decode_frames(
                components.vae, latents, on_frame=report, folder=folder
            )
            encode_video(
                media,
                canvas.take_frames(frames, size=request.take_size, num_frames=request.frames),
                width=width,
                height=height,
                frame_rate=take.frame_rate,
                num_frames=request.frames,
                comment=request.as_json(),
                final_name=output,
            )
        if take.latents is not None:
            kept = folder / "latents.safetensors"
            kept.write_bytes(save({"latents": latents.cpu().contiguous()}))
        story.seconds["all"] = round(time.monotonic() - story.started, 3)
        said.write_text(sidecar.sidecar_text(take, media, kept), "utf-8")

        publish(media, output, overwrite)
        # The name is ours now: what lies beside it belongs to this take.
        publish(said, sidecar.sidecar_path(output), overwrite=True)
        if take.latents is not None and kept is not None:
            publish(kept, take.latents, overwrite=True)
        else:  # those of a draft that this take replaces
            sidecar.latents_path(output).unlink(missing_ok=True)


# ------------------------------------------------------------------------------------- details


def _noise(components: Components, request: Request, size: tuple[int, int], seed: int) -> Tensor:
    """N(0, 1) in the shape of the latents of `size`, drawn on the CPU: the same on every device."""
    factor = components.vae.config["scale_factor_spatial"]
    width, height = size
    shape = (
        1,
        components.vae.config["z_dim"],
        (request.computed_frames - 1) // components.vae.config["scale_factor_temporal"] + 1,
        height // factor,
        width // factor,
    )
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(components.device)


def _checkpoints(
    request: Request, components: Components, job_dir: Path | None
) -> Checkpoints | None:
    """The checkpoints of this request on this kind of device with these versions."""
    if job_dir is None:
        return None
    key = [request.digest(), components.device.type, str(components.transformer.dtype), _versions()]
    return Checkpoints(job_dir, hashlib.sha256(json.dumps(key).encode()).hexdigest())


def _read_latents(path: Path, shape: torch.Size) -> Tensor:
    try:
        latents = load_file(path)["latents"]
    except (OSError, KeyError, SafetensorError) as error:
        raise MediaError(
            f"The draft's {path.name} cannot be read.", hint="Make the take without the draft."
        ) from error
    if latents.shape != shape or latents.dtype != torch.float32:
        raise MediaError(
            f"The draft's {path.name} is of another request.",
            hint="Make the take without the draft.",
        )
    return latents


def _past_run(plan: Plan, story: Story, *, policy: str) -> PastRun:
    """What this run teaches about this machine: the stages that ran whole, and once."""
    request = plan.request
    whole = {name: story.seconds[name] for name in plan.work if story.runs.get(name) == 1}
    return PastRun(
        machine=plan.machine.name,
        checkpoint=request.checkpoint,
        weights=request.weights,
        shape=shape_of(request),
        policy=policy,
        failed=tuple(story.failed),
        work=plan.work,
        seconds=whole,
    )


def _versions() -> dict[str, str]:
    packages = ("torch", "diffusers", "transformers", "numpy", "av", "imageio-ffmpeg")
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"freeswim": __version__, "python": platform.python_version(), **found}
