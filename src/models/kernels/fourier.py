"""Kernels as sums of plane waves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups import Axis
from src.models.kernels.siren import Siren
from src.require import require_positive_number


class Fourier(Siren):
    r"""k(u) = W sin(w_0 (W_0 u + b_0)) + b: waves whose frequencies and phases are trained, shared by all channels.

    A SIREN of one layer, which at learning rates of 1e-3 and more learns in fewer steps than one of two (docs/alias.md)
    and whose low-pass has a closed form: a wave stays one, and only gets weaker.

    Args:
        axes: what the kernel depends on.
        channels: numbers per coordinate.
        hidden_size: waves.
        omega_0: frequency scale; a wave starts with up to `omega_0` radians per unit of all coordinates together.
        lr_factor: on the learning rate of its weights; see `ParameterGroups`.

    Reference:
        Random Features for Large-Scale Kernel Machines (Rahimi, Recht, 2007); here the features are trained as well

    Example:
        >>> from src.groups import SO2
        >>> Fourier(SO2().axes(8), 3)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        channels: int,
        hidden_size: int = 64,
        omega_0: float = 10.0,
        lr_factor: float = 1.0,
    ) -> None:
        super().__init__(axes, channels, 0, hidden_size, omega_0, omega_0)
        require_positive_number(**{"kernel.lr_factor": lr_factor})
        self.lr_factor = lr_factor

    def smoothed(
        self, coordinates: Float[Tensor, "*batch columns"], width: float, space: slice
    ) -> Float[Tensor, "*batch channels"]:
        """The mean under a Gaussian in space: (..., columns) -> (..., channels).

        Args:
            coordinates: where.
            width: standard deviation of the Gaussian.
            space: the columns that are those of the space.
        """
        frequencies = self.omegas[0] * self.hidden[0].weight[:, space]
        damping = torch.exp(-0.5 * width**2 * frequencies.square().sum(-1))
        return self.output(self.features(coordinates) * damping)
