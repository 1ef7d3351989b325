"""Rotations and reflections of R^3."""

from __future__ import annotations

from collections.abc import Sequence

from src.groups.product import Product
from src.groups.reflection import Reflection
from src.groups.so3 import SO3


class O3(Product):
    """Rotations, alone and after the point reflection u -> -u; with R^3 it makes E(3).

    Unlike in the plane, where it is O2, the reflection commutes with all rotations: the group is a direct product.

    Example:
        >>> O3().grid(24, 2).shape
        torch.Size([48, 5])
    """

    def __init__(self) -> None:
        super().__init__(SO3(), Reflection(space=3, point=True))

    def __repr__(self) -> str:
        return "O3()"

    def sizes(self, elements: Sequence[int]) -> tuple[int, ...]:
        """As for every group, but [n] is short for [n, 2]."""
        return super().sizes((*elements, 2) if len(elements) == 1 else elements)
