"""Running a sweep: what is to be done, where there is room for it, and Ray Tune that places it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.config.compose import plain
from src.config.targets import ConfigError
from src.runs import folder, identity
from src.runs.checkpoints import write_text
from src.runs.process import handling
from src.sweeps.cluster import TRAIN, Capacity, check_gpus, ray_session
from src.sweeps.live_table import LiveTable
from src.sweeps.space import random_points
from src.sweeps.store import TrialRecord, TrialStore, reconciled
from src.sweeps.sweep import Sweep, Trial
from src.training.recipe import build, prepare

_FIRST_PORT, _PORTS = 20_000, 20_000
_LOUD = ("ray", "ray.tune.execution.tune_controller", "ray.tune.tune", "ray.tune.analysis.experiment_analysis")
"""Loggers that say again, at length, what the live table and the table at the end say."""


def run_sweep(sweep: Sweep, words: Sequence[str]) -> TrialStore:
    """Run what is left of a sweep; its folder keeps the words of the command. Raises ConfigError before any starts."""
    check_gpus(sweep)
    with _locked(sweep.folder):
        store, trials = TrialStore(sweep.folder, sweep.metric), sweep.trials()
        # Of a search some trial, to see whether there can be any.
        examples = trials or [sweep.trial(random_points(sweep.axes, sweep.sets, 1, sweep.cfg.seed)[0])]
        finished = {name for name, record in store.records.items() if record.finished}
        _check_trials([trial for trial in examples if trial.name not in finished])
        axes = [repr(axis) for axis in sweep.axes]
        description = {"command": list(words), "fixed": list(sweep.fixed), "axes": axes, **plain(sweep.cfg)}
        write_text(sweep.folder / "sweep.yaml", OmegaConf.to_yaml(OmegaConf.create(description)))
        for trial in trials:
            store.add(trial.name, trial.folder, list(trial.point), trial.epochs)
        names = {trial.name for trial in trials} or set(store.records)
        left = [record for name, record in store.records.items() if name in names and not record.finished]
        if left or _proposals_left(sweep, store):
            with (
                handling((signal.SIGTERM, signal.SIGHUP), lambda *_: signal.raise_signal(signal.SIGINT)),
                LiveTable(store, names if trials else None) as live_table,
                ray_session(sweep) as capacity,
            ):
                live_table.slots = capacity.slots
                _run_trials(sweep, store, left, capacity)
                _await_checkpoints(store, sweep.cfg.grace)
        return store


def _proposals_left(sweep: Sweep, store: TrialStore) -> int:
    """How many more points Optuna may propose."""
    return max(0, sweep.cfg.trials - len(store.records)) if sweep.cfg.search == "optuna" else 0


def _check_trials(trials: Sequence[Trial]) -> None:
    """Build every net, and prepare every data set once. Raises ConfigError with the point that cannot be."""
    prepared: list[dict[str, Any]] = []
    for trial in trials:
        try:
            recipe = build(trial.cfg)
            if (data := plain(trial.cfg.dataset)) not in prepared:
                prepare(recipe.datamodule)
                prepared.append(data)
        except ConfigError as error:
            raise ConfigError(f"the run with {' '.join(trial.point)} cannot be: {error}") from error


def _locked(folder: Path) -> AbstractContextManager[None]:
    """Hold a sweep's lock. Raises ConfigError if another driver has it."""
    return identity.locked(folder, lambda: f"{folder} is being run by another process; wait for it or stop it.")


def _run_trials(sweep: Sweep, store: TrialStore, left: Sequence[TrialRecord], capacity: Capacity) -> None:
    """Have Ray Tune run what is left."""
    import ray
    from ray import tune

    from src.sweeps import worker
    from src.sweeps.listener import Listener
    from src.sweeps.search import early_stopping, optuna_search

    for module in (worker, folder):
        ray.cloudpickle.register_pickle_by_value(module)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Those that have begun first: they are nearer to their end.
    records = sorted(left, key=lambda record: record.epoch == 0)
    order = partial(_order, sweep, store, capacity)
    search = optuna_search(sweep, store, order) if sweep.cfg.search == "optuna" else None
    space = {} if search else {"order": tune.grid_search([order(record) for record in records])}
    scratch = sweep.folder.absolute() / ".ray"
    gpus = {"gpu": capacity.gpus} if capacity.gpus else {}
    tuner = tune.Tuner(
        tune.with_resources(worker.Worker, {"cpu": capacity.cpus, **gpus}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=early_stopping(sweep, store),
            num_samples=len(left) + _proposals_left(sweep, store) if search else 1,
            max_concurrent_trials=capacity.slots if search else sweep.cfg.max_concurrent,
        ),
        run_config=tune.RunConfig(
            name=f"{time.time():.0f}",
            storage_path=str(scratch),
            failure_config=tune.FailureConfig(max_failures=sweep.cfg.retries),
            callbacks=[Listener(store)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # runs and the store have all that is worth keeping


def _order(sweep: Sweep, store: TrialStore, capacity: Capacity, record: TrialRecord) -> dict[str, Any]:
    """What the worker of a trial is told."""
    from src.sweeps.worker import Order

    index = list(store.records).index(record.name)
    start = zlib.crc32(str(sweep.folder).encode())
    placement = [f"trainer.devices={max(1, int(capacity.gpus))}", "observers.progress=null"]
    return Order(
        name=record.name,
        command=(sys.executable, str(TRAIN), *sweep.fixed, *record.point, *placement),
        cwd=os.getcwd(),
        folder=str(Path(record.folder).absolute()),
        log=record.log,
        placements=str(sweep.folder.absolute() / "placements"),
        epochs=record.epochs,
        metric=sweep.metric,
        threads=capacity.threads,
        port=_FIRST_PORT + (start + index) % _PORTS,
        grace=float(sweep.cfg.grace),
    )._asdict()


def _await_checkpoints(store: TrialStore, grace: float) -> None:
    """After an interruption, wait until the runs that were stopped have written their checkpoints."""
    from src.sweeps.worker import wait_for_lock

    until = time.monotonic() + grace
    for record in list(store.records.values()):
        if record.state == "running":
            wait_for_lock(Path(record.folder), max(0.0, until - time.monotonic()))
            store.update(record.name, state=reconciled(record).state)
