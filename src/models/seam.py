"""What lies beyond the ends of the last axis: nothing, the other end, or the other end reflected."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Group
from src.models.field import Field
from src.require import require, require_choice

_BOUNDARIES = ("zeros", "circular", "moebius")


def seam_of(
    boundary: str, group: Group, elements: Float[Tensor, "b dim"], conv: tuple[int, int, int | str | None]
) -> _Seam | None:
    """The seam of a convolution, or none where its boundary is `zeros`.

    Args:
        boundary: `zeros`, `circular` or `moebius`.
        group, elements: see `_Seam`.
        conv: its kernel size, stride and padding.

    Raises:
        ValueError: if it cannot have one.
    """
    require_choice("conv.boundary", boundary, _BOUNDARIES)
    if boundary == "zeros":
        return None
    kernel_size, stride, padding = conv
    require("conv.padding", padding, padding != "causal", f"null or pixels, as conv.boundary={boundary} has no past")
    require("conv.kernel_size", kernel_size, kernel_size % 2 == 1, f"odd for conv.boundary={boundary}")
    return _Seam(boundary, group, elements, stride)


class _Seam:
    """Where the two ends of the axis x are glued: straight, to a ring, or with a flip across, to a Möbius strip.

    What a convolution sees beyond one end is the field at the other end, transported there. Across the seam of a
    Möbius strip that is the action of the reflection s across the strip, which moves values and labels alike:
    s.f = Field(flip(values), product(s, elements)). A field on {e, s} so exchanges its two elements, those of its
    channels that are equal on both (scalar fields) are flipped, and those that are opposite (sign-flip fields) change
    sign as well. Since a kernel sees relative coordinates only, it does not matter where the seam is.

    The trivial group has no reflection: images are flipped as they are, but what convolves them is not, and the seam
    shows. It is there for comparison.

    Args:
        kind: `circular` or `moebius`.
        group: the group H of the fields.
        elements: those that are sampled, (b, dim).
        stride: of what is seen: every so many pixels around the strip.

    Raises:
        ValueError: if elements do not map the axis x to itself, or lack the reflection.

    Reference: Coordinate Independent Convolutional Networks (Weiler, Forré, Verlinde, Welling, 2021), chapter 5
    https://arxiv.org/abs/2106.06020

    Example:
        >>> from src.groups import Trivial
        >>> field = Field.of_images(torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]]), Trivial())
        >>> _Seam("moebius", Trivial(), Trivial().grid(1)).extend(field, 1, 0, False)[0, ..., 0, 0]
        tensor([[6., 1., 2., 3., 4.],
                [3., 4., 5., 6., 1.]])
    """

    def __init__(self, kind: str, group: Group, elements: Float[Tensor, "b dim"], stride: int = 1) -> None:
        require_choice("conv.boundary", kind, _BOUNDARIES[1:])
        self.kind, self.group, self.stride = kind, group, stride
        matrices = group.matrix(elements)
        mixed = torch.cat([matrices[:, -1, :-1], matrices[:, :-1, -1]], -1).abs()
        if (mixed > 1e-9).any():
            raise ValueError(
                f"`conv.boundary` {kind} glues the ends of the last axis, which groups must map to itself, but got "
                f"{group} with elements that turn it; use group=reflection or r2, or conv.boundary=zeros."
            )
        self.reflection = self._find(elements, matrices) if kind == "moebius" else None
        self._known: tuple[Tensor, list[int]] | None = None

    def __repr__(self) -> str:
        return self.kind

    def _find(self, elements: Tensor, matrices: Tensor) -> Tensor | None:
        """The element (1, dim) that reverses the first axis alone; none of the trivial group."""
        d = self.group.space
        across = torch.eye(d, dtype=matrices.dtype)
        across[0, 0] = -1
        found = ((matrices - across).abs() < 1e-9).flatten(1).all(1)
        if d == 1 or not (found.any() or self.group.dim == 0):
            raise ValueError(
                "`conv.boundary` moebius needs images or volumes, and a group whose elements have the reflection of "
                f"the first axis, but got {self.group} with {len(elements)} element(s); use group=reflection with "
                "elements [2], or group=r2, which is not equivariant there."
            )
        return elements[found][:1] if found.any() else None

    def extend(self, field: Field, columns: int, zeros: int, labelled: bool) -> Float[Tensor, "n *space b c"]:
        """The pixels of a field with what is around them.

        Args:
            field: on elements that the reflection maps to themselves.
            columns: how many are seen beyond each end of the last axis; at most as many as there are.
            zeros: at both ends of the other axes; where negative, pixels that are left out.
            labelled: whether a kernel tells the field's elements apart. If not, an image on {e} stands for one that is
                the same on all elements.

        Raises:
            ValueError: if there are too few columns, or not a whole number of strides of them, or the reflection of an
                element is not among the field's.
        """
        pixels = field.pixels()
        width = pixels.shape[-3]
        if columns > width or width % self.stride:
            raise ValueError(
                f"`conv.boundary` {self.kind} needs images whose last axis is a multiple of the stride {self.stride} "
                f"and at least {columns} pixels, which a kernel sees to each side, but got {width}; use a smaller "
                "kernel, fewer strides or pools, or other images."
            )
        if zeros:
            pixels = nn.functional.pad(pixels, (*[0] * 6, *[zeros] * (2 * (pixels.dim() - 4))))
        if not columns:
            return pixels
        ends = pixels.narrow(-3, width - columns, columns), pixels.narrow(-3, 0, columns)
        if self.kind == "moebius":
            order = self._order(field.elements) if labelled and self.reflection is not None else None
            ends = tuple(_reflected(end, order) for end in ends)
        return torch.cat([ends[0], pixels, ends[1]], -3)

    def _order(self, elements: Tensor) -> list[int]:
        """For each element b the place of s^-1 b, whose values s takes to it; kept while they are the same tensor."""
        if self._known is None or self._known[0] is not elements:
            group = self.group
            chart = group.chart(elements)
            source = group.chart(group.product(group.inverse(self.reflection), elements))
            same = ((source[:, None] - chart[None]).abs() < 1e-9).all(-1)
            if not same.any(1).all():
                raise ValueError(
                    f"`field` must have the reflection of each of its elements, but {len(elements)} element(s) of "
                    f"{group} lack some; lift images with implementation='lifting', and sample both."
                )
            self._known = (elements, same.int().argmax(1).tolist())
        return self._known[1]


def _reflected(pixels: Tensor, order: list[int] | None) -> Tensor:
    """(n, *space, b, c) with the first axis reversed, and elements put in an order if there is one."""
    flipped = pixels.flip(1)
    return flipped if order is None else flipped.index_select(-2, torch.tensor(order, device=pixels.device))


class SeamPad(nn.Module):
    """`_Seam.extend` in front of a plain convolution: planes (n, i b, *space) with columns and zeros around them.

    Args:
        seam: what is glued.
        elements: of the planes, (b, dim).
        columns: at both ends of the last axis.
        zeros: at both ends of the other axes; where negative, pixels that are left out.
        labelled: see `_Seam.extend`.
    """

    def __init__(self, seam: _Seam, elements: Tensor, columns: int, zeros: int, labelled: bool) -> None:
        super().__init__()
        self.seam, self.elements, self.columns, self.zeros, self.labelled = seam, elements, columns, zeros, labelled

    def forward(self, planes: Float[Tensor, "n ib *space"]) -> Float[Tensor, "n ib *larger"]:
        """(n, i b, *space) -> (n, i b, *larger)."""
        field = Field(planes.unflatten(1, (-1, len(self.elements))), self.elements)
        pixels = self.seam.extend(field, self.columns, self.zeros, self.labelled)
        return torch.einsum("n...bi->nib...", pixels).flatten(1, 2)
