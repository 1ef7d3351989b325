"""The LightningModule: a net, how it is trained, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from src.models.optimisation import ParameterGroups, Schedule

STAGES = ("train", "val", "test")


class Classifier(LightningModule):
    """Cross-entropy and accuracy of a net that maps images (n, c, y, x) to logits (n, classes).

    It logs `train/`, `val/` and `test/` + `loss` and `acc`, means over the samples of an epoch.

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
        # A ModuleDict has methods of its own called train and eval, hence the underscore.
        self.accuracy = nn.ModuleDict({f"{stage}_": MulticlassAccuracy(classes, average="micro") for stage in STAGES})

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, y, x) -> (n, classes)."""
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step("train", batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step("test", batch)

    def _step(self, stage: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        self.accuracy[f"{stage}_"](logits, labels)
        metrics = {f"{stage}/loss": loss, f"{stage}/acc": self.accuracy[f"{stage}_"]}
        self.log_dict(metrics, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """The schedule is stepped with every batch; epochs and their batches are counted, not estimated."""
        optimizer = self.groups.optimiser(self.net, self.optimizer)
        epochs, batches = self.trainer.max_epochs, self.trainer.datamodule.train_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule(step / batches, epochs))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
