"""Sweeps, before and after anything is run: points, slots, what workers are told, what is kept and what is shown."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from sweeping import ROOT, busy, clashes

from scripts import sweep as command
from src.config.compose import compose_config
from src.runs import machine
from src.sweeps import cluster, driver
from src.sweeps.figures import _averaged, _positions
from src.sweeps.results import present
from src.sweeps.space import Interval, grid_points, listed_points, parse_axis, random_points
from src.sweeps.store import TrialStore
from src.sweeps.sweep import Sweep, Trial, compose_sweep
from src.training import ConfigError

# What a sweep runs over.


def test_axes_are_read_in_hydras_grammar() -> None:
    assert parse_axis("a.b=1,2").values == ("1", "2")
    assert parse_axis("seed=range(0,3)").values == ("0", "1", "2")
    assert parse_axis("implementation=choice(nonseparable, separable+2d)").values == ("nonseparable", "separable+2d")
    assert parse_axis("group.elements=[4],[8]").values == ("[4]", "[8]")
    assert parse_axis("implementation.formula='oi h, o x','oi x h'").values == ("'oi h, o x'", "'oi x h'")
    assert parse_axis("lr=tag(log, interval(1e-4, 1e-2))").interval == Interval(1e-4, 1e-2, logarithmic=True)
    assert parse_axis("n=int(interval(1, 8))").interval == Interval(1, 8, whole=True)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=range(0,0)", "one value or more"),
        ("seed=choice()", "empty choice"),
        ("seed=1", "several values"),
        ("seed=glob(*)", "several values"),
        ("lr=interval(2,1)", "not empty"),
        ("lr=tag(log, interval(0, 1))", "positive"),
        ("lr=tag(cube, interval(0, 1))", "tag log"),
        ("seed", "is not an override"),
    ],
)
def test_an_axis_that_is_none_is_explained(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_axis(override)


def test_the_folder_of_a_sweep_depends_on_how_axes_are_written_down() -> None:
    assert repr(parse_axis("a=1,2")) == "Axis(key='a', values=('1', '2'), interval=None)"
    interval = "Interval(low=1, high=8, whole=True, logarithmic=False)"
    assert repr(parse_axis("n=int(interval(1, 8))")) == f"Axis(key='n', values=(), interval={interval})"


def test_grids_have_all_combinations() -> None:
    found = grid_points([parse_axis("a=1,2"), parse_axis("b=x,y")], listed_points(["c=1 d=[1,2]", "c=2"]))
    assert len(found) == len(set(found)) == 8
    assert ("c=1", "d=[1,2]", "a=2", "b=x") in found
    assert grid_points([parse_axis("a=1,2")], []) == [("a=1",), ("a=2",)]
    with pytest.raises(ConfigError, match="`a` must have single values"):
        grid_points([parse_axis("a=interval(1,2)")], [])
    with pytest.raises(ConfigError, match=r"`sweep.list`"):
        listed_points(["a=1,2"])


def test_random_points_are_inside_and_the_same_again() -> None:
    axes = [parse_axis("lr=tag(log, interval(1e-4, 1e-2))"), parse_axis("n=int(interval(1, 3))"), parse_axis("k=a,b")]
    found = random_points(axes, listed_points(["c=1", "c=2"]), 200, seed=0)
    assert random_points(axes, listed_points(["c=1", "c=2"]), 20, seed=0) == found[:20]
    assert random_points(axes, listed_points(["c=1", "c=2"]), 20, seed=1) != found[:20]
    rates = sorted(float(point[1].partition("=")[2]) for point in found)
    assert 1e-4 <= rates[0] < rates[-1] <= 1e-2
    assert 5e-4 < rates[100] < 2e-3, "the median of a logarithm that is uniform is 1e-3"
    assert {point[2] for point in found} == {"n=1", "n=2", "n=3"}
    assert {point[0] for point in found} == {"c=1", "c=2"}
    source = random.Random(0)
    whole = [Interval(1, 100, whole=True, logarithmic=True).draw(source) for _ in range(300)]
    assert all(isinstance(value, int) and 1 <= value <= 100 for value in whole)


OPEN = {"grid": "seed=0,1", "random": "seed=0,1", "optuna": "train.ema=0.9,0.99"}
"""Sweeps of the project that have no axes of their own, and one that they run over."""
SMALL = ("dataset=digits", "net.hidden_sizes=[4,4,4]", "net.exact=warn", "conv.kernel_size=3")


@cache
def trials_of(name: str) -> list[Trial]:
    """Of a sweep of the project, on nets that are built in a moment."""
    axes = [OPEN[name]] if name in OPEN else []
    return compose_sweep(["experiment=sim2_separable", f"sweep={name}", *SMALL, *axes]).trials()


def test_every_sweep_of_the_project_can_be_run() -> None:
    sizes = {}
    for name in sorted(path.stem for path in (ROOT / "configs" / "sweep").glob("[!_]*.yaml")):
        sizes[name] = len(trials_of(name))
        assert (ROOT / "configs" / "sweep" / f"{name}.yaml").read_text().startswith("# ")
    assert sizes == {
        "elements": 4,
        "grid": 2,
        "groups": 4,
        "implementations": 7,
        "kernels": 3,
        "lr_asha": 0,
        "optuna": 0,
        "random": 2,  # of twenty points, two differ
        "seeds": 5,
    }


def test_nets_of_the_project_sweeps_can_be_built() -> None:
    for name in ("implementations", "groups", "elements", "kernels"):
        driver._check_trials(trials_of(name))
    broken = compose_sweep(["experiment=se2_separable", "sweep=implementations", *SMALL]).trials()
    with pytest.raises(ConfigError, match=r"the run with implementation=separable\+2d cannot be: "):
        driver._check_trials(broken)


def test_a_sweep_has_one_folder() -> None:
    def folder(*words: str) -> Path:
        return compose_sweep([*words]).folder

    one = folder("sweep=seeds")
    assert one == folder("sweep=seeds", "sweep.gpus=1", "sweep.retries=0", "sweep.max_concurrent=3")
    assert one == folder("sweep=seeds", "trainer.accelerator=cpu")
    assert (
        len({one, folder("sweep=seeds", "optimizer.lr=0.1"), folder("seed=range(0,5)"), folder("seed=range(0,6)")}) == 4
    )
    assert folder("sweep=lr_asha") == folder("sweep=lr_asha", "sweep.trials=30"), "more trials go on with it"


def test_the_test_metric_follows_from_that_of_the_checkpoints() -> None:
    plan = compose_sweep(["sweep=seeds"])
    assert plan.test_metric == plan.metric.replace("val/", "test/")
    by_loss = compose_sweep(["sweep=seeds", "callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=min"])
    assert (by_loss.metric, by_loss.test_metric, by_loss.quantity) == ("val/loss", "test/loss", "loss")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["sweep=seedz"], r"Did you mean 'seeds'\?"),
        (["sweep=seeds", "sweep.gpuz=1"], r"Did you mean 'sweep.gpus'"),
        ([], "must run over something"),
        (["optimizer.lrr=1,2"], r"Did you mean 'optimizer.lr'\?"),
        (["sweep=seeds", "optimizer.lrr=1"], r"Did you mean 'optimizer.lr'\?"),
        (["seed=-1,0"], "`seed` must be an integer from 0"),
        (["experiment=quickstart,se2_separable"], "`experiment` must be one recipe"),
        (["seed=0,1", "trainer.devices=2"], r"is set by `sweep.gpus_per_trial`"),
        (["seed=0,1", "sweep.trials=3"], "must be null with sweep.search=grid"),
        (["sweep=optuna", "seed=0,1"], "cannot be searched by Optuna"),
        (["sweep=seeds", "sweep.search=bayes"], "must be one of grid, random, optuna"),
        (["sweep=seeds", "sweep.gpus_per_trial=1.5"], "must be a whole number"),
        (["sweep=seeds", "sweep.gpus_per_trial=0"], "must be a positive number"),
        (["sweep=seeds", "sweep.retries=-1"], "must be a whole number, 0 or more, but got -1"),
        (["sweep=seeds", "sweep.token=maybe"], "must be one of required, none, but got 'maybe'"),
        (["sweep=seeds", "sweep.early_stopping={grace: 1}"], "must be null or"),
        (["sweep=seeds", "sweep.early_stopping={grace: 1, reduction: 1}"], "must be above 1"),
    ],
)
def test_what_cannot_be_swept_is_explained(words: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        compose_sweep(words).trials()


@pytest.mark.parametrize("override", ["sweep=seeds", "sweep.trials=3", "seed=1,2", "optimizer.lr=choice(0.1,0.2)"])
def test_training_one_run_names_the_command_for_several(override: str) -> None:
    with pytest.raises(ConfigError, match="`make sweep` starts") as caught:
        compose_config(["experiment=quickstart", override])
    assert repr(override) in str(caught.value)


# How many runs at a time.


def test_machines_are_shared_out() -> None:
    plan = compose_sweep(["sweep=seeds"])

    def capacity(nodes: Sequence[tuple[float, float]], **placement: float) -> tuple[int, float, float, int]:
        found = cluster.Capacity.of(replace(plan, cfg=OmegaConf.merge(plan.cfg, placement)), nodes)
        return found.slots, found.gpus, found.cpus, found.threads

    assert capacity([(8, 64)]) == (8, 1.0, 8.0, 8)
    assert capacity([(8, 64)], gpus_per_trial=0.5) == (16, 0.5, 4.0, 4)
    assert capacity([(8, 64)], gpus_per_trial=4) == (2, 4.0, 32.0, 8), "which four processes share"
    assert capacity([(8, 64)], max_concurrent=3) == (3, 1.0, 8.0, 8)
    assert capacity([(8, 4)]) == (8, 1.0, 0.5, 1), "fewer cores than GPUs leave no GPU idle"
    assert capacity([(0, 16)]) == (1, 0.0, 16.0, 16)
    assert capacity([(0, 16)], cpus_per_trial=4) == (4, 0.0, 4.0, 4)
    assert capacity([(4, 32), (8, 32), (0, 8)]) == (12, 1.0, 4.0, 4), "a head without GPUs trains nothing"
    with pytest.raises(ConfigError, match="must be at most 8, the GPUs of one machine, but got 16"):
        capacity([(8, 64), (8, 64)], gpus_per_trial=16)
    with pytest.raises(ConfigError, match="must be at most 16, the cores"):
        capacity([(0, 16)], cpus_per_trial=17)


def test_a_container_limits_the_cores_of_a_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("250000 100000")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster.os, "environ", dict(os.environ))
    node: dict[str, Any] = {"Alive": True}
    ray = SimpleNamespace(init=lambda **told: node.update(Resources={"CPU": told["num_cpus"]}))
    ray.nodes, ray.shutdown = lambda: [node], lambda: None
    monkeypatch.setitem(sys.modules, "ray", ray)
    with cluster.ray_session(compose_sweep(["sweep=seeds"])) as capacity:
        assert (capacity.cpus, capacity.threads) == (2.0, 2), "not 64"


def test_more_gpus_than_there_are_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"`sweep.gpus` must be at most 2, the GPUs of this machine, but got 3"):
        cluster.check_gpus(compose_sweep(["sweep=seeds", "sweep.gpus=3"]))
    cluster.check_gpus(compose_sweep(["sweep=seeds", "sweep.gpus=2"]))
    cluster.check_gpus(compose_sweep(["sweep=seeds", "sweep.gpus=3", "trainer.accelerator=cpu"]))


def test_without_ray_the_remedy_is_named() -> None:
    command._require("json")
    with pytest.raises(ConfigError, match=r"sweeps need no_such_package, not installed here; `make sweep` installs"):
        command._require("json", "no_such_package")


def test_a_cluster_must_ask_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ConfigError, match="must ask for a token"), cluster.ray_session(compose_sweep(["sweep=seeds"])):
        pass


def placed(name: str, device: str, began: float, ended: float, node: str = "n") -> dict[str, Any]:
    return {"name": name, "device": device, "began": began, "ended": ended, "node": node}


def test_the_check_of_devices_sees_two_runs_on_one() -> None:
    assert clashes([placed("a", "0", 0, 5), placed("b", "0", 4, 9)]) == ["b and a on n:0"]
    assert clashes([placed("a", "0,1", 0, 5), placed("b", "1,2", 4, 9)]) == ["b and a on n:1"]
    assert clashes([placed("a", "0", 0, 5), placed("b", "0", 5, 9), placed("c", "1", 0, 9)]) == []
    assert clashes([placed("a", "0", 0, 5), placed("b", "0", 4, 9, node="m")]) == []


def test_busy_slots_are_counted() -> None:
    assert busy([placed("a", "0", 0, 4), placed("b", "1", 0, 8), placed("c", "0", 6, 10)], 2) == 0.8
    assert busy([placed("a", "0", 0, 4) | {"ended": None}], 2) == 0.0


# What a worker does with a run. Ray is imported only where it is needed: it takes two seconds.


def test_a_worker_hands_on_nothing_of_other_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    from src.sweeps import worker

    foreign = ["SLURM_NTASKS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "NODE_RANK"]
    foreign += [
        "TORCHELASTIC_RUN_ID",
        "GROUP_RANK",
        "RAY_AUTH_TOKEN",
        "PMI_RANK",
        "OMPI_COMM_WORLD_RANK",
        "PL_GLOBAL_SEED",
    ]
    for name in (*foreign, "MASTER_PORT", "CUDA_VISIBLE_DEVICES", "RANKING"):
        monkeypatch.setenv(name, "1")
    order = worker.Order("n", (), ".", ".", "log", "p", 3, "val/acc", threads=2, port=20123, grace=1.0)
    found = worker._environment(order)
    assert not set(foreign) & set(found)
    assert found["RUN_FOLDER"] == "."
    assert (found["CUDA_VISIBLE_DEVICES"], found["RANKING"]) == ("1", "1")
    assert (found["MASTER_PORT"], found["OMP_NUM_THREADS"], found["DIE_WITH"]) == ("20123", "2", str(os.getpid()))


def test_a_worker_says_why_a_run_ended(tmp_path: Path) -> None:
    from src.sweeps import worker

    log = "Traceback (most recent call last):\n  File\nRuntimeError: nothing works\n  (a hint)\n"
    assert worker._failure_reason(1, log) == "RuntimeError: nothing works"
    assert worker._failure_reason(1, "a\nerror: `seed` must be\n") == "error: `seed` must be"
    assert worker._failure_reason(3, "last words\n\n") == "last words"
    assert worker._failure_reason(3, "") == "exit code 3"
    assert worker._failure_reason(-signal.SIGKILL, log).startswith("was killed by SIGKILL")
    assert worker._OUT_OF_MEMORY.search("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    assert worker._OUT_OF_MEMORY.search("DefaultCPUAllocator: can't allocate memory: you tried")
    assert not worker._OUT_OF_MEMORY.search(log)
    (tmp_path / "log").write_bytes(b"before\xff after")
    assert worker._tail(tmp_path / "log", 8) == "after"


# What is kept.


def test_the_store_believes_the_folders(tmp_path: Path) -> None:
    store = TrialStore(tmp_path, "val/acc")
    for name in ("done", "going", "stopped", "removed"):
        store.add(name, tmp_path / name, [f"seed={name}"], 3)
    for name, state in (("done", "running"), ("going", "running"), ("stopped", "stopped"), ("removed", "complete")):
        store.update(name, state=state)
    store.add_report("going", {"epoch": 2, "val/acc": 0.5, "device": "1", "host": "h"})
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "status.json").write_text(json.dumps({"status": "complete", "epoch": 3, "best": 0.9}))
    again = TrialStore(tmp_path, "val/acc").records
    assert {name: record.state for name, record in again.items()} == {
        "done": "complete",
        "going": "interrupted",
        "stopped": "stopped",
        "removed": "waiting",
    }
    assert (again["done"].value, again["done"].finished, again["going"].finished) == (0.9, True, False)
    assert again["going"].history == [(2, 0.5)]


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    written = {
        "name": "lr-0.001_seed10-3515c2d8",
        "folder": "logs/quickstart/lr-0.001_seed10-3515c2d8",
        "point": ["seed=10", "optimizer.lr=0.001"],
        "epochs": 3,
        "state": "stopped",
        "epoch": 1,
        "value": 0.25,
        "history": [[1, 0.25]],
        "params": {"optimizer.lr": 0.001},
        "starts": 1,
        "device": "1",
        "host": "vm",
        "why": "early stopping after epoch 1",
        "log": "logs/sweeps/quickstart-grid-7b1aa384/logs/lr-0.001_seed10-3515c2d8.log",
        "changed": "2026-11-21T16:40:53+00:00",
    }
    (tmp_path / "trials.json").write_text(json.dumps({"metric": "val/acc", "trials": [written]}))
    (record,) = TrialStore(tmp_path, "val/acc").records.values()
    assert asdict(record) == written | {"history": [(1, 0.25)]}
    assert record.finished
    assert record.location == "vm GPU 1"


def test_axes_of_pictures() -> None:
    assert _positions(["8", "4"]) == ([8.0, 4.0], None)
    assert _positions(["b", "a", "b"]) == ([0.0, 1.0, 0.0], ["b", "a"])
    assert _averaged([(1, 2.0), (1, 4.0), (0, 1.0)]) == [(0, 1.0), (1, 3.0)]


def test_searches_are_told_of_earlier_trials(tmp_path: Path) -> None:
    from src.sweeps.search import early_stopping, optuna_search

    words = [
        "sweep=lr_asha",
        "sweep.early_stopping={grace: 1, reduction: 2}",
        f"paths.logs={tmp_path}",
        "train.epochs=9",
    ]
    plan = compose_sweep(words)
    store = TrialStore(plan.folder, plan.metric)
    for i in range(8):
        params = {"optimizer.lr": 1e-3 * (i + 1), "optimizer.weight_decay": 1e-4}
        record = store.add(f"t{i}", tmp_path / f"t{i}", [f"i={i}"], 9, params)
        record.state, record.value, record.history = "stopped", 0.1 * i, [(1, 0.1 * i)]
    record.state = "interrupted"
    search = optuna_search(plan, store, lambda record: {"name": record.name})
    told = search._ot_study.trials
    known = {trial.params["optimizer.lr"]: trial.value for trial in told if trial.params}
    assert known == {1e-3 * (i + 1): 0.1 * i for i in range(7)}
    assert search.suggest("x")["order"]["name"]
    proposed = search._ot_trials["x"].params
    assert proposed == record.params, "what was interrupted comes first"
    # The median of what was reached after an epoch is 0.3: the first below it that reports is stopped at once.
    scheduler = early_stopping(plan, store)
    assert decision(scheduler, plan, 0.1) == "STOP"
    assert decision(scheduler, plan, 0.6) == "CONTINUE"
    assert decision(early_stopping(plan, TrialStore(tmp_path / "new", plan.metric)), plan, 0.1) == "CONTINUE"


def decision(scheduler: Any, plan: Sweep, value: float) -> str:
    """What a scheduler says to a trial that has reached a value after its first epoch."""
    from types import SimpleNamespace

    trial = SimpleNamespace(trial_id=f"new-{value}", stub=True, config={})
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": 1, plan.metric: value})


def test_the_end_of_a_sweep_names_what_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = compose_sweep(["seed=0,1", f"paths.logs={tmp_path}"])
    store = TrialStore(plan.folder, plan.metric)
    for trial in plan.trials():
        store.add(trial.name, trial.folder, list(trial.point), trial.epochs)
    first, second = store.records.values()
    store.update(first.name, state="out of memory", why="CUDA out of memory", starts=1)
    present(plan, store)
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "smaller train.batch_size" in output
    assert "1 waiting, 1 out of memory" in output
    assert replace(second, point=[]).label == second.name


def test_two_drivers_of_one_sweep_are_told(tmp_path: Path) -> None:
    with (
        driver._locked(tmp_path),
        pytest.raises(ConfigError, match="is being run by another process"),
        driver._locked(tmp_path),
    ):
        pass
    with driver._locked(tmp_path):
        pass
