"""Compare runs over seeds: python scripts/compare.py [--metric NAME] [--experiment NAME ...] [--output FOLDER]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from src.config.instantiate import ConfigError
from src.data.io.files import replacing
from src.runs.compare import Group, compare, excluded, primary_metric
from src.runs.record import Run, select
from src.runs.tables import csv_text, markdown_table
from src.training.commands import fail

_UNBROKEN = 160
"""Columns where the output is no terminal, so that every group is on a line."""
COLUMNS = ("experiment", "differs in", "n", "mean", "std", "min", "max", "seeds")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, a group of runs on each line, and write it to two files; user errors print as one line."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("overrides", nargs="*", metavar="paths.logs=FOLDER", help="where runs are; logs unless given")
    parser.add_argument("--metric", metavar="NAME", help="of metrics.json; on the test set, what runs are judged by")
    parser.add_argument("--experiment", nargs="+", default=[], metavar="NAME", help="only runs of these")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="of the two files; paths.logs unless given")
    options = parser.parse_intermixed_args(arguments)
    try:
        selection = select([*options.overrides, *options.experiment], "compare")
        output, metric = options.output or selection.logs, options.metric or primary_metric(selection.runs)
        groups = compare(selection.runs, metric)
        remarks = list(_notes(groups, excluded(selection.runs, metric)))
        files = {"compare.csv": as_csv(groups), "compare.md": as_markdown(groups, metric, remarks)}
        for name, content in files.items():
            with replacing(output / name) as file:
                file.write(content.encode())
    except (ConfigError, OSError) as error:
        fail(error)
    console = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _UNBROKEN)
    console.print(_table(groups, metric))
    for line in (*remarks, f"written to {' and '.join(str(output / name) for name in files)}"):
        console.print(line, soft_wrap=True)


def _table(groups: Sequence[Group], metric: str) -> Table:
    """A group on each line."""
    result = Table(title=metric)
    for name in COLUMNS:
        result.add_column(name, justify="right" if name in COLUMNS[2:7] else "left", overflow="fold")
    for group in groups:
        result.add_row(*row(group))
    return result


def row(group: Group) -> list[str]:
    """The cells of a group, in the order of `COLUMNS`."""
    std = "-" if group.std is None else _number(group.std)
    numbers = [_number(group.mean), std, _number(min(group.values)), _number(max(group.values))]
    seeds = ", ".join(map(str, group.seeds))
    return [group.experiment, group.label or "-", str(len(group.runs)), *numbers, seeds]


def _number(value: float) -> str:
    """To four places, or whole where it is."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"


def _notes(groups: Iterable[Group], left_out: Sequence[tuple[Run, str]]) -> Iterable[str]:
    """Remarks on the numbers: runs that were not counted, and data that differ."""
    for group in groups:
        for run in group.repeated:
            yield f"counted once: {run.folder} has seed {run.seed} as a newer run of the same configuration"
        if len(group.data) > 1:
            name = f"{group.experiment} {group.label}".strip()
            yield f"not the same data: runs of {name} have the splits {', '.join(group.data)}"
    if left_out:
        yield f"not counted, {len(left_out)} of the runs:"
        yield from (f"  {run.folder}: {why}" for run, why in left_out)


def as_csv(groups: Iterable[Group]) -> str:
    """With all digits; the deviation of one seed is left empty."""
    rows = [["experiment", "differs", "metric", "n", "mean", "std", "min", "max", "seeds", "values", "runs"]]
    for group in groups:
        statistics = [group.mean, "" if group.std is None else group.std, min(group.values), max(group.values)]
        columns = (group.seeds, group.values, (run.folder for run in group.runs))
        lists = [" ".join(map(str, column)) for column in columns]
        rows.append([group.experiment, group.label, group.metric, len(group.runs), *statistics, *lists])
    return csv_text(rows)


def as_markdown(groups: Iterable[Group], metric: str, remarks: Iterable[str]) -> str:
    """A table to be put into a text."""
    lines = markdown_table(COLUMNS, map(row, groups), right=COLUMNS[2:7])
    return "\n".join([f"`{metric}`", "", lines, *(f"- {remark.strip()}" for remark in remarks)]).rstrip() + "\n"


if __name__ == "__main__":
    main()
