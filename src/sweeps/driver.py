"""Running a sweep: what is to be done, where there is room for it, and Ray Tune that places it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from src.config.compose import plain
from src.config.instantiate import ConfigError
from src.runs import identity
from src.runs.checkpoints import write_text
from src.sweeps.cluster import SCRIPT, Room, check_gpus, started
from src.sweeps.live_table import Board
from src.sweeps.space import drawn
from src.sweeps.store import Entry, Ledger, settled
from src.sweeps.sweep import Sweep, Trial
from src.training.recipe import build, prepare

FIRST_PORT, PORTS = 20_000, 20_000
LOUD = ("ray", "ray.tune.execution.tune_controller", "ray.tune.tune", "ray.tune.analysis.experiment_analysis")
"""Loggers that say again, at length, what the board and the table at the end say."""


def run(sweep: Sweep, words: Sequence[str]) -> Ledger:
    """Run what is left of a sweep.

    Args:
        sweep: what to run.
        words: the command, for the record.

    Returns:
        What became of its trials.

    Raises:
        ConfigError: before anything is started, if something cannot be honoured.
    """
    check_gpus(sweep)
    with held(sweep.folder):
        ledger, trials = Ledger(sweep.folder, sweep.metric), sweep.trials()
        check_runs([trial for trial in trials or samples(sweep) if not over(ledger, trial)])
        write_text(sweep.folder / "sweep.yaml", OmegaConf.to_yaml(OmegaConf.create(record(sweep, words))))
        for trial in trials:
            ledger.add(trial.name, trial.folder, list(trial.point), trial.epochs)
        names = {trial.name for trial in trials} or set(ledger.entries)
        left = [entry for name, entry in ledger.entries.items() if name in names and not entry.over]
        if left or proposals(sweep, ledger):
            with interruptible(), Board(ledger, names if trials else None) as board, started(sweep) as room:
                board.places = room.places
                place(sweep, ledger, left, room)
                settle(ledger, sweep.cfg.grace)
        return ledger


def over(ledger: Ledger, trial: Trial) -> bool:
    """Whether a trial is done with."""
    return trial.name in ledger.entries and ledger.entries[trial.name].over


def samples(sweep: Sweep) -> list[Trial]:
    """Some run of a search, to see whether there can be any."""
    return [sweep.trial(drawn(sweep.axes, sweep.sets, 1, sweep.cfg.seed)[0])]


def proposals(sweep: Sweep, ledger: Ledger) -> int:
    """How many more points Optuna may propose."""
    return max(0, sweep.cfg.trials - len(ledger.entries)) if sweep.cfg.search == "optuna" else 0


def record(sweep: Sweep, words: Sequence[str]) -> dict[str, Any]:
    """What a sweep is, for its folder."""
    return {
        "command": list(words),
        "fixed": list(sweep.fixed),
        "axes": [repr(axis) for axis in sweep.axes],
        **plain(sweep.cfg),
    }


def check_runs(trials: Sequence[Trial]) -> None:
    """Build every net, and prepare every data set once, before the first run is started.

    Raises:
        ConfigError: with the point that cannot be.
    """
    prepared = set()
    for trial in trials:
        try:
            recipe = build(trial.cfg)
            key = json.dumps(plain(trial.cfg.dataset), sort_keys=True, default=str)
            if key not in prepared:
                prepare(recipe.datamodule)
                prepared.add(key)
        except ConfigError as error:
            raise ConfigError(f"the run with {' '.join(trial.point)} cannot be: {error}") from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a sweep's lock.

    Raises:
        ConfigError: if another driver has it.
    """
    with identity.locked(folder, lambda: f"{folder} is being run by another process; wait for it or stop it."):
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP do what Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def place(sweep: Sweep, ledger: Ledger, left: Sequence[Entry], room: Room) -> None:
    """Have Ray Tune run what is left."""
    import ray
    from ray import tune

    from src.sweeps import worker
    from src.sweeps.listener import Listener
    from src.sweeps.search import early_stopping, searcher

    ray.cloudpickle.register_pickle_by_value(worker)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Those that have begun first: they are nearer to their end.
    entries = sorted(left, key=lambda entry: entry.epoch == 0)
    make = Orders(sweep, ledger, room)
    search = searcher(sweep, ledger, make) if sweep.cfg.search == "optuna" else None
    space = {} if search else {"order": tune.grid_search([make(entry) for entry in entries])}
    scratch = sweep.folder.absolute() / ".ray"
    tuner = tune.Tuner(
        tune.with_resources(worker.Trial, {"cpu": room.cpus, **({"gpu": room.gpus} if room.gpus else {})}),
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=early_stopping(sweep, ledger),
            num_samples=len(left) + proposals(sweep, ledger) if search else 1,
            max_concurrent_trials=room.places if search else sweep.cfg.max_concurrent,
        ),
        run_config=tune.RunConfig(
            name=f"{time.time():.0f}",
            storage_path=str(scratch),
            failure_config=tune.FailureConfig(max_failures=sweep.cfg.retries),
            callbacks=[Listener(ledger)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # runs and the ledger have all that is worth keeping


class Orders:
    """Makes an order from an entry."""

    def __init__(self, sweep: Sweep, ledger: Ledger, room: Room) -> None:
        self.sweep, self.ledger, self.room = sweep, ledger, room

    def __call__(self, entry: Entry) -> dict[str, Any]:
        index = list(self.ledger.entries).index(entry.name)
        start = zlib.crc32(str(self.sweep.folder).encode())
        devices = [f"trainer.devices={max(1, int(self.room.gpus))}", "observers.progress=null"]
        command = (sys.executable, str(SCRIPT), *self.sweep.fixed, *entry.point, *devices)
        return {
            "name": entry.name,
            "command": command,
            "cwd": os.getcwd(),
            "folder": str(Path(entry.folder).absolute()),
            "log": entry.log,
            "placements": str(self.sweep.folder.absolute() / "placements"),
            "epochs": entry.epochs,
            "metric": self.sweep.metric,
            "threads": self.room.threads,
            "port": FIRST_PORT + (start + index) % PORTS,
            "grace": float(self.sweep.cfg.grace),
        }


def settle(ledger: Ledger, grace: float) -> None:
    """After an interruption, wait until the runs that were stopped have written their checkpoints."""
    from src.sweeps.worker import wait_for_lock

    until = time.monotonic() + grace
    for entry in list(ledger.entries.values()):
        if entry.state == "running":
            wait_for_lock(Path(entry.folder), max(0.0, until - time.monotonic()))
            ledger.change(entry.name, state=settled(entry).state)
