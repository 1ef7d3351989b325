"""Sweeps of tiny runs, in processes of their own, and what is left of them."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from kills import CONTEXT, SMALL

from src.sweeps.cluster import TRAIN
from src.sweeps.store import TrialRecord

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = ROOT / "tests" / "stand_in_run.py"
"""What runs are in a test of sweeps that does not train: seconds instead of ten, and hardly any work."""
TINY = (*SMALL, "callbacks.checkpoint.every_steps=null", "sweep.gpus=2")


def start(folder: Path, *words: str, environment: Mapping[str, str] | None = None, train: Path = TRAIN) -> BaseProcess:
    """Start a sweep whose logs are in a folder.

    The driver is forked from a process that has PyTorch in memory, which saves the seconds that Python takes to import
    it. Its runs are started as always.

    Args:
        folder: of the logs, and of what is printed.
        words: overrides of the sweep.
        environment: variables beside those that are there.
        train: the script that runs are processes of.
    """
    overrides = [*TINY, f"paths.logs={folder / 'logs'}", *words]
    driver = CONTEXT.Process(target=_drive, args=(overrides, folder, dict(environment or {}), train), daemon=True)
    driver.start()
    return driver


def _drive(overrides: list[str], folder: Path, environment: Mapping[str, str], train: Path) -> None:
    """What `python scripts/sweep.py` does."""
    import torch

    from scripts import sweep
    from src.sweeps import driver

    driver.TRAIN = train
    os.chdir(folder)
    for key in [key for key in os.environ if key.startswith("RAY_")]:
        del os.environ[key]
    os.environ.update(environment)
    sys.stdout = sys.stderr = (folder / "out.txt").open("a", buffering=1)
    for number in (1, 2):  # of processes that this one starts
        os.dup2(sys.stdout.fileno(), number)
    sys.argv = [str(ROOT / "scripts" / "sweep.py"), *overrides]
    torch.set_num_threads(1)
    sweep.main()


def finish(driver: BaseProcess, folder: Path, code: int = 0) -> str:
    """Wait for the end of a sweep.

    Returns:
        What it and those before it in this folder printed.
    """
    driver.join(300)
    output = (folder / "out.txt").read_text()
    assert driver.exitcode == code, output
    return output


def sweep_folder(folder: Path) -> Path:
    """The folder of the one sweep that is there."""
    (found,) = (folder / "logs" / "sweeps").iterdir()
    return found


def records_of(folder: Path) -> dict[str, TrialRecord]:
    """All trials, by what was swept."""
    records = json.loads((sweep_folder(folder) / "trials.json").read_text())["trials"]
    return {" ".join(record["point"]): TrialRecord(**record) for record in records}


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (OSError, ValueError, KeyError):  # not there yet
            pass
        time.sleep(0.05)
    raise AssertionError(f"waited for {what} in vain")


def placements(folder: Path) -> list[dict[str, Any]]:
    """Where and when every run of the sweep was, one for every time that it was started."""
    return [json.loads(path.read_text()) for path in sorted((sweep_folder(folder) / "placements").glob("*.json"))]


def clashes(placed: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs that were on one device at the same time."""
    found = []
    for i, one in enumerate(placed):
        for other in placed[:i]:
            shared = set(re.findall(r"\d+", one["device"])) & set(re.findall(r"\d+", other["device"]))
            together = one["began"] < other["ended"] and other["began"] < one["ended"]
            if shared and together and one["node"] == other["node"]:
                found.append(f"{one['name']} and {other['name']} on {one['node'][:8]}:{','.join(sorted(shared))}")
    return found


def busy(placed: Sequence[Mapping[str, Any]], slots: int) -> float:
    """The share of the time from the first start to the last end in which slots had a run."""
    ended = [placement for placement in placed if placement["ended"] is not None]
    if not ended:
        return 0.0
    span = max(placement["ended"] for placement in ended) - min(placement["began"] for placement in ended)
    return sum(placement["ended"] - placement["began"] for placement in ended) / (slots * span)
