"""Kernels as multilayer perceptrons, of coordinates or of fixed random waves of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from src.groups import Axis
from src.models.kernels.domain import domain, scale_output
from src.models.kernels.siren import wavelengths
from src.require import require, require_choice, require_positive, require_positive_number, require_whole

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
}


class MLP(nn.Module):
    r"""A multilayer perceptron of the coordinates u, or of random waves of them, cos(B u) and sin(B u).

    Of coordinates, kernels are smooth, as such nets learn low frequencies first. Waves let them learn high ones; their
    frequencies B are drawn once and not trained. It has unit second moment at initialisation, on average over its
    coordinates.

    Args:
        axes: what the kernel depends on.
        channels: numbers per coordinate.
        num_hidden: hidden layers; at 0 the kernel is linear in the waves or coordinates.
        hidden_size: their width.
        activation: `relu`, `leaky_relu`, `swish` or `gelu`.
        normalisation: of hidden layers, before the activation: `layer` or `none`.
        weight_norm: whether weights of hidden layers are trained as directions and lengths.
        waves: how many frequencies; at 0 it is a net of the coordinates.
        omega_0: standard deviation of the frequencies, in radians per unit of a coordinate.
        lr_factor: on the learning rate of its weights; see `ParameterGroups`.

    References:
        CKConv: Continuous Kernel Convolution For Sequential Data (Romero et al., ICLR 2022), of activations
        https://arxiv.org/abs/2102.02611
        Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains (Tancik et al., 2020)
        https://arxiv.org/abs/2006.10739

    Example:
        >>> from src.groups import SO2
        >>> MLP(SO2().axes(8), 3)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        channels: int,
        num_hidden: int = 2,
        hidden_size: int = 32,
        activation: str = "gelu",
        normalisation: str = "none",
        weight_norm: bool = False,
        waves: int = 0,
        omega_0: float = 5.0,
        lr_factor: float = 1.0,
    ) -> None:
        super().__init__()
        require_whole(**{"kernel.num_hidden": num_hidden, "kernel.waves": waves})
        require_positive(**{"kernel.hidden_size": hidden_size})
        require_choice("kernel.activation", activation, tuple(_ACTIVATIONS))
        require_choice("kernel.normalisation", normalisation, ("none", "layer"))
        require("kernel.weight_norm", weight_norm, isinstance(weight_norm, bool), "true or false")
        require_positive_number(**{"kernel.omega_0": omega_0, "kernel.lr_factor": lr_factor})
        self.lr_factor = lr_factor
        self.register_buffer("frequencies", _frequencies(axes, waves, omega_0) if waves else None)
        points = domain(axes)
        width = self._embedded(points).shape[-1]
        self.hidden = nn.Sequential()
        for _ in range(num_hidden):
            self.hidden.append(_linear(width, hidden_size, weight_norm))
            if normalisation == "layer":
                self.hidden.append(nn.LayerNorm(hidden_size))
            self.hidden.append(_ACTIVATIONS[activation]())
            width = hidden_size
        self.output = nn.Linear(width, channels)
        with torch.no_grad():
            scale_output(self.output, self.features(points))

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch channels"]:
        """(..., columns) -> (..., channels)."""
        return self.output(self.features(coordinates))

    def features(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch hidden"]:
        """What the output is linear in: (..., columns) -> (..., hidden_size)."""
        return self.hidden(self._embedded(coordinates))

    def _embedded(self, coordinates: Tensor) -> Tensor:
        """The coordinates, or waves of them."""
        if self.frequencies is None:
            return coordinates
        phases = coordinates @ self.frequencies
        return torch.cat([phases.cos(), phases.sin()], -1)


def _frequencies(axes: Sequence[Axis], waves: int, omega: float) -> Float[Tensor, "columns waves"]:
    """Normal, of the same speed along each axis."""
    units = wavelengths(axes)[:, None]
    return omega * torch.randn(len(units), waves) / units


def _linear(inputs: int, outputs: int, normed: bool) -> nn.Module:
    """A linear layer before an activation that cuts half of its inputs off."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    return parametrizations.weight_norm(layer) if normed else layer
