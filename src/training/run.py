"""A run: one folder, training, and one look at the test set with the best checkpoint."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from src.data.fetch import DownloadError
from src.training.checkpoints import AtomicCheckpointIO, write_text
from src.training.instantiate import ConfigError, instantiate
from src.training.recipe import Recipe, build, plain

# Where a run is placed and what it shows on the way do not change its result.
PLACEMENT = ("paths", "callbacks", "logger", "trainer")


def train(cfg: DictConfig) -> dict[str, float]:
    """Train, keep the best checkpoint by validation, and test it once.

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError: if a value cannot be honoured.
    """
    check_train(cfg)
    if cfg.debug:
        shorten(cfg)
    recipe = build(cfg)
    prepare(recipe)
    with scratch(cfg) if cfg.debug else permanent(cfg):
        folder = Path(cfg.paths.run)
        write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        with status(folder):
            metrics = fit_and_test(recipe, folder)
        Console().print(table(metrics, folder))
    return metrics


def fit_and_test(recipe: Recipe, folder: Path) -> dict[str, float]:
    """What happens in a run's folder."""
    cfg = recipe.cfg
    seed_everything(cfg.seed, workers=True, verbose=False)
    trainer = make_trainer(cfg, recipe.datamodule.train_batches)
    start = time.monotonic()
    trainer.fit(recipe.model, datamodule=recipe.datamodule)
    seconds = time.monotonic() - start
    best = trainer.checkpoint_callback
    metrics = {"val/acc": float(best.best_model_score), "train/seconds": seconds}
    (tested,) = trainer.test(
        recipe.model, datamodule=recipe.datamodule, ckpt_path=best.best_model_path, weights_only=True, verbose=False
    )
    metrics |= {key: float(value) for key, value in tested.items()}
    metrics["parameters"] = sum(parameter.numel() for parameter in recipe.model.net.parameters())
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    return metrics


def make_trainer(cfg: DictConfig, batches: int) -> Trainer:
    """Lightning's Trainer, with the recipe's callbacks and logger, logging at least once an epoch."""
    callbacks: list[Callback] = [instantiate(callback) for callback in (cfg.callbacks or {}).values() if callback]
    options = plain(cfg.trainer)
    options["log_every_n_steps"] = min(options["log_every_n_steps"], batches)
    return Trainer(
        **options,
        max_epochs=cfg.train.epochs,
        default_root_dir=cfg.paths.run,
        callbacks=callbacks,
        logger=instantiate(cfg.logger) if cfg.logger else False,
        plugins=[AtomicCheckpointIO()],
    )


def run_id(cfg: DictConfig) -> str:
    """Readable where it matters, the seed; and a hash of everything that the result depends on."""
    decisive = {key: value for key, value in plain(cfg).items() if key not in PLACEMENT}
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return f"seed{cfg.seed}-{digest[:8]}"


@contextmanager
def permanent(cfg: DictConfig) -> Iterator[None]:
    """A new folder for this run; an earlier run of the same configuration is left alone."""
    parent, name = Path(cfg.paths.logs) / cfg.name, run_id(cfg)
    for n in range(1, 1_000_000):
        folder = parent / (name if n == 1 else f"{name}-{n}")
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    cfg.paths.run = str(folder)
    yield


def shorten(cfg: DictConfig) -> None:
    """One epoch on 64 samples of each split."""
    cfg.train.epochs = 1
    for limit in ("limit_train", "limit_val", "limit_test"):
        cfg.dataset[limit] = min(cfg.dataset[limit] or 64, 64)


def prepare(recipe: Recipe) -> None:
    """Read the data before a run begins, so that a missing or damaged file leaves no run behind."""
    try:
        recipe.datamodule.prepare_data()
    except (ValueError, OSError, DownloadError) as error:
        raise ConfigError(str(error)) from error


@contextmanager
def scratch(cfg: DictConfig) -> Iterator[None]:
    """A folder that is removed."""
    cfg.paths.run = tempfile.mkdtemp(prefix="debug-")
    try:
        yield
    finally:
        shutil.rmtree(cfg.paths.run, ignore_errors=True)


@contextmanager
def status(folder: Path) -> Iterator[None]:
    """Keep status.json true: running, then complete, interrupted or failed."""
    record = {"status": "running", "started": now()}
    write_text(folder / "status.json", json.dumps(record, indent=2) + "\n")
    outcome = "complete"
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        outcome = "interrupted"
        raise
    except BaseException:
        outcome = "failed"
        raise
    finally:
        record |= {"status": outcome, "ended": now()}
        write_text(folder / "status.json", json.dumps(record, indent=2) + "\n")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def table(metrics: dict[str, float], folder: Path) -> Table:
    """The end of a run."""
    rows = {
        "test accuracy": f"{100 * metrics['test/acc']:.2f} %",
        "validation accuracy (best epoch)": f"{100 * metrics['val/acc']:.2f} %",
        "parameters": f"{int(metrics['parameters']):,}",
        "training time": f"{metrics['train/seconds']:.0f} s",
        "folder": str(folder),
    }
    result = Table(show_header=False, title="Result")
    for name, value in rows.items():
        result.add_row(name, value, style="bold" if name == "test accuracy" else None)
    return result


def check_train(cfg: DictConfig) -> None:
    """Raises ConfigError if a number of the run itself is out of range."""
    numbers: dict[str, Any] = {"train.epochs": cfg.train.epochs, "train.batch_size": cfg.train.batch_size}
    for key, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"`{key}` must be a positive integer, but got {value!r}.")
    if not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        raise ConfigError(f"`seed` must be an integer from 0 to 2^32 - 1, but got {cfg.seed!r}.")
    if not (cfg.callbacks and cfg.callbacks.get("checkpoint")):
        raise ConfigError("`callbacks.checkpoint` must be there: the test set is looked at with the best checkpoint.")
