"""The LightningModule: a net, its task, how it is trained, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection

from src.models.optimisation import ParameterGroups, Schedule
from src.models.penalties import penalty_of
from src.models.tasks import Task


class Learner(LightningModule):
    """Trains a net that maps images (n, c, y, x) to outputs (n, k) by the loss of a task.

    It logs `train/`, `val/` and `test/` + `loss` and the task's metrics, over the samples of an epoch and of all
    processes. Batches are pairs of images and targets, from any loader.

    Args:
        net: the net.
        task: the loss and the metrics.
        optimizer: makes the optimiser from parameter groups; its learning rate and weight decay are bound.
        schedule: the learning rate's factor by epoch.
        groups: which parameters are trained how.
        penalty: what is added to the loss in training for a net, or none, or several by name; see `AliasPenalty` and
            `RelaxedPenalty`.
    """

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        optimizer: Callable[[Sequence[dict[str, Any]]], torch.optim.Optimizer],
        schedule: Schedule,
        groups: ParameterGroups,
        penalty: Callable[[nn.Module], Tensor] | Mapping[str, Callable[[nn.Module], Tensor] | None] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.task = net, task
        self.optimizer, self.schedule, self.groups = optimizer, schedule, groups
        self.penalty = penalty_of(penalty)
        self.train_metrics, self.val_metrics, self.test_metrics = (
            MetricCollection(
                {"loss": MeanMetric(), **{name: task.meter(name) for name in task.metrics}},
                prefix=f"{stage}/",
                compute_groups=False,
            )
            for stage in ("train", "val", "test")
        )

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, y, x) -> (n, k)."""
        return self.net(images)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self._measure(batch, self.train_metrics)
        self.log("loss", loss, prog_bar=True, logger=False)
        if self.penalty is not None:
            loss = loss + self.penalty(self.net)
        if self.trainer.world_size == 1:
            return loss
        # Processes average their gradients, so a smaller share of a batch must count for less.
        share = len(batch[1]) / samples_of(self.trainer, batch, batch_idx)
        return loss * share * self.trainer.world_size

    def on_train_epoch_end(self) -> None:
        """Written here and not by the trainer, which does so only after the epoch's checkpoint."""
        metrics = _numbers(self.train_metrics.compute())
        self.train_metrics.reset()
        self.log_dict(metrics, prog_bar=True, logger=False)
        for logger in self.loggers:
            logger.log_metrics(metrics | {"epoch": self.current_epoch}, step=self.global_step - 1)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch, self.val_metrics)
        self._log(self.val_metrics, logger=True)

    def on_validation_epoch_end(self) -> None:
        """The schedule is told before the epoch's checkpoint is written, which has what the schedule knows."""
        if not self.trainer.validating and not self.trainer.sanity_checking:
            value = float(self.val_metrics[self.task.primary].compute())
            self.schedule.observe(-value if self.task.mode == "max" else value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if state := self.schedule.state_dict():
            checkpoint["schedule"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "schedule" in checkpoint:
            self.schedule.load_state_dict(checkpoint["schedule"])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure(batch, self.test_metrics)
        self._log(self.test_metrics, logger=False)  # the trainer does not know at which step

    def _measure(self, batch: tuple[Tensor, Tensor], metrics: MetricCollection) -> Tensor:
        """The loss of a batch; `metrics` gather it and what the task measures."""
        images, targets = batch
        outputs = self(images)
        loss = self.task.loss(outputs, targets)
        for name, metric in metrics.items(keep_base=True):
            if name == "loss":
                metric.update(loss.detach(), weight=len(targets))
            else:
                metric.update(outputs.detach(), targets)
        return loss

    def _log(self, metrics: MetricCollection, logger: bool) -> None:
        """Have the trainer compute metrics at the end of an epoch, over all processes, and reset them."""
        self.log_dict(
            dict(metrics.items()), on_step=False, on_epoch=True, prog_bar=True, logger=logger and bool(self.loggers)
        )

    def configure_optimizers(self) -> dict[str, Any]:
        """The schedule is stepped with the optimiser; the trainer says how many steps an epoch has."""
        optimizer = self.groups.optimiser(self.net, self.optimizer)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """The learning rate's factor after so many steps.

        Before the first one the trainer does not know its batches yet, and asking it for them (as its
        `estimated_stepping_batches` does) would keep a resumed run from going on within its epoch.
        """
        steps = ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches) if step else 1
        return self.schedule(step / steps, self.trainer.max_epochs)


def samples_of(trainer: Trainer, batch: tuple[Tensor, Tensor], batch_idx: int) -> int:
    """Samples in a training batch over all processes; of a loader that does not say, as many in each as in this one."""
    batches = getattr(trainer.train_dataloader, "batches", None)
    return batches.size(batch_idx) if batches else len(batch[1]) * trainer.world_size


def _numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """What metrics came to.

    Raises:
        ValueError: for a metric of several numbers, which cannot be drawn as a curve.
    """
    for name, value in values.items():
        if value.numel() != 1:
            short = name.rpartition("/")[2]
            raise ValueError(
                f"`task.known.{short}` must compute one number, but got {tuple(value.shape)}; give it an average, such "
                "as average=macro."
            )
    return {name: float(value) for name, value in values.items()}
