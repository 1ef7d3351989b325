r"""Batches cut from one tensor in memory, never assembled sample by sample.

A batch is a pure function of (seed, epoch, position): the sampler yields (epoch, indices), the data set cuts those
images, and all of them together are moved to the device, augmented and normalised there. Nothing here reads or advances
the global random numbers, and it makes no difference how many workers and ranks there are or where a run was resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from src.data.augment import Augmentation, Parameters
from src.data.masks import with_planes, without_planes
from src.data.sources import Split, Statistics
from src.data.tables import generator
from src.require import require_at_least

_Batch = tuple[Tensor, Tensor]
_Key = tuple[int, Tensor]
_Cut = tuple[int, Tensor, Tensor, Tensor]
"""Epoch, indices, images in uint8, labels."""


class ImageBatches(Dataset[_Cut]):
    """A split, cut by (epoch, indices) and finished as normalised images (n, c, *space) in float32, and labels.

    Args:
        split: images and labels.
        statistics: mean and deviation of the training images.
        augmentation: of the images before normalisation; its parameters are a table by (seed, epoch) with a row for
            every sample. None changes nothing.
        seed: of the augmentation.
        pixel_classes: how many there are where labels are classes of pixels, which move with the images; else None.
    """

    def __init__(
        self,
        split: Split,
        statistics: Statistics,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        pixel_classes: int | None = None,
    ) -> None:
        self.split = split
        self.augmentation = augmentation or Augmentation()
        self.seed, self.pixel_classes = seed, pixel_classes
        self.mean, self.std = (value[:, *[None] * (len(split.images.shape) - 2)] for value in statistics)
        self.scale, self.shift = 1 / (255 * self.std), -self.mean / self.std
        self._drawn: tuple[int, Parameters] | None = None

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, key: _Key) -> _Cut:
        epoch, indices = key
        return epoch, indices, self.split.images[indices], self.split.labels[indices]

    def finish(self, cut: _Cut, device: torch.device) -> _Batch:
        """Move a cut to a device, augment and normalise it there."""
        epoch, indices, images, labels = cut
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        if self.augmentation.active:
            images, labels = self._augmented(images, labels, self._table(epoch).at(indices, device))
        # Normalised in two passes over the batch, in place: this and the augmentation are all that a batch costs.
        normalised = images.to(torch.float32).mul_(self.scale.to(device)).add_(self.shift.to(device))
        return normalised, labels

    def _augmented(self, images: Tensor, labels: Tensor, parameters: Parameters) -> _Batch:
        """Images moved, and with them the classes of their pixels."""
        colour = 255 * self.mean.to(images.device)
        if self.pixel_classes is None:
            return self.augmentation(images, parameters, colour), labels
        planes = with_planes(images, labels, self.pixel_classes)
        return without_planes(self.augmentation(planes, parameters, colour), self.pixel_classes)

    def normalise(self, images: Tensor) -> Tensor:
        """Images (n, c, *space) in [0, 1] as a net takes them, by the mean and deviation of the training images."""
        return (images - self.mean.to(images)) / self.std.to(images)

    def denormalise(self, images: Tensor) -> Tensor:
        """Normalised images (n, c, *space) as they were before, clamped to [0, 1]."""
        return (images * self.std.to(images) + self.mean.to(images)).clamp(0, 1)

    def _table(self, epoch: int) -> Parameters:
        """What happens to every sample in an epoch, drawn once."""
        if self._drawn is None or self._drawn[0] != epoch:
            size = self.split.images.shape[2:]
            self._drawn = epoch, self.augmentation.table(len(self), size, self.seed, epoch)
        return self._drawn[1]

    def to(self, device: torch.device) -> ImageBatches:
        """The same with the images held on a device."""
        images, labels, ids = self.split
        self.split = Split(images.to(device), labels.to(device), ids)
        return self


class Batches(Sampler[_Key]):
    """Which samples make a batch: (epoch, indices) as a pure function of (seed, epoch).

    Args:
        n: samples in all.
        batch_size: samples in a batch of all ranks together; the last has what is left.
        seed: of the order, a new one in every epoch; None is the fixed order 0, 1, 2, ..., of all samples. In a
            shuffled epoch a last batch of fewer than two samples a rank is left out, because batch normalisation fails
            on one value; those of other lengths are kept, and so is a batch of one if `batch_size` or `n` is one.
        rank, ranks: which of how many processes this is. A batch is dealt out to them, and no sample is given twice: a
            rank without a sample of the last batch has a batch less.

    Raises:
        ValueError: if `n` or `batch_size` is below one, or too small for two samples a rank.
    """

    def __init__(self, n: int, batch_size: int, seed: int | None = None, *, rank: int = 0, ranks: int = 1) -> None:
        require_at_least(1, n=n, batch_size=batch_size)
        if ranks > 1 and min(n, batch_size) < 2 * ranks:
            raise ValueError(
                f"`batch_size`, and the number of samples, must be at least {2 * ranks}, two for each of {ranks} "
                f"processes that share a batch, but got {batch_size} of {n} samples; use fewer devices."
            )
        self.n, self.batch_size, self.seed, self.rank, self.ranks = n, batch_size, seed, rank, ranks
        self.epoch = 0
        self.skip = 0
        """Batches of this epoch that were done before a run was resumed."""

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before an epoch; another epoch than the resumed one starts at its beginning."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def __len__(self) -> int:
        last = self.n % self.batch_size or self.batch_size
        shuffled = self.seed is not None
        left_out = self.n > self.batch_size > 1 and last < 2 * self.ranks if shuffled else last <= self.rank
        return ceil(self.n / self.batch_size) - left_out

    def size(self, batch: int) -> int:
        """Samples of a batch, over all ranks."""
        return min(self.batch_size, self.n - batch * self.batch_size)

    def __iter__(self) -> Iterator[_Key]:
        epoch, skip, self.skip = self.epoch, self.skip, 0
        order = torch.arange(self.n)
        if self.seed is not None:
            order = torch.randperm(self.n, generator=generator("order", self.seed, epoch))
        for indices in order.split(self.batch_size)[skip : len(self)]:
            yield epoch, indices[self.rank :: self.ranks]


class Loader(DataLoader[_Batch]):
    """A DataLoader over whole batches that can be stopped and resumed between any two of them.

    Args:
        dataset: cuts the batches, in a worker process if there are any, and finishes them in this one.
        sampler: names them.
        num_workers: processes; 0 is usually fastest, since a batch is one slice of a tensor in memory.
        device: where batches are finished.
        settings: other arguments of a DataLoader; a trainer that predicts rebuilds loaders from their attributes.

    Raises:
        TypeError: for another sampler.
    """

    def __init__(
        self,
        dataset: ImageBatches,
        sampler: Batches,
        num_workers: int = 0,
        device: str | torch.device = "cpu",
        **settings: Any,
    ) -> None:
        if not isinstance(sampler, Batches):
            raise TypeError(
                f"`sampler` must be Batches, of whole batches, but got {type(sampler).__name__}: a trainer puts in its "
                "own for overfit_batches; use dataset.limit_train. For several devices set use_distributed_sampler "
                "to false: Batches deals them out itself."
            )
        self.device = torch.device(device)
        defaults = {
            "batch_size": None,
            "pin_memory": self.device.type == "cuda" and num_workers > 0,
            "persistent_workers": num_workers > 0,
            # Its own, because a DataLoader draws a seed for its workers even if it has none.
            "generator": torch.Generator().manual_seed(0),
        }
        super().__init__(dataset, sampler=sampler, num_workers=num_workers, **defaults | settings)
        self.batches = sampler
        self.done = 0
        """Batches of the epoch that were handed out; workers may be ahead of it."""

    def __iter__(self) -> Iterator[_Batch]:
        self.done = self.batches.skip
        # Without workers there is nothing for a DataLoader to do but to take its time.
        cuts = super().__iter__() if self.num_workers else map(self.dataset.__getitem__, self.sampler)
        for cut in cuts:
            self.done += 1
            yield self.dataset.finish(cut, self.device)

    def state_dict(self) -> dict[str, Any]:
        """The trainer keeps it in a checkpoint."""
        return {"epoch": self.batches.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches that were done; a finished epoch is followed by a whole one."""
        self.batches.epoch = state["epoch"]
        self.batches.skip = state["done"] if state["done"] < len(self.batches) else 0
