"""The border of an image: a square frame of zeros, which does not turn with the image, or what does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.models.field import Field
from src.require import require_choice

_BORDERS = ("zeros", "disc", "background")
_RIM = 1.0
"""Pixels over which the disc fades."""


class Border(nn.Module):
    """Leave a field as it is, fade it to zero outside of the disc (or ball) in its frame, or take its background away.

    Convolutions see zeros beyond the border. Where a field has other values up to it, they see the frame of a square,
    which does not turn with the image, and from layer to layer the frame reaches further inwards. A disc turns, and is
    exact at quarter turns and flips. So is the background, a number for each image, channel and element: the mean of
    the outermost pixels. Less it, an image whose background is the same everywhere goes on beyond its border.

    Args:
        kind: `zeros`, `disc` or `background`.

    Raises:
        ValueError: if it is none of these; from a disc, if the sides are not equal.

    Example:
        >>> from src.groups import SO2
        >>> Border("disc")(Field.of_images(torch.ones(1, 1, 3, 3), SO2())).values[0, 0, 0] < 1
        tensor([[ True, False,  True],
                [False, False, False],
                [ True, False,  True]])
    """

    def __init__(self, kind: str = "zeros") -> None:
        super().__init__()
        require_choice("border", kind, _BORDERS)
        self.kind = kind

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, field: Field) -> Field:
        if self.kind == "zeros":
            return field
        size = field.values.shape[3:]
        if self.kind == "background":
            means = torch.einsum("ncbu,u->ncb", field.values.flatten(3), _rim(size).flatten().to(field.values))
            return Field(field.values - means.unflatten(-1, (-1, *[1] * len(size))), field.elements)
        if len(set(size)) > 1:
            pixels = " x ".join(map(str, size))
            raise ValueError(f"`border` disc needs square images, but got {pixels} pixels; use net.border=zeros.")
        return Field(field.values * _disc(tuple(size), field.values.dtype, field.values.device), field.elements)


def _rim(size: Sequence[int]) -> Float[Tensor, "*space"]:
    """The outermost pixels, so that they sum to 1; 0 elsewhere."""
    rim = torch.ones(*size)
    rim[(slice(1, -1),) * len(size)] = 0
    return rim / rim.sum()


@cache
@torch.inference_mode(False)
def _disc(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Float[Tensor, "*space"]:
    """1 up to n / 2 pixels from the centre, less half of the rim; 0 beyond as much more."""
    n = size[0]
    line = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    radius = torch.stack(torch.meshgrid(*[line] * len(size), indexing="ij")).square().sum(0).sqrt()
    return ((n / 2 - radius) / _RIM + 0.5).clamp(0, 1).to(device, dtype)
