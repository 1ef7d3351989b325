"""Runs whose files were written by an earlier version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from src.callbacks import Dashboard
from src.config.compose import compose_config
from src.config.instantiate import instantiate
from src.runs.identity import changes, digest, identifying
from src.runs.record import read
from src.runs.upgrade import upgrade
from src.training.recipe import build, of_run

OLD = Path(__file__).with_name("old_recipe.yaml")
OVERRIDES = ["dataset.limit_train=400", "train.epochs=2", "trainer.accelerator=cpu"]
"""What that run was started with."""
SINCE = [
    *("group.low_pass=0.0", "mask=disc", "kernel=siren", "kernel.phases=all"),
    *("net.border=zeros", "net.pooling=max", "net.last_kernel_size=3", "net.readout=max"),
    *("optimizer.lr=0.003", "model.groups.constant_lr=1.0"),
]
"""What was the default then, and is another now."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of an old run that say what it is."""
    cfg = OmegaConf.load(OLD)
    (tmp_path / "recipe.yaml").write_text(OLD.read_text())
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    return tmp_path


def test_an_old_recipe_is_as_it_would_be_composed_today() -> None:
    old = yaml.safe_load(OLD.read_text())
    today = OmegaConf.to_container(compose_config([*OVERRIDES, *SINCE]), resolve=False)
    found = upgrade(old)
    assert (found["callbacks"], found["observers"]) == (today["callbacks"], today["observers"])
    assert identifying(found) == identifying(today)
    assert "observers" not in old, "what was given is left as it is"
    assert upgrade(found) == found


def test_an_old_run_builds_and_is_not_changed(folder: Path) -> None:
    cfg = of_run(folder)
    assert changes(folder, cfg) == []
    assert "optimizer.lr: 0.003 -> 0.1" in changes(folder, of_run(folder, ["optimizer.lr=0.1"]))
    assert build(cfg).cfg.observers.dashboard.hparams.lr == "optimizer.lr"
    callbacks = [instantiate(callback) for callback in cfg.observers.values()]
    assert any(isinstance(callback, Dashboard) for callback in callbacks)


def test_the_same_command_finds_an_old_run(folder: Path) -> None:
    assert digest(of_run(folder)) == digest(compose_config([*OVERRIDES, *SINCE]))


def test_the_record_of_an_old_run_is_in_todays_terms(folder: Path) -> None:
    run = read(folder)
    assert set(run.recipe["callbacks"]) == set(run.config["callbacks"]) == {"checkpoint"}
    assert run.config["observers"]["dashboard"]["hparams"] == {}, "resolved values are no keys"


@pytest.mark.parametrize(
    ("callbacks", "expected"),
    [
        ({"progress": None, "dashboard": None}, {"progress": None, "dashboard": None}),
        (
            {"learning_rate": {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor", "log_momentum": True}},
            {"learning_rate": {"_target_": "src.callbacks.LearningRate", "log_momentum": True}},
        ),
        (
            {"dashboard": {"hparams": {"lr": "${optimizer.lr}", "note": "mine", "n": 3, "both": "${a}-${b}"}}},
            {"dashboard": {"hparams": {"lr": "optimizer.lr"}}},
        ),
    ],
)
def test_callbacks_that_look_on(callbacks: dict[str, Any], expected: dict[str, Any]) -> None:
    mine = {"_target_": "src.mine.Callback"}
    found = upgrade({"callbacks": {"checkpoint": mine, **callbacks, "mine": mine}})
    assert found == {"callbacks": {"checkpoint": mine, "mine": mine}, "observers": expected}


@pytest.mark.parametrize("config", [{}, {"callbacks": None}, {"callbacks": {"progress": {}}, "observers": None}])
def test_what_is_of_today_or_no_recipe_is_left_as_it_is(config: dict[str, Any]) -> None:
    assert upgrade(config) == config


@pytest.mark.parametrize(("stride", "antialias"), [(1, True), (2, False)])
def test_strides_of_old_runs_stay_as_they_were(stride: int, antialias: bool) -> None:
    old = yaml.safe_load(OLD.read_text())
    old["conv"]["stride"] = stride
    assert upgrade(old)["conv"]["antialias"] is antialias
    assert upgrade(upgrade(old)) == upgrade(old)
