"""One take, end to end, with the checkpoint that comes inside the package."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel

from freeswim import plan
from freeswim.errors import Cancelled, MediaError, OutOfMemory, OutputExists, RequestError
from freeswim.generate import Progress, generate
from freeswim.history import past_runs
from freeswim.method.settings import BaseSettings, RefineSettings
from freeswim.models.demo.koi import caption, render, sample_scene
from freeswim.models.memory import policies
from freeswim.request import Media, Request
from freeswim.sidecar import draft_latents, latents_path, read_sidecar, sidecar_path
from freeswim.video.reader import probe, read_frames
from freeswim.video.writer import write_video

FILM = Fraction(24000, 1001)


def koi_request(**changes: Any) -> Request:
    """A quick request: few steps, twice the native size."""
    return Request.parse(
        {
            "kind": "text",
            "checkpoint": "demo",
            "prompt": "two orange koi swimming left in green water",
            "width": 256,
            "height": 256,
            "frames": 5,
            "seed": 7,
            "base": BaseSettings(steps=3, guidance_scale=4.0),
            "refine": RefineSettings(steps=5, strength=0.4, guidance_scale=2, refresh_interval=2),
            **changes,
        }
    )


@pytest.fixture
def pond(tmp_path: Path) -> Path:
    """A clip of true renders, 20 frames of 96x64 at 23.976 fps."""
    scene = sample_scene(np.random.default_rng(3))
    frames = render(scene, 64, 96, num_frames=20)
    path = tmp_path / f"{caption(scene).replace(' ', '-')}.mp4"
    pixels = ((frame * 65535).astype(np.uint16) for frame in frames)
    write_video(path, pixels, width=96, height=64, frame_rate=FILM, num_frames=20)
    return path


def clip_request(pond: Path, **changes: Any) -> Request:
    return koi_request(
        **{"kind": "clip", "clip": Media.of(pond), "width": 192, "height": 128, **changes}
    )


def test_take_is_what_was_asked_for_and_says_how_it_was_made(tmp_path: Path):
    request = koi_request()
    take = generate(request, tmp_path / "take.mp4")
    clip = probe(take.media)
    assert (clip.width, clip.height, clip.num_frames, clip.frame_rate) == (256, 256, 5, 8)
    said = json.loads(sidecar_path(take.media).read_text())
    assert Request.parse(said["request"]) == request
    assert said["request_sha256"] == request.digest()
    assert said["computed"]["attention_backend"] == "tiled"
    assert said["computed"]["base_size"] == [128, 128]
    assert said["seed"] == 7
    assert {"freeswim", "torch", "diffusers"} <= said["versions"].keys()
    assert {"load", "base", "refine", "write"} <= said["seconds"].keys()
    with av.open(str(take.media)) as container:
        assert Request.parse(json.loads(container.metadata["comment"])) == request
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["take.json", "take.mp4"]


def test_same_request_gives_the_same_bytes_and_another_seed_others(tmp_path: Path):
    files = [
        generate(koi_request(seed=seed), tmp_path / f"{index}.mp4").media.read_bytes()
        for index, seed in enumerate([7, 7, 8])
    ]
    assert files[0] == files[1] != files[2]


def test_finishing_a_draft_gives_the_bytes_of_the_take_made_in_one_go(tmp_path: Path):
    request = koi_request()
    draft = generate(request.changed(draft=True), tmp_path / "draft.mp4")
    assert (probe(draft.media).width, draft.attention_backend) == (128, None)
    latents = draft_latents(draft.media, read_sidecar(draft.media))
    assert latents == latents_path(draft.media)
    stages: list[str] = []
    finished = generate(
        request,
        tmp_path / "finished.mp4",
        draft_latents=latents,
        on_progress=lambda progress: stages.append(progress.stage),
    )
    assert "base" not in stages
    whole = generate(request, tmp_path / "whole.mp4")
    assert finished.media.read_bytes() == whole.media.read_bytes()


def test_latents_of_another_request_are_refused(tmp_path: Path):
    draft = generate(koi_request(draft=True, frames=9), tmp_path / "draft.mp4")
    with pytest.raises(MediaError, match="of another request"):
        generate(koi_request(), tmp_path / "take.mp4", draft_latents=draft.latents)
    latents_path(draft.media).write_bytes(b"cut off")
    assert draft_latents(draft.media, read_sidecar(draft.media)) is None
    with pytest.raises(MediaError, match="cannot be read"):
        generate(koi_request(frames=9), tmp_path / "take.mp4", draft_latents=draft.latents)


@pytest.mark.parametrize("size, computed", [((250, 136), (256, 144)), ((197, 131), (208, 144))])
def test_any_size_and_frame_count_are_computed_larger_and_cut(
    tmp_path: Path, size: tuple[int, int], computed: tuple[int, int]
):
    request = koi_request(width=size[0], height=size[1], frames=6)
    take = generate(request, tmp_path / "take.mp4")
    said = read_sidecar(take.media)["computed"]
    assert (tuple(said["size"]), said["frames"]) == (computed, 9)
    clip = probe(take.media)
    assert (clip.width, clip.height, clip.num_frames) == (*size, 6)
    assert any("cropped" in note for note in take.request.notes)
    assert any("9 frames are computed" in note for note in take.request.notes)


def test_native_size_needs_no_refine_pass(tmp_path: Path):
    take = generate(koi_request(width=128, height=128), tmp_path / "take.mp4")
    assert "refine" not in take.seconds
    assert any("nothing to refine" in note for note in take.request.notes)


def test_clip_is_remade_at_its_own_rate_from_the_frame_asked_for(tmp_path: Path, pond: Path):
    barely = {"steps": 10, "strength": 0.1, "flow_shift": 1.0, "guidance_scale": 1.0}
    prompt = pond.stem.replace("-", " ")
    request = clip_request(pond, prompt=prompt, clip_start=4, frames=7, refine=barely)
    take = generate(request, tmp_path / "take.mp4")
    clip = probe(take.media)
    assert (clip.width, clip.height, clip.num_frames) == (192, 128, 7)
    assert clip.frame_rate == FILM
    assert "base" not in take.seconds
    # Hardly anything is made anew, so the take is close to its source, frame by frame.
    source = list(read_frames(pond, start=4, num_frames=7))
    for remade, original in zip(read_frames(take.media), source, strict=True):
        assert closeness(remade, original) > max(18.0, closeness(remade, source[0]) - 0.5)


def closeness(large: np.ndarray, small: np.ndarray) -> float:
    """PSNR of a frame, averaged down to half its size, against another, in dB."""
    height, width = small.shape[:2]
    mean = large.reshape(height, 2, width, 2, 3).mean((1, 3))
    error = float(np.mean((mean / 65535 - small / 65535.0) ** 2))
    return -10 * np.log10(error)


def test_more_frames_than_the_clip_has_are_refused_before_any_work(tmp_path: Path, pond: Path):
    with pytest.raises(RequestError, match="has 20 frames; 5 from frame 18"):
        generate(clip_request(pond, clip_start=18, frames=5), tmp_path / "take.mp4")


def test_clip_that_changed_since_the_request_is_refused(tmp_path: Path, pond: Path):
    request = clip_request(pond)
    pond.write_bytes(pond.read_bytes() + b"x")
    with pytest.raises(MediaError, match="has changed"):
        generate(request, tmp_path / "take.mp4")


def test_progress_tells_every_step_of_every_stage_in_order(tmp_path: Path):
    seen: list[Progress] = []
    generate(koi_request(), tmp_path / "take.mp4", on_progress=seen.append)
    order = list(dict.fromkeys(progress.stage for progress in seen))
    assert order == ["encode prompt", "load", "base", "upsample", "refine", "write"]
    for stage, num_steps in (("base", 3), ("refine", 2), ("write", 5)):
        steps = [progress.step for progress in seen if progress.stage == stage]
        assert steps == sorted(steps) and set(steps) == set(range(num_steps + 1))
    seconds = [progress.seconds for progress in seen]
    assert seconds == sorted(seconds)


def stop_at(stage: str, step: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if (progress.stage, progress.step) == (stage, step):
            raise Cancelled()

    return report


@pytest.mark.parametrize(
    "stage, step",
    [
        ("load", 0), ("encode prompt", 1), ("base", 1), ("upsample", 0),
        ("upsample", 1), ("refine", 1), ("write", 0), ("write", 3), ("write", 5),
    ],
)  # fmt: skip
def test_cancel_leaves_nothing_behind_but_what_was_there(tmp_path: Path, stage: str, step: int):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Cancelled):
        generate(koi_request(), tmp_path / "take.mp4", on_progress=stop_at(stage, step))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_cancel_while_overwriting_keeps_the_old_take(tmp_path: Path):
    first = generate(koi_request(draft=True), tmp_path / "take.mp4")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Cancelled):
        generate(koi_request(seed=9), first.media, overwrite=True, on_progress=stop_at("write", 2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_take_that_replaces_a_draft_leaves_none_of_it(tmp_path: Path):
    draft = generate(koi_request(draft=True), tmp_path / "take.mp4")
    generate(koi_request(width=128, height=128), draft.media, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["take.json", "take.mp4"]
    assert not Request.parse(read_sidecar(draft.media)["request"]).draft


@pytest.mark.parametrize("name", ["take.mp4", "take.json", "take.latents.safetensors"])
def test_file_that_is_there_is_never_overwritten_unasked(tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExists, match=name):
        generate(koi_request(), tmp_path / "take.mp4")
    assert (tmp_path / name).read_text() == "mine"


# ---------------------------------------------------------------------------------- out of memory


class SmallGpu:
    """Stands where the transformer's forward is: the GPU has no memory for some policies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, failures: int, every: int = 4) -> None:
        self.forwards, self.failures = 0, failures
        forward = WanTransformer3DModel.forward

        def counted(transformer: WanTransformer3DModel, *args: Any, **kwargs: Any) -> Any:
            self.forwards += 1
            if self.forwards % every == 0 and self.failures > 0:
                self.failures -= 1
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(transformer, *args, **kwargs)

        monkeypatch.setattr(WanTransformer3DModel, "forward", counted)
        ladder = policies("cuda", num_experts=1)
        monkeypatch.setattr(plan, "policies", lambda device_type, num_experts: ladder)


@pytest.mark.parametrize("failures, policy", [(1, 0), (2, 1), (4, 3)])
def test_take_that_ran_out_of_memory_has_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, policy: int
):
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    request = koi_request(
        base={"steps": 6}, refine={"steps": 10, "strength": 0.6, "refresh_interval": 2}
    )
    plain = generate(request, tmp_path / "plain.mp4").media.read_bytes()
    SmallGpu(monkeypatch, failures=failures)
    take = generate(request, tmp_path / "take.mp4")
    assert take.media.read_bytes() == plain
    ladder = [str(one) for one in policies("cuda", num_experts=1)]
    computed = read_sidecar(take.media)["computed"]
    assert computed["memory_policy"] == ladder[policy]
    assert computed["out_of_memory"] == ladder[:policy]
    last, first = past_runs()
    assert (last.policy, list(last.failed)) == (ladder[policy], ladder[:policy])
    assert first.failed == ()
    again = generate(request, tmp_path / "again.mp4")  # begins where this one ended
    assert (again.memory_policy, again.out_of_memory) == (ladder[policy], ())


def test_machine_that_is_too_small_leaves_nothing_but_what_it_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    SmallGpu(monkeypatch, failures=99, every=1)
    with pytest.raises(OutOfMemory, match=r"GB of memory.* were not enough") as caught:
        generate(koi_request(base={"steps": 6}), tmp_path / "take.mp4")
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    (run,) = past_runs()
    assert run.policy == ""
    assert len(run.failed) == 4


def test_budget_that_no_policy_fits_is_refused_before_anything_is_loaded(tmp_path: Path):
    seen: list[Progress] = []
    with pytest.raises(OutOfMemory, match=r"0\.3 GB may be used"):
        generate(koi_request(), tmp_path / "take.mp4", memory=0.3e9, on_progress=seen.append)
    assert seen == []


def test_speeds_of_a_run_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FREESWIM_HOME", str(tmp_path / "home"))
    generate(koi_request(), tmp_path / "take.mp4")
    (run,) = past_runs()
    assert set(run.seconds) == set(run.work) == {"base", "upsample", "refine", "write"}
    assert all(seconds > 0 for seconds in run.seconds.values())
