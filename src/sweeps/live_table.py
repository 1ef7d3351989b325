"""A sweep while it runs: a live table in a terminal, a line for every event elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from src.runs.status import read_status
from src.sweeps.store import STATES, Entry, Ledger

STYLES = {"running": "cyan", "complete": "green", "failed": "red", "out of memory": "red", "interrupted": "yellow"}
MOST = 30
"""Trials in the live table; of those that wait or are over the last ones are left out."""
PERIOD = 1.0


class Board:
    """Shows a ledger until it is left.

    Args:
        ledger: what is shown.
        names: of which trials; None is all.
    """

    def __init__(self, ledger: Ledger, names: Collection[str] | None = None) -> None:
        self.ledger, self.names = ledger, names
        self.places = 1
        self.console = Console(markup=False, highlight=False, emoji=False)
        self._shown: dict[str, tuple[str, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Board:
        self._shown = {entry.name: (entry.state, entry.epoch) for entry in self.entries()}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def entries(self) -> list[Entry]:
        """Those that are shown."""
        return [entry for entry in list(self.ledger.entries.values()) if self.names is None or entry.name in self.names]

    def _watch(self) -> None:
        if self.console.is_terminal:
            with Live(console=self.console, auto_refresh=False, transient=True) as live:
                while not self._over.wait(PERIOD):
                    live.update(self.table(), refresh=True)
            return
        while not self._over.wait(PERIOD):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        """What is new, a line each."""
        for entry in self.entries():
            now = (entry.state, entry.epoch if entry.state == "running" else 0)
            if self._shown.get(entry.name) != now:
                self._shown[entry.name] = now
                self.console.print(line(entry), soft_wrap=True)

    def table(self) -> Group:
        """The live table."""
        result = Table()
        for name, justify in (
            ("trial", "left"),
            ("state", "left"),
            ("device", "left"),
            ("epoch", "right"),
            (self.ledger.metric, "right"),
            ("time left", "right"),
        ):
            result.add_column(name, justify=justify, overflow="fold")
        entries = self.entries()
        order = sorted(entries, key=lambda entry: (entry.state != "running", entry.state == "waiting"))
        for entry in order[:MOST]:
            result.add_row(*row(entry), style=STYLES.get(entry.state))
        rest = f"; {len(entries) - MOST} more trials are not shown" if len(entries) > MOST else ""
        return Group(result, f"{counted(entries)}{rest}; {span(self.left(entries))} left in all")

    def left(self, entries: list[Entry]) -> float | None:
        """Seconds until all is done, if every epoch takes as long as those so far."""
        paces = [pace for entry in entries if (pace := pace_of(entry)) is not None]
        if not paces:
            return None
        epochs = sum(entry.epochs - entry.epoch for entry in entries if entry.state in ("waiting", "running"))
        return epochs * sum(paces) / len(paces) / max(1, self.places)


def row(entry: Entry) -> list[str]:
    """A trial in the live table."""
    pace = pace_of(entry) if entry.state == "running" else None
    left = span(None if pace is None else pace * (entry.epochs - entry.epoch)) if entry.state == "running" else ""
    return [entry.label, entry.state, place(entry), f"{entry.epoch}/{entry.epochs}", number(entry.value), left]


def line(entry: Entry) -> str:
    """A trial, where there is no live table."""
    facts = [entry.label, entry.state, f"epoch {entry.epoch}/{entry.epochs}"]
    facts += [f"on {place(entry)}"] if place(entry) else []
    facts += [number(entry.value)] if entry.value is not None else []
    facts += [entry.why] if entry.why else []
    return time.strftime("%H:%M:%S  ") + ", ".join(facts)


def place(entry: Entry) -> str:
    """The machine and its GPU."""
    gpu = f" GPU {entry.device}" if entry.device else ""
    return f"{entry.host}{gpu}" if entry.host else ""


def pace_of(entry: Entry) -> float | None:
    """Seconds that an epoch takes; None if there was none yet."""
    status = read_status(Path(entry.folder))
    epoch = status.get("epoch", 0)
    return status["seconds"] / epoch if epoch and status.get("seconds") else None


def counted(entries: list[Entry]) -> str:
    """How many are in which state."""
    counts = {state: sum(entry.state == state for entry in entries) for state in STATES}
    return ", ".join(f"{n} {state}" for state, n in counts.items() if n)


def number(value: float | None) -> str:
    """To four places."""
    return "" if value is None else f"{value:.4f}"


def span(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
