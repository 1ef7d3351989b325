"""Kernels as sinusoidal representation networks."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, pi
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Axis
from src.require import require_choice, require_positive, require_positive_number, require_whole


class Siren(nn.Module):
    r"""k(u) = W sin(w_0 (W_n ... sin(w_first (W_0 u + b_0)) ... + b_n)), with unit second moment at initialisation.

    Frequencies are drawn as in the source, where a circle is one coordinate, angle / pi, as in the paper's code: a
    kernel that turns faster than the elements are spaced would mean nothing on others. The biases of the first layer
    start as uniform phases, so that its sines have second moment 1/2 at every coordinate, the origin included; with
    zero biases all kernels start odd, and their centre as zero. In the layers after it, phases slow learning down
    (docs/alias.md).

    Args:
        axes: what the kernel depends on.
        channels: numbers per coordinate.
        num_hidden: hidden layers after the first.
        hidden_size: width.
        first_omega_0: frequency scale of the first layer.
        omega_0: frequency scale of the hidden layers.
        phases: where biases start as phases, in the `first` layer, in `all` or in `none`; elsewhere they start as zero.

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
        phases: str = "first",
    ) -> None:
        super().__init__()
        require_whole(**{"kernel.num_hidden": num_hidden})
        require_positive(**{"kernel.hidden_size": hidden_size})
        require_choice("kernel.phases", phases, ("first", "all", "none"))
        require_positive_number(**{"kernel.first_omega_0": first_omega_0, "kernel.omega_0": omega_0})
        columns = sum(axis.columns for axis in axes)
        self.omegas = (first_omega_0, *[omega_0] * num_hidden)
        widths = (columns, *[hidden_size] * num_hidden)
        self.hidden = nn.ModuleList(nn.Linear(width, hidden_size) for width in widths)
        self.output = nn.Linear(hidden_size, channels)
        bounds = (1 / sum(axis.dimension for axis in axes), *[(6 / hidden_size) ** 0.5 / omega_0] * num_hidden)
        for n, (layer, bound, omega) in enumerate(zip(self.hidden, bounds, self.omegas, strict=True)):
            nn.init.uniform_(layer.weight, -bound, bound)
            has_phases = phases == "all" or (phases == "first" and n == 0)
            nn.init.uniform_(layer.bias, -pi / omega, pi / omega) if has_phases else nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.hidden[0].weight.div_(wavelengths(axes))
        bound = (3 / (hidden_size * _second_moment(num_hidden, phases))) ** 0.5
        nn.init.uniform_(self.output.weight, -bound, bound)
        nn.init.zeros_(self.output.bias)

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch channels"]:
        """(..., columns) -> (..., channels)."""
        return self.output(self.features(coordinates))

    def features(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch hidden"]:
        """What the output is linear in: (..., columns) -> (..., hidden_size)."""
        for layer, omega in zip(self.hidden, self.omegas, strict=True):
            coordinates = torch.sin(omega * layer(coordinates))
        return coordinates


class PaperSiren(Siren):
    """As in the paper's code: of angles / pi, with a seam, and no phases; its output is not of unit second moment.

    With `conv.init=paper` and `net.block=paper` it starts as that code does.

    Args:
        axes: what the kernel depends on.
        channels: numbers per coordinate.
        options: of `Siren`.

    Reference: https://github.com/david-knigge/separable-group-convolutional-networks

    Example:
        >>> from src.groups import SO2
        >>> PaperSiren(SO2().axes(8), 3)(SO2().chart(SO2().grid(8)).float()).shape
        torch.Size([8, 3])
    """

    def __init__(self, axes: Sequence[Axis], channels: int, **options: Any) -> None:
        super().__init__(list(map(_with_a_seam, axes)), channels, phases="none", **options)
        self.kinds, self.columns = [axis.kind for axis in axes], [axis.columns for axis in axes]

    def features(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch hidden"]:
        """(..., columns) -> (..., hidden_size)."""
        columns = zip(self.kinds, coordinates.split(self.columns, -1), strict=True)
        return super().features(torch.cat([_angle(own) if kind == "circle" else own for kind, own in columns], -1))


def _with_a_seam(axis: Axis) -> Axis:
    """An angle as an interval."""
    return Axis("interval", axis.sites) if axis.kind == "circle" else axis


def _angle(circle: Tensor) -> Tensor:
    """(cos, sin) to the angle / pi in [-1, 1], (..., 2) -> (..., 1)."""
    return torch.atan2(circle[..., 1:], circle[..., :1]) / pi


def _second_moment(num_hidden: int, phases: str) -> float:
    """Of the last sines at initialisation, where the first have phases: 1/2, or that of sines of a normal variable."""
    moment = 0.5
    for _ in range(num_hidden if phases != "all" else 0):
        moment = (1 - exp(-2 * (2 * moment))) / 2  # weights of variance 2 / hidden_size, with omega_0
    return moment


def wavelengths(axes: Sequence[Axis]) -> Tensor:
    """Units per column: how fast the columns of an axis change together, where angle / pi, as other axes, changes by 1.

    That is by pi for (cos, sin), and for matrices by the norm of their derivative by the angle, root 2, as much more.
    """
    speeds = {"circle": pi, "rotations": 2**0.5 * pi}
    return torch.tensor([speeds.get(axis.kind, 1.0) for axis in axes for _ in range(axis.columns)])
