"""A run's folder from a stranger: what it may name, and what it may ask this machine."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from src.config import targets
from src.config.compose import CONFIGS, compose_config
from src.config.instantiate import instantiate
from src.config.targets import ConfigError, check, locate
from src.training.recipe import of_run

RECIPES = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))


def test_what_files_name_are_classes() -> None:
    named = targets._named(CONFIGS)
    assert {"src.models.GConv", "torch.optim.AdamW", "lightning.pytorch.callbacks.EarlyStopping"} <= named
    for target in named:
        check(target)
        assert inspect.isclass(locate(target)), target


def test_a_class_may_be_named_by_where_it_is_defined() -> None:
    check("src.models.gconv.GConv")
    check("src.callbacks.dashboard.Dashboard")


@pytest.mark.parametrize(
    "target",
    [
        "src.training.doctor.repository",
        "src.training.doctor",
        "src.runs.checkpoints.write_text",
        "src.data.own.existing",
        "src.data.io.files.replacing",
        "src.callbacks.checkpoints.link",
        "src.sweeps.trial.Trial",
        "src.sweeps.worker.Trial",
        "src.models.gconv.torch.load",
        "src.models.gconv.torch.hub.load",
        "src.models.GConv.forward",
        "src.models",
        "src.runs.process.subprocess.Popen",
        "src.data.io.fetch.Path",
        "src.config.targets.ConfigError",
        "torch.nn.Linear",
        "torch.optim.lr_scheduler.LambdaLR",
        "torchmetrics.functional.accuracy",
        "lightning.pytorch.callbacks.LambdaCallback",
        "lightning.pytorch.cli.LightningCLI",
        "hydra.utils.get_method",
        "builtins.exec",
        "os.system",
        "antigravity.fly",
        "src",
        "",
        "SO2",
    ],
)
def test_nothing_else_is_built(target: str) -> None:
    with pytest.raises(ConfigError, match=r"`_target_` must"):
        check(target)
    for nested in ({"net": [{"_target_": target}]}, {"net": {"head": {"_target_": target, "_partial_": True}}}):
        with pytest.raises(ConfigError, match=r"`_target_` must"):
            instantiate(OmegaConf.create({"_target_": "src.groups.SO2", **nested}))


def test_nothing_is_imported_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap_of_a_stranger.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError):
        check("trap_of_a_stranger.Trap")
    with pytest.raises(SystemExit):
        locate("trap_of_a_stranger.Trap")  # as a target that is not checked first would be


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder, as far as its recipe."""
    (tmp_path / "recipe.yaml").write_text(OmegaConf.to_yaml(compose_config(["experiment=quickstart"])))
    return tmp_path


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "http://somewhere/${oc.env:SECRET}",
        "${ oc.env : SECRET }",
        "${oc.${optimizer}:SECRET}",
        "${oc.decode:${oc.env:SECRET}}",
        "${oc.select:${oc.env:SECRET},1}",
        "${oc.create:[1]}",
        ["${oc.env:SECRET}"],
        {"there": {"deep": "${oc.env:SECRET}"}},
    ],
)
def test_a_recipe_does_not_ask_the_machine(folder: Path, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "told")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["dataset"]["mirrors"] = value
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(
        ConfigError, match=r"`dataset\.mirrors[\w.]*` of .* must be a value .*; give its value"
    ) as error:
        of_run(folder)
    assert "told" not in str(error.value)
    if isinstance(value, str):
        assert of_run(folder, ["dataset.mirrors=null"]).dataset.mirrors is None


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_the_project_refer_to_their_own_keys(name: str) -> None:
    raw = OmegaConf.to_yaml(compose_config([f"experiment={name}"]))
    assert set(re.findall(r"\$\{[^}]*\}", raw)) > {"${conv}"}
    cfg = OmegaConf.create(raw)
    for own in re.findall(r"\$\{[^{}]*:[^{}]*\}", raw):
        assert own.startswith("${oc.select:"), own
    assert OmegaConf.to_container(cfg, resolve=True)
