"""The picture of a study: how each variant does on images as they are moved, or how it learns."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from src.analysis.drawing import COLOURS, figure
from src.analysis.moving import move
from src.data.samples import Samples
from src.reports.study import Findings

_AXES = {"angles": "rotation of the test images", "scales": "magnification of the test images"}
_SHOWN = 10
"""Images above a panel, at most."""
_THUMBNAIL = 44
"""Their height, in points."""


def draw_study(found: Findings) -> Figure:
    """A panel for each kind of motion, with a test image as it is moved; one of training losses if nothing is moved.

    Lines are means over seeds, in a band of their deviation.
    """
    moves = found.study.moves()
    drawn = figure(8.0 * max(1, len(moves)), 4.6 + 0.25 * len(found.outcomes))
    drawn.suptitle(fill(found.study.title, 80 * max(1, len(moves))), fontsize=14)
    for axes, kind in zip(drawn.subplots(1, max(1, len(moves)), squeeze=False)[0], moves or ("losses",), strict=True):
        axes.tick_params(labelsize=12)
        axes.grid(alpha=0.3)
        if kind == "losses":
            _draw_curves(axes, found, {name: [own.losses for own in runs] for name, runs in found.outcomes.items()})
            axes.set_xlabel("epoch", fontsize=12)
            axes.set_ylabel("training loss", fontsize=12)
            continue
        values, matrices = moves[kind]
        curves = {name: [own.moved[kind] for own in runs] for name, runs in found.outcomes.items()}
        _draw_curves(axes, found, curves, values)
        axes.set_xlabel(_AXES[kind], fontsize=12)
        axes.set_ylabel(f"test {found.score.title}", fontsize=12)
        if found.score.share:
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        _add_thumbnails(axes, found.samples, values, matrices, "°" if kind == "angles" else "")
    drawn.legend(*drawn.axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=12, frameon=False)
    return drawn


def _draw_curves(
    axes: Axes, found: Findings, curves: dict[str, list[list[float]]], values: Sequence[float] | None = None
) -> None:
    """A line for each variant, from its seeds' curves, over values or epochs from 1."""
    for number, (name, own) in enumerate(curves.items()):
        mean, spread = np.mean(own, axis=0), np.std(own, axis=0)
        at = range(1, len(mean) + 1) if values is None else values
        colour, marker = COLOURS[number % len(COLOURS)], "osv^D"[number // len(COLOURS) % 5]
        label = f"{name}: {found.outcomes[name][0].parameters:,} parameters"
        axes.plot(at, mean, f"{marker}-", color=colour, label=label, linewidth=2, markersize=4)
        axes.fill_between(at, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)


def _add_thumbnails(axes: Axes, found: Samples, values: Sequence[float], matrices: Tensor, unit: str) -> None:
    """Mark some of the values, and put an image above each of them, moved by it."""
    chosen = range(0, len(values), ceil(len(values) / _SHOWN))
    axes.set_xticks([values[n] for n in chosen], [f"{values[n]:g}{unit}" for n in chosen])
    image = found.shown(found.images[_example(found.targets)][None])
    for n in chosen:
        picture = move(image, matrices[n], found.outside)[0].movedim(0, -1).squeeze(-1).numpy()
        thumbnail = OffsetImage(picture, zoom=_THUMBNAIL / len(picture), cmap="gray", norm=Normalize(0, 1))
        above = {"xycoords": axes.get_xaxis_transform(), "box_alignment": (0.5, -0.06)}
        axes.add_artist(AnnotationBbox(thumbnail, (values[n], 1), frameon=False, **above))


def _example(targets: Tensor) -> int:
    """Of labels, the first sample of class 2: a digit 6 would turn into a 9."""
    return int(targets.sub(2).abs().argmin()) if targets.ndim == 1 else 0
