"""What all tests share."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# As the command line sets them: no bars of the libraries, and nothing is fetched.
os.environ.update(
    TRANSFORMERS_VERBOSITY="error",
    DIFFUSERS_VERBOSITY="error",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_OFFLINE="1",
    OMP_WAIT_POLICY="PASSIVE",
)

# What FreeSwim keeps on a machine: a person's own stays out of it.
_home = tempfile.TemporaryDirectory(prefix="freeswim-home-")
os.environ["FREESWIM_HOME"] = _home.name
os.environ["XDG_DATA_HOME"] = f"{_home.name}/data"  # where the system's trash is

# A shell ignores Ctrl-C on behalf of what it runs in the background, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure: no test is timed.
settings.register_profile("freeswim", deadline=None)
settings.load_profile("freeswim")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How thorough the slow tests are."""
    group = parser.getgroup("chaos")
    group.addoption("--kills", type=int, default=100, help="how often processes are killed")
    group.addoption("--chaos-seed", type=int, default=0, help="how the dice fall")
    group.addoption("--all-failpoints", action="store_true", help="every one of them, not a sample")
    group = parser.getgroup("resolve")
    group.addoption("--all-trips", action="store_true", help="every rate from both starts, always")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A LoRA file for the demo checkpoint that changes its pictures."""
    import torch
    from safetensors.torch import load_file, save_file

    from freeswim import paths

    weights = load_file(paths.demo_weights() / "transformer/diffusion_pytorch_model.safetensors")
    generator = torch.Generator().manual_seed(0)
    keys: dict[str, torch.Tensor] = {}
    for name in ("attn1.to_v", "attn2.to_q"):
        for block in range(2):
            stem = f"blocks.{block}.{name}"
            rows, columns = weights[f"{stem}.weight"].shape
            up = torch.randn(rows, 4, generator=generator) / 6
            down = torch.randn(4, columns, generator=generator)
            keys |= {f"transformer.{stem}.lora_A.weight": down}
            keys |= {f"transformer.{stem}.lora_B.weight": up}
    save_file(keys, tmp_path / "koi.safetensors")
    return tmp_path / "koi.safetensors"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a test that was skipped because the system lacks something is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None:
        return
    skipped = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    if missing := [reason for reason in skipped if "system package" in reason]:
        reporter.write_line(f"CI lacks what tests need: {missing}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
