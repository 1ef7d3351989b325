"""Runs as the files of their folders describe them."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any

import psutil
import yaml

from src.config.compose import compose_config, nearest
from src.config.targets import ConfigError
from src.runs.folder import RunFolder, read_json
from src.runs.status import read_status
from src.runs.upgrade import upgrade

STATUSES = ("running", "complete", "interrupted", "failed", "damaged")
_SLACK = 600
"""Seconds by which a process may seem to have begun after the session that it wrote down."""
_PRIMARY = "acc"
"""The metric that selects in runs whose configuration does not name one."""


@dataclass(frozen=True, eq=False)
class Run:
    """What the files of a run's folder say; None is what they do not say, as those of older runs."""

    folder: Path
    experiment: str
    id: str
    status: str
    """One of `STATUSES`."""
    note: str = ""
    """Why, where the status needs it."""
    epoch: int | None = None
    epochs: int | None = None
    best: float | None = None
    """Validation score of the best epoch."""
    seconds: float | None = None
    """Of training, in all sessions."""
    started: datetime | None = None
    data: str | None = None
    """The name of the splits."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Those of metrics.json, if the run is complete."""

    @property
    def state(self) -> str:
        """The status, and why."""
        return f"{self.status} ({self.note})" if self.note else self.status

    @property
    def files(self) -> RunFolder:
        """The folder, with the names of its files."""
        return RunFolder(self.folder)

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The resolved configuration, in today's terms; None if there is none that can be read."""
        return _read_config(self.files.config)

    @cached_property
    def recipe(self) -> dict[str, Any] | None:
        """The configuration as it was composed, in today's terms; `config` if that cannot be read."""
        recipe = _read_config(self.files.recipe)
        return self.config if recipe is None else recipe

    @property
    def seed(self) -> int | None:
        """Of the run."""
        return (self.recipe or {}).get("seed")

    @property
    def primary(self) -> str:
        """The name of the metric that selects, and that the run is judged by."""
        task = (self.recipe or {}).get("task")
        return (task or {}).get("primary") or _PRIMARY

    @property
    def score(self) -> float | None:
        """That metric on the test set."""
        return self.metrics.get(f"test/{self.primary}") if self.metrics else None


def read(folder: Path) -> Run:
    """A run from its folder, whatever state its files are in."""
    record = read_status(folder)
    if record.get("status") == "running" and _process_has_ended(record):
        # It may have ended, and said so, between the two looks at it.
        record = read_status(folder)
        if record.get("status") == "running":
            record |= {"status": "interrupted", "note": "was killed"}
    known = record.get("status") in STATUSES
    metrics = read_json(RunFolder(folder).metrics) if record.get("status") == "complete" else {}
    numbers = {key: value for key in metrics if (value := _number(metrics, key)) is not None}
    seconds = _number(record, "seconds")
    return Run(
        folder=folder,
        experiment=_typed(record, "experiment", str) or folder.parent.name,
        id=_typed(record, "id", str) or folder.name,
        status=record["status"] if known else "damaged",
        note=_typed(record, "note", str) or ("" if known else "status.json cannot be read"),
        epoch=_typed(record, "epoch", int),
        epochs=_typed(record, "epochs", int),
        best=_number(record, "best"),
        seconds=numbers.get("train/seconds") if seconds is None else seconds,
        started=_time(record.get("started")) or _time(session(record, 0).get("started")),
        data=_typed(record, "data", str),
        metrics=numbers,
    )


def session(record: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A session of a status.json, 0 is the first and -1 the last; nothing if there is none."""
    sessions = record.get("sessions")
    found = sessions[index] if isinstance(sessions, list) and sessions else {}
    return found if isinstance(found, dict) else {}


def timestamp(run: Run) -> float:
    """When a run began; 0 if it does not say."""
    return run.started.timestamp() if run.started else 0.0


def select(words: Sequence[str], command: str) -> tuple[Path, list[Run]]:
    """Where runs are, and the runs of some experiments.

    Args:
        words: names of experiments, none for all; and paths.logs=FOLDER if runs are not where the configuration says.
        command: who asks.

    Raises:
        ConfigError: for another override, or if there are runs, but none of an experiment, with the nearest that there
            are.
    """
    overrides = [word for word in words if "=" in word]
    for override in overrides:
        if override.partition("=")[0] != "paths.logs":
            raise ConfigError(f"`{command}` takes paths.logs=FOLDER and options, but got {override!r}; see --help.")
    logs = Path(compose_config(overrides).paths.logs)
    found = _runs_below(logs)
    names, experiments = [word for word in words if "=" not in word], sorted({run.experiment for run in found})
    for name in names:
        if experiments and name not in experiments:
            raise ConfigError(f"`--experiment` {name!r} has no runs in {logs}. {nearest(name, experiments)}")
    return logs, [run for run in found if not names or run.experiment in names]


def _runs_below(logs: Path) -> list[Run]:
    """Every run, a folder with a status.json, below a folder, newest first; those without a time are last."""
    found = []
    for path, below, _ in os.walk(logs):
        if RunFolder(Path(path)).status.exists():
            found.append(read(Path(path)))
            below.clear()  # there are no runs within runs
    return sorted(found, key=lambda run: (run.started is None, -timestamp(run), str(run.folder)))


def _read_config(path: Path) -> dict[str, Any] | None:
    """A configuration in plain containers and today's terms; None if there is none that can be read."""
    try:
        # Not OmegaConf, which takes a hundred times as long.
        config = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return dict(upgrade(config)) if isinstance(config, dict) else None


def _process_has_ended(record: Mapping[str, Any]) -> bool:
    """Whether the process of the last session was on this machine, and has ended; False where that is not known."""
    last = session(record, -1)
    pid = _typed(last, "pid", int)
    if last.get("host") != socket.gethostname() or pid is None or pid < 1:
        return False
    try:
        began = psutil.Process(pid).create_time()
    except (psutil.NoSuchProcess, OverflowError):
        return True
    except psutil.Error:
        return False
    # The number may have been given to another process since.
    started = _time(last.get("started"))
    return started is not None and began > started.timestamp() + _SLACK


def _number(record: Mapping[str, Any], key: str) -> float | None:
    """A number, not necessarily finite; None if the value is none."""
    value = _typed(record, key, int | float)
    return None if value is None else float(value)


def _typed(record: Mapping[str, Any], key: str, kind: type | UnionType) -> Any:
    """A value of a type; None if it is of another, as true and false are for numbers."""
    value = record.get(key)
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _time(value: Any) -> datetime | None:
    """A time, in UTC unless it says otherwise; None if the value is none."""
    try:
        result = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return result if result.tzinfo else result.replace(tzinfo=UTC)
