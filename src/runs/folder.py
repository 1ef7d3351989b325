"""The folder of a run: what its files are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Environment variables of the processes that a command starts.
RUN_FOLDER = "RUN_FOLDER"
"""Says where the run is, to the processes that the first one starts, and to a run of a sweep."""
DIE_WITH = "DIE_WITH"
"""The number of the process that a run of a sweep ends with."""


class RunFolder:
    """Where the files of a run are, whether or not they are there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        """The configuration, resolved."""
        self.recipe = path / "recipe.yaml"
        """The configuration as it was composed, with interpolations."""
        self.status = path / "status.json"
        self.metrics = path / "metrics.json"
        self.checkpoints = path / "checkpoints"
        self.projected = path / "checkpoints" / "projected.pt"
        """The weights that a run began with which was projected from another."""
        self.projection = path / "projection.json"
        """What was measured when it was."""
        self.tensorboard = path / "tensorboard"
        self.evaluations = path / "evaluations"
        self.lock = path / ".lock"

    def error_log(self, rank: int = 0) -> Path:
        """The traceback of a process that failed."""
        return self.path / (f"error-rank{rank}.log" if rank else "error.log")


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object; nothing if it is not there or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
