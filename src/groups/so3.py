"""Rotations of R^3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product as combinations
from math import pi, sqrt
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups.base import Axis, Group

_GOLDEN = (1 + sqrt(5)) / 2
_PSI = 1.533751168755204288118041
"""The real root of psi^4 = psi + 4, which spreads the second angle of the spiral."""


@dataclass(frozen=True)
class SO3(Group):
    """Unit quaternions (w, z, y, x), of which q and -q are one rotation; with R^3 it makes SE(3).

    Its chart is the nine entries of the matrix, so it has neither a seam nor two values for one rotation. Grids of 1,
    4, 12, 24 and 60 elements are subgroups: no rotation, half turns about the axes, and the rotations of the
    tetrahedron, the cube and the icosahedron; the first four map pixel grids to themselves. Others are a spiral of
    nearly uniform density.

    Reference (spiral): Super-Fibonacci Spirals: Fast, Low-Discrepancy Sampling of SO(3) (Alexa, CVPR 2022)

    Example:
        >>> group = SO3()
        >>> grid = group.grid(24)
        >>> grid.shape, int(group.lattice_exact(grid).sum())
        (torch.Size([24, 4]), 24)
    """

    dim = 4
    space = 3
    counts = ("rotations",)
    subgroups: ClassVar[tuple[int, ...]] = (1, 4, 12, 24, 60)
    """Sizes of the grids that are closed."""

    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        (real_a, axis_a), (real_b, axis_b) = (x.split([1, 3], -1) for x in torch.broadcast_tensors(a, b))
        real = real_a * real_b - (axis_a * axis_b).sum(-1, keepdim=True)
        return torch.cat([real, real_a * axis_b + real_b * axis_a + torch.linalg.cross(axis_a, axis_b)], -1)

    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return a * a.new_tensor([1, -1, -1, -1])

    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch 3 3"]:
        # The columns are the axes, turned: v + 2 w (q x v) + 2 q x (q x v).
        real, axis = a[..., None, :].split([1, 3], -1)
        eye = torch.eye(3, dtype=a.dtype, device=a.device).expand(*a.shape[:-1], 3, 3)
        crossed = torch.linalg.cross(axis.expand_as(eye), eye)
        return (eye + 2 * (real * crossed + torch.linalg.cross(axis.expand_as(eye), crossed))).mT

    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch 9"]:
        return self.matrix(a).flatten(-2)

    def axes(self, rotations: int) -> tuple[Axis, ...]:
        return (Axis("rotations", rotations),)

    def grid(self, rotations: int) -> Float[Tensor, "n 4"]:
        return _grid(rotations).clone()

    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n 4"]:
        return torch.nn.functional.normalize(torch.randn(n, 4, dtype=torch.float64, generator=generator), dim=-1)

    def sample(self, sizes: Sequence[int], generator: torch.Generator | None = None) -> Float[Tensor, "n 4"]:
        """A random coset g H of the grid H, (n, 4): the elements of a turned image.

        From the left, as rotations of R^3 do not commute: a net on g H does to an image what it does on H to the image
        turned back, and so learns to be the same at every angle. Translates from the right are none of a turned image.
        """
        return self.product(self.random(1, generator), self.grid(*self.sizes(sizes)))


@cache
@torch.inference_mode(False)
def _grid(n: int) -> Float[Tensor, "n 4"]:
    """The identity first. The second half of a subgroup is the first after a half turn, which halves products."""
    if n not in SO3.subgroups:
        return _spiral(n)
    members, half_turn = _subgroup(n), torch.tensor([0.0, 1, 0, 0], dtype=torch.float64)
    first: list[Tensor] = []
    for member in members if n > 1 else ():
        taken = first + [SO3().product(half_turn, other) for other in first]
        if not any((member @ other).abs() > 1 - 1e-9 for other in taken):
            first.append(member)
    halves = torch.stack(first) if first else members
    return torch.cat([halves, SO3().product(half_turn, halves)]) if n > 1 else members


def _subgroup(n: int) -> Float[Tensor, "n 4"]:
    """One quaternion of each pair q, -q of a binary polyhedral group."""
    units = torch.eye(4, dtype=torch.float64)
    if n <= 4:
        return units[:n]
    signs = torch.tensor([(1, *rest) for rest in combinations((1, -1), repeat=3)], dtype=torch.float64)
    tetrahedral = torch.cat([units, signs / 2])
    if n == 12:
        return tetrahedral
    if n == 24:
        quarter_turn = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64) / sqrt(2)
        return torch.cat([tetrahedral, SO3().product(quarter_turn, tetrahedral)])
    fifth_turn = torch.tensor([_GOLDEN, 1, 1 / _GOLDEN, 0], dtype=torch.float64) / 2
    powers = [units[0]]
    for _ in range(4):
        powers.append(SO3().product(powers[-1], fifth_turn))
    return torch.cat([SO3().product(power, tetrahedral) for power in powers])


def _spiral(n: int) -> Float[Tensor, "n 4"]:
    """The spiral of n quaternions, moved so that it begins at the identity."""
    steps = torch.arange(n, dtype=torch.float64) + 0.5
    inner, outer = (steps / n).sqrt(), (1 - steps / n).sqrt()
    alpha, beta = 2 * pi * steps / sqrt(2), 2 * pi * steps / _PSI
    spiral = torch.stack([inner * alpha.sin(), inner * alpha.cos(), outer * beta.sin(), outer * beta.cos()], -1)
    return SO3().product(spiral, SO3().inverse(spiral[:1]))
