"""Test a run again: python scripts/evaluate.py DIR [key=value ...]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from src.config.instantiate import ConfigError
from src.runs.process import quiet
from src.training.commands import fail
from src.training.evaluate import evaluate


def main() -> None:
    """Print the metrics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="DIR", help="the folder of a run")
    parser.add_argument("overrides", nargs="*", help="what to change, such as group.elements=[16] dataset.rotate=true")
    arguments = parser.parse_args()
    quiet()
    try:
        record = evaluate(arguments.run, arguments.overrides)
    except ConfigError as error:
        fail(error)
    table = Table(show_header=False, title="Evaluation")
    for name, value in record["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
