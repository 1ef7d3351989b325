"""A new group, kernel and formula are one class or one line each: here they are, and pass all laws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import exp

import pytest
import torch
from laws import check_group, check_invariance, check_layer, check_naturality, check_net, check_paths, check_scale
from torch import Tensor, nn

from src.groups import Axis, Dilation, Group, Product
from src.models import Field, GConv
from src.models.nets import CKGResNet


@dataclass(frozen=True)
class Klein(Group):
    """Flips of either axis: (s, t) acts by diag((-1)^s, (-1)^t)."""

    dim = 2
    counts = ("vertical flips", "horizontal flips")

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return (a + b).remainder(2)

    def inverse(self, a: Tensor) -> Tensor:
        return a

    def matrix(self, a: Tensor) -> Tensor:
        return torch.diag_embed(1 - 2 * a)

    def chart(self, a: Tensor) -> Tensor:
        return 1 - 2 * a

    def axes(self, vertical: int, horizontal: int) -> tuple[Axis, ...]:
        return Axis("points", 2), Axis("points", 2)

    def grid(self, vertical: int, horizontal: int) -> Tensor:
        return torch.cartesian_prod(torch.arange(vertical).double(), torch.arange(horizontal).double())

    def random(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randint(2, (n, 2), generator=generator).double()


@dataclass(frozen=True)
class Squeeze(Group):
    """Hyperbolic turns diag(e^t, e^-t) for t in [0, 1/2]: a continuous group that keeps areas, not lengths."""

    dim = 1
    counts = ("squeezes",)
    extent = exp(0.5)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def inverse(self, a: Tensor) -> Tensor:
        return -a

    def matrix(self, a: Tensor) -> Tensor:
        return torch.diag_embed(torch.cat([a.exp(), (-a).exp()], -1))

    def chart(self, a: Tensor) -> Tensor:
        return 2 * a

    def axes(self, squeezes: int) -> tuple[Axis, ...]:
        return (Axis("interval", 2 * squeezes - 1),)

    def grid(self, squeezes: int) -> Tensor:
        return torch.linspace(0, 0.5, squeezes, dtype=torch.float64)[:, None]

    def random(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.rand(n, 1, generator=generator, dtype=torch.float64) / 2

    def sample(self, sizes, generator: torch.Generator | None = None) -> Tensor:
        return self.grid(*self.sizes(sizes))


class Waves(nn.Module):
    """Plane waves of fixed frequencies and free amplitudes."""

    def __init__(self, axes, channels: int, waves: int = 20) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.randn(sum(axis.columns for axis in axes), waves))
        self.register_buffer("phase", 6.3 * torch.rand(waves))
        self.amplitude = nn.Parameter(torch.randn(waves, channels) * (2 / waves) ** 0.5)

    def forward(self, coordinates: Tensor) -> Tensor:
        return torch.cos(coordinates @ self.frequency + self.phase) @ self.amplitude


TOYS = {"klein": (Klein(), (2, 2)), "squeeze": (Squeeze(), (3,)), "both": (Product(Klein(), Dilation(1.5)), (2, 2, 2))}
FORMULAS = ("oi h, o x h", "oi x, o h", "oi h, o x", "i h, oi x")


@pytest.mark.parametrize("name", TOYS)
def test_group(name: str) -> None:
    check_group(*TOYS[name], closed=name == "klein") if name != "squeeze" else check_law(*TOYS[name])


def check_law(group: Group, sizes: tuple[int, ...]) -> None:
    """All but the bound on samples, which is stated for dilations: a squeeze keeps areas."""
    check_group(group, sizes, closed=False)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", TOYS)
def test_layer(name: str, formula: str) -> None:
    group, sizes = TOYS[name]
    conv = GConv(2, 3, 5, group=group, elements=sizes, implementation=formula, kernel=Waves)
    a, b = group.random(4), group.random(3)
    check_invariance(conv, a, b, group.random(1))
    check_naturality(conv, a, b)
    grid = group.grid(*sizes)
    field = Field(torch.randn(2, 2, len(grid), 9, 11), grid)
    check_paths(conv, field, group.sample(sizes))
    for g in grid[group.lattice_exact(grid)][:, None]:
        check_layer(conv, field, group.sample(sizes), g)


@pytest.mark.parametrize("formula", FORMULAS)
def test_scale(formula: str) -> None:
    check_scale(lambda: GConv(16, 24, 5, group=Klein(), elements=(2, 2), implementation=formula, kernel=Waves), 16, 16)


def test_net() -> None:
    conv = partial(GConv, kernel_size=5, group=Klein(), elements=(2, 2), implementation="oi h, o x h", kernel=Waves)
    net = CKGResNet(1, 5, (20, 28), conv, hidden_sizes=(4, 4, 6), exact="require").eval()
    check_net(net, torch.randn(4, 1, 20, 28), Klein().matrix(Klein().grid(2, 2)))
