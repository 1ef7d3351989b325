"""The net of a run and images to look at it with, and all that a report measures of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from src.analysis.costs import Costs, costs
from src.analysis.equivariance import Measured, measure
from src.analysis.moving import BATCH, predict
from src.analysis.redundancy import Spectra, group_convolutions, random_spectra, spectra
from src.callbacks.checkpoints import BEST, LAST, WEIGHTS
from src.config.instantiate import instantiate
from src.config.targets import ConfigError
from src.data import ImageDataModule
from src.data.samples import Samples, samples
from src.models.tasks import Classification, Task
from src.runs.record import Run
from src.training.recipe import build, load_recipe, of_run, prepare, with_values
from src.training.run import start_from_pretrained

_KEPT = {WEIGHTS: "the best epoch by validation", BEST: "the best epoch by validation", LAST: "the last checkpoint"}
"""What weights a run may have, in the order in which they are looked for, and which they are."""


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A run with its net, in evaluation and without gradients, and test images."""

    run: Run
    net: nn.Module
    """Images (n, c, y, x) to outputs (n, k)."""
    task: Task
    weights: str
    """Which of a run they are."""
    samples: Samples
    """Of the test set."""
    train_images: int | None
    """How many there are, if that is known."""
    costs: Costs

    @property
    def shown(self) -> str:
        """Which images these are, in words."""
        n, total = len(self.samples.images), self.samples.total
        if total is None:
            return f"the first {n:,} test images"
        return f"all {n:,} test images" if n == total else f"{n:,} of the {total:,} test images, always the same ones"

    @cached_property
    def measured(self) -> Measured:
        """Equivariance, and the metric by angle and scale."""
        images, targets = self.samples.images, self.samples.targets
        return measure(self.net, images, targets, curve_samples=len(images), task=self.task, border=self.samples.border)

    @cached_property
    def outputs(self) -> Tensor:
        """(n, k)"""
        with torch.no_grad():
            return torch.cat([predict(self.net, part) for part in self.samples.images.split(BATCH)])

    @cached_property
    def spectra(self) -> dict[str, Mapping[str, Spectra]]:
        """Those of kernels by layer: trained, initial, and random under the same windows.

        The initial weights are built anew; if the run began with others, they are gone, and there are no spectra.
        """
        recipe = build(with_values(of_run(self.run.folder), {"paths.run": str(self.run.folder)}))
        try:
            start_from_pretrained(recipe)
            initial = group_convolutions(recipe.model.net)
        except ConfigError:
            initial = {}
        trained = group_convolutions(self.net)
        return {
            "trained": {name: spectra(conv) for name, conv in trained.items()},
            "initial": {name: spectra(conv) for name, conv in initial.items()},
            "random": {name: random_spectra(conv) for name, conv in trained.items()},
        }


@dataclass(frozen=True)
class Entry:
    """A run on a page."""

    name: str
    """What the page calls it, such as "run 1"; nothing if it is alone."""
    run: Run
    loaded: LoadedRun | str
    """With its net; or why it cannot be had."""

    @cached_property
    def task(self) -> Task:
        """What it learned; classification if that cannot be read, as it is of runs of older versions."""
        if isinstance(self.loaded, LoadedRun):
            return self.loaded.task
        try:
            return instantiate(of_run(self.run.folder).task)
        except (ConfigError, OmegaConfBaseException):
            return Classification(2)


def load_run(run: Run, most: int) -> LoadedRun | str:
    """The net of a run with its best weights, on the GPU if there is one; or why it cannot be had.

    Args:
        run: in any state.
        most: images of the test set; if there are more, these are drawn.
    """
    kept = [which for name, which in _KEPT.items() if (run.files.checkpoints / name).exists()]
    if not kept:
        return "the run has no checkpoint, and so no weights yet."
    try:
        recipe = load_recipe(run=run.folder)
        prepare(recipe.datamodule)
    except ConfigError as error:
        return str(error)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, data = recipe.model.to(device).eval().requires_grad_(False), recipe.datamodule
    found = samples(data, "test", most, device, model.task.outputs, drawn=True)
    train = len(data.datasets["train"]) if isinstance(data, ImageDataModule) else None
    return LoadedRun(run, model.net, model.task, kept[0], found, train, costs(model.net, found.images[:1]))
