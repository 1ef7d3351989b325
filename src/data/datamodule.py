"""The Lightning data module of every image data set that fits into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor

from src.data.augment import augmentation, generator
from src.data.loader import Batches, ImageBatches, Loader
from src.data.sources import SPLITS, Source, Split, Statistics, statistics, stratified


class ImageDataModule(LightningDataModule):
    """Loaders of a source's three splits, normalised by the statistics of its training split.

    It works without a Trainer: a loader that is asked for reads the data if need be.

    Args:
        source: builds the source from `seed` and `options`, for instance the class `Digits`.
        batch_size: samples in a training batch.
        eval_batch_size: samples in a batch of validation and testing; None is `batch_size`.
        seed: decides what the data are, splits and rotations and limited subsets; usually fixed across runs.
        order_seed: decides the order of training and the augmentation; usually the seed of the run.
        augment: None, "rotate" or "flip", in training only.
        limit_train, limit_val, limit_test: use a stratified subset of so many samples; None is all. Statistics are of
            the whole training split all the same.
        num_workers: processes that load; 0 is usually fastest.
        classes, channels: what a configuration promises to its network; an error if the source has others.
        options: everything else, for the source.

    Raises:
        ValueError: if an argument is out of its range, or disagrees with the source.
        TypeError: if the source has no such option.
    """

    def __init__(
        self,
        *,
        source: Callable[..., Source],
        batch_size: int,
        eval_batch_size: int | None = None,
        seed: int = 0,
        order_seed: int = 0,
        augment: str | None = None,
        limit_train: int | None = None,
        limit_val: int | None = None,
        limit_test: int | None = None,
        num_workers: int = 0,
        classes: int | None = None,
        channels: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        augmentation(augment)
        self.source = source(seed=seed, **options)
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.seed, self.order_seed, self.augment, self.num_workers = seed, order_seed, augment, num_workers
        self.limits = dict(zip(SPLITS, (limit_train, limit_val, limit_test), strict=True))
        self._datasets: dict[str, ImageBatches] = {}
        self._check_counts()
        self._check_promises(classes=classes, channels=channels)

    @property
    def classes(self) -> int:
        return self.source.classes

    @property
    def channels(self) -> int:
        return self.source.channels

    @property
    def size(self) -> tuple[int, int]:
        """(y, x) in pixels."""
        return self.source.size

    @property
    def train_batches(self) -> int:
        """Optimiser steps in an epoch (reads the data)."""
        return len(self.train_dataloader())

    def prepare_data(self) -> None:
        """Download and generate what is missing; under a Trainer, in one process before all others."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read the data, once; the three splits come together, as statistics of training are needed for testing."""
        if not self._datasets:
            splits = self.source.splits()
            for name, split in zip(SPLITS, splits, strict=True):
                self._check_split(name, split)
            scale = statistics(splits.train.images)
            self._datasets = {
                name: self._dataset(name, split, scale) for name, split in zip(SPLITS, splits, strict=True)
            }

    def train_dataloader(self) -> Loader:
        return self._loader("train", self.batch_size, self.order_seed)

    def val_dataloader(self) -> Loader:
        return self._loader("val", self.eval_batch_size)

    def test_dataloader(self) -> Loader:
        return self._loader("test", self.eval_batch_size)

    def _loader(self, name: str, batch_size: int, seed: int | None = None) -> Loader:
        self.setup()
        dataset = self._datasets[name]
        return Loader(dataset, Batches(len(dataset), batch_size, seed), self.num_workers)

    def _dataset(self, name: str, split: Split, scale: Statistics) -> ImageBatches:
        augment = self.augment if name == "train" else None
        return ImageBatches(self._limited(name, split), scale, augment, self.order_seed)

    def _limited(self, name: str, split: Split) -> Split:
        limit = self.limits[name]
        return split if limit is None else split.at(self._subset(name, split.labels, limit))

    def _subset(self, name: str, labels: Tensor, limit: int) -> Tensor:
        if limit > len(labels):
            raise ValueError(
                f"`limit_{name}` must be at most {len(labels)}, the samples there are, but got {limit}; null uses all."
            )
        return stratified(labels, [limit], generator("limit", name, self.seed))[0]

    def _check_counts(self) -> None:
        counts = {"batch_size": self.batch_size, "eval_batch_size": self.eval_batch_size}
        counts |= {f"limit_{name}": limit for name, limit in self.limits.items() if limit is not None}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, but got {value}.")
        if self.num_workers < 0:
            raise ValueError(f"`num_workers` must be at least 0, but got {self.num_workers}.")

    def _check_promises(self, **promises: int | None) -> None:
        for name, value in promises.items():
            actual = getattr(self.source, name)
            if value not in (None, actual):
                raise ValueError(
                    f"`{name}` must be {actual}, what {type(self.source).__name__} has, but got {value}; correct it in "
                    "the configuration of the data set."
                )

    def _check_split(self, name: str, split: Split) -> None:
        expected = (self.channels, *self.size)
        low, high = int(split.labels.min()), int(split.labels.max())
        if tuple(split.images.shape[1:]) != expected or low < 0 or high >= self.classes:
            raise ValueError(
                f"the {name} split of {type(self.source).__name__} must be images of {expected} with labels in "
                f"[0, {self.classes}), but has {tuple(split.images.shape[1:])} and [{low}, {high}]; correct the "
                "source's `classes`, `channels` or `size`."
            )
