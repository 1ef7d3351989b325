"""Searches that learn from what has run, and go on with it: Optuna and ASHA, with the history of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from src.sweeps.space import Axis
from src.sweeps.store import Entry, Ledger
from src.sweeps.sweep import Sweep


def searcher(sweep: Sweep, ledger: Ledger, order: Callable[[Entry], dict[str, Any]]) -> Proposals:
    """Optuna, told of every trial that is over; those that are not are proposed first.

    Its generator starts anew from the seed and the number of trials, so what it proposes next depends on them alone.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    entries = [entry for entry in ledger.entries.values() if entry.params is not None]
    result = Proposals(
        space={axis.key: domain(axis) for axis in sweep.axes},
        metric=sweep.metric,
        mode=sweep.mode,
        points_to_evaluate=[entry.params for entry in entries if not entry.over] or None,
        seed=sweep.cfg.seed + len(entries),
    )
    result.sweep, result.ledger, result.order = sweep, ledger, order
    for entry in entries:
        if entry.over and entry.value is not None:
            pruned = entry.state == "stopped"
            values = [value for _, value in entry.history] or [entry.value]
            result.add_evaluated_point(entry.params, entry.value, pruned=pruned, intermediate_values=values)
    return result


class Proposals(OptunaSearch):
    """Turns points into orders, and leaves out reports from before the first validation."""

    sweep: Sweep
    ledger: Ledger
    order: Callable[[Entry], dict[str, Any]]

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        params = super().suggest(trial_id)
        if params is None:
            return None
        point = tuple(axis.override(params[axis.key]) for axis in self.sweep.axes)
        trial = self.sweep.trial(point)
        entry = self.ledger.add(trial.name, trial.folder, list(point), trial.epochs, params)
        return {"order": self.order(entry)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self.metric in result:
            super().on_trial_result(trial_id, result)

    def save(self, checkpoint_path: str) -> None:
        """The ledger has it all."""

    def __getstate__(self) -> dict[str, Any]:
        """Nor need Ray keep it."""
        return {}


def domain(axis: Axis) -> BaseDistribution:
    """An axis as Optuna has it."""
    if (interval := axis.interval) is None:
        return CategoricalDistribution(axis.values)
    kind = IntDistribution if interval.whole else FloatDistribution
    return kind(interval.low, interval.high, log=interval.logarithmic)


def early_stopping(sweep: Sweep, ledger: Ledger) -> TrialScheduler:
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
    for entry in ledger.entries.values():
        if entry.over:  # the others report again
            replay(scheduler, entry, sweep.metric)
    return scheduler


def replay(scheduler: ASHAScheduler, entry: Entry, metric: str) -> None:
    """Let a scheduler see what a trial reported in an earlier session."""
    earlier: Any = SimpleNamespace(trial_id=f"earlier-{entry.name}", stub=True, config={})
    scheduler.on_trial_add(None, earlier)
    for epoch, value in entry.history:
        scheduler.on_trial_result(None, earlier, {"epoch": epoch, metric: value})
