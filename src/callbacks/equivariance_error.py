"""How far the net is from commuting with its group, and how it bears turned and scaled images, while it is trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from src.analysis.drawing import pixels
from src.analysis.equivariance import Study
from src.analysis.equivariance_figures import draw_curves, draw_layers, explain
from src.analysis.look import Job
from src.callbacks.probe import Probe, log, validation_samples, writers
from src.require import require_positive


class EquivarianceError(Probe):
    """Logs `equivariance/` and `robustness/` of validation images, as numbers and pictures; see `Measured`.

    It warns, once in a run, if a layer does not commute with a quarter turn or flip that its group has.

    Args:
        every_epochs: between two looks.
        before_training: also look before the first step.
        samples: images for errors of layers, agreement and derivatives.
        elements: random group elements off the grid.
        curve_samples: images for the primary metric by angle and scale.
        angles: in a whole turn.

    Raises:
        ValueError: if a number is not a positive integer.
    """

    def __init__(
        self,
        every_epochs: int = 10,
        before_training: bool = True,
        samples: int = 32,
        elements: int = 4,
        curve_samples: int = 128,
        angles: int = 16,
    ) -> None:
        super().__init__(every_epochs, before_training)
        require_positive(samples=samples, elements=elements, curve_samples=curve_samples, angles=angles)
        self.options = {"samples": samples, "elements": elements, "curve_samples": curve_samples, "angles": angles}
        self._study: Study | None = None
        self._warned = False

    def tasks(self, trainer: Trainer, module: LightningModule) -> Sequence[Job]:
        most = max(self.options["samples"], self.options["curve_samples"])
        found = validation_samples(trainer, module, most)
        more = {"task": module.task, "border": found.border}
        self._study = Study(module, found.images, found.targets, **self.options, **more)
        return self._study.tasks()

    def report(self, trainer: Trainer, module: LightningModule, results: Sequence[Any], step: int) -> None:
        measured = self._study.measured(results)
        log(trainer, measured.numbers(), step)
        for writer in writers(trainer):
            for tag, drawn in {
                "equivariance/layers": draw_layers(measured.errors),
                "robustness/curves": draw_curves({"": measured.rotation}, {"": measured.scale}, measured.score),
            }.items():
                writer.add_image(tag, pixels(drawn), step, dataformats="HWC")
        if measured.flaw is not None and not self._warned:
            self._warned = True
            warnings.warn(explain(measured.flaw), stacklevel=2)

    def look(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        super().look(trainer, module, step)
        self._study = None  # its fields are large
