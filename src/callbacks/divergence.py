"""Ends a run whose loss is no number any more, before anything of it is kept."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class DivergenceError(RuntimeError):
    """The training loss was not finite; the last checkpoint is of before."""


class Divergence(Callback):
    """Looks at the loss of every step, and asks whether all were finite before every checkpoint and every log.

    A question for each step would make a GPU wait for it.

    Raises:
        DivergenceError: naming the first step whose loss was not finite, in all processes together.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach()
        step = torch.where(loss.isfinite(), inf, trainer.fit_loop.epoch_loop.total_batch_idx + 1.0)
        self._first = step if self._first is None else torch.minimum(self._first, step)
        if (batch_idx + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch:
            self._ask(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._ask(trainer)

    def _ask(self, trainer: Trainer) -> None:
        if self._first is None:
            return
        first = float(trainer.strategy.reduce(self._first.clone(), reduce_op="min"))
        if first < inf:
            epoch = trainer.current_epoch + 1
            raise DivergenceError(
                f"the training loss must be finite, but was not in batch {int(first)}, epoch {epoch} of "
                f"{trainer.max_epochs}; {_kept(trainer)}. Lower optimizer.lr, lengthen scheduler.warmup, or set "
                "train.gradient_clip."
            )


def _kept(trainer: Trainer) -> str:
    """Where the run can be looked at as it was before."""
    last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
    return f"{last} is of before" if last.exists() else "no checkpoint was written before"
