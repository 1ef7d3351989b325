"""Write a page about a run, or one that compares several: python scripts/report.py DIR [DIR ...] [--images N]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.config.instantiate import ConfigError
from src.reports.report import IMAGES, report
from src.runs.process import keep_freed_memory, quiet
from src.training.commands import fail


def main(arguments: Sequence[str] | None = None) -> None:
    """Print where the page is. User errors print as one line."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="the folder of a run")
    parser.add_argument(
        "--images", type=int, default=IMAGES, metavar="N", help=f"of the test set; {IMAGES} unless given"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="of the page; beside the runs unless given")
    options = parser.parse_args(arguments)
    quiet()
    keep_freed_memory()
    try:
        page = report(options.runs, options.images, options.output)
    except (ConfigError, OSError) as error:
        fail(error)
    print(page)


if __name__ == "__main__":
    main()
