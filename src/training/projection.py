"""A run that begins where a trained one ended, with kernels of another form."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from omegaconf import DictConfig
from torch import Tensor, nn

from src.analysis.look import untouched
from src.analysis.projection import matched, project
from src.config.targets import ConfigError
from src.data.io.files import replacing
from src.models import GConv
from src.models.learner import Learner
from src.runs.checkpoints import load, load_weights, write_json
from src.runs.folder import RunFolder
from src.runs.process import rank
from src.training.recipe import Recipe, build, load_recipe, of_run, with_values

_EPOCHS = 3
"""Of fine-tuning, unless others are asked for."""
_NORM_BATCHES = 100
"""Training batches at the most that statistics of batch norms are taken from."""
_UNTIMED, _TIMED = 2, 5
"""Training steps, of which the first take longer."""
_Layers = Mapping[str, tuple[GConv, GConv]]
"""Layers before and after, by name."""


def projected_run(folder: Path, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of a run that fine-tunes the kernels of another one in another form.

    Args:
        folder: of the run that is there.
        overrides: what is otherwise; the form among them, such as `implementation=separable`.

    Raises:
        ConfigError: if there is no such run, if it has no weights, or if its kernels cannot be projected so.
    """
    cfg = of_run(folder, [f"train.epochs={_EPOCHS}", f"paths.logs={folder.resolve().parents[1]}", *overrides])
    cfg = with_values(cfg, {"pretrained.path": str(folder.resolve()), "pretrained.project": True})
    _to_project(load_recipe(run=folder), build(cfg))
    return cfg


def projected_weights(recipe: Recipe) -> dict[str, Tensor]:
    """The weights that a run begins with: those of the run at `pretrained.path`, its kernels in the recipe's form.

    They are kept in the folder of the new run, with what was measured.

    Args:
        recipe: of the new run, whose folder is its `paths.run`; its data are prepared, and its net may be changed.

    Raises:
        ConfigError: as `projected_run` does.
    """
    files = RunFolder(Path(recipe.cfg.paths.run))
    if files.projected.exists():
        return load(files.projected)["weights"]
    with torch.random.fork_rng():
        torch.manual_seed(recipe.cfg.seed)
        weights, record = _project(recipe)
    if rank() == 0:
        with replacing(files.projected) as file:
            torch.save({"weights": weights}, file)
        write_json(files.projection, record)
    return weights


def _project(recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights, and what was measured before and after."""
    origin, steps, data = recipe.cfg.pretrained.path, recipe.cfg.pretrained.fit_steps, recipe.datamodule
    before = load_recipe(run=origin)
    layers = _to_project(before, recipe)
    lost = {name: project(*pair, steps) for name, pair in layers.items()}
    _carry_over(before.model.net, recipe.model.net, layers)
    models = {"before": before.model, "projected": recipe.model}
    for stage in ("fit", "test"):
        data.setup(stage)
    for model in models.values():
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    _renew_statistics(recipe.model, data)
    record = {
        "origin": origin,
        "forms": {name: _forms(layers, place) for place, name in enumerate(models)},
        "layers": {name: loss._asdict() for name, loss in lost.items()},
        "metrics": {name: _scores(model, data) for name, model in models.items()},
        "parameters": {name: sum(p.numel() for p in model.net.parameters()) for name, model in models.items()},
        "seconds_per_step": {name: _seconds_per_step(model, data) for name, model in models.items()},
    }
    recipe.model.cpu()
    return {name: value.clone() for name, value in recipe.model.net.state_dict().items()}, record


def _to_project(before: Recipe, after: Recipe) -> _Layers:
    """The layers of both nets. Raises ConfigError if they do not match, or nothing about their kernels differs."""
    try:
        layers = matched(before.model.net, after.model.net)
    except ValueError as error:
        raise ConfigError(f"{after.cfg.pretrained.path} cannot be projected: {error}") from error
    forms = [_forms(layers, place) for place in (0, 1)]
    if forms[0] == forms[1] and before.cfg.kernel == after.cfg.kernel:
        raise ConfigError(
            f"`implementation` must be another form than that of {after.cfg.pretrained.path}, "
            f"{before.cfg.implementation.formula!r}, but got the same; choose implementation=separable, say."
        )
    return layers


def _forms(layers: _Layers, place: int) -> dict[str, str]:
    """The formula of each layer, before or after."""
    return {name: pair[place].kernel.factorisation.formula for name, pair in layers.items()}


def _carry_over(before: nn.Module, after: nn.Module, layers: Iterable[str]) -> None:
    """Give a net all weights of another but those of its kernels. Raises ConfigError if one does not fit."""
    kernels = tuple(f"{name}.kernel." for name in layers)
    ours, theirs = before.state_dict(), after.state_dict()
    rest = {name: value for name, value in ours.items() if not name.startswith(kernels)}
    load_weights(after, rest | {name: theirs[name] for name in theirs if name.startswith(kernels)}, strict=True)


@torch.no_grad()
def _renew_statistics(model: Learner, data: LightningDataModule) -> None:
    """Take the statistics of batch norms anew, as plain means over training batches; all else is in evaluation."""
    norms = [module for module in model.net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None
    for images, _ in islice(data.train_dataloader() if norms else (), _NORM_BATCHES):
        model(images.to(model.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train()


def _scores(model: Learner, data: LightningDataModule) -> dict[str, float]:
    """The task's primary metric on the validation and the test set."""
    found = {}
    for split in ("val", "test"):
        meter = model.task.meter().to(model.device)
        with untouched(model):
            for images, targets in getattr(data, f"{split}_dataloader")():
                meter.update(model(images.to(model.device)), targets.to(model.device))
        found[f"{split}/{model.task.primary}"] = float(meter.compute())
    return found


def _seconds_per_step(model: Learner, data: LightningDataModule) -> float:
    """The median time of a step of the optimiser on the first batch; the weights are as they were afterwards."""
    images, targets = (part.to(model.device) for part in next(iter(data.train_dataloader())))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer, seconds = model.groups.optimiser(model.net, model.optimizer), []
    for _ in range(_UNTIMED + _TIMED):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = model.task.loss(model(images), targets)
        (loss if model.penalty is None else loss + model.penalty(model.net)).backward()
        optimizer.step()
        if images.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    optimizer.zero_grad()
    model.load_state_dict(state)
    return median(seconds[_UNTIMED:])
