"""A small run in this process, with callbacks that look on."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from composing import composed
from kills import SMALL, Bomb, execute, only_run
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src.training.recipe import build

QUIET = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]
"""Lightning's own warnings, on this version of torch."""

BRIEF = tuple(word for word in SMALL if not word.startswith(("experiment=", "observers.", "group.", "net.", "kernel.")))
"""Overrides that make any run take a second."""
UNSEEN = tuple(word for word in SMALL if word.startswith("observers."))
"""Without observers."""


def fit(folder: Path, callbacks: Sequence[Callback], *overrides: str, **options: Any) -> Trainer:
    """Train the small run of `kills` under a trainer of its own; its logger writes to the folder."""
    seed_everything(0, verbose=False)
    recipe = build(composed(*SMALL, f"paths.cache={folder}/cache", *overrides))
    defaults = {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1, "num_sanity_val_steps": 0}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
    logger = TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False)
    trainer = Trainer(
        **{"logger": logger, "enable_checkpointing": False} | defaults | quiet | options, callbacks=[*callbacks]
    )
    trainer.fit(recipe.model, datamodule=recipe.datamodule)
    return trainer


def whole_and_killed(folder: Path, overrides: Sequence[str], bomb: Bomb) -> tuple[Path, Path]:
    """The folders of a run of two processes that is never stopped, and of one that a bomb kills and that goes on."""
    whole, killed = folder / "whole" / "logs", folder / "killed" / "logs"
    for logs in (whole, killed):
        logs.parent.mkdir()
    assert execute(overrides, whole, ranks=2) == [0, 0]
    assert execute(overrides, killed, bomb, ranks=2)[bomb.rank] == -signal.SIGKILL
    assert execute(overrides, killed, ranks=2) == [0, 0]
    return only_run(whole), only_run(killed)


def events(folder: Path) -> EventAccumulator:
    """All that was written to TensorBoard in a run's folder."""
    everything = dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
    return EventAccumulator(str(folder / "tensorboard"), everything, purge_orphaned_data=False).Reload()


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, of all that must not differ between two runs of the same configuration."""
    found = events(folder)
    tags = [tag for tag in found.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in tags}
