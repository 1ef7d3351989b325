"""Fine-tune a trained net in another form: python scripts/project.py DIR implementation=NAME [key=value ...]."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from omegaconf import DictConfig
from rich.table import Table

from src.callbacks import DivergenceError, Interrupted
from src.config.targets import locate
from src.models.tasks import Task
from src.runs.folder import RunFolder, read_json
from src.runs.process import die_with_parent, keep_freed_memory, quiet, rank
from src.runs.tables import console, rich_table
from src.training.commands import parser, user_errors
from src.training.dry_run import describe
from src.training.projection import projected_run
from src.training.run import Request, train


def main() -> None:
    """Project, train, and print what became of the net and of each layer."""
    words = parser(__doc__)
    words.add_argument("run", type=Path, metavar="DIR", help="the folder of a trained run")
    words.add_argument("overrides", nargs="*", metavar="key=value", help="the form, and what else is otherwise")
    words.add_argument("--fresh", action="store_true", help="start over beside a run that is there")
    words.add_argument("--dry-run", action="store_true", help="say what would be done")
    options = words.parse_intermixed_args()
    quiet()
    keep_freed_memory()
    die_with_parent()
    try:
        with user_errors(DivergenceError):
            cfg = projected_run(options.run, options.overrides)
            request = Request([*options.overrides, "pretrained.project=true"], fresh=options.fresh)
            if options.dry_run:
                describe(cfg, request)
                return
            result = train(cfg, request)
    except Interrupted:
        if rank() == 0:
            raise
        return
    record = read_json(RunFolder(result.folder).projection)
    if record and rank() == 0:
        scores = record["metrics"] | ({"fine-tuned": result.metrics} if cfg.train.do else {})
        for table in (_summary(record, scores, cfg.task), _layers(record)):
            console().print(table)


def _summary(record: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]], task: DictConfig) -> Table:
    """The net before, projected, and fine-tuned, a column each."""
    kind: type[Task] = locate(task._target_)
    head, rows = ("", *scores), []
    for split in ("test", "val"):
        values = [kind.written(task.primary, own.get(f"{split}/{task.primary}")) for own in scores.values()]
        rows.append([f"{split} {kind.title(task.primary)}", *values])
    for key, form in (("parameters", ",.0f"), ("seconds_per_step", ".4f")):
        before, after = (format(record[key][stage], form) for stage in ("before", "projected"))
        rows.append([key.replace("_", " "), before, *[after] * (len(scores) - 1)])
    return rich_table(head, rows, right=head[1:], title=f"Projection of {record['origin']}")


def _layers(record: Mapping[str, Any]) -> Table:
    """What each layer lost."""
    head = ("layer", "from", "to", "error of the best factors", "error of the fitted kernel nets")
    before, after = record["forms"]["before"], record["forms"]["projected"]
    rows = [
        [
            name,
            before[name],
            after[name],
            *(["kept"] * 2 if loss["kept"] else [f"{loss[key]:.4f}" for key in ("form", "fitted")]),
        ]
        for name, loss in record["layers"].items()
    ]
    return rich_table(head, rows, right=head[3:], title="||K' - K|| / ||K|| of assembled kernels")


if __name__ == "__main__":
    main()
