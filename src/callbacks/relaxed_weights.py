"""How far layers have relaxed."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from src.callbacks.probe import log
from src.models.relaxed import relaxations


class RelaxedWeights(Callback):
    """Logs after every epoch, of relaxed layers, how much their weights differ between group elements.

    Tags are `relaxed/<layer>`, the `spread` of `Relaxation`: 0 is an equivariant layer.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        numbers = {f"relaxed/{name}": own.spread() for name, own in relaxations(pl_module.net).items()}
        if numbers:
            log(trainer, numbers, trainer.global_step - 1)
