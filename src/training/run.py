"""A run: one folder, training that goes on where it was stopped, and one look at the test set."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging
from lightning.pytorch.plugins.environments import SLURMEnvironment
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from src.callbacks import Checkpoints, Dashboard, ExactState, Interruption
from src.callbacks.checkpoints import BEST, LAST
from src.callbacks.exact_state import rewind
from src.config.compose import plain
from src.config.instantiate import ConfigError, instantiate
from src.config.schema import check_run
from src.models.blocks import share_statistics
from src.runs import identity
from src.runs.checkpoints import AtomicCheckpointIO, latest, load, load_weights, read_weights, write_text
from src.runs.process import cluster, from_first, rank, signals
from src.runs.status import Status, read_json, read_status, write_error
from src.training.recipe import Recipe, about, build, prepare

FOLDER = "RUN_FOLDER"
"""The environment variable by which the first process tells the ones it starts where the run is."""


@dataclass(frozen=True)
class Request:
    """What a command asks for besides a configuration.

    Args:
        overrides: what was changed, for the name of a new run.
        folder: the run to go on with; None is the one of this configuration.
        fresh: start over beside a run that is there.
        force: go on with a run although its configuration was changed.
    """

    overrides: Sequence[str] = ()
    folder: Path | None = None
    fresh: bool = False
    force: bool = False


def train(cfg: DictConfig, request: Request = Request()) -> dict[str, float]:
    """Start a run, go on with it, or print what it came to if it is complete.

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError: if a value cannot be honoured, or the run cannot be gone on with.
    """
    check_train(cfg)
    if cfg.debug:
        shorten(cfg)
    with signals(), place(cfg, request) as folder:
        if (metrics := finished(folder)) is not None:
            tell(table(metrics, folder))
            return metrics
        recipe = build(cfg)
        prepare(recipe.datamodule)  # first, so that a missing or damaged file leaves no run behind
        with held(folder):
            changes = accept(cfg, folder, request.force)
            with kept(recipe, folder, changes) as status:
                metrics = fit_and_test(recipe, folder, status)
        tell(table(metrics, folder))
    return metrics


@contextmanager
def place(cfg: DictConfig, request: Request) -> Iterator[Path]:
    """The folder of the run, the same in all its processes; a debugging run's is removed at the end."""
    if folder := os.environ.get(FOLDER):  # told by the process that started this one
        cfg.paths.run = folder
        yield Path(folder)
        return
    folder = from_first(str(scratch() if cfg.debug else choose(cfg, request)))
    cfg.paths.run = os.environ[FOLDER] = folder
    try:
        yield Path(folder)
    finally:
        del os.environ[FOLDER]
        if cfg.debug:
            shutil.rmtree(folder, ignore_errors=True)


def choose(cfg: DictConfig, request: Request) -> Path:
    """Where the run is or will be."""
    if request.folder is not None:
        return request.folder
    new = Path(cfg.paths.logs) / cfg.name / identity.run_id(cfg, request.overrides)
    there = identity.existing(cfg)
    if there is None:
        return new
    return identity.beside(there) if request.fresh else there


def finished(folder: Path) -> dict[str, float] | None:
    """The metrics of a run that is complete."""
    if read_status(folder).get("status") != "complete":
        return None
    # If it cannot be read, what the run came to is found again from its checkpoint.
    return read_json(folder / "metrics.json") or None


def accept(cfg: DictConfig, folder: Path, force: bool) -> list[str]:
    """Compare a run's configuration with the one that is there, and write it if it is new or accepted.

    Returns:
        What was changed.

    Raises:
        ConfigError: if something was, without `force`.
    """
    changes = identity.changes(folder, cfg)
    if changes and not force:
        raise ConfigError(
            f"{folder} was begun with another configuration:\n  " + "\n  ".join(changes) + "\nGo on with it as it "
            "was, accept the change with FORCE=1 (--force), or start a run of its own with `make train`."
        )
    if rank() == 0 and (changes or not (folder / "config.yaml").exists()):
        write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        write_text(folder / "recipe.yaml", OmegaConf.to_yaml(cfg))
    return changes


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run's lock, which the system lets go whatever happens to this process.

    Raises:
        ConfigError: if another process has it.
    """
    if rank() > 0:
        yield
        return

    def refusal() -> str:
        session = (read_status(folder).get("sessions") or [{}])[-1]
        who = f"process {session.get('pid')} on {session.get('host')}"
        return (
            f"{folder} is being trained by {who}; wait for it, stop it, or start another run beside it with FRESH=1 "
            "(--fresh)."
        )

    with identity.locked(folder, refusal):
        yield


@contextmanager
def kept(recipe: Recipe, folder: Path, changes: list[str]) -> Iterator[Status | None]:
    """Keep status.json from the first process; errors of the others go to files of their own."""
    if rank() > 0:
        try:
            yield None
        except Exception:
            write_error(folder, f"error-rank{rank()}.log")
            raise
        return
    facts = {"experiment": recipe.cfg.name, "id": folder.name, "data": recipe.datamodule.fingerprint}
    status = Status(folder, epochs=recipe.cfg.train.epochs, **facts)
    status.session |= {"changes": changes} if changes else {}
    with status.kept():
        yield status


def fit_and_test(recipe: Recipe, folder: Path, status: Status | None) -> dict[str, float]:
    """What happens in a run's folder."""
    cfg = recipe.cfg
    seed_everything(cfg.seed, workers=True, verbose=False)
    found = latest(folder / "checkpoints") if cfg.train.do else None
    states = found[1]["callbacks"] if found else {}
    if rank() == 0:
        rewind(folder / "tensorboard", states.get("ExactState", {}).get("events", {}))
    if not found:
        start_from_pretrained(recipe)
    trainer = make_trainer(recipe, status)
    if cfg.train.do and not states.get("Checkpoints", {}).get("finished"):
        explain_batches(trainer, cfg)
        trainer.fit(recipe.model, datamodule=recipe.datamodule, ckpt_path=found and found[0], weights_only=True)
    metrics = test(trainer, recipe, folder)
    if rank() == 0:
        write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    return metrics


def test(trainer: Trainer, recipe: Recipe, folder: Path) -> dict[str, float]:
    """Look at the test set, with the best checkpoint if something was trained."""
    last: dict[str, Any] = {}
    if recipe.cfg.train.do:
        last = load(folder / "checkpoints" / LAST)
        # Not by the trainer, which after averaging weights would test those that were not averaged.
        load_weights(recipe.model.net, read_weights(folder / "checkpoints" / BEST), strict=True)
    trainer.test(recipe.model, datamodule=recipe.datamodule, verbose=False)
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=last.get("global_step", 0))
        logger.finalize("success")
    if last:
        state = last["callbacks"]["Checkpoints"]
        metrics = {recipe.cfg.callbacks.checkpoint.monitor: state["best"]} | metrics
    metrics["parameters"] = sum(parameter.numel() for parameter in recipe.model.net.parameters())
    return metrics


def start_from_pretrained(recipe: Recipe) -> None:
    """Load the weights that a new run begins with, if any."""
    path, strict = recipe.cfg.pretrained.path, recipe.cfg.pretrained.strict
    if path is not None:
        for line in load_weights(recipe.model.net, read_weights(Path(path)), strict):
            tell(f"pretrained: left out {line}")
    elif not recipe.cfg.train.do:
        raise ConfigError("`pretrained.path` must be given with train.do=false, which tests weights that are there.")


def make_trainer(recipe: Recipe, status: Status | None) -> Trainer:
    """Lightning's Trainer, with the recipe's callbacks and logger, logging at least once an epoch."""
    cfg = recipe.cfg
    options = plain(cfg.trainer)
    options["log_every_n_steps"] = min(options["log_every_n_steps"], recipe.datamodule.train_batches)
    # Lightning would put in its own where there is none.
    for name, part in (("enable_progress_bar", "progress"), ("enable_model_summary", "summary")):
        options.setdefault(name, bool((cfg.observers or {}).get(part)))
    if cfg.train.shared_statistics:
        share_statistics(recipe.model.net)
    plugins: list[Any] = [AtomicCheckpointIO()]
    if isinstance(environment := cluster(), SLURMEnvironment):
        plugins.append(environment)
    return Trainer(
        **options,
        max_epochs=cfg.train.epochs,
        default_root_dir=cfg.paths.run,
        callbacks=[*make_callbacks(cfg), *([status] if status else [])],
        logger=instantiate(cfg.logger) if cfg.logger else False,
        plugins=plugins,
        use_distributed_sampler=False,  # batches are dealt out by the loaders
    )


def make_callbacks(cfg: DictConfig) -> list[Callback]:
    """Those of the configuration, those that `train` asks for, and those that make a run resumable."""
    callbacks: list[Callback] = [ExactState(), Interruption()]
    if cfg.train.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=cfg.train.ema))
    if cfg.train.patience is not None:
        monitor = cfg.callbacks.checkpoint
        callbacks.append(EarlyStopping(monitor.monitor, mode=monitor.mode or "max", patience=cfg.train.patience))
    chosen = [*cfg.callbacks.values(), *(cfg.observers or {}).values()]
    callbacks += [instantiate(callback) for callback in chosen if callback]
    for callback in callbacks:
        if isinstance(callback, Checkpoints | Dashboard):
            callback.about = about(cfg)
    return callbacks


def explain_batches(trainer: Trainer, cfg: DictConfig) -> None:
    """Say what a step is made of when it is shared."""
    if trainer.world_size == 1 and trainer.accumulate_grad_batches == 1:
        return
    steps, batch = trainer.accumulate_grad_batches, cfg.train.batch_size
    tell(
        f"A step is {batch * steps} samples: {steps} x batches of {batch} over {trainer.world_size} processes, "
        f"{-(-batch // trainer.world_size)} each; learning rate {cfg.optimizer.lr}, as given."
    )


def shorten(cfg: DictConfig) -> None:
    """One epoch on 64 samples of each split."""
    cfg.train.epochs = 1
    for limit in ("limit_train", "limit_val", "limit_test"):
        cfg.dataset[limit] = min(cfg.dataset[limit] or 64, 64)


def scratch() -> Path:
    """A folder of its own for a debugging run."""
    return Path(tempfile.mkdtemp(prefix="debug-"))


def tell(what: Any) -> None:
    """Print, in the first process only."""
    if rank() == 0:
        Console().print(what)


def table(metrics: dict[str, float], folder: Path) -> Table:
    """The end of a run."""
    status = read_status(folder)
    rows = {
        "test accuracy": f"{100 * metrics['test/acc']:.2f} %",
        "validation accuracy (best epoch)": f"{100 * metrics['val/acc']:.2f} %" if "val/acc" in metrics else "-",
        "parameters": f"{int(metrics['parameters']):,}",
        "training time": f"{status.get('seconds', 0):.0f} s",
        "folder": str(folder),
    }
    result = Table(show_header=False, title="Result")
    result.add_column()
    result.add_column(overflow="fold")
    for name, value in rows.items():
        result.add_row(name, value, style="bold" if name == "test accuracy" else None)
    return result


def check_train(cfg: DictConfig) -> None:
    """Raises ConfigError if a value of the run itself cannot be honoured."""
    check_run(cfg)
    if not (cfg.callbacks and cfg.callbacks.get("checkpoint")):
        raise ConfigError("`callbacks.checkpoint` must be there: the test set is looked at with the best checkpoint.")
    devices = cfg.trainer.devices
    if (
        type(devices) is int
        and devices > 1
        and cfg.trainer.accelerator != "cpu"
        and 0 < torch.cuda.device_count() < devices
    ):
        raise ConfigError(
            f"`trainer.devices` must be at most {torch.cuda.device_count()}, the GPUs there are, but got {devices}."
        )
