"""Kernels as free weights on a lattice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Axis
from src.require import require_positive_number


class Lattice(nn.Module):
    """One weight per lattice site, multilinear in between and zero outside.

    Where the group maps the lattice to itself, as p4 and p4m do, every coordinate is a site and the kernels are the
    textbook's filter banks: rotated, flipped and shifted copies of the weights. Elsewhere they are interpolated.

    Args:
        axes: what the kernel depends on; the weights are (sites of the first axis, ..., channels).
        channels: numbers per coordinate.
        lr_factor: on the learning rate of its weights; see `ParameterGroups`.

    Example:
        >>> from src.groups import SO2
        >>> Lattice(SO2().axes(8), 3)(SO2().chart(SO2().grid(8)).float()).shape
        torch.Size([8, 3])
    """

    def __init__(self, axes: Sequence[Axis], channels: int, lr_factor: float = 1.0) -> None:
        super().__init__()
        require_positive_number(**{"kernel.lr_factor": lr_factor})
        self.lr_factor = lr_factor
        self.axes = tuple(axes)
        self.weight = nn.Parameter(torch.randn(*(axis.sites for axis in axes), channels))

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch channels"]:
        """(..., columns) -> (..., channels)."""
        columns = coordinates.split([axis.columns for axis in self.axes], -1)
        corners = [_corners_of(axis, column) for axis, column in zip(self.axes, columns, strict=True)]
        values = coordinates.new_zeros(())
        for corner in product(*corners):
            sites, shares = zip(*corner, strict=True)
            share = torch.stack(shares).prod(0)
            # Most corners have no share where the group maps the lattice to itself; asking would make a GPU wait.
            if share.is_cuda or share.any():
                values = values + share[..., None] * self.weight[sites]
        return values


def _corners_of(axis: Axis, column: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The two sites around each coordinate and their shares: (..., columns) -> [(site (...), share (...)), ...]."""
    if axis.kind == "circle":
        position = torch.atan2(column[..., 1], column[..., 0]) * axis.sites / (2 * pi)
    else:
        position = (column[..., 0] + 1) * (axis.sites - 1) / 2
    nearest = position.round()
    # Coordinates on a site up to rounding are on it, so that a lattice group uses its weights unchanged.
    position = torch.where(
        (position - nearest).abs() < 64 * torch.finfo(position.dtype).eps * axis.sites, nearest, position
    )
    below = position.floor()
    return [_place(axis, below, below + 1 - position), _place(axis, below + 1, position - below)]


def _place(axis: Axis, site: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Wrap sites around a circle; elsewhere sites outside the axis get no share."""
    site = site.long()
    if axis.kind == "circle":
        return site % axis.sites, share
    inside = (site >= 0) & (site < axis.sites)
    return site.clamp(0, axis.sites - 1), share * inside
