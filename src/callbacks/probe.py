"""A look at the net every few epochs that leaves the training as it was, shared among processes."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from src.analysis.look import Job, untouched
from src.callbacks.exact_state import gathered
from src.data.samples import Samples, samples
from src.require import require_positive


class Probe(Callback):
    """Looks at the net before training, every few epochs, and after the last.

    The work is a list of tasks that is the same in all processes; each does its share, and the first reports all. A
    look draws no random number of the training and leaves no mode changed, so training comes to the same bits with and
    without it. What share of the time it takes is logged as `time/<class>_share`.

    Args:
        every_epochs: between two looks.
        before_training: also look before the first step.

    Raises:
        ValueError: if `every_epochs` is not a positive integer.
    """

    def __init__(self, every_epochs: int = 10, before_training: bool = True) -> None:
        require_positive(every_epochs=every_epochs)
        self.every_epochs, self.before_training = every_epochs, before_training
        self._began, self._spent = 0.0, 0.0

    def tasks(self, trainer: Trainer, module: LightningModule) -> Sequence[Job]:
        """The work, if any, in the same order in all processes; the net is in evaluation, without gradients."""
        return ()

    @abstractmethod
    def report(self, trainer: Trainer, module: LightningModule, results: Sequence[Any], step: int) -> None:
        """Log the results of all tasks, in their order; called in the first process."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._spent = time.monotonic(), 0.0
        if self.before_training and trainer.global_step == 0:
            self.look(trainer, pl_module, step=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.current_epoch + 1
        if done % self.every_epochs == 0 or done == trainer.max_epochs or trainer.should_stop:
            self.look(trainer, pl_module, step=trainer.global_step - 1)

    def look(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        """Do this process's share, gather all, and report; nothing where there is no logger to report to."""
        if not trainer.loggers:
            return
        start = time.monotonic()
        with untouched(module):
            share = [task() for task in self.tasks(trainer, module)[trainer.global_rank :: trainer.world_size]]
            shares = gathered(trainer, share)
            if trainer.is_global_zero:
                self.report(trainer, module, _interleaved(shares), step)
        self._spent += time.monotonic() - start
        if trainer.is_global_zero and (passed := time.monotonic() - self._began) > 0 and step:
            log(trainer, {f"time/{type(self).__name__}_share": self._spent / passed}, step)


def _interleaved(shares: Sequence[Sequence[Any]]) -> list[Any]:
    """Tasks that were dealt out in turn, back in their order.

    >>> _interleaved([["a", "c"], ["b"]])
    ['a', 'b', 'c']
    """
    return [shares[n % len(shares)][n // len(shares)] for n in range(sum(map(len, shares)))]


def log(trainer: Trainer, numbers: Mapping[str, float], step: int) -> None:
    """Write numbers to every logger."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(numbers), step=step)


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """TensorBoard's, to which pictures and texts can be written; there are none without that logger."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def validation_samples(trainer: Trainer, module: LightningModule, n: int) -> Samples:
    """The first n samples of the validation set, on the module's device."""
    return samples(trainer.datamodule, "val", n, module.device, module.task.outputs)
