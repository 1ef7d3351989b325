"""List all runs: python scripts/runs.py [paths.logs=FOLDER] [--experiment NAME] [--status STATUS]."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from src.config.targets import ConfigError
from src.runs.record import STATUSES, Run, select, timestamp
from src.runs.tables import console, rich_table, state_counts
from src.training.commands import parser, user_errors

_COLUMNS = ("experiment", "id", "status", "epoch", "best validation", "test", "training time", "started")
_STYLES = {"running": "cyan", "interrupted": "yellow", "failed": "red", "damaged": "red"}
_KEYS: dict[str, Callable[[Run], Any]] = {
    "experiment": lambda run: run.experiment,
    "id": lambda run: run.id,
    "status": lambda run: run.status,
    "epoch": lambda run: _falling(run.epoch),
    "best": lambda run: _falling(run.best),
    "test": lambda run: _falling(run.score),
    "time": lambda run: _falling(run.seconds),
    "started": lambda run: -timestamp(run),
}
"""What to sort by: names from a, numbers and times from the highest, and what is not known last."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, a run on each line; user errors print as one line."""
    words = parser(__doc__, "where runs are; logs unless given", "paths.logs=FOLDER")
    words.add_argument("--experiment", nargs="+", default=[], metavar="NAME", help="only runs of these")
    words.add_argument("--status", metavar="STATUS", help=f"only such runs: {', '.join(STATUSES)}")
    words.add_argument("--sort", default="started", metavar="KEY", help=f"started unless given; or {', '.join(_KEYS)}")
    options = words.parse_intermixed_args(arguments)
    with user_errors(OSError):
        for name, value, known in (("status", options.status, STATUSES), ("sort", options.sort, _KEYS)):
            if value is not None and value not in known:
                raise ConfigError(f"`--{name}` must be one of {', '.join(known)}, but got {value!r}.")
        logs, runs = select([*options.overrides, *options.experiment], "runs")
    found = [run for run in runs if options.status in (None, run.status)]
    states = state_counts((run.status for run in found or runs), STATUSES)
    out = console()
    if not runs:
        out.print(f"no runs yet in {logs}; `make train` makes the first.")
    elif not found:
        out.print(f"no run in {logs} is {options.status}; there are {states}.")
    else:
        out.print(_table(sorted(found, key=_KEYS[options.sort])))
        total = sum(run.seconds or 0 for run in found)
        plural = "" if len(found) == 1 else "s"
        out.print(f"{len(found)} run{plural}: {states}; {_duration(total)} of training.")


def _table(found: Sequence[Run]) -> Table:
    """A run on each line."""
    styles = [_STYLES.get(run.status) for run in found]
    return rich_table(_COLUMNS, map(_row, found), right=_COLUMNS[3:7], styles=styles)


def _row(run: Run) -> list[str]:
    """The cells of a run, in the order of `_COLUMNS`."""
    epoch = "-" if run.epoch is None else f"{run.epoch}/{'?' if run.epochs is None else run.epochs}"
    seconds = "-" if run.seconds is None else _duration(run.seconds)
    started = run.started.astimezone().strftime("%Y-%m-%d %H:%M") if run.started else "-"
    return [run.experiment, run.id, run.state, epoch, _score(run.best), _score(run.score), seconds, started]


def _falling(value: float | None) -> tuple[bool, float]:
    """Sorts numbers from the highest, with what is not known, or no number, last."""
    known = value is not None and value == value
    return not known, -value if known else 0.0


def _score(value: float | None) -> str:
    """To four places."""
    return "-" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    """In the units that matter: `41 s`, `12 min 5 s`, `3 h 7 min`, `2 d 4 h`."""
    whole = round(seconds)
    units = {"d": whole // 86_400, "h": whole // 3600 % 24, "min": whole // 60 % 60, "s": whole % 60}
    names = list(units)
    first = next((i for i, name in enumerate(names) if units[name]), len(names) - 1)
    return " ".join(f"{units[name]} {name}" for i, name in enumerate(names[first : first + 2]) if not i or units[name])


if __name__ == "__main__":
    main()
