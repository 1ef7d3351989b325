"""Rotations of the plane."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups.base import Axis, Group, rotation, wrap


@dataclass(frozen=True)
class SO2(Group):
    """Angles in (-pi, pi]; with R^2 it makes SE(2), and with 4 elements p4.

    Example:
        >>> SO2().product(torch.tensor([3.0]), torch.tensor([1.0]))
        tensor([-2.2832])
    """

    dim = 1
    counts = ("rotations",)

    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        return wrap(a + b)

    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return wrap(-a)

    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch 2 2"]:
        return rotation(a[..., 0])

    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch columns"]:
        return torch.cat([a.cos(), a.sin()], -1)

    def axes(self, rotations: int) -> tuple[Axis, ...]:
        return (Axis("circle", rotations),)

    def grid(self, rotations: int) -> Float[Tensor, "n dim"]:
        return wrap(2 * pi * torch.arange(rotations, dtype=torch.float64)[:, None] / rotations)

    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        return wrap(2 * pi * torch.rand(n, 1, dtype=torch.float64, generator=generator))
