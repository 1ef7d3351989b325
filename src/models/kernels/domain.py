"""Coordinates that kernels are evaluated at, drawn uniformly: to give a kernel net unit second moment over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.groups import SO3, Axis

_DRAWS = 2048


def _circle(generator: torch.Generator) -> Tensor:
    angle = 2 * pi * torch.rand(_DRAWS, 1, generator=generator)
    return torch.cat([angle.cos(), angle.sin()], -1)


_COLUMNS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "circle": _circle,
    "points": lambda generator: 2.0 * torch.randint(2, (_DRAWS, 1), generator=generator) - 1,
    "rotations": lambda generator: SO3().chart(SO3().random(_DRAWS, generator)),
}


def domain(axes: Sequence[Axis]) -> Float[Tensor, "n columns"]:
    """Uniform coordinates on the axes, always the same: those of space and intervals from -1 to 1.

    Example:
        >>> from src.groups import SO2
        >>> domain(SO2().axes(8)).square().sum(1).allclose(torch.ones(2048))
        True
    """
    generator = torch.Generator().manual_seed(0)
    columns = [
        _COLUMNS[axis.kind](generator) if axis.kind in _COLUMNS else 2 * torch.rand(_DRAWS, 1, generator=generator) - 1
        for axis in axes
    ]
    return torch.cat(columns, -1).to(torch.get_default_dtype())


@torch.no_grad()
def scale_output(output: nn.Linear, features: Float[Tensor, "n hidden"]) -> None:
    """Draw the weights of a last layer anew, so that values have unit second moment on average over its features."""
    bound = (3 / features.square().sum(-1).mean()).sqrt().item()
    nn.init.uniform_(output.weight, -bound, bound)
    nn.init.zeros_(output.bias)
