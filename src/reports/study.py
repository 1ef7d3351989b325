"""Studies: variants of a recipe side by side, each with several seeds, and how they do on moved images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from lightning.pytorch import LightningModule
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from src.analysis.equivariance import BATCH
from src.analysis.look import untouched
from src.analysis.moving import predict, relative_error
from src.config.compose import CONFIGS, compose_config, nearest
from src.config.instantiate import ConfigError
from src.data.samples import Samples, samples
from src.data.warp import warp
from src.groups import SO2, Dilation
from src.reports.curves import scalars
from src.runs.record import read
from src.runs.status import read_status
from src.training.recipe import load_recipe
from src.training.result import Result
from src.training.run import Request, train

_EIGHTH = 45.0
"""Degrees by which images are turned to see how outputs change: nothing is farther from quarter turns."""


@dataclass(frozen=True)
class Study:
    """What is compared: a file of configs/study.

    Args:
        title: of the table.
        common: overrides of all runs.
        variants: further overrides, by what the table calls them.
        seeds: of each variant.
        angles: degrees that test images are turned by.
        scales: factors that they are magnified by.
    """

    title: str
    common: list[str]
    variants: dict[str, list[str]]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    angles: list[float] = field(default_factory=list)
    scales: list[float] = field(default_factory=list)

    def restricted(self, seeds: Sequence[int] | None, variants: Sequence[str] | None) -> Study:
        """To some seeds and variants, or all. Raises ConfigError if there is no such variant."""
        for name in variants or ():
            if name not in self.variants:
                raise ConfigError(
                    f"`variants` must be among the study's, but got {name!r}. {nearest(name, self.variants)}"
                )
        kept = {name: own for name, own in self.variants.items() if variants is None or name in variants}
        return replace(self, seeds=list(seeds or self.seeds), variants=kept)


@dataclass(frozen=True)
class Outcome:
    """What a run came to, on the test set."""

    unmoved: float
    """The task's primary metric on images as they are."""
    angles: list[float]
    """The same on images turned by each of the study's angles."""
    scales: list[float]
    """The same on images magnified by each of its factors."""
    change: float
    """Of the outputs where images are turned by 45 degrees: ||after - before|| / ||before||."""
    losses: list[float]
    """Of training, by epoch."""
    parameters: int
    seconds: float
    """Of training."""
    run: str
    """Its folder."""


def load_study(name: str) -> Study:
    """A file of configs/study. Raises ConfigError if there is none, or if it is none."""
    files = {path.stem: path for path in (CONFIGS / "study").glob("*.yaml")}
    if name not in files:
        raise ConfigError(f"`study` must be a file of configs/study, but got {name!r}. {nearest(name, files)}")
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Study), OmegaConf.load(files[name])))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{files[name]} cannot be used: {str(error).splitlines()[0]}") from error


def run_study(study: Study, overrides: Sequence[str] = ()) -> dict[str, list[Outcome]]:
    """Train what is not trained yet, a run for each seed of each variant, and test it on moved images.

    Args:
        study: what is compared.
        overrides: of all runs, after those of the study.

    Returns:
        Outcomes by variant, in the order of the seeds.

    Raises:
        ConfigError: if a run cannot be, before any is trained.
    """
    words = {
        name: [[*study.common, *own, *overrides, f"seed={seed}"] for seed in study.seeds]
        for name, own in study.variants.items()
    }
    configurations = {name: [compose_config(each) for each in own] for name, own in words.items()}
    return {
        name: [_outcome(study, train(cfg, Request(own))) for cfg, own in zip(runs, words[name], strict=True)]
        for name, runs in configurations.items()
    }


def _outcome(study: Study, result: Result) -> Outcome:
    """Test the best weights of a run on moved images."""
    recipe = load_recipe(run=result.folder)
    recipe.datamodule.setup("test")
    found = samples(recipe.datamodule, "test", 10**9, torch.device("cpu"), 0)
    angles = list(dict.fromkeys([0.0, _EIGHTH, *study.angles]))
    turns = SO2().matrix(torch.tensor(angles, dtype=torch.float64).deg2rad()[:, None])
    sizes = Dilation().matrix(torch.tensor(study.scales, dtype=torch.float64).log()[:, None])
    with untouched(recipe.model.net):
        turned = dict(zip(angles, (_outputs(recipe.model, found, matrix) for matrix in turns), strict=True))
        scaled = [_outputs(recipe.model, found, matrix) for matrix in sizes]
    scores = {angle: recipe.model.task.measured(own, found.targets) for angle, own in turned.items()}
    return Outcome(
        unmoved=scores[0.0],
        angles=[scores[angle] for angle in study.angles],
        scales=[recipe.model.task.measured(own, found.targets) for own in scaled],
        change=relative_error(turned[_EIGHTH], turned[0.0]),
        losses=[value for _, value in scalars(read(result.folder))["train/loss"]],
        parameters=int(result.metrics["parameters"]),
        seconds=read_status(result.folder)["seconds"],
        run=str(result.folder),
    )


def _outputs(model: LightningModule, found: Samples, matrix: Tensor) -> Tensor:
    """(n, k), of images (n, c, y, x) that are moved in one bicubic interpolation."""
    moved = (warp(own, matrix.expand(len(own), 2, 2), "bicubic", found.border) for own in found.images.split(BATCH))
    return torch.cat([predict(model.net, own).float() for own in moved])
