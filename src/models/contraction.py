"""How the sums of a kernel are taken: which in turn, at what cost, and with which tensors.

Pixels are (n, *space, b, c) throughout; weights come as a `GroupKernel` makes them, (a, b, u, o, i), with u over the
taps of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from src.groups import Group
from src.models.depthwise import depthwise
from src.models.factorisation import Stage, merge
from src.models.fft import fft_conv, fft_pays
from src.models.torch_functions import functions_for

# Multiply-adds of a sum over group elements or pixels alone (no matrix product over channels) take about ten times as
# long as those of one that runs over input channels too: measured, forward and backward, on two CPU cores.
_SLOW_SUM = 10
# From how many (b, i) on it pays to halve a matrix product: below, the passes over the field cost as much. Measured
# forward and backward on two CPU cores: 13.6 to 12.5 ms for 256, 44.5 to 34.2 ms for 512, 100 to 74 ms for 768.
_HALVE_FROM = 256


class Step(NamedTuple):
    """One stage on given elements."""

    stage: Stage
    a: Float[Tensor, "a dim"]
    """The output elements that its weight depends on, (a, dim)."""
    b: Float[Tensor, "b dim"]
    """The input elements that its weight depends on, (b, dim)."""
    axes: tuple[int, ...] = ()
    """If it sums over one part of the group only: how many elements of each part its input has."""
    halved: bool = False
    """Whether a is the first half of its output elements, which gives the other half: see `_halve`."""

    @property
    def outputs(self) -> int:
        """How many output elements it has."""
        return len(self.a) * (2 if self.halved else 1)


def choose(
    stages: Sequence[Stage],
    group: Group,
    a: Float[Tensor, "a dim"],
    b: Float[Tensor, "b dim"],
    path: str,
    sizes: tuple[int, int, int, int],
    ranks: int,
    halves: bool,
) -> list[Step]:
    """The steps that a path takes on output elements a (a, dim) and input elements b (b, dim).

    Args:
        stages: of the kernel.
        group: H.
        a, b: elements.
        path: `dense`, `sequential`, or `auto` for the cheaper one.
        sizes: output channels, input channels, input elements and taps.
        ranks: by how much sums that are taken in turn have more output channels.
        halves: whether matrix products may be halved, see `_halve`.

    Raises:
        ValueError: if the sequential path is asked for and the elements do not allow it.
    """
    dense = _whole(stages, a, b)
    if path == "dense" or len(stages) == 1:
        return dense
    steps = plan(stages, group, a, b)
    if steps is not None and halves:
        steps = [_halve(step, group, sizes[1]) for step in steps]
    if path == "sequential":
        if steps is None:
            raise ValueError(
                f"`path` sequential needs elements that are a product of the parts of {group}, as its grids "
                "and samples are; use path 'auto' for others."
            )
        return steps
    return dense if steps is None or _cost(dense, *sizes) <= ranks * _cost(steps, *sizes) else steps


def plan(
    stages: Sequence[Stage], group: Group, a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"]
) -> list[Step] | None:
    """The stages as steps on output elements a (a, dim) and input elements b (b, dim).

    Returns:
        None if a stage sums over one part of the group and the elements are not a product of the parts' elements.
    """
    if all(len(stage.parts) in (0, len(group.parts)) for stage in stages):
        return [Step(stage, a, b) for stage in stages]
    grids = group.factor_grid(a), group.factor_grid(b)
    if None in grids or any(1 < len(stage.parts) < len(group.parts) for stage in stages):
        return None
    outputs, inputs = ([len(own) for own in grid] for grid in grids)
    axes, steps = list(inputs), []
    for stage in stages:
        if len(stage.parts) == 1:
            (part,) = stage.parts
            steps.append(Step(stage, _varying(a, outputs, part), _varying(b, inputs, part), tuple(axes)))
            axes[part] = outputs[part]
        else:
            steps.append(Step(stage, a, b))
    return steps


def _halve(step: Step, group: Group, in_channels: int) -> Step:
    """Mark a sum over (b, i) whose matrix is [[S, T], [T, S]] in the halves of its elements.

    So it is where half a turn takes the first half of the elements to the second, as in every grid and sample of an
    even number of rotations. The matrix then acts as S + T on the sum of both halves of a field, and as S - T on their
    difference: half of the work, and half of the kernel to assemble.
    """
    if not (step.stage.input and step.stage.parts) or step.stage.space or len(step.b) * in_channels < _HALVE_FROM:
        return step
    m, n = len(step.a) // 2, len(step.b) // 2
    if 2 * m != len(step.a) or 2 * n != len(step.b):
        return step
    chart = group.chart(group.relative(step.a.double(), step.b.double()))
    alike = torch.allclose(chart[m:, n:], chart[:m, :n], atol=1e-9) and torch.allclose(
        chart[m:, :n], chart[:m, n:], atol=1e-9
    )
    return step._replace(a=step.a[:m], halved=True) if alike else step


def _varying(elements: Tensor, sizes: Sequence[int], part: int) -> Tensor:
    """The elements of a product grid (prod(sizes), dim) in which one part varies: (sizes[part], dim)."""
    return elements[: prod(sizes[part:]) : prod(sizes[part + 1 :])]


def _cost(steps: Sequence[Step], out_channels: int, in_channels: int, inputs: int, taps: int) -> float:
    """Multiply-adds per pixel, those of slow sums counted `_SLOW_SUM` times."""
    total, elements = 0.0, inputs
    for step in steps:
        summed = len(step.b) if step.stage.parts else 1
        elements = elements // summed * step.outputs if step.stage.parts else elements
        channels = in_channels if step.stage.input else _SLOW_SUM
        work = out_channels * elements * summed * channels * (taps if step.stage.space else 1)
        total += work / 2 if step.halved else work
    return total


def _whole(stages: Sequence[Stage], a: Float[Tensor, "a dim"], b: Float[Tensor, "b dim"]) -> list[Step]:
    """All sums at once: the dense path."""
    stage = reduce(merge, stages)._replace(input=True, space=True, parts=frozenset({0}))
    return [Step(stage, a, b)]


def arrange(
    step: Step,
    weight: Float[Tensor, "#a #b #u #o #i"],
    out_channels: int,
    in_channels: int,
    window: Sequence[int],
) -> Float[Tensor, ...]:
    """A weight (a, b, u, o, i) as its step wants it; `window` counts the taps along each axis."""
    stage = step.stage
    if not stage.space:
        kept = ("ab" if stage.parts else "") + ("oi" if stage.input else "o")
        return weight[tuple(slice(None) if letter in kept else 0 for letter in "abuoi")]
    b, i = len(step.b) if stage.parts else 1, in_channels if stage.input else 1
    weight = weight.expand(len(step.a), b, prod(window), out_channels, i)
    if stage.input:
        # Channels last, as the planes: with gradients, a large kernel is copied once less.
        rows = torch.einsum("abuoi->aoubi", weight).flatten(3).flatten(0, 1)
        return torch.einsum("r...k->rk...", rows.unflatten(1, window))
    order = "abuoi->oabiu" if stage.parts else "abuoi->aobiu"
    return torch.einsum(order, weight).flatten(2, 3).flatten(0, 1).unflatten(-1, window)


def mix(pixels: Float[Tensor, "n *space b i"], weight: Float[Tensor, ...], step: Step) -> Float[Tensor, "n *space a o"]:
    """Sum over channels and group elements: (n, *space, b, i) -> (n, *space, a, o)."""
    if step.axes:
        (part,), first = step.stage.parts, pixels.dim() - 2
        split = pixels.unflatten(-2, step.axes).movedim(first + part, -2)
        matrix = weight if step.stage.input else torch.diag_embed(weight)
        mixed = _mix_halves(split, matrix) if step.halved else _mix_matrix(split, matrix)
        return mixed.movedim(-2, first + part).flatten(first, -2)
    if step.stage.input and step.stage.parts:
        return _mix_halves(pixels, weight) if step.halved else _mix_matrix(pixels, weight)
    # Here einsum is the fastest there is, channels being few.
    return torch.einsum("...bi,oi->...bo" if step.stage.input else "...bo,abo->...ao", pixels, weight)


def _mix_matrix(pixels: Tensor, weight: Tensor) -> Tensor:
    """Sum over (b, i) by one matrix product: (n, *space, ..., b, i), (a, b, o, i) -> (n, *space, ..., a, o).

    Written as a 1x1 convolution on channels-last planes, which takes half the time of a linear layer on a CPU.
    """
    matrix = torch.einsum("aboi->aobi", weight).flatten(2).flatten(0, 1)
    # In two axes, of which a sequence is the second: in one, it takes up to half as long again.
    rows = pixels.flatten(-2) if pixels.dim() > 4 else pixels.flatten(-2)[:, None]
    planes = torch.einsum("nyxk->nkyx", rows.flatten(2, -2))
    mixed = torch.einsum("nkyx->nyxk", F.conv2d(planes, matrix[..., None, None]))
    return mixed.flatten(1, 2).unflatten(1, pixels.shape[1:-2]).unflatten(-1, (len(weight), -1))


def _mix_halves(pixels: Tensor, weight: Tensor) -> Tensor:
    """As `_mix_matrix`, from the first half of the output elements' weights: see `_halve`."""
    first, second = pixels.unflatten(-2, (2, -1)).unbind(-3)
    same, turned = weight.unflatten(1, (2, -1)).unbind(1)
    even = _mix_matrix(first + second, (same + turned) / 2)
    odd = _mix_matrix(first - second, (same - turned) / 2)
    return torch.cat([even + odd, even - odd], -2)


class Geometry(NamedTuple):
    """How a window is moved over an image."""

    stride: int
    padding: tuple[int, int]
    """Zeros before and after the image along each axis; where negative, pixels that are left out."""
    fft: str
    """`auto`, `always` or `never`."""


def convolve(
    pixels: Float[Tensor, "n *space b i"], weight: Float[Tensor, "_ _ *window"], step: Step, geometry: Geometry
) -> Float[Tensor, "n *outputs a o"]:
    """Sum over space, and over what else the stage sums: (n, *space, b, i) -> (n, *outputs, a, o)."""
    outputs, by_channel = len(step.a), step.stage.parts and not step.stage.input
    channels = pixels.mT.flatten(-2) if by_channel else pixels.flatten(-2)
    if channels.shape[-1] == 1:
        # The stride of a single channel means nothing, but decides the order of the output: this makes it 1.
        channels = channels.squeeze(-1).unsqueeze(-1)
    planes = torch.einsum("n...k->nk...", channels)
    planes = _convolve(planes, weight, geometry)
    folded = torch.einsum("nk...->n...k", planes)
    return folded.unflatten(-1, (-1, outputs)).mT if by_channel else folded.unflatten(-1, (outputs, -1))


def _convolve(planes: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """(n, c, *space), (o, c / groups, *window) -> (n, o, *outputs), in the way that is fastest."""
    groups, (before, after) = planes.shape[1] // weight.shape[1], geometry.padding
    fft = geometry.fft == "always" or (geometry.fft == "auto" and fft_pays(planes, weight, before, after))
    if fft and geometry.stride == 1:
        return fft_conv(planes, weight, before, after, groups)
    if before != after or before < 0:
        planes, before = F.pad(planes, (before, after) * (planes.dim() - 2)), 0
    if groups == len(weight) > 1 or (groups == 1 and weight.shape[:2] == (1, 1)):
        return depthwise(planes, weight, geometry.stride, before)
    return functions_for(planes).conv(planes, weight, stride=geometry.stride, padding=before, groups=groups)
