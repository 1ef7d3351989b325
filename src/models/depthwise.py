"""Depthwise convolution with a faster gradient on CPUs."""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from src.models.torch_functions import functions_for

# The CPU library's weight gradient of a depthwise convolution takes 14 ms for (16, 256, 28, 28) and k = 7, and 20 ms
# together with the input's; that of a convolution in groups of 16 channels, which is 16 times the work, takes 11.
_BLOCK = 16


def depthwise(
    planes: Float[Tensor, "n c *space"], weight: Float[Tensor, "c 1 *window"], stride: int, padding: int
) -> Float[Tensor, "n c *outputs"]:
    """Each channel with its own kernel: (n, c, *space), (c, 1, *window) -> (n, c, *outputs)."""
    block = gcd(len(weight), _BLOCK)
    plain = planes.device.type != "cpu" or planes.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if plain or block < 4 or not weight.requires_grad:
        return functions_for(planes).conv(planes, weight, stride=stride, padding=padding, groups=len(weight))
    return _BlockwiseGradient.apply(planes, weight, stride, padding, block)


class _BlockwiseGradient(torch.autograd.Function):
    """The weight gradient is the diagonal of that of a convolution in groups of `block` channels."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, weight: Tensor, stride: int, padding: int, block: int) -> Tensor:
        ctx.save_for_backward(planes, weight)
        d = weight.dim() - 2
        ctx.geometry, ctx.block = ([stride] * d, [padding] * d, [1] * d, False, [0] * d), block
        return functions_for(planes).conv(planes, weight, stride=stride, padding=padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        planes, weight = ctx.saved_tensors
        (c, _, *window), of_planes, of_weight = weight.shape, None, None
        if ctx.needs_input_grad[0]:
            of_planes = _conv_backward(gradient, planes, weight, ctx.geometry, c, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            blocks = weight.expand(c, ctx.block, *window)
            groups = c // ctx.block
            full = _conv_backward(gradient, planes, blocks, ctx.geometry, groups, [False, True, False])[1]
            diagonal = full.unflatten(0, (groups, ctx.block)).diagonal(dim1=1, dim2=2)
            of_weight = torch.einsum("g...c->gc...", diagonal).flatten(0, 1)[:, None]
        return of_planes, of_weight, None, None, None


def _conv_backward(gradient: Tensor, planes: Tensor, weight: Tensor, geometry: tuple, groups: int, which: list) -> list:
    """Gradients of a convolution: those of (planes, weight, bias) that `which` asks for."""
    return torch.ops.aten.convolution_backward(gradient, planes, weight, None, *geometry, groups, which)
