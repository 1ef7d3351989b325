"""Kernels as multiplicative filter networks: products of waves, or of waves in windows, instead of compositions."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Axis
from src.models.kernels.domain import domain, scale_output
from src.models.kernels.siren import wavelengths
from src.require import require_choice, require_positive, require_positive_number, require_whole


class Multiplicative(nn.Module):
    r"""z_0 = g_0(u), z_l = (W_l z_(l-1) + b_l) g_l(u), k(u) = W z_n + b, with filters g_l.

    A product of two waves is a sum of two waves, so without windows the net is a sum of very many plane waves, linear
    in its last layer; in windows they are Gabor functions. It has unit second moment at initialisation, on average over
    its coordinates.

    Args:
        axes: what the kernel depends on.
        channels: numbers per coordinate.
        num_hidden: products; at 0 the net is a sum of its first filters.
        hidden_size: filters in each layer.
        omega_0: frequency scale: all layers together start with up to `omega_0` radians per unit of all coordinates.
        window: the filters' window, `none`, `isotropic` or `anisotropic` Gaussians.
        window_size: standard deviation of a window of the first layer, about; later ones are wider, and so are those of
            many columns, so that windows overlap.
        lr_factor: on the learning rate of its weights; see `ParameterGroups`.

    Reference:
        Multiplicative Filter Networks (Fathony, Sahu, Willmott, Kolter, ICLR 2021), equations 4 to 8; anisotropic
        windows as in FlexConv: Continuous Kernel Convolutions with Differentiable Kernel Sizes (Romero et al., 2022)
        https://arxiv.org/abs/2110.08059

    Example:
        >>> from src.groups import SO2
        >>> Multiplicative(SO2().axes(8), 3)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        channels: int,
        num_hidden: int = 2,
        hidden_size: int = 32,
        omega_0: float = 20.0,
        window: str = "none",
        window_size: float = 0.3,
        lr_factor: float = 1.0,
    ) -> None:
        super().__init__()
        require_whole(**{"kernel.num_hidden": num_hidden})
        require_positive(**{"kernel.hidden_size": hidden_size})
        require_choice("kernel.window", window, ("none", "isotropic", "anisotropic"))
        require_positive_number(
            **{"kernel.omega_0": omega_0, "kernel.window_size": window_size, "kernel.lr_factor": lr_factor}
        )
        self.lr_factor, layers = lr_factor, num_hidden + 1
        self.filters = nn.ModuleList(
            _Filter(axes, hidden_size, omega_0 / layers**0.5, window, window_size * (n + 1) ** 0.5)
            for n in range(layers)
        )
        self.mixing = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(num_hidden))
        for layer in self.mixing:
            nn.init.uniform_(layer.weight, -((3 / hidden_size) ** 0.5), (3 / hidden_size) ** 0.5)
        self.output = nn.Linear(hidden_size, channels)
        with torch.no_grad():
            scale_output(self.output, self.features(domain(axes)))

    def forward(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch channels"]:
        """(..., columns) -> (..., channels)."""
        return self.output(self.features(coordinates))

    def features(self, coordinates: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch hidden"]:
        """What the output is linear in: (..., columns) -> (..., hidden_size)."""
        first, *rest = self.filters
        values = first(coordinates)
        for mixing, own in zip(self.mixing, rest, strict=True):
            values = mixing(values) * own(coordinates)
        return values

    def highest_frequencies(self, columns: slice) -> Tensor:
        """The largest frequency of a product of the filters along some columns, in radians per unit: (columns,).

        A product has the sum of the frequencies of its factors. A window spreads them, by a Gaussian whose deviation is
        the window's sharpness; two deviations are counted.
        """
        return torch.stack([own.frequencies()[:, columns].amax(0) for own in self.filters]).sum(0)


class _Filter(nn.Module):
    """g(u) = sin(w u + phase), in a Gaussian window about a centre or in none."""

    def __init__(self, axes: Sequence[Axis], size: int, omega: float, window: str, window_size: float) -> None:
        super().__init__()
        columns = sum(axis.columns for axis in axes)
        bound = omega / sum(axis.dimension for axis in axes)
        units = wavelengths(axes)
        self.wave = nn.Linear(columns, size)
        nn.init.uniform_(self.wave.bias, -pi, pi)
        with torch.no_grad():
            self.wave.weight.uniform_(-bound, bound).div_(units)
        self.sharpness = None
        if window != "none":
            # Gamma of shape 2 and this mean: some windows are wide, none is a point.
            shape = (size, columns if window == "anisotropic" else 1)
            self.sharpness = nn.Parameter(torch.distributions.Gamma(2.0, 2.0 * window_size).sample(shape))
            self.centre = nn.Parameter(domain(axes)[torch.randint(len(domain(axes)), (size,))])

    def frequencies(self) -> Tensor:
        """The largest of each filter along each column, (size, columns)."""
        waves = self.wave.weight.abs()
        return waves if self.sharpness is None else waves + 2 * self.sharpness.abs() / waves.shape[1] ** 0.5

    def forward(self, coordinates: Tensor) -> Tensor:
        """(..., columns) -> (..., size)."""
        waves = torch.sin(self.wave(coordinates))
        if self.sharpness is None:
            return waves
        distance = (self.sharpness * (coordinates[..., None, :] - self.centre)).square().mean(-1)
        return waves * torch.exp(-0.5 * distance)
