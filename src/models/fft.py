"""Convolution by the fast Fourier transform, where kernels are large, and from which size on it is faster."""

from __future__ import annotations

from math import log2, prod

import torch
from jaxtyping import Float
from torch import Tensor

# Nanoseconds: of a transform per number and power of two, of a product of two complex numbers, and of a
# multiply-add by the CPU library, for depthwise and for other convolutions in each dimension. Depthwise ones spend
# their time in transforms, which cost more along several axes.
_TRANSFORM, _PRODUCT, _FURTHER_AXES = 0.28, 2.3, 1.6
_DEPTHWISE, _DENSE = {1: 0.9, 2: 0.2, 3: 0.25}, {1: 0.077, 2: 0.035, 3: 0.022}
_LONG = 50
"""Taps of a long kernel, as in the code of FlexConv."""


def fft_conv(
    planes: Float[Tensor, "n c *space"],
    weight: Float[Tensor, "o i *window"],
    before: int,
    after: int,
    groups: int = 1,
) -> Float[Tensor, "n o *outputs"]:
    """What torch's convolution gives at stride 1, of the same gradients, in float32 or float64.

    Args:
        planes: (n, c, *space).
        weight: (o, c / groups, *window).
        before, after: zeros at both ends of each axis; where negative, pixels that are left out.
        groups: of channels; each has its own part of the weight.

    Example:
        >>> planes, weight = torch.ones(1, 1, 8), torch.ones(1, 1, 3)
        >>> fft_conv(planes, weight, 1, 1).round().long()
        tensor([[[2, 3, 3, 3, 3, 3, 3, 2]]])
    """
    dtype = planes.dtype
    wide = torch.promote_types(dtype, torch.float32)
    planes, weight = planes.to(wide), weight.to(wide)
    axes, window = tuple(range(2, planes.dim())), weight.shape[2:]
    sizes = [n + max(before, 0) + max(after, 0) for n in planes.shape[2:]]
    fast = [_fast_size(n) for n in sizes]
    values = torch.fft.rfftn(planes, fast, axes).unflatten(1, (groups, -1))
    kernels = torch.fft.rfftn(weight, fast, axes).conj().unflatten(0, (groups, -1))
    if weight.shape[1] == 1:  # nothing to sum
        mixed = values * kernels[:, :, 0]
    else:
        mixed = torch.einsum("ngi...,goi...->ngo...", values, kernels)
    result = torch.fft.irfftn(mixed.flatten(1, 2), fast, axes)
    # Without padding, output u is at u; what reaches over the left end wraps around to the right one.
    for axis, (n, k) in enumerate(zip(planes.shape[2:], window, strict=True), 2):
        result = result.roll(before, axis).narrow(axis, 0, n + before + after - k + 1)
    return result.to(dtype)


def fft_pays(planes: Tensor, weight: Tensor, before: int, after: int) -> bool:
    """Whether it is faster, forward and backward, than summing over the taps, by a model of both times.

    On CPUs it was fitted to `make bench-fft` on two cores, and chooses what takes at most a fifth longer than the
    faster one. On other devices, where that was not measured, only long kernels of sequences take it.
    """
    (n, c), (o, i), d = planes.shape[:2], weight.shape[:2], planes.dim() - 2
    taps = prod(weight.shape[2:])
    if planes.device.type != "cpu":
        return d == 1 and taps > _LONG
    size = prod(_fast_size(side + max(before, 0) + max(after, 0)) for side in planes.shape[2:])
    transforms = _TRANSFORM * (n * (c + o) + o * i) * size * log2(size)
    products = _PRODUCT * n * o * i * size
    is_depthwise = i == 1 < c
    direct = (_DEPTHWISE if is_depthwise else _DENSE)[d] * n * o * i * prod(planes.shape[2:]) * taps
    return (transforms + products) * (_FURTHER_AXES if is_depthwise and d > 1 else 1) < direct


def _fast_size(n: int) -> int:
    """The next number of factors 2, 3 and 5."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1
