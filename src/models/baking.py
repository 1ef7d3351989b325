"""Plain layers of torch, from kernels that were assembled."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.models.torch_functions import functions_for


@torch.no_grad()
def plain_convolution(
    weight: Float[Tensor, "o i *taps"],
    bias: Float[Tensor, " o"] | None,
    stride: int,
    padding: tuple[int, int],
    first: nn.Module | None = None,
) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Sequential:
    """A convolution of torch with this kernel.

    Args:
        weight: (o, i, *taps).
        bias: (o,), or none.
        stride: of the output pixels.
        padding: zeros before and after each axis; in a layer of its own, before the convolution, where they differ.
        first: a layer that comes before, in place of zeros.

    Example:
        >>> plain_convolution(torch.zeros(4, 3, 5, 5), None, 1, (2, 2))
        Conv2d(3, 4, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2), bias=False)
    """
    functions, (outputs, inputs, *taps), (before, after) = functions_for(weight), weight.shape, padding
    symmetric = before == after >= 0 and first is None
    conv = functions.layer(inputs, outputs, taps, stride, before if symmetric else 0, bias=bias is not None).to(weight)
    conv.weight.copy_(weight)
    if bias is not None:
        conv.bias.copy_(bias)
    if symmetric:
        return conv
    return nn.Sequential(first or functions.pad_layer((before, after) * len(taps)), conv)
