"""Rotations and reflections of the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups.base import Axis, Group, rotation, wrap
from src.groups.reflection import Reflection
from src.groups.so2 import SO2


@dataclass(frozen=True)
class O2(Group):
    """R(t) F^s with F = diag(1, -1), as (t, s); with R^2 it makes E(2), and with 4 x 2 elements p4m.

    A semidirect product: F R(t) = R(-t) F, so it is one part, and a group of its own rather than a `Product`.

    Example:
        >>> O2().grid(2, 2).shape
        torch.Size([4, 2])
    """

    dim = 2
    counts = ("rotations", "reflections")

    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        (angle_a, flip_a), (angle_b, flip_b) = (x.split(1, -1) for x in torch.broadcast_tensors(a, b))
        return torch.cat([wrap(angle_a + (1 - 2 * flip_a) * angle_b), torch.remainder(flip_a + flip_b, 2)], -1)

    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        angle, flip = a.split(1, -1)
        return torch.cat([wrap((2 * flip - 1) * angle), flip], -1)

    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch 2 2"]:
        angle, flip = a.unbind(-1)
        return rotation(angle) @ torch.diag_embed(torch.stack([torch.ones_like(flip), 1 - 2 * flip], -1))

    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch columns"]:
        angle, flip = a.split(1, -1)
        return torch.cat([SO2().chart(angle), Reflection().chart(flip)], -1)

    def axes(self, rotations: int, reflections: int = 2) -> tuple[Axis, ...]:
        return SO2().axes(rotations) + Reflection().axes(reflections)

    def grid(self, rotations: int, reflections: int = 2) -> Float[Tensor, "n dim"]:
        return torch.cartesian_prod(SO2().grid(rotations)[:, 0], Reflection().grid(reflections)[:, 0])

    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        return torch.cat([SO2().random(n, generator), Reflection().random(n, generator)], -1)

    def sizes(self, elements: Sequence[int]) -> tuple[int, ...]:
        """As for every group, but [n] is short for [n, 2]."""
        return super().sizes((*elements, 2) if len(elements) == 1 else elements)
