"""Compare runs over seeds: python scripts/compare.py [--metric NAME] [--experiment NAME ...] [--output FOLDER]."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.runs.checkpoints import write_text
from src.runs.compare import Group, compare, excluded, primary_metric
from src.runs.record import Run, select
from src.runs.tables import console, csv_text, markdown_table, rich_table
from src.training.commands import parser, user_errors

_COLUMNS = ("experiment", "differs in", "n", "mean", "std", "min", "max", "seeds")
_NUMBERS = _COLUMNS[2:7]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, a group of runs on each line, and write it to two files; user errors print as one line."""
    words = parser(__doc__, "where runs are; logs unless given", "paths.logs=FOLDER")
    words.add_argument("--metric", metavar="NAME", help="of metrics.json; on the test set, what runs are judged by")
    words.add_argument("--experiment", nargs="+", default=[], metavar="NAME", help="only runs of these")
    words.add_argument("--output", type=Path, metavar="FOLDER", help="of the two files; paths.logs unless given")
    options = words.parse_intermixed_args(arguments)
    with user_errors(OSError):
        logs, runs = select([*options.overrides, *options.experiment], "compare")
        output, metric = options.output or logs, options.metric or primary_metric(runs)
        groups = compare(runs, metric)
        rows, remarks = list(map(_row, groups)), list(_notes(groups, excluded(runs, metric)))
        files = {output / "compare.csv": _as_csv(groups), output / "compare.md": _as_markdown(rows, metric, remarks)}
        for path, text in files.items():
            write_text(path, text)
    out = console()
    out.print(rich_table(_COLUMNS, rows, _NUMBERS, metric))
    for line in (*remarks, f"written to {' and '.join(map(str, files))}"):
        out.print(line, soft_wrap=True)


def _row(group: Group) -> list[str]:
    """The cells of a group, in the order of `_COLUMNS`."""
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
        if len(splits := sorted({run.data for run in group.runs if run.data})) > 1:
            name = f"{group.experiment} {group.label}".strip()
            yield f"not the same data: runs of {name} have the splits {', '.join(splits)}"
    if left_out:
        yield f"not counted, {len(left_out)} of the runs:"
        yield from (f"  {run.folder}: {why}" for run, why in left_out)


def _as_csv(groups: Iterable[Group]) -> str:
    """With all digits; the deviation of one seed is left empty."""
    rows = [["experiment", "differs", "metric", "n", "mean", "std", "min", "max", "seeds", "values", "runs"]]
    for group in groups:
        statistics = [group.mean, group.std, min(group.values), max(group.values)]
        columns = (group.seeds, group.values, (run.folder for run in group.runs))
        lists = [" ".join(map(str, column)) for column in columns]
        rows.append([group.experiment, group.label, group.metric, len(group.runs), *statistics, *lists])
    return csv_text(rows)


def _as_markdown(rows: Iterable[Sequence[str]], metric: str, remarks: Iterable[str]) -> str:
    """A table to be put into a text."""
    lines = markdown_table(_COLUMNS, rows, _NUMBERS)
    return "\n".join([f"`{metric}`", "", lines, *(f"- {remark.strip()}" for remark in remarks)]).rstrip() + "\n"


if __name__ == "__main__":
    main()
