"""The shapes in signatures are those of what is passed and returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
import torch
from jaxtyping import Float, jaxtyped
from torch import Tensor

from src.groups import O2, O3, SO2, SO3, Dilation, Group, Product, Reflection, Trivial
from src.models import Field, GConv
from src.models.kernels import Constant, Fourier, Lattice, Siren
from src.models.masks import Box, Disc, SmoothDisc, SmoothInterval

GROUPS: dict[Group, tuple[int, ...]] = {
    Trivial(): (1,),
    SO2(): (8,),
    Dilation(): (3,),
    Reflection(): (2,),
    O2(): (4, 2),
    Product(SO2(), Dilation()): (4, 3),
    Dilation(space=1): (3,),
    SO3(): (12,),
    O3(): (4, 2),
}


def checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, if shapes are as annotated: letters mean the same number in all of a call."""
    bound = inspect.signature(function).bind(*arguments).arguments
    hints = {name: hint for name, hint in get_type_hints(function).items() if "jaxtyping" in repr(hint)}
    assert "return" in hints, f"{function} has no shapes"
    with jaxtyped("context"):
        for name in bound.keys() & hints.keys():
            assert isinstance(bound[name], hints[name]), (function, name, bound[name].shape)
        result = function(*arguments)
        for value, hint in [(result, hints["return"])] if isinstance(result, Tensor) else []:
            assert isinstance(value, hint), (function, hint, value.shape)
    return result


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_groups(group: Group) -> None:
    grid = checked(group.grid, *GROUPS[group])
    for draw in (checked(group.random, 5), checked(group.sample, GROUPS[group]), grid[:1].expand(2, 3, -1)):
        for function in (group.inverse, group.matrix, group.chart, group.det, group.lattice_exact):
            checked(function, draw)
    checked(group.product, grid[:, None], group.random(5))
    checked(group.act, grid[:, None], torch.randn(5, group.space))
    checked(group.relative, grid, group.random(5))
    checked(group.random, 5)


@pytest.mark.parametrize("implementation", ["oi x", "oi h, o x", "oi x h"])
def test_convolutions(implementation: str) -> None:
    conv = GConv(2, 3, 5, group=SO2(), elements=(4,), implementation=implementation)
    a, b = SO2().grid(6), SO2().grid(4)
    checked(conv.weight, a, b)
    checked(conv.weight, a, b, torch.zeros(2, 7, 2, dtype=torch.float64))
    checked(conv.kernel.envelope, a, b)
    checked(conv.kernel.forward, range(1), a, b)
    checked(conv.kernel.offsets)
    field = Field(torch.randn(2, 2, 4, 9, 11), b)
    checked(field.pixels)
    checked(field.planes)
    checked(conv.output_elements, field)
    with jaxtyped("context"):
        for name, hint in get_type_hints(Field).items():
            assert isinstance(getattr(conv(field), name), hint)


def test_kernels_and_masks() -> None:
    axes = SO2().axes(4)
    for kernel in (Lattice(axes, 3), Fourier(axes, 3), Siren(axes, 3), Constant(3)):
        checked(kernel.forward, torch.randn(5, 6, 2))
    for mask in (Disc(), SmoothDisc(), Box()):
        checked(mask.__call__, torch.randn(5, 6, 2))
    checked(SmoothInterval().__call__, torch.randn(5, 6))


def test_the_check_sees_other_shapes() -> None:
    def transposed(a: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        return a.mT

    checked(transposed, torch.zeros(2, 2))
    with pytest.raises(AssertionError):
        checked(transposed, torch.zeros(2, 3))
    with pytest.raises(AssertionError):
        checked(transposed, torch.zeros(2, 2, 2))
    with pytest.raises(AssertionError, match="has no shapes"):
        checked(abs, 1)
