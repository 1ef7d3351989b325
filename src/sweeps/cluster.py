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

from src.config.targets import ConfigError
from src.runs.checkpoints import write_text
from src.runs.machine import usable_cores
from src.sweeps.sweep import Sweep

TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
"""What every trial is a process of."""
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Without it, Ray listens on every interface of a Linux machine, whatever address it is given (2.60)."""
_RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # A run would have it from its worker, and lose against everything else on the machine.
    "RAY_worker_niceness": "0",
    # A worker that ends would kill its run, which is to write a checkpoint.
    "RAY_kill_child_processes_on_worker_exit": "false",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_JOIN_SECONDS = 300
"""How long to wait for the machines of a cluster."""


@dataclass(frozen=True)
class Capacity:
    """How many runs there is room for at a time, and what each is given, GPUs and cores in Ray's sense."""

    slots: int
    gpus: float
    cpus: float
    threads: int
    """Of each of a run's processes."""

    @classmethod
    def of(cls, sweep: Sweep, nodes: Sequence[tuple[float, float]]) -> Capacity:
        """Share machines, each (GPUs, cores), out. Raises ConfigError if none has as much as one run is to have."""
        cfg = sweep.cfg
        most_gpus, most_cores = (max(column) for column in zip(*nodes, strict=True))
        gpus = float(cfg.gpus_per_trial) if most_gpus or cfg.gpus_per_trial > 1 else 0.0
        if gpus > most_gpus:
            raise ConfigError(
                f"`sweep.gpus_per_trial` must be at most {most_gpus:g}, the GPUs of one machine, but got {gpus:g}; a "
                "run of a sweep does not go over several."
            )
        if cfg.cpus_per_trial is not None and cfg.cpus_per_trial > most_cores:
            raise ConfigError(
                f"`sweep.cpus_per_trial` must be at most {most_cores:g}, the cores of one machine, but got "
                f"{cfg.cpus_per_trial}."
            )
        if gpus:
            fitting = [(_whole(have / gpus), cores) for have, cores in nodes if have >= gpus]
            cpus = float(cfg.cpus_per_trial or min(cores / slots for slots, cores in fitting))
            slots = sum(min(slots, _whole(cores / cpus)) for slots, cores in fitting)
        else:
            cpus = float(cfg.cpus_per_trial or most_cores)
            slots = sum(_whole(cores / cpus) for _, cores in nodes)
        processes = max(1.0, gpus)  # a process on each GPU of a run
        return cls(min(slots, cfg.max_concurrent or slots), gpus, cpus, max(1, int(cpus / processes)))


def _whole(ratio: float) -> int:
    """How often something fits, whatever the rounding."""
    return int(ratio + 1e-9)


def check_gpus(sweep: Sweep) -> None:
    """Raises ConfigError if more GPUs of this machine are wanted than it has; a cluster's are counted by Ray."""
    if "RAY_ADDRESS" in os.environ or sweep.base.trainer.accelerator == "cpu":
        return
    there, wanted = torch.cuda.device_count(), sweep.cfg.gpus
    if wanted is not None and wanted > there:
        raise ConfigError(
            f"`sweep.gpus` must be at most {there}, the GPUs of this machine, but got {wanted}; with "
            "trainer.accelerator=cpu they are slots without a device."
        )


@contextmanager
def ray_session(sweep: Sweep) -> Iterator[Capacity]:
    """Ray: the cluster of RAY_ADDRESS, or one for this machine alone that nobody else can reach.

    Raises:
        ConfigError: if the cluster lets everybody in, or its machines do not see the same files.
    """
    address = os.environ.get("RAY_ADDRESS")
    os.environ.update(_RAY_SETTINGS)
    if address is None:
        # A port of Ray's is a door to run code as this user, and other users of the machine can knock on it.
        os.environ.update({_LOOPBACK: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
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
            num_cpus=max(1, int(usable_cores())),
            include_dashboard=False,
            object_store_memory=100_000_000,
            **quiet,
        )
    else:
        _join(address, sweep.cfg.nodes, quiet)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        resources = [(node["Resources"].get("GPU", 0.0), node["Resources"].get("CPU", 0.0)) for node in nodes]
        if address is not None:
            _check_storage(sweep, nodes)
        yield Capacity.of(sweep, resources)
    finally:
        ray.shutdown()


def _join(address: str, nodes: int, options: dict[str, Any]) -> None:
    """Join a cluster and wait for its machines, which start at different times. Raises ConfigError if that fails."""
    import ray

    until = time.monotonic() + (_JOIN_SECONDS if nodes > 1 else 0)
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


def _check_storage(sweep: Sweep, nodes: Sequence[dict[str, Any]]) -> None:
    """Raises ConfigError unless all machines see the sweep's folder, this project and this Python."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    mark = sweep.folder.absolute() / f".seen-{secrets.token_hex(8)}"
    write_text(mark, mark.name)
    needed = [str(mark), sys.executable, str(TRAIN), os.getcwd()]
    # Ray ships a lambda by value: to be told that this project is absent, a machine need not have it.
    absent = ray.remote(num_cpus=0)(lambda: [path for path in needed if not os.path.exists(path)])
    try:
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            if missing := ray.get(absent.options(scheduling_strategy=there).remote()):
                raise ConfigError(
                    f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}) does not have {', '.join(missing)}: "
                    "all machines of a sweep must see this project, its .venv and its logs under the same paths, "
                    "on shared or synchronised storage."
                )
    finally:
        mark.unlink(missing_ok=True)
