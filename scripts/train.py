"""Train a recipe: python scripts/train.py experiment=NAME [key=value ...]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
from omegaconf import DictConfig

from src.callbacks import DivergenceError, Interrupted
from src.config.compose import compose_config, name_combination
from src.runs.process import die_with_parent, keep_freed_memory, quiet, rank
from src.training.commands import user_errors
from src.training.dry_run import describe
from src.training.recipe import of_run, with_values
from src.training.run import Request, train


def main() -> None:
    """Train what is composed. User errors print as one line, all others as a traceback."""
    arguments, overrides = _parse()
    if any(argument.startswith("-") for argument in overrides):
        _with_hydra()  # its own flags, such as --cfg job and --multirun
        return
    quiet()
    keep_freed_memory()
    die_with_parent()
    try:
        with user_errors(DivergenceError):
            if folder := arguments.resume:
                cfg = with_values(of_run(folder, overrides), {"paths.logs": str(folder.resolve().parents[1])})
            else:
                cfg = compose_config(overrides)
            request = Request(overrides, folder, arguments.fresh, arguments.force)
            describe(cfg, request) if arguments.dry_run else train(cfg, request)
    except Interrupted:
        # The first process ends with its own code; if another's told of a failure, it would be killed for that.
        if rank() == 0:
            raise


def _parse() -> tuple[argparse.Namespace, list[str]]:
    """This script's own flags, and the overrides and flags of Hydra's that are left."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, add_help=False)
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with this run")
    parser.add_argument("--fresh", action="store_true", help="start over beside a run that is there")
    parser.add_argument("--force", action="store_true", help="go on with a run although its configuration was changed")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    return parser.parse_known_args()


@hydra.main(config_path="../configs", config_name="train", version_base="1.3")
def _with_hydra(cfg: DictConfig) -> None:
    """One job of a multirun, which must leave the other devices to the others."""
    quiet()
    if cfg.trainer.devices not in (1, "1") or cfg.trainer.num_nodes != 1:
        sys.exit(
            "error: a multirun must have trainer.devices=1: with several, each of its processes would start the whole "
            "multirun again. `make sweep` runs many, each on as many devices as sweep.gpus_per_trial says."
        )
    keep_freed_memory()
    job = hydra.core.hydra_config.HydraConfig.get()
    name_combination(cfg, job.overrides.task, job.runtime.choices)
    with user_errors(DivergenceError):
        train(cfg, Request(job.overrides.task))


if __name__ == "__main__":
    main()
