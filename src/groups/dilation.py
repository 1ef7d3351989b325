"""Dilations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups.base import Axis, Group, require_space


@dataclass(frozen=True)
class Dilation(Group):
    """(R+, x) as log s: the law is addition, nothing is clamped, and volume scales by s^d.

    The group is all of R+; only samples are kept inside [1, max_scale].

    Args:
        max_scale: largest sampled scale, above 1.
        space: the dimension d.

    Raises:
        ValueError: if max_scale is not above 1, or there is no such space.

    Example:
        >>> Dilation(4.0).grid(3).exp().flatten()
        tensor([1., 2., 4.], dtype=torch.float64)
    """

    max_scale: float = 1.74
    space: int = 2
    dim = 1
    counts = ("scales",)

    def __post_init__(self) -> None:
        require_space(self.space)
        if not self.max_scale > 1:
            raise ValueError(f"`max_scale` must be above 1, but got {self.max_scale}; without dilations use Trivial().")

    @property
    def extent(self) -> float:
        return self.max_scale

    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        return a + b

    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return -a

    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch d d"]:
        return a.exp()[..., None] * torch.eye(self.space, dtype=a.dtype, device=a.device)

    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch columns"]:
        return a / log(self.max_scale)

    def axes(self, scales: int) -> tuple[Axis, ...]:
        return (Axis("interval", 2 * scales - 1),)

    def grid(self, scales: int) -> Float[Tensor, "n dim"]:
        return torch.linspace(0, log(self.max_scale), scales, dtype=torch.float64)[:, None]

    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        return log(self.max_scale) * torch.rand(n, 1, dtype=torch.float64, generator=generator)

    def sample(self, sizes: Sequence[int], generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        """Equally spaced scales in [1, max_scale) with one random offset, (n, 1).

        `grid` holds both ends of the range, so no translate of it stays inside; this one is spaced by
        log(max_scale) / n instead, the widest spacing whose every offset does.
        """
        (scales,) = self.sizes(sizes)
        offset = torch.rand(1, 1, dtype=torch.float64, generator=generator)
        return log(self.max_scale) * (torch.arange(scales, dtype=torch.float64)[:, None] + offset) / scales
