"""What Ray Tune says of trials, into the store."""

from __future__ import annotations

import json
from typing import Any

from ray import tune

from src.sweeps.store import TrialStore


class Listener(tune.Callback):
    """Keeps the store while Ray Tune runs."""

    def __init__(self, store: TrialStore) -> None:
        self._store = store

    def __getstate__(self) -> dict[str, Any]:
        """Ray would keep it for a resumption of its own, which the store makes needless."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = _name(trial)
        self._store.update(name, state="running", starts=self._store.records[name].starts + 1, why="")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._store.add_report(_name(trial), result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        state = result.get("outcome", "stopped")  # which only a scheduler's decision leaves without an outcome
        why = result.get("why", "") if state != "stopped" else f"early stopping after epoch {result.get('epoch', 0)}"
        self._store.update(_name(trial), state=state, why=why)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._lose(_name(trial), "running")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._lose(_name(trial), "failed")

    def _lose(self, name: str, state: str) -> None:
        """Say why a trial was lost, as its worker wrote it down; Ray may not know it yet."""
        files = (self._store.folder / "placements").glob("*.json")
        own = [placement for file in files if (placement := json.loads(file.read_text()))["name"] == name]
        last = max(own, key=lambda placement: placement["began"], default={})
        self._store.update(name, state=state, why=last.get("why") or "its machine or its worker was lost")


def _name(trial: Any) -> str:
    """The run's name."""
    return trial.config["order"]["name"]
