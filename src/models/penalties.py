"""What is added to the loss to keep a net as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor, nn

from src.models.kernel import GroupKernel
from src.require import require_at_least


@dataclass(frozen=True)
class AliasPenalty:
    """factor sum_k (f_k / f_max - 1)^2 over kernels whose frequencies f exceed what their taps can tell apart, f_max.

    A net without such kernels means the same on finer images. Kernel nets that can say how fast they are, with
    `highest_frequencies`, are counted; others are not.

    Args:
        factor: on the penalty; 0 is none.

    Raises:
        ValueError: if the factor is negative.

    Reference: FlexConv: Continuous Kernel Convolutions with Differentiable Kernel Sizes (Romero et al., ICLR 2022),
    section 3.3; https://arxiv.org/abs/2110.08059
    """

    factor: float = 0.1

    def __post_init__(self) -> None:
        require_at_least(0, **{"model.penalty.factor": self.factor})

    def __call__(self, net: nn.Module) -> Tensor:
        """The penalty of a net, ()."""
        found = [
            torch.relu(frequencies * kernel.whole.pitch / pi - 1).square().sum()
            for kernel in net.modules()
            if isinstance(kernel, GroupKernel)
            for frequencies in kernel.highest_frequencies()
        ]
        return self.factor * torch.stack(found).sum() if found else torch.zeros(())
