"""The factors of a form whose product comes nearest to a given group-convolution kernel, as tables of free values."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.models.kernel import GroupKernel
from src.models.low_pass import LowPass

_ROUNDS = 500
_CONVERGED = 1e-13
"""A share of the kernel's energy: where a round of alternating least squares gains less, it is the last."""
_STARTS = 3
"""Of three and more factors, whose alternating least squares may end in different places."""


class Assembled(NamedTuple):
    """A kernel as it acts, and where it is looked at."""

    values: Float[Tensor, "a b u o i"]
    a: Float[Tensor, "a dim"]
    b: Float[Tensor, "b dim"]

    @classmethod
    @torch.no_grad()
    def of(cls, kernel: GroupKernel, other: GroupKernel) -> Assembled:
        """A kernel in double precision, wherever another one of the same elements has anything to say."""
        a = kernel.grid if _is_absolute(kernel) or _is_absolute(other) else _representatives(kernel)
        b = kernel.grid if kernel.carried | other.carried else kernel.group.identity
        shape = (len(a), len(b), prod(kernel.window.taps), kernel.channels["o"], kernel.channels["i"])
        return cls(_acting(double(kernel), a, b).expand(shape), a, b)

    def like(self, kernel: GroupKernel) -> Float[Tensor, "a b u o i"]:
        """Another kernel at the same places."""
        return _acting(kernel, self.a, self.b).expand_as(self.values)

    def loss(self, kernel: GroupKernel) -> Tensor:
        """||K' - K||^2 / ||K||^2 of another kernel."""
        return (self.like(kernel) - self.values).square().sum() / self.values.square().sum()

    @torch.no_grad()
    def error(self, kernel: GroupKernel) -> float:
        """||K' - K|| / ||K|| of another kernel."""
        return float(self.loss(kernel).sqrt())


def _acting(kernel: GroupKernel, a: Tensor, b: Tensor) -> Tensor:
    """(a, b, u, o, i), without the average over input elements, which is the same for all."""
    return kernel(range(len(kernel.nets)), a, b) * kernel.summed


def double(kernel: GroupKernel) -> GroupKernel:
    """A copy in double precision, on the CPU."""
    copy = deepcopy(kernel).to("cpu", torch.float64)
    copy.forget()
    return copy


def _is_absolute(kernel: GroupKernel) -> bool:
    """Whether the kernel depends on its output element itself, and so is not equivariant."""
    return any("a" in factor.coordinates for factor in kernel.factorisation.factors)


def _representatives(kernel: GroupKernel) -> Float[Tensor, "a dim"]:
    """Output elements of the grid of which no two differ by a quarter turn or a flip of the pixels.

    What they have is the same kernel turned, on the same taps, in another order: of several, one says all.
    """
    group, grid = kernel.group, kernel.grid
    turned = group.chart(group.product(grid[group.lattice_exact(grid)][:, None], grid))
    alike = (turned[:, :, None] - group.chart(grid)).abs().sum(-1) < 1e-9  # (turn, a, where it is taken to)
    if not len(alike) or not alike.any(-1).all():  # a grid that is not mapped to itself has other input elements
        return grid
    first = alike.any(0).int().argmax(0)
    return grid[first == torch.arange(len(grid))]


class Table(nn.Module):
    """A factor as free values at the coordinates that it is evaluated at, in place of a kernel net.

    Attributes:
        weight: (p, values), random at first.
        energy: how much of the kernel depends on each row, (p,).
        evaluate: another net at the same coordinates, smoothed as this one would have been: net -> (p, values).
    """

    weight: Tensor | None
    energy: Tensor
    evaluate: Callable[[nn.Module], Tensor]

    def __init__(self, values: int, generator: torch.Generator) -> None:
        super().__init__()
        self.values, self.generator, self.weight = values, generator, None

    def forward(self, coordinates: Float[Tensor, "p columns"]) -> Float[Tensor, "p values"]:
        return self._at(coordinates, partial(_plainly, coordinates))

    def smoothed(
        self, coordinates: Float[Tensor, "p columns"], width: float, space: slice
    ) -> Float[Tensor, "p values"]:
        """As kernel nets have it that know their mean in closed form: these values are to be those of the mean."""
        return self._at(coordinates, partial(LowPass(width), coordinates=coordinates, space=space))

    def _at(self, coordinates: Tensor, evaluate: Callable[[nn.Module], Tensor]) -> Tensor:
        if self.weight is None:
            shape = (len(coordinates), self.values)
            self.weight = torch.randn(shape, generator=self.generator, dtype=coordinates.dtype)
            self.evaluate = evaluate
        return self.weight


def _plainly(coordinates: Tensor, net: nn.Module) -> Tensor:
    return net(coordinates)


def best_tables(kernel: GroupKernel, wanted: Assembled) -> GroupKernel:
    """A copy of a kernel with tables for nets, whose product is as near to what is wanted as its form allows.

    With two factors that share no summed index, such as `oi h, o x`, it is the best approximation of rank 1 of a matrix
    for each output; with more, the best that was found from several starts.

    Args:
        kernel: says the form; in double precision.
        wanted: another kernel.
    """
    several = len(kernel.factorisation.factors) > 2
    found = [_alternate(kernel, wanted, seed) for seed in range(_STARTS if several else 1)]
    best = min(found, key=wanted.error)
    _balance(best)
    return best


@torch.no_grad()
def _alternate(kernel: GroupKernel, wanted: Assembled, seed: int) -> GroupKernel:
    """Alternating least squares from random tables."""
    generator, result = torch.Generator().manual_seed(seed), deepcopy(kernel)
    for n, factor in enumerate(result.factorisation.factors):
        result.nets[n] = Table(prod(result.channels[letter] for letter in factor.channels), generator)
    wanted.like(result)  # tells the tables their coordinates
    before = float("inf")
    for _ in range(_ROUNDS):
        for table in result.nets:
            solve(result, table, wanted)
        after = float(wanted.loss(result))
        if before - after < _CONVERGED:
            break
        before = after
    return result


def solve(kernel: GroupKernel, table: Table, wanted: Assembled) -> None:
    """Give one table T of a kernel its best values, given its other factors as they are.

    The kernel is linear in it, P T, and each of its numbers is a multiple of one value of T. So P^T P is diagonal; its
    diagonal is P^T P 1, and P 1 the kernel of a table of ones.
    """
    with torch.enable_grad():
        table.weight = torch.ones_like(table.weight).requires_grad_()
        ones = wanted.like(kernel)
        (energy,) = torch.autograd.grad(ones, table.weight, ones.detach(), retain_graph=True)
        (share,) = torch.autograd.grad(ones, table.weight, wanted.values)
    table.weight = torch.where(energy > 0, share / energy, 0.0)
    table.energy = energy.sum(-1)


def _balance(kernel: GroupKernel) -> None:
    """Make all factors of one size, for each value of the channels that they share, and leave their product as it is.

    So kernel nets start, and are trained at one rate.
    """
    letters = [factor.channels for factor in kernel.factorisation.factors]
    common = "".join(letter for letter in "oi" if all(letter in own for own in letters))
    tables = [
        net.weight.unflatten(-1, [kernel.channels[letter] for letter in own])
        for net, own in zip(kernel.nets, letters, strict=True)
    ]
    squares = [torch.einsum(f"p{own}->{common}", table**2) for own, table in zip(letters, tables, strict=True)]
    sizes = torch.stack(
        [(own / table.numel() * own.numel()).sqrt() for own, table in zip(squares, tables, strict=True)]
    )
    scales = torch.where(sizes > 0, sizes.log().mean(0).exp() / sizes, 1.0)  # a factor of zeros leaves the others alone
    for net, own, table, scale in zip(kernel.nets, letters, tables, scales, strict=True):
        net.weight = torch.einsum(f"p{own},{common}->p{own}", table, scale).flatten(1)
