"""The trivial group: the space alone, the plain convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups.base import Axis, Group, require_space


@dataclass(frozen=True)
class Trivial(Group):
    """{e}: elements have no coordinates, grids have one element.

    Args:
        space: the dimension d.

    Raises:
        ValueError: if there is no such space.

    Example:
        >>> Trivial().grid().shape
        torch.Size([1, 0])
    """

    space: int = 2
    dim = 0
    counts = ("identity",)

    def __post_init__(self) -> None:
        require_space(self.space)

    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        return torch.broadcast_tensors(a, b)[0]

    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return a

    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch d d"]:
        return torch.eye(self.space, dtype=a.dtype, device=a.device).expand(*a.shape[:-1], -1, -1)

    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch columns"]:
        return a

    def axes(self, identity: int = 1) -> tuple[Axis, ...]:
        return ()

    def grid(self, identity: int = 1) -> Float[Tensor, "n dim"]:
        if identity != 1:
            raise ValueError(f"`elements` of the trivial group must be [1], but got [{identity}].")
        return torch.zeros(1, 0, dtype=torch.float64)

    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        return torch.zeros(n, 0, dtype=torch.float64)
