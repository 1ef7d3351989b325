"""Pictures of a net: its filters along the group, features of a turned image, and what it gets right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from src.analysis.drawing import pixels
from src.analysis.look import Job
from src.analysis.moving import BATCH
from src.analysis.outcomes import draw_predictions
from src.analysis.pictures import draw_features, draw_filters
from src.callbacks.probe import Probe, validation_samples, writers
from src.models.gconv import convolutions
from src.require import require_positive

_Picture = tuple[str, np.ndarray]
"""A tag and an image (y, x, 3) of uint8."""
_TAGS = {"samples": "samples/predictions", "worst": "samples/worst"}
"""Of pictures that do not have their own names."""


class FeatureFigures(Probe):
    """Draws the net before training, every few epochs and after the last, for TensorBoard's page IMAGES.

    - `filters/<layer>` of every group convolution with a window: see `draw_filters`;
    - `features/rotation`: see `draw_rotation`, of the first image of the validation set;
    - `samples/predictions`, the first samples of the validation set, and `samples/worst`, those of the largest loss;
    - `confusion`, of as many; or `labels` or `values`, as the task has them: see `draw_predictions`.

    Args:
        every_epochs: between two looks.
        before_training: also look before the first step.
        samples: of the validation set that the worst are looked for in, and that are counted in `confusion`.
        layer: whose features are drawn, by its name in the net; None is the first group convolution, lifting.

    Raises:
        ValueError: if a number is not a positive integer, or, when training starts, the net has no such layer.
    """

    def __init__(
        self, every_epochs: int = 10, before_training: bool = True, samples: int = 512, layer: str | None = None
    ) -> None:
        super().__init__(every_epochs, before_training)
        require_positive(samples=samples)
        self.samples, self.layer = samples, layer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        names = list(convolutions(pl_module.net))
        if self.layer not in (None, *names):
            raise ValueError(
                f"`layer` must be a group convolution of the net, but got {self.layer!r}; there are {', '.join(names)}."
            )
        super().on_train_start(trainer, pl_module)

    def look(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        if writers(trainer):
            super().look(trainer, module, step)

    def tasks(self, trainer: Trainer, module: LightningModule) -> Sequence[Job]:
        layers = convolutions(module.net)
        tasks: list[Job] = [lambda: self._samples(trainer, module)]
        if layers:
            tasks.append(lambda: self._rotation(trainer, module, self.layer or next(iter(layers))))
        for name, conv in layers.items():
            if conv.kernel_size > 1:
                tasks.append(lambda name=name, conv=conv: [(f"filters/{name}", pixels(draw_filters(conv)))])
        return tasks

    def report(
        self, trainer: Trainer, module: LightningModule, results: Sequence[Sequence[_Picture]], step: int
    ) -> None:
        for writer in writers(trainer):
            for pictures in results:
                for tag, image in pictures:
                    writer.add_image(tag, image, step, dataformats="HWC")

    def _rotation(self, trainer: Trainer, module: LightningModule, name: str) -> list[_Picture]:
        found, conv = validation_samples(trainer, module, 1), convolutions(module.net)[name]
        drawn = draw_features(found, conv, name, partial(_forward, trainer, module))
        return [("features/rotation", pixels(drawn))]

    def _samples(self, trainer: Trainer, module: LightningModule) -> list[_Picture]:
        found = validation_samples(trainer, module, self.samples)
        drawn = draw_predictions(module.task, found, _forward(trainer, module, found.images))
        return [(_TAGS.get(name, name), pixels(each)) for name, each in drawn.items()]


def _forward(trainer: Trainer, module: LightningModule, images: Tensor) -> Tensor:
    """Outputs (n, k) in float32, in the precision and the batches of validation."""
    precision = trainer.precision_plugin
    with precision.forward_context():
        parts = images.split(getattr(trainer.datamodule, "eval_batch_size", BATCH))
        return torch.cat([module(precision.convert_input(part)).float() for part in parts])
