"""What stands in for runs in the tests of sweeps writes what runs write, and ends as they do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kills import SMALL, Bomb, execute
from sweeping import STAND_IN, until

from src.config.compose import compose_config
from src.runs.record import read
from src.training.run import Request, folder_of

OVERRIDES = (*SMALL, "train.epochs=2", "callbacks.checkpoint.every_steps=null", "seed=3", "optimizer.lr=1e-3")
EXTRA = {"best.ckpt", "previous.ckpt", "weights.pt", "tensorboard", "hparams.yaml"}
"""What only a run writes, and nothing of a sweep reads."""


def run(logs: Path, words: list[str], ends: str) -> tuple[Path, int]:
    """A run that ends in one of several ways: where, and with which code."""
    folder = prepared(logs, words, ends)
    bomb = Bomb("step", 9, number=signal.SIGTERM) if ends == "interrupted" else None
    return folder, execute(words, logs, bomb)[0]


def stand_in(logs: Path, words: list[str], ends: str) -> tuple[Path, int]:
    """The same of what stands in for it."""
    folder = prepared(logs, words, ends)
    environment = os.environ | {"RUN_FOLDER": str(folder), "DIE_WITH": str(os.getpid())}
    with (logs / "out.txt").open("w") as out:
        process = subprocess.Popen([sys.executable, str(STAND_IN), *words], env=environment, stdout=out, stderr=out)
        if ends == "interrupted":
            until(lambda: json.loads((folder / "status.json").read_text())["epoch"] == 1, "an epoch")
            process.terminate()
        return folder, process.wait(60)


def prepared(logs: Path, words: list[str], ends: str) -> Path:
    """The folder that a run will have; where it is to fail, another is in the way of its metrics."""
    folder = folder_of(compose_config([*words, f"paths.logs={logs}"]), Request(words))
    (folder / "metrics.json" if ends == "failed" else folder).mkdir(parents=True)
    return folder


def kinds(value: Any) -> Any:
    """The keys of a record and the types of its values."""
    if isinstance(value, dict):
        return {key: kinds(child) for key, child in value.items()}
    return [*map(kinds, value)] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("ends", ["complete", "interrupted", "failed"])
def test_it_writes_and_ends_as_a_run(tmp_path: Path, ends: str) -> None:
    words, found = list(OVERRIDES), []
    for name, start in (("run", run), ("stand-in", stand_in)):
        logs = tmp_path / name / "logs"
        logs.mkdir(parents=True)
        folder, code = start(logs, words, ends)
        record, known = json.loads((folder / "status.json").read_text()), read(folder)
        assert record["sessions"][-1].pop("command")
        error = folder / "error.log"
        found.append(
            {
                "code": code,
                "status": kinds(record),
                "signal": record["sessions"][-1].get("signal"),
                "epochs": (record["epoch"], record["epochs"], record["experiment"], record["id"]),
                "metrics": kinds(dict(known.metrics)),
                "read": (known.status, known.note, known.seed, known.experiment),
                "error": re.findall(r"^\w+Error", error.read_text(), flags=re.MULTILINE) if error.exists() else [],
                "files": {path.name for path in folder.rglob("*") if not path.name.startswith("events")} - EXTRA,
            }
        )
    of_run, of_stand_in = found
    assert of_stand_in == of_run
    assert of_run["read"][0] == ends
