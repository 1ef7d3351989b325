"""List all runs: python scripts/runs.py [paths.logs=FOLDER] [--experiment NAME] [--status STATUS]."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from src.config.instantiate import ConfigError
from src.runs.record import STATUSES, Run, select, timestamp
from src.training.commands import fail

_UNBROKEN = 160
"""Columns where the output is no terminal, so that every run is on a line."""
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
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("overrides", nargs="*", metavar="paths.logs=FOLDER", help="where runs are; logs unless given")
    parser.add_argument("--experiment", nargs="+", default=[], metavar="NAME", help="only runs of these")
    parser.add_argument("--status", metavar="STATUS", help=f"only such runs: {', '.join(STATUSES)}")
    parser.add_argument("--sort", default="started", metavar="KEY", help=f"started unless given; or {', '.join(_KEYS)}")
    options = parser.parse_intermixed_args(arguments)
    try:
        for name, value, known in (("status", options.status, STATUSES), ("sort", options.sort, _KEYS)):
            if value is not None and value not in known:
                raise ConfigError(f"`--{name}` must be one of {', '.join(known)}, but got {value!r}.")
        selection = select([*options.overrides, *options.experiment], "runs")
    except (ConfigError, OSError) as error:
        fail(error)
    found = [run for run in selection.runs if options.status in (None, run.status)]
    console = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _UNBROKEN)
    if not selection.runs:
        console.print(f"no runs yet in {selection.logs}; `make train` makes the first.")
    elif not found:
        console.print(f"no run in {selection.logs} is {options.status}; there are {_counted(selection.runs)}.")
    else:
        console.print(_table(sorted(found, key=_KEYS[options.sort])))
        total = sum(run.seconds or 0 for run in found)
        console.print(f"{_plural(len(found), 'run')}: {_counted(found)}; {_duration(total)} of training.")


def _table(found: Sequence[Run]) -> Table:
    """A run on each line."""
    result = Table()
    for name, justify in {
        "experiment": "left",
        "id": "left",
        "status": "left",
        "epoch": "right",
        "best validation": "right",
        "test": "right",
        "training time": "right",
        "started": "left",
    }.items():
        result.add_column(name, justify=justify, overflow="fold")
    for run in found:
        result.add_row(
            run.experiment,
            run.id,
            run.state,
            "-" if run.epoch is None else f"{run.epoch}/{'?' if run.epochs is None else run.epochs}",
            _score(run.best),
            _score(run.score),
            "-" if run.seconds is None else _duration(run.seconds),
            run.started.astimezone().strftime("%Y-%m-%d %H:%M") if run.started else "-",
            style=_STYLES.get(run.status),
        )
    return result


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


def _counted(found: Sequence[Run]) -> str:
    """How many runs have which status."""
    counts = Counter(run.status for run in found)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])


def _plural(n: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


if __name__ == "__main__":
    main()
