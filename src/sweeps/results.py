"""What a sweep came to: a ranking by validation, every trial as CSV, pictures, and TensorBoard's HPARAMS."""

from __future__ import annotations

import csv
import io
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from rich.console import Console
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from src.analysis.drawing import COLOURS, figure, png
from src.config.instantiate import ConfigError
from src.data.io.files import replacing
from src.runs.checkpoints import write_text
from src.runs.compare import Group, compare
from src.runs.folder import RunFolder, read_json
from src.runs.record import read
from src.runs.status import read_status
from src.sweeps.live_table import STYLES, counted, place
from src.sweeps.store import Entry, Ledger
from src.sweeps.sweep import Sweep

TEST = "test/acc"
UNBROKEN = 160
"""Columns where the output is no terminal, so that every trial is on a line."""
STRETCH = 50
"""Ratio of the largest to the smallest number from which an axis is logarithmic."""


@dataclass(frozen=True)
class Outcome:
    """One trial, with all that its files say."""

    entry: Entry
    metrics: dict[str, float]
    seconds: float | None

    @property
    def values(self) -> dict[str, str]:
        """What was swept, by key, as it is written in an override."""
        return dict(override.partition("=")[::2] for override in self.entry.point)

    @property
    def remedy(self) -> str:
        """Why it is not complete, and what may help."""
        why = self.entry.why
        if self.entry.state == "out of memory":
            return f"{why} (train.accumulate, or a smaller train.batch_size, needs less)"
        return why


def outcomes(ledger: Ledger) -> list[Outcome]:
    """All trials."""
    return [
        Outcome(entry, read_json(RunFolder(Path(entry.folder)).metrics), read_status(Path(entry.folder)).get("seconds"))
        for entry in ledger.entries.values()
    ]


def present(sweep: Sweep, ledger: Ledger) -> None:
    """Print the end of a sweep, and write its files; those that were there are made again."""
    found = outcomes(ledger)
    groups = ranked(sweep, found)
    console = Console(markup=False, highlight=False, emoji=False)
    console = console if console.is_terminal else Console(markup=False, highlight=False, emoji=False, width=UNBROKEN)
    console.print(trial_table(found, sweep))
    if groups:
        console.print(ranking_table(groups, sweep))
    write_text(sweep.folder / "trials.csv", as_csv(found, sweep))
    write_text(sweep.folder / "ranking.csv", ranking_csv(groups, sweep))
    write_text(sweep.folder / "ranking.md", as_markdown(groups, found, sweep))
    pictures = draw_all(found, sweep)
    for name, content in pictures.items():
        with replacing(sweep.folder / name) as file:
            file.write(content)
    write_hparams(found, sweep)
    console.print(f"{counted([each.entry for each in found])}.", soft_wrap=True)
    files = ", ".join(("trials.csv", "ranking.csv", "ranking.md", *pictures, "tensorboard/"))
    console.print(f"written to {sweep.folder}: {files}", soft_wrap=True)


def ranked(sweep: Sweep, found: Sequence[Outcome]) -> list[Group]:
    """Complete runs that differ in the seed alone, the best by validation first."""
    runs = [read(Path(each.entry.folder)) for each in found if each.entry.state == "complete"]
    try:
        groups = compare(runs, sweep.metric)
    except ConfigError:  # there is nothing to compare yet
        return []
    return groups if sweep.mode == "max" else groups[::-1]


def ranking_row(group: Group, metric: str) -> list[str]:
    """Mean and deviation over seeds; nothing of a metric that a run does not have."""
    if not all(metric in run.metrics for run in group.runs):
        return ["", ""]
    own = replace(group, metric=metric)
    return [f"{own.mean:.4f}", "-" if own.std is None else f"{own.std:.4f}"]


def ranking_rows(groups: Sequence[Group], sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of the ranking: chosen by validation, tested once."""
    head = ["rank", "differs in", "n", sweep.metric, "std", TEST, "std", "parameters", "seeds"]
    rows = []
    for rank, group in enumerate(groups, 1):
        size = f"{group.runs[0].metrics['parameters']:,.0f}" if "parameters" in group.runs[0].metrics else ""
        scores = [*ranking_row(group, sweep.metric), *ranking_row(group, TEST)]
        seeds = ", ".join(map(str, group.seeds))
        rows.append([str(rank), group.label or "-", str(len(group.runs)), *scores, size, seeds])
    return head, rows


def ranking_table(groups: Sequence[Group], sweep: Sweep) -> Table:
    """A configuration on each line."""
    head, rows = ranking_rows(groups, sweep)
    result = Table(title=f"Ranking by {sweep.metric}, mean and deviation over seeds")
    for i, name in enumerate(head):
        result.add_column(name, justify="left" if i in (1, len(head) - 1) else "right", overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


def trial_table(found: Sequence[Outcome], sweep: Sweep) -> Table:
    """A trial on each line; why it failed and where its log is, if it did."""
    result = Table(title=f"Trials of {sweep.folder.name}")
    for name in ("trial", "state", "device", "epoch", sweep.metric, TEST, "why, and the log"):
        result.add_column(name, justify="right" if name in ("epoch", sweep.metric, TEST) else "left", overflow="fold")
    for each in found:
        entry, bad = each.entry, each.entry.state not in ("complete", "stopped")
        value = "" if entry.value is None else f"{entry.value:.4f}"
        test = f"{each.metrics[TEST]:.4f}" if TEST in each.metrics else ""
        why = " ".join(filter(None, [each.remedy, entry.log if bad and entry.starts else ""]))
        cells = [entry.label, entry.state, place(entry), f"{entry.epoch}/{entry.epochs}", value, test, why]
        result.add_row(*cells, style=STYLES.get(entry.state) if bad else None)
    return result


def as_csv(found: Sequence[Outcome], sweep: Sweep) -> str:
    """Every trial, with all digits."""
    metrics = sorted({name for each in found for name in each.metrics})
    facts = ("state", "epoch", "epochs", "starts", "device", "host", "why", "folder", "log")
    lines = [["trial", *sweep.keys, *metrics, "seconds", *facts]]
    for each in found:
        swept = [each.values.get(key, "") for key in sweep.keys]
        numbers = [each.metrics.get(name, "") for name in metrics]
        seconds = "" if each.seconds is None else each.seconds
        lines.append([each.entry.name, *swept, *numbers, seconds, *(getattr(each.entry, fact) for fact in facts)])
    return csv_of(lines)


def ranking_csv(groups: Sequence[Group], sweep: Sweep) -> str:
    """The ranking."""
    head, rows = ranking_rows(groups, sweep)
    return csv_of([head, *rows])


def csv_of(lines: Sequence[Sequence[Any]]) -> str:
    """Lines as the content of a CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


def as_markdown(groups: Sequence[Group], found: Sequence[Outcome], sweep: Sweep) -> str:
    """The ranking, to be put into a text, and what is not in it."""
    head, rows = ranking_rows(groups, sweep)
    table = [head, ["---"] * len(head), *rows]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in table]
    rest = [each for each in found if each.entry.state != "complete"]
    notes = [f"- {each.entry.label}: {each.entry.state}, {each.remedy or 'not begun'}" for each in rest]
    text = f"`{' '.join(sweep.fixed)}`, swept over {', '.join(f'`{key}`' for key in sweep.keys)}"
    return "\n".join([text, "", *lines, *(["", "Not in the ranking:", "", *notes] if notes else [])]) + "\n"


# Pictures.


def draw_all(found: Sequence[Outcome], sweep: Sweep) -> dict[str, bytes]:
    """The metric against every axis, and all axes side by side, as PNG."""
    shown = [each for each in found if each.entry.value is not None and each.entry.state in ("complete", "stopped")]
    complete = [each for each in shown if each.entry.state == "complete"]
    result = {f"{key.lstrip('+')}.png": draw_axis(complete, sweep, key) for key in sweep.keys} if complete else {}
    if len(sweep.keys) > 1 and shown:
        result["parallel.png"] = draw_parallel(shown, sweep)
    return result


def draw_axis(found: Sequence[Outcome], sweep: Sweep, key: str) -> bytes:
    """Validation and test of every complete trial against one axis, with the means."""
    drawn = figure(6.4, 4.2)
    axes = drawn.subplots()
    texts = [each.values.get(key, "") for each in found]
    places, labels = positions(texts)
    for colour, name, get in (
        (COLOURS[0], sweep.metric, lambda each: each.entry.value),
        (COLOURS[1], TEST, lambda each: each.metrics.get(TEST)),
    ):
        pairs = [(x, y) for x, each in zip(places, found, strict=True) if (y := get(each)) is not None]
        axes.scatter([x for x, _ in pairs], [y for _, y in pairs], s=18, color=colour, alpha=0.5)
        means = averaged(pairs)
        axes.plot([x for x, _ in means], [y for _, y in means], color=colour, marker="_", markersize=14, label=name)
    ticks(axes, places, labels)
    axes.set(xlabel=key, ylabel="accuracy" if sweep.metric.endswith("acc") else sweep.metric)
    axes.set_title(f"{sweep.base.name}: {len(found)} complete trials; lines are means", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    return png(drawn)


def averaged(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean of the values at each place."""
    groups: dict[float, list[float]] = defaultdict(list)
    for x, y in pairs:
        groups[x].append(y)
    return [(x, sum(values) / len(values)) for x, values in sorted(groups.items())]


def positions(texts: Sequence[str]) -> tuple[list[float], list[str] | None]:
    """Where values are drawn: numbers where they are, words one after the other, with their names."""
    try:
        return [float(text) for text in texts], None
    except ValueError:
        names = list(dict.fromkeys(texts))
        return [float(names.index(text)) for text in texts], names


def ticks(axes: Axes, places: Sequence[float], labels: Sequence[str] | None) -> None:
    """Names of words; a logarithm for numbers that span much; each number where they are few."""
    if labels is not None:
        axes.set_xticks(range(len(labels)), labels, rotation=30 if sum(map(len, labels)) > 50 else 0)
    elif min(places) > 0 and max(places) / min(places) >= STRETCH:
        axes.set_xscale("log")
    elif len(set(places)) <= 12:
        axes.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])


def draw_parallel(found: Sequence[Outcome], sweep: Sweep) -> bytes:
    """A line for each trial through its values on all axes, coloured by the metric; dashed if it was stopped early."""
    names = [*sweep.keys, sweep.metric]
    columns = [positions([each.values.get(key, "") for each in found]) for key in sweep.keys]
    columns.append(([float(each.entry.value or 0) for each in found], None))
    drawn = figure(2.2 + 1.9 * len(names), 4.6)
    axes = drawn.subplots()
    scores = columns[-1][0]
    colours = ScalarMappable(
        Normalize(min(scores), max(scores) if max(scores) > min(scores) else min(scores) + 1), "viridis"
    )
    heights = [rescaled(places) for places, _ in columns]
    for i, each in enumerate(found):
        style = "-" if each.entry.state == "complete" else "--"
        axes.plot(
            range(len(names)), [column[i] for column in heights], style, color=colours.to_rgba(scores[i]), alpha=0.8
        )
    for x, (places, labels) in enumerate(columns):
        axes.axvline(x, color="0.6", linewidth=0.8)
        texts = [labels[int(place)] for place in places] if labels else [f"{place:.4g}" for place in places]
        at = dict(zip(texts, heights[x], strict=True))
        chosen = list(at.items()) if len(at) <= 8 else sorted(at.items(), key=lambda item: item[1])[:: len(at) - 1]
        for text, height in chosen:
            axes.annotate(text, (x, height), xytext=(4, 2), textcoords="offset points", fontsize=7)
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set(yticks=[], xlim=(-0.2, len(names) - 0.5), title=f"{sweep.base.name}: {len(found)} trials")
    drawn.colorbar(colours, ax=axes, label=sweep.metric)
    return png(drawn)


def rescaled(places: Sequence[float]) -> list[float]:
    """From 0 to 1, in the logarithm where numbers span much."""
    if min(places) > 0 and max(places) / min(places) >= STRETCH:
        places = [log(place) for place in places]
    low, high = min(places), max(places)
    return [0.5 if high == low else (place - low) / (high - low) for place in places]


def write_hparams(found: Sequence[Outcome], sweep: Sweep) -> None:
    """TensorBoard's HPARAMS: what was swept and what it came to, a session for each trial."""
    folder = sweep.folder / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)  # made of the other files alone
    for each in found:
        if each.entry.value is None:
            continue
        params = {key: scalar(each.values.get(key, "")) for key in sweep.keys} | {"state": each.entry.state}
        with SummaryWriter(str(folder / each.entry.name)) as writer:
            metrics = {f"best/{sweep.metric}": each.entry.value} | each.metrics
            writer.add_hparams(params, metrics, run_name=".")


def scalar(text: str) -> float | str:
    """A number if it is one."""
    try:
        return float(text)
    except ValueError:
        return text
