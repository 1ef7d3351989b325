"""Formulas: what they read, which sums can be taken in turn, and what is refused."""

from __future__ import annotations

import pytest
from conftest import FACTORISATIONS

from src.groups import O2, SO2, Dilation, Product
from src.models import IMPLEMENTATIONS, Factorisation

STAGES = {
    "lifting": 1,
    "nonseparable": 1,
    "separable": 2,
    "gseparable": 1,
    "dseparable": 2,
    "dgseparable": 3,
    "separable+2d": 3,
    "gseparable+2d": 1,
    "space first": 1,
    "shared h": 1,
    "one part": 1,
}


@pytest.mark.parametrize("name", FACTORISATIONS)
def test_stages(name: str) -> None:
    stages = Factorisation(FACTORISATIONS[name]).stages(parts=2)
    assert len(stages) == STAGES[name]
    assert stages[0].input
    assert stages[-1].space
    assert sorted(n for stage in stages for n in stage.factors) == list(
        range(len(Factorisation(FACTORISATIONS[name]).factors))
    )


def test_a_name_is_its_formula() -> None:
    assert Factorisation("separable") == Factorisation("oi h, o x")
    assert len(IMPLEMENTATIONS) == 8


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("o h, o x", "lacks `i`"),
        ("i x", "lacks `o`"),
        ("", "has the factor ''"),
        ("oi h,, o x", "has the factor ''"),
        ("oi z", "channels among `o`, `i`"),
        ("oi x x", "each once"),
        ("io o", "coordinates among"),
        ("oi h h0", "names both"),
        ("separabel", "one of lifting, nonseparable, separable"),
    ],
)
def test_wrong_formulas_are_explained(formula: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Factorisation(formula)


@pytest.mark.parametrize("name", ["separable+2d", "gseparable+2d"])
@pytest.mark.parametrize("group", [SO2(), Dilation(), O2()], ids=str)
def test_parts_need_a_product_group(name: str, group) -> None:
    with pytest.raises(
        ValueError, match=r"`h1` of a product, but .* has 1 part\(s\); use a product group such as sim2"
    ):
        Factorisation(name).check(group)
    Factorisation(name).check(Product(SO2(), Dilation()))


def test_absolute_coordinates_are_never_summed_in_turn() -> None:
    assert len(Factorisation("oi h, o a, o x").stages(1)) == 1
    assert len(Factorisation("oi h, o, o x").stages(1)) == 1, "a factor without a sum"
    assert len(Factorisation("oi, o h").stages(1)) == 1, "no factor carries x"
