"""The LightningModule: a net, how it is trained, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from src.models.optimisation import ParameterGroups, Schedule


class Classifier(LightningModule):
    """Cross-entropy and accuracy of a net that maps images (n, c, y, x) to logits (n, classes).

    It logs `train/`, `val/` and `test/` + `loss` and `acc`, means over the samples of an epoch and of all processes.

    Args:
        net: the net.
        classes: logits.
        optimizer: makes the optimiser from parameter groups; its learning rate and weight decay are bound.
        schedule: the learning rate's factor by epoch.
        groups: which parameters are trained how.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        optimizer: Callable[[Sequence[dict[str, Any]]], torch.optim.Optimizer],
        schedule: Schedule,
        groups: ParameterGroups,
    ) -> None:
        super().__init__()
        self.net, self.optimizer, self.schedule, self.groups = net, optimizer, schedule, groups
        self.train_metrics, self.val_metrics, self.test_metrics = (
            MetricCollection(
                {"loss": MeanMetric(), "acc": MulticlassAccuracy(classes, average="micro")},
                prefix=f"{stage}/",
                compute_groups=False,
            )
            for stage in ("train", "val", "test")
        )

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, y, x) -> (n, classes)."""
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self._measure(batch, self.train_metrics)
        self.log("loss", loss, prog_bar=True, logger=False)
        if self.trainer.world_size == 1:
            return loss
        # Processes average their gradients, so a smaller share of a batch must count for less.
        share = len(batch[1]) / self.trainer.train_dataloader.batches.size(batch_idx)
        return loss * share * self.trainer.world_size

    def on_train_epoch_end(self) -> None:
        """Written here and not by the trainer, which does so only after the epoch's checkpoint."""
        metrics = {name: float(value) for name, value in self.train_metrics.compute().items()}
        self.train_metrics.reset()
        self.log_dict(metrics, prog_bar=True, logger=False)
        for logger in self.loggers:
            logger.log_metrics(metrics | {"epoch": self.current_epoch}, step=self.global_step - 1)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch, self.val_metrics)
        self._log(self.val_metrics, logger=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch, self.test_metrics)
        self._log(self.test_metrics, logger=False)  # the trainer does not know at which step

    def _measure(self, batch: tuple[Tensor, Tensor], metrics: MetricCollection) -> Tensor:
        """The loss of a batch; `metrics` gather it and the accuracy."""
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        metrics["loss"].update(loss.detach(), weight=len(labels))
        metrics["acc"].update(logits, labels)
        return loss

    def _log(self, metrics: MetricCollection, logger: bool) -> None:
        """Have the trainer compute metrics at the end of an epoch, over all processes, and reset them."""
        self.log_dict(
            dict(metrics.items()), on_step=False, on_epoch=True, prog_bar=True, logger=logger and bool(self.loggers)
        )

    def configure_optimizers(self) -> dict[str, Any]:
        """The schedule is stepped with the optimiser; epochs and their steps are counted, not estimated."""
        optimizer = self.groups.optimiser(self.net, self.optimizer)
        epochs = self.trainer.max_epochs
        steps = ceil(self.trainer.datamodule.train_batches / self.trainer.accumulate_grad_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule(step / steps, epochs))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
