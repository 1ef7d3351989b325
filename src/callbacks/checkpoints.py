"""When checkpoints are written: at the end of every epoch, every few minutes, and when a run is asked to stop."""

from __future__ import annotations

import os
import signal
import time
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from src.callbacks.interruption import Interrupted, Interruption
from src.data.io.files import replacing
from src.require import require_choice, require_positive, require_positive_number

LAST, PREVIOUS, BEST, WEIGHTS = "last.ckpt", "previous.ckpt", "best.ckpt", "weights.pt"
_SAVE = 1
"""What processes tell each other after a step: 0 is nothing to do, 1 is to save, and more is that and a signal."""


class Checkpoints(Checkpoint):
    """Keeps last.ckpt, from which a run goes on; the one before it; best.ckpt by validation; and its weights alone.

    Saved are the places from which the trainer is known to go on as if nothing had happened: after a step that is not
    the last of its epoch, and after an epoch with its validation. A signal that arrives in the validation waits for its
    end; a second one does not.

    Args:
        folder: where they are written.
        monitor: the metric that is best, as logged in validation.
        mode: "max" or "min"; None is which of them the module's task says is better.
        every_minutes: between two checkpoints within an epoch.
        every_steps: as well after so many steps; None is never.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        folder: str | Path,
        monitor: str = "val/loss",
        mode: Literal["max", "min"] | None = None,
        every_minutes: float = 10.0,
        every_steps: int | None = None,
    ) -> None:
        if mode is not None:
            require_choice("mode", mode, ("max", "min"))
        require_positive_number(every_minutes=every_minutes)
        if every_steps is not None:
            require_positive(every_steps=every_steps)
        self.folder, self.monitor, self.mode = Path(folder), monitor, mode
        self.every_seconds, self.every_steps = 60 * every_minutes, every_steps
        self.about: dict[str, Any] = {}
        """Written beside the weights, in plain containers, so that the model can be built again."""
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.finished = False
        self._written = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "finished": self.finished}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch, self.finished = (state_dict[key] for key in ("best", "best_epoch", "finished"))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.mode = self.mode or pl_module.task.direction(self.monitor)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._written = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        code = self._agree(trainer)
        loop = trainer.fit_loop.epoch_loop
        if code and not loop.batch_progress.is_last_batch and not loop._should_accumulate():
            self._save_last(trainer)
            self._stop(code)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.finished = trainer.should_stop or trainer.current_epoch + 1 >= trainer.max_epochs
        best = self.better(trainer)
        if improved := best is not None and best != self.best:
            self.best, self.best_epoch = best, trainer.current_epoch
            trainer.save_checkpoint(self.folder / BEST, weights_only=False)
        # The best one first: a run that ends between the two goes on from the last, and will write this one again.
        self._save_last(trainer, copy=improved)
        if improved and trainer.is_global_zero:
            self._write_weights()
        self._stop(self._agree(trainer))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that ended after the best checkpoint and before its weights were written goes on here.
        if trainer.is_global_zero and (self.folder / BEST).exists() and not self._has_best_weights():
            self._write_weights()

    def better(self, trainer: Trainer) -> float | None:
        """The best score so far, with that of the epoch that ends; none while none was finite."""
        if self.monitor not in trainer.callback_metrics:
            there = ", ".join(name for name in trainer.callback_metrics if name.startswith("val/"))
            raise ValueError(f"`callbacks.checkpoint.monitor` must be one of {there}, but got {self.monitor!r}.")
        score = float(trainer.callback_metrics[self.monitor])
        # The share of hits is finite whatever the outputs are, and the loss is not.
        if not (isfinite(score) and isfinite(trainer.callback_metrics.get("val/loss", 0.0))):
            return self.best
        return score if self.best is None else max(score, self.best) if self.mode == "max" else min(score, self.best)

    def _save_last(self, trainer: Trainer, copy: bool = False) -> None:
        """Write last.ckpt, or take best.ckpt for it; the one before keeps a name until the new one is complete."""
        last, previous = self.folder / LAST, self.folder / PREVIOUS
        if trainer.is_global_zero and last.exists():
            _link(last, previous)
        if not copy:
            trainer.save_checkpoint(last, weights_only=False)
        elif trainer.is_global_zero:
            _link(self.folder / BEST, last)
        self._written = time.monotonic()

    def _write_weights(self) -> None:
        """The weights of best.ckpt, averaged where training averages them."""
        with replacing(self.folder / WEIGHTS) as file:
            torch.save({"weights": self._best_weights(), **self.about}, file)

    def _best_weights(self) -> dict[str, torch.Tensor]:
        state = torch.load(self.folder / BEST, map_location="cpu", weights_only=True)["state_dict"]
        return weights_of_net(state)

    def _has_best_weights(self) -> bool:
        """Whether weights.pt is there, whole, and those of best.ckpt."""
        best = self._best_weights()
        try:
            there = torch.load(self.folder / WEIGHTS, map_location="cpu", weights_only=True)["weights"]
        except Exception:  # a damaged file may raise anything
            return False
        return there.keys() == best.keys() and all(torch.equal(value, best[name]) for name, value in there.items())

    def _agree(self, trainer: Trainer) -> int:
        """What all processes do after this step: the most that one of them wants."""
        steps = self.every_steps is not None and trainer.global_step % self.every_steps == 0
        wanted = int(steps or time.monotonic() - self._written > self.every_seconds)
        for callback in trainer.callbacks:
            if isinstance(callback, Interruption) and callback.received:
                wanted = _SAVE + callback.received
        if trainer.world_size == 1:
            return wanted
        return int(trainer.strategy.reduce(torch.tensor(wanted, device=trainer.strategy.root_device), reduce_op="max"))

    def _stop(self, code: int) -> None:
        if code > _SAVE:
            raise Interrupted(signal.Signals(code - _SAVE))


def weights_of_net(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Those of a module's `net`, by their names in it."""
    return {name.removeprefix("net."): value for name, value in state.items() if name.startswith("net.")}


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, in place of what had it; a copy where the file system has no links."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        with replacing(target) as file:
            file.write(source.read_bytes())
    else:
        os.replace(part, target)
