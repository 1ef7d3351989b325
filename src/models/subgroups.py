r"""Pools over group elements: to a subgroup, which all later layers are equivariant under, and over cosets.

An element g acts on fields from the left, (g.f)(h) = f(g^-1 h). So what is taken together from the right, f(h k) over
k, moves with all of the group; and what lies in one right coset S t of a subgroup S is moved within it by S.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.groups import Group
from src.models.field import Field
from src.require import require_choice


class _ElementPool(nn.Module):
    """Takes elements of a field together, as a subgroup says.

    Args:
        group: the group H of the field.
        subgroup: how many elements of H the subgroup has, as for `group.grid`.

    Raises:
        ValueError: if those elements are no subgroup.
    """

    def __init__(self, group: Group, subgroup: Sequence[int], kind: str) -> None:
        super().__init__()
        self.group, self.subgroup, self.kind = group, group.sizes(subgroup), kind
        self.own = group.grid(*self.subgroup)
        products = group.product(self.own[:, None], self.own[None]).flatten(0, 1)
        if _places(group, products, self.own) is None:
            raise ValueError(
                f"`subgroup` must be closed under products, but the grid {list(self.subgroup)} of {group} is not; use "
                "a divisor of the rotations, 1 of scales, or 1, 4, 12, 24 or 60 rotations of R^3."
            )
        self._known: tuple[Tensor, Tensor] | None = None

    def extra_repr(self) -> str:
        return f"{list(self.subgroup)} of {self.group}, {self.kind}"

    def members(self, elements: Float[Tensor, "b dim"]) -> Int[Tensor, "a t"]:
        """Which input elements each of the output elements is made of; the first of them is its label."""
        raise NotImplementedError

    def forward(self, field: Field) -> Field:
        """(n, c, b, *space) to (n, c, a, *space); to (n, c t, a, *space) where they become channels."""
        if self._known is None or self._known[0] is not field.elements:
            self._known = (field.elements, self.members(field.elements))
        index = self._known[1]
        taken = field.pixels()[..., index.to(field.values.device), :]
        pixels = {"max": lambda: taken.amax(-2), "mean": lambda: taken.mean(-2), "stack": lambda: taken.flatten(-2)}
        return Field.from_pixels(pixels[self.kind](), self._labels(field.elements, index))

    def _labels(self, elements: Tensor, index: Tensor) -> Tensor:
        return elements[index[:, 0]]

    def _find(self, elements: Tensor, wanted: Tensor) -> Tensor:
        """Where products with the subgroup are in a field's elements. Raises ValueError if they are not all there."""
        found = _places(self.group, wanted, elements)
        if found is None:
            raise ValueError(
                f"`subgroup` {list(self.subgroup)} of {self.group} must map the elements of the field to each other, "
                f"but takes its {len(elements)} elements to others; use one whose sizes divide those of the field."
            )
        return found


class SubgroupPool(_ElementPool):
    r"""A field on H to one on a subgroup S: f'(s) = max_t f(s t), where the cosets S t are all of H.

    It commutes with S. With S = {e} this is the maximum over all elements, and is invariant under all of H: what comes
    next is an image, to be lifted anew by a kernel that does not depend on elements. `stack` keeps all that there is,
    f(s t) for each t as a channel of its own: the restriction of f to S.

    Args:
        group: the group H.
        subgroup: how many elements S has, as for `group.grid`: [2] of rotations by quarter turns, [4, 1] of p4m.
        kind: `max`, `mean` or `stack`.

    Raises:
        ValueError: if there is no such subgroup; from a field, if S does not map its elements to each other.

    Reference: Group Equivariant Convolutional Networks (Cohen, Welling, 2016), section 6.3
    https://arxiv.org/abs/1602.07576

    Example:
        >>> from src.groups import O2
        >>> field = Field(torch.zeros(1, 3, 8, 5, 5), O2().grid(4, 2))
        >>> SubgroupPool(O2(), [4, 1])(field).values.shape, SubgroupPool(O2(), [4, 1], "stack")(field).values.shape
        (torch.Size([1, 3, 4, 5, 5]), torch.Size([1, 6, 4, 5, 5]))
    """

    def __init__(self, group: Group, subgroup: Sequence[int], kind: str = "max") -> None:
        require_choice("restriction", kind, ("max", "mean", "stack"))
        super().__init__(group, subgroup, kind)

    def members(self, elements: Float[Tensor, "b dim"]) -> Int[Tensor, "s t"]:
        """Where s t is, for one t of each right coset."""
        free, cosets = torch.ones(len(elements), dtype=torch.bool), []
        for n in range(len(elements)):
            if free[n]:
                cosets.append(self._find(elements, self.group.product(self.own, elements[n])))
                free[cosets[-1]] = False
        return torch.stack(cosets, 1)


class CosetPool(_ElementPool):
    r"""A field on H to one that is constant on the cosets h K of a subgroup: f'(h) = max_k f(h k).

    It commutes with all of H, and so do group convolutions after it: they see the mean of their kernel over K.

    Args:
        group: the group H.
        subgroup: how many elements K has, as for `group.grid`.
        kind: `max` or `mean`.

    Raises:
        ValueError: if there is no such subgroup; from a field, if its elements are not made of whole cosets.

    Example:
        >>> from src.groups import SO2
        >>> field = Field(torch.arange(4.0).reshape(1, 1, 4, 1, 1), SO2().grid(4))
        >>> CosetPool(SO2(), [2])(field).values.flatten()
        tensor([2., 3., 2., 3.])
    """

    def __init__(self, group: Group, subgroup: Sequence[int], kind: str = "max") -> None:
        require_choice("kind", kind, ("max", "mean"))
        super().__init__(group, subgroup, kind)

    def members(self, elements: Float[Tensor, "b dim"]) -> Int[Tensor, "b k"]:
        """Where h k is."""
        return self._find(elements, self.group.product(elements[:, None], self.own[None]))

    def _labels(self, elements: Tensor, index: Tensor) -> Tensor:
        return elements


def _places(group: Group, wanted: Tensor, elements: Tensor) -> Tensor | None:
    """The index of each of `wanted` (..., dim) in `elements` (b, dim); none if one is not there."""
    distance = (group.chart(wanted)[..., None, :] - group.chart(elements)).square().sum(-1)
    nearest, index = distance.min(-1)
    return index if bool((nearest < 1e-12).all()) else None
