"""Reflections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups.base import Axis, Group, require_space


@dataclass(frozen=True)
class Reflection(Group):
    """Z2 = {0, 1}; the element 1 reverses the first axis, (y, x) -> (-y, x), or all axes.

    Args:
        space: the dimension d.
        point: whether all axes are reversed, u -> -u.

    Raises:
        ValueError: if there is no such space.

    Example:
        >>> Reflection().matrix(torch.tensor([1.0]))
        tensor([[-1.,  0.],
                [ 0.,  1.]])
    """

    space: int = 2
    point: bool = False
    dim = 1
    counts = ("reflections",)

    def __post_init__(self) -> None:
        require_space(self.space)

    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        return torch.remainder(a + b, 2)

    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return a

    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch d d"]:
        reversed_axes = self.space if self.point else 1
        kept = torch.ones_like(a).expand(*a.shape[:-1], self.space - reversed_axes)
        return torch.diag_embed(torch.cat([(1 - 2 * a).expand(*a.shape[:-1], reversed_axes), kept], -1))

    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch columns"]:
        return 1 - 2 * a

    def axes(self, reflections: int = 2) -> tuple[Axis, ...]:
        return (Axis("points", reflections),)

    def grid(self, reflections: int = 2) -> Float[Tensor, "n dim"]:
        if reflections not in (1, 2):
            raise ValueError(f"the number of reflections in `elements` must be 1 or 2, but got {reflections}.")
        return torch.arange(reflections, dtype=torch.float64)[:, None]

    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        return torch.randint(2, (n, 1), generator=generator).double()
