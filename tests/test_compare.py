"""What runs that differ in the seed alone have come to, and what tells the others apart."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from run_folders import ended, sessions

from scripts import compare as compare_command
from src.runs import compare as comparing
from src.runs.compare import compare, differences, excluded, primary_metric
from src.runs.record import _runs_below as runs
from src.runs.record import read
from src.training import ConfigError

# Groups.


def test_seeds_make_a_group(make: Callable[..., Path], logs: Path) -> None:
    for seed, acc in enumerate((0.5, 0.75, 0.7)):
        make(seed=seed, acc=acc)
    make("optimizer.lr=0.1", acc=0.25)
    first, second = compare(runs(logs), "test/acc")
    assert (first.seeds, first.values, first.label) == ((0, 1, 2), (0.5, 0.75, 0.7), "optimizer.lr=0.001")
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
        make(status="running", sessions=sessions(pid=ended())): "interrupted (was killed)",
        make(status="failed"): "failed",
        (unreadable := make()): "neither its recipe.yaml nor its config.yaml can be read",
        (lacking := make()): "its metrics.json has no test/acc",
        (without := make()): "its metrics.json has no test/acc",
    }
    for name in ("config.yaml", "recipe.yaml"):
        (unreadable / name).write_text("a: [")
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
        (["group=p4", "group=se2"], {"group.elements=[4] group.low_pass=0.0", "group.elements=[8] group.low_pass=0.6"}),
        (
            ["group=p4m", "group=se2"],
            {"group.H=O2 group.elements=[4,2] group.low_pass=0.0", "group.H=SO2 group.elements=[8] group.low_pass=0.6"},
        ),
        (["kernel=lattice", "kernel=siren"], {"kernel=Lattice", "kernel=Siren"}),
        (
            ["kernel=lattice", "kernel=siren", "kernel=siren kernel.omega_0=5"],
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


def test_scales_of_sim2(make: Callable[..., Path]) -> None:
    """The scale is in the group, which is in the convolution, which is in the net, which is in the model."""
    scales = [f"group.max_scale={scale}" for scale in (1.5, 2.0)]
    folders = [make("group=sim2", "implementation=separable+2d", scale) for scale in scales]
    assert differences([read(folder) for folder in folders]) == scales


@pytest.mark.parametrize(
    ("word", "groups"),
    [
        ("dataset.seed=${seed}", [(0, 1, 2)]),
        ("dataset.seed=0", [(0, 1, 2)]),
        ("dataset.seed=<seed>", [(0,), (1,), (2,)]),
    ],
    ids=["a copy", "a constant", "another value for each"],
)
def test_copies_of_the_seed_are_interpolations(
    make: Callable[..., Path], logs: Path, word: str, groups: list[tuple[int, ...]]
) -> None:
    for seed in range(3):
        make(word.replace("<seed>", str(seed)), seed=seed)
    assert sorted(group.seeds for group in compare(runs(logs), "test/acc")) == groups


def test_runs_without_a_recipe_are_compared_by_what_it_came_to(make: Callable[..., Path], logs: Path) -> None:
    for words in (["optimizer.lr=0.1"], ["optimizer.lr=0.1"], ["optimizer.lr=0.2"]):
        (make(*words) / "recipe.yaml").unlink()
    first, second = sorted(compare(runs(logs), "test/acc"), key=lambda group: group.label)
    assert (first.label, len(first.repeated)) == ("optimizer.lr=0.1 model.optimizer.lr=0.1", 1)
    assert (second.label, len(second.repeated)) == ("optimizer.lr=0.2 model.optimizer.lr=0.2", 0)


def test_most_runs_decide_by_what_all_are_compared(make: Callable[..., Path], logs: Path) -> None:
    assert primary_metric([]) == ""
    found = [read(make("+task={primary:f1}", metrics={"test/f1": 0.5})) for _ in range(2)]
    assert primary_metric(found) == "test/f1"
    found += [read(make(status="failed")) for _ in range(3)]
    assert primary_metric(found) == "test/f1", "those that are complete"
    found += [read(make(seed=seed)) for seed in range(3)]
    assert primary_metric(found) == "test/acc"


def test_what_cannot_be_told_apart_is_not(make: Callable[..., Path], logs: Path) -> None:
    make("dataset.seed=1", seed=0)
    make("dataset.seed=1", seed=1)
    make("optimizer.lr=0.1", "dataset.seed=1", seed=1)
    assert {group.label for group in compare(runs(logs), "test/acc")} == {"optimizer.lr=0.1", "optimizer.lr=0.001"}


def test_values_are_written_as_overrides() -> None:
    values = [None, True, 0.5, 1e-5, [1, [2, 3]], "a b", comparing._Target("src.groups.SO2")]
    assert list(map(comparing._written, values)) == ["null", "true", "0.5", "1e-05", "[1,[2,3]]", "a b", "SO2"]


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
