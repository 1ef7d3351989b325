"""What Ray Tune says of trials, into the ledger."""

from __future__ import annotations

from typing import Any

from ray import tune

from src.sweeps.placements import placements
from src.sweeps.store import Ledger


class Listener(tune.Callback):
    """Keeps the ledger while Ray Tune runs."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def __getstate__(self) -> dict[str, Any]:
        """Ray would keep it for a resumption of its own, which the ledger makes needless."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = name_of(trial)
        self.ledger.change(name, state="running", starts=self.ledger.entries[name].starts + 1, why="")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.ledger.note(name_of(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        state = result.get("outcome", "stopped")  # which only a scheduler's decision leaves without an outcome
        why = result.get("why", "") if state != "stopped" else f"early stopping after epoch {result.get('epoch', 0)}"
        self.ledger.change(name_of(trial), state=state, why=why)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ledger.change(name_of(trial), state="running", why=why_of(self.ledger, trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.ledger.change(name_of(trial), state="failed", why=why_of(self.ledger, trial))


def name_of(trial: Any) -> str:
    """The run's name."""
    return trial.config["order"]["name"]


def why_of(ledger: Ledger, trial: Any) -> str:
    """Why a trial was lost, as its worker wrote it down; Ray may not know it yet."""
    own = [place for place in placements(ledger.folder) if place["name"] == name_of(trial)]
    last = max(own, key=lambda place: place["began"], default={})
    return last.get("why") or "its machine or its worker was lost"
