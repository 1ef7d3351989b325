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
        self._store.update(_name(trial), state="running", why=_why_lost(self._store, _name(trial)))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._store.update(_name(trial), state="failed", why=_why_lost(self._store, _name(trial)))


def _name(trial: Any) -> str:
    """The run's name."""
    return trial.config["order"]["name"]


def _why_lost(store: TrialStore, name: str) -> str:
    """Why a trial was lost, as its worker wrote it down; Ray may not know it yet."""
    placements = [json.loads(path.read_text()) for path in (store.folder / "placements").glob("*.json")]
    own = [placement for placement in placements if placement["name"] == name]
    last = max(own, key=lambda placement: placement["began"], default={})
    return last.get("why") or "its machine or its worker was lost"
