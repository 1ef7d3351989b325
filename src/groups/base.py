r"""What a group is: a law, an inverse, matrices that act on a space R^d, coordinates for kernels, and a grid.

An element of H is a vector of real coordinates, a set of n elements is a tensor (n, dim). There are no element
objects and no parameters: a group is a frozen dataclass, equal by value. Elements are a handful of numbers, so `grid`
and `random` return them as float64 on the CPU: they are exact there, cost nothing and never make a GPU wait.

Vectors of the space are in the order in which pixels are indexed: u = (x) in sequences, (y, x) with y pointing down in
images, (z, y, x) in volumes. Matrices act on them from the left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from math import pi
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Axis(NamedTuple):
    """One coordinate that a kernel depends on: its topology, and how many lattice sites resolve it.

    A `circle` of n sites closes on itself; a `space`, `interval` or `points` axis has sites from -1 to 1 inclusive;
    the sites of `rotations` of R^3 are those of `SO3().grid(n)`.

    Example:
        >>> Axis("circle", 8).columns
        2
    """

    kind: Literal["space", "circle", "interval", "points", "rotations"]
    sites: int

    @property
    def columns(self) -> int:
        """Numbers per coordinate: a circle is the pair (cos, sin), so it has no seam; rotations are their matrices."""
        return {"circle": 2, "rotations": 9}.get(self.kind, 1)

    @property
    def dimension(self) -> int:
        """Of what is coordinated, whatever the number of columns."""
        return 3 if self.kind == "rotations" else 1


class Group(ABC):
    """A matrix group H acting on R^d; subclasses give the abstract methods, everything else is derived.

    Example:
        >>> from src.groups import SO2
        >>> group: Group = SO2()
        >>> group.act(group.grid(4)[1], torch.tensor([1.0, 0.0])).round()
        tensor([0., 1.], dtype=torch.float64)
    """

    dim: int
    """Coordinates of an element."""
    space: int = 2
    """The dimension d of the space that it acts on: 1 for sequences, 2 for images, 3 for volumes."""
    counts: ClassVar[tuple[str, ...]]
    """What each argument of `grid` counts, for instance ("rotations",)."""
    extent: float = 1.0
    """Largest dilation: kernels are sampled on [-extent, extent]^d, so that the largest one fills its window."""

    @abstractmethod
    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        """The law: (..., dim), (..., dim) -> (..., dim), broadcasting."""

    @abstractmethod
    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """(..., dim) -> (..., dim)."""

    @abstractmethod
    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch d d"]:
        """The homomorphism into GL(d): (..., dim) -> (..., d, d)."""

    @abstractmethod
    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch columns"]:
        """Continuous coordinates for kernels: (..., dim) -> (..., sum of columns), one `Axis` after the other."""

    @abstractmethod
    def axes(self, *sizes: int) -> tuple[Axis, ...]:
        """Topology of the chart, with the lattice sites that relative coordinates of `grid(*sizes)` fall on."""

    @abstractmethod
    def grid(self, *sizes: int) -> Float[Tensor, "n dim"]:
        """Deterministic sampling: (prod(sizes), dim), float64."""

    @abstractmethod
    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        """n elements drawn uniformly from the sampled range: (n, dim), float64."""

    def sample(self, sizes: Sequence[int], generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        """A random coset of the grid, (prod(sizes), dim).

        The grid is translated from the right: for a grid that is a subgroup, the coset is then mapped to itself by
        the left action of the grid, and a network stays exactly invariant under it whatever was drawn.
        """
        return self.product(self.grid(*self.sizes(sizes)), self.random(1, generator))

    @property
    def parts(self) -> tuple[Group, ...]:
        """The factors of a direct product, what `h0`, `h1` refer to in a formula; other groups are their own part."""
        return (self,)

    @property
    def identity(self) -> Float[Tensor, "1 dim"]:
        """(1, dim), the same tensor each time, by which what was computed from it can be recognised."""
        return _identity_of(self)

    def split(self, a: Float[Tensor, "*batch dim"]) -> tuple[Float[Tensor, "*batch _"], ...]:
        """The coordinates of each part: (..., dim) -> one (..., part.dim) per part."""
        return a.split([part.dim for part in self.parts], -1)

    def part_sizes(self, sizes: Sequence[int]) -> list[tuple[Group, tuple[int, ...]]]:
        """Each part with its own share of the arguments of `grid`."""
        rest = iter(sizes)
        return [(part, tuple(next(rest) for _ in part.counts)) for part in self.parts]

    def factor_grid(self, elements: Float[Tensor, "n dim"]) -> tuple[Float[Tensor, "_ _"], ...] | None:
        """The parts' elements if `elements` is their product as in `grid`, last varying fastest; else none."""
        return (elements,)

    def act(self, a: Float[Tensor, "*#batch dim"], u: Float[Tensor, "*#batch d"]) -> Float[Tensor, "*batch d"]:
        """Move vectors: (..., dim), (..., d) -> (..., d), broadcasting."""
        matrix = self.matrix(a)
        dtype = torch.promote_types(matrix.dtype, u.dtype)
        return torch.einsum("...ij,...j->...i", matrix.to(dtype), u.to(dtype))

    def det(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch"]:
        """By how much an element scales volumes, in images areas, |det|: (..., dim) -> (...)."""
        return torch.linalg.det(self.matrix(a)).abs()

    def relative(self, a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"]) -> Float[Tensor, "a b dim"]:
        """h_a^-1 h_b for all pairs: (a, dim), (b, dim) -> (a, b, dim)."""
        return self.product(self.inverse(a)[:, None], b[None])

    def lattice_exact(self, a: Float[Tensor, "*batch dim"]) -> Bool[Tensor, "*batch"]:
        """Which elements map a pixel lattice to itself (quarter turns and flips): (..., dim) -> (...) of bool."""
        matrix = self.matrix(a)
        return ((matrix - matrix.round()).abs() < 1e-9).all(-1).all(-1) & (
            matrix.abs().sum((-2, -1)).sub(self.space).abs() < 1e-9
        )

    def sizes(self, elements: Sequence[int]) -> tuple[int, ...]:
        """`elements` as the arguments of `grid`.

        Raises:
            ValueError: if there is not one positive number for each of `counts`.
        """
        sizes = tuple(int(size) for size in elements)
        if len(sizes) != len(self.counts) or any(size < 1 for size in sizes):
            names, example = ", ".join(self.counts), [8, 3, 2, 2][: len(self.counts)]
            raise ValueError(
                f"`elements` must give {len(self.counts)} positive number(s) for {self} ({names}), but got "
                f"{list(elements)}; pass for instance elements={example if self.dim else [1]}."
            )
        return sizes


def require_space(space: int) -> None:
    """Raises ValueError for a dimension that there are no convolutions in."""
    if space not in (1, 2, 3):
        raise ValueError(f"`space` must be 1 (sequences), 2 (images) or 3 (volumes), but got {space!r}.")


@cache
@torch.inference_mode(False)
def _identity_of(group: Group) -> Tensor:
    """(1, dim)."""
    element = group.grid(*(1 for _ in group.counts))
    return group.product(element, group.inverse(element))


def wrap(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Angles in (-pi, pi]."""
    return pi - torch.remainder(pi - angle, 2 * pi)


def rotation(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 2 2"]:
    """(...) -> (..., 2, 2), turning the y axis towards the x axis: pi/2 is `torch.rot90(image, 1, (-2, -1))`."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
