"""Recipes: configurations composed by name, and the model and data that they describe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from lightning.pytorch import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.training.instantiate import ConfigError, instantiate

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True)
class Recipe:
    """What a configuration describes."""

    cfg: DictConfig
    model: LightningModule
    """Images (n, c, y, x) to logits (n, classes)."""
    datamodule: LightningDataModule


def load_recipe(name: str = "quickstart", overrides: Sequence[str] = ()) -> Recipe:
    """Compose a recipe and build its model and data.

    Args:
        name: a file of configs/experiment.
        overrides: as on the command line, for instance `["train.epochs=3", "group=p4"]`.

    Raises:
        ConfigError: if a name or key does not exist, with the nearest that does, or if a value cannot be honoured.
    """
    return build(compose_config([f"experiment={name}", *overrides]))


def build(cfg: DictConfig) -> Recipe:
    """The model, a function of the configuration and its seed alone, and the data."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cfg.seed)
            model = instantiate(cfg.model)
        return Recipe(cfg, model, instantiate(cfg.dataset))
    except (InstantiationException, OmegaConfBaseException) as error:
        raise ConfigError(root_cause(error)) from error


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """The whole configuration.

    Raises:
        ConfigError: with the nearest name, if one does not exist.
    """
    try:
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
            return compose("train", overrides=list(overrides))
    except MissingConfigException as error:
        group, _, got = (error.missing_cfg_file or "").rpartition("/")
        raise ConfigError(f"`{group}` has no {got!r}. {nearest(got, error.options or [])}") from error
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override!r} is not an override key=value; in a shell, a value with spaces or commas needs two "
            "kinds of quotes, \"implementation.formula='oi h, o x'\"."
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's message, or that a key does not exist and which do."""
    with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
        known = compose("train", overrides=[o for o in overrides if re.match(r"[a-z_/]+=", o) and is_group(o)])
    keys = sorted(flatten(known))
    for override in overrides:
        key = override.split("=")[0]
        if key not in keys and not is_group(override) and not key.startswith(("+", "~", "hydra.")):
            return f"`{key}` is not a key of the configuration. {nearest(key, keys)}"
    return root_cause(error)


def is_group(override: str) -> bool:
    """Whether an override chooses a file of a config group."""
    return (CONFIGS / override.split("=")[0]).is_dir()


def nearest(got: str, names: Sequence[str]) -> str:
    """A hint: the nearest names, or all if none is near."""
    close = difflib.get_close_matches(got, names, n=3, cutoff=0.6)
    if not close and "." not in got:
        close = [name for name in names if name.rpartition(".")[2] == got]
    there = [name for name in names if "." not in name]
    return f"Did you mean {' or '.join(map(repr, close))}?" if close else f"There are: {', '.join(sorted(there))}."


def flatten(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every key, and every group of keys, with dots."""
    for key in node:
        yield f"{prefix}{key}"
        if OmegaConf.is_dict(child := node._get_node(key)) and not child._is_interpolation() and not child._is_none():
            yield from flatten(child, f"{prefix}{key}.")


def root_cause(error: BaseException) -> str:
    """The message of the error that started it all, with the key at which Hydra met it."""
    key = getattr(error, "full_key", None)
    while error.__cause__ is not None:
        error = error.__cause__
    message = f"{error}".strip().splitlines()[0] if isinstance(error, OmegaConfBaseException) else f"{error}"
    return f"{message} (at {key!r})" if key and key not in message else message


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A configuration as plain containers, resolved."""
    return OmegaConf.to_container(cfg, resolve=True)
