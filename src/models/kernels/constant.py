"""Kernels of no coordinate at all."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Constant(nn.Module):
    """One free weight per channel: what every kernel is where a factor depends on no coordinates, such as `oi`.

    Example:
        >>> Constant(3)(torch.zeros(5, 0)).shape
        torch.Size([5, 3])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels))

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch channels"]:
        """(..., 0) -> (..., channels)."""
        return self.weight.expand(*coordinates.shape[:-1], -1)
