"""Contact sheets: a row of samples for each class, side by side as several columns show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill, shorten

import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.analysis.drawing import figure
from src.analysis.pictures import label_cells, mosaic, projected

ROWS = 20
"""At most so many classes are shown."""
_CELL = 0.8
"""Inches of a sample, unless it has more than 96 pixels."""
_PAPER = 225
"""Neither black nor white, so that the rim of an image is seen."""
_LETTER = 0.1
"""Inches of a wide letter."""


def contact_sheet(
    columns: Mapping[str, Tensor], labels: Tensor, names: Sequence[str], caption: Sequence[str] = ()
) -> Figure:
    """Draw samples, class by class, pixels as squares.

    Args:
        columns: by heading, the same samples (n, c, *space) with one or three channels, uint8 or floating point in
            [0, 1]; what is outside is clipped.
        labels: (n,), in which row each of them is, from 0.
        names: of the rows; of more than 20 the first are shown, and the caption says so.
        caption: paragraphs below.

    Raises:
        ValueError: if shapes do not fit to each other.
    """
    columns = {heading: projected(images) for heading, images in columns.items()}
    _check(columns, labels)
    if len(names) > ROWS:
        caption = [*caption, f"These are the first {ROWS} of {len(names)} classes."]
    rows = [shorten(name, 36, placeholder="...") for name in names[:ROWS]]
    cells = {heading: _cells(images, labels, len(rows)) for heading, images in columns.items()}
    samples, _, y, x = next(iter(cells.values())).shape[1:]
    scale, margin = max(_CELL / max(y, x), 1 / 120), 0.2 + _LETTER * max(map(len, rows))
    width = max(5.0, margin + len(cells) * max(0.3 + samples * (x + 1) * scale, _LETTER * max(map(len, cells))))
    lines = [fill(text, int(width / _LETTER) - 3) for text in caption]
    sheet = figure(width, 0.8 + len(rows) * (y + 1) * scale + 0.17 * "\n".join(lines).count("\n"))
    sheet.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    sheet.set_facecolor([_PAPER / 255] * 3)
    for n, (heading, own) in enumerate(cells.items()):
        axes = sheet.add_subplot(1, len(cells), n + 1, frame_on=False)
        axes.imshow(mosaic(own, _PAPER), interpolation="nearest")
        axes.set_title(heading, fontsize=9)
        label_cells(axes, [] if n else rows, [], (y, x))
        axes.tick_params(length=0, labelsize=9)
        for row in [] if n else set(range(len(rows))) - set(labels.tolist()):
            axes.text(0, (y + 1) * row + y / 2, "no sample in this split", fontsize=9, va="center")
    sheet.supxlabel("\n".join(lines), x=0.02, ha="left", fontsize=9)
    return sheet


def _cells(images: Tensor, labels: Tensor, rows: int) -> Tensor:
    """(n, c, y, x) in rows of classes: (rows, samples of the largest class, 3, y, x), uint8."""
    if images.is_floating_point():
        images = images.clamp(0, 1).mul(255).round().to(torch.uint8)
    chosen = [images[labels == row] for row in range(rows)]
    result = images.new_full((rows, max(1, *map(len, chosen)), 3, *images.shape[2:]), _PAPER)
    for row, own in zip(result, chosen, strict=True):
        row[: len(own)] = own
    return result


def _check(columns: Mapping[str, Tensor], labels: Tensor) -> None:
    shapes = {tuple(images.shape) for images in columns.values()}
    shape = next(iter(shapes), ())
    if len(shapes) != 1 or len(shape) != 4 or shape[1] not in (1, 3) or shape[0] != len(labels):
        raise ValueError(
            f"`columns` must all have the shape (n, c, y, x), with n = {len(labels)} labels and c = 1 or 3, but have "
            f"{sorted(shapes)}."
        )
