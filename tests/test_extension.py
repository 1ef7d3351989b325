"""A new group, kernel and formula are one class or one line each: here they are, and pass all laws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import exp, pi

import pytest
import torch
from laws import check_group, check_invariance, check_layer, check_naturality, check_net, check_paths, check_scale
from torch import Tensor, nn

from src.groups import Axis, Dilation, Group, Product
from src.models import Field, GConv
from src.models.nets import CKGResNet, ResidualNet


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


@dataclass(frozen=True)
class Back(Group):
    """Sequences, and sequences from their end."""

    dim = 1
    space = 1
    counts = ("directions",)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def inverse(self, a: Tensor) -> Tensor:
        return a

    def matrix(self, a: Tensor) -> Tensor:
        return a[..., None]

    def chart(self, a: Tensor) -> Tensor:
        return a

    def axes(self, directions: int) -> tuple[Axis, ...]:
        return (Axis("points", 2),)

    def grid(self, directions: int) -> Tensor:
        return torch.tensor([[1.0], [-1.0]], dtype=torch.float64)[:directions]

    def random(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return 2.0 * torch.randint(2, (n, 1), generator=generator).double() - 1


@dataclass(frozen=True)
class Tumble(Group):
    """Thirds of a turn of volumes about their diagonal: z, y, x become x, z, y."""

    dim = 1
    space = 3
    counts = ("thirds",)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        return (a + b).remainder(3)

    def inverse(self, a: Tensor) -> Tensor:
        return (-a).remainder(3)

    def matrix(self, a: Tensor) -> Tensor:
        third = torch.eye(3, dtype=a.dtype).roll(1, 0)
        return torch.stack([torch.linalg.matrix_power(third, n) for n in range(3)])[a[..., 0].long()]

    def chart(self, a: Tensor) -> Tensor:
        return torch.cat([(2 * pi * a / 3).cos(), (2 * pi * a / 3).sin()], -1)

    def axes(self, thirds: int) -> tuple[Axis, ...]:
        return (Axis("circle", 3),)

    def grid(self, thirds: int) -> Tensor:
        return torch.arange(thirds, dtype=torch.float64)[:, None]

    def random(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.randint(3, (n, 1), generator=generator).double()


class Cone(nn.Module):
    """A mask of one's own, 1 - r / size in space with a size that is trained."""

    def __init__(self, axes) -> None:
        super().__init__()
        self.space = all(axis.kind == "space" for axis in axes)
        self.size = nn.Parameter(torch.tensor(2.0)) if self.space else None

    def forward(self, coordinates: Tensor) -> Tensor:
        if not self.space:
            return coordinates.new_ones(coordinates.shape[:-1])
        return (1 - torch.linalg.vector_norm(coordinates, dim=-1) / self.size).clamp(min=0)


class Waves(nn.Module):
    """Plane waves of fixed frequencies and free amplitudes."""

    def __init__(self, axes, channels: int, waves: int = 20) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.randn(sum(axis.columns for axis in axes), waves))
        self.register_buffer("phase", 6.3 * torch.rand(waves))
        self.amplitude = nn.Parameter(torch.randn(waves, channels) * (2 / waves) ** 0.5)

    def forward(self, coordinates: Tensor) -> Tensor:
        return torch.cos(coordinates @ self.frequency + self.phase) @ self.amplitude


TOYS = {
    "klein": (Klein(), (2, 2)),
    "squeeze": (Squeeze(), (3,)),
    "both": (Product(Klein(), Dilation(1.5)), (2, 2, 2)),
    "back": (Back(), (2,)),
    "tumble": (Tumble(), (3,)),
    "tumble and grow": (Product(Tumble(), Dilation(1.5, space=3)), (3, 2)),
}
SIZES = {1: (13,), 2: (9, 11), 3: (4, 5, 6)}
FORMULAS = ("oi h, o x h", "oi x, o h", "oi h, o x", "i h, oi x")


@pytest.mark.parametrize("name", TOYS)
def test_group(name: str) -> None:
    check_group(*TOYS[name], closed=name in ("klein", "back", "tumble")) if name != "squeeze" else check_law(
        *TOYS[name]
    )


def check_law(group: Group, sizes: tuple[int, ...]) -> None:
    """All but the bound on samples, which is stated for dilations: a squeeze keeps areas."""
    check_group(group, sizes, closed=False)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mask", [None, Cone], ids=["no mask", "cone"])
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", TOYS)
def test_layer(name: str, formula: str, mask: type[Cone] | None) -> None:
    group, sizes = TOYS[name]
    k = 3 if group.space == 3 else 5
    conv = GConv(2, 3, k, group=group, elements=sizes, implementation=formula, kernel=Waves, mask=mask)
    a, b = group.random(4), group.random(3)
    check_invariance(conv, a, b, group.random(1))
    check_naturality(conv, a, b)
    grid = group.grid(*sizes)
    field = Field(torch.randn(2, 2, len(grid), *SIZES[group.space]), grid)
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


@pytest.mark.parametrize(("name", "size"), [("back", 28), ("tumble", 8)])
def test_nets_in_other_spaces(name: str, size: int) -> None:
    group, sizes = TOYS[name]
    conv = partial(
        GConv, kernel_size=3, group=group, elements=sizes, implementation="oi h, o x", kernel=Waves, mask=Cone
    )
    for make in (CKGResNet, ResidualNet):
        net = make(1, 5, size, conv, hidden_sizes=(4, 6), exact="require").double().eval()
        check_net(net, torch.randn(4, 1, *(size,) * group.space).double(), group.matrix(group.grid(*sizes)))
