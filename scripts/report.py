"""Write a page about a run, or one that compares several: python scripts/report.py DIR [DIR ...] [--images N]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.reports.report import IMAGES, report
from src.runs.process import keep_freed_memory, quiet
from src.training.commands import parser, user_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Print where the page is. User errors print as one line."""
    words = parser(__doc__)
    words.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="the folder of a run")
    words.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"{IMAGES} of the test set unless given")
    words.add_argument("--output", type=Path, metavar="DIR", help="of the page; beside the runs unless given")
    options = words.parse_args(arguments)
    quiet()
    keep_freed_memory()
    with user_errors(OSError):
        page = report(options.runs, options.images, options.output)
    print(page)


if __name__ == "__main__":
    main()
