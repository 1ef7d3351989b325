"""What a run has come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from src.config.instantiate import locate
from src.models.tasks import Task
from src.runs.status import read_status
from src.runs.tables import fact_table


@dataclass(frozen=True)
class Result:
    """A run that is complete."""

    folder: Path
    """Of the run; removed already, if it was a debugging run."""
    metrics: Mapping[str, float]
    """What metrics.json holds."""


def table(result: Result, cfg: DictConfig) -> Table:
    """What is printed at the end of a run of a configuration, as long as its folder is there."""
    scores = _scores(result.metrics, cfg)
    facts = scores | {
        "parameters": f"{int(result.metrics['parameters']):,}",
        "training time": f"{read_status(result.folder).get('seconds', 0):.0f} s",
        "folder": str(result.folder),
    }
    return fact_table("Result", facts, bold=[next(iter(scores))])


def _scores(metrics: Mapping[str, float], cfg: DictConfig) -> dict[str, str]:
    """What the net is judged by, in words: on the test set, and by validation."""
    task: type[Task] = locate(cfg.task._target_)  # not a task, as the data may not have said yet how many classes
    title = task.title(cfg.task.primary)
    names = {f"test {title}": "test", f"validation {title} (best epoch)": "val"}
    keys = {name: f"{stage}/{cfg.task.primary}" for name, stage in names.items()}
    return {name: task.written(key, metrics.get(key)) for name, key in keys.items()}
