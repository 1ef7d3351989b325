"""What there is to say of runs, whatever state their folders are in, and of groups of them."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import compare as compare_command
from scripts import runs as runs_command
from src.config.compose import compose_config, plain
from src.runs import compare as comparing
from src.runs import record as registry
from src.runs.compare import compare, distinguishing, excluded, mark_copies, written
from src.runs.record import runs
from src.training import ConfigError

DAY = "2026-03-{:02}T12:00:00+00:00"


@cache
def configuration(*overrides: str) -> dict[str, Any]:
    """A resolved configuration, as a run keeps it."""
    return plain(compose_config(overrides))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes the folder of a run below tmp_path / "logs"."""
    count = iter(range(1, 100))

    def make(
        *overrides: str, seed: int = 0, status: str = "complete", acc: float = 0.5, config: Any = None, **facts: Any
    ) -> Path:
        n = next(count)
        config = json.loads(json.dumps(configuration(*overrides) if config is None else config))
        name, config["seed"] = config["name"], seed
        if config["dataset"]["order_seed"] == 0:
            config["dataset"]["order_seed"] = seed
        folder = tmp_path / "logs" / name / f"seed{seed}-{n}"
        config["paths"]["run"] = str(folder)
        config["dataset"]["extra"] = f"{folder}/somewhere"
        folder.mkdir(parents=True)
        session = {"started": DAY.format(n), "ended": None, "status": status, "host": "elsewhere"}
        record = {"status": status, "experiment": name, "id": folder.name, "data": "digits-1", "epoch": 3, "epochs": 30}
        record |= {"best": 0.75, "seconds": 100.0, "sessions": [session | {"pid": os.getpid()}]}
        (folder / "status.json").write_text(json.dumps(record | facts))
        (folder / "config.yaml").write_text(
            yaml.dump(config, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
        )
        if status == "complete":
            (folder / "metrics.json").write_text(json.dumps({"test/acc": acc, "val/acc": 0.75, "parameters": 255_242}))
        return folder

    return make


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def session(**facts: Any) -> list[dict[str, Any]]:
    """Sessions of a run, the last of which is this."""
    first = {"started": DAY.format(1), "host": "elsewhere", "pid": 1}
    return [first, {"started": DAY.format(2), "host": socket.gethostname(), "pid": os.getpid()} | facts]


def ended() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


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
        {"sessions": session(started="yesterday", pid="x")},
        {"sessions": session(pid=-1)},
        {"experiment": 3, "id": None, "data": 4, "best": True},
    ],
)
@pytest.mark.parametrize("status", ["running", "complete"])
def test_strange_values_are_passed_over(make: Callable[..., Path], logs: Path, facts: dict, status: str) -> None:
    make(status=status, **facts)
    (run,) = runs(logs)
    assert run.status == status
    assert run.experiment == "quickstart"
    assert runs_command.table([run]).row_count == 1


def test_older_runs_lack_keys(logs: Path) -> None:
    folder = logs / "old" / "seed0-1"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text('{"status": "complete", "started": "2026-01-01T00:00:00+00:00"}')
    (folder / "metrics.json").write_text('{"test/acc": 0.25, "train/seconds": 9.5, "note": "x"}')
    (run,) = runs(logs)
    assert (run.experiment, run.seconds, run.metrics) == ("old", 9.5, {"test/acc": 0.25, "train/seconds": 9.5})
    assert run.started is not None


def test_a_run_whose_process_is_gone_was_killed(make: Callable[..., Path], logs: Path) -> None:
    make(status="running", sessions=session(pid=ended()))
    (run,) = runs(logs)
    assert run.state == "interrupted (was killed)"


@pytest.mark.parametrize(
    "facts",
    [{"host": "elsewhere", "pid": 2**22 + 5}, {"started": registry.datetime.now(registry.UTC).isoformat()}, {"pid": 1}],
    ids=["elsewhere", "this process", "someone else's"],
)
def test_a_run_whose_process_may_be_there_is_running(make: Callable[..., Path], logs: Path, facts: dict) -> None:
    now = {"started": registry.datetime.now(registry.UTC).isoformat()}
    make(status="running", sessions=session(**now | facts))
    (run,) = runs(logs)
    assert run.state == "running"


@pytest.mark.skipif(registry.beginning(os.getpid()) is None, reason="the system does not say when a process began")
def test_a_number_that_was_given_to_another_process_is_none(make: Callable[..., Path], logs: Path) -> None:
    make(status="running", sessions=session(started="2001-01-01T00:00:00+00:00"))
    assert runs(logs)[0].state == "interrupted (was killed)"


def test_a_run_that_ends_while_it_is_looked_at_was_not_killed(
    make: Callable[..., Path], logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(status="running", sessions=session())

    def ends(pid: int) -> bool:
        (folder / "status.json").write_text('{"status": "complete"}')
        return False

    monkeypatch.setattr(registry, "alive", ends)
    assert runs(logs)[0].state == "complete"


# The list.


def listed(capsys: pytest.CaptureFixture[str], logs: Path, *arguments: str) -> str:
    runs_command.main([f"paths.logs={logs}", *arguments])
    return capsys.readouterr().out


def test_list(make: Callable[..., Path], logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(acc=0.9, seconds=3725)
    make(seed=1, acc=0.875)
    make("experiment=cnn_baseline", status="running", sessions=session(pid=ended()), best=None)
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
    assert runs_command.duration(seconds) == text


# Groups.


def test_seeds_make_a_group(make: Callable[..., Path], logs: Path) -> None:
    for seed, acc in enumerate((0.5, 0.75, 0.7)):
        make(seed=seed, acc=acc)
    make("optimizer.lr=0.1", acc=0.25)
    first, second = compare(runs(logs), "test/acc")
    assert (first.seeds, first.values, first.label) == ((0, 1, 2), (0.5, 0.75, 0.7), "optimizer.lr=0.003")
    assert first.mean == pytest.approx(0.65)
    assert first.std == pytest.approx((0.0175) ** 0.5), "with n - 1"
    assert (second.seeds, second.mean, second.std, second.label) == ((0,), 0.25, None, "optimizer.lr=0.1")


def test_where_a_run_is_placed_does_not_count(make: Callable[..., Path], logs: Path) -> None:
    placement = ["paths.data=/x", "paths.cache=/y", "trainer.devices=4", "dataset.num_workers=2", "logger=none"]
    make(seed=0)
    make(*placement, "observers.progress=null", "trainer.accelerator=cpu", "dataset.on_device=true", seed=1)
    make("dataset=mnist", seed=0)
    make("dataset=mnist", "paths.data=/x", seed=1)
    make("dataset=mnist", "dataset.path=/x/elsewhere", seed=2)
    make("dataset=images", "dataset.path=/x/mine", seed=0)
    make("dataset=images", "dataset.path=/x/yours", seed=1)
    assert sorted(group.seeds for group in compare(runs(logs), "test/acc")) == [(0,), (0, 1), (0, 1, 2), (1,)]


def test_of_a_seed_the_newest_counts(make: Callable[..., Path], logs: Path) -> None:
    older, newer, _ = make(acc=0.1), make(acc=0.5), make(acc=0.7, seed=1)
    (group,) = compare(runs(logs), "test/acc")
    assert group.values == (0.5, 0.7)
    assert [run.folder for run in group.repeated] == [older]
    assert group.runs[0].folder == newer


def test_other_runs_are_named(make: Callable[..., Path], logs: Path) -> None:
    kept = make()
    reasons = {
        make(status="running", sessions=session(pid=ended())): "interrupted (was killed)",
        make(status="failed"): "failed",
        (unreadable := make()): "its config.yaml cannot be read",
        (lacking := make()): "its metrics.json has no test/acc",
        (without := make()): "its metrics.json has no test/acc",
    }
    (unreadable / "config.yaml").write_text("a: [")
    (lacking / "metrics.json").write_text("{}")
    (without / "metrics.json").unlink()
    found = runs(logs)
    assert {run.folder: why for run, why in excluded(found, "test/acc")} == reasons
    (group,) = compare(found, "test/acc")
    assert [run.folder for run in group.runs] == [kept]


def test_unknown_metrics_are_refused(make: Callable[..., Path], logs: Path) -> None:
    make()
    with pytest.raises(ConfigError, match=r"'test/f1' is in no metrics.json. There are: parameters, test/acc, val/acc"):
        compare(runs(logs), "test/f1")


def test_there_must_be_complete_runs(make: Callable[..., Path], logs: Path) -> None:
    make(status="failed")
    with pytest.raises(ConfigError, match="needs complete runs, but there are 1 failed"):
        compare(runs(logs), "test/acc")
    with pytest.raises(ConfigError, match="needs complete runs, but there are none"):
        compare([], "test/acc")


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        (["group=p4", "group=se2"], {"group.elements=[4]", "group.elements=[8]"}),
        (["group=p4m", "group=se2"], {"group.H=O2 group.elements=[4,2]", "group.H=SO2 group.elements=[8]"}),
        (["kernel=lattice", "kernel=siren"], {"kernel=Lattice", "kernel=Siren"}),
        (
            ["kernel=lattice", "kernel=siren", "kernel.omega_0=5"],
            {"kernel=Lattice", "kernel=Siren kernel.omega_0=5", "kernel=Siren kernel.omega_0=10.0"},
        ),
        (["mask=none", "mask=disc"], {"mask=null", "mask=Mask"}),
        (
            ["mask=smooth_disc", "mask=disc"],
            {"mask.space=SmoothDisc mask.scale=SmoothInterval", "mask.space=Disc mask.scale=null"},
        ),
        (["scheduler=none", "scheduler=cosine"], {"scheduler=Schedule", "scheduler=Cosine"}),
        (["train.batch_size=8", "train.batch_size=16"], {"train.batch_size=8", "train.batch_size=16"}),
        (["dataset.size=20", "dataset.size=28"], {"dataset.size=20", "dataset.size=28"}),
        (["implementation=lifting", ""], {"implementation.formula=oi x", "implementation.formula=oi h, o x"}),
        (["train.accumulate=1", "train.accumulate=2"], {"train.accumulate=1", "train.accumulate=2"}),
        (["train.gradient_clip=1", "train.gradient_clip=2"], {"train.gradient_clip=1", "train.gradient_clip=2"}),
        (["augment=none", "augment=rotate"], {"augment.rotate=0", "augment.rotate=180"}),
        (
            ["optimizer.lr=0.1 net.dropout=0.1", "optimizer.lr=0.2 net.dropout=0.2"],
            {"net.dropout=0.1 optimizer.lr=0.1", "net.dropout=0.2 optimizer.lr=0.2"},
        ),
        (["experiment=cnn_baseline", "experiment=quickstart"], {""}),
    ],
)
def test_groups_are_told_apart_by_few_keys(
    make: Callable[..., Path], logs: Path, overrides: list[str], labels: set[str]
) -> None:
    for words in overrides:
        make(*words.split())
    groups = compare(runs(logs), "test/acc")
    assert len(groups) == len(overrides)
    assert {group.label for group in groups} == labels


def test_scales_of_sim2() -> None:
    flats = [
        dict(comparing.flattened(configuration("group=sim2", "implementation=separable+2d", f"group.max_scale={s}")))
        for s in (1.5, 2.0)
    ]
    assert distinguishing(flats) == ["group.max_scale"]


@pytest.mark.parametrize(
    ("values", "copies"),
    [
        ({0: [0], 1: [1], 2: [2]}, {0: [True], 1: [True], 2: [True]}),
        ({0: [0], 1: [0], 2: [0]}, {0: [False], 1: [False], 2: [False]}),
        ({5: [0], 6: [0]}, {5: [False], 6: [False]}),
        ({0: [0]}, {0: [None]}),
        ({0: [0], 1: [1, 0], 2: [2, 0]}, {0: [True], 1: [True, False], 2: [True, False]}),
        ({0: [0], 1: [7]}, {0: [None], 1: [False]}),
    ],
)
def test_copies_of_the_seed(values: dict[int, list[int]], copies: dict[int, list[bool | None]]) -> None:
    """The values that a key has in runs of each seed, and whether they are copies."""

    class Seeded:
        def __init__(self, seed: int) -> None:
            self.seed = seed

    members = [({"order_seed": value}, Seeded(seed)) for seed, column in values.items() for value in column]
    mark_copies(members)
    found: dict[int, list[bool | None]] = {}
    for flat, run in members:
        value = flat["order_seed"]
        found.setdefault(run.seed, []).append(None if isinstance(value, comparing.Either) else value == comparing.SEED)
    assert found == copies


def test_what_cannot_be_told_apart_is_not(make: Callable[..., Path], logs: Path) -> None:
    make("dataset.seed=1", seed=0)
    make("dataset.seed=1", seed=1)
    make("optimizer.lr=0.1", "dataset.seed=1", seed=1)
    assert {group.label for group in compare(runs(logs), "test/acc")} == {"optimizer.lr=0.1", "optimizer.lr=0.003"}


def test_values_are_written_as_overrides() -> None:
    values = [None, True, 0.5, 1e-5, [1, [2, 3]], "a b", comparing.Target("src.groups.SO2")]
    assert list(map(written, values)) == ["null", "true", "0.5", "1e-05", "[1,[2,3]]", "a b", "SO2"]


# The comparison.


def test_comparison(make: Callable[..., Path], logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = make(acc=0.1)
    for seed, acc in enumerate((0.5, 0.75)):
        make(seed=seed, acc=acc, data=f"digits-{seed}")
    make("implementation.formula='oi|x'", acc=0.25)
    failed = make(status="failed")
    compare_command.main([f"paths.logs={logs}"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("0.6250", "0.1768", "0.5000", "0.7500", "0, 1", " - "))
    assert f"counted once: {older} has seed 0" in text
    assert (
        "not the same data: runs of quickstart implementation.formula=oi h, o x have the splits digits-0, dig" in text
    )
    assert "not counted, 1 of the runs:" in text
    assert f"  {failed}: failed" in text

    rows = list(csv.DictReader((logs / "compare.csv").read_text().splitlines()))
    assert [row["seeds"] for row in rows] == ["0 1", "0"]
    assert [row["std"] for row in rows] == [str(0.03125**0.5), ""]
    assert rows[0]["differs"] == "implementation.formula=oi h, o x"
    assert (rows[0]["n"], rows[0]["mean"], rows[0]["values"]) == ("2", "0.625", "0.5 0.75")

    lines = (logs / "compare.md").read_text().splitlines()
    assert lines[0] == "`test/acc`"
    assert lines[2] == "| experiment | differs in | n | mean | std | min | max | seeds |"
    assert lines[5] == r"| quickstart | implementation.formula=oi\|x | 1 | 0.2500 | - | 0.2500 | 0.2500 | 0 |"
    assert f"- {failed}: failed" in lines


def test_comparison_of_some(make: Callable[..., Path], logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make()
    make("experiment=cnn_baseline")
    make("experiment=se2_separable")
    output = logs.parent / "out"
    arguments = ["--experiment", "cnn_baseline", "quickstart", f"paths.logs={logs}", "--metric", "parameters"]
    compare_command.main([*arguments, "--output", str(output)])
    text = capsys.readouterr().out
    assert "cnn_baseline" in text
    assert "255,242" in text
    assert "se2_separable" not in text
    assert sorted(path.name for path in output.iterdir()) == ["compare.csv", "compare.md"]
    assert not list(logs.glob("compare*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "test/f1"], "error: `--metric` 'test/f1' is in no metrics.json. There are: "),
        (["--experiment", "quikstart"], "error: `--experiment` 'quikstart' has no runs .* Did you mean 'quickstart'"),
        (["seed=3"], "error: `compare` takes paths.logs=FOLDER and options, but got 'seed=3'"),
    ],
)
def test_what_cannot_be_compared_is_explained(
    make: Callable[..., Path], logs: Path, arguments: list[str], message: str
) -> None:
    make()
    with pytest.raises(SystemExit, match=message):
        compare_command.main([f"paths.logs={logs}", *arguments])


def test_nothing_to_compare(logs: Path) -> None:
    with pytest.raises(SystemExit, match="error: `compare` needs complete runs, but there are none"):
        compare_command.main([f"paths.logs={logs}"])
