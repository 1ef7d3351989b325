"""Where a sweep runs: Ray on this machine alone, or a cluster of machines; and what room there is."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from src.config.instantiate import ConfigError
from src.runs.checkpoints import write_text
from src.sweeps.sweep import Sweep

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
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


@contextmanager
def started(sweep: Sweep) -> Iterator[Room]:
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


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_storage(sweep: Sweep, nodes: Sequence[dict[str, Any]]) -> None:
    """Raises ConfigError unless all machines see the sweep's folder, this project and this Python."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from src.sweeps import worker

    ray.cloudpickle.register_pickle_by_value(worker)
    mark = sweep.folder.absolute() / f".seen-{secrets.token_hex(8)}"
    write_text(mark, mark.name)
    needed = [str(mark), sys.executable, str(SCRIPT), os.getcwd()]
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
