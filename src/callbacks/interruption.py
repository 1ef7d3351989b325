"""Signals that end a run early: it stops after a step, with a checkpoint and an honest exit code."""

from __future__ import annotations

import signal
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer

_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGUSR1: 75}
"""Exit codes: 128 + number as shells have it, and EX_TEMPFAIL, "try again", for the warning of a queue."""


class Interrupted(SystemExit):
    """The run was asked to stop, has written a checkpoint, and can go on from it."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(_CODES[number])
        self.signal = number


class Interruption(Callback):
    """Remembers the signals of `_CODES` while a model is trained; who saves asks for it.

    The handlers do nothing but remember: what they interrupt may be a step, or the exchange between processes. A second
    signal ends the process at once, as it would without this; but not SIGHUP, by which nobody shows impatience: it says
    that a terminal or the process that started this one is gone.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, object] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not earlier: the trainer installs a handler of its own, which would exchange messages from within a step.
        self._handlers = {number: signal.signal(number, self._remember) for number in heeded()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGHUP:
                return
            self._restore()
            signal.raise_signal(number)
        self.received = signal.Signals(number)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def heeded() -> list[signal.Signals]:
    """The signals that end a run early; SIGHUP is not where `nohup` has it ignored."""
    return [number for number in _CODES if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
