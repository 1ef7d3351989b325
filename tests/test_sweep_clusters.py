"""Sweeps over several machines: two nodes of Ray on this one, and the SLURM script with stand-ins for its commands."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import free_port
from sweeping import ROOT, STAND_IN, TINY, clashes, finish, placements, start, until

SWEEP = f"""
import sys
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})

from scripts import sweep
from src.sweeps import driver

driver.TRAIN = Path({str(STAND_IN)!r})
sweep.main()
"""
"""`scripts/sweep.py`, with what stands in for runs."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Two machines' worth of Ray on loopback: the environment by which they are reached."""
    port, ray = free_port(), str(Path(sys.executable).parent / "ray")
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "7" * 64,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_kill_child_processes_on_worker_exit": "false",
    }
    node = [ray, "start", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--num-gpus=1", "--block"]
    node += ["--object-store-memory=100000000"]
    roles = [["--head", f"--port={port}", "--include-dashboard=false"], [f"--address=127.0.0.1:{port}"]]
    processes = []
    try:
        for i, role in enumerate(roles):
            log = tmp_path / f"node{i}.txt"
            with log.open("w") as out:
                processes.append(subprocess.Popen([*node, *role], env=os.environ | environment, stdout=out, stderr=out))
            until(lambda log=log: reached(port) and "started" in log.read_text(), "a node of Ray", 60)
        yield environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def reached(port: int) -> bool:
    """Whether something listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_two_nodes_share_a_sweep(tmp_path: Path, cluster: dict[str, str]) -> None:
    words = ["train.epochs=1", "seed=0,1,2,3"]
    # Those who are not let in are told while others are served, as Ray tries for long.
    outside = {"wrong": {"RAY_AUTH_TOKEN": "8" * 64}, "refused": {"RAY_AUTH_MODE": "disabled"}}
    drivers = {}
    for name, change in outside.items():
        (tmp_path / name).mkdir()
        drivers[name] = start(tmp_path / name, *words, environment=cluster | change, train=STAND_IN)
    finish(start(tmp_path, *words, environment=cluster, train=STAND_IN), tmp_path)
    found = placements(tmp_path)
    assert len(found) == 4
    assert len({placement["node"] for placement in found}) == 2
    assert clashes(found) == []
    assert "must ask for a token" in finish(drivers["refused"], tmp_path / "refused", code=1)
    drivers["wrong"].join(120)
    assert drivers["wrong"].exitcode not in (None, 0), "who does not know the token is not let in"
    assert not list((tmp_path / "wrong" / "logs").glob("quickstart/*/status.json"))


def test_the_slurm_script_starts_a_cluster(tmp_path: Path) -> None:
    """With commands of SLURM's names that do on this machine what they would do on two."""
    here = Path(sys.executable).parent
    commands = {
        "bin/scontrol": "printf 'one\\ntwo\\n'",
        "bin/srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
        "bin/hostname": "echo 127.0.0.1",
        ".venv/bin/python": f'exec {here / "python"} "$@"',
        ".venv/bin/ray": f'exec {here / "ray"} "$@"',
    }
    for name, content in commands.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{content}\n")
        path.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "sweep.py").write_text(SWEEP)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_JOB_NODELIST": "[one-two]",
        "SLURM_NTASKS": "2",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "TRAINS": "seed=0",
    }
    words = [word for word in TINY if not word.startswith("sweep.gpus")]
    words += ["train.epochs=1", "seed=0,1", f"paths.logs={tmp_path / 'logs'}"]
    script = ["bash", str(ROOT / "scripts" / "sweep.slurm"), *words]
    done = subprocess.run(script, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 complete" in done.stdout
    assert len({placement["node"] for placement in placements(tmp_path)}) == 2
    weights = [path.parents[1].name for path in (tmp_path / "logs").glob("*/*/checkpoints/weights.pt")]
    assert len(weights) == 1, "one was trained"
    assert "_seed0-" in weights[0]
