"""What a run has come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from src.runs.status import read_status


@dataclass(frozen=True)
class Result:
    """A run that is complete."""

    folder: Path
    """Of the run; removed already, if it was a debugging run."""
    metrics: Mapping[str, float]
    """What metrics.json holds."""


def table(result: Result) -> Table:
    """What is printed at the end of a run, as long as its folder is there."""
    scores = _scores(result.metrics)
    rows = scores | {
        "parameters": f"{int(result.metrics['parameters']):,}",
        "training time": f"{read_status(result.folder).get('seconds', 0):.0f} s",
        "folder": str(result.folder),
    }
    lines = Table(show_header=False, title="Result")
    lines.add_column()
    lines.add_column(overflow="fold")
    for name, value in rows.items():
        lines.add_row(name, value, style="bold" if name == next(iter(scores)) else None)
    return lines


def _scores(metrics: Mapping[str, float]) -> dict[str, str]:
    """What the net is judged by, in words: on the test set, and by validation."""
    names = {"test accuracy": "test/acc", "validation accuracy (best epoch)": "val/acc"}
    return {name: f"{100 * metrics[key]:.2f} %" if key in metrics else "-" for name, key in names.items()}
