"""status.json: what a run is doing, and how it ended, whatever happens to it."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from src.callbacks import Checkpoints
from src.callbacks.interruption import Interrupted
from src.runs.checkpoints import write_json, write_text
from src.runs.commit import commit
from src.runs.folder import RunFolder, read_json


def read_status(folder: Path) -> dict[str, Any]:
    """What a run is doing; nothing if it has not begun, or the file is damaged."""
    return read_json(RunFolder(folder).status)


class Status(Callback):
    """Keeps the status.json of a run's folder: running, then complete, interrupted or failed.

    Attributes:
        record: what the file holds, with facts that are known at the start.
        session: the part of it that is about this process.
    """

    def __init__(self, folder: Path, **facts: Any) -> None:
        self.folder = folder
        earlier = read_status(folder)
        self.record = {"epoch": 0, "best": None, "seconds": 0.0} | earlier | facts | {"status": "running"}
        self.session = {"started": now(), "ended": None, "status": "running"}
        self.session |= {"host": socket.gethostname(), "pid": os.getpid(), "command": sys.argv, "commit": commit()}
        self.record["sessions"] = [*earlier.get("sessions", []), self.session]
        self._before, self._start = self.record["seconds"], time.monotonic()

    def write(self, **facts: Any) -> None:
        """Add facts and write the file."""
        self.record |= facts
        write_json(RunFolder(self.folder).status, self.record)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        keepers = [callback for callback in trainer.callbacks if isinstance(callback, Checkpoints)]
        best = next((keeper.better(trainer) for keeper in keepers), None)
        metrics = trainer.callback_metrics.items()
        latest = {name: float(value) for name, value in metrics if name.startswith("val/")}
        self.write(epoch=trainer.current_epoch + 1, best=best, latest=latest, seconds=self._seconds())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.record["seconds"] = self._seconds()

    @contextmanager
    def recording(self) -> Iterator[Status]:
        """Write that the run is running, and in the end how it ended; the traceback of an error has its own file."""
        self.write()
        outcome = "complete"
        try:
            yield self
        except (KeyboardInterrupt, SystemExit) as error:
            outcome = "interrupted"
            if isinstance(error, Interrupted):
                self.session["signal"] = error.signal.name
            raise
        except BaseException:
            outcome = "failed"
            write_error(RunFolder(self.folder).error_log())
            raise
        finally:
            self.session |= {"status": outcome, "ended": now()}
            self.write(status=outcome)

    def _seconds(self) -> float:
        return round(self._before + time.monotonic() - self._start, 1)


def write_error(path: Path) -> None:
    """Write the traceback of the error that is being handled."""
    write_text(path, traceback.format_exc())


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
