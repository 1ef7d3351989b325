"""The curves of runs, from their TensorBoard files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
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


def draw_lines(panels: Mapping[str, Mapping[str, Line]], labels: Mapping[str, str]) -> Figure:
    """Panels beside each other, over epochs.

    Args:
        panels: lines by what the legend calls them, by the title of the panel.
        labels: what the vertical axis of a panel shows, with its unit.
    """
    drawn = figure(4.0 * len(panels), 3.6)
    for ax, (title, own) in zip(drawn.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for (name, line), colour in zip(own.items(), cycle(COLOURS)):
            ax.plot(*line, ".-", color=colour, label=name, markersize=4, linewidth=1.2)
        ax.set(title=title, xlabel="epoch", ylabel=labels[title])
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    return drawn
