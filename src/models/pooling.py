"""Pools: of space, which halve an image, and the invariants that a net ends in."""

from __future__ import annotations

from functools import reduce
from math import comb

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.models.field import Field
from src.models.torch_functions import functions_for
from src.require import require_choice

POOLINGS = ("max", "mean", "blur", "max_blur")


class SpatialPool(nn.Module):
    """Halve the image along each axis: over 2 x 2 pixels for even sizes, or over 3 x 3 with a border for odd ones.

    A maximum or mean of few pixels leaves what is finer than the halved image can hold, and that does not turn with an
    image, save by quarter turns. The binomial filter takes it out first: 4 x 4 for even sizes, 5 x 5 for odd ones, and
    3 x 3 after a maximum.

    Args:
        kind: `max`; `mean`; `blur`, the binomial filter alone; or `max_blur`, of the maxima at every pixel.
        kernel_size: 2 or 3.

    Reference: Making Convolutional Networks Shift-Invariant Again (Zhang, 2019), https://arxiv.org/abs/1904.11486
    """

    stride = 2

    def __init__(self, kind: str = "max", kernel_size: int = 2) -> None:
        super().__init__()
        require_choice("pooling", kind, POOLINGS)
        require_choice("pool_size", kernel_size, (2, 3))
        self.kind, self.kernel_size, self.padding = kind, kernel_size, kernel_size - 2

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.kernel_size}"

    def forward(self, field: Field) -> Field:
        size = tuple(field.values.shape[3:])
        if min(size) < 2:
            raise ValueError(f"`pooling` needs 2 pixels or more along each axis, but got {size}; pool less.")
        return field.with_planes(self._pool(field.planes()))

    def _pool(self, planes: Tensor) -> Tensor:
        """(n, k, *space) -> (n, k, *outputs)."""
        size, stride, padding = self.kernel_size, self.stride, self.padding
        functions = functions_for(planes)
        if self.kind == "mean":
            return functions.mean_pool(planes, size, stride, padding, count_include_pad=False)
        if self.kind == "max":
            return functions.max_pool(planes, size, stride, padding)
        if self.kind == "blur":
            return _binomial(planes, size + 2)
        # Maxima of 2 x 2 pixels lie between them, and are an odd number where pixels are an even one.
        return _binomial(functions.max_pool(planes, size, 1, padding), 3)


class Subsample(nn.Module):
    """Every s-th pixel of a field, as a convolution of stride s takes it, smoothed by the binomial filter of 4 s - 3.

    Args:
        stride: s.

    Example:
        >>> from src.groups import SO2
        >>> Subsample(2)(Field.of_images(torch.ones(1, 1, 5, 5), SO2())).values.shape
        torch.Size([1, 1, 1, 3, 3])
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def extra_repr(self) -> str:
        return str(self.stride)

    def forward(self, field: Field) -> Field:
        return field.with_planes(_binomial(field.planes(), 4 * self.stride - 3, self.stride))


def _binomial(planes: Tensor, size: int, stride: int = 2) -> Tensor:
    """Every second pixel of planes (n, k, *space), smoothed by the binomial filter; beyond the border is nothing."""
    weight = binomial_window(planes, size)
    geometry, conv = {"stride": stride, "padding": (size - 1) // 2}, functions_for(planes).conv
    inside = conv(torch.ones_like(planes[:1, :1]), weight[:1], **geometry)
    return conv(planes, weight, groups=len(weight), **geometry) / inside


def binomial_window(planes: Tensor, size: int) -> Tensor:
    """The binomial filter as a weight (k, 1, *taps) for each of the planes (n, k, *space); its sum is not 1."""
    line = planes.new_tensor([comb(size - 1, n) for n in range(size)])
    window = reduce(torch.mul, torch.meshgrid(*[line] * (planes.dim() - 2), indexing="ij"))
    return window.expand(planes.shape[1], 1, *window.shape)


class ElementFeatures(nn.Module):
    """The mean over pixels, with the elements one after the other: (n, c, b, *space) to (n, b c).

    No invariants: a turned image has them in another order.
    """

    def forward(self, field: Field) -> Float[Tensor, "n bc"]:
        return field.pixels().flatten(1, -3).mean(1).flatten(1)


class Invariants(nn.Module):
    """Pool over elements and pixels: (n, c, b, *space) to (n, c).

    Args:
        kind: `max` or `mean` over both; `max_mean`, the mean over pixels of the maximum over elements: elements are few
            and mean something on their own, whereas the largest pixel is another one between the quarter turns; or
            `last`, the maximum over elements at the last step of a sequence.
    """

    def __init__(self, kind: str = "max") -> None:
        super().__init__()
        require_choice("readout", kind, ("max", "mean", "max_mean", "last"))
        self.kind = kind

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, field: Field) -> Float[Tensor, "n c"]:
        pixels = field.pixels()
        if self.kind == "max_mean":
            return pixels.amax(-2).flatten(1, -2).mean(1)
        if self.kind == "last":
            return pixels[:, -1].amax(-2).flatten(1)
        pool = torch.amax if self.kind == "max" else torch.mean
        return pool(pixels.flatten(1, -2), 1)
