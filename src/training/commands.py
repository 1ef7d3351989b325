"""What the commands in scripts/ share: arguments, user errors on one line, and data without a model."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from hydra.errors import InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from src.config.compose import CONFIGS, compose_with_choices, root_cause
from src.config.instantiate import instantiate
from src.config.keys import check_keys
from src.config.targets import ConfigError
from src.data import ImageDataModule
from src.training.recipe import prepare


class Data(NamedTuple):
    """A data set as a configuration has it."""

    name: str
    """The choice of `dataset=`."""
    cfg: DictConfig
    module: ImageDataModule


def parser(doc: str, overrides: str = "", metavar: str = "key=value") -> ArgumentParser:
    """A parser that says what the script's docstring does before its colon, with help of overrides if there are any."""
    result = ArgumentParser(description=doc.partition(":")[0])
    if overrides:
        result.add_argument("overrides", nargs="*", metavar=metavar, help=overrides)
    return result


@contextmanager
def user_errors(*more: type[Exception]) -> Iterator[None]:
    """Exit with the message of a ConfigError or one of some more; if HYDRA_FULL_ERROR is set, with the traceback."""
    try:
        yield
    except (ConfigError, *more) as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
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
    cfg, choices = compose_with_choices(overrides)
    try:
        check_keys(cfg)
        module = instantiate(cfg.dataset)
    except (InstantiationException, OmegaConfBaseException) as error:
        raise ConfigError(root_cause(error)) from error
    prepare(module)
    return Data(choices["dataset"], cfg, module)


def _data_sets() -> list[str]:
    """The names that `dataset=` takes."""
    return sorted(path.stem for path in (CONFIGS / "dataset").glob("[!_]*.yaml"))
