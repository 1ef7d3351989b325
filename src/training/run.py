"""A run: one folder, training that goes on where it was stopped, and one look at the test set."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from src.callbacks.checkpoints import BEST, LAST
from src.callbacks.exact_state import rewind
from src.config.compose import plain
from src.config.schema import check_run
from src.config.targets import ConfigError, locate
from src.models.tasks import Task
from src.runs import identity
from src.runs.checkpoints import latest, load, load_weights, read_weights, write_json, write_text
from src.runs.folder import RUN_FOLDER, RunFolder, read_json
from src.runs.process import from_first, rank, signals
from src.runs.record import session
from src.runs.status import Status, read_status, write_error
from src.runs.tables import fact_table
from src.training.match import written_match
from src.training.projection import projected_weights
from src.training.recipe import Recipe, build, prepare, with_values
from src.training.trainer import make_trainer


@dataclass(frozen=True)
class Request:
    """What a command asks for besides a configuration.

    Args:
        overrides: what was changed, for the name of a new run.
        folder: the run to resume; None is the one of this configuration.
        fresh: start over beside a run that exists.
        force: resume a run although its configuration was changed.
    """

    overrides: Sequence[str] = ()
    folder: Path | None = None
    fresh: bool = False
    force: bool = False


@dataclass(frozen=True)
class Result:
    """A run that is complete."""

    folder: Path
    """Of the run; removed already, if it was a debugging run."""
    metrics: Mapping[str, float]
    """What metrics.json holds."""


def train(cfg: DictConfig, request: Request = Request()) -> Result:
    """Start a run, resume it, or print its result if it is complete.

    Args:
        cfg: a whole configuration; it is not changed.
        request: what else is asked for.

    Returns:
        Where the run is, and its metrics.

    Raises:
        ConfigError: if a value cannot be honoured, or the run cannot be resumed.
    """
    check_train(cfg)
    if cfg.debug:
        cfg = _shortened(cfg)
    with signals(), _working_folder(cfg, request) as folder:
        # If those of a complete run cannot be read, they are measured again from its checkpoint.
        complete = read_status(folder).get("status") == "complete"
        metrics = read_json(RunFolder(folder).metrics) if complete else {}
        if not metrics:
            recipe = build(with_values(cfg, {"paths.run": str(folder)}))
            for how, what in written_match(recipe.cfg).items():
                _print(f"{how}: {what}")
            prepare(recipe.datamodule)  # first, so that a missing or damaged file leaves no run behind
            with _lock(folder):
                changes = _write_configuration(recipe.cfg, folder, request.force)
                with _recording(recipe, folder, changes) as status:
                    metrics = _fit_and_test(recipe, folder, status)
        result = Result(folder, metrics)
        _print(_table(result, cfg))
    return result


def folder_of(cfg: DictConfig, request: Request) -> Path:
    """Where the run is or will be, as long as it is no debugging run."""
    if request.folder is not None:
        return request.folder
    new = Path(cfg.paths.logs) / cfg.name / identity.run_id(cfg, request.overrides)
    found = identity.existing(cfg)
    if found is None:
        return new
    return identity.numbered(found) if request.fresh else found


def start_from_pretrained(recipe: Recipe) -> None:
    """Load the weights that a new run begins with, if any."""
    path, strict = recipe.cfg.pretrained.path, recipe.cfg.pretrained.strict
    if recipe.cfg.pretrained.project:
        load_weights(recipe.model.net, projected_weights(recipe), strict=True)
    elif path is not None:
        for line in load_weights(recipe.model.net, read_weights(Path(path)), strict):
            _print(f"pretrained: left out {line}")
    elif not recipe.cfg.train.do:
        raise ConfigError("`pretrained.path` must be given with train.do=false, which tests weights that are there.")


def check_train(cfg: DictConfig) -> None:
    """Raises ConfigError if a value of the run itself cannot be honoured."""
    check_run(cfg)
    if not (cfg.callbacks and cfg.callbacks.get("checkpoint")):
        raise ConfigError("`callbacks.checkpoint` must be there: the test set is looked at with the best checkpoint.")
    logged = ["val/loss", *(f"val/{name}" for name in cfg.task.metrics)]
    if (monitor := cfg.callbacks.checkpoint.monitor) not in logged:
        raise ConfigError(f"`callbacks.checkpoint.monitor` must be one of {', '.join(logged)}, but got {monitor!r}.")
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


@contextmanager
def _working_folder(cfg: DictConfig, request: Request) -> Iterator[Path]:
    """The folder of the run, the same in all its processes; a debugging run's is removed at the end."""
    if folder := os.environ.get(RUN_FOLDER):  # set by the process that started this one
        yield Path(folder)
        return
    folder = from_first(tempfile.mkdtemp(prefix="debug-") if cfg.debug else str(folder_of(cfg, request)))
    os.environ[RUN_FOLDER] = folder
    try:
        yield Path(folder)
    finally:
        del os.environ[RUN_FOLDER]
        if cfg.debug:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a run's lock, in the first of its processes. Raises ConfigError if another run has it."""
    if rank() > 0:
        yield
        return

    def refusal() -> str:
        last = session(read_status(folder), -1)
        return (
            f"{folder} is being trained by process {last.get('pid')} on {last.get('host')}; wait for it, stop it, or "
            "start another run beside it with FRESH=1 (--fresh)."
        )

    with identity.locked(folder, refusal):
        yield


def _write_configuration(cfg: DictConfig, folder: Path, force: bool) -> list[str]:
    """Write a run's configuration if it is new or changed; what was. Raises ConfigError if that is not forced."""
    files, changes = RunFolder(folder), identity.changes(folder, cfg)
    if changes and not force:
        raise ConfigError(
            f"{folder} was begun with another configuration:\n  " + "\n  ".join(changes) + "\nGo on with it as it "
            "was, accept the change with FORCE=1 (--force), or start a run of its own with `make train`."
        )
    if rank() == 0 and (changes or not files.config.exists()):
        write_text(files.config, OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        write_text(files.recipe, OmegaConf.to_yaml(cfg))
    return changes


@contextmanager
def _recording(recipe: Recipe, folder: Path, changes: list[str]) -> Iterator[Status | None]:
    """Keep status.json from the first process; errors of the others go to files of their own."""
    if rank() > 0:
        try:
            yield None
        except Exception:
            write_error(RunFolder(folder).error_log(rank()))
            raise
        return
    data = getattr(recipe.datamodule, "fingerprint", None)
    status = Status(folder, epochs=recipe.cfg.train.epochs, experiment=recipe.cfg.name, id=folder.name, data=data)
    status.session |= {"changes": changes} if changes else {}
    with status.recording():
        yield status


def _fit_and_test(recipe: Recipe, folder: Path, status: Status | None) -> dict[str, float]:
    """Train from the last checkpoint, if there is one, to the end, test, and write the metrics."""
    cfg, files = recipe.cfg, RunFolder(folder)
    seed_everything(cfg.seed, workers=True, verbose=False)
    found = latest(files.checkpoints) if cfg.train.do else None
    states = found[1]["callbacks"] if found else {}
    if rank() == 0:
        rewind(files.tensorboard, states.get("ExactState", {}).get("events", {}))
    if not found:
        start_from_pretrained(recipe)
    trainer = make_trainer(recipe, [status] if status else [])
    if cfg.train.do and not states.get("Checkpoints", {}).get("finished"):
        _explain_batches(trainer, cfg)
        trainer.fit(recipe.model, datamodule=recipe.datamodule, ckpt_path=found and found[0], weights_only=True)
    metrics = _test(trainer, recipe, files.checkpoints)
    if rank() == 0:
        write_json(files.metrics, metrics)
    return metrics


def _test(trainer: Trainer, recipe: Recipe, checkpoints: Path) -> dict[str, float]:
    """Look at the test set, with the best checkpoint if something was trained."""
    last: dict[str, Any] = {}
    if recipe.cfg.train.do:
        last = load(checkpoints / LAST)
        if not (checkpoints / BEST).exists():
            raise ConfigError(
                f"no epoch had a finite {recipe.cfg.callbacks.checkpoint.monitor} and validation loss, so there is no "
                "best checkpoint to test; lower optimizer.lr or lengthen scheduler.warmup."
            )
        # Not by the trainer, which after averaging weights would test those that were not averaged.
        load_weights(recipe.model.net, read_weights(checkpoints / BEST), strict=True)
    trainer.test(recipe.model, datamodule=recipe.datamodule, verbose=False)
    metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=last.get("global_step", 0))
        logger.finalize("success")
    if last:
        metrics = {recipe.cfg.callbacks.checkpoint.monitor: last["callbacks"]["Checkpoints"]["best"]} | metrics
    metrics["parameters"] = sum(parameter.numel() for parameter in recipe.model.net.parameters())
    return metrics


def _explain_batches(trainer: Trainer, cfg: DictConfig) -> None:
    """Say what a step is made of when it is shared."""
    if trainer.world_size == 1 and trainer.accumulate_grad_batches == 1:
        return
    steps, batch = trainer.accumulate_grad_batches, cfg.train.batch_size
    _print(
        f"A step is {batch * steps} samples: {steps} x batches of {batch} over {trainer.world_size} processes, "
        f"{-(-batch // trainer.world_size)} each; learning rate {cfg.optimizer.lr}, as given."
    )


def _shortened(cfg: DictConfig) -> DictConfig:
    """A copy with one epoch, on 64 samples of each split where the data can be limited."""
    limits = [key for key in ("limit_train", "limit_val", "limit_test") if key in cfg.dataset]
    return with_values(cfg, {"train.epochs": 1} | {f"dataset.{key}": min(cfg.dataset[key] or 64, 64) for key in limits})


def _table(result: Result, cfg: DictConfig) -> Table:
    """What is printed at the end of a run of a configuration, as long as its folder is there."""
    task: type[Task] = locate(cfg.task._target_)  # not a task, as the data may not have said yet how many classes
    title, primary = task.title(cfg.task.primary), cfg.task.primary
    test, val = (task.written(primary, result.metrics.get(f"{stage}/{primary}")) for stage in ("test", "val"))
    facts = {
        f"test {title}": test,
        f"validation {title} (best epoch)": val,
        "parameters": f"{int(result.metrics['parameters']):,}",
        "training time": f"{read_status(result.folder).get('seconds', 0):.0f} s",
        "folder": str(result.folder),
    }
    return fact_table("Result", facts, bold=[f"test {title}"])


def _print(content: Any) -> None:
    """Print, in the first process only."""
    if rank() == 0:
        Console().print(content)
