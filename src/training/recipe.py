"""Recipes: configurations composed by name, and the model and data that they describe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from lightning.pytorch import LightningDataModule, LightningModule
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.data.fetch import DownloadError
from src.training.checkpoints import load_weights, read_weights
from src.training.commit import commit
from src.training.instantiate import ConfigError, instantiate
from src.training.signatures import check_keys

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


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
    """The configuration of a run, as it was composed, with changes.

    Raises:
        ConfigError: if there is none, or a key does not exist.
    """
    if not (path := folder / "recipe.yaml").exists():
        raise ConfigError(f"{folder} must be the folder of a run, with a recipe.yaml, but there is none.")
    cfg = OmegaConf.load(path)
    OmegaConf.set_struct(cfg, True)
    for override in overrides:
        change(cfg, override)
    return cfg


def change(cfg: DictConfig, override: str) -> None:
    """Apply one override to a composed configuration; a group's choice replaces the group.

    Raises:
        ConfigError: if it cannot be read, or the key does not exist.
    """
    if is_group(override):
        group = override.split("=")[0]
        cfg[group] = compose_config([f"experiment={cfg.name}", override])[group]
        return
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(f"{override!r} is not an override key=value.") from error
    if parsed.key_or_group not in (keys := sorted(flatten(cfg))):
        raise ConfigError(
            f"`{parsed.key_or_group}` is not a key of the configuration. {nearest(parsed.key_or_group, keys)}"
        )
    OmegaConf.update(cfg, parsed.key_or_group, parsed.value(), force_add=True)


def about(cfg: DictConfig) -> dict[str, Any]:
    """What is kept beside weights, so that the model can be built again and its origin told."""
    packages = ("torch", "lightning", "torchmetrics", "numpy")
    return {
        "config": OmegaConf.to_yaml(cfg),
        "versions": {name: version(name) for name in packages},
        "commit": commit(),
    }


def build(cfg: DictConfig) -> Recipe:
    """The data, and the model, a function of the configuration and its seed alone.

    Where a configuration leaves `classes`, `channels` or `size` of the data open, they are filled in from the data.
    """
    try:
        check_keys(cfg)
        datamodule = instantiate(cfg.dataset)
        for key in ("classes", "channels", "size"):
            if cfg.dataset[key] is None:
                cfg.dataset[key] = getattr(datamodule, key)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(cfg.seed)
            model = instantiate(cfg.model)
        return Recipe(cfg, model, datamodule)
    except (InstantiationException, OmegaConfBaseException) as error:
        raise ConfigError(root_cause(error)) from error


def prepare(datamodule: LightningDataModule) -> None:
    """Download, generate and read the data.

    Raises:
        ConfigError: if they cannot be had.
    """
    try:
        datamodule.prepare_data()
    except (ValueError, OSError, DownloadError) as error:
        raise ConfigError(str(error)) from error


def compose_config(overrides: Sequence[str], name: str = "train") -> DictConfig:
    """The whole configuration, from a file at the top of configs/.

    Raises:
        ConfigError: with the nearest name, if one does not exist.
    """
    try:
        with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
            return compose(name, overrides=list(overrides))
    except MissingConfigException as error:
        group, _, got = (error.missing_cfg_file or "").rpartition("/")
        choices = [name for name in error.options or [] if not name.startswith("_")]  # those are parts of others
        raise ConfigError(f"`{group}` has no {got!r}. {nearest(got, choices)}") from error
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override!r} is not an override key=value; in a shell, a value with spaces or commas needs two "
            "kinds of quotes, \"implementation.formula='oi h, o x'\"."
        ) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides, name)) from error
    except ValueError as error:  # Hydra's own, for instance where a group is set to null
        raise ConfigError(f"{' '.join(overrides)} cannot be composed: {error}") from error


def explain(error: Exception, overrides: Sequence[str], name: str) -> str:
    """Hydra's message, or that a key does not exist and which do, or where several runs are started."""
    several = next((override for override in overrides if name == "train" and re.match(r"sweep[.=]", override)), None)
    if found := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'( requires|\n|$)", str(error)):
        several = found[1]
    if several:
        return (
            f"{several!r} is for several runs, which `make sweep` starts; `make train` starts one. In a shell, one "
            "value with commas needs two kinds of quotes, \"implementation.formula='oi h, o x'\"."
        )
    with initialize_config_dir(config_dir=str(CONFIGS), version_base="1.3"):
        known = compose(name, overrides=[o for o in overrides if re.match(r"[a-z_/]+=", o) and is_group(o)])
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
    # Only those that are about as near as the nearest.
    ratios = {name: difflib.SequenceMatcher(None, name, got).ratio() for name in close}
    close = [name for name in close if ratios[name] > max(ratios.values()) - 0.1]
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
