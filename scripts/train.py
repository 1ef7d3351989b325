"""Train a recipe: python scripts/train.py experiment=NAME [key=value ...]."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
from omegaconf import DictConfig

from src.training.instantiate import ConfigError
from src.training.process import keep_freed_memory, quiet
from src.training.recipe import compose_config
from src.training.run import train


@hydra.main(config_path="../configs", config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Train what is composed; errors of the user's are a line, all others a traceback."""
    quiet()
    keep_freed_memory()
    try:
        train(cfg)
    except ConfigError as error:
        fail(error)


def fail(error: Exception) -> None:
    """Exit with the message, or with the traceback if HYDRA_FULL_ERROR is set."""
    if os.environ.get("HYDRA_FULL_ERROR"):
        raise error
    sys.exit(f"error: {error}")


if __name__ == "__main__":
    if not any(argument.startswith("-") for argument in sys.argv[1:]):
        try:
            compose_config(sys.argv[1:])
        except ConfigError as error:
            fail(error)
    main()
