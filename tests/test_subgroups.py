"""Pools to subgroups, over cosets, and restriction: what each commutes with, for every group that has the subgroup."""

from __future__ import annotations

import pytest
import torch
from conftest import MASKS
from laws import act, assert_close, exact_elements
from torch import Tensor

from src.groups import O2, O3, SO2, SO3, Dilation, Group, Product, Reflection, Trivial
from src.models import Field, GConv
from src.models.kernels import Lattice
from src.models.subgroups import CosetPool, SubgroupPool

pytestmark = pytest.mark.usefixtures("float64")

CHAINS = {
    "C4 > C2": (SO2(), (4,), (2,)),
    "C4 > 1": (SO2(), (4,), (1,)),
    "C8 > C4": (SO2(), (8,), (4,)),
    "C12 > C4": (SO2(), (12,), (4,)),
    "D4 > C4": (O2(), (4, 2), (4, 1)),
    "D4 > D2": (O2(), (4, 2), (2, 2)),
    "D4 > flip": (O2(), (4, 2), (1, 2)),
    "D4 > C2": (O2(), (4, 2), (2, 1)),
    "D8 > D4": (O2(), (8, 2), (4, 2)),
    "flip > 1": (Reflection(), (2,), (1,)),
    "flip of sequences > 1": (Reflection(space=1), (2,), (1,)),
    "Sim(2) > rotations": (Product(SO2(), Dilation(1.7)), (4, 3), (4, 1)),
    "D4 x scales > C4": (Product(O2(), Dilation(2.0)), (4, 2, 2), (4, 1, 1)),
    "cube > tetrahedron": (SO3(), (24,), (12,)),
    "cube > half turns": (SO3(), (24,), (4,)),
    "tetrahedron > half turns": (SO3(), (12,), (4,)),
    "cube > 1": (SO3(), (24,), (1,)),
    "Oh > O": (O3(), (24, 2), (24, 1)),
    "1 > 1": (Trivial(), (1,), (1,)),
}
"""A group, how many of its elements a field has, and a subgroup."""
KINDS = ("max", "mean", "stack")


def field_on(group: Group, sizes: tuple[int, ...], channels: int = 2) -> Field:
    """Noise on unequal sides."""
    grid, sides = group.grid(*group.sizes(sizes)), (3, 4, 5)[: group.space]
    return Field(torch.randn(2, channels, len(grid), *sides), grid)


def sorted_by(group: Group, field: Field) -> Field:
    """With the elements in one order, whatever it was: a field is a function on a set of elements."""
    chart = group.chart(field.elements).round(decimals=6) + 0.0
    keys = (
        chart
        @ torch.tensor([0.7371, 0.2113, 0.0517, 0.0113, 0.0031, 0.93, 0.41, 0.0071, 0.0017, 0.53, 0.29])[
            : chart.shape[-1]
        ]
    )
    order = keys.argsort()
    return Field(field.values[:, :, order], field.elements[order])


def check_commutes(layer: torch.nn.Module, field: Field, group: Group, g: Tensor) -> None:
    """layer(g.f) equals g.layer(f) as functions on the same elements; g is exact on the pixel grid."""
    actual, expected = (sorted_by(group, own) for own in (layer(act(field, group, g)), act(layer(field), group, g)))
    assert_close(group.matrix(actual.elements), group.matrix(expected.elements), "labels")
    assert_close(actual.values, expected.values, "values")


def regrid(layer: torch.nn.Module, group: Group, sizes: tuple[int, ...]) -> torch.nn.Module:
    """The layer as a net sees it: a turned image is lifted to the same list of elements, in the same order."""
    grid = group.grid(*group.sizes(sizes))

    def apply(field: Field) -> Field:
        chart = group.chart(field.elements)
        index = (group.chart(grid)[:, None] - chart).square().sum(-1).argmin(1)
        return layer(Field(field.values[:, :, index], grid))

    return apply


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chain", CHAINS)
def test_a_pool_to_a_subgroup_commutes_with_it(chain: str, kind: str) -> None:
    group, sizes, own = CHAINS[chain]
    pool, field = SubgroupPool(group, own, kind), field_on(group, sizes)
    layer = regrid(pool, group, sizes) if group.lattice_exact(field.elements).all() else pool
    pooled = pool(field)
    members = len(group.grid(*group.sizes(own)))
    shares = field.values.shape[2] // members if kind == "stack" else 1
    assert pooled.values.shape[1:3] == (2 * shares, members)
    for g in exact_elements(group, group.sizes(own)):
        check_commutes(layer, field, group, g[None])


@pytest.mark.parametrize("kind", ["max", "mean"])
@pytest.mark.parametrize("chain", [name for name, (_, _, own) in CHAINS.items() if max(own) == 1])
def test_a_pool_to_the_identity_is_invariant_under_the_whole_group(chain: str, kind: str) -> None:
    group, sizes, own = CHAINS[chain]
    pool, field = SubgroupPool(group, own, kind), field_on(group, sizes)
    for g in exact_elements(group, sizes):
        moved, still = pool(act(field, group, g[None])).values, act(pool(field), group, g[None]).values
        assert_close(moved, still, "invariants")


CLOSED = [name for name, (group, _, _) in CHAINS.items() if not any(isinstance(p, Dilation) for p in group.parts)]


@pytest.mark.parametrize("kind", ["max", "mean"])
@pytest.mark.parametrize("chain", CLOSED)
def test_a_pool_over_cosets_commutes_with_the_whole_group(chain: str, kind: str) -> None:
    group, sizes, own = CHAINS[chain]
    pool, field = CosetPool(group, own, kind), field_on(group, sizes)
    layer, pooled = regrid(pool, group, sizes), pool(field)
    # As if all elements were exact on the pixels: pools see one pixel at a time.
    for g in field.elements.flip(0)[:: max(1, len(field.elements) // 6)]:
        actual = layer(Field(field.values, group.product(g[None], field.elements)))
        expected = sorted_by(group, Field(pooled.values, group.product(g[None], pooled.elements)))
        assert_close(sorted_by(group, actual).values, expected.values, "values")


@pytest.mark.parametrize("chain", CLOSED)
def test_a_pool_over_cosets_is_constant_on_them(chain: str) -> None:
    group, sizes, own = CHAINS[chain]
    field = CosetPool(group, own)(field_on(group, sizes))
    different = {tuple(values.tolist()) for values in field.values[0, 0].flatten(1)}
    assert len(different) == len(field.elements) // len(group.grid(*group.sizes(own)))


class _WrongSide(SubgroupPool):
    """Takes t s for s t."""

    def members(self, elements: Tensor) -> Tensor:
        index = super().members(elements)
        products = self.group.product(elements[index[0]][None], self.group.grid(*self.subgroup)[:, None])
        return (self.group.chart(products)[..., None, :] - self.group.chart(elements)).square().sum(-1).argmin(-1)


class _Neighbours(SubgroupPool):
    """Takes elements that are beside each other in the list."""

    def members(self, elements: Tensor) -> Tensor:
        return torch.arange(len(elements)).unflatten(0, super().members(elements).shape)


class _OwnCosets(SubgroupPool):
    """Takes the elements of S t for those of s T."""

    def members(self, elements: Tensor) -> Tensor:
        return super().members(elements).mT


@pytest.mark.parametrize(
    ("wrong", "chain"),
    [(_WrongSide, "D4 > C4"), (_WrongSide, "cube > tetrahedron"), (_OwnCosets, "C4 > C2"), (_Neighbours, "D4 > flip")],
)
def test_a_pool_over_wrong_cosets_is_seen(wrong: type, chain: str) -> None:
    group, sizes, own = CHAINS[chain]
    layer, field = regrid(wrong(group, own), group, sizes), field_on(group, sizes)
    last = exact_elements(group, group.sizes(own))[-1:]
    with pytest.raises(AssertionError, match=r"(values|labels): relative error"):
        check_commutes(layer, field, group, last)


@pytest.mark.parametrize("chain", ["C4 > C2", "D4 > C4"])
def test_a_pool_to_a_subgroup_does_not_commute_with_more(chain: str) -> None:
    group, sizes, own = CHAINS[chain]
    layer, field = regrid(SubgroupPool(group, own, "stack"), group, sizes), field_on(group, sizes)
    outside = [g for g in field.elements if (group.chart(g) - group.chart(group.grid(*own))).abs().sum(-1).min() > 1e-6]
    with pytest.raises(AssertionError):
        check_commutes(layer, field, group, outside[0][None])


@pytest.mark.parametrize("chain", ["C4 > C2", "C8 > C4", "D4 > C4", "D4 > flip", "D4 > C2", "cube > tetrahedron"])
def test_convolutions_after_a_restriction_commute_with_the_subgroup(chain: str) -> None:
    group, sizes, own = CHAINS[chain]
    field, restrict = field_on(group, sizes), SubgroupPool(group, own, "stack")
    channels = restrict(field).values.shape[1]
    conv = GConv(
        channels, 3, 3, group=group, elements=own, implementation="nonseparable", kernel=Lattice, mask=MASKS["none"]
    )
    layer = regrid(lambda whole: conv(restrict(whole)), group, sizes)
    weights = sum(parameter.numel() for parameter in conv.parameters())
    assert weights == 3 * 2 * 3**group.space * len(field.elements), "as many as onto the whole group"
    with torch.no_grad():
        for g in exact_elements(group, group.sizes(own))[:4]:
            check_commutes(layer, field, group, g[None])
        outside = next(g for g in field.elements[1:] if not _is_in(group, g, group.grid(*group.sizes(own))))
        if group.lattice_exact(outside):
            with pytest.raises(AssertionError):
                check_commutes(layer, field, group, outside[None])


def _is_in(group: Group, g: Tensor, elements: Tensor) -> bool:
    return bool(((group.chart(g) - group.chart(elements)).square().sum(-1) < 1e-9).any())


def test_random_cosets_are_pooled_as_the_grid_is() -> None:
    group = SO2()
    elements = group.sample((8,), torch.Generator().manual_seed(0))
    field = Field(torch.randn(1, 1, 8, 2, 2), elements)
    values = SubgroupPool(group, (4,))(field).values
    assert_close(values, field.values[:, :, [0, 2, 4, 6]].maximum(field.values[:, :, [1, 3, 5, 7]]), "C8 > C4")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SubgroupPool(SO2(), (4,), "sum"), "`restriction` must be one of max, mean, stack, but got 'sum'"),
        (lambda: CosetPool(SO2(), (4,), "stack"), "`kind` must be one of max, mean, but got 'stack'"),
        (lambda: CosetPool(Dilation(2.0), (3,)), r"`subgroup` must be closed.*\[3\] of Dilation"),
        (lambda: SubgroupPool(SO3(), (5,)), r"`subgroup` must be closed.*\[5\] of SO3"),
        (
            lambda: SubgroupPool(SO2(), (3,))(field_on(SO2(), (4,))),
            r"`subgroup` \[3\] of SO2\(\) must map .* 4 elements",
        ),
        (lambda: CosetPool(SO2(), (8,))(field_on(SO2(), (4,))), r"`subgroup` \[8\] of SO2\(\) must map .* 4 elements"),
        (lambda: SubgroupPool(O2(), (4, 2, 1)), "`elements` must give 2 positive"),
    ],
)
def test_what_is_no_subgroup_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
