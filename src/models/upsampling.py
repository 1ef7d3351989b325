"""Up-sampling, which undoes what a pool does to the image size."""

from __future__ import annotations

from torch import nn

from src.models.field import Field
from src.models.pooling import binomial_window
from src.models.torch_functions import functions_for
from src.require import require_choice


class Upsample(nn.Module):
    """Double the image along each axis, to the pixels that a `SpatialPool` of this kernel size had.

    It is the transpose of the pool by a binomial filter, divided so that constants stay what they are: zeros between
    the pixels, then 4 taps along each axis where sizes are even, which is linear interpolation, and 5 where they are
    odd. The filter takes out what zeros between pixels add at high frequencies, and is symmetric, so that quarter turns
    and flips stay exact.

    Args:
        kernel_size: 2, from n to 2 n pixels; or 3, from n to 2 n - 1.

    Example:
        >>> import torch
        >>> Upsample()(Field(torch.tensor([[[[0.0, 4.0]]]]), torch.zeros(1, 0))).values
        tensor([[[[0., 1., 3., 4.]]]])
    """

    def __init__(self, kernel_size: int = 2) -> None:
        super().__init__()
        require_choice("pool_size", kernel_size, (2, 3))
        self.kernel_size = kernel_size

    def extra_repr(self) -> str:
        return f"{self.kernel_size}"

    def forward(self, field: Field) -> Field:
        planes, taps = field.planes(), self.kernel_size + 2
        weight = binomial_window(planes, taps)
        geometry, transposed = {"stride": 2, "padding": (taps - 1) // 2}, functions_for(planes).transposed
        inside = transposed(planes.new_ones(1, 1, *planes.shape[2:]), weight[:1], **geometry)
        return field.with_planes(transposed(planes, weight, groups=len(weight), **geometry) / inside)
