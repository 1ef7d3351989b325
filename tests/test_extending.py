"""What docs/extending.md says is all that is needed: its files are put where it says, and nothing else is edited."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from laws import check_group, check_net
from omegaconf import DictConfig
from run_folders import maker
from short_fits import BRIEF, QUIET, UNSEEN, points

import scripts.compare
import scripts.docs
import scripts.runs
from src.config import compose, keys, targets
from src.config.compose import CONFIGS, compose_config
from src.config.targets import ConfigError
from src.models.gconv import convolutions
from src.reports.report import report
from src.runs.compare import compare
from src.runs.record import _runs_below as runs
from src.training import train
from src.training.evaluate import evaluate
from src.training.recipe import build

pytestmark = QUIET
ROOT = Path(__file__).resolve().parents[1]
FILES: dict[str, str] = dict(
    re.findall(
        r"^`([\w/.]+)`\n```\w+\n(.*?)^```", (ROOT / "docs" / "extending.md").read_text(), flags=re.MULTILINE | re.DOTALL
    )
)
"""The files of the page, by their paths in the project."""
TINY = (*BRIEF, "net.hidden_sizes=[4,4,4]", "net.head.hidden=16")
LITTLE = (
    *(f"observers.equivariance.{key}" for key in ("samples=4", "elements=1", "curve_samples=8", "angles=4")),
    *("observers.equivariance.before_training=false", "+observers.figures.before_training=false"),
)
"""What all observers look at: little, and only at the end."""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project with the files of the page: a copy of configs/ with them, and packages that find them as well."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(CONFIGS, folder / "configs")
    write_page(folder)
    with pytest.MonkeyPatch.context() as patch:
        for module in (compose, keys, scripts.docs, targets):
            patch.setattr(module, "CONFIGS", folder / "configs")
        modules = [path.removesuffix(".py").replace("/", ".") for path in FILES if path.endswith(".py")]
        for name in modules:
            room, _, _ = name.rpartition(".")
            package = importlib.import_module(room)
            patch.setattr(package, "__path__", [*package.__path__, str(folder / room.replace(".", "/"))])
        yield folder
    for name in modules:
        room, _, own = name.rpartition(".")
        sys.modules.pop(name, None)
        vars(sys.modules[room]).pop(own, None)


def write_page(folder: Path) -> None:
    """Put the files of the page in a copy of the project, which has none of them."""
    for name, content in FILES.items():
        path = folder / name
        assert not path.exists(), f"{name} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture
def composed(extended: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes runs that leave their files with the test."""
    return lambda *words: compose_config([*words, f"paths.logs={tmp_path}/logs", f"paths.cache={tmp_path}/cache"])


# All of it.


CHOICES = {
    "group": ["group=half_turns"],
    "kernel": ["kernel=waves"],
    "net": ["method=cnn_baseline", "net=plain"],
    "optimizer": ["optimizer=rprop"],
    "implementation": ["implementation=space_first"],
    "observers": ["observers=norms"],
    "observer by its class": ["+observers.mine._target_=src.callbacks.norms.Norms"],
    "task": ["task=focal"],
    "dataset": ["dataset=angles", "augment=none", "task=regression"],
    "metric": ["experiment=digits_kappa"],
    "recipe": ["experiment=angles"],
    "protocol and method": ["protocol=digits_upright", "method=half_turns"],
}


@pytest.mark.parametrize("name", CHOICES)
def test_it_is_composed_checked_and_built(composed: Callable[..., DictConfig], name: str) -> None:
    recipe = build(composed(*CHOICES[name]))
    outputs = recipe.model(torch.randn(2, 1, 24, 24))
    assert outputs.shape == (2, recipe.datamodule.classes)
    assert recipe.model.groups.optimiser(recipe.model.net, recipe.model.optimizer).param_groups


def test_every_file_of_the_page_is_chosen() -> None:
    words = {word.partition("=")[2] for words in CHOICES.values() for word in words}
    for path in (Path(name) for name in FILES if name.endswith(".yaml")):
        assert path.stem in words, path


def test_what_is_chosen_is_what_the_page_has(composed: Callable[..., DictConfig]) -> None:
    model = build(composed("protocol=digits_upright", "method=half_turns", "task=focal")).model
    assert type(model.net.group).__module__ == "src.groups.half_turns"
    kinds = {f"{type(module).__module__}.{type(module).__name__}" for module in model.modules()}
    assert {"src.models.kernels.waves.Waves", "src.models.tasks.focal.Focal"} <= kinds
    assert {conv.kernel.factorisation.formula for conv in convolutions(model.net).values()} == {"oi x", "oi x, o h"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["group=half_turns", "group.elemens=[2]"], "Did you mean 'group.elements'"),
        (["kernel=waves", "+kernel.wave=3"], "Did you mean 'kernel.waves'"),
        (["net=plain"], "`net.exact` is not an argument of src.models.nets.plain.Plain"),
        (["task=focal", "+task.gama=1"], "Did you mean 'task.gamma'"),
        (["experiment=angles", "+dataset.turn=true"], "`dataset.turn` is not an argument"),
        (["experiment=angel"], "Did you mean 'angles'"),
        (["+observers.norms._target_=src.callbacks.norms.Norm"], "Did you mean 'src.callbacks.norms.Norms'"),
        (["+observers.norms._target_=lightning.Norms"], "`_target_` must be a class that a file of configs/ names"),
    ],
)
def test_what_is_wrong_is_refused(composed: Callable[..., DictConfig], words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(composed(*words))


def test_a_wrong_key_in_a_file_of_the_page_is_refused(extended: Path, composed: Callable[..., DictConfig]) -> None:
    name = "configs/kernel/waves.yaml"
    (extended / name).write_text(FILES[name].replace("waves: 20", "wafes: 20"))
    keys._file.cache_clear()
    with pytest.raises(ConfigError, match=r"`kernel.wafes` is not an argument .* Did you mean 'kernel.waves'"):
        build(composed("kernel=waves"))
    (extended / name).write_text(FILES[name])
    keys._file.cache_clear()
    build(composed("kernel=waves"))


def test_the_first_comment_is_listed(extended: Path) -> None:
    listed = scripts.docs._with_lists("<!-- options -->\n<!-- /options -->\n<!-- protocols -->\n<!-- /protocols -->")
    assert "| `group=half_turns` | Half turns, exact on the pixel grid. |" in listed
    assert re.search(r"of their own \|.*`angles`", listed)


def test_laws_of_the_group(extended: Path, composed: Callable[..., DictConfig]) -> None:
    group = importlib.import_module("src.groups.half_turns").HalfTurns()
    check_group(group, (2,), closed=True)
    net = build(composed("group=half_turns", "net.hidden_sizes=[4,4]")).model.net.eval()
    check_net(net, torch.randn(4, 1, 24, 24), group.matrix(group.grid(2)))


# Trained.


def test_a_net_and_an_optimiser_that_lack_usual_keys(composed: Callable[..., DictConfig]) -> None:
    """Under all observers, with TensorBoard."""
    words = ["method=cnn_baseline", "group=p4", "net=plain", "optimizer=rprop", "observers=norms", *BRIEF]
    cfg = composed(*words, *LITTLE, "train.epochs=1", "dataset.limit_train=32")
    assert "hidden_sizes" not in cfg.net
    assert "weight_decay" not in cfg.optimizer
    result = train(cfg)
    tags = {tag.partition("/")[0] for tag in points(result.folder)}
    assert {"train", "val", "equivariance", "redundancy", "weights", "best"} <= tags
    assert report([result.folder]).exists()


def test_a_metric_is_logged(composed: Callable[..., DictConfig]) -> None:
    result = train(composed("experiment=digits_kappa", *BRIEF, *UNSEEN, "net.hidden_sizes=[4,4]", "train.epochs=1"))
    assert -1 <= result.metrics["test/kappa"] <= 1
    assert "val/kappa" in points(result.folder)


@pytest.fixture(scope="module")
def two(extended: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Regressions with two learning rates, the better one first."""
    folder = tmp_path_factory.mktemp("regression")
    paths = (f"paths.logs={folder}/logs", f"paths.cache={folder}/cache")
    first = compose_config(["experiment=angles", *TINY, "observers=default", *LITTLE, *paths, "optimizer.lr=0.01"])
    second = compose_config(["experiment=angles", *TINY, *UNSEEN, *paths, "optimizer.lr=1e-6"])
    return train(first).folder, train(second).folder


def test_the_best_epoch_of_a_regression(two: tuple[Path, Path]) -> None:
    for folder in two:
        curve = [value for _, value in points(folder)["val/mae"]]
        checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        assert checkpoint["callbacks"]["Checkpoints"]["best"] == pytest.approx(min(curve), rel=1e-6)
        assert checkpoint["epoch"] == curve.index(min(curve))
        assert json.loads((folder / "metrics.json").read_text())["val/mae"] == pytest.approx(min(curve), rel=1e-6)


def test_a_regression_is_evaluated_and_reported(two: tuple[Path, Path]) -> None:
    first, second = two
    metrics = json.loads((first / "metrics.json").read_text())
    assert evaluate(first)["metrics"]["test/mae"] == pytest.approx(metrics["test/mae"], rel=1e-5)
    page = report([first])
    assert {"values.png", "samples.png", "robustness.png"} <= {path.name for path in page.parent.iterdir()}
    for text in (page.read_text(), report([first, second]).read_text()):
        assert "mean absolute error" in text
        assert "accuracy" not in text


def test_a_regression_is_listed_and_compared(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    logs = two[0].parents[1]
    scripts.runs.main([f"paths.logs={logs}"])
    listed = capsys.readouterr().out
    scripts.compare.main([f"paths.logs={logs}"])
    ranked = (logs / "compare.csv").read_text().splitlines()[1:]
    for folder in two:
        assert f"{json.loads((folder / 'metrics.json').read_text())['test/mae']:.4f}" in listed
    assert "test/mae" in capsys.readouterr().out
    errors = {str(folder): json.loads((folder / "metrics.json").read_text())["test/mae"] for folder in two}
    assert sorted(errors, key=errors.get) == [line.rpartition(",")[2] for line in ranked], "the lower error first"


def test_lower_errors_are_better(tmp_path: Path) -> None:
    make = maker(tmp_path)
    values = {"0.1": 0.3, "0.2": 0.1, "0.3": math.nan, "0.4": 0.2}
    for lr, value in values.items():
        metrics = {"test/mae": value, "test/r2": 1 - value, "test/loss": value, "test/other": value}
        make("task=regression", f"optimizer.lr={lr}", metrics=metrics)
    ranked = {
        metric: [group.label.partition("=")[2] for group in compare(runs(tmp_path), f"test/{metric}")]
        for metric in ("mae", "r2", "loss", "other")
    }
    falling = ["0.1", "0.4", "0.2", "0.3"]
    rising = ["0.2", "0.4", "0.1", "0.3"]
    assert ranked == {"mae": rising, "r2": rising, "loss": rising, "other": falling}
    given = compare(runs(tmp_path), "test/mae", "max")
    assert [group.label.partition("=")[2] for group in given] == falling


def test_a_sweep_in_a_copy_of_the_project(tmp_path: Path) -> None:
    """Ray trains the page's recipe in other processes, from a checkout that has its files and is otherwise this one."""
    for name in ("configs", "src", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_page(tmp_path)
    words = ["experiment=angles", *TINY, *UNSEEN, "train.epochs=1", "optimizer.lr=0.01,1e-6", "sweep.gpus=2"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [sys.executable, "scripts/sweep.py", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "logs" / "sweeps").iterdir()
    head, first, second = (line.split(",") for line in (folder / "ranking.csv").read_text().splitlines())
    assert head[3] == "val/mae"
    assert float(first[3]) < float(second[3])
    assert (folder / "lr.png").exists() or (folder / "optimizer.lr.png").exists()
    assert list((folder / "tensorboard").rglob("events.*"))
