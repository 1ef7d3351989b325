"""Masks on kernels: weights between 0 and 1 as functions of the kernel's own coordinates.

They are evaluated at h_a^-1 u and h_a^-1 h_b, as kernels are, so they turn and scale with the group and equivariance is
untouched. Radius 1 is the edge of the support; the largest dilation fills the window with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Axis
from src.require import require_above, require_at_least


@dataclass(frozen=True)
class Disc:
    """1 up to radius 1, then 0."""

    def __call__(self, u: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """(..., d) -> (...)."""
        # Pixels at the edge stay inside whichever way rounding turns them.
        return (torch.linalg.vector_norm(u, dim=-1) <= 1 + 1e-4).to(u.dtype)


@dataclass(frozen=True)
class SoftDisc:
    """1 up to the inner radius, then half a cosine down to 0 at the outer one.

    A sharp edge cuts other pixels from a kernel that is turned by 45 degrees than from one that is not.
    """

    inner: float = 0.7
    outer: float = 1.2

    def __post_init__(self) -> None:
        require_at_least(0, **{"mask.space.inner": self.inner})
        require_above(self.inner, **{"mask.space.outer": self.outer})

    def __call__(self, u: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """(..., d) -> (...)."""
        progress = (torch.linalg.vector_norm(u, dim=-1) - self.inner) / (self.outer - self.inner)
        return (1 + torch.cos(torch.pi * progress.clamp(0, 1))) / 2


@dataclass(frozen=True)
class SmoothDisc:
    """sigmoid(slope (1 - radius)); the slope of 3 is that of the paper's code."""

    slope: float = 3.0

    def __call__(self, u: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """(..., d) -> (...)."""
        return torch.sigmoid(self.slope * (1 - torch.linalg.vector_norm(u, dim=-1)))


@dataclass(frozen=True)
class Box:
    """1 where all coordinates are at most 1, then 0."""

    def __call__(self, u: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
        """(..., d) -> (...)."""
        return (u.abs().amax(-1) <= 1 + 1e-4).to(u.dtype)


@dataclass(frozen=True)
class SmoothInterval:
    """sigmoid(slope (width - |c|)) for a relative scale c = log s / log max_scale in [-1, 1].

    The width does not depend on the number of scales, so a trained net means the same on more of them.
    """

    width: float = 0.75
    slope: float = 10.0

    def __call__(self, c: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """(...) -> (...)."""
        return torch.sigmoid(self.slope * (self.width - c.abs()))


class Mask(nn.Module):
    """The mask of one kind of coordinate: `space` on those of the space, `scale` on interval axes, 1 on the others.

    Args:
        axes: the coordinates' axes.
        space: mask in space, (..., d) -> (...), or none.
        scale: mask along scales, (...) -> (...), or none.

    Example:
        >>> axes = (Axis("space", 5),) * 2
        >>> Mask(axes, space=Disc())(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
        tensor([1., 0.])
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        space: Callable[[Tensor], Tensor] | None = None,
        scale: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.axes, self.space, self.scale = tuple(axes), space, scale

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch"]:
        """(..., columns) -> (...)."""
        columns = coordinates.split([axis.columns for axis in self.axes], -1)
        mask = coordinates.new_ones(coordinates.shape[:-1])
        space = [column for axis, column in zip(self.axes, columns, strict=True) if axis.kind == "space"]
        if self.space is not None and space:
            mask = mask * self.space(torch.cat(space, -1))
        if self.scale is not None:
            for axis, column in zip(self.axes, columns, strict=True):
                if axis.kind == "interval":
                    mask = mask * self.scale(column[..., 0])
        return mask
