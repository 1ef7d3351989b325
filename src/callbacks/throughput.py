"""How fast training is, what share of the time it waits for data, and how large its gradients and steps are."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from src.callbacks.probe import log
from src.models.learner import samples_of

_Moment = float | torch.cuda.Event
"""A point in time of a device: of a GPU, when it has done all that it was told before."""
_GIB = 2**30


@dataclass
class _Tally:
    """What was done in a stretch of training."""

    samples: int = 0
    """Of all processes together."""
    steps: int = 0
    """Of the optimiser."""
    seconds: float = 0.0
    waiting: float = 0.0
    """Seconds of these from the end of a batch to the moment at which the next one lies on the device."""

    def numbers(self) -> dict[str, float]:
        """What is logged; nothing if nothing was done."""
        if not (self.steps and self.seconds):
            return {}
        return {
            "samples_per_second": self.samples / self.seconds,
            "step": self.seconds / self.steps,
            "data_share": self.waiting / self.seconds,
        }


class Throughput(Callback):
    """Logs speed and memory under `time/`, the norm of the gradient, and how far a step moves the weights.

    Every `trainer.log_every_n_steps` steps, over the steps since the last time, without validation and checkpoints:

    - `time/samples_per_second`, of all devices together, and `time/step`, seconds of a step of the optimiser;
    - `time/data_share`: the share of this time in which the next batch is read, moved, and augmented;
    - `time/memory_gib`: the most memory that was held, of the GPU by tensors, else by the process;
    - `train/gradient_norm`: of all gradients of that step together, accumulated and averaged, before clipping;
    - `train/update_ratio`: ||w' - w|| / ||w|| of that step, w' after it, over all weights, and
      `train/update_ratio/<group>` over those of a group of the optimiser, if it has several with names.

    The first three are logged of every epoch as well, as `time/epoch/...`; of an epoch that was resumed, from there on.
    What is under `time/` differs from run to run; all else is a function of the run, and training comes to the same
    bits with and without it. Times and memory are those of the first process.

    Between these steps nothing makes a GPU wait: what is measured there are moments on its own time line.
    """

    def __init__(self) -> None:
        self._asked: _Moment | None = None
        self._given: _Moment = 0.0
        self._spans: list[tuple[_Moment, _Moment, _Moment]] = []
        """When each batch was asked for, given, and done."""
        self._interval, self._epoch = _Tally(), _Tally()
        self._stepped = 0
        self._norm: Tensor | None = None
        self._before: dict[str, list[Tensor]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._asked, self._spans, self._stepped = None, [], trainer.global_step
        self._interval, self._epoch = _Tally(), _Tally()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._asked, self._epoch = _moment(pl_module.device), _Tally()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._given = _moment(pl_module.device)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        every = trainer.log_every_n_steps
        if trainer.is_global_zero and trainer.loggers and every and (trainer.global_step + 1) % every == 0:
            self._norm = get_total_norm([weight.grad for weight in pl_module.parameters() if weight.grad is not None])
            self._before = {name: [w.detach().clone() for w in own] for name, own in _groups(optimizer).items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = _moment(pl_module.device)
        # A run that goes on in the middle of an epoch has not seen for how long it waited for its first batch.
        asked = self._given if self._asked is None else self._asked
        self._spans.append((asked, self._given, done))
        steps, self._stepped = trainer.global_step - self._stepped, trainer.global_step
        samples = samples_of(trainer, batch, batch_idx)
        for tally in (self._interval, self._epoch):
            tally.samples, tally.steps = tally.samples + samples, tally.steps + steps
        self._asked = done
        if self._norm is not None:
            self._log(trainer, pl_module)
            self._asked = _moment(pl_module.device)  # what was logged is nobody's time

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._settle()
        numbers = {f"time/epoch/{name}": value for name, value in self._epoch.numbers().items()}
        if trainer.is_global_zero and numbers:
            log(trainer, numbers, trainer.global_step - 1)

    def _log(self, trainer: Trainer, module: LightningModule) -> None:
        """Write what the interval and its last step came to."""
        ratios = _update_ratios(self._before, _groups(trainer.optimizers[0]))
        self._settle()
        times = self._interval.numbers() | {"memory_gib": _peak_memory(module.device) / _GIB}
        numbers = {"train/gradient_norm": float(self._norm)}
        numbers |= {"/".join(filter(None, ("train/update_ratio", name))): ratio for name, ratio in ratios.items()}
        log(trainer, {f"time/{name}": value for name, value in times.items()} | numbers, trainer.global_step - 1)
        self._norm, self._before, self._interval = None, {}, _Tally()

    def _settle(self) -> None:
        """Count the times of all batches that are done."""
        for asked, given, done in self._spans:
            if isinstance(done, torch.cuda.Event):
                done.synchronize()
            seconds, waiting = _between(asked, done), _between(asked, given)
            for tally in (self._interval, self._epoch):
                tally.seconds, tally.waiting = tally.seconds + seconds, tally.waiting + waiting
        self._spans = []


def _moment(device: torch.device) -> _Moment:
    """Now; of a GPU, when it will have done all that it has been told so far, without waiting for it."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _between(start: _Moment, end: _Moment) -> float:
    """Seconds from one moment to a later one, which has come."""
    return start.elapsed_time(end) / 1000 if isinstance(start, torch.cuda.Event) else end - start


def _peak_memory(device: torch.device) -> int:
    """The most bytes that tensors held on a GPU, or that the process held, since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _groups(optimizer: Optimizer) -> dict[str, list[Tensor]]:
    """All weights, by the name "", and those of each group that has a name, if there are several."""
    members = [(group.get("name"), group["params"]) for group in optimizer.param_groups]
    named = {name: own for name, own in members if name} if len(members) > 1 else {}
    return {"": [weight for _, own in members for weight in own]} | named


def _update_ratios(before: Mapping[str, list[Tensor]], after: Mapping[str, list[Tensor]]) -> dict[str, float]:
    """||w' - w|| / ||w|| by group; a group whose weights were all zero is left out."""
    with torch.no_grad():
        norms = {
            name: (get_total_norm([new - old for new, old in zip(after[name], own, strict=True)]), get_total_norm(own))
            for name, own in before.items()
        }
    return {name: float(change) / float(size) for name, (change, size) in norms.items() if float(size)}
