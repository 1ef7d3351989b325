"""status.json: what a run is doing, kept true whatever happens to it."""

from __future__ import annotations

import json
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
from src.runs.checkpoints import write_text
from src.runs.commit import commit

FILE = "status.json"


def read_status(folder: Path) -> dict[str, Any]:
    """What a run is doing; nothing if it has not begun, or the file is damaged."""
    return read_json(folder / FILE)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a file of ours; nothing if it is not there or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class Status(Callback):
    """Keeps a run's status.json: running, then complete, interrupted or failed.

    Args:
        folder: of the run.
        facts: what is known at the start.
    """

    def __init__(self, folder: Path, **facts: Any) -> None:
        self.folder = folder
        earlier = read_status(folder)
        self.record = {"epoch": 0, "best": None, "seconds": 0.0} | earlier | facts | {"status": "running"}
        self.session = {"started": now(), "ended": None, "status": "running", **process()}
        self.record["sessions"] = [*earlier.get("sessions", []), self.session]
        self._before, self._start = self.record["seconds"], time.monotonic()

    def write(self, **facts: Any) -> None:
        """Add facts and write the file."""
        self.record |= facts
        write_text(self.folder / FILE, json.dumps(self.record, indent=2) + "\n")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores = [callback for callback in trainer.callbacks if isinstance(callback, Checkpoints)]
        best = next((callback.better(trainer) for callback in scores), None)
        metrics = trainer.callback_metrics.items()
        latest = {name: float(value) for name, value in metrics if name.startswith("val/")}
        self.write(epoch=trainer.current_epoch + 1, best=best, latest=latest, seconds=self._seconds())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.record["seconds"] = self._seconds()

    @contextmanager
    def kept(self) -> Iterator[Status]:
        """Write how it ends; the traceback of an error goes to error.log."""
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
            write_error(self.folder)
            raise
        finally:
            self.session |= {"status": outcome, "ended": now()}
            self.write(status=outcome)

    def _seconds(self) -> float:
        return round(self._before + time.monotonic() - self._start, 1)


def write_error(folder: Path, name: str = "error.log") -> None:
    """The traceback of the error that is being handled, into a run's folder."""
    write_text(folder / name, traceback.format_exc())


def process() -> dict[str, Any]:
    """Who runs: host, process, command and commit."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "command": sys.argv, "commit": commit()}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
