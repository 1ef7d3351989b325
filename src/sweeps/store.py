"""What became of every trial of a sweep, kept in one file as it happens."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from src.runs.checkpoints import write_text
from src.runs.folder import read_json
from src.runs.status import now, read_status

FILE = "trials.json"
STATES = ("waiting", "running", "complete", "stopped", "interrupted", "failed", "out of memory")
"""`stopped` is what early stopping ended; like `complete`, it is not taken up again."""
OVER = ("complete", "stopped")


@dataclass
class Entry:
    """One trial."""

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
    def over(self) -> bool:
        return self.state in OVER


class Ledger:
    """All trials of a sweep; every change of a state is written at once.

    Args:
        folder: of the sweep.
        metric: what `value` is of.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        self.folder, self.metric = folder, metric
        self.entries: dict[str, Entry] = {}
        self._lock = threading.RLock()
        for record in read_json(folder / FILE).get("trials", []):
            entry = Entry(**record)
            entry.history = [(epoch, value) for epoch, value in entry.history]
            self.entries[entry.name] = settled(entry)

    def add(
        self, name: str, folder: Path, point: list[str], epochs: int, params: dict[str, Any] | None = None
    ) -> Entry:
        """The entry of a trial, a new one if it has none."""
        with self._lock:
            if name not in self.entries:
                log = str((self.folder / "logs" / f"{name}.log").absolute())
                entry = Entry(name, str(folder), point, epochs, params=params, log=log)
                self.entries[name] = settled(entry)
                self.write()
            return self.entries[name]

    def change(self, name: str, **facts: Any) -> None:
        """Note facts, and write the file if the state is among them."""
        with self._lock:
            entry = self.entries[name]
            for key, value in facts.items():
                setattr(entry, key, value)
            if "state" in facts:
                entry.changed = now()
                self.write()

    def note(self, name: str, result: dict[str, Any]) -> None:
        """Take over what a worker reports."""
        with self._lock:
            entry = self.entries[name]
            entry.epoch, entry.device, entry.host = result["epoch"], result["device"], result["host"]
            if (value := result.get(self.metric)) is not None:
                entry.value = value
                if not entry.history or entry.history[-1][0] < entry.epoch:
                    entry.history.append((entry.epoch, value))
                    self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        with self._lock:
            content = {"metric": self.metric, "trials": [asdict(entry) for entry in self.entries.values()]}
            write_text(self.folder / FILE, json.dumps(content, indent=2) + "\n")


def settled(entry: Entry) -> Entry:
    """An entry as its run's folder has it: the driver may not have been there to see how it ended."""
    status = read_status(Path(entry.folder))
    if status.get("status") == "complete":
        entry.state, entry.epoch, entry.value, entry.why = "complete", status.get("epoch", 0), status.get("best"), ""
    elif entry.state == "complete":  # its folder was removed
        entry.state = "waiting"
    elif entry.state == "running":
        entry.state, entry.epoch = "interrupted", max(entry.epoch, status.get("epoch", 0))
    return entry
