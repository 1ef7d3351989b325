"""Train the variants of a study, each with several seeds, and test them: python scripts/study.py --study NAME."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.analysis.drawing import png
from src.data.io.files import replacing
from src.reports.study import Findings, Outcome, Study, load_study, run_study
from src.reports.study_picture import draw_study
from src.runs.process import keep_freed_memory, quiet
from src.runs.tables import console, markdown_table, rich_table
from src.training.commands import parser, user_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table with a line for each variant, and write it, a picture and the numbers."""
    words = parser(__doc__, "of all runs, but of what a variant sets itself, such as train.epochs=2")
    words.add_argument("--study", default="alias", metavar="NAME", help="a file of configs/study")
    words.add_argument("--seeds", type=int, nargs="+", help="instead of the study's")
    words.add_argument("--variants", nargs="+", help="only these")
    words.add_argument("--output", type=Path, metavar="FOLDER", help="write there and not into logs/studies")
    options = words.parse_intermixed_args(arguments)
    quiet()
    keep_freed_memory()
    with user_errors(OSError):
        study = load_study(options.study).restricted(options.seeds, options.variants).changed(options.overrides)
        found = run_study(study)
        head = _head(study, found.score.title)
        rows = [[name, *_cells(found, own)] for name, own in found.outcomes.items()]
        folder = options.output or found.folder
        contents = {
            "study.json": (json.dumps(found.numbers(), indent=1) + "\n").encode(),
            "study.md": markdown_table(head, rows, head[1:]).encode(),
            "study.png": png(draw_study(found)),
        }
        for name, content in contents.items():
            with replacing(folder / name) as file:
                file.write(content)
    console().print(rich_table(head, rows, head[1:], study.title))
    console().print(f"picture: {folder / 'study.png'}", soft_wrap=True)


def _head(study: Study, metric: str) -> list[str]:
    """The columns of the table."""
    turned = ["mean", "best", "worst", "best - worst", "change at 45°"] if study.angles else []
    scaled = [f"x {scale:g}" for scale in study.scales]
    return ["", f"test {metric}", *turned, *scaled, "loss", "parameters", "seconds"]


def _cells(found: Findings, outcomes: Sequence[Outcome]) -> list[str]:
    """Means over seeds, with their deviations."""
    unit = 100 if found.score.share else 1
    columns = [[unit * own.unmoved for own in outcomes]]
    if found.study.angles:
        curves = [[unit * value for value in own.moved["angles"]] for own in outcomes]
        best, worst = (max, min) if found.score.higher else (min, max)
        columns += [
            [of(curve) for curve in curves] for of in (fmean, best, worst, lambda curve: max(curve) - min(curve))
        ]
        columns += [[own.change for own in outcomes]]
    columns += [[unit * own.moved["scales"][n] for own in outcomes] for n in range(len(found.study.scales))]
    columns += [[own.losses[-1] for own in outcomes]]
    return [*map(_mean, columns), f"{outcomes[0].parameters:,}", f"{fmean(own.seconds for own in outcomes):.0f}"]


def _mean(values: Sequence[float]) -> str:
    """With the deviation, if there are several."""
    places = 2 if max(values) > 10 else 3
    spread = f" ± {stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{places}f}{spread}"


if __name__ == "__main__":
    main()
