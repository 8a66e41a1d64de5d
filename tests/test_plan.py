from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from freeswim.errors import OutOfMemory
from freeswim.history import PastRun
from freeswim.models.catalog import CATALOG, Checkpoint
from freeswim.models.memory import MemoryPolicy
from freeswim.plan import GB, Machine, admit, make_plan, shape_of, work_of
from freeswim.presets import load_preset
from freeswim.request import Request

SERVER = Machine("cuda", "a large GPU", host_bytes=500 * GB, device_bytes=500 * GB)


def preset(name: str, **changes: Any) -> Request:
    return Request.parse({"kind": "text", "prompt": "koi", **load_preset(name).defaults, **changes})


def koi(**changes: Any) -> Request:
    return preset("demo", **changes)


def past_run(request: Request, where: Machine, **changes: Any) -> PastRun:
    run = PastRun(
        machine=where.name,
        checkpoint=request.checkpoint,
        weights=request.weights,
        shape=shape_of(request),
        policy="weights on the device",
        work=work_of(request),
        seconds={stage: 60.0 for stage in work_of(request)},
    )
    return run.model_copy(update=changes)


# ------------------------------------------------------------------------------------- the figures


@pytest.mark.parametrize("row", CATALOG, ids=[row.name for row in CATALOG])
def test_figures_of_the_catalog_are_those_of_the_real_architecture(row: Checkpoint):
    figures = row.architecture
    with torch.device("meta"):
        transformer = WanTransformer3DModel(
            patch_size=(1, figures.patch, figures.patch),
            num_attention_heads=figures.heads,
            attention_head_dim=figures.head_dim,
            in_channels=figures.in_channels,
            out_channels=figures.autoencoder.latent_channels,
            text_dim=figures.text_width,
            freq_dim=figures.time_width,
            ffn_dim=figures.ffn_width,
            num_layers=figures.blocks,
            image_dim=figures.image_width or None,
            added_kv_proj_dim=figures.width if figures.image_width else None,
        )
    assert figures.parameters == sum(weight.numel() for weight in transformer.parameters())
    block = sum(weight.numel() for weight in transformer.blocks[0].parameters())  # pyright: ignore
    assert figures.block_parameters == block


@pytest.mark.parametrize(
    "name, full, window",  # PFLOP of one forward, of the method's table of costs
    [("wan21-1.3b-1080p", 5.8, 1.5), ("wan21-14b-4k", 401, 59)],
)
def test_work_is_that_of_the_method(name: str, full: float, window: float):
    request = preset(name)
    rows, steps, refreshes = 2, 35, 7
    expected = rows * steps * window + refreshes * full
    assert work_of(request)["refine"] == pytest.approx(expected, rel=0.03)


def test_guidance_that_is_off_halves_the_base_pass():
    request = koi()
    without = request.changed(base={"steps": request.base.steps, "guidance_scale": 1})
    assert work_of(without)["base"] == pytest.approx(work_of(request)["base"] / 2)


# ----------------------------------------------------------------------------------- what is taken


def test_fastest_policy_that_fits_is_taken():
    request = preset("wan21-1.3b-1080p")
    plan = make_plan(request, SERVER)
    assert plan.admitted == tuple(need.policy for need in plan.needs)
    for number, need in enumerate(plan.needs):
        room = replace(SERVER, device_bytes=need.device_bytes)
        taken = admit(make_plan(request, room))[0]
        assert taken == next(
            other.policy for other in plan.needs if other.device_bytes <= need.device_bytes
        )
        assert plan.needs.index(need) == number


def test_leaner_policies_need_less_of_the_device():
    for name in ("wan21-1.3b-1080p", "wan21-14b-4k", "wan22-5b-1440p"):
        needs = make_plan(preset(name), SERVER).needs
        assert needs[-1].device_bytes == min(need.device_bytes for need in needs)
        assert needs[0].device_bytes == max(need.device_bytes for need in needs)


def test_small_checkpoint_at_1080p_fits_12_gb():
    request = preset("wan21-1.3b-1080p")
    policies = admit(make_plan(request, replace(SERVER, device_bytes=12 * GB)))
    assert policies[-1] == MemoryPolicy("streamed", "host")


def test_budget_below_the_smallest_rung_is_refused_with_numbers_and_a_way_out():
    request = preset("wan21-1.3b-1080p")
    machine = replace(SERVER, device_bytes=6 * GB)
    with pytest.raises(OutOfMemory) as caught:
        admit(make_plan(request, machine))
    assert "1920x1088, 81 frames" in caught.value.message
    assert "6.0 GB may be used" in caught.value.message
    assert "a large GPU" in caught.value.message
    for change in hinted(request, caught.value.hint):
        assert admit(make_plan(change, machine))


def test_host_memory_is_named_where_it_is_what_is_short():
    machine = replace(SERVER, host_bytes=3 * GB)
    with pytest.raises(OutOfMemory) as caught:
        admit(make_plan(preset("wan21-14b-1440p"), machine))
    assert "a large GPU" not in caught.value.message
    assert "3.0 GB may be used" in caught.value.message


def hinted(request: Request, hint: str) -> list[Request]:
    """The requests that a hint offers."""
    said = hint.removeprefix("This would fit: ").partition(".")[0].split(", or ")
    changed: list[Request] = []
    for words in said:
        if words.startswith("--weights"):
            changed.append(request.changed(weights=words.split()[1]))
        elif words.startswith("--full-branch"):
            settings = request.as_dict()["refine"] | {"guidance": words.split()[1]}
            changed.append(request.changed(refine=settings))
        elif words.endswith("frames"):
            changed.append(request.changed(frames=int(words.split()[0])))
        else:
            width, height = map(int, words.split("x"))
            changed.append(request.changed(width=width, height=height))
    assert changed
    return changed


@pytest.mark.parametrize("budget", [1e9, 2e9])
def test_budget_limits_what_the_device_has(budget: float):
    assert SERVER.limited(budget).device_bytes == budget
    assert SERVER.limited(None) == SERVER
    cpu = Machine("cpu", "a CPU", host_bytes=8 * GB)
    assert cpu.limited(budget).host_bytes == budget
    assert cpu.limited(100e9) == cpu


# ---------------------------------------------------------------------------------- what was before


def test_policy_that_ran_out_of_memory_here_is_not_tried_again():
    request = preset("wan21-1.3b-1080p")
    first, second, *_ = make_plan(request, SERVER).admitted
    past = [past_run(request, SERVER, failed=(str(first),))]
    assert make_plan(request, SERVER, past).admitted[0] == second
    assert make_plan(request.changed(frames=41), SERVER, past).admitted[0] == first
    elsewhere = replace(SERVER, name="another GPU")
    assert make_plan(request, elsewhere, past).admitted[0] == first


def test_where_all_failed_the_leanest_is_tried_again():
    request = preset("wan21-1.3b-1080p")
    needs = make_plan(request, SERVER).needs
    past = [past_run(request, SERVER, failed=tuple(str(need.policy) for need in needs))]
    assert make_plan(request, SERVER, past).admitted == (needs[-1].policy,)


def test_minutes_come_from_this_machine_and_checkpoint_only():
    request = koi()
    assert set(make_plan(request, SERVER).minutes.values()) == {None}
    other = past_run(request, SERVER, machine="another GPU")
    int8 = past_run(request, SERVER, weights="int8")
    assert set(make_plan(request, SERVER, [other, int8]).minutes.values()) == {None}
    past = [past_run(request, SERVER)]
    assert make_plan(request, SERVER, past).minutes == {
        stage: pytest.approx(1.0) for stage in work_of(request)
    }


def test_minutes_grow_with_the_work():
    request = koi()
    past = [past_run(request, SERVER)]
    longer = request.changed(refine=request.as_dict()["refine"] | {"steps": 40})
    minutes = make_plan(longer, SERVER, past).minutes["refine"]
    assert minutes == pytest.approx(work_of(longer)["refine"] / work_of(request)["refine"])


def test_stage_that_was_never_measured_says_so():
    request = koi()
    past = [past_run(request, SERVER, seconds={"base": 6.0})]
    minutes = make_plan(request, SERVER, past).minutes
    assert minutes.pop("base") == pytest.approx(0.1)
    assert set(minutes.values()) == {None}


# ------------------------------------------------------------------------------- against measuring

# Linux counts VmHWM from the start of the program; getrusage's peak is inherited from pytest.
MEASURE = """
import json, sys, tempfile
from pathlib import Path
import torch
torch.set_num_threads(1)
from freeswim.generate import generate
from freeswim.plan import Machine, make_plan
from freeswim.request import Request
request = Request.parse(json.loads(sys.argv[1]))
with tempfile.TemporaryDirectory() as folder:
    generate(request, Path(folder) / "take.mp4", device="cpu")
status = Path("/proc/self/status").read_text().split()
peak = int(status[status.index("VmHWM:") + 1]) * 1024
print(make_plan(request, Machine("cpu", "", 10**12)).needs[0].host_bytes / peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
@pytest.mark.parametrize("width, height, frames", [(256, 256, 9), (512, 512, 9), (1024, 768, 9)])
def test_memory_comes_within_15_percent_of_the_forecast(
    width: int, height: int, frames: int, tmp_path: Path
):
    request = koi(
        width=width, height=height, frames=frames, base={"steps": 1},
        refine={"steps": 1, "strength": 1.0},
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(request.as_dict())],
        capture_output=True,
        text=True,
        env=os.environ | {"FREESWIM_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1, abs=0.15)
