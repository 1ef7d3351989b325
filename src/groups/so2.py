"""Rotations of the plane."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from src.groups.base import Axis, Group, rotation, wrap


@dataclass(frozen=True)
class SO2(Group):
    """Angles in (-pi, pi]; with R^2 it makes SE(2), and with 4 elements p4."""

    dim = 1
    counts = ("rotations",)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return wrap(a + b)

    def inverse(self, a: Tensor) -> Tensor:
        return wrap(-a)

    def matrix(self, a: Tensor) -> Tensor:
        return rotation(a[..., 0])

    def chart(self, a: Tensor) -> Tensor:
        return torch.cat([a.cos(), a.sin()], -1)

    def axes(self, rotations: int) -> tuple[Axis, ...]:
        return (Axis("circle", rotations),)

    def grid(self, rotations: int) -> Tensor:
        return wrap(2 * pi * torch.arange(rotations, dtype=torch.float64)[:, None] / rotations)

    def random(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return wrap(2 * pi * torch.rand(n, 1, dtype=torch.float64, generator=generator))
