"""Some samples of a split, and what is needed to show them and to move them, of any data module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from src.data.datamodule import ImageDataModule
from src.data.warp import Border


@dataclass(frozen=True)
class Samples:
    """Images as a net gets them, with their targets.

    Args:
        images: (n, c, y, x), normalised.
        targets: (n,) or (n, k).
        names: of the classes, labels or values.
        border: what lies outside of a normalised image.
        outside: what lies outside of an image in [0, 1].
        total: how many samples the split has, if that is known.
        shown: normalised images (n, c, y, x) -> as they were before, in [0, 1].
        normalised: images (n, c, y, x) in [0, 1] -> as a net gets them.
    """

    images: Tensor
    targets: Tensor
    names: Sequence[str]
    border: Border
    outside: Border
    total: int | None
    shown: Callable[[Tensor], Tensor]
    normalised: Callable[[Tensor], Tensor]


def samples(
    data: LightningDataModule, split: str, n: int, device: torch.device, outputs: int, drawn: bool = False
) -> Samples:
    """The first n samples of a split, or all if there are fewer: the same in every process and at every time.

    Args:
        data: any data module; of those that are not this project's, the loader of the split must not shuffle, and
            images are shown between their own darkest and brightest pixel.
        split: "val" or "test".
        n: how many.
        device: where they are put.
        outputs: how many names there must be.
        drawn: not the first, which files often have in the order of their classes, but n drawn ones.
    """
    if isinstance(data, ImageDataModule):
        dataset, source = data.datasets[split], data.source
        rows = torch.arange(len(dataset))
        if drawn:
            rows = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
        images, targets = dataset.finish(dataset[0, rows[:n]], device)
        place = {"border": data.border, "outside": source.border, "total": len(dataset)}
        return Samples(images, targets, source.labels, **place, shown=dataset.denormalise, normalised=dataset.normalise)
    images, targets = _first(getattr(data, f"{split}_dataloader")(), n)
    low, high = float(images.min()), float(images.max())
    span = high - low or 1.0
    return Samples(
        images.to(device),
        targets.to(device),
        names=tuple(map(str, range(outputs))),
        border="edge",
        outside="edge",
        total=None,
        shown=lambda own: ((own - low) / span).clamp(0, 1),
        normalised=lambda own: own * span + low,
    )


def _first(loader: object, n: int) -> tuple[Tensor, Tensor]:
    """The first n samples of a loader of (images, targets)."""
    images, targets = [], []
    for batch in loader:
        images.append(batch[0])
        targets.append(batch[1])
        if sum(map(len, images)) >= n:
            break
    return torch.cat(images)[:n], torch.cat(targets)[:n]
