"""Pictures of a net: its filters along the group, and features of a turned image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import acos, ceil, degrees, exp, pi

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from src.analysis.drawing import figure
from src.analysis.moving import watched
from src.data.poses import turns
from src.data.samples import Samples
from src.data.warp import warp
from src.groups import O2, SO2, SO3, Dilation, Group, Reflection, Trivial
from src.models import Field, GConv

_CELL = 0.6
"""Inches of a filter or a feature map."""
TURNS = 8
"""Rows of the picture of features: turns of 45 degrees."""
_PAIRS = 4
"""Rows of a picture of filters: pairs of an output and an input channel."""


def draw_features(samples: Samples, conv: GConv, name: str, run: Callable[[Tensor], Tensor]) -> Figure:
    """Feature maps of the first sample under `TURNS` turns; see `draw_rotation`.

    Args:
        samples: one or more.
        conv: the layer.
        name: of the layer, for the title.
        run: takes normalised images through the layer's net.
    """
    image = samples.shown(samples.images[:1])
    angles = 2 * pi * torch.arange(TURNS, dtype=torch.float64, device=image.device) / TURNS
    turned = warp(image.expand(TURNS, *image.shape[1:]), turns(angles, image.dim() - 2), border=samples.outside)
    features = _outputs(conv, lambda: run(samples.normalised(turned)))
    return draw_rotation(turned, features, conv, name)


def _outputs(conv: GConv, run: Callable[[], Tensor]) -> Field:
    """What a layer makes while something is run, values (n, c, b, y, x) of all calls together."""
    found: list[Field] = []
    with watched({"": conv}, lambda _, field: found.append(field)):
        run()
    return Field(torch.cat([field.values for field in found]), found[0].elements)


def draw_filters(conv: GConv, pairs: int = _PAIRS) -> Figure:
    """Kernels k_oi of a few pairs of channels, in rows, along the group, in columns.

    Of a layer that does not depend on the elements of its input, such as lifting, these are the kernels of all output
    elements: turned and scaled copies of one. Of others, the kernels of all input elements for the identity as output
    element, which need not resemble each other. What a group has besides its first coordinate, such as scales besides
    rotations, are rows below each other. Colours are shares of the largest weight of the pair.

    Args:
        conv: the layer.
        pairs: how many pairs; (0, 0), (1, 1), ..., and over again where there are fewer channels of a kind.
    """
    grid, identity = conv.kernel.grid, conv.group.identity
    elements = (identity, grid) if conv.kernel.carried else (grid, identity)
    with torch.no_grad():
        weight = _flattened(conv.weight(*elements), conv.group.space)
        weight = torch.einsum("oaibyx->oiabyx", weight).flatten(2, 3).float().cpu()
    o, i = weight.shape[:2]
    chosen = torch.arange(min(pairs, max(o, i)))
    cells = weight[chosen % o, chosen % i].unflatten(1, (conv.elements[0], -1))
    largest = cells.abs().amax((1, 2, 3, 4), keepdim=True)
    cells = cells / torch.where(largest > 0, largest, 1.0)
    along, beside = _axes_labels(conv)
    rows = [f"{n % o}, {n % i}   {label}".rstrip() for n in chosen.tolist() for label in beside]
    drawn = figure(_CELL * len(along) + 3.0, _CELL * len(rows) + 0.9)
    axes = drawn.subplots()
    shown = _draw_cells(axes, torch.einsum("pcryx->prcyx", cells).flatten(0, 1), 1.0)
    label_cells(axes, rows, along, cells.shape[-2:])
    axes.set_ylabel("output, input channel")
    axes.set_title("input element" if conv.kernel.carried else "output element", fontsize=9)
    drawn.colorbar(shown, ax=axes, fraction=0.03, pad=0.02).ax.tick_params(labelsize=8)
    return drawn


def draw_rotation(turned: Tensor, features: Field, conv: GConv, name: str) -> Figure:
    """Feature maps of a turned image, a turn in each row: they turn with it, and move along the group.

    The channel is the one that varies most along the group in the first row. Of a group with more than one kind of
    elements, the columns are those along the first, all others at the beginning of the grid.

    Args:
        turned: the image under turns of 360° / n, (n, c, y, x) in [0, 1].
        features: what the layer makes of them.
        conv: the layer.
        name: of the layer, for the title.
    """
    values = _flattened(features.values, conv.group.space)
    values = values.unflatten(2, (conv.elements[0], -1))[:, :, :, 0].float().cpu()
    channel = int(values[0].var(1, correction=0).mean((-2, -1)).argmax())
    cells, inputs = values[:, channel], colours(turned)
    along, _ = _axes_labels(conv)
    angles = [_angle(2 * pi * n / len(turned)) for n in range(len(turned))]
    drawn = figure(_CELL * (len(along) + 1) + 2.6, _CELL * len(turned) + 1.0)
    left, right = drawn.subplots(1, 2, width_ratios=[1, len(along)])
    left.imshow(mosaic(inputs[:, None], 1.0), interpolation="nearest")
    label_cells(left, angles, ["input"], inputs.shape[-2:])
    left.set_ylabel("input turned by")
    shown = _draw_cells(right, cells, float(cells.abs().max()))
    label_cells(right, [""] * len(turned), along, cells.shape[-2:])
    right.set_title("output element", fontsize=9)
    drawn.suptitle(f"{name}, channel {channel}", fontsize=9)
    drawn.colorbar(shown, ax=right, fraction=0.03, pad=0.02).ax.tick_params(labelsize=8)
    return drawn


def _axes_labels(conv: GConv) -> tuple[list[str], list[str]]:
    """Labels of a layer's grid along its first coordinate, and along all others together."""
    labels = [element_label(conv.group, element) for element in conv.kernel.grid]
    beside = len(labels) // conv.elements[0]
    return ["".join(label[:1]) for label in labels[::beside]], ["  ".join(label[1:]) for label in labels[:beside]]


def element_label(group: Group, element: Tensor) -> list[str]:
    """An element (dim,) in words, one for each of its coordinates.

    >>> element_label(SO2(), torch.tensor([-pi / 4]))
    ['315°']
    """
    parts = zip(group.parts, group.split(element), strict=True)
    return [word for part, own in parts for word in _part_label(part, own.tolist())]


def _part_label(part: Group, own: Sequence[float]) -> list[str]:
    """`element_label` of a group of one part; its numbers, if it is none that is known."""
    match part:
        case Trivial():
            return [""]
        case SO2():
            return [_angle(own[0])]
        case Dilation():
            return [f"x{exp(own[0]):.2f}"]
        case Reflection():
            return [_flip(own[0])]
        case O2():
            return [_angle(own[0]), _flip(own[1])]
        case SO3():
            return [_turn(own)]
    return [f"{coordinate:.2g}" for coordinate in own]


def _angle(radians: float) -> str:
    """In degrees from 0 to 360, to a tenth."""
    return f"{round(degrees(radians), 1) % 360:g}°"


def _turn(quaternion: Sequence[float]) -> str:
    """A rotation of R^3 by its angle from 0 to 180 degrees, and its axis where that is one of the space.

    >>> _turn([0.5**0.5, 0.5**0.5, 0.0, 0.0])
    '90° z'
    """
    real, *axis = quaternion
    along = "".join(name for name, part in zip("zyx", axis, strict=True) if abs(part) > 1e-9)
    sign = 1 if real * sum(axis) >= 0 else -1
    angle = f"{sign * round(degrees(2 * acos(min(1.0, abs(real)))), 1):g}°"
    return f"{angle} {along}" if len(along) == 1 else angle.removeprefix("-")


def _flip(coordinate: float) -> str:
    """A coordinate of a reflection."""
    return "flip" if coordinate else "-"


def colours(images: Tensor) -> Tensor:
    """(n, c, *space) of one or three channels to (n, 3, y, x); of other numbers, the mean over them is shown."""
    images = projected(images)
    images = images if images.shape[1] in (1, 3) else images.mean(1, keepdim=True)
    return images.float().cpu().expand(-1, 3, -1, -1)


def projected(images: Tensor) -> Tensor:
    """Images (n, c, *space) as (n, c, y, x): the brightest along the first axis of volumes, sequences as strips."""
    return images.amax(2) if images.dim() == 5 else _flattened(images, images.dim() - 2)


def _flattened(values: Tensor, d: int) -> Tensor:
    """Values (..., *space) as (..., y, x): the plane in the middle of volumes, sequences as strips."""
    if d == 3:
        return values.select(-3, values.shape[-3] // 2)
    return values[..., None, :].expand(*values.shape[:-1], ceil(values.shape[-1] / 8), -1) if d == 1 else values


def mosaic(cells: Tensor, gap: float) -> np.ndarray:
    """Cells in rows and columns with a line of one pixel between them.

    Args:
        cells: (rows, columns, y, x), or (rows, columns, 3, y, x) of colours.
        gap: the value of the lines.

    Returns:
        (y, x), or (y, x, 3).
    """
    framed = functional.pad(cells, (0, 1, 0, 1), value=gap)
    return torch.einsum("rc...yx->rycx...", framed).flatten(2, 3).flatten(0, 1)[:-1, :-1].numpy()


def _draw_cells(axes: Axes, cells: Tensor, limit: float) -> object:
    """Show numbers (rows, columns, y, x) in colours that diverge from zero; returns what a colour bar is made for."""
    limit = limit or 1.0
    axes.set_facecolor("black")
    return axes.imshow(mosaic(cells, float("nan")), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")


def label_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str], size: Sequence[int]) -> None:
    """Name the rows and columns of a mosaic of cells of size (y, x)."""
    y, x = size
    axes.set_xticks([(x + 1) * n + (x - 1) / 2 for n in range(len(columns))], columns)
    axes.set_yticks([(y + 1) * n + (y - 1) / 2 for n in range(len(rows))], rows)
    axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
