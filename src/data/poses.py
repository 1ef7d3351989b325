"""Random rotations and magnifications of images in d dimensions, as functions of uniform numbers."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sin
from typing import NamedTuple

import torch
from torch import Tensor

from src.groups import SO2, SO3, Dilation


class _Rotations(NamedTuple):
    """Of one dimension."""

    numbers: int
    """How many numbers in [0, 1) make a rotation."""
    matrices: Callable[[Tensor, float | None], Tensor]
    """Numbers (n, k) and a largest angle in radians, or none -> (n, d, d)."""


def _of_the_plane(uniform: Tensor, limit: float | None) -> Tensor:
    return SO2().matrix(2 * pi * uniform if limit is None else (2 * uniform - 1) * limit)


def _of_space(uniform: Tensor, limit: float | None) -> Tensor:
    """The uniform distribution on SO(3), of which those by larger angles are left out.

    An angle t has the density 1 - cos t, hence the distribution (t - sin t) / (limit - sin limit), which is inverted by
    halving intervals.
    """
    limit = pi if limit is None else limit
    share, height, turn = uniform.unbind(-1)
    goal = share * (limit - sin(limit))
    low, high = torch.zeros_like(goal), torch.full_like(goal, limit)
    for _ in range(50):
        middle = (low + high) / 2
        below = middle - middle.sin() < goal
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    radius, around = (1 - (2 * height - 1).square()).sqrt(), 2 * pi * turn
    axis = torch.stack([2 * height - 1, radius * around.cos(), radius * around.sin()], -1)
    half = (low + high)[:, None] / 4
    return SO3().matrix(torch.cat([half.cos(), half.sin() * axis], -1))


# A line has none.
_ROTATIONS = {
    1: _Rotations(1, lambda uniform, _: torch.ones_like(uniform)[..., None]),
    2: _Rotations(1, _of_the_plane),
    3: _Rotations(3, _of_space),
}


def rotation_numbers(d: int) -> int:
    """How many uniform numbers `rotations` takes."""
    return _ROTATIONS[d].numbers


def rotations(uniform: Tensor, d: int, limit: float | None = None) -> Tensor:
    """Uniform rotations of R^d, or those by at most an angle.

    Args:
        uniform: (n, rotation_numbers(d)), in [0, 1).
        d: 1, where there are none, 2 or 3.
        limit: the largest angle in radians; None is any.

    Returns:
        (n, d, d)

    Example:
        >>> rotations(torch.rand(5, 3), 3).shape
        torch.Size([5, 3, 3])
    """
    return _ROTATIONS[d].matrices(uniform, limit)


def magnifications(logarithms: Tensor, d: int) -> Tensor:
    """Of the scales with these logarithms, (n, 1) -> (n, d, d)."""
    return Dilation(space=d).matrix(logarithms)


def turns(angles: Tensor, d: int) -> Tensor:
    """Rotations of images by some angles, of volumes about the diagonal z = y = x; a line has none but that by 0.

    Args:
        angles: (k,), radians.
        d: dimension of the space.

    Returns:
        (k, d, d)

    Example:
        >>> turns(torch.tensor([2 * torch.pi / 3]), 3).abs().round()
        tensor([[[0., 0., 1.],
                 [1., 0., 0.],
                 [0., 1., 0.]]])
    """
    if d == 1:
        return torch.ones_like(angles)[:, None, None]
    if d == 2:
        return SO2().matrix(angles[:, None])
    half = angles[:, None] / 2
    return SO3().matrix(torch.cat([half.cos(), half.sin().expand(-1, 3) / 3**0.5], -1))
