"""The sizes of kernels that are learned."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from src.callbacks.probe import log
from src.models.gconv import convolutions


class MaskSizes(Callback):
    """Logs after every epoch, of layers whose masks are learned, their sizes and the taps that are left of the window.

    Tags are `mask/<layer>/<axis>`, standard deviations in units of the window's half, and `mask/<layer>/taps`.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        numbers: dict[str, float] = {}
        for name, conv in convolutions(pl_module.net).items():
            sizes = {
                axis: size for mask in conv.kernel.masks.values() for axis, size in getattr(mask, "sizes", {}).items()
            }
            if sizes and conv.kernel_size > 1:
                numbers |= {f"mask/{name}/{axis}": size for axis, size in sizes.items()}
                numbers[f"mask/{name}/taps"] = float(conv.kernel.window.taps[0])
        if numbers:
            log(trainer, numbers, trainer.global_step)
