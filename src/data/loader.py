r"""Batches cut from one tensor in memory, never assembled sample by sample.

A batch is a pure function of (seed, epoch, position): the sampler yields (epoch, indices) and the data set cuts,
normalises and augments all of them at once. Nothing here reads or advances the global random numbers, and it makes no
difference how many workers there are or where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from src.data.augment import augmentation, generator, uniform_table
from src.data.sources import Split, Statistics

Batch = tuple[Tensor, Tensor]
Key = tuple[int, Tensor]


class ImageBatches(Dataset[Batch]):
    """A split, indexed by (epoch, indices): normalised images (n, c, y, x) in float32, and labels (n,).

    Args:
        split: images and labels.
        statistics: mean and deviation of the training images.
        augment: "rotate" (a uniform angle, bilinear), "flip" (left and right, by a coin) or None; drawn afresh for
            every (seed, epoch, index), before normalisation, so what enters at the rim is black.
        seed: of the augmentation.

    Raises:
        ValueError: for an unknown `augment`.
    """

    def __init__(self, split: Split, statistics: Statistics, augment: str | None = None, seed: int = 0) -> None:
        self.split = split
        self.augment = augment
        self.seed = seed
        self.mean, self.std = (value[:, None, None] for value in statistics)
        augmentation(augment)

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, key: Key) -> Batch:
        epoch, indices = key
        images, labels = self.split.at(indices)
        images = images.to(torch.float32) / 255
        if augment := augmentation(self.augment):
            images = augment(images, uniform_table(len(self), "augment", self.seed, epoch)[indices])
        return (images - self.mean) / self.std, labels


class Batches(Sampler[Key]):
    """Which samples make a batch: (epoch, indices) as a pure function of (seed, epoch).

    Args:
        n: samples in all.
        batch_size: samples in a batch; the last has what is left.
        seed: of the order, a new one in every epoch; None is the fixed order 0, 1, 2, ..., of all samples. In a
            shuffled epoch a last batch of a single sample is left out, because batch normalisation fails on one value;
            those of other lengths are kept, and so is a batch of one if `batch_size` or `n` is one.

    Raises:
        ValueError: if `n` or `batch_size` is below one.
    """

    def __init__(self, n: int, batch_size: int, seed: int | None = None) -> None:
        for name, value in {"n": n, "batch_size": batch_size}.items():
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, but got {value}.")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.epoch = 0
        self.skip = 0
        """Batches of this epoch that were done before a run was resumed."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before an epoch; another epoch than the resumed one starts at its beginning."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def __len__(self) -> int:
        lonely = self.seed is not None and self.n > self.batch_size > 1 and self.n % self.batch_size == 1
        return ceil(self.n / self.batch_size) - lonely

    def __iter__(self) -> Iterator[Key]:
        epoch, skip, self.skip = self.epoch, self.skip, 0
        for indices in self._order(epoch).split(self.batch_size)[skip : len(self)]:
            yield epoch, indices

    def _order(self, epoch: int) -> Tensor:
        if self.seed is None:
            return torch.arange(self.n)
        return torch.randperm(self.n, generator=generator("order", self.seed, epoch))


class Loader(DataLoader[Batch]):
    """A DataLoader over whole batches that can be stopped and resumed between any two of them.

    Args:
        dataset: cuts the batches.
        sampler: names them.
        num_workers: processes; 0 is usually fastest, since a batch is one slice of a tensor in memory.
        settings: other arguments of a DataLoader; a trainer that predicts rebuilds loaders from their attributes.

    Raises:
        TypeError: for another sampler.
    """

    def __init__(self, dataset: ImageBatches, sampler: Batches, num_workers: int = 0, **settings: Any) -> None:
        if not isinstance(sampler, Batches):
            raise TypeError(
                f"`sampler` must be Batches, of whole batches, but got {type(sampler).__name__}: a trainer puts in its "
                "own for overfit_batches and for several devices; use dataset.limit_train, and one device."
            )
        defaults = {
            "batch_size": None,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": num_workers > 0,
            # Its own, because a DataLoader draws a seed for its workers even if it has none.
            "generator": torch.Generator().manual_seed(0),
        }
        super().__init__(dataset, sampler=sampler, num_workers=num_workers, **defaults | settings)
        self.batches = sampler
        self.done = 0
        """Batches of the epoch that were handed out; workers may be ahead of it."""

    def __iter__(self) -> Iterator[Batch]:
        self.done = self.batches.skip
        for images, labels in super().__iter__():
            self.done += 1
            yield images, labels  # a DataLoader turns pairs into lists

    def state_dict(self) -> dict[str, Any]:
        """The trainer keeps it in a checkpoint."""
        return {"epoch": self.batches.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches that were done; a finished epoch is followed by a whole one."""
        self.batches.epoch = state["epoch"]
        self.batches.skip = state["done"] if state["done"] < len(self.batches) else 0
