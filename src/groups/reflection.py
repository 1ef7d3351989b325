"""Reflections of the plane in one line."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from src.groups.base import Axis, Group


@dataclass(frozen=True)
class Reflection(Group):
    """Z2 = {0, 1}; the element 1 acts by (y, x) -> (-y, x), a flip upside down."""

    dim = 1
    counts = ("reflections",)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.remainder(a + b, 2)

    def inverse(self, a: Tensor) -> Tensor:
        return a

    def matrix(self, a: Tensor) -> Tensor:
        return torch.diag_embed(torch.cat([1 - 2 * a, torch.ones_like(a)], -1))

    def chart(self, a: Tensor) -> Tensor:
        return 1 - 2 * a

    def axes(self, reflections: int = 2) -> tuple[Axis, ...]:
        return (Axis("points", 2),)

    def grid(self, reflections: int = 2) -> Tensor:
        if reflections not in (1, 2):
            raise ValueError(f"the number of reflections in `elements` must be 1 or 2, but got {reflections}.")
        return torch.arange(reflections, dtype=torch.float64)[:, None]

    def random(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randint(2, (n, 1), generator=generator).double()
