"""Running a sweep: what is to be done, where there is room for it, and Ray Tune that places it."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from src.training.checkpoints import write_text
from src.training.instantiate import ConfigError
from src.training.recipe import build, plain, prepare
from src.training.sweep.board import Board
from src.training.sweep.ledger import Entry, Ledger, settled
from src.training.sweep.plan import Sweep, Trial

ROOT = Path(__file__).resolve().parents[3]
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Without it, Ray listens on every interface of a Linux machine, whatever address it is given (2.60)."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # A worker that ends would kill its run, which is to write a checkpoint.
    "RAY_kill_child_processes_on_worker_exit": "false",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
FIRST_PORT, PORTS = 20_000, 20_000
PATIENCE = 300
"""Seconds to wait for the machines of a cluster."""


@dataclass(frozen=True)
class Room:
    """What there is to place runs on, and what each is given.

    Args:
        places: runs at a time.
        gpus: of each, in Ray's sense; 0 is none.
        cpus: of each, in Ray's sense.
        threads: of each.
    """

    places: int
    gpus: float
    cpus: float
    threads: int


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
        ledger = Ledger(sweep.folder, sweep.metric)
        trials = sweep.trials()
        check_runs([trial for trial in trials if not known(ledger, trial)] or trials[:1])
        if sweep.cfg.search == "optuna":
            check_runs([sweep.trial(())] if not sweep.axes else [sweep.trial(centre(sweep))])
        write_text(sweep.folder / "sweep.yaml", OmegaConf.to_yaml(OmegaConf.create(record(sweep, words))))
        for trial in trials:
            ledger.add(trial.name, trial.folder, list(trial.point), trial.epochs)
        names = {trial.name for trial in trials} or set(ledger.entries)
        left = [entry for name, entry in ledger.entries.items() if name in names and not entry.over]
        if left or proposals(sweep, ledger):
            with interruptible(), Board(ledger, names if trials else None) as board, ray(sweep) as room:
                board.places = room.places
                tune(sweep, ledger, left, room)
                settle(ledger, sweep.cfg.grace)
        return ledger


def known(ledger: Ledger, trial: Trial) -> bool:
    """Whether a trial is over."""
    return trial.name in ledger.entries and ledger.entries[trial.name].over


def centre(sweep: Sweep) -> tuple[str, ...]:
    """Some point of the space, to see whether a run can be made of it."""
    from src.training.sweep.space import drawn

    return drawn(sweep.axes, sweep.sets, 1, sweep.cfg.seed)[0]


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


def check_gpus(sweep: Sweep) -> None:
    """Raises ConfigError if more GPUs of this machine are wanted than it has; a cluster's are counted by Ray."""
    if "RAY_ADDRESS" in os.environ or sweep.base.trainer.accelerator == "cpu":
        return
    there, wanted = torch.cuda.device_count(), sweep.cfg.gpus
    if wanted is not None and wanted > there:
        raise ConfigError(
            f"`sweep.gpus` must be at most {there}, the GPUs of this machine, but got {wanted}; with "
            "trainer.accelerator=cpu they are places without a device."
        )


def room(sweep: Sweep, nodes: Sequence[tuple[float, float]]) -> Room:
    """What each run is given.

    Args:
        sweep: what it asks for.
        nodes: (GPUs, cores) of each machine.

    Raises:
        ConfigError: if no machine has as much as one run is to have.
    """
    cfg, most = sweep.cfg, max(gpus for gpus, _ in nodes)
    gpus = float(cfg.gpus_per_trial) if most or cfg.gpus_per_trial > 1 else 0.0
    if gpus > most:
        raise ConfigError(
            f"`sweep.gpus_per_trial` must be at most {most:g}, the GPUs of one machine, but got {gpus:g}; a run of a "
            "sweep does not go over several."
        )
    cores = max(cores for _, cores in nodes)
    if cfg.cpus_per_trial is not None and cfg.cpus_per_trial > cores:
        raise ConfigError(
            f"`sweep.cpus_per_trial` must be at most {cores:g}, the cores of one machine, but got {cfg.cpus_per_trial}."
        )
    if gpus:
        fitting = [(int(have / gpus + 1e-9), cores) for have, cores in nodes if have >= gpus]
        share = min(cores / places for places, cores in fitting)
        cpus = share if cfg.cpus_per_trial is None else float(cfg.cpus_per_trial)
        places = sum(min(places, int(cores / cpus + 1e-9)) for places, cores in fitting)
    else:
        cpus = cores if cfg.cpus_per_trial is None else float(cfg.cpus_per_trial)
        places = sum(int(cores / cpus + 1e-9) for _, cores in nodes)
    return Room(min(places, cfg.max_concurrent or places), gpus, cpus, max(1, int(cpus)))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a sweep's lock.

    Raises:
        ConfigError: if another driver has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"{folder} is being run by another process; wait for it or stop it.") from error
    try:
        yield
    finally:
        lock.release()


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


@contextmanager
def ray(sweep: Sweep) -> Iterator[Room]:
    """Ray: the cluster of RAY_ADDRESS, or one for this machine alone that nobody else can reach.

    Raises:
        ConfigError: if the cluster lets everybody in, or its machines do not see the same files.
    """
    address = os.environ.get("RAY_ADDRESS")
    os.environ.update(QUIET)
    if address is None:
        # A port of Ray's is a door to run code as this user, and other users of the machine can knock on it.
        os.environ.update({LOOPBACK: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    elif os.environ.get("RAY_AUTH_MODE") != "token" and sweep.cfg.token == "required":
        raise ConfigError(
            "a cluster must ask for a token, as whoever reaches it can run code as you: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN before `ray start` on every machine and before `make sweep` (docs/sweeps.md), or say "
            "sweep.token=none."
        )
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        gpus = sweep.cfg.gpus if sweep.cfg.gpus is not None else torch.cuda.device_count()
        ray.init(
            address="local",
            num_gpus=gpus,
            num_cpus=cores(),
            include_dashboard=False,
            object_store_memory=100_000_000,
            **quiet,
        )
    else:
        join(address, sweep.cfg.nodes, quiet)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        resources = [(node["Resources"].get("GPU", 0.0), node["Resources"].get("CPU", 0.0)) for node in nodes]
        if address is not None:
            check_storage(sweep, nodes)
        yield room(sweep, resources)
    finally:
        ray.shutdown()


def join(address: str, nodes: int, options: dict[str, Any]) -> None:
    """Join a cluster, and wait for its machines if there are to be several: they start at different times.

    Raises:
        ConfigError: if that does not succeed.
    """
    import ray

    until = time.monotonic() + (PATIENCE if nodes > 1 else 0)
    while True:
        try:
            if not ray.is_initialized():
                ray.init(address=address, **options)
            there = sum(node["Alive"] for node in ray.nodes())
            if there >= nodes:
                return
            problem = f"has {there} of {nodes} machines (sweep.nodes)"
        except (ConnectionError, RuntimeError, ValueError) as error:
            problem = f"cannot be joined: {error}"
        if time.monotonic() >= until:
            ray.shutdown()
            raise ConfigError(f"RAY_ADDRESS={address} {problem}")
        time.sleep(1)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_storage(sweep: Sweep, nodes: Sequence[dict[str, Any]]) -> None:
    """Raises ConfigError unless all machines see the sweep's folder, this project and this Python."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from src.training.sweep import trial as worker

    ray.cloudpickle.register_pickle_by_value(worker)
    mark = sweep.folder.absolute() / f".seen-{secrets.token_hex(8)}"
    write_text(mark, mark.name)
    needed = [str(mark), sys.executable, str(ROOT / "scripts" / "train.py"), os.getcwd()]
    look = ray.remote(num_cpus=0)(worker.missing)
    try:
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            if absent := ray.get(look.options(scheduling_strategy=there).remote(needed)):
                raise ConfigError(
                    f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}) does not have {', '.join(absent)}: "
                    "all machines of a sweep must see this project, its .venv and its logs under the same paths, "
                    "on shared or synchronised storage."
                )
    finally:
        mark.unlink(missing_ok=True)


def tune(sweep: Sweep, ledger: Ledger, left: Sequence[Entry], room: Room) -> None:
    """Have Ray Tune run what is left."""
    import ray
    from ray import tune

    from src.training.sweep import trial as worker
    from src.training.sweep.listener import Listener
    from src.training.sweep.search import early_stopping, searcher

    ray.cloudpickle.register_pickle_by_value(worker)
    for name in (
        "ray",
        "ray.tune",
        "ray.tune.execution.tune_controller",
        "ray.tune.tune",
        "ray.tune.analysis.experiment_analysis",
    ):
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
        devices = [f"trainer.devices={max(1, int(self.room.gpus))}", "callbacks.progress=null"]
        command = (sys.executable, str(ROOT / "scripts" / "train.py"), *self.sweep.fixed, *entry.point, *devices)
        return {
            "name": entry.name,
            "command": command,
            "cwd": os.getcwd(),
            "folder": str(Path(entry.folder).absolute()),
            "log": entry.log,
            "placement": str(self.sweep.folder.absolute() / "placements" / f"{entry.name}-{secrets.token_hex(4)}.json"),
            "epochs": entry.epochs,
            "metric": self.sweep.metric,
            "threads": self.room.threads,
            "port": FIRST_PORT + (start + index) % PORTS,
            "grace": float(self.sweep.cfg.grace),
        }


def settle(ledger: Ledger, grace: float) -> None:
    """After an interruption, wait until the runs that were stopped have written their checkpoints."""
    until = time.monotonic() + grace
    for entry in list(ledger.entries.values()):
        if entry.state == "running":
            if (folder := Path(entry.folder)).is_dir():
                try:
                    with FileLock(folder / ".lock").acquire(timeout=max(0.0, until - time.monotonic())):
                        pass
                except Timeout:
                    pass
            state = settled(entry).state
            ledger.change(entry.name, state=state)


def placements(folder: Path) -> list[dict[str, Any]]:
    """Where and when every run of a sweep was, one for every time that it was started."""
    return [json.loads(path.read_text()) for path in sorted((folder / "placements").glob("*.json"))]


def clashes(placed: Sequence[dict[str, Any]]) -> list[str]:
    """Runs that were on one device at the same time, unless they were to share it."""
    found = []
    for i, one in enumerate(placed):
        for other in placed[:i]:
            shared = set(re.findall(r"\d+", one["device"])) & set(re.findall(r"\d+", other["device"]))
            if (
                shared
                and one["node"] == other["node"]
                and one["began"] < other["ended"]
                and other["began"] < one["ended"]
            ):
                found.append(f"{one['name']} and {other['name']} on {one['node'][:8]}:{','.join(sorted(shared))}")
    return found
