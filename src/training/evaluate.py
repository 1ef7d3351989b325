"""A trained net on its test set again: with other elements or sizes, or on other, rotated or scaled data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from src.callbacks import ProgressBar
from src.config.compose import plain
from src.config.instantiate import instantiate
from src.config.targets import ConfigError
from src.runs.checkpoints import load_weights, read_weights, write_json
from src.runs.folder import RunFolder
from src.runs.status import now
from src.training.recipe import build, of_run, prepare


def evaluate(folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Test the best weights of a run, on images that are normalised as in training, and keep the record in its folder.

    Args:
        folder: of the run.
        overrides: of its configuration, such as `group.elements=[16]`, `dataset=mnist`, `dataset.rotate=true`.

    Returns:
        The record: metrics, overrides, name of the splits, time.

    Raises:
        ConfigError: if there is no such run, or a value cannot be honoured.
    """
    learned, cfg = of_run(folder), of_run(folder, overrides)
    if cfg.dataset.get("classes") != (classes := learned.dataset.get("classes")):
        raise ConfigError(f"`dataset` must have the {classes} classes that were learned, not {cfg.dataset.classes}.")
    recipe = build(cfg)
    load_weights(recipe.model.net, read_weights(folder), strict=True)
    if any(override.startswith("dataset") for override in overrides):
        source = instantiate(learned.dataset).source
        recipe.datamodule.statistics = source.statistics(source.splits().train)
    prepare(recipe.datamodule)
    options = plain(cfg.trainer) | {"devices": 1, "num_nodes": 1, "strategy": "auto", "logger": False}
    trainer = Trainer(**options, callbacks=[ProgressBar()], enable_checkpointing=False, default_root_dir=folder)
    trainer.test(recipe.model, datamodule=recipe.datamodule, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    data = getattr(recipe.datamodule, "fingerprint", None)
    record = {"metrics": metrics, "overrides": list(overrides), "data": data, "ended": now()}
    name = re.sub(r"[^A-Za-z0-9.+-]+", "-", "_".join(overrides)).strip("-")[:100] or "as-trained"
    write_json(RunFolder(folder).evaluations / f"{name}.json", record)
    return record
