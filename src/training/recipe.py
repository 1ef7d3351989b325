"""Recipes: configurations composed by name, and the model and data that they describe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from lightning.pytorch import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.compose import change, compose_config, flattened, root_cause
from src.config.instantiate import instantiate
from src.config.keys import check_keys
from src.config.targets import ConfigError, locate
from src.data.io.fetch import DownloadError
from src.runs.checkpoints import load_weights, read_weights
from src.runs.commit import commit
from src.runs.folder import RunFolder
from src.runs.upgrade import load_config
from src.training.match import check_match, matched, without_match

_TASKS = {"class": "classification", "labels": "multilabel", "values": "regression", "pixels": "segmentation"}
"""Files of configs/task, by the kind of target that they are for."""


_GROUPS = {1: "r1", 2: "se2", 3: "se3"}
"""Files of configs/group, by the dimension of the space."""
_REFERENCE = re.compile(r"\$\{(?:[\w.\[\]]+|oc\.select:[\w.]+,[^${}]*)\}")
"""What a run's recipe may have of interpolations: others read the environment, or what a stranger likes."""


@dataclass(frozen=True)
class Recipe:
    """What a configuration describes."""

    cfg: DictConfig
    model: LightningModule
    """Images (n, c, y, x) to logits (n, classes)."""
    datamodule: LightningDataModule


def load_recipe(name: str = "quickstart", overrides: Sequence[str] = (), *, run: str | Path | None = None) -> Recipe:
    """Compose a recipe and build its model and data; or rebuild those of a run, with its best weights.

    Args:
        name: a file of configs/experiment; not looked at with `run`.
        overrides: as on the command line, for instance `["train.epochs=3", "group=p4"]`.
        run: a run's folder.

    Raises:
        ConfigError: if a name or key does not exist, with the nearest that does, or if a value cannot be honoured.
    """
    if run is None:
        return build(compose_config([f"experiment={name}", *overrides]))
    recipe = build(of_run(Path(run), overrides))
    load_weights(recipe.model.net, read_weights(Path(run)), strict=True)
    return recipe


def of_run(folder: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """A run's configuration as it was composed, in today's terms, changed. Raises ConfigError if there is none."""
    if not (path := RunFolder(folder).recipe).exists():
        raise ConfigError(f"{folder} must be the folder of a run, with a {path.name}, but there is none.")
    cfg = load_config(path)
    OmegaConf.set_struct(cfg, True)
    for override in overrides:
        change(cfg, override)
    for key, value in flattened(OmegaConf.to_container(cfg, resolve=False)):
        if "${" in _REFERENCE.sub("", str(value)):
            raise ConfigError(
                f"`{key}` of {folder} must be a value or refer to another key, but got {value!r}, which would ask this "
                f"machine when it is read; give its value: ARGS='{key}=...'."
            )
    return cfg


def about(cfg: DictConfig) -> dict[str, Any]:
    """What is kept beside weights, so that the model can be built again and its origin told."""
    packages = ("torch", "lightning", "torchmetrics", "numpy")
    return {
        "config": OmegaConf.to_yaml(cfg),
        "versions": {name: version(name) for name in packages},
        "commit": commit(),
    }


def with_values(cfg: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy of a configuration in which some dotted keys have other values."""
    result = deepcopy(cfg)
    for key, value in values.items():
        OmegaConf.update(result, key, value)
    return result


def build(cfg: DictConfig) -> Recipe:
    """The data, and the model, a function of the configuration and its seed alone.

    Where a configuration leaves `classes`, `channels` or `size` of the data open, the recipe's has what the data have,
    and where `net.match` asks for a plain CNN, the recipe's has what was chosen; the given one is not changed.
    """
    try:
        check_keys(cfg)
        datamodule = instantiate(cfg.dataset)
        _check_task(cfg, datamodule)
        # Data modules of other kinds have no such keys.
        left_open = [key for key in ("classes", "channels", "size") if cfg.dataset.get(key, "absent") is None]
        cfg = with_values(cfg, {f"dataset.{key}": getattr(datamodule, key) for key in left_open})
        cfg = matched(cfg)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cfg.seed)
            model = instantiate(without_match(cfg).model)
        _check_space(model, datamodule)
        check_match(cfg, model.net)
        return Recipe(cfg, model, datamodule)
    except (InstantiationException, OmegaConfBaseException) as error:
        raise ConfigError(root_cause(error)) from error


def _check_task(cfg: DictConfig, datamodule: LightningDataModule) -> None:
    """Raises ConfigError if a task learns another kind of target than this project's data say they have."""
    found, task = getattr(datamodule, "targets", None), cfg.get("task")
    if found is None or not task:
        return
    learned = locate(task._target_).targets
    if learned != found:
        raise ConfigError(
            f"`task` must be one for {found}, as dataset {datamodule.source.name} has them, but got "
            f"{task._target_.rpartition('.')[2]}, which is for {learned}; choose task={_TASKS[found]}."
        )


def _check_space(model: LightningModule, datamodule: LightningDataModule) -> None:
    """Raises ConfigError if a net's group acts on another space than that of this project's data."""
    sides, space = getattr(datamodule, "size", None), getattr(getattr(model.net, "group", None), "space", None)
    if sides is None or space is None or len(sides) == space:
        return
    images = {1: "sequences", 2: "images", 3: "volumes"}
    raise ConfigError(
        f"`group` must act on R^{len(sides)}, as dataset {datamodule.source.name} has {images[len(sides)]}, but got "
        f"{model.net.group}, which acts on R^{space}, so on {images[space]}; choose "
        f"group={_GROUPS[len(sides)]}, say, or another dataset."
    )


def prepare(datamodule: LightningDataModule) -> None:
    """Download, generate and read the data. Raises ConfigError if they cannot be had."""
    try:
        datamodule.prepare_data()
    except (ValueError, OSError, DownloadError) as error:
        raise ConfigError(str(error)) from error
