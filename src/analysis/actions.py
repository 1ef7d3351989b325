"""Group elements that a net is measured with, by what they do to space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from src.groups import SO2, SO3, Group, Reflection
from src.models import GConv
from src.models.gconv import convolutions

LATTICE, RANDOM = "lattice", "random"
_WITHOUT_ONE: dict[int, tuple[Group, tuple[int, ...]]] = {
    1: (Reflection(space=1), (2,)),
    2: (SO2(), (8,)),
    3: (SO3(), (24,)),
}
"""What a net without a group is measured with, by the dimension of the space."""


class Action(NamedTuple):
    """A group element, and what it is measured for."""

    kind: str
    """What it does to the plane, such as "rotation"; or "random"."""
    element: Tensor
    """(1, dim)"""
    exact: bool
    """Whether a net must commute with it to rounding."""


def kinds(group: Group, sizes: Sequence[int]) -> dict[str, Tensor]:
    """Elements of a grid that move the plane, each in one part of the group alone, by what they do.

    They are rotation, reflection or scale by their matrices; others have the name of their group's class.

    Args:
        group: H.
        sizes: as for `group.grid`.

    Returns:
        (n, dim) of each kind.
    """
    found: dict[str, list[Tensor]] = {}
    for n, (part, own) in enumerate(group.part_sizes(group.sizes(sizes))):
        for element in part.grid(*own):
            if (kind := _kind_of(part, element)) is not None:
                found.setdefault(kind, []).append(_embedded(group, n, element))
    return {kind: torch.stack(elements) for kind, elements in found.items()}


def _kind_of(part: Group, element: Tensor) -> str | None:
    """What an element (dim,) of one part does to the plane; None for nothing."""
    matrix = part.matrix(element)
    eye = torch.eye(part.space).to(matrix)
    if torch.allclose(matrix, eye):
        return None
    if torch.allclose(matrix @ matrix.mT, eye):
        return "rotation" if torch.linalg.det(matrix) > 0 else "reflection"
    if torch.allclose(matrix, matrix[0, 0] * eye):
        return "scale"
    return type(part).__name__.lower()


def _embedded(group: Group, n: int, element: Tensor) -> Tensor:
    """The element (dim,) of the whole group that is `element` in part n, and the identity in all others."""
    coordinates = list(group.split(group.identity[0]))
    coordinates[n] = element
    return torch.cat(coordinates)


def actions(group: Group, sizes: Sequence[int], random: int, promised: bool = True) -> list[Action]:
    """The grid's elements by kind, then random ones off the grid; inverses of those that enlarge.

    Args:
        group: H.
        sizes: as for `group.grid`.
        random: how many random ones; of a finite group those that are not of the grid.
        promised: whether the net is meant to commute with the group.
    """
    chosen = [(kind, element) for kind, elements in kinds(group, sizes).items() for element in elements]
    grid = group.matrix(group.grid(*group.sizes(sizes)))
    for element in group.random(random, torch.Generator().manual_seed(0)):
        if not torch.isclose(group.matrix(element), grid).all(-1).all(-1).any():
            chosen.append((RANDOM, element))
    inward = [(kind, group.inverse(g) if group.det(g) > 1 + 1e-9 else g) for kind, g in chosen]
    return [Action(kind, g[None], promised and bool(group.lattice_exact(g))) for kind, g in inward]


def acting(net: nn.Module) -> tuple[Group, tuple[int, ...], bool]:
    """The group that a net is measured with, the sizes of its grid, and whether it is the net's own."""
    space = 2
    for conv in layers_of(net).values():
        space = conv.group.space
        if kinds(conv.group, conv.elements):
            return conv.group, conv.elements, True
    return *_WITHOUT_ONE[space], False


def layers_of(net: nn.Module) -> dict[str, GConv]:
    """Group convolutions by name, without the `net.` of a LightningModule."""
    return {name.removeprefix("net."): conv for name, conv in convolutions(net).items()}
