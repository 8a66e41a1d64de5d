from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import write_all

from freeswim import generate
from freeswim.models.catalog import find_checkpoint
from freeswim.models.loading import Components, load
from freeswim.plan import Machine


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors: threads that wait for each other on a busy machine take ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of tiny checkpoints, one for each row of the catalog. Not to be changed."""
    folder = tmp_path_factory.mktemp("models")
    write_all(folder)
    return folder


@pytest.fixture
def models(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where FreeSwim looks for checkpoints."""
    monkeypatch.setenv("FREESWIM_MODELS", str(tiny_models))
    # They stand where others are forecast: Wan's own, which no test machine has the memory for.
    large = Machine("cpu", "a large machine", host_bytes=10**15)
    monkeypatch.setattr(generate, "inspect", lambda device: large)
    return tiny_models


@pytest.fixture
def own_copy(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Call it for a copy of one checkpoint that a test may damage, where FreeSwim looks.

    With a second name the copy lies where that checkpoint should be.
    """
    monkeypatch.setenv("FREESWIM_MODELS", str(tmp_path))
    return lambda name, place=None: shutil.copytree(tiny_models / name, tmp_path / (place or name))


@pytest.fixture
def load_tiny(models: Path) -> Callable[[str], Components]:
    """Call it for the components of a tiny checkpoint on the CPU."""
    return lambda name: load(find_checkpoint(name), torch.device("cpu"))
