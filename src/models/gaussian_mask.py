"""Masks whose size is learned, and kernels that are no larger than that."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Axis
from src.require import require, require_at_least, require_positive_number


class GaussianMask(nn.Module):
    r"""exp(-(c_1 / s_1)^2 / 2 - (c_2 / s_2)^2 / 2 - ...), with sizes s that are learned, one for each axis.

    Coordinates of space reach from -1 to 1; angles are in units of pi. The taps of the window where the mask is below a
    threshold need not be evaluated: `reach` says where they begin.

    Args:
        axes: the coordinates' axes.
        size: of the mask at the start, a standard deviation.
        learned: whether sizes are trained.
        group: whether axes of the group are masked as well, save those of reflections.
        threshold: the mask below which kernels are cut off; 0 keeps the whole window.
        lr_factor: on the learning rate of the sizes' logarithms.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        FlexConv: Continuous Kernel Convolutions with Differentiable Kernel Sizes (Romero et al., ICLR 2022), equation 3
        https://arxiv.org/abs/2110.08059

    Example:
        >>> mask = GaussianMask((Axis("space", 5),) * 2, size=0.5)
        >>> mask(torch.tensor([[0.0, 0.0], [0.0, 0.5]])).detach().round(decimals=2)
        tensor([1.0000, 0.6100])
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        size: float = 0.5,
        learned: bool = True,
        group: bool = False,
        threshold: float = 0.1,
        lr_factor: float = 1.0,
    ) -> None:
        super().__init__()
        require_positive_number(**{"mask.size": size, "mask.lr_factor": lr_factor})
        require_at_least(0, **{"mask.threshold": threshold})
        require("mask.threshold", threshold, threshold < 1, "below 1")
        self.axes, self.threshold, self.lr_factor = tuple(axes), threshold, lr_factor
        self.masked = [axis.kind == "space" or (group and axis.kind != "points") for axis in axes]
        logarithms = torch.full((sum(self.masked),), log(size))
        self.log_size = nn.Parameter(logarithms, requires_grad=learned) if any(self.masked) else None

    @property
    def sizes(self) -> dict[str, float]:
        """By axis, for instance `space_0`; those that are masked."""
        names = [
            f"{axis.kind}_{n}" for n, (axis, masked) in enumerate(zip(self.axes, self.masked, strict=True)) if masked
        ]
        return dict(zip(names, self.log_size.exp().tolist(), strict=True)) if names else {}

    def reach(self) -> float | None:
        """How far from the centre the mask is above the threshold in space; none where it is not cut off."""
        space = [axis.kind == "space" for axis, masked in zip(self.axes, self.masked, strict=True) if masked]
        if not self.threshold or not any(space):
            return None
        largest = self.log_size.detach()[torch.tensor(space)].max().exp().item()
        return largest * sqrt(-2 * log(self.threshold))

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch"]:
        """(..., columns) -> (...)."""
        columns = coordinates.split([axis.columns for axis in self.axes], -1)
        if self.log_size is None:
            return coordinates.new_ones(coordinates.shape[:-1])
        chosen = [
            _distance(axis, own) for axis, own, masked in zip(self.axes, columns, self.masked, strict=True) if masked
        ]
        return torch.exp(-0.5 * (torch.stack(chosen, -1) / self.log_size.exp()).square().sum(-1))


def _distance(axis: Axis, columns: Tensor) -> Tensor:
    """From the origin of an axis, (..., columns) -> (...)."""
    if axis.kind == "circle":
        return torch.atan2(columns[..., 1], columns[..., 0]) / pi
    if axis.kind == "rotations":
        cosines = (columns[..., ::4].sum(-1) - 1) / 2  # of the trace
        return cosines.clamp(-1, 1).acos() / pi
    return columns[..., 0]
