"""Equivariance errors by layer and accuracy by angle and scale, drawn and in words."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from math import pi

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from src.analysis.drawing import COLOURS, figure
from src.analysis.equivariance import Flaw
from src.models.tasks import ACCURACY, Score


def explain(flaw: Flaw) -> str:
    """What is wrong, and what to look at."""
    layer, action, error = flaw
    element = [round(coordinate, 4) for coordinate in action.element[0].tolist()]
    return (
        f"`{layer}` must commute with the {action.kind} {element} to rounding, as it moves pixels onto pixels, but its "
        f"relative error is {error:.1e}. Look for `a` in implementation.formula, which breaks equivariance on purpose; "
        "for a stride or pool that is not exact at this image size (docs/exactness.md, net.exact=require); and for "
        "layers of your own that depend on pixels' or elements' places, or do not keep their field's elements."
    )


def draw_layers(errors: Mapping[str, Mapping[str, float]]) -> Figure:
    """Relative error by layer, a line for each kind of element.

    Args:
        errors: `Measured.errors`.
    """
    drawn = draw_errors(errors, "elements", "-")
    drawn.axes[0].set_title("Equivariance error by layer, in order of execution")
    return drawn


def draw_errors(errors: Mapping[str, Mapping[str, float]], legend: str = "", line: str = "") -> Figure:
    """Relative errors on a logarithmic axis, a marker and colour for each series.

    Args:
        errors: by series, then by place on the horizontal axis; a series may lack some places.
        legend: title of the legend.
        line: style in which the markers of a series are joined.
    """
    places = list(dict.fromkeys(place for own in errors.values() for place in own))
    drawn = figure(max(5.0, 2.5 + 0.5 * len(places)), 4.2)
    axes = drawn.subplots()
    for (name, own), colour, marker in zip(errors.items(), cycle(COLOURS), cycle("osD^v")):
        at = [n for n, place in enumerate(places) if place in own]
        heights = [max(own[places[n]], 1e-17) for n in at]  # zero has no place on a logarithmic axis
        axes.semilogy(at, heights, f"{marker}{line}", fillstyle="none", color=colour, label=name)
    axes.set_xticks(range(len(places)), places, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_ylabel("relative error")
    axes.grid(alpha=0.3)
    axes.legend(title=legend, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return drawn


def draw_curves(
    rotations: Mapping[str, tuple[Tensor, Tensor]],
    scales: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    score: Score = ACCURACY,
) -> Figure:
    """A metric by angle, all the way round, and by scale; several nets in one picture.

    Args:
        rotations: by net, angles in degrees and values of the metric.
        scales: by net, scales and values; none to leave this out.
        score: what the metric is.
    """
    drawn = figure(9.0 if scales else 5.0, 4.4)
    polar = drawn.add_subplot(1, 2 if scales else 1, 1, projection="polar")
    for (name, (angles, values)), colour in zip(rotations.items(), cycle(COLOURS)):
        around = torch.cat([angles, angles[:1]]) * pi / 180
        polar.plot(around, torch.cat([values, values[:1]]), ".-", color=colour, label=name)
    polar.set_title(f"{capital(score.title)} by angle of rotation")
    _scale_axis(polar, score)
    polar.tick_params(axis="y", labelsize="small")
    for label in polar.get_yticklabels():
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5})
    if scales:
        _draw_scales(drawn.add_subplot(1, 2, 2), scales, score)
    if any(rotations):
        drawn.legend(*polar.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return drawn


def _draw_scales(axes: Axes, scales: Mapping[str, tuple[Tensor, Tensor]], score: Score) -> None:
    """A metric by scale."""
    for (name, (factors, values)), colour in zip(scales.items(), cycle(COLOURS)):
        axes.plot(factors, values, ".-", color=colour, label=name)
    axes.set_title(f"{capital(score.title)} by scale")
    axes.set_xlabel("scale (1 is as in the data)")
    _scale_axis(axes, score)
    axes.grid(alpha=0.3)


def _scale_axis(axes: Axes, score: Score) -> None:
    """From 0 to 100 % for shares, from 0 for others."""
    if score.share:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    else:
        axes.set_ylim(min(0.0, axes.get_ylim()[0]))


def capital(text: str) -> str:
    """With a capital at the beginning."""
    return text[:1].upper() + text[1:]
