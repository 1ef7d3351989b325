"""What a command would do, without doing it."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.syntax import Syntax

from src.config.compose import plain
from src.runs import identity
from src.runs.status import read_status
from src.runs.tables import fact_table
from src.training.match import written_match
from src.training.recipe import build
from src.training.run import Request, check_train, folder_of


def describe(cfg: DictConfig, request: Request) -> None:
    """Print the configuration, the folder and what would become of it. Raises ConfigError if a value cannot be."""
    check_train(cfg)
    recipe, folder = build(cfg), folder_of(cfg, request)
    parameters = sum(parameter.numel() for parameter in recipe.model.net.parameters())
    # Data modules of other kinds need not say what a sample is.
    channels, size = (getattr(recipe.datamodule, name, None) for name in ("channels", "size"))
    facts = {
        "folder": str(folder),
        "would": _outcome(recipe.cfg, folder, request.force),
        "parameters": f"{parameters:,}",
        **written_match(recipe.cfg),
        **({"images": " x ".join(map(str, (channels, *size)))} if channels and size else {}),
        "devices": _devices(cfg),
        "batch": f"{cfg.train.batch_size} over all devices, {cfg.train.accumulate} to a step",
        "learning rate": f"{cfg.optimizer.lr}",
    }
    out = Console()
    out.print(Syntax(OmegaConf.to_yaml(OmegaConf.create(plain(recipe.cfg))), "yaml", background_color="default"))
    out.print(fact_table("Nothing was trained", facts))


def _outcome(cfg: DictConfig, folder: Path, force: bool) -> str:
    """What training would do with a folder."""
    if cfg.debug:
        return "train for one short epoch in a folder that is removed"
    status = read_status(folder)
    if not status:
        return "start"
    if status["status"] == "complete":
        return "print its result: it is complete"
    if (changes := identity.changes(folder, cfg)) and not force:
        return f"be refused, because these were changed: {'; '.join(changes)}"
    return f"go on after epoch {status.get('epoch', 0)} of {cfg.train.epochs}"


def _devices(cfg: DictConfig) -> str:
    """What would be trained on."""
    trainer, gpus = cfg.trainer, torch.cuda.device_count()
    kind = trainer.accelerator if trainer.accelerator != "auto" else "gpu" if gpus else "cpu"
    found = f" ({gpus} found)" if kind in ("gpu", "cuda") else ""
    return f"{trainer.devices} x {kind}{found} on {trainer.num_nodes} machine(s), precision {cfg.train.precision}"
