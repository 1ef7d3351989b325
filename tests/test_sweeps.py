"""Sweeps: what they run over, where runs are placed, and that nothing is lost whatever is killed."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kills import SMALL, execute, free_port, result, unequal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts import sweep as command
from src.config.compose import compose_config
from src.sweeps import cluster as cluster_of
from src.sweeps import driver
from src.sweeps.placements import busy, clashes, placements
from src.sweeps.results import averaged, positions, present, rescaled
from src.sweeps.space import Interval, axis, drawn, grid, points
from src.sweeps.store import Entry, Ledger
from src.sweeps.sweep import Sweep, compose_sweep
from src.training import ConfigError

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = [sys.executable, str(ROOT / "scripts" / "sweep.py")]
TINY = [*SMALL, "callbacks.checkpoint.every_steps=null", "sweep.gpus=2"]


# What a sweep runs over.


def test_axes_are_read_in_hydras_grammar() -> None:
    assert axis("a.b=1,2").values == ("1", "2")
    assert axis("seed=range(0,3)").values == ("0", "1", "2")
    assert axis("implementation=choice(nonseparable, separable+2d)").values == ("nonseparable", "separable+2d")
    assert axis("group.elements=[4],[8]").values == ("[4]", "[8]")
    assert axis("implementation.formula='oi h, o x','oi x h'").values == ("'oi h, o x'", "'oi x h'")
    assert axis("lr=tag(log, interval(1e-4, 1e-2))").interval == Interval(1e-4, 1e-2, logarithmic=True)
    assert axis("n=int(interval(1, 8))").interval == Interval(1, 8, whole=True)


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
        axis(override)


def test_grids_have_all_combinations() -> None:
    found = grid([axis("a=1,2"), axis("b=x,y")], points(["c=1 d=[1,2]", "c=2"]))
    assert len(found) == len(set(found)) == 8
    assert ("c=1", "d=[1,2]", "a=2", "b=x") in found
    assert grid([axis("a=1,2")], []) == [("a=1",), ("a=2",)]
    with pytest.raises(ConfigError, match="`a` must have single values"):
        grid([axis("a=interval(1,2)")], [])
    with pytest.raises(ConfigError, match=r"`sweep.list`"):
        points(["a=1,2"])


def test_random_points_are_inside_and_the_same_again() -> None:
    axes = [axis("lr=tag(log, interval(1e-4, 1e-2))"), axis("n=int(interval(1, 3))"), axis("k=a,b")]
    found = drawn(axes, points(["c=1", "c=2"]), 200, seed=0)
    assert drawn(axes, points(["c=1", "c=2"]), 20, seed=0) == found[:20]
    assert drawn(axes, points(["c=1", "c=2"]), 20, seed=1) != found[:20]
    rates = sorted(float(point[1].partition("=")[2]) for point in found)
    assert 1e-4 <= rates[0] < rates[-1] <= 1e-2
    assert 5e-4 < rates[100] < 2e-3, "the median of a logarithm that is uniform is 1e-3"
    assert {point[2] for point in found} == {"n=1", "n=2", "n=3"}
    assert {point[0] for point in found} == {"c=1", "c=2"}
    source = random.Random(0)
    whole = [Interval(1, 100, whole=True, logarithmic=True).draw(source) for _ in range(300)]
    assert all(isinstance(value, int) and 1 <= value <= 100 for value in whole)


def test_every_sweep_of_the_project_can_be_run() -> None:
    names = sorted(path.stem for path in (ROOT / "configs" / "sweep").glob("[!_]*.yaml"))
    sizes, own = {}, {"grid": "seed=0,1", "random": "seed=0,1", "optuna": "train.ema=0.9,0.99"}
    for name in names:
        sweep = compose_sweep(["experiment=sim2_separable", f"sweep={name}", *([own[name]] if name in own else [])])
        sizes[name] = len(sweep.trials())
        assert (ROOT / "configs" / "sweep" / f"{name}.yaml").read_text().startswith("# ")
    assert sizes == {
        "elements": 4,
        "grid": 2,
        "groups": 4,
        "implementations": 7,
        "kernels": 2,
        "lr_asha": 0,
        "optuna": 0,
        "random": 2,  # of twenty points, two differ
        "seeds": 5,
    }


def test_nets_of_the_project_sweeps_can_be_built() -> None:
    small = ["dataset=digits", "net.hidden_sizes=[4,4,4]", "net.exact=warn"]
    for name in ("implementations", "groups", "elements", "kernels"):
        trials = compose_sweep(["experiment=sim2_separable", f"sweep={name}", *small]).trials()
        driver.check_runs(trials)
    broken = compose_sweep(["experiment=se2_separable", "sweep=implementations", *small]).trials()
    with pytest.raises(ConfigError, match=r"the run with implementation=separable\+2d cannot be: "):
        driver.check_runs(broken)


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
        (["sweep=seeds", "sweep.retries=-1"], "must be a whole number, 0 or more"),
        (["sweep=seeds", "sweep.token=maybe"], "must be one of required, none"),
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


# Where there is room.


def test_room_is_shared_out() -> None:
    def room(nodes: Sequence[tuple[float, float]], *words: str) -> tuple[int, float, float, int]:
        found = cluster_of.room(compose_sweep(["sweep=seeds", *words]), nodes)
        return found.places, found.gpus, found.cpus, found.threads

    assert room([(8, 64)]) == (8, 1.0, 8.0, 8)
    assert room([(8, 64)], "sweep.gpus_per_trial=0.5") == (16, 0.5, 4.0, 4)
    assert room([(8, 64)], "sweep.gpus_per_trial=4") == (2, 4.0, 32.0, 32)
    assert room([(8, 64)], "sweep.max_concurrent=3") == (3, 1.0, 8.0, 8)
    assert room([(8, 4)]) == (8, 1.0, 0.5, 1), "fewer cores than GPUs leave no GPU idle"
    assert room([(0, 16)]) == (1, 0.0, 16.0, 16)
    assert room([(0, 16)], "sweep.cpus_per_trial=4") == (4, 0.0, 4.0, 4)
    assert room([(4, 32), (8, 32), (0, 8)]) == (12, 1.0, 4.0, 4), "a head without GPUs trains nothing"
    with pytest.raises(ConfigError, match="must be at most 8, the GPUs of one machine, but got 16"):
        room([(8, 64), (8, 64)], "sweep.gpus_per_trial=16")
    with pytest.raises(ConfigError, match="must be at most 16, the cores"):
        room([(0, 16)], "sweep.cpus_per_trial=17")


def test_more_gpus_than_there_are_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"`sweep.gpus` must be at most 2, the GPUs of this machine, but got 3"):
        cluster_of.check_gpus(compose_sweep(["sweep=seeds", "sweep.gpus=3"]))
    cluster_of.check_gpus(compose_sweep(["sweep=seeds", "sweep.gpus=2"]))
    cluster_of.check_gpus(compose_sweep(["sweep=seeds", "sweep.gpus=3", "trainer.accelerator=cpu"]))


def test_without_ray_the_remedy_is_named() -> None:
    command.require("json")
    with pytest.raises(ConfigError, match=r"sweeps need no_such_package, not installed here; `make sweep` installs"):
        command.require("json", "no_such_package")


def test_a_cluster_must_ask_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ConfigError, match="must ask for a token"), cluster_of.started(compose_sweep(["sweep=seeds"])):
        pass


def placed(name: str, device: str, began: float, ended: float, node: str = "n") -> dict[str, Any]:
    return {"name": name, "device": device, "began": began, "ended": ended, "node": node}


def test_the_check_of_devices_sees_two_runs_on_one() -> None:
    assert clashes([placed("a", "0", 0, 5), placed("b", "0", 4, 9)]) == ["b and a on n:0"]
    assert clashes([placed("a", "0,1", 0, 5), placed("b", "1,2", 4, 9)]) == ["b and a on n:1"]
    assert clashes([placed("a", "0", 0, 5), placed("b", "0", 5, 9), placed("c", "1", 0, 9)]) == []
    assert clashes([placed("a", "0", 0, 5), placed("b", "0", 4, 9, node="m")]) == []


def test_busy_places_are_counted() -> None:
    assert busy([placed("a", "0", 0, 4), placed("b", "1", 0, 8), placed("c", "0", 6, 10)], 2) == 0.8
    assert busy([placed("a", "0", 0, 4) | {"ended": None}], 2) == 0.0


# What a worker does with a run. Ray is imported only where it is needed: it takes two seconds.


def test_a_worker_hands_on_nothing_of_other_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    from src.sweeps import worker as trial

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
    order = trial.Order("n", (), ".", ".", "log", "p", 3, "val/acc", threads=2, port=20123, grace=1.0)
    found = trial.environment(order)
    assert not set(foreign) & set(found)
    assert found["RUN_FOLDER"] == "."
    assert (found["CUDA_VISIBLE_DEVICES"], found["RANKING"]) == ("1", "1")
    assert (found["MASTER_PORT"], found["OMP_NUM_THREADS"], found["DIE_WITH"]) == ("20123", "2", str(os.getpid()))


def test_a_worker_says_why_a_run_ended(tmp_path: Path) -> None:
    from src.sweeps import worker as trial

    log = "Traceback (most recent call last):\n  File\nRuntimeError: nothing works\n  (a hint)\n"
    assert trial.reason(1, log) == "RuntimeError: nothing works"
    assert trial.reason(1, "a\nerror: `seed` must be\n") == "error: `seed` must be"
    assert trial.reason(3, "last words\n\n") == "last words"
    assert trial.reason(3, "") == "exit code 3"
    assert trial.reason(-signal.SIGKILL, log).startswith("was killed by SIGKILL")
    assert trial.OUT_OF_MEMORY.search("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    assert trial.OUT_OF_MEMORY.search("DefaultCPUAllocator: can't allocate memory: you tried")
    assert not trial.OUT_OF_MEMORY.search(log)
    (tmp_path / "log").write_bytes(b"before\xff after")
    assert trial.tail(tmp_path / "log", 8) == "after"


# What is kept.


def test_the_ledger_believes_the_folders(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "val/acc")
    for name in ("done", "going", "stopped", "removed"):
        ledger.add(name, tmp_path / name, [f"seed={name}"], 3)
    for name, state in (("done", "running"), ("going", "running"), ("stopped", "stopped"), ("removed", "complete")):
        ledger.change(name, state=state)
    ledger.note("going", {"epoch": 2, "val/acc": 0.5, "device": "1", "host": "h"})
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "status.json").write_text(json.dumps({"status": "complete", "epoch": 3, "best": 0.9}))
    again = Ledger(tmp_path, "val/acc").entries
    assert {name: entry.state for name, entry in again.items()} == {
        "done": "complete",
        "going": "interrupted",
        "stopped": "stopped",
        "removed": "waiting",
    }
    assert (again["done"].value, again["done"].over, again["going"].over) == (0.9, True, False)
    assert again["going"].history == [(2, 0.5)]


def test_axes_of_pictures() -> None:
    assert positions(["8", "4"]) == ([8.0, 4.0], None)
    assert positions(["b", "a", "b"]) == ([0.0, 1.0, 0.0], ["b", "a"])
    assert rescaled([1, 10, 100]) == [0.0, 0.5, 1.0]
    assert rescaled([1, 2, 3]) == [0.0, 0.5, 1.0]
    assert rescaled([2, 2]) == [0.5, 0.5]
    assert averaged([(1, 2.0), (1, 4.0), (0, 1.0)]) == [(0, 1.0), (1, 3.0)]


# Sweeps that run.


def sweep(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a sweep of tiny runs whose logs are in a folder."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with (folder / "out.txt").open("a") as out:
        return subprocess.Popen(
            [*SCRIPT, *TINY, f"paths.logs={folder / 'logs'}", *words],
            cwd=folder,
            env=clean | (environment or {}),
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )


def finish(driver: subprocess.Popen[str], folder: Path, code: int = 0) -> str:
    """Wait for the end of a sweep."""
    found, output = driver.wait(300), (folder / "out.txt").read_text()
    assert found == code, output
    return output


def ledger_of(folder: Path) -> dict[str, Entry]:
    """All trials, by what was swept."""
    (path,) = (folder / "logs" / "sweeps").iterdir()
    entries = json.loads((path / "trials.json").read_text())["trials"]
    return {" ".join(entry["point"]): Entry(**entry) for entry in entries}


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (OSError, ValueError, KeyError):  # not there yet
            pass
        time.sleep(0.05)
    raise AssertionError(f"waited for {what} in vain")


def times(folder: Path) -> dict[Path, int]:
    """When the files of a run were written."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def going(folder: Path, epoch: int = 1) -> dict[str, Any]:
    """The status of a run that has done so many epochs and goes on."""
    status = json.loads((folder / "status.json").read_text())
    return status if status["status"] == "running" and status["epoch"] >= epoch else {}


def session_of(folder: Path) -> dict[str, Any]:
    """The last session of a run."""
    return json.loads((folder / "status.json").read_text())["sessions"][-1]


def parent(pid: int) -> int:
    """The process that a process is a child of, on Linux."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def run_of(folder: Path, seed: int) -> Path:
    """The folder of the run with a seed; it must be there."""
    (found,) = (folder / "logs" / "quickstart").glob(f"*_seed{seed}-*")
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three seeds that were never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    for seed in range(3):
        assert execute([*SMALL, *LONG, "callbacks.checkpoint.every_steps=null", f"seed={seed}"], folder / "logs") == [0]
    return folder


LONG = ("train.epochs=12",)
"""Long enough to be killed on the way."""


def test_whatever_is_killed_nothing_is_lost(tmp_path: Path, whole: Path) -> None:
    axes = [*LONG, "seed=0,1,2,3", "sweep.retries=1"]
    first = sweep(tmp_path, *axes)
    # A trial is killed, and taken up by another process.
    status = until(lambda: going(run_of(tmp_path, 0)), "a first epoch")
    os.kill(status["sessions"][-1]["pid"], signal.SIGKILL)
    until(lambda: ledger_of(tmp_path)["seed=1"].state == "complete", "a trial that is complete")
    # The driver is killed; the runs see that it is gone. One is held still, so that it is not done before.
    pid = until(lambda: going(run_of(tmp_path, 2)), "a third run")["sessions"][-1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    worker = parent(pid)
    first.kill()
    first.wait()
    until(lambda: parent(pid) != worker, "the end of the worker")
    os.kill(pid, signal.SIGCONT)
    last = until(lambda: session if (session := session_of(run_of(tmp_path, 2)))["ended"] else None, "its end")
    assert (last["status"], last["signal"]) == ("interrupted", "SIGHUP")
    before = times(run_of(tmp_path, 1))
    # A trial fails: where it is to write what it came to, there is a folder.
    blocked = blocked_metrics(tmp_path, axes)
    output = finish(sweep(tmp_path, *axes), tmp_path, code=1)
    entries = ledger_of(tmp_path)
    assert {label: entry.state for label, entry in entries.items()} == {
        "seed=0": "complete",
        "seed=1": "complete",
        "seed=2": "complete",
        "seed=3": "failed",
    }
    assert "IsADirectoryError" in entries["seed=3"].why
    assert entries["seed=0"].starts == 2
    assert Path(entries["seed=3"].log).read_text().count("Traceback") == 2, "it was tried again once"
    assert "IsADirectoryError" in output
    assert "3 complete, 1 failed" in output
    # The cause is removed, and the same command once more completes the sweep.
    blocked.rmdir()
    finish(sweep(tmp_path, *axes), tmp_path)
    assert {entry.state for entry in ledger_of(tmp_path).values()} == {"complete"}
    assert times(run_of(tmp_path, 1)) == before, "what is complete is not touched"
    for seed in range(3):
        assert unequal(result(run_of(whole, seed)), result(run_of(tmp_path, seed))) == []
    (path,) = (tmp_path / "logs" / "sweeps").iterdir()
    found = [place | {"ended": place["ended"] or place["began"]} for place in placements(path)]
    assert clashes(found) == []
    assert {place["device"] for place in found} == {"0", "1"}


def blocked_metrics(folder: Path, axes: Sequence[str]) -> Path:
    """Put a folder where the run of seed 3 would write its metrics."""
    words = [*TINY, f"paths.logs={folder / 'logs'}", *axes]
    (trial,) = (trial for trial in compose_sweep(words).trials() if trial.point == ("seed=3",))
    path = trial.folder / "metrics.json"
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_eight_trials_on_two_places(tmp_path: Path) -> None:
    axes = ["train.epochs=1", "seed=0,1,2,3", "optimizer.lr=1e-3,1e-2"]
    output = finish(sweep(tmp_path, *axes), tmp_path)
    (path,) = (tmp_path / "logs" / "sweeps").iterdir()
    found = placements(path)
    assert len(found) == len({place["name"] for place in found}) == 8
    assert clashes(found) == []
    assert {place["device"] for place in found} == {"0", "1"}
    assert "8 complete" in output
    # What is written at the end.
    rows = list(csv.DictReader((path / "trials.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert {row["optimizer.lr"] for row in rows} == {"0.001", "0.01"}
    scores = [float(row["val/acc"]) for row in rows if row["optimizer.lr"] == "0.001"]
    ranking = list(csv.DictReader((path / "ranking.csv").read_text().splitlines()))
    (row,) = (row for row in ranking if row["differs in"] == "optimizer.lr=0.001")
    assert (row["n"], row["seeds"]) == ("4", "0, 1, 2, 3")
    assert float(row["val/acc"]) == pytest.approx(sum(scores) / 4, abs=1e-4)
    assert [float(row["val/acc"]) for row in ranking] == sorted(
        (float(row["val/acc"]) for row in ranking), reverse=True
    )
    assert "| 1 | optimizer.lr=" in (path / "ranking.md").read_text()
    for picture in ("seed.png", "optimizer.lr.png", "parallel.png"):
        assert (path / picture).read_bytes().startswith(b"\x89PNG")
    # TensorBoard's HPARAMS.
    sessions = [hparams(folder) for folder in sorted((path / "tensorboard").iterdir())]
    assert len(sessions) == 8
    assert {params["optimizer.lr"] for params, _ in sessions} == {0.001, 0.01}
    assert sorted(scalars["val/acc"] for _, scalars in sessions) == pytest.approx(
        sorted(float(row["val/acc"]) for row in rows)
    )
    # Once more: nothing is run, and the driver needs no Ray.
    began = time.monotonic()
    before = times(tmp_path / "logs" / "quickstart")
    finish(sweep(tmp_path, *axes), tmp_path)
    assert len(placements(path)) == 8
    assert times(tmp_path / "logs" / "quickstart") == before
    assert time.monotonic() - began < 60


def hparams(folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """What was swept and what it came to, as the HPARAMS tab reads it."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder))
    events.Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info.hparams
    params = {
        key: value.number_value if value.HasField("number_value") else value.string_value
        for key, value in start.items()
    }
    return params, {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


def test_several_processes_in_a_trial(tmp_path: Path) -> None:
    finish(sweep(tmp_path, "train.epochs=1", "seed=0,1", "sweep.gpus_per_trial=2"), tmp_path)
    (path,) = (tmp_path / "logs" / "sweeps").iterdir()
    found = placements(path)
    assert [place["device"] for place in found] == ["0,1", "0,1"]
    assert clashes(found) == []
    for entry in ledger_of(tmp_path).values():
        assert "16 over 2 processes, 8 each" in " ".join(Path(entry.log).read_text().split())


def test_optuna_and_asha_go_on_with_what_they_know(tmp_path: Path) -> None:
    words = ["train.epochs=6", "sweep=lr_asha", "sweep.early_stopping={grace: 1, reduction: 2}", "sweep.trials=6"]
    # By loss, which is never the same twice; of so few digits, accuracy is.
    words += ["callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=min"]
    words += ["optimizer.lr=tag(log, interval(1e-6, 3e-2))"]
    first = sweep(tmp_path, *words)
    until(
        lambda: sum(entry.state in ("complete", "stopped") for entry in ledger_of(tmp_path).values()) >= 2, "two trials"
    )
    until(lambda: any(entry.state == "running" for entry in ledger_of(tmp_path).values()), "a third")
    first.send_signal(signal.SIGINT)
    finish(first, tmp_path, code=130)
    halfway = ledger_of(tmp_path)
    assert len(halfway) < 6
    output = finish(sweep(tmp_path, *words), tmp_path)
    entries = ledger_of(tmp_path)
    assert len(entries) == 6
    assert {entry.state for entry in entries.values()} == {"complete", "stopped"}
    assert halfway.keys() <= entries.keys(), "what was interrupted is gone on with"
    for label, entry in halfway.items():
        if entry.state in ("complete", "stopped"):
            assert entries[label] == entry, "and what was over is as it was"
    stopped = [entry for entry in entries.values() if entry.state == "stopped"]
    assert stopped
    assert all(entry.epoch < 6 and "early stopping" in entry.why for entry in stopped)
    assert "stopped" in output
    statuses = [json.loads((Path(entry.folder) / "status.json").read_text()) for entry in stopped]
    assert all(status["status"] == "interrupted" for status in statuses), "a checkpoint is there, and it could go on"


def test_searches_are_told_of_earlier_trials(tmp_path: Path) -> None:
    from src.sweeps.search import early_stopping, searcher

    words = [
        "sweep=lr_asha",
        "sweep.early_stopping={grace: 1, reduction: 2}",
        f"paths.logs={tmp_path}",
        "train.epochs=9",
    ]
    plan = compose_sweep(words)
    ledger = Ledger(plan.folder, plan.metric)
    for i in range(8):
        params = {"optimizer.lr": 1e-3 * (i + 1), "optimizer.weight_decay": 1e-4}
        entry = ledger.add(f"t{i}", tmp_path / f"t{i}", [f"i={i}"], 9, params)
        entry.state, entry.value, entry.history = "stopped", 0.1 * i, [(1, 0.1 * i)]
    entry.state = "interrupted"
    search = searcher(plan, ledger, lambda entry: {"name": entry.name})
    told = search._ot_study.trials
    known = {trial.params["optimizer.lr"]: trial.value for trial in told if trial.params}
    assert known == {1e-3 * (i + 1): 0.1 * i for i in range(7)}
    assert search.suggest("x")["order"]["name"]
    proposed = search._ot_trials["x"].params
    assert proposed == entry.params, "what was interrupted comes first"
    # The median of what was reached after an epoch is 0.3: the first below it that reports is stopped at once.
    scheduler = early_stopping(plan, ledger)
    assert decision(scheduler, plan, 0.1) == "STOP"
    assert decision(scheduler, plan, 0.6) == "CONTINUE"
    assert decision(early_stopping(plan, Ledger(tmp_path / "new", plan.metric)), plan, 0.1) == "CONTINUE"


def decision(scheduler: Any, plan: Sweep, value: float) -> str:
    """What a scheduler says to a trial that has reached a value after its first epoch."""
    from types import SimpleNamespace

    trial = SimpleNamespace(trial_id=f"new-{value}", stub=True, config={})
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": 1, plan.metric: value})


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
    start = [
        ray,
        "start",
        "--node-ip-address=127.0.0.1",
        "--num-cpus=1",
        "--num-gpus=1",
        "--object-store-memory=100000000",
    ]
    nodes = [["--head", f"--port={port}", "--include-dashboard=false"], [f"--address=127.0.0.1:{port}"]]
    processes = []
    try:
        for i, node in enumerate(nodes):
            with (tmp_path / f"node{i}.txt").open("w") as out:
                command = [*start, *node, "--block", f"--labels=place={i}"]
                processes.append(
                    subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=subprocess.STDOUT)
                )
            until(
                lambda i=i: reached(port) and "started" in (tmp_path / f"node{i}.txt").read_text(), "a node of Ray", 60
            )
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
    refused = sweep(tmp_path, *words, environment={**cluster, "RAY_AUTH_MODE": "disabled"})
    assert "must ask for a token" in finish(refused, tmp_path, code=1)
    wrong = sweep(tmp_path, *words, environment={**cluster, "RAY_AUTH_TOKEN": "8" * 64})
    assert wrong.wait(120) != 0, "who does not know the token is not let in"
    finish(sweep(tmp_path, *words, environment=cluster), tmp_path)
    (path,) = (tmp_path / "logs" / "sweeps").iterdir()
    found = placements(path)
    assert len(found) == 4
    assert len({place["node"] for place in found}) == 2
    assert clashes(found) == []


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
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_GPUS_ON_NODE": "1",
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_JOB_NODELIST": "[one-two]",
        "SLURM_NTASKS": "2",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }
    words = [word for word in TINY if not word.startswith("sweep.gpus")]
    words += ["train.epochs=1", "seed=0,1", f"paths.logs={tmp_path / 'logs'}"]
    script = ["bash", str(ROOT / "scripts" / "sweep.slurm"), *words]
    done = subprocess.run(script, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 complete" in done.stdout
    (path,) = (tmp_path / "logs" / "sweeps").iterdir()
    assert len({place["node"] for place in placements(path)}) == 2


def test_the_end_of_a_sweep_names_what_helps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = compose_sweep(["sweep=seeds", f"paths.logs={tmp_path}"])
    ledger = Ledger(plan.folder, plan.metric)
    for trial in plan.trials()[:2]:
        ledger.add(trial.name, trial.folder, list(trial.point), trial.epochs)
    first, second = ledger.entries.values()
    ledger.change(first.name, state="out of memory", why="CUDA out of memory", starts=1)
    present(plan, ledger)
    output = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "smaller train.batch_size" in output
    assert "1 waiting, 1 out of memory" in output
    assert replace(second, point=[]).label == second.name


def test_two_drivers_of_one_sweep_are_told(tmp_path: Path) -> None:
    with (
        driver.held(tmp_path),
        pytest.raises(ConfigError, match="is being run by another process"),
        driver.held(tmp_path),
    ):
        pass
    with driver.held(tmp_path):
        pass
