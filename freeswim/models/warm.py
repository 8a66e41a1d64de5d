"""A checkpoint that stays loaded from one take to the next of the same kind."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from freeswim.models.loading import Components


@dataclass
class Warm:
    """What the last take left loaded.

    Whoever takes it owns it until it is given back: where the work fails it is not, so nothing that
    an error may have left half changed is used again.
    """

    _kept: dict[str, Components] = field(default_factory=dict[str, Components])

    @contextmanager
    def components(self, key: str, load: Callable[[], Components]) -> Iterator[Components]:
        """Components by `key`, kept or loaded; kept again when the block ends well.

        Args:
            key: everything that decides what `load` gives.
        """
        components = self._kept.pop(key, None)
        if components is None:
            self.drop()
            components = load()
        yield components
        self._kept = {key: components}

    def drop(self) -> None:
        """Forget what is loaded and give its memory back."""
        if not self._kept:
            return
        self._kept = {}
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def memory_bytes(self) -> int:
        """Weights that a CPU's memory holds meanwhile: free for whoever loads something else."""
        return sum(
            parameter.nbytes
            for components in self._kept.values()
            for module in components.modules()
            for parameter in module.parameters()
            if parameter.device.type == "cpu"
        )
