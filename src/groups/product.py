"""Direct products, such as rotations and dilations together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups.base import Axis, Group


@dataclass(frozen=True, init=False)
class Product(Group):
    """Groups whose matrices commute, side by side: Product(SO2(), Dilation(1.74)) with R^2 is Sim(2).

    Elements are the parts' coordinates one after the other; in a grid the last part varies fastest.

    Args:
        parts: the groups, each of one part.

    Raises:
        ValueError: if two parts act on different spaces, or do not commute, such as rotations and reflections of the
            plane (that group is O2).

    Example:
        >>> from src.groups import SO2, Dilation
        >>> Product(SO2(), Dilation(2.0)).grid(8, 3).shape
        torch.Size([24, 2])
    """

    factors: tuple[Group, ...]

    def __init__(self, *parts: Group) -> None:
        object.__setattr__(self, "factors", tuple(part for group in parts for part in group.parts))
        if len({part.space for part in self.factors}) != 1:
            raise ValueError(
                "the parts of a `Product` must act on one space, but "
                + ", ".join(f"{part} acts on R^{part.space}" for part in self.factors)
                + "; give Trivial, Reflection and Dilation the `space` of the others."
            )
        probe = [part.matrix(part.random(4, torch.Generator().manual_seed(0))) for part in self.factors]
        for i, left in enumerate(probe):
            for j, right in enumerate(probe[:i]):
                if not torch.allclose(left @ right, right @ left):
                    raise ValueError(
                        f"the parts of a `Product` must commute, but {self.factors[j]} and {self.factors[i]} do not; "
                        "a semidirect product is a group of its own, for instance O2()."
                    )

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.factors))})"

    @property
    def parts(self) -> tuple[Group, ...]:
        return self.factors

    @property
    def space(self) -> int:
        return self.factors[0].space

    @property
    def dim(self) -> int:
        return sum(part.dim for part in self.parts)

    @property
    def counts(self) -> tuple[str, ...]:
        return sum((part.counts for part in self.parts), ())

    @property
    def extent(self) -> float:
        return prod(part.extent for part in self.parts)

    def product(self, a: Float[Tensor, "*#batch dim"], b: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch dim"]:
        pairs = zip(self.parts, *map(self.split, torch.broadcast_tensors(a, b)), strict=True)
        return torch.cat([part.product(left, right) for part, left, right in pairs], -1)

    def inverse(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return torch.cat([part.inverse(x) for part, x in self._coordinates(a)], -1)

    def matrix(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch d d"]:
        return reduce(torch.matmul, [part.matrix(x) for part, x in self._coordinates(a)])

    def chart(self, a: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch columns"]:
        return torch.cat([part.chart(x) for part, x in self._coordinates(a)], -1)

    def axes(self, *sizes: int) -> tuple[Axis, ...]:
        return sum((part.axes(*own) for part, own in self.part_sizes(sizes)), ())

    def grid(self, *sizes: int) -> Float[Tensor, "n dim"]:
        return _cartesian([part.grid(*own) for part, own in self.part_sizes(sizes)])

    def random(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        return torch.cat([part.random(n, generator) for part in self.parts], -1)

    def sample(self, sizes: Sequence[int], generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        return _cartesian([part.sample(own, generator) for part, own in self.part_sizes(self.sizes(sizes))])

    def factor_grid(self, elements: Float[Tensor, "n dim"]) -> tuple[Float[Tensor, "_ _"], ...] | None:
        rest, sets = elements, []
        for part, own in zip(self.parts, self.split(elements), strict=True):
            repeats = int((own[: len(rest)] == own[0]).all(-1).long().cumprod(0).sum())
            sets.append(own[: len(rest) : repeats])
            rest = rest[:repeats] if part is not self.parts[-1] else rest
        combined = _cartesian(sets)
        return tuple(sets) if combined.shape == elements.shape and bool((combined == elements).all()) else None

    def _coordinates(self, a: Tensor) -> Iterable[tuple[Group, Tensor]]:
        return zip(self.parts, self.split(a), strict=True)


def _cartesian(sets: Sequence[Tensor]) -> Tensor:
    """Every combination of one element from each set, the last varying fastest: [(n_j, d_j)] -> (prod n_j, sum d_j)."""
    index = torch.meshgrid(*(torch.arange(len(elements)) for elements in sets), indexing="ij")
    return torch.cat([elements[i.flatten()] for elements, i in zip(sets, index, strict=True)], -1)
