"""Lightning's own callbacks, each with one thing changed."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar


class LearningRate(LearningRateMonitor):
    """Lightning's, which logs nothing where there is nowhere to log to, instead of refusing to train."""

    def on_train_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.loggers:
            super().on_train_start(trainer, *args, **kwargs)


class ProgressBar(RichProgressBar):
    """Lightning's, without the version number of the logger, which names nothing here."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
