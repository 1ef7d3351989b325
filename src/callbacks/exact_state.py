"""What a trainer's checkpoint lacks: random numbers, sums of the running epoch, and how far TensorBoard was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torchmetrics import Metric, MetricCollection

from src.analysis.look import random_state, restore_random_state


class ExactState(Callback):
    """Makes a resumed run go on with the same random numbers, metrics and TensorBoard points as one never stopped.

    Every process keeps its own: random numbers of Python, NumPy, PyTorch and its GPU, and what the module's
    `train_metrics` have summed since the epoch began. With another number of processes the sums stay right, but random
    numbers do not repeat.

    TensorBoard's files are cut back to where they were when the checkpoint was written, so no point is there twice.
    """

    def __init__(self) -> None:
        self._processes: list[dict[str, Any]] = []
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        trainer = self._trainer
        metrics: MetricCollection = trainer.lightning_module.train_metrics
        own = {"random": random_state(), "metrics": {name: _sums(metric) for name, metric in metrics.items()}}
        return {"processes": gathered(trainer, own), "events": _written(trainer)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._processes = state_dict["processes"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """In the first step, when everything that draws random numbers on the way to it has done so."""
        if not self._processes:
            return
        rank, ranks = trainer.global_rank, trainer.world_size
        if len(self._processes) == ranks:
            restore_random_state(self._processes[rank]["random"])
        for name, metric in pl_module.train_metrics.items():
            shares = [process["metrics"][name] for process in self._processes[rank::ranks]]
            _restore_sums(metric, shares)
        self._processes = []


def _sums(metric: Metric) -> dict[str, Any]:
    """What a metric has gathered since it was reset: sums, or lists of what it has seen."""
    states = {name: getattr(metric, name) for name in metric._defaults}
    return {"updates": metric._update_count} | {
        name: [part.cpu().clone() for part in state] if isinstance(state, list) else state.cpu().clone()
        for name, state in states.items()
    }


def _restore_sums(metric: Metric, shares: list[Mapping[str, Any]]) -> None:
    """Set a metric to several processes' shares together; to nothing if there are none."""
    metric.reset()
    metric._update_count = sum(share["updates"] for share in shares)
    for name, empty in metric._defaults.items() if shares else ():
        parts = [share[name] for share in shares]
        if isinstance(empty, list):
            setattr(metric, name, [each.to(metric.device) for part in parts for each in part])
        else:
            together = metric._reductions[name](torch.stack(parts)) if len(parts) > 1 else parts[0]
            setattr(metric, name, together.to(metric.device))


def gathered(trainer: Trainer, own: dict[str, Any]) -> list[dict[str, Any]]:
    """`own` of every process, by rank."""
    if trainer.world_size == 1:
        return [own]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, own)
    return everyone


def _written(trainer: Trainer) -> dict[str, int]:
    """Bytes of every event file, all points flushed to them."""
    sizes: dict[str, int] = {}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            logger.experiment.flush()
            sizes |= {path.name: path.stat().st_size for path in _events(Path(logger.log_dir))}
    return sizes


def rewind(folder: Path, sizes: Mapping[str, int]) -> None:
    """Cut event files back to the sizes that `written` gave: what came after will be written again."""
    for path in _events(folder):
        size = sizes.get(path.name, 0)
        if not size:
            path.unlink()
        elif path.stat().st_size > size:
            with path.open("rb+") as file:
                file.truncate(size)


def _events(folder: Path) -> list[Path]:
    """TensorBoard's files, oldest first."""
    return sorted(folder.glob("events.out.tfevents.*"))
