"""Feature maps on a group, together with the group elements they are sampled at."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Group


class Field(NamedTuple):
    """A function on R^d x H, sampled on pixels and on a list of elements of H.

    The elements travel with the values, so an element g acts by `Field(warp(values, g), product(g, elements))`, with no
    permutation of the group axis and for any sampling.

    In memory channels are fastest, (n, *space, b, c), for instance (n, y, x, b, c): folding (b, c) into the channels of
    a convolution is then free, and so are norms and mixing over (pixels, channels). `pixels` and `from_pixels` go
    between the two orders.

    Example:
        >>> from src.groups import SO2
        >>> Field.of_images(torch.zeros(2, 3, 28, 28), SO2()).values.shape
        torch.Size([2, 3, 1, 28, 28])
    """

    values: Float[Tensor, "n c b *space"]
    """(n, c, b, *space), so (n, c, b, x), (n, c, b, y, x) or (n, c, b, z, y, x)"""
    elements: Float[Tensor, "b dim"]
    """(b, dim)"""

    @classmethod
    def of_images(cls, images: Float[Tensor, "n c *space"], group: Group) -> Field:
        """Images (n, c, *space) are fields on the one element {e}."""
        return cls(images[:, :, None], group.identity)

    @classmethod
    def from_pixels(cls, pixels: Float[Tensor, "n *space b c"], elements: Float[Tensor, "b dim"]) -> Field:
        """(n, *space, b, c) to a field, without a copy."""
        return cls(torch.einsum("n...bc->ncb...", pixels), elements)

    def pixels(self) -> Float[Tensor, "n *space b c"]:
        """(n, *space, b, c), contiguous; without a copy if the values lie in memory as they should."""
        return torch.einsum("ncb...->n...bc", self.values).contiguous()

    def planes(self) -> Float[Tensor, "n bc *space"]:
        """(n, b c, *space), a batch of images in channels-last memory."""
        return torch.einsum("n...k->nk...", self.pixels().flatten(-2))

    def with_planes(self, planes: Float[Tensor, "n bc *space"]) -> Field:
        """The field whose `planes` are (n, b c, *space), on the same elements."""
        pixels = torch.einsum("nk...->n...k", planes).unflatten(-1, (len(self.elements), -1))
        return Field.from_pixels(pixels, self.elements)


class Pointwise(nn.Module):
    """Apply a module that keeps the group axis to the values of a field, such as an activation or dropout.

    Example:
        >>> from src.groups import SO2
        >>> Pointwise(nn.ReLU())(Field.of_images(-torch.ones(2, 3, 28, 28), SO2())).values.unique()
        tensor([0.])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, field: Field) -> Field:
        return Field(self.module(field.values), field.elements)


def joined(*fields: Field) -> Field:
    """The channels of several fields on the same pixels and elements, one after the other, as one field."""
    return Field.from_pixels(torch.cat([field.pixels() for field in fields], -1), fields[0].elements)


def check_field(field: Field, channels: int, space: int) -> None:
    """Raises ValueError unless a field has so many channels, and values for each of its elements, in R^space."""
    shape, axes = tuple(field.values.shape), ", ".join("zyx"[-space:])
    if len(shape) != 3 + space or shape[1] != channels:
        raise ValueError(
            f"`field` must have values (n, {channels}, b, {axes}), but got {shape}; make one from images with "
            "Field.of_images(images, group)."
        )
    if shape[2] != len(field.elements):
        raise ValueError(
            f"`field` has values on {shape[2]} elements, (n, c, b, {axes}) = {shape}, but lists "
            f"{len(field.elements)} elements."
        )


def check_size(field: Field, kernel_size: int, padding: int) -> None:
    """Raises ValueError if a field is smaller than a kernel."""
    size = field.values.shape[3:]
    if kernel_size > min(size) + padding:
        raise ValueError(
            f"`kernel_size` must not exceed the image with its padding, but got {kernel_size} for "
            f"{' x '.join(map(str, size))} pixels; use a smaller kernel, larger images, or fewer pools."
        )
