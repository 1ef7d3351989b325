"""Searches that learn from what has run, and go on with it: Optuna and ASHA, with the history of the store."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from src.sweeps.space import Axis, Interval
from src.sweeps.store import TrialRecord, TrialStore
from src.sweeps.sweep import Sweep


def optuna_search(sweep: Sweep, store: TrialStore, order: Callable[[TrialRecord], dict[str, Any]]) -> _OptunaProposals:
    """Optuna, told of every trial that is finished; those that are not are proposed first.

    Its generator starts anew from the seed and the number of trials, so what it proposes next depends on them alone.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    records = [record for record in store.records.values() if record.params is not None]
    result = _OptunaProposals(
        space={axis.key: _distribution(axis) for axis in sweep.axes},
        metric=sweep.metric,
        mode=sweep.mode,
        points_to_evaluate=[record.params for record in records if not record.finished] or None,
        seed=sweep.cfg.seed + len(records),
    )
    result.sweep, result.store, result.order = sweep, store, order
    for record in records:
        if record.finished and record.value is not None:
            pruned = record.state == "stopped"
            values = [value for _, value in record.history] or [record.value]
            result.add_evaluated_point(record.params, record.value, pruned=pruned, intermediate_values=values)
    return result


class _OptunaProposals(OptunaSearch):
    """Turns points into orders, and leaves out reports from before the first validation."""

    sweep: Sweep
    store: TrialStore
    order: Callable[[TrialRecord], dict[str, Any]]

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        params = super().suggest(trial_id)
        if params is None:
            return None
        point = tuple(axis.override(params[axis.key]) for axis in self.sweep.axes)
        trial = self.sweep.trial(point)
        record = self.store.add(trial.name, trial.folder, list(point), trial.epochs, params)
        return {"order": self.order(record)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self.metric in result:
            super().on_trial_result(trial_id, result)

    def save(self, checkpoint_path: str) -> None:
        """The store has it all."""

    def __getstate__(self) -> dict[str, Any]:
        """Nor need Ray keep it."""
        return {}


def _distribution(axis: Axis) -> BaseDistribution:
    """An axis as Optuna has it."""
    interval: Interval | None = axis.interval
    if interval is None:
        return CategoricalDistribution(axis.values)
    kind = IntDistribution if interval.whole else FloatDistribution
    return kind(interval.low, interval.high, log=interval.logarithmic)


def early_stopping(sweep: Sweep, store: TrialStore) -> TrialScheduler:
    """ASHA, told what earlier trials have reached; or none."""
    if (settings := sweep.cfg.early_stopping) is None:
        return FIFOScheduler()
    epochs = sweep.base.train.epochs
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=sweep.metric,
        mode=sweep.mode,
        max_t=max(epochs, settings.grace),
        grace_period=settings.grace,
        reduction_factor=settings.reduction,
        # A trial that reaches the end is not stopped there, before its test.
        stop_last_trials=False,
    )
    for record in store.records.values():
        if record.finished:  # the others report again
            earlier: Any = SimpleNamespace(trial_id=f"earlier-{record.name}", stub=True, config={})
            scheduler.on_trial_add(None, earlier)
            for epoch, value in record.history:
                scheduler.on_trial_result(None, earlier, {"epoch": epoch, sweep.metric: value})
    return scheduler
