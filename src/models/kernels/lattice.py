"""Kernels as free weights on a lattice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import comb, factorial, pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import SO3, Axis
from src.models.kernels.domain import domain
from src.require import require_choice, require_positive_number

_Corner = tuple[Tensor, Tensor]
"""Sites (...) and their shares (...)."""


class Lattice(nn.Module):
    r"""One weight per lattice site, B-splines in between, and zero outside: k(u) = sum_s w_s prod_j B(u_j - s_j).

    With splines of degree 0, a coordinate has the weight of the nearest site; with those of degree 1, it is
    interpolated. Where the group maps the lattice to itself, as p4 and p4m do, every coordinate is a site, and both are
    the textbook's filter banks: rotated, flipped and shifted copies of the weights. Splines of degree 2 and 3 are
    smooth kernels of local support. Of rotations of R^3, splines are functions of the angle to a site, as much wide as
    sites are apart, and sum to one over the sites.

    Args:
        axes: what the kernel depends on; the weights are (sites of the first axis, ..., channels).
        channels: numbers per coordinate.
        degree: of the splines, 0 to 3.
        lr_factor: on the learning rate of its weights; see `ParameterGroups`.

    Reference (splines): B-Spline CNNs on Lie Groups (Bekkers, ICLR 2020), https://arxiv.org/abs/1909.12057

    Example:
        >>> from src.groups import SO2
        >>> Lattice(SO2().axes(8), 3)(SO2().chart(SO2().grid(8)).float()).shape
        torch.Size([8, 3])
    """

    def __init__(self, axes: Sequence[Axis], channels: int, degree: int = 1, lr_factor: float = 1.0) -> None:
        super().__init__()
        require_choice("kernel.degree", degree, (0, 1, 2, 3))
        require_positive_number(**{"kernel.lr_factor": lr_factor})
        self.axes, self.degree, self.lr_factor = tuple(axes), degree, lr_factor
        self.weight = nn.Parameter(torch.randn(*(axis.sites for axis in axes), channels))
        if degree > 1:  # below, it is of unit second moment on its sites
            with torch.no_grad():
                for axis in axes:
                    energy = sum(share.square() for _, share in _corners_of(axis, domain([axis]), degree))
                    self.weight.div_(energy.mean().sqrt())

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch channels"]:
        """(..., columns) -> (..., channels)."""
        values = coordinates.new_zeros(())
        for sites, share in self._corners(coordinates):
            # Most corners have no share where the group maps the lattice to itself; asking would make a GPU wait.
            if share.is_cuda or share.any():
                values = values + share[..., None] * self.weight[sites]
        return values

    def _corners(self, coordinates: Tensor) -> list[tuple[tuple[Tensor, ...], Tensor]]:
        """The sites around coordinates (..., columns), one tensor (...) for each axis, and their shares (...)."""
        columns = coordinates.split([axis.columns for axis in self.axes], -1)
        around = [_corners_of(axis, column, self.degree) for axis, column in zip(self.axes, columns, strict=True)]
        corners = (zip(*corner, strict=True) for corner in product(*around))
        return [(sites, torch.stack(shares).prod(0)) for sites, shares in corners]


def _corners_of(axis: Axis, column: Tensor, degree: int) -> list[_Corner]:
    """The sites of one axis around each coordinate, (..., columns), with their shares."""
    if axis.kind == "rotations":
        return _rotations_around(axis, column, degree)
    if axis.kind == "circle":
        position = torch.atan2(column[..., 1], column[..., 0]) * axis.sites / (2 * pi)
    else:
        position = (column[..., 0] + 1) * (axis.sites - 1) / 2
    nearest = position.round()
    # Coordinates on a site up to rounding are on it, so that a lattice group uses its weights unchanged.
    position = torch.where(
        (position - nearest).abs() < 64 * torch.finfo(position.dtype).eps * axis.sites, nearest, position
    )
    first = (position - (degree - 1) / 2).floor() if degree else nearest
    sites = [first + n for n in range(degree + 1)]
    return [_place(axis, site, _spline(position - site, degree)) for site in sites]


def _rotations_around(axis: Axis, matrices: Tensor, degree: int) -> list[_Corner]:
    """The nearest site; or all of them, with shares by the angle in units of their distance."""
    cosines = matrices @ SO3().chart(SO3().grid(axis.sites)).to(matrices).mT
    if degree == 0:
        nearest = cosines.argmax(-1)
        return [(nearest, matrices.new_ones(nearest.shape))]
    angles = ((cosines - 1) / 2).clamp(-1, 1).acos()
    # Sites share the volume of the group, 8 pi^2, as if in cubes. Those of subgroups are further apart than the side of
    # a cube, so that a linear spline is one at its own site and zero at others; a spiral leaves gaps of 1.14 sides.
    side = (8 * pi**2 / axis.sites) ** (1 / 3)
    shares = _spline(angles / (side if axis.sites in SO3.subgroups else 1.2 * side), degree)
    shares = shares / shares.sum(-1, keepdim=True)
    return [(torch.full_like(share, n, dtype=torch.long), share) for n, share in enumerate(shares.unbind(-1))]


def _spline(distance: Tensor, degree: int) -> Tensor:
    """The cardinal B-spline, zero beyond (degree + 1) / 2; of degree 0, what asks for it is inside."""
    if degree == 0:
        return torch.ones_like(distance)
    edge = (degree + 1) / 2 - distance.abs()
    powers = ((-1) ** n * comb(degree + 1, n) * (edge - n).clamp(min=0) ** degree for n in range((degree + 1) // 2 + 1))
    return sum(powers) / factorial(degree)


def _place(axis: Axis, site: Tensor, share: Tensor) -> _Corner:
    """Wrap sites around a circle; elsewhere sites outside the axis get no share."""
    site = site.long()
    if axis.kind == "circle":
        return site % axis.sites, share
    inside = (site >= 0) & (site < axis.sites)
    return site.clamp(0, axis.sites - 1), share * inside
