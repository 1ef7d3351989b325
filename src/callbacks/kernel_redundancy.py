"""How much of a group-convolution kernel is copies of itself along the group, beside two controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from src.analysis import redundancy
from src.analysis.drawing import pixels
from src.analysis.look import Job
from src.callbacks.probe import Probe, log, writers


class KernelRedundancy(Probe):
    """Logs every group convolution's `Spectrum`, beside the layer at the start of training and random kernels.

    A kernel net is smooth, so its kernels have a low rank before any training: without the first control the numbers
    say nothing about what was learned. A window of few pixels allows few components: that is what the second one shows.

    Tags are `redundancy/<measure>/<layer>` of the trained layer, and the same with `/initial` and `/random` of the
    controls; the parts of a product group are `<layer>/<part>`. The layer `overall` is the mean over all whose form
    does not force rank 1, or over all if there are none. The image `redundancy/spectra` has the spectra.

    Args:
        every_epochs: between two looks.

    Raises:
        ValueError: if `every_epochs` is not a positive integer.
    """

    def __init__(self, every_epochs: int = 10) -> None:
        super().__init__(every_epochs)
        self.initial: dict[str, redundancy.Spectra] = {}
        """By layer, in the first process; empty in a run that began without this callback."""

    def state_dict(self) -> dict[str, Any]:
        plain = {
            layer: {name: spectrum._asdict() for name, spectrum in measured.items()}
            for layer, measured in self.initial.items()
        }
        return {"initial": plain}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.initial = {
            layer: {name: redundancy.Spectrum(**values) for name, values in measured.items()}
            for layer, measured in state_dict["initial"].items()
        }

    def look(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        if redundancy.group_convolutions(module.net):
            super().look(trainer, module, step)

    def tasks(self, trainer: Trainer, module: LightningModule) -> Sequence[Job]:
        return [
            lambda conv=conv: (redundancy.spectra(conv), redundancy.random_spectra(conv))
            for conv in redundancy.group_convolutions(module.net).values()
        ]

    def report(self, trainer: Trainer, module: LightningModule, results: Sequence[Any], step: int) -> None:
        layers = list(redundancy.group_convolutions(module.net))
        trained, random = (dict(zip(layers, kind, strict=True)) for kind in zip(*results, strict=True))
        if trainer.global_step == 0:
            self.initial = trained
        log(trainer, redundancy.numbers(trained, self.initial, random), step)
        for writer in writers(trainer) if any(trained.values()) else ():
            image = pixels(redundancy.draw_redundancy(trained, self.initial, random))
            writer.add_image("redundancy/spectra", image, step, dataformats="HWC")
