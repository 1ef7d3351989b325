"""The curves of runs, from their TensorBoard files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import ceil
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.analysis.drawing import COLOURS, figure
from src.runs.record import Run

SPEED, MEMORY = "time/epoch/samples_per_second", "time/memory_gib"


class Line(NamedTuple):
    """What is drawn."""

    epochs: Sequence[float]
    values: Sequence[float]


def scalars(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Everything that was logged, (step, value) by tag; nothing where there are no files."""
    if not (folder := run.files.tensorboard).is_dir():
        return {}
    events = EventAccumulator(str(folder), {"scalars": 0}, purge_orphaned_data=False).Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def lines(logged: Mapping[str, Sequence[tuple[int, float]]]) -> dict[str, Line]:
    """By epochs that were done; nothing before the end of the first."""
    if not logged.get("train/loss"):
        return {}
    steps = logged["train/loss"][0][0] + 1
    return {
        tag: Line([(step + 1) / steps for step, _ in points], [value for _, value in points])
        for tag, points in logged.items()
    }


def rates(there: Mapping[str, Line]) -> dict[str, Line]:
    """Learning rates, once where groups of parameters have the same, by the names of these groups."""
    alike: dict[str, list[str]] = {}
    for tag in (tag for tag in there if tag.startswith("lr-")):
        first = next((other for other in alike if there[other] == there[tag]), tag)
        alike.setdefault(first, []).append(tag.removeprefix("lr-"))
    return {"\n".join(names): there[tag] for tag, names in alike.items()}


def draw_lines(panels: Mapping[tuple[str, str], Mapping[str, Line]]) -> Figure:
    """Panels over epochs, up to three beside each other, and two rows of more.

    Args:
        panels: lines by what the legend calls them, by the title of the panel and what its vertical axis shows.
    """
    rows = 1 if len(panels) <= 3 else 2
    columns = ceil(len(panels) / rows)
    drawn = figure(4.0 * columns, 3.6 * rows)
    axes = drawn.subplots(rows, columns, squeeze=False).flatten()
    for ax, ((title, unit), own) in zip(axes, panels.items(), strict=False):
        for (name, line), colour in zip(own.items(), cycle(COLOURS)):
            ax.plot(*line, ".-", color=colour, label=name, markersize=4, linewidth=1.2)
        ax.set(title=title, xlabel="epoch", ylabel=unit)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    return drawn
