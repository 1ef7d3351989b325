"""Train the variants of a study, each with several seeds, and test them: python scripts/study.py --study NAME."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.reports.study import Outcome, Study, load_study, run_study
from src.runs.checkpoints import write_text
from src.runs.process import keep_freed_memory, quiet
from src.runs.tables import console, markdown_table, rich_table
from src.training.commands import parser, user_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table with a line for each variant; user errors print as one line."""
    words = parser(__doc__, "of all runs, such as train.epochs=2")
    words.add_argument("--study", default="alias", metavar="NAME", help="a file of configs/study")
    words.add_argument("--seeds", type=int, nargs="+", help="instead of the study's")
    words.add_argument("--variants", nargs="+", help="only these")
    words.add_argument("--output", type=Path, metavar="FOLDER", help="write study.md and study.json there")
    options = words.parse_intermixed_args(arguments)
    quiet()
    keep_freed_memory()
    with user_errors(OSError):
        study = load_study(options.study).restricted(options.seeds, options.variants)
        found = run_study(study, options.overrides)
        head, rows = _head(study), [[name, *_cells(study, own)] for name, own in found.items()]
        if options.output:
            about = {"study": asdict(study), "overrides": options.overrides}
            numbers = about | {"outcomes": {name: [asdict(each) for each in own] for name, own in found.items()}}
            write_text(options.output / "study.json", json.dumps(numbers, indent=1) + "\n")
            write_text(options.output / "study.md", markdown_table(head, rows, head[1:]))
    console().print(rich_table(head, rows, head[1:], study.title))


def _head(study: Study) -> list[str]:
    """The columns of the table."""
    turned = ["best", "worst", "best - worst", "change at 45°"] if study.angles else []
    return ["", "unmoved", *turned, *(f"x {scale:g}" for scale in study.scales), "loss", "parameters", "seconds"]


def _cells(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    """Means over seeds, with their deviations."""
    columns = [[100 * own.unmoved for own in outcomes]]
    if study.angles:
        curves = [own.angles for own in outcomes]
        columns += [
            [100 * pick(curve) for curve in curves] for pick in (max, min, lambda curve: max(curve) - min(curve))
        ]
        columns += [[own.change for own in outcomes]]
    columns += [[100 * own.scales[n] for own in outcomes] for n in range(len(study.scales))]
    columns += [[own.losses[-1] for own in outcomes]]
    return [*map(_mean, columns), f"{outcomes[0].parameters:,}", f"{fmean(own.seconds for own in outcomes):.0f}"]


def _mean(values: Sequence[float]) -> str:
    """With the deviation, if there are several."""
    places = 2 if max(values) > 10 else 3
    spread = f" ± {stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{places}f}{spread}"


if __name__ == "__main__":
    main()
