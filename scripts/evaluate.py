"""Test a run again: python scripts/evaluate.py DIR [key=value ...]."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.runs.process import quiet
from src.runs.tables import console, fact_table
from src.training.commands import parser, user_errors
from src.training.evaluate import evaluate


def main() -> None:
    """Print the metrics."""
    words = parser(__doc__)
    words.add_argument("run", type=Path, metavar="DIR", help="the folder of a run")
    words.add_argument("overrides", nargs="*", help="what to change, such as group.elements=[16] dataset.rotate=true")
    options = words.parse_args()
    quiet()
    with user_errors():
        metrics = evaluate(options.run, options.overrides)["metrics"]
    console().print(fact_table("Evaluation", {name: f"{value:.4f}" for name, value in metrics.items()}))


if __name__ == "__main__":
    main()
