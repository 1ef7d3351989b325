"""What a sweep came to against one axis, as a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from src.analysis.drawing import COLOURS, figure, png

_LOGARITHMIC = 50
"""Ratio of the largest to the smallest number from which an axis is logarithmic."""
_MOST_TICKS = 12
"""Numbers that are written at an axis each."""


def axis_figure(
    values: Sequence[str], scores: Mapping[str, Sequence[float | None]], labels: Mapping[str, str]
) -> bytes:
    """A PNG of trials' metrics, None left out, against what one axis was in each, as overrides have it, with means."""
    drawn = figure(6.4, 4.2)
    axes = drawn.subplots()
    positions, names = _positions(values)
    for colour, (metric, own) in zip(COLOURS, scores.items(), strict=False):
        pairs = [(x, y) for x, y in zip(positions, own, strict=True) if y is not None]
        axes.scatter([x for x, _ in pairs], [y for _, y in pairs], s=18, color=colour, alpha=0.5)
        means = _averaged(pairs)
        axes.plot([x for x, _ in means], [y for _, y in means], color=colour, marker="_", markersize=14, label=metric)
    _set_ticks(axes, positions, names)
    axes.set(**labels)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    axes.legend()
    return png(drawn)


def _averaged(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean of the values at each position."""
    groups: dict[float, list[float]] = defaultdict(list)
    for x, y in pairs:
        groups[x].append(y)
    return [(x, sum(values) / len(values)) for x, values in sorted(groups.items())]


def _positions(texts: Sequence[str]) -> tuple[list[float], list[str] | None]:
    """Where values are drawn: numbers where they are, words one after the other, with their names."""
    try:
        return [float(text) for text in texts], None
    except ValueError:
        names = list(dict.fromkeys(texts))
        return [float(names.index(text)) for text in texts], names


def _set_ticks(axes: Axes, positions: Sequence[float], names: Sequence[str] | None) -> None:
    """Names of words; a logarithm for numbers that span much; each number where they are few."""
    single = sorted(set(positions))
    if names is not None:
        axes.set_xticks(range(len(names)), names, rotation=30 if sum(map(len, names)) > 50 else 0)
    elif single[0] > 0 and single[-1] / single[0] >= _LOGARITHMIC:
        axes.set_xscale("log")
    elif len(single) <= _MOST_TICKS:
        axes.set_xticks(single, [f"{position:g}" for position in single])
