"""What the commands in scripts/ share: data without a model, and user errors on one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from hydra.errors import InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from src.config.compose import CONFIGS, choices, compose_config, root_cause
from src.config.instantiate import ConfigError, instantiate
from src.config.keys import check_keys
from src.data import ImageDataModule
from src.training.recipe import prepare


class Data(NamedTuple):
    """A data set as a configuration has it."""

    name: str
    """The choice of `dataset=`."""
    cfg: DictConfig
    module: ImageDataModule


def fail(error: Exception) -> NoReturn:
    """Exit with the message, or with the traceback if HYDRA_FULL_ERROR is set."""
    if os.environ.get("HYDRA_FULL_ERROR"):
        raise error
    sys.exit(f"error: {error}")


def load_data(overrides: Sequence[str]) -> Data:
    """The data of a configuration, downloaded and generated where they are missing; no model is built.

    Args:
        overrides: as on the command line. With `experiment=NAME` everything is as that recipe has it, otherwise as
            `dataset=NAME` or `protocol=NAME` and the others alone say.

    Raises:
        ConfigError: if none of these is given, or if a value cannot be honoured, or the data cannot be had.
    """
    given = {key for key, _, value in (override.partition("=") for override in overrides) if value}
    if not given & {"dataset", "experiment", "protocol"}:
        raise ConfigError(f"`dataset` must be given, as dataset=NAME. There are: {', '.join(_data_sets())}.")
    if "experiment" not in given:
        overrides = ["~experiment", *overrides]
    cfg = compose_config(overrides)
    try:
        check_keys(cfg)
        module = instantiate(cfg.dataset)
    except (InstantiationException, OmegaConfBaseException) as error:
        raise ConfigError(root_cause(error)) from error
    prepare(module)
    return Data(choices(overrides)["dataset"], cfg, module)


def _data_sets() -> list[str]:
    """The names that `dataset=` takes."""
    return sorted(path.stem for path in (CONFIGS / "dataset").glob("[!_]*.yaml"))
