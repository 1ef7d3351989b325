"""Scalar, sign-flip and regular fields of a reflection: projections of fields on its two elements."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch
from torch import nn

from src.models.field import Field
from src.models.gconv import GConv


class FieldTypes(NamedTuple):
    """How many channels of a field on {e, s} are of which type, in this order.

    Irreducible fields are scalar and sign-flip ones; all three together are mixed.
    """

    scalar: int
    """Equal on both elements: a reflection moves them."""
    sign_flip: int
    """Opposite on both elements: a reflection moves them and changes their sign."""
    regular: int
    """Any: a reflection moves them and exchanges the elements."""

    def times(self, n: int) -> FieldTypes:
        """So many times as many of each."""
        return FieldTypes(*(n * count for count in self))


class Projection(nn.Module):
    """The nearest field of some types: means over the elements, what is left without them, or all.

    Whatever commutes with the action of the group on regular fields, such as an activation, a norm, a pool or a
    convolution, does so on those of every type when it is projected. A constant is left of no sign-flip field. Their
    part of a ReLU or GELU is linear, relu(v) - relu(-v) = v, unless a bias or norm comes before: it is then the
    threshold of an odd function. That of an ELU never is.

    Args:
        types: of the channels.

    Example:
        >>> field = Field(torch.tensor([3.0, 1.0])[:, None, None].expand(1, 3, 2, 1, 1), torch.tensor([[0.0], [1.0]]))
        >>> Projection(FieldTypes(1, 1, 1))(field).values.squeeze()
        tensor([[ 2.,  2.],
                [ 1., -1.],
                [ 3.,  1.]])
    """

    def __init__(self, types: FieldTypes) -> None:
        super().__init__()
        self.types = FieldTypes(*types)
        for name, (scalar, sign_flip, regular) in {"own": (0.0, 1.0, 1.0), "mean": (1.0, -1.0, 0.0)}.items():
            shares = [scalar] * self.types.scalar + [sign_flip] * self.types.sign_flip + [regular] * self.types.regular
            self.register_buffer(name, torch.tensor(shares), persistent=False)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={count}" for name, count in self.types._asdict().items())

    def forward(self, field: Field) -> Field:
        if self.types.regular == sum(self.types):
            return field
        pixels = field.pixels()
        return Field.from_pixels(pixels * self.own + pixels.mean(-2, keepdim=True) * self.mean, field.elements)


class TypedConv(nn.Module):
    """A convolution to fields of some types: its kernels are projected to those that are steerable for them.

    Of a kernel k(x, h) of regular fields, a scalar output keeps what is even under (x, h) -> s (x, h), and a sign-flip
    one what is odd; they are scaled by the root of 2, as half of the kernel is left out. Together with what the types
    of the input leave, these are all kernels there are. A bias is added afterwards: of sign-flip fields it is the
    threshold of their activation, after which they must be projected again.

    Args:
        conv: to all channels.
        types: of its outputs.

    Example:
        >>> from src.groups import Reflection
        >>> conv = GConv(1, 3, 3, group=Reflection(), elements=[2], implementation="lifting", boundary="moebius")
        >>> TypedConv(conv, FieldTypes(1, 1, 1))(Field.of_images(torch.zeros(2, 1, 8, 8), Reflection())).values.shape
        torch.Size([2, 3, 2, 8, 8])
    """

    def __init__(self, conv: GConv, types: FieldTypes) -> None:
        super().__init__()
        self.conv, self.project = conv, Projection(types)
        self.bias, conv.bias = conv.bias, None
        gains = torch.full((types.scalar + types.sign_flip,), sqrt(2) if len(conv.kernel.grid) > 1 else 1.0)
        self.register_buffer("gains", torch.cat([gains, torch.ones(types.regular)]), persistent=False)

    def forward(self, field: Field) -> Field:
        """(n, i, b, *space) -> (n, o, a, *outputs)."""
        field = self.project(self.conv(field))
        pixels = field.pixels()
        if self.project.types.regular < len(self.gains):
            pixels = pixels * self.gains
        return Field.from_pixels(pixels if self.bias is None else pixels + self.bias, field.elements)
