"""Lightning's Trainer as a recipe describes it, with the callbacks that make a run resumable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging
from lightning.pytorch.plugins.environments import SLURMEnvironment

from src.callbacks import Checkpoints, Dashboard, Divergence, ExactState, Interruption
from src.config.compose import plain
from src.config.instantiate import instantiate
from src.data import ImageDataModule
from src.models.layers import share_statistics
from src.runs.checkpoints import AtomicCheckpointIO
from src.runs.process import cluster
from src.training.recipe import Recipe, about


def make_trainer(recipe: Recipe, callbacks: Sequence[Callback] = ()) -> Trainer:
    """A Trainer with the logger and callbacks of a recipe, and more callbacks; it logs at least once an epoch.

    Args:
        recipe: its `paths.run` is the run's folder. Of its data module only what Lightning asks for is needed; where
            the number of training batches is not known, `trainer.log_every_n_steps` stays as it is.
        callbacks: called after those of the recipe.
    """
    cfg = recipe.cfg
    options = plain(cfg.trainer)
    steps = options["log_every_n_steps"]
    options["log_every_n_steps"] = min(steps, getattr(recipe.datamodule, "train_batches", steps))
    # Lightning would put in its own where there is none.
    for name, observer in (("enable_progress_bar", "progress"), ("enable_model_summary", "summary")):
        options.setdefault(name, bool((cfg.observers or {}).get(observer)))
    if cfg.train.shared_statistics:
        share_statistics(recipe.model.net)
    plugins: list[Any] = [AtomicCheckpointIO()]
    if isinstance(environment := cluster(), SLURMEnvironment):
        plugins.append(environment)
    return Trainer(
        **options,
        max_epochs=cfg.train.epochs,
        default_root_dir=cfg.paths.run,
        callbacks=[*_callbacks(recipe), *callbacks],
        logger=instantiate(cfg.logger) if cfg.logger else False,
        plugins=plugins,
        # This project's loaders deal batches out themselves.
        use_distributed_sampler=not isinstance(recipe.datamodule, ImageDataModule),
    )


def _callbacks(recipe: Recipe) -> list[Callback]:
    """Those that make a run resumable, those that `train` asks for, and those of the configuration."""
    cfg = recipe.cfg
    callbacks: list[Callback] = [Divergence(), ExactState(), Interruption()]
    if cfg.train.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=cfg.train.ema))
    if cfg.train.patience is not None:
        checkpoint = cfg.callbacks.checkpoint
        mode = checkpoint.mode or recipe.model.task.direction(checkpoint.monitor)
        callbacks.append(EarlyStopping(checkpoint.monitor, mode=mode, patience=cfg.train.patience))
    configured = [*cfg.callbacks.values(), *(cfg.observers or {}).values()]
    callbacks += [instantiate(callback) for callback in configured if callback]
    for callback in callbacks:
        if isinstance(callback, Checkpoints | Dashboard):
            callback.about = about(cfg)
    return callbacks
