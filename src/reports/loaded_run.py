"""The net of a run and images to look at it with, and all that a report measures of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from src.analysis.equivariance import BATCH, Measured, measure
from src.analysis.moving import predict
from src.analysis.redundancy import Spectra, group_convolutions, random_spectra, spectra
from src.callbacks.checkpoints import BEST, LAST, WEIGHTS
from src.config.instantiate import ConfigError
from src.data import ImageDataModule
from src.data.loader import ImageBatches
from src.reports.costs import Costs, costs
from src.runs.record import Run
from src.training.recipe import build, load_recipe, of_run, prepare
from src.training.run import start_from_pretrained

KEPT = {WEIGHTS: "the best epoch by validation", BEST: "the best epoch by validation", LAST: "the last checkpoint"}
"""What weights a run may have, in the order in which they are looked for, and which they are."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A net in evaluation, without gradients, and test images."""

    run: Run
    net: nn.Module
    """Images (n, c, y, x) to logits (n, classes)."""
    weights: str
    """Which of a run they are."""
    data: ImageDataModule
    images: Tensor
    """(n, c, y, x), normalised, of the test set."""
    labels: Tensor
    """(n,)"""
    costs: Costs

    @property
    def test(self) -> ImageBatches:
        """The whole test set."""
        return self.data.datasets["test"]

    @property
    def shown(self) -> str:
        """Which images these are, in words."""
        n, total = len(self.labels), len(self.test)
        return f"all {n:,} test images" if n == total else f"{n:,} of the {total:,} test images, always the same ones"

    @cached_property
    def measured(self) -> Measured:
        """Equivariance, and accuracy by angle and scale."""
        return measure(self.net, self.images, self.labels, curve_samples=len(self.labels), border=self.data.border)

    @cached_property
    def logits(self) -> Tensor:
        """(n, classes)"""
        with torch.no_grad():
            return torch.cat([predict(self.net, part) for part in self.images.split(BATCH)])

    @cached_property
    def trained(self) -> dict[str, Spectra]:
        """Spectra of kernels, by layer; of layers without a group axis there are none."""
        return {name: spectra(conv) for name, conv in group_convolutions(self.net).items()}

    @cached_property
    def random(self) -> dict[str, Spectra]:
        """The same of random kernels under the same windows."""
        return {name: random_spectra(conv) for name, conv in group_convolutions(self.net).items()}

    @cached_property
    def initial(self) -> Mapping[str, Spectra]:
        """The same of the weights that the run began with, built anew; none if they began elsewhere, which is gone."""
        recipe = build(of_run(self.run.folder))
        try:
            start_from_pretrained(recipe)
        except ConfigError:
            return {}
        return {name: spectra(conv) for name, conv in group_convolutions(recipe.model.net).items()}


def subject(run: Run, most: int) -> Subject | str:
    """The net of a run with its best weights, on the GPU if there is one; or why it cannot be had.

    Args:
        run: in any state.
        most: images of the test set; if there are more, these are drawn.
    """
    kept = [which for name, which in KEPT.items() if (run.files.checkpoints / name).exists()]
    if not kept:
        return "the run has no checkpoint, and so no weights yet."
    try:
        recipe = load_recipe(run=run.folder)
        prepare(recipe.datamodule)
    except ConfigError as error:
        return str(error)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net, data = recipe.model.net.to(device).eval().requires_grad_(False), recipe.datamodule
    test = data.datasets["test"]
    # Drawn, as files are often in the order of their classes.
    rows = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:most]
    images, labels = test.finish(test[0, rows], device)
    return Subject(run, net, kept[0], data, images, labels, costs(net, images[:1]))
