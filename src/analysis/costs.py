"""What a net costs: parameters and multiply-adds, by part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class _Part(NamedTuple):
    """Of a net."""

    parameters: int
    multiply_adds: int
    """Of a pass of one image, whose kernels are there already."""


class Costs(NamedTuple):
    """Of a net."""

    parts: Mapping[str, _Part]
    """By the name of the part."""
    total: _Part
    assembly: int
    """Multiply-adds that the kernels are assembled with, once for all images."""


def costs(net: nn.Module, image: Tensor) -> Costs:
    """Count what the first two passes of a net execute; the first one assembles and keeps the kernels.

    Counted are matrix products and convolutions, a multiplication with its addition as one. All else, such as norms,
    activations, pools, sines and the products of a kernel's factors, is not.

    Args:
        net: in evaluation, whose parameters want no gradients; it must not have been called since they were loaded.
        image: (1, c, y, x).
    """
    first, second = _multiply_adds(net, image), _multiply_adds(net, image)
    name = type(net).__name__
    parts = {child: _Part(_parameters(part), second.get(f"{name}.{child}", 0)) for child, part in net.named_children()}
    total = _Part(_parameters(net), second["Global"])
    return Costs(parts, total, first["Global"] - total.multiply_adds)


def _multiply_adds(net: nn.Module, image: Tensor) -> dict[str, int]:
    """Of one pass, by module; that of all together is "Global"."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(image)
    # It counts a multiplication and an addition as two, and has no entry where there was nothing to count.
    counts = {module: sum(own.values()) // 2 for module, own in counter.get_flop_counts().items()}
    return {"Global": 0} | counts


def _parameters(net: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in net.parameters())
