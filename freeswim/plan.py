"""The forecast of a take, before anything is loaded: work, memory, disk, minutes.

Memory is counted from the catalog's figures, for every memory policy; the fastest that fits is
taken, or the request is refused with the axis that fails and the smallest change that fits.
Minutes come from what this machine has done before, and from nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from freeswim.errors import FreeswimError, OutOfMemory
from freeswim.history import PastRun, Work
from freeswim.limits import TILE, TOKENS_AT_ONCE, WHOLE_FRAME, rows_at_once
from freeswim.method.settings import full_branch_window, kept_bytes, step_cache_bytes
from freeswim.models.catalog import Architecture, Checkpoint
from freeswim.models.memory import MemoryPolicy, policies
from freeswim.request import Request

GB = 10**9

# Of the process without weights and their work (measured: Linux, torch for the CPU); a CUDA context
# and its libraries come on top, on both sides (assumed: no GPU was at hand).
PROGRAM_BYTES = 580 * 10**6
CUDA_BYTES = 800 * 10**6
# Bytes for each pixel of a frame on the host while frames pass: resized, coded, written.
FRAME_BYTES = 60
# What convolutions take beside their tensors: (encoding, decoding). Measured on the CPU; assumed
# on CUDA.
WORKSPACE = {"cpu": (1.2, 2.2), "cuda": (1.25, 1.25)}
# Of the temporary file in which tiled frames wait, for each pixel of every frame; and of the take.
DECODE_SCRATCH_BYTES, ENCODE_SCRATCH_BYTES, TAKE_BYTES = 7, 10, 0.5


@dataclass(frozen=True)
class Machine:
    """What a take is made on."""

    device_type: str  # cpu or cuda
    name: str  # of the GPU, else of the CPU
    host_bytes: int  # memory that is free
    device_bytes: int = 0  # of the GPU that is free; 0: there is none

    def limited(self, budget: float | None) -> Machine:
        """The same with at most `budget` bytes of the device's memory, on a CPU of the host's."""
        if budget is None:
            return self
        if self.device_type == "cpu":
            return Machine("cpu", self.name, min(self.host_bytes, int(budget)))
        device_bytes = min(self.device_bytes, int(budget))
        return Machine(self.device_type, self.name, self.host_bytes, device_bytes)


@dataclass(frozen=True)
class Need:
    """The most memory that a take needs at one time under one policy."""

    policy: MemoryPolicy
    host_bytes: int
    device_bytes: int  # 0 on a CPU
    stage: str  # of the work, where the most is needed

    def fits(self, machine: Machine) -> bool:
        """Whether there is as much."""
        return self.host_bytes <= machine.host_bytes and (
            machine.device_type == "cpu" or self.device_bytes <= machine.device_bytes
        )


@dataclass(frozen=True)
class Plan:
    """The forecast of one request on one machine."""

    request: Request
    machine: Machine
    needs: tuple[Need, ...]  # the fastest policy first
    minutes: dict[str, float | None]  # per stage; None: not measured yet
    failed: tuple[str, ...] = ()  # policies that ran out of memory at this shape before

    @property
    def work(self) -> Work:
        """Per stage: PFLOP of the passes, megapixels times frames of the autoencoder."""
        return work_of(self.request)

    @property
    def disk_bytes(self) -> int:
        """Of the take and of what waits on the disk while it is made."""
        return disk_bytes(self.request)

    @property
    def tokens(self) -> int:
        """Of the last pass."""
        return _tokens(self.request, self.request.canvas_size)

    def stages(self) -> Iterator[tuple[str, str, float | None]]:
        """(stage, work with its unit, minutes) of each."""
        for stage, work in self.work.items():
            if stage not in ("base", "refine"):
                said = f"{work:.3g} Mpx · frames"
            else:
                said = f"{work:.3g} PFLOP" if work >= 1 else f"{1000 * work:.3g} TFLOP"
            yield stage, said, self.minutes[stage]

    @property
    def all_minutes(self) -> float | None:
        """Of all stages together; None: one of them is not measured yet."""
        known = [minutes for minutes in self.minutes.values() if minutes is not None]
        return sum(known) if len(known) == len(self.minutes) else None

    def verdict(self, need: Need) -> str:
        """What the plan does with a policy, in words."""
        if not need.fits(self.machine):
            return "does not fit"
        if self.admitted[0] == need.policy:
            return "taken"
        return "ran out of memory before" if str(need.policy) in self.failed else "fits"

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "tokens": self.tokens,
            "work": self.work,
            "minutes": self.minutes,
            "disk_bytes": self.disk_bytes,
            "machine": asdict(self.machine),
            "needs": [
                {
                    "policy": str(need.policy),
                    "device_bytes": need.device_bytes,
                    "host_bytes": need.host_bytes,
                    "stage": need.stage,
                    "verdict": self.verdict(need),
                }
                for need in self.needs
            ],
        }

    @property
    def admitted(self) -> tuple[MemoryPolicy, ...]:
        """The policies that fit, the one to begin with first."""
        fitting = [need.policy for need in self.needs if need.fits(self.machine)]
        untried = [policy for policy in fitting if str(policy) not in self.failed]
        return tuple(untried or fitting[-1:])


def make_plan(request: Request, machine: Machine, past: Sequence[PastRun] = ()) -> Plan:
    """The forecast of `request` on `machine`, with the minutes that `past` runs of it tell."""
    here = [run for run in past if run.machine == machine.name]
    shape = shape_of(request)
    failed = {policy for run in here if run.shape == shape for policy in run.failed}
    return Plan(
        request,
        machine,
        tuple(_needs(request, machine.device_type)),
        _minutes(request, here),
        tuple(sorted(failed)),
    )


def admit(plan: Plan) -> tuple[MemoryPolicy, ...]:
    """The policies to make the take with, one after the other where memory runs out.

    Raises:
        OutOfMemory: none fits; names what is short, by how much, and the smallest change that fits.
    """
    if not plan.admitted:
        raise too_large(plan)
    return plan.admitted


def too_large(plan: Plan) -> OutOfMemory:
    """What is short, by how much, and the smallest changes that fit.

    Where the forecast said that it would fit and it did not, they fit with a fifth to spare.
    """
    leanest, machine = plan.needs[-1], plan.machine
    width, height = plan.request.canvas_size
    what = f"{width}x{height}, {plan.request.computed_frames} frames"
    if machine.device_type == "cpu" or leanest.host_bytes > machine.host_bytes:
        where, needed, free = "", leanest.host_bytes, machine.host_bytes
    else:
        where, needed, free = f" on {machine.name}", leanest.device_bytes, machine.device_bytes
    if plan.admitted:
        message = f"{what}: {needed / GB:.1f} GB of memory{where} were not enough."
        machine = machine.limited(0.8 * needed)
    else:
        message = (
            f"{what}, need {needed / GB:.1f} GB of memory{where}; {free / GB:.1f} GB may be used."
        )
    changes = list(_fitting_changes(plan.request, machine))
    hint = f"This would fit: {', or '.join(changes)}." if changes else "Use a smaller checkpoint."
    return OutOfMemory(message, hint=f"{hint} Or close what else uses memory.")


def shape_of(request: Request) -> str:
    """What decides the memory of a take, as one name."""
    width, height = request.canvas_size
    settings = request.refine
    refine = f"{settings.guidance} {settings.kept_precision} {settings.step_cache}"
    return (
        f"{request.checkpoint} {request.weights} {width}x{height}x{request.computed_frames} "
        f"{refine if request.needs_refine else 'base'}"
    )


# ------------------------------------------------------------------------------------------- work


def work_of(request: Request) -> Work:
    """Work of each stage of the take."""
    model, frames = request.model, request.computed_frames
    work: Work = {}
    rows = 1 if request.base.guidance_scale == 1 else 2
    if request.kind != "clip":
        tokens = _tokens(request, request.base_size)
        steps = request.base.steps * rows
        work["base"] = steps * _forward_flop(model.architecture, tokens, tokens) / 1e15
    if request.needs_refine:
        coded = [request.computed_size] + ([request.base_size] if request.kind != "clip" else [])
        work["upsample"] = sum(_megapixels(size) for size in coded) * frames
        work["refine"] = _refine_flop(request) / 1e15
    work["write"] = _megapixels(request.canvas_size) * frames
    return work


def _refine_flop(request: Request) -> float:
    """Of all forwards of the refine pass (method.md 6)."""
    settings, window = request.refine, request.window
    architecture, steps = request.model.architecture, request.refine.num_refine_steps
    rows = 2 if settings.guides else 1
    flop = steps * rows * _forward_flop(architecture, window.num_tokens, window.num_keys)
    refreshes = math.ceil(steps / settings.refresh_interval)
    overridden = rows if settings.override_unconditional else 1
    if settings.guidance != "none":
        seen = full_branch_window(settings.guidance, window).num_tokens
        full = _forward_flop(architecture, seen, seen)
        flop += refreshes * overridden * full
    return flop


def _forward_flop(architecture: Architecture, tokens: int, keys: int) -> float:
    """Of one forward of one row: the matrices, and attention over `keys` keys a query."""
    width, blocks = architecture.width, architecture.blocks
    linear = 2 * tokens * blocks * (6 * width**2 + 2 * width * architecture.ffn_width)
    return linear + 4 * tokens * keys * width * blocks


def _tokens(request: Request, size: tuple[int, int]) -> int:
    multiple = request.model.multiple
    frames = (request.computed_frames - 1) // 4 + 1
    return frames * (size[0] // multiple) * (size[1] // multiple)


def _megapixels(size: tuple[int, int]) -> float:
    return size[0] * size[1] / 1e6


# ----------------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class _Bytes:
    """What the parts of a request weigh on one kind of device."""

    request: Request
    device_type: str

    @property
    def element(self) -> int:
        """Of an activation, and of a plain weight."""
        return 2 if self.device_type == "cuda" else 4

    @property
    def checkpoint(self) -> Checkpoint:
        return self.request.model

    @cached_property
    def blocks(self) -> int:
        """Blocks of one transformer, as they are stored."""
        figures = self.checkpoint.architecture
        stored = self.element if self.request.weights == "plain" else 1
        return figures.blocks * figures.block_parameters * stored

    @property
    def outside_blocks(self) -> int:
        """The rest of one transformer; some of it is float32."""
        return 4 * self.checkpoint.architecture.other_parameters

    @property
    def expert(self) -> int:
        """One transformer."""
        return self.blocks + self.outside_blocks

    @property
    def autoencoder(self) -> int:
        return self.checkpoint.architecture.autoencoder.weight_bytes

    @property
    def text_encoder(self) -> int:
        return self.element * self.checkpoint.architecture.text_encoder_parameters

    def forward(self, tokens: int, *, rows: int) -> int:
        """Activations of a forward: the larger of self-attention and the last norm, and inputs."""
        figures, element = self.checkpoint.architecture, self.element
        width = figures.width
        # Tokens before and after the norm, queries, keys, values, the output, and that in order; on
        # a CPU the tiles that are computed instead.
        attention = (8 if self.device_type == "cpu" else 7) * element * width
        norm = (element + 12) * width  # the last one is whole, in float32
        at_once = min(rows, rows_at_once(tokens, self.device_type))
        row = max(attention, norm)
        piece = min(tokens, TOKENS_AT_ONCE[self.device_type])
        inside = 2 * element * figures.ffn_width * piece * at_once
        if self.request.kind == "image" and self.checkpoint.takes_text:
            # The first frame's timestep is 0, so every token has a modulation of its own: the blocks'
            # six and the last norm's, kept all the while; in float32 where they are used.
            row = max(attention, norm + 8 * width) + 7 * element * width
            inside += 28 * width * piece * at_once
        latents = 4 * figures.autoencoder.latent_channels * figures.patch**2
        return inside + tokens * (at_once * row + 8 * figures.head_dim + 3 * latents)

    @property
    def kept(self) -> int:
        """Kept cross-attention outputs of all blocks."""
        figures = self.checkpoint.architecture
        return kept_bytes(
            self.request.refine,
            self.request.window,
            num_blocks=figures.blocks,
            width=figures.width,
            bytes_per_value=self.element,
        )

    @property
    def refine(self) -> int:
        """A refine step, without what is kept."""
        settings, window = self.request.refine, self.request.window
        width = self.checkpoint.architecture.width
        step = self.forward(window.num_tokens, rows=2 if settings.guides else 1)
        step += step_cache_bytes(settings, window, width=width, bytes_per_value=self.element)
        if settings.guidance == "native" or settings.kept_precision == "fp8":
            step += window.num_tokens * width * self.element  # one block's, as it is used
        return step

    def encode(self, size: tuple[int, int]) -> int:
        tensors = self.checkpoint.architecture.autoencoder.encode_bytes
        return int(WORKSPACE[self.device_type][0] * tensors * _coded_at_once(size))

    def decode(self, size: tuple[int, int]) -> int:
        tensors = self.checkpoint.architecture.autoencoder.decode_bytes
        return int(WORKSPACE[self.device_type][1] * tensors * _coded_at_once(size))


def _needs(request: Request, device_type: str) -> Iterator[Need]:
    """What every policy needs, the fastest policy first."""
    weigh = _Bytes(request, device_type)
    experts = request.model.num_experts
    size = request.canvas_size
    frames = FRAME_BYTES * size[0] * size[1]
    for policy in policies(device_type, experts):
        stages = _stages(weigh, policy)
        stage = max(stages, key=lambda name: stages[name])
        if device_type == "cpu":
            loaded = experts * weigh.expert + weigh.autoencoder
            yield Need(
                policy,
                PROGRAM_BYTES + max(weigh.text_encoder, loaded + stages[stage] + frames),
                0,
                stage,
            )
            continue
        held = {"whole": experts, "swapped": 1, "streamed": 0}[policy.weights] * weigh.expert
        if policy.weights == "streamed":  # the block that runs, the next, and one on its way out
            held = weigh.outside_blocks * experts
            held += 3 * weigh.blocks // request.model.architecture.blocks
        device = CUDA_BYTES + held + weigh.autoencoder + stages[stage]
        waiting = weigh.kept if policy.kept == "host" else 0
        all_experts = experts * weigh.expert
        resting = all_experts if policy.weights == "streamed" else all_experts - held
        host = PROGRAM_BYTES + CUDA_BYTES
        host += max(weigh.text_encoder, all_experts, resting + waiting + frames)
        yield Need(policy, host, device, stage)


def _stages(weigh: _Bytes, policy: MemoryPolicy) -> dict[str, int]:
    """Bytes that each stage needs beside the weights where it computes."""
    request = weigh.request
    stages: dict[str, int] = {}
    if request.kind != "clip":
        rows = 1 if request.base.guidance_scale == 1 else 2
        stages["base"] = weigh.forward(_tokens(request, request.base_size), rows=rows)
    if request.needs_refine:
        kept = weigh.kept
        if policy.kept == "host":  # the block that runs and the next
            kept = 2 * kept // weigh.checkpoint.architecture.blocks
        # Tiled frames have all been decoded before the first tile is encoded; smaller ones not.
        coded = [weigh.encode(request.computed_size)]
        if request.kind != "clip":
            coded.append(weigh.decode(request.base_size))
        stages["upsample"] = max(coded) if _is_tiled(request.computed_size) else sum(coded)
        stages["refine"] = weigh.refine + kept
    stages["write"] = weigh.decode(request.canvas_size)
    return stages


def _is_tiled(size: tuple[int, int]) -> bool:
    return size[0] * size[1] > WHOLE_FRAME


def _coded_at_once(size: tuple[int, int]) -> int:
    """Pixels that the autoencoder codes at once (video/autoencoder.py)."""
    return TILE * TILE if _is_tiled(size) else size[0] * size[1]


def disk_bytes(request: Request) -> int:
    """Of the take, and of the temporary files of tiled frames while it is made."""
    width, height = request.canvas_size
    pixels, frames = width * height, request.computed_frames
    scratch = max(DECODE_SCRATCH_BYTES, ENCODE_SCRATCH_BYTES if request.needs_refine else 0)
    waiting = scratch if _is_tiled((width, height)) else 0
    return int((TAKE_BYTES + waiting) * pixels * frames)


# --------------------------------------------------------------------------------- what would fit


def _fitting_changes(request: Request, machine: Machine) -> Iterator[str]:
    """The smallest change along each axis that makes the request fit, in words."""

    def fits(changed: Request) -> bool:
        return any(need.fits(machine) for need in _needs(changed, machine.device_type))

    if request.weights == "plain" and fits(request.changed(weights="int8")):
        yield "--weights int8"
    if request.refine.guidance == "full":
        settings = request.as_dict()["refine"] | {"guidance": "native"}
        if fits(request.changed(refine=settings)):
            yield "--full-branch native"
    frames = range(request.computed_frames - 4, 0, -4)
    for changed in _first(fits, (_changed(request, frames=count) for count in frames)):
        yield f"{changed.frames} frames"
    sizes = [
        (round(request.width * share / 100), round(request.height * share / 100))
        for share in range(95, 5, -5)
    ]
    for changed in _first(
        fits, (_changed(request, width=width, height=height) for width, height in sizes)
    ):
        yield f"{changed.width}x{changed.height}"


def _changed(request: Request, **fields: int) -> Request | None:
    try:
        return request.changed(**fields)
    except FreeswimError:
        return None  # the checkpoint cannot make it


def _first(fits: Callable[[Request], bool], changed: Iterable[Request | None]) -> Iterator[Request]:
    for one in changed:
        if one is not None and fits(one):
            yield one
            return


# ---------------------------------------------------------------------------------------- minutes

NEAREST = 3  # past runs that a forecast is the median of


def _minutes(request: Request, past: Sequence[PastRun]) -> dict[str, float | None]:
    alike = [run for run in past if (run.checkpoint, run.weights) == _weights_of(request)]
    return {stage: _stage_minutes(stage, work, alike) for stage, work in work_of(request).items()}


def _weights_of(request: Request) -> tuple[str, str]:
    return request.checkpoint, request.weights


def _stage_minutes(stage: str, work: float, past: Sequence[PastRun]) -> float | None:
    """From the runs whose work at this stage was nearest: the median of their speeds."""
    measured = [
        (abs(math.log(run.work[stage] / work)), run.seconds[stage] / run.work[stage])
        for run in past
        if run.work.get(stage, 0) > 0 and stage in run.seconds
    ]
    if not measured:
        return None
    speeds = sorted(speed for _, speed in sorted(measured)[:NEAREST])
    return work * speeds[len(speeds) // 2] / 60
