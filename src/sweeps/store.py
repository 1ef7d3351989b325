"""What became of every trial of a sweep, kept in one file as it happens."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from src.runs.checkpoints import write_json
from src.runs.folder import read_json
from src.runs.status import now, read_status

STATES = ("waiting", "running", "complete", "stopped", "interrupted", "failed", "out of memory")
"""`stopped` is what early stopping ended; like `complete`, it is not taken up again."""
_FINISHED = ("complete", "stopped")
_FILE = "trials.json"


@dataclass
class TrialRecord:
    """What is known of one trial; the fields are those of `trials.json`."""

    name: str
    folder: str
    point: list[str]
    epochs: int
    state: str = "waiting"
    epoch: int = 0
    value: float | None = None
    """Of the metric, in the last epoch; of a complete trial the best."""
    history: list[tuple[int, float]] = field(default_factory=list)
    """(epoch, metric), as the scheduler saw them."""
    params: dict[str, Any] | None = None
    """What a search proposed."""
    starts: int = 0
    device: str = ""
    host: str = ""
    why: str = ""
    log: str = ""
    changed: str = ""
    """When the state last did."""

    @property
    def label(self) -> str:
        """What tells it from the others."""
        return " ".join(self.point) or self.name

    @property
    def finished(self) -> bool:
        """Whether it is not taken up again."""
        return self.state in _FINISHED

    @property
    def location(self) -> str:
        """The machine that it ran on last, and its GPU."""
        gpu = f" GPU {self.device}" if self.device else ""
        return f"{self.host}{gpu}" if self.host else ""


class TrialStore:
    """The records of all trials of a sweep, with values of one metric; every change of a state is written at once."""

    def __init__(self, folder: Path, metric: str) -> None:
        self.folder, self.metric = folder, metric
        self.records: dict[str, TrialRecord] = {}
        self._lock = threading.RLock()
        for fields in read_json(folder / _FILE).get("trials", []):
            record = TrialRecord(**fields)
            record.history = [(epoch, value) for epoch, value in record.history]
            self.records[record.name] = reconciled(record)

    def add(
        self, name: str, folder: Path, point: list[str], epochs: int, params: dict[str, Any] | None = None
    ) -> TrialRecord:
        """The record of a trial, a new one if it has none."""
        with self._lock:
            if name not in self.records:
                log = str((self.folder / "logs" / f"{name}.log").absolute())
                record = TrialRecord(name, str(folder), point, epochs, params=params, log=log)
                self.records[name] = reconciled(record)
                self._write()
            return self.records[name]

    def update(self, name: str, state: str, **facts: Any) -> None:
        """Set the state of a record, and other fields, and write the file."""
        with self._lock:
            self.records[name] = replace(self.records[name], state=state, changed=now(), **facts)
            self._write()

    def add_report(self, name: str, report: dict[str, Any]) -> None:
        """Take over what a worker reports."""
        with self._lock:
            record = self.records[name]
            record.epoch, record.device, record.host = report["epoch"], report["device"], report["host"]
            if (value := report.get(self.metric)) is not None:
                record.value = value
                if not record.history or record.history[-1][0] < record.epoch:
                    record.history.append((record.epoch, value))
                    self._write()

    def _write(self) -> None:
        """Write the file, whole or not at all."""
        content = {"metric": self.metric, "trials": [asdict(record) for record in self.records.values()]}
        write_json(self.folder / _FILE, content)


def reconciled(record: TrialRecord) -> TrialRecord:
    """A record as its run's folder has it: the driver may not have been there to see how it ended."""
    status = read_status(Path(record.folder))
    if status.get("status") == "complete":
        record.state, record.epoch, record.value = "complete", status.get("epoch", 0), status.get("best")
        record.why = ""
    elif record.state == "complete":  # its folder was removed
        record.state = "waiting"
    elif record.state == "running":
        record.state, record.epoch = "interrupted", max(record.epoch, status.get("epoch", 0))
    return record
