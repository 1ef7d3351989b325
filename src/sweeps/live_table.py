"""A sweep while it runs: a live table in a terminal, a line for every event elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Group
from rich.live import Live

from src.runs.status import read_status
from src.runs.tables import console, rich_table, state_counts
from src.sweeps.store import STATES, TrialRecord, TrialStore

STYLES = {"running": "cyan", "complete": "green", "failed": "red", "out of memory": "red", "interrupted": "yellow"}
_MAX_ROWS = 30
"""Trials in the live table; of those that wait or are over the last ones are left out."""
_PERIOD = 1.0
"""Seconds between two looks."""


class LiveTable:
    """Shows a store until it is left: the trials of some names, or all."""

    def __init__(self, store: TrialStore, names: Collection[str] | None = None) -> None:
        self.slots = 1
        """Runs at a time, by which the time left is estimated."""
        self._store, self._names = store, names
        self._console = console()
        self._shown: dict[str, tuple[str, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> LiveTable:
        self._shown = {record.name: (record.state, record.epoch) for record in self._records()}
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _records(self) -> list[TrialRecord]:
        """Those that are shown."""
        records = list(self._store.records.values())
        return [record for record in records if self._names is None or record.name in self._names]

    def _watch(self) -> None:
        if self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False, transient=True) as live:
                while not self._over.wait(_PERIOD):
                    live.update(self._table(), refresh=True)
            return
        while not self._over.wait(_PERIOD):
            self._print_news()
        self._print_news()

    def _print_news(self) -> None:
        """A line for every trial that has changed."""
        for record in self._records():
            now = (record.state, record.epoch if record.state == "running" else 0)
            if self._shown.get(record.name) != now:
                self._shown[record.name] = now
                self._console.print(_line(record), soft_wrap=True)

    def _table(self) -> Group:
        """The live table, and what is left below it."""
        records = self._records()
        order = sorted(records, key=lambda record: (record.state != "running", record.state == "waiting"))[:_MAX_ROWS]
        table = rich_table(
            ("trial", "state", "device", "epoch", self._store.metric, "time left"),
            map(_row, order),
            right=("epoch", self._store.metric, "time left"),
            styles=[STYLES.get(record.state) for record in order],
        )
        rest = f"; {len(records) - _MAX_ROWS} more trials are not shown" if len(records) > _MAX_ROWS else ""
        states = state_counts((record.state for record in records), STATES)
        return Group(table, f"{states}{rest}; {_clock(self._seconds_left(records))} left in all")

    def _seconds_left(self, records: Sequence[TrialRecord]) -> float | None:
        """Until all is done, if every epoch takes as long as those so far."""
        paces = [pace for record in records if (pace := _seconds_per_epoch(record)) is not None]
        if not paces:
            return None
        epochs = sum(record.epochs - record.epoch for record in records if record.state in ("waiting", "running"))
        return epochs * sum(paces) / len(paces) / max(1, self.slots)


def _row(record: TrialRecord) -> list[str]:
    """A trial in the live table."""
    left = ""
    if record.state == "running":
        pace = _seconds_per_epoch(record)
        left = _clock(None if pace is None else pace * (record.epochs - record.epoch))
    value = "" if record.value is None else f"{record.value:.4f}"
    return [record.label, record.state, record.location, f"{record.epoch}/{record.epochs}", value, left]


def _line(record: TrialRecord) -> str:
    """A trial, where there is no live table."""
    place = f"on {record.location}" if record.location else ""
    value = "" if record.value is None else f"{record.value:.4f}"
    facts = [record.label, record.state, f"epoch {record.epoch}/{record.epochs}", place, value, record.why]
    return time.strftime("%H:%M:%S  ") + ", ".join(filter(None, facts))


def _seconds_per_epoch(record: TrialRecord) -> float | None:
    """None if there was no epoch yet."""
    status = read_status(Path(record.folder))
    epoch = status.get("epoch", 0)
    return status["seconds"] / epoch if epoch and status.get("seconds") else None


def _clock(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
