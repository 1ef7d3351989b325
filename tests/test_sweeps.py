"""Sweeps that run on this machine: who gets which slot, and that nothing is lost whatever is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from kills import SMALL, execute, result, unequal
from sweeping import STAND_IN, TINY, clashes, finish, placements, records_of, start, sweep_folder, until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.sweeps.sweep import compose_sweep

LONG = ("train.epochs=8",)
"""Long enough to be killed on the way."""


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


def hold(folder: Path, axes: Sequence[str], seed: int) -> Path:
    """Have what stands in for the run of a seed wait in its second epoch, until the file is gone."""
    path = folder_of_trial(folder, axes, seed) / "hold"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def folder_of_trial(folder: Path, axes: Sequence[str], seed: int) -> Path:
    """Where the run of a seed will be."""
    words = [*TINY, f"paths.logs={folder / 'logs'}", *axes]
    (trial,) = (trial for trial in compose_sweep(words).trials() if trial.point == (f"seed={seed}",))
    return trial.folder


def test_runs_that_are_killed_come_to_the_same(tmp_path: Path) -> None:
    whole, axes = tmp_path / "whole", [*LONG, "seed=0,1", "sweep.retries=1"]
    whole.mkdir()
    for seed in range(2):
        assert execute([*SMALL, *LONG, "callbacks.checkpoint.every_steps=null", f"seed={seed}"], whole / "logs") == [0]
    first, held = start(tmp_path, *axes), {}
    # Both are held still after their first epoch, so that neither is done before.
    until(lambda: held_still(tmp_path, held), "a first epoch of both")
    # One is killed, and taken up by another process.
    os.kill(held[0], signal.SIGKILL)
    until(lambda: records_of(tmp_path)["seed=0"].state == "complete", "the end of the one that was killed")
    # The driver is killed; the other run sees that it is gone.
    kill_driver(first, held[1])
    assert ended(run_of(tmp_path, 1)) == ("interrupted", "SIGHUP")
    finish(start(tmp_path, *axes), tmp_path)
    assert {record.state for record in records_of(tmp_path).values()} == {"complete"}
    for seed in range(2):
        assert len(json.loads((run_of(tmp_path, seed) / "status.json").read_text())["sessions"]) == 2
        assert unequal(result(run_of(whole, seed)), result(run_of(tmp_path, seed))) == []


def held_still(folder: Path, held: dict[int, int]) -> bool:
    """Stop the process of each of two runs when it has done an epoch; whether both are stopped, with their numbers."""
    for seed in {0, 1} - held.keys():
        with suppress(OSError, ValueError):  # not there yet
            if status := going(run_of(folder, seed)):
                held[seed] = status["sessions"][-1]["pid"]
                os.kill(held[seed], signal.SIGSTOP)
    return len(held) == 2


def kill_driver(driver: BaseProcess, pid: int) -> None:
    """Kill a driver, and let one of its runs, which is held still, go on when its worker is gone."""
    worker = parent(pid)
    driver.kill()
    driver.join()
    until(lambda: parent(pid) != worker, "the end of the worker")
    os.kill(pid, signal.SIGCONT)


def ended(folder: Path) -> tuple[str, str]:
    """How the last session of a run ended, and by which signal; it is waited for."""
    last = until(lambda: session if (session := session_of(folder))["ended"] else None, "its end")
    return last["status"], last.get("signal", "")


def test_whatever_is_killed_nothing_is_lost(tmp_path: Path) -> None:
    axes = [*LONG, "seed=0,1,2,3", "sweep.retries=1"]
    # A trial fails: where it is to write what it came to, there is a folder.
    blocked = blocked_metrics(tmp_path, axes)
    holds = {seed: hold(tmp_path, axes, seed) for seed in (0, 2)}
    first = start(tmp_path, *axes, train=STAND_IN)
    # A trial is killed, and taken up by another process.
    status = until(lambda: going(run_of(tmp_path, 0)), "a first epoch")
    holds[0].unlink()
    os.kill(status["sessions"][-1]["pid"], signal.SIGKILL)
    until(lambda: records_of(tmp_path)["seed=1"].state == "complete", "a trial that is complete")
    # The driver is killed; the runs see that it is gone. One is held still.
    pid = until(lambda: going(run_of(tmp_path, 2)), "a third run")["sessions"][-1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    kill_driver(first, pid)
    assert ended(run_of(tmp_path, 2)) == ("interrupted", "SIGHUP")
    holds[2].unlink()
    before = times(run_of(tmp_path, 1))
    fourth = run_of(tmp_path, 3)
    until(lambda: not (fourth / "status.json").exists() or not going(fourth, 0), "the end of the fourth run")
    log = Path(records_of(tmp_path)["seed=3"].log)
    failures = log.read_text().count("Traceback") if log.exists() else 0
    output = finish(start(tmp_path, *axes, train=STAND_IN), tmp_path, code=1)
    records = records_of(tmp_path)
    assert {label: record.state for label, record in records.items()} == {
        "seed=0": "complete",
        "seed=1": "complete",
        "seed=2": "complete",
        "seed=3": "failed",
    }
    assert "IsADirectoryError" in records["seed=3"].why
    assert records["seed=0"].starts == 2
    assert log.read_text().count("Traceback") == failures + 2, "it was tried again once"
    assert "IsADirectoryError" in output
    assert "3 complete, 1 failed" in output
    # The cause is removed, and the same command once more completes the sweep.
    blocked.rmdir()
    finish(start(tmp_path, *axes, train=STAND_IN), tmp_path)
    assert {record.state for record in records_of(tmp_path).values()} == {"complete"}
    assert times(run_of(tmp_path, 1)) == before, "what is complete is not touched"
    found = [placement | {"ended": placement["ended"] or placement["began"]} for placement in placements(tmp_path)]
    assert clashes(found) == []
    assert {placement["device"] for placement in found} == {"0", "1"}


def blocked_metrics(folder: Path, axes: Sequence[str]) -> Path:
    """Put a folder where the run of seed 3 would write its metrics."""
    path = folder_of_trial(folder, axes, 3) / "metrics.json"
    path.mkdir(parents=True)
    return path


def test_four_trials_in_two_slots(tmp_path: Path) -> None:
    axes = ["train.epochs=1", "seed=0,1", "optimizer.lr=1e-3,1e-2"]
    output = finish(start(tmp_path, *axes, train=STAND_IN), tmp_path)
    path, found = sweep_folder(tmp_path), placements(tmp_path)
    assert len(found) == len({placement["name"] for placement in found}) == 4
    assert clashes(found) == []
    assert {placement["device"] for placement in found} == {"0", "1"}
    assert "4 complete" in output
    # What is written at the end.
    rows = list(csv.DictReader((path / "trials.csv").read_text().splitlines()))
    assert len(rows) == 4
    assert {row["optimizer.lr"] for row in rows} == {"0.001", "0.01"}
    scores = [float(row["val/acc"]) for row in rows if row["optimizer.lr"] == "0.001"]
    ranking = list(csv.DictReader((path / "ranking.csv").read_text().splitlines()))
    (row,) = (row for row in ranking if row["differs in"] == "optimizer.lr=0.001")
    assert (row["n"], row["seeds"]) == ("2", "0, 1")
    assert float(row["val/acc"]) == pytest.approx(sum(scores) / 2, abs=1e-4)
    assert [float(row["val/acc"]) for row in ranking] == sorted(
        (float(row["val/acc"]) for row in ranking), reverse=True
    )
    assert "| 1 | optimizer.lr=" in (path / "ranking.md").read_text()
    for picture in ("seed.png", "optimizer.lr.png"):
        assert (path / picture).read_bytes().startswith(b"\x89PNG")
    # TensorBoard's HPARAMS.
    sessions = [hparams(folder) for folder in sorted((path / "tensorboard").iterdir())]
    assert len(sessions) == 4
    assert {params["optimizer.lr"] for params, _ in sessions} == {0.001, 0.01}
    assert sorted(scalars["val/acc"] for _, scalars in sessions) == pytest.approx(
        sorted(float(row["val/acc"]) for row in rows)
    )
    # Once more: nothing is run, and the driver needs no Ray.
    began = time.monotonic()
    before = times(tmp_path / "logs" / "quickstart")
    finish(start(tmp_path, *axes, train=STAND_IN), tmp_path)
    assert len(placements(tmp_path)) == 4
    assert times(tmp_path / "logs" / "quickstart") == before
    assert time.monotonic() - began < 60


def hparams(folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """What was swept and what it came to, as the HPARAMS page reads it."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder))
    events.Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    params = {
        key: value.number_value if value.HasField("number_value") else value.string_value
        for key, value in hparams.items()
    }
    return params, {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


def test_several_processes_in_a_trial(tmp_path: Path) -> None:
    words = ["train.epochs=1", "seed=0,1", "sweep.gpus_per_trial=2", "sweep.cpus_per_trial=1"]
    finish(start(tmp_path, *words, environment={"TRAINS": "seed=0"}, train=STAND_IN), tmp_path)
    found = placements(tmp_path)
    assert [placement["device"] for placement in found] == ["0,1", "0,1"]
    assert clashes(found) == []
    trained = records_of(tmp_path)["seed=0"]
    assert "16 over 2 processes, 8 each" in " ".join(Path(trained.log).read_text().split())


def test_optuna_and_asha_go_on_with_what_they_know(tmp_path: Path) -> None:
    words = ["train.epochs=6", "sweep=lr_asha", "sweep.early_stopping={grace: 1, reduction: 2}", "sweep.trials=6"]
    words += ["callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=min"]
    words += ["optimizer.lr=tag(log, interval(1e-6, 3e-2))"]
    first = start(tmp_path, *words, train=STAND_IN)
    until(lambda: sum(record.finished for record in records_of(tmp_path).values()) >= 2, "two trials")
    until(lambda: any(record.state == "running" for record in records_of(tmp_path).values()), "a third")
    os.kill(first.pid, signal.SIGINT)
    finish(first, tmp_path, code=130)
    halfway = records_of(tmp_path)
    assert len(halfway) < 6
    output = finish(start(tmp_path, *words, train=STAND_IN), tmp_path)
    records = records_of(tmp_path)
    assert len(records) == 6
    assert {record.state for record in records.values()} == {"complete", "stopped"}
    assert halfway.keys() <= records.keys(), "what was interrupted is gone on with"
    for label, record in halfway.items():
        if record.state in ("complete", "stopped"):
            assert records[label] == record, "and what was over is as it was"
    stopped = [record for record in records.values() if record.state == "stopped"]
    assert stopped
    assert all(record.epoch < 6 and "early stopping" in record.why for record in stopped)
    assert "stopped" in output
    statuses = [json.loads((Path(record.folder) / "status.json").read_text()) for record in stopped]
    assert all(status["status"] == "interrupted" for status in statuses), "a checkpoint is there, and it could go on"
