"""Group laws, and groups that break them."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import pytest
import torch
from conftest import ALL_GROUPS, GROUPS
from laws import assert_close, check_group, warp

from src.groups import O2, SO2, SO3, Dilation, Product, Reflection, Trivial
from src.groups.base import wrap

CLOSED = {"r2", "se2", "p4", "e2", "p4m", "flip", "r1", "flip_1d", "r3", "flip_3d", "tetrahedral", "e3"}


@pytest.mark.parametrize("name", ALL_GROUPS)
def test_group_laws(name: str) -> None:
    check_group(*ALL_GROUPS[name], closed=name in CLOSED)


@pytest.mark.parametrize(("n", "exact"), [(1, 1), (4, 4), (12, 12), (24, 24), (60, 12)])
def test_subgroups_of_rotations(n: int, exact: int) -> None:
    check_group(SO3(), (n,), closed=True)
    grid = SO3().grid(n)
    assert int(SO3().lattice_exact(grid).sum()) == exact
    assert torch.equal(grid[:1], SO3().identity)


@pytest.mark.parametrize("n", [2, 7, 36, 100])
def test_spirals_of_rotations_spread(n: int) -> None:
    check_group(SO3(), (n,), closed=False)
    matrices = SO3().matrix(SO3().grid(n))
    traces = torch.einsum("aij,bij->ab", matrices, matrices).fill_diagonal_(-1)
    angles = ((traces.amax(1) - 1) / 2).clamp(-1, 1).acos()
    cube = (8 * pi**2 / n) ** (1 / 3)  # the side of one's share of the volume of the group
    assert angles.min() > 0.5 * cube, "no two are close"
    with pytest.raises(AssertionError, match="not closed"):
        check_group(SO3(), (n,), closed=True)


def test_a_quaternion_and_its_opposite_are_one_rotation() -> None:
    a, b = SO3().random(5), SO3().random(5)
    assert_close(SO3().chart(-a), SO3().chart(a), "chart")
    assert_close(SO3().chart(SO3().product(-a, b)), SO3().chart(SO3().product(a, b)), "product")


def test_spaces() -> None:
    with pytest.raises(ValueError, match=r"`space` must be 1 \(sequences\), 2 \(images\) or 3 \(volumes\), but got 4"):
        Dilation(space=4)
    with pytest.raises(
        ValueError, match=r"must act on one space, but SO3\(\) acts on R\^3, Dilation\(.*\) acts on R\^2"
    ):
        Product(SO3(), Dilation())
    assert [group.space for group, _ in (ALL_GROUPS[name] for name in ("r1", "sim2", "sim3", "e3"))] == [1, 2, 3, 3]


@dataclass(frozen=True)
class Clamped(Dilation):
    """As in the public code: products are clamped, so it is no group."""

    def product(self, a, b):
        return (a + b).clamp(0, log(self.max_scale))


@dataclass(frozen=True)
class Averaged(Dilation):
    """A mean in place of a product."""

    def product(self, a, b):
        return (a + b) / 2


@dataclass(frozen=True)
class Direct(O2):
    """Rotations and reflections as if they commuted."""

    def product(self, a, b):
        angle, flip = torch.broadcast_tensors(a + b)[0].split(1, -1)
        return torch.cat([wrap(angle), flip.remainder(2)], -1)


@dataclass(frozen=True)
class WrongWay(O2):
    """Turns against its own law."""

    def matrix(self, a):
        return super().matrix(a).mT


@dataclass(frozen=True)
class Overshoot(Dilation):
    """As in the public code: a random offset in the wrong units leaves [1, max_scale]."""

    def sample(self, sizes, generator=None):
        return self.grid(*sizes) + torch.rand(1, 1, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Uneven(SO2):
    """A grid that is not closed."""

    def grid(self, rotations):
        return 0.9 * super().grid(rotations)


BROKEN = {
    "clamped: homomorphism": (Clamped(), (3,)),
    "direct: inverse": (Direct(), (4, 2)),
    "wrong way: homomorphism": (WrongWay(), (4, 2)),
    "averaged: associativity": (Averaged(), (3,)),
    "overshoot: outside": (Overshoot(), (3,)),
    "uneven: not closed": (Uneven(), (4,)),
}


@pytest.mark.parametrize("law", BROKEN)
def test_broken_groups_fail(law: str) -> None:
    group, sizes = BROKEN[law]
    with pytest.raises(AssertionError, match=law.split(": ")[1]):
        check_group(group, sizes, closed=not isinstance(group, Dilation))


def test_orientation_is_that_of_rot90() -> None:
    image = torch.randn(3, 5)
    turn = SO2().matrix(torch.tensor([pi / 2], dtype=torch.float64))
    assert torch.equal(warp(image, turn), torch.rot90(image, 1, (-2, -1)))
    assert torch.equal(warp(image, Reflection().matrix(torch.tensor([1.0]))), image.flip(-2))
    assert torch.equal(warp(image, O2().matrix(torch.tensor([0.0, 1.0]))), image.flip(-1))


@pytest.mark.parametrize("name", ALL_GROUPS)
def test_samples_are_random_and_seeded(name: str) -> None:
    group, sizes = ALL_GROUPS[name]
    draw = [group.sample(sizes, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draw[0], draw[1])
    assert group.dim == 0 or name.startswith("flip") or not torch.equal(draw[0], draw[2])


@pytest.mark.parametrize("name", ["se2", "e2", "p4m", "flip_1d"])
def test_samples_are_cosets(name: str) -> None:
    group, sizes = ALL_GROUPS[name]
    sample = group.sample(sizes)
    assert_close(
        group.chart(group.product(sample, group.inverse(sample[:1]))), group.chart(group.grid(*sizes)), "coset"
    )


@pytest.mark.parametrize("n", [12, 24, 5])
def test_samples_of_rotations_are_the_grid_turned(n: int) -> None:
    """From the left: all elements of an image that is turned."""
    grid, sample = SO3().grid(n), SO3().sample((n,))
    turn = SO3().product(sample[:1], SO3().inverse(grid[:1]))
    assert_close(SO3().chart(SO3().product(turn, grid)), SO3().chart(sample), "turned")
    assert_close(SO3().chart(SO3().relative(sample, sample)), SO3().chart(SO3().relative(grid, grid)), "relative")


def test_every_rotation_is_sampled() -> None:
    offsets = torch.cat(
        [SO2().sample((4,), torch.Generator().manual_seed(seed)).remainder(pi / 2) for seed in range(400)]
    )
    assert torch.histc(offsets, 8, 0, pi / 2).min() > 100


def test_angles_have_no_seam() -> None:
    near = torch.tensor([[pi - 1e-9], [-pi + 1e-9]], dtype=torch.float64)
    assert (SO2().chart(near)[0] - SO2().chart(near)[1]).abs().max() < 1e-8
    assert torch.equal(SO2().grid(4)[2], torch.tensor([pi], dtype=torch.float64)), "angles live in (-pi, pi]"


def test_product_grids_factor() -> None:
    group, sizes = GROUPS["e2xrplus"]
    parts = group.factor_grid(group.sample(sizes))
    assert [len(part) for part in parts] == [8, 2]
    assert group.factor_grid(group.random(6)) is None


def test_groups_are_values() -> None:
    assert Product(SO2(), Dilation(1.74)) == Product(SO2(), Dilation(1.74)) != Product(SO2(), Dilation(2.0))
    assert len({Trivial(), Trivial(), SO2()}) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dilation(1.0), "`max_scale` must be above 1"),
        (lambda: Product(SO2(), Reflection()), "must commute"),
        (lambda: SO2().sizes((8, 3)), r"`elements` must give 1 .* \(rotations\)"),
        (lambda: Product(SO2(), Dilation()).sizes([8]), r"elements=\[8, 3\]"),
        (lambda: O2().grid(4, 3), "must be 1 or 2"),
        (lambda: Trivial().grid(2), r"must be \[1\]"),
    ],
)
def test_wrong_arguments_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_one_number_is_short_for_a_group_with_reflections() -> None:
    assert O2().sizes([4]) == (4, 2)
