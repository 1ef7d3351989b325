"""The runs that there are, and what those that differ in the seed alone have come to."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from src.config.compose import compose_config, nearest
from src.config.instantiate import ConfigError
from src.runs.status import read_json, read_status

STATUSES = ("running", "complete", "interrupted", "failed", "damaged")
SLACK = 600
"""Seconds by which a process may seem to have begun after the session that it wrote down."""


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

    @cached_property
    def config(self) -> dict[str, Any] | None:
        """The resolved configuration; None if there is none that can be read."""
        try:
            config = yaml.load((self.folder / "config.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except (OSError, ValueError, yaml.YAMLError):
            return None
        return config if isinstance(config, dict) else None

    @property
    def seed(self) -> int | None:
        """Of the run."""
        return (self.config or {}).get("seed")


def runs(logs: Path) -> list[Run]:
    """Every run below a folder, newest first; those without a time are last.

    Folders without a status.json are no runs, and are looked into.
    """
    found = [read(folder) for folder in folders(logs)]
    return sorted(found, key=lambda run: (run.started is None, -timestamp(run), str(run.folder)))


def folders(logs: Path) -> Iterator[Path]:
    """Folders that have a status.json; there are no runs within runs."""
    for path, below, files in os.walk(logs):
        if "status.json" in files:
            below.clear()
            yield Path(path)
        below.sort()


def read(folder: Path) -> Run:
    """A run from its folder, whatever state its files are in."""
    record = read_status(folder)
    if running(record) and gone(record):
        # It may have ended, and said so, between the two looks at it.
        record = read_status(folder)
        if running(record):
            record |= {"status": "interrupted", "note": "was killed"}
    metrics = read_json(folder / "metrics.json") if record.get("status") == "complete" else {}
    numbers = {key: value for key in metrics if (value := number(metrics, key)) is not None}
    seconds = number(record, "seconds")
    return Run(
        folder=folder,
        experiment=text(record, "experiment") or folder.parent.name,
        id=text(record, "id") or folder.name,
        status=record["status"] if record.get("status") in STATUSES else "damaged",
        note=text(record, "note") or ("" if record.get("status") in STATUSES else "status.json cannot be read"),
        epoch=whole(record, "epoch"),
        epochs=whole(record, "epochs"),
        best=number(record, "best"),
        seconds=numbers.get("train/seconds") if seconds is None else seconds,
        started=moment(record.get("started")) or moment(sessions(record, 0).get("started")),
        data=text(record, "data"),
        metrics=numbers,
    )


def running(record: Mapping[str, Any]) -> bool:
    """Whether a run says that it is."""
    return record.get("status") == "running"


def gone(record: Mapping[str, Any]) -> bool:
    """Whether the process of the last session was on this machine, and is not there any more."""
    session = sessions(record, -1)
    pid = whole(session, "pid")
    if session.get("host") != socket.gethostname() or pid is None or pid < 1:
        return False
    if not alive(pid):
        return True
    # The number may have been given to another process since.
    started, began = moment(session.get("started")), beginning(pid)
    return started is not None and began is not None and began > started.timestamp() + SLACK


def alive(pid: int) -> bool:
    """Whether there is a process of this number; where that cannot be asked, there is."""
    if sys.platform == "win32":  # there, asking would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def beginning(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None where the system does not say."""
    try:
        # Its name, in parentheses, may have spaces.
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
        return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def sessions(record: Mapping[str, Any], which: int) -> dict[str, Any]:
    """The first or the last session; nothing if there is none."""
    there = record.get("sessions")
    session = there[which] if isinstance(there, list) and there else {}
    return session if isinstance(session, dict) else {}


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A number, not necessarily finite."""
    value = record.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole(record: Mapping[str, Any], key: str) -> int | None:
    """A whole number."""
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(record: Mapping[str, Any], key: str) -> str | None:
    """A text."""
    value = record.get(key)
    return value if isinstance(value, str) else None


def moment(value: Any) -> datetime | None:
    """A time, in UTC unless it says otherwise."""
    try:
        result = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return result if result.tzinfo else result.replace(tzinfo=UTC)


def timestamp(run: Run) -> float:
    """When a run began; 0 if it does not say."""
    return run.started.timestamp() if run.started else 0.0


@dataclass(frozen=True)
class Selection:
    """The runs that a command is about."""

    logs: Path
    there: Sequence[Run]
    """All in this folder."""
    chosen: Sequence[Run]
    """Those of the experiments that were named; all if none was."""


def select(words: Sequence[str], command: str) -> Selection:
    """The runs of some experiments.

    Args:
        words: names of experiments, and paths.logs=FOLDER if runs are not where the configuration has them.
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
    there = runs(logs)
    names, experiments = [word for word in words if "=" not in word], sorted({run.experiment for run in there})
    for name in names:
        if experiments and name not in experiments:
            raise ConfigError(f"`--experiment` {name!r} has no runs in {logs}. {nearest(name, experiments)}")
    return Selection(logs, there, [run for run in there if not names or run.experiment in names])
