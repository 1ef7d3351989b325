"""What there is to say of a run, whatever state its folder is in, and the list of runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from run_folders import DAY, ended, sessions

from scripts import runs as runs_command
from src.runs import record as registry
from src.runs.record import _runs_below as runs
from src.runs.record import read

# Runs.


def test_runs_are_found_newest_first(make: Callable[..., Path], logs: Path) -> None:
    folders = [make(seed=seed) for seed in range(3)]
    (logs / "quickstart" / "no run").mkdir()
    (folders[0] / "checkpoints").mkdir()
    (folders[0] / "checkpoints" / "status.json").write_text("{}")
    found = runs(logs)
    assert [run.folder for run in found] == folders[::-1]
    run = found[-1]
    assert (run.experiment, run.id, run.state, run.epoch, run.epochs) == ("quickstart", "seed0-1", "complete", 3, 30)
    assert (run.best, run.seconds, run.seed, run.data, run.metrics["test/acc"]) == (0.75, 100.0, 0, "digits-1", 0.5)
    assert run.started is not None
    assert run.started.isoformat() == DAY.format(1)


def test_no_runs(tmp_path: Path) -> None:
    assert runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize("depth", ["a", "x/a", "x/y/z/a"])
def test_runs_are_found_at_any_depth(tmp_path: Path, depth: str) -> None:
    (tmp_path / depth).mkdir(parents=True)
    (tmp_path / depth / "status.json").write_text('{"status": "failed"}')
    (run,) = runs(tmp_path)
    assert (run.id, run.status, run.epoch, run.started) == ("a", "failed", None, None)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '"complete"',
        "{}",
        '{"status": 3}',
        '{"status": "fine"}',
        b"\xff\xfe\x00",
        '{"status": []}',
    ],
)
def test_damaged_files_are_shown_as_such(logs: Path, make: Callable[..., Path], content: str | bytes) -> None:
    (make() / "status.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    (run,) = runs(logs)
    assert run.state == "damaged (status.json cannot be read)"
    assert (run.experiment, run.id) == ("quickstart", "seed0-1")


@pytest.mark.parametrize(
    "facts",
    [
        {"epoch": "three", "epochs": None, "best": [], "seconds": {}},
        {"sessions": None},
        {"sessions": []},
        {"sessions": [3]},
        {"sessions": {"a": 1}},
        {"sessions": sessions(started="yesterday", pid="x")},
        {"sessions": sessions(pid=-1)},
        {"experiment": 3, "id": None, "data": 4, "best": True},
    ],
)
@pytest.mark.parametrize("status", ["running", "complete"])
def test_strange_values_are_passed_over(make: Callable[..., Path], logs: Path, facts: dict, status: str) -> None:
    make(status=status, **facts)
    (run,) = runs(logs)
    assert run.status == status
    assert run.experiment == "quickstart"
    assert runs_command._table([run]).row_count == 1


def test_older_runs_lack_keys(logs: Path) -> None:
    folder = logs / "old" / "seed0-1"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text('{"status": "complete", "started": "2026-01-01T00:00:00+00:00"}')
    (folder / "metrics.json").write_text('{"test/acc": 0.25, "train/seconds": 9.5, "note": "x"}')
    (run,) = runs(logs)
    assert (run.experiment, run.seconds, run.metrics) == ("old", 9.5, {"test/acc": 0.25, "train/seconds": 9.5})
    assert run.started is not None


def test_a_run_whose_process_is_gone_was_killed(make: Callable[..., Path], logs: Path) -> None:
    make(status="running", sessions=sessions(pid=ended()))
    (run,) = runs(logs)
    assert run.state == "interrupted (was killed)"


@pytest.mark.parametrize(
    "facts",
    [{"host": "elsewhere", "pid": 2**22 + 5}, {"started": registry.datetime.now(registry.UTC).isoformat()}, {"pid": 1}],
    ids=["elsewhere", "this process", "someone else's"],
)
def test_a_run_whose_process_may_be_there_is_running(make: Callable[..., Path], logs: Path, facts: dict) -> None:
    now = {"started": registry.datetime.now(registry.UTC).isoformat()}
    make(status="running", sessions=sessions(**now | facts))
    (run,) = runs(logs)
    assert run.state == "running"


def test_a_number_that_was_given_to_another_process_is_none(make: Callable[..., Path], logs: Path) -> None:
    make(status="running", sessions=sessions(started="2001-01-01T00:00:00+00:00"))
    assert runs(logs)[0].state == "interrupted (was killed)"


def test_a_run_that_ends_while_it_is_looked_at_was_not_killed(
    make: Callable[..., Path], logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(status="running", sessions=sessions())

    def ends(pid: int) -> psutil.Process:
        (folder / "status.json").write_text('{"status": "complete"}')
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", ends)
    assert runs(logs)[0].state == "complete"


def test_a_process_that_cannot_be_asked_about_is_there(
    make: Callable[..., Path], logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> psutil.Process:
        raise psutil.AccessDenied(pid)

    make(status="running", sessions=sessions())
    monkeypatch.setattr(psutil, "Process", refuse)
    assert runs(logs)[0].state == "running"


def test_a_run_is_judged_by_the_metric_that_its_configuration_names(make: Callable[..., Path]) -> None:
    metrics = {"test/acc": 0.5, "test/f1": 0.25}
    run = read(make("+task={primary:f1}", metrics=metrics))
    assert (run.primary, run.score) == ("f1", 0.25)
    older = read(make(metrics=metrics))
    assert (older.primary, older.score) == ("acc", 0.5)
    assert read(make(status="failed")).score is None


def test_what_was_composed_is_read_where_what_was_resolved_is_damaged(make: Callable[..., Path]) -> None:
    folder = make("optimizer.lr=0.1", seed=3)
    assert read(folder).recipe["dataset"]["order_seed"] == "${seed}"
    assert read(folder).config["dataset"]["order_seed"] == 3
    (folder / "config.yaml").write_text("a: [")
    assert (read(folder).config, read(folder).seed) == (None, 3)
    folder = make(seed=4)
    (folder / "recipe.yaml").unlink()
    assert (read(folder).recipe, read(folder).seed) == (read(folder).config, 4)


# The list.


def listed(capsys: pytest.CaptureFixture[str], logs: Path, *arguments: str) -> str:
    runs_command.main([f"paths.logs={logs}", *arguments])
    return capsys.readouterr().out


def test_list(make: Callable[..., Path], logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(acc=0.9, seconds=3725)
    make(seed=1, acc=0.875)
    make("experiment=cnn_baseline", status="running", sessions=sessions(pid=ended()), best=None)
    (make(seed=5) / "status.json").write_text("{")
    text = listed(capsys, logs)
    lines = text.splitlines()
    assert "4 runs: 2 complete, 1 interrupted, 1 damaged; 1 h 5 min of training." in text
    (line,) = (line for line in lines if "cnn_baseline" in line)
    assert "interrupted (was killed)" in line
    assert "3/30" in line
    (line,) = (line for line in lines if "seed0-1" in line)
    assert all(word in line for word in ("complete", "0.7500", "0.9000", "1 h 2 min"))
    assert [line.index("0.8750") for line in lines if "seed1-2" in line] != []
    assert text.index("seed1-2") < text.index("seed0-1"), "newest first"

    assert "seed5" not in listed(capsys, logs, "--status", "complete")
    assert "cnn" not in listed(capsys, logs, "--experiment", "quickstart")
    text = listed(capsys, logs, "--sort", "test")
    assert text.index("seed0-1") < text.index("seed1-2") < text.index("seed0-3"), "best first, unknown last"
    assert "no run in" in listed(capsys, logs, "--status", "failed")


def test_options_may_come_in_any_order(
    make: Callable[..., Path], logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make()
    runs_command.main(["--experiment", "quickstart", f"paths.logs={logs}", "--sort", "id"])
    assert "1 run: 1 complete; 1 min 40 s of training." in capsys.readouterr().out


def test_no_runs_yet(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys, logs) == f"no runs yet in {logs}; `make train` makes the first.\n"
    assert listed(capsys, logs, "--experiment", "any").startswith("no runs yet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--status", "done"], "error: `--status` must be one of running, complete, .*, but got 'done'"),
        (["--sort", "accuracy"], "error: `--sort` must be one of experiment, id, .*, but got 'accuracy'"),
        (["--experiment", "quikstart"], "error: `--experiment` 'quikstart' has no runs .* Did you mean 'quickstart'"),
        (["train.epochs=3"], "error: `runs` takes paths.logs=FOLDER and options, but got 'train.epochs=3'"),
    ],
)
def test_wrong_options_are_explained(make: Callable[..., Path], logs: Path, arguments: list[str], message: str) -> None:
    make()
    with pytest.raises(SystemExit, match=message):
        runs_command.main([f"paths.logs={logs}", *arguments])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (11_220, "3 h 7 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert runs_command._duration(seconds) == text
