"""Reflections of the plane in one line."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups.base import Axis, Group


@dataclass(frozen=True)
class Reflection(Group):
    """Z2 = {0, 1}; the element 1 acts by (y, x) -> (-y, x), a flip upside down.

    Example:
        >>> Reflection().matrix(torch.tensor([1.0]))
        tensor([[-1.,  0.],
                [ 0.,  1.]])
    """

    dim = 1
    counts = ("reflections",)

    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        return torch.remainder(a + b, 2)

    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return a

    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch 2 2"]:
        return torch.diag_embed(torch.cat([1 - 2 * a, torch.ones_like(a)], -1))

    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch columns"]:
        return 1 - 2 * a

    def axes(self, reflections: int = 2) -> tuple[Axis, ...]:
        return (Axis("points", 2),)

    def grid(self, reflections: int = 2) -> Float[Tensor, "n dim"]:
        if reflections not in (1, 2):
            raise ValueError(f"the number of reflections in `elements` must be 1 or 2, but got {reflections}.")
        return torch.arange(reflections, dtype=torch.float64)[:, None]

    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        return torch.randint(2, (n, 1), generator=generator).double()
