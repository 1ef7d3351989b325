"""Stands in for runs where a sweep is tested and not training: without PyTorch, and so there in a moment.

It writes what a run writes and ends as a run ends, which tests/test_stand_in.py sees to, but it only waits: what it
comes to follows from its seed and its learning rate. As long as there is a file `hold` in its folder, it stays in its
second epoch. The run with the override that `TRAINS` names is trained.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import socket
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock

TRAIN = Path(__file__).resolve().parents[1] / "scripts" / "train.py"
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
SECONDS, LAST_SECONDS = 0.2, 2.0
"""Of an epoch; the last is long, so that whom a scheduler stops before it is not done by then."""


def main(overrides: dict[str, str], folder: Path) -> None:
    """Go on from the checkpoint, if there is one, to the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", timeout=0):
        epochs, monitor = int(overrides["train.epochs"]), overrides.get("callbacks.checkpoint.monitor", "val/acc")
        for name in ("config.yaml", "recipe.yaml"):
            write(folder / name, nested(overrides))
        status, checkpoint = status_of(folder, epochs), folder / "checkpoints" / "last.ckpt"
        last = status["sessions"][-1]
        epoch = read(checkpoint).get("epoch", 0)

        def stop(number: int, _: FrameType | None) -> None:
            for each in CODES:
                signal.signal(each, signal.SIG_IGN)
            write(checkpoint, {"epoch": epoch})
            last["signal"] = signal.Signals(number).name
            sys.exit(CODES[number])

        outcome = "failed"
        try:
            write(folder / "status.json", status)
            for number in CODES:
                signal.signal(number, stop)
            die_with_parent()
            while epoch < epochs:
                wait(folder, LAST_SECONDS if 0 < epoch == epochs - 1 else SECONDS, held=epoch == 1)
                epoch += 1
                latest = measured(overrides, "val", epoch)
                status |= {"epoch": epoch, "best": latest[monitor], "latest": latest, "seconds": SECONDS * epoch}
                write(checkpoint, {"epoch": epoch})
                write(folder / "status.json", status)
            final = {monitor: status["best"]} | measured(overrides, "test", epochs) | {"parameters": 1}
            write(folder / "metrics.json", final)
            outcome = "complete"
        except SystemExit:
            outcome = "interrupted"
            raise
        except Exception:
            (folder / "error.log").write_text(traceback.format_exc())
            raise
        finally:
            last |= {"status": outcome, "ended": now()}
            write(folder / "status.json", status | {"status": outcome})


def status_of(folder: Path, epochs: int) -> dict[str, Any]:
    """What status.json holds when a run begins or goes on."""
    earlier = read(folder / "status.json")
    facts = {"epochs": epochs, "experiment": folder.parent.name, "id": folder.name, "data": "none", "status": "running"}
    session = {"started": now(), "ended": None, "status": "running", "host": socket.gethostname(), "pid": os.getpid()}
    session |= {"command": sys.argv, "commit": "none"}
    sessions = [*earlier.get("sessions", []), session]
    return {"epoch": 0, "best": None, "seconds": 0.0} | earlier | facts | {"sessions": sessions}


def measured(overrides: dict[str, str], stage: str, epoch: int) -> dict[str, float]:
    """Better with every epoch, best at a learning rate of 1e-2, and otherwise with every seed."""
    distance = abs(math.log10(float(overrides.get("optimizer.lr", "1e-2"))) + 2)
    loss = distance + 0.01 * int(overrides.get("seed", "0")) + 1 / epoch
    return {f"{stage}/acc": 1 / (1 + loss), f"{stage}/loss": loss}


def wait(folder: Path, seconds: float, held: bool) -> None:
    """For an epoch, and as long as the run is held."""
    end = time.monotonic() + seconds
    while time.monotonic() < end or (held and (folder / "hold").exists()):
        time.sleep(0.05)


def die_with_parent() -> None:
    """Be sent SIGHUP when the worker ends, as `src.runs.process` has it."""
    if parent := os.environ.get("DIE_WITH"):
        ctypes.CDLL(None).prctl(1, signal.SIGHUP)
        if os.getppid() != int(parent):
            signal.raise_signal(signal.SIGHUP)


def nested(overrides: dict[str, str]) -> dict[str, Any]:
    """A configuration of nothing but what was changed."""
    result: dict[str, Any] = {}
    for key, value in overrides.items():
        *nodes, last = key.lstrip("+").split(".")
        owner = result
        for node in nodes:
            owner = owner.setdefault(node, {})
        try:
            owner[last] = json.loads(value)
        except ValueError:
            owner[last] = value
    return result


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """A file, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    try:
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    if os.environ.get("TRAINS") in sys.argv:
        os.execv(sys.executable, [sys.executable, str(TRAIN), *sys.argv[1:]])
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    main(given, Path(os.environ["RUN_FOLDER"]))
