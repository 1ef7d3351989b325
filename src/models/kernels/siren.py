"""Kernels as sinusoidal representation networks."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Axis
from src.require import require_positive, require_positive_number, require_whole


class Siren(nn.Module):
    r"""k(u) = W sin(w_0 (W_n ... sin(w_first (W_0 u + b_0)) ... + b_n)), with unit second moment at initialisation.

    Frequencies are drawn as in the source, where a circle's are those of angle / pi, as in the paper's code: a kernel
    that turns faster than the elements are spaced would mean nothing on others. Biases start as uniform phases, so that
    sin(...) has second moment 1/2 at every coordinate, the origin included; with zero biases the centre of every kernel
    would start at zero.

    Args:
        axes: what the kernel depends on.
        channels: numbers per coordinate.
        num_hidden: hidden layers after the first.
        hidden_size: width.
        first_omega_0: frequency scale of the first layer.
        omega_0: frequency scale of the hidden layers.

    Reference:
        Implicit Neural Representations with Periodic Activation Functions (Sitzmann et al., 2020)
        https://arxiv.org/abs/2006.09661

    Example:
        >>> from src.groups import SO2
        >>> Siren(SO2().axes(8), 3)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        channels: int,
        num_hidden: int = 1,
        hidden_size: int = 64,
        first_omega_0: float = 10.0,
        omega_0: float = 10.0,
    ) -> None:
        super().__init__()
        require_whole(**{"kernel.num_hidden": num_hidden})
        require_positive(**{"kernel.hidden_size": hidden_size})
        require_positive_number(**{"kernel.first_omega_0": first_omega_0, "kernel.omega_0": omega_0})
        columns = sum(axis.columns for axis in axes)
        self.omegas = (first_omega_0, *[omega_0] * num_hidden)
        widths = (columns, *[hidden_size] * num_hidden)
        self.hidden = nn.ModuleList(nn.Linear(width, hidden_size) for width in widths)
        self.output = nn.Linear(hidden_size, channels)
        bounds = (1 / columns, *[(6 / hidden_size) ** 0.5 / omega_0] * num_hidden)
        for layer, bound, omega in zip(self.hidden, bounds, self.omegas, strict=True):
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -pi / omega, pi / omega)
        with torch.no_grad():
            self.hidden[0].weight.div_(_wavelengths(axes))
        nn.init.uniform_(self.output.weight, -((6 / hidden_size) ** 0.5), (6 / hidden_size) ** 0.5)
        nn.init.zeros_(self.output.bias)

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch channels"]:
        """(..., columns) -> (..., channels)."""
        for layer, omega in zip(self.hidden, self.omegas, strict=True):
            coordinates = torch.sin(omega * layer(coordinates))
        return self.output(coordinates)


def _wavelengths(axes: Sequence[Axis]) -> Tensor:
    """Units per column: (cos, sin) change pi times as fast as angle / pi, which has the range of the other axes."""
    return torch.tensor([pi if axis.kind == "circle" else 1.0 for axis in axes for _ in range(axis.columns)])
