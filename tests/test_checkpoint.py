from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from freeswim.checkpoint import Checkpoints
from freeswim.errors import Cancelled, NumericalError
from freeswim.generate import Progress, generate
from freeswim.method.denoise import refine
from freeswim.method.schedule import ResumePoint, refine_schedule, take_resume_point
from freeswim.method.settings import BaseSettings, RefineSettings
from freeswim.request import Media, Request


def koi_request(**changes: object) -> Request:
    """Both passes in few steps: the refine pass refreshes at its steps 0, 2 and 4."""
    return Request.parse(
        {
            "kind": "text",
            "checkpoint": "demo",
            "prompt": "one gold koi swimming up in blue water",
            "width": 160,
            "height": 144,
            "frames": 5,
            "seed": 3,
            "base": BaseSettings(steps=3),
            "refine": RefineSettings(steps=5, strength=1.0, guidance_scale=2, refresh_interval=2),
            **changes,
        }
    )


def point(step: int) -> ResumePoint:
    """A resume point in the middle of a pass."""
    scheduler, timesteps = refine_schedule(RefineSettings(steps=9), torch.device("cpu"))
    latents = torch.randn(1, 4, 2, 6, 6, generator=torch.Generator().manual_seed(step))
    for timestep in timesteps[:3]:
        latents = scheduler.step(latents * 0.1, timestep, latents, return_dict=False)[0]
    return take_resume_point(scheduler, step, latents)


def assert_same(left: ResumePoint | None, right: ResumePoint) -> None:
    assert left is not None
    for field in dataclasses.fields(ResumePoint):
        ours, theirs = getattr(left, field.name), getattr(right, field.name)
        if isinstance(theirs, torch.Tensor | tuple):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        else:
            assert ours == theirs


def steps_of(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir())


def test_resume_point_comes_back_as_it_was(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "job", "key")
    assert checkpoints.latest("refine") is None
    checkpoints.save("refine", point(3))
    assert_same(checkpoints.latest("refine"), point(3))
    assert checkpoints.latest("base") is None


def test_two_are_kept_of_each_pass(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, "key")
    for step in (2, 4, 6, 10):
        checkpoints.save("refine", point(step))
    checkpoints.save("base", point(1))
    assert steps_of(tmp_path) == ["base-00001", "refine-00006", "refine-00010"]
    checkpoints.clear()
    assert steps_of(tmp_path) == []


def test_clearing_touches_no_other_file(tmp_path: Path):
    (tmp_path / "mine.safetensors").touch()
    Checkpoints(tmp_path, "key").clear()
    assert steps_of(tmp_path) == ["mine"]


def cut(content: bytes) -> bytes:
    return content[:-40]


def flip(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


def empty(content: bytes) -> bytes:
    return b""


def noise(content: bytes) -> bytes:
    return b"\xff" * len(content)


@pytest.mark.parametrize("damage", [cut, flip, empty, noise])
def test_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
):
    checkpoints = Checkpoints(tmp_path, "key")
    checkpoints.save("refine", point(2))
    checkpoints.save("refine", point(4))
    last = tmp_path / "refine-00004.safetensors"
    last.write_bytes(damage(last.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert_same(checkpoints.latest("refine"), point(2))
    assert "refine-00004.safetensors is passed over" in caplog.text
    first = tmp_path / "refine-00002.safetensors"
    first.write_bytes(damage(first.read_bytes()))
    assert checkpoints.latest("refine") is None


def test_checkpoint_of_another_run_is_passed_over(tmp_path: Path):
    Checkpoints(tmp_path, "one").save("refine", point(2))
    assert Checkpoints(tmp_path, "another").latest("refine") is None


def test_disk_that_refuses_costs_the_checkpoint_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    Checkpoints(tmp_path / "file" / "job", "key").save("refine", point(2))
    assert "no checkpoint of refine at step 2" in caplog.text


# ------------------------------------------------------------------------------ whole takes


def stop_at(stage: str, step: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if (progress.stage, progress.step) == (stage, step):
            raise Cancelled()

    return report


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return generate(koi_request(), tmp_path_factory.mktemp("whole") / "t.mp4").media.read_bytes()


STOPS = [
    *(("base", step) for step in (1, 2, 3)),
    ("upsample", 0),
    ("upsample", 1),
    *(("refine", step) for step in (1, 2, 3, 4, 5)),
    ("write", 2),
]


@pytest.mark.parametrize("stage, step", STOPS)
def test_interrupted_take_goes_on_to_the_same_bytes(
    tmp_path: Path, uninterrupted: bytes, stage: str, step: int
):
    request, job = koi_request(), tmp_path / "job"
    with pytest.raises(Cancelled):
        generate(request, tmp_path / "t.mp4", job_dir=job, on_progress=stop_at(stage, step))
    seen: list[tuple[str, int]] = []
    take = generate(
        request,
        tmp_path / "t.mp4",
        job_dir=job,
        on_progress=lambda progress: seen.append((progress.stage, progress.step)),
    )
    assert take.media.read_bytes() == uninterrupted
    assert steps_of(job) == []
    if stage != "base":
        assert ("base", 2) not in seen  # the base pass did not run again
    if (stage, step) in (("refine", 3), ("refine", 4), ("write", 2)):
        assert ("refine", 1) not in seen and ("encode", 0) not in seen


def test_take_interrupted_many_times_goes_on_to_the_same_bytes(
    tmp_path: Path, uninterrupted: bytes
):
    for stage, step in STOPS:
        with pytest.raises(Cancelled):
            generate(
                koi_request(), tmp_path / "t.mp4",
                job_dir=tmp_path / "job", on_progress=stop_at(stage, step),
            )  # fmt: skip
    take = generate(koi_request(), tmp_path / "t.mp4", job_dir=tmp_path / "job")
    assert take.media.read_bytes() == uninterrupted


def test_changed_request_starts_afresh_in_the_same_folder(tmp_path: Path, uninterrupted: bytes):
    job = tmp_path / "job"
    with pytest.raises(Cancelled):
        generate(
            koi_request(seed=4), tmp_path / "t.mp4", job_dir=job, on_progress=stop_at("refine", 4)
        )
    take = generate(koi_request(), tmp_path / "t.mp4", job_dir=job)
    assert take.media.read_bytes() == uninterrupted


def test_take_with_a_lora_goes_on_to_the_same_bytes(tmp_path: Path, lora: Path):
    job = tmp_path / "job"
    request = koi_request(loras=[{"file": Media.of(lora), "weight": 0.5}])
    whole = generate(request, tmp_path / "whole.mp4").media.read_bytes()
    with pytest.raises(Cancelled):
        generate(request, tmp_path / "t.mp4", job_dir=job, on_progress=stop_at("refine", 4))
    seen: list[tuple[str, int]] = []
    take = generate(
        request, tmp_path / "t.mp4", job_dir=job,
        on_progress=lambda progress: seen.append((progress.stage, progress.step)),
    )  # fmt: skip
    assert take.media.read_bytes() == whole
    assert ("base", 2) not in seen


def test_checkpoint_without_the_lora_is_passed_over(
    tmp_path: Path, uninterrupted: bytes, lora: Path
):
    job = tmp_path / "job"
    request = koi_request(loras=[{"file": Media.of(lora), "weight": 0.5}])
    with pytest.raises(Cancelled):
        generate(koi_request(), tmp_path / "t.mp4", job_dir=job, on_progress=stop_at("refine", 4))
    take = generate(request, tmp_path / "t.mp4", job_dir=job)
    assert take.media.read_bytes() != uninterrupted


def test_latents_that_are_no_numbers_stop_the_pass_and_name_the_step(
    monkeypatch: pytest.MonkeyPatch,
):
    from diffusers import WanTransformer3DModel

    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
        freq_dim=16, ffn_dim=32, num_layers=1, rope_max_seq_len=64,
    )  # fmt: skip
    latents, text = torch.zeros(1, 4, 1, 8, 8), torch.zeros(1, 4, 8)
    step = UniPCMultistepScheduler.step

    def overflow(self: UniPCMultistepScheduler, *arguments: object, **options: object):
        result = step(self, *arguments, **options)  # type: ignore[arg-type]
        return (result[0] * float("inf"),) if self.step_index == 5 else result

    monkeypatch.setattr(UniPCMultistepScheduler, "step", overflow)
    settings = RefineSettings(steps=8, strength=1.0)
    with pytest.raises(NumericalError, match="after step 5"):
        refine(transformer, latents, text, native_grid=(2, 2), settings=settings)
