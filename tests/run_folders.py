"""Folders of runs that were never trained."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from composing import composed
from omegaconf import OmegaConf

from src.config.compose import plain

DAY = "2026-03-{:02}T12:00:00+00:00"
"""When the nth session began."""
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@cache
def configurations(*overrides: str) -> tuple[str, str]:
    """A recipe.yaml and a config.yaml, as text."""
    cfg = composed(*overrides)
    recipe = OmegaConf.to_container(cfg, resolve=False)
    recipe["dataset"]["extra"] = "${paths.run}/somewhere"
    return tuple(yaml.dump(each, Dumper=DUMPER, sort_keys=False) for each in (recipe, plain(OmegaConf.create(recipe))))


def maker(logs: Path) -> Callable[..., Path]:
    """A function that writes the folder of a run; each begins a day after the one before."""
    days = count(1)

    def make(
        *overrides: str,
        seed: int = 0,
        status: str = "complete",
        acc: float = 0.5,
        metrics: Mapping[str, float] | None = None,
        **facts: Any,
    ) -> Path:
        n = next(days)
        name = next((word.partition("=")[2] for word in overrides if word.startswith("experiment=")), "quickstart")
        folder = logs / name / f"seed{seed}-{n}"
        folder.mkdir(parents=True)
        recipe, config = configurations(*overrides, f"seed={seed}")
        place = f"  run: {folder}\n"
        (folder / "recipe.yaml").write_text(recipe.replace("  run: null\n", place))
        (folder / "config.yaml").write_text(config.replace("  run: null\n", place))
        own = {"started": DAY.format(n), "ended": None, "status": status, "host": "elsewhere", "pid": os.getpid()}
        record = {"status": status, "experiment": name, "id": folder.name, "data": "digits-1", "epoch": 3, "epochs": 30}
        record |= {"best": 0.75, "seconds": 100.0, "sessions": [own]}
        (folder / "status.json").write_text(json.dumps(record | facts))
        if status == "complete":
            found = {"test/acc": acc, "val/acc": 0.75, "parameters": 255_242} if metrics is None else metrics
            (folder / "metrics.json").write_text(json.dumps(found))
        return folder

    return make


def sessions(**facts: Any) -> list[dict[str, Any]]:
    """Two sessions of a run; the last is of this process unless facts say otherwise."""
    first = {"started": DAY.format(1), "host": "elsewhere", "pid": 1}
    return [first, {"started": DAY.format(2), "host": socket.gethostname(), "pid": os.getpid()} | facts]


def ended() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
