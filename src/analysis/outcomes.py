"""Pictures of what a net gets right and wrong, for every kind of target."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional

from src.analysis.drawing import COLOURS, figure
from src.analysis.pictures import colours, mosaic
from src.data.samples import Samples
from src.models.tasks import Task, shortened

_COLUMNS, _ROWS = 8, 4
"""Samples in a picture of them."""
_RIGHT, _WRONG = COLOURS[6], COLOURS[1]
"""Colours of the text of samples."""
_PANELS = 12
"""Values or labels that are drawn at most."""


def draw_predictions(task: Task, samples: Samples, outputs: Tensor) -> dict[str, Figure]:
    """What a net predicts: of all samples, which depends on the kind of targets; of the worst, and of the first.

    Args:
        task: what is learned.
        samples: n of them.
        outputs: (n, k), or (n, k, *space).

    Returns:
        By name: "confusion", "labels" or "values" of all; "worst", those of the largest loss; and "samples".
    """
    targets, names = samples.targets, samples.names
    if task.targets in ("class", "pixels"):  # counted are images, or pixels
        drawn = {"confusion": _draw_confusion(targets.flatten(), outputs.argmax(1).flatten(), names)}
    elif task.targets == "labels":
        drawn = {"labels": _draw_found(targets.bool(), outputs > 0, names)}
    else:
        drawn = {"values": _draw_values(targets, outputs, names)}
    worst = task.losses(outputs, targets).argsort(descending=True, stable=True)
    for name, order in {"worst": worst, "samples": torch.arange(len(worst), device=worst.device)}.items():
        rows = order[: _COLUMNS * _ROWS]
        drawn[name] = _draw_samples(task, samples.shown(samples.images[rows]), targets[rows], outputs[rows], names)
    return drawn


def _draw_samples(task: Task, images: Tensor, targets: Tensor, outputs: Tensor, names: Sequence[str]) -> Figure:
    """Images with what the task says of them; what is wrong is framed.

    Args:
        task: what is learned.
        images: (n, c, *space) in [0, 1].
        targets: as the task has them.
        outputs: (n, k).
        names: of the classes, labels or values.
    """
    images = colours(images)
    y, x = images.shape[-2:]
    below = ceil(0.36 * x)  # for two lines of text
    rows = ceil(len(images) / _COLUMNS)
    cells = functional.pad(images, (0, 0, 0, below), value=1.0)
    blank = torch.ones(rows * _COLUMNS - len(cells), *cells.shape[1:])
    drawn = figure(1.2 * _COLUMNS, 1.25 * rows * (y + below) / x)
    axes = drawn.subplots()
    axes.imshow(mosaic(torch.cat([cells, blank]).unflatten(0, (rows, _COLUMNS)), 1.0), interpolation="nearest")
    axes.set_axis_off()
    for n, (text, right) in enumerate(task.captions(outputs, targets, names)):
        row, column = divmod(n, _COLUMNS)
        corner = (column * (x + 1) - 0.5, row * (y + below + 1) - 0.5)
        wrong = right is False
        style = {"fontsize": 8, "color": _WRONG if wrong else _RIGHT, "linespacing": 1.05, "ha": "center", "va": "top"}
        axes.text(corner[0] + x / 2, corner[1] + y + below / 12, text, **style)
        if wrong:
            axes.add_patch(Rectangle(corner, x, y, fill=False, color=_WRONG, linewidth=2))
    return drawn


def _draw_confusion(labels: Tensor, predictions: Tensor, names: Sequence[str]) -> Figure:
    """How often each class is taken for each: labels in rows, predictions in columns, colours as shares of a row.

    Counts are written for up to 25 classes; of more than 120, every few are named.

    Args:
        labels: (n,).
        predictions: (n,).
        names: of the classes.
    """
    classes = len(names)
    counts = _confusion(labels, predictions, classes)
    few, every = classes <= 25, ceil(classes / 120)
    side = 0.42 * classes + 1.6 if few else 12.0
    drawn = figure(max(4.0, side), max(3.6, side))
    axes = drawn.subplots()
    axes.imshow((counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy(), cmap="Blues", vmin=0, vmax=1)
    ticks, texts = range(0, classes, every), [shortened(name, 18) for name in names[::every]]
    axes.set_xticks(ticks, texts, rotation="vertical" if max(map(len, texts)) > 2 else "horizontal")
    axes.set_yticks(ticks, texts)
    axes.tick_params(labelsize=9 if few else 5.5, length=2)
    axes.set(xlabel="prediction", ylabel="label")
    right = float(counts.diagonal().sum() / counts.sum())
    axes.set_title(f"{len(labels)} samples, {100 * right:.1f} % right", fontsize=10)
    for row, column in counts.nonzero().tolist() if few else ():
        n = int(counts[row, column])
        dark = n > counts[row].sum() / 2
        axes.text(column, row, n, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    return drawn


def _confusion(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """(label, prediction): how many samples of a label got a prediction, (classes, classes)."""
    return torch.bincount(labels * classes + predictions, minlength=classes**2).unflatten(0, (classes, classes)).cpu()


def _draw_found(targets: Tensor, predictions: Tensor, names: Sequence[str]) -> Figure:
    """Of every label, the share of those that are there that is found, and the share of those found that is there.

    Args:
        targets: (n, k) of bool.
        predictions: (n, k) of bool.
        names: of the labels; the first are drawn.
    """
    both, there, found = (x.float().sum(0).cpu() for x in (targets & predictions, targets, predictions))
    names = [shortened(name, 18) for name in names[:_PANELS]]
    drawn = figure(6.0, 1.2 + 0.45 * len(names))
    axes = drawn.subplots()
    rows = torch.arange(len(names), dtype=torch.float32).numpy()
    for n, (title, total) in enumerate({"recall": there, "precision": found}.items()):
        shares = (both / total.clamp(min=1))[: len(names)].numpy()  # matplotlib takes tensors only with a warning
        axes.barh(rows + 0.2 - 0.4 * n, shares, height=0.38, color=COLOURS[n], label=title)
    axes.set_yticks(rows, [f"{name} ({int(count)})" for name, count in zip(names, there, strict=False)])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share", title=f"{len(targets)} samples; in brackets, how often a label is there")
    axes.title.set_fontsize(10)
    axes.legend(fontsize=8)
    return drawn


def _draw_values(targets: Tensor, outputs: Tensor, names: Sequence[str], columns: int = 4) -> Figure:
    """Predictions against what is right, a panel for each value.

    Args:
        targets: (n, k).
        outputs: (n, k).
        names: of the values; the first are drawn.
        columns: panels in a row.
    """
    count = min(len(names), _PANELS)
    columns = min(columns, count)
    rows = ceil(count / columns)
    drawn = figure(3.0 * columns, 3.0 * rows)
    panels = drawn.subplots(rows, columns, squeeze=False).flatten()
    for panel, name, right, given in zip(panels, names, targets.T.cpu(), outputs.T.float().cpu(), strict=False):
        ends = [float(right.min()), float(right.max())]
        panel.plot(ends, ends, color="0.6", linewidth=1)
        panel.scatter(right, given, s=6, alpha=0.5, color=COLOURS[0])
        panel.set_title(shortened(name, 18), fontsize=9)
        panel.set(xlabel="right", ylabel="predicted")
    for panel in panels[count:]:
        panel.remove()
    return drawn
