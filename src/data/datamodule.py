"""The Lightning data module of every image data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from src.data.augment import Augmentation
from src.data.draw import SPLITS, stratified
from src.data.io.store import stored
from src.data.lazy import Lazy
from src.data.loader import Batches, ImageBatches, Loader
from src.data.sources import Source, Split, Splits, Statistics
from src.data.tables import generator
from src.data.warp import Border
from src.require import require, require_at_least


class ImageDataModule(LightningDataModule):
    """Loaders of a source's three splits, normalised by the statistics of its training split.

    It works without a Trainer: a loader that is asked for reads the data if need be. Under a Trainer, batches are
    augmented and normalised on its device, and dealt out to its processes.

    Args:
        reader: builds the source from `seed` and `options`, for instance the class `Digits`.
        batch_size: samples in a training batch, over all processes.
        eval_batch_size: samples in a batch of validation and testing; None is `batch_size`.
        seed: decides what the data are, splits and rotations and limited subsets; usually fixed across runs.
        order_seed: decides the order of training and the augmentation; usually the seed of the run.
        augment: arguments of `Augmentation`, in training only; None is none. Its border is the source's unless given.
        limit_train, limit_val, limit_test: use a stratified subset of so many samples; None is all. Statistics are of
            the whole training split all the same.
        split: what `fingerprint` must be, so that a run is sure of its data; None is anything.
        num_workers: processes that read; 0 is usually fastest, unless images are read lazily.
        on_device: hold the images on the device of the trainer.
        classes, channels: what a configuration promises to its network; an error if the source has others.
        options: everything else, for the source.

    Raises:
        ValueError: if an argument is out of its range, or disagrees with the source.
        TypeError: if the source or the augmentation has no such option.
    """

    def __init__(
        self,
        *,
        reader: Callable[..., Source],
        batch_size: int,
        eval_batch_size: int | None = None,
        seed: int = 0,
        order_seed: int = 0,
        augment: Mapping[str, Any] | None = None,
        limit_train: int | None = None,
        limit_val: int | None = None,
        limit_test: int | None = None,
        split: str | None = None,
        num_workers: int = 0,
        on_device: bool = False,
        classes: int | None = None,
        channels: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.source = reader(seed=seed, **options)
        self.classes, self.targets = self.source.classes, self.source.targets
        """How many there are, and what they are: see `Source`."""
        self.channels, self.size = self.source.channels, self.source.size
        """Of images; their sides in pixels, (x), (y, x) or (z, y, x)."""
        self.augmentation = self._augmentation(augment)
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.seed, self.order_seed, self.split = seed, order_seed, split
        self.num_workers, self.on_device = num_workers, on_device
        self.limits = dict(zip(SPLITS, (limit_train, limit_val, limit_test), strict=True))
        self.statistics: Statistics | None = None
        """Of other data, to normalise by; None is by those of this training split."""
        self._datasets: dict[str, ImageBatches] = {}
        self._check_arguments(classes=classes, channels=channels)

    @property
    def border(self) -> Border:
        """What to put outside of normalised images that are moved; `warp` has the choices.

        Their black is not zero. But where the source is black outside, so are the outermost pixels of its images.
        """
        return "edge" if self.source.border == "zeros" else self.source.border

    @property
    def train_batches(self) -> int:
        """Optimiser steps in an epoch (reads the data)."""
        return len(self.train_dataloader())

    @property
    def fingerprint(self) -> str:
        """The name of these splits: a hash of which image is in which (reads the data)."""
        content = sha256(self.source.name.encode())
        for name, dataset in self.datasets.items():
            content.update(name.encode() + dataset.split.ids.numpy().tobytes())
        return f"{self.source.name}-{content.hexdigest()[:12]}"

    @property
    def datasets(self) -> dict[str, ImageBatches]:
        """The three splits, by name (reads the data)."""
        self.setup()
        return self._datasets

    def prepare_data(self) -> None:
        """Download and generate what is missing; under a Trainer, in one process before all others.

        Which image is in which split is written under the name that runs give.
        """
        ids = {name: dataset.split.ids for name, dataset in self.datasets.items()}
        if self.source.cache is not None:
            stored(self.source.cache / f"split-{self.fingerprint}.npz", lambda: ids)

    def setup(self, stage: str | None = None) -> None:
        """Read the data, once; the three splits come together, as statistics of training are needed for testing."""
        if self._datasets:
            return
        splits = self.source.splits()
        self._check_splits(splits)
        scale = self.statistics or self.source.statistics(splits.train)
        pixel_classes = self.classes if self.targets == "pixels" else None
        for name, split in zip(SPLITS, splits, strict=True):
            augmentation = self.augmentation if name == "train" else None
            limited = self._limited(name, split)
            self._datasets[name] = ImageBatches(limited, scale, augmentation, self.order_seed, pixel_classes)
        if self.split not in (None, self.fingerprint):
            raise ValueError(
                f"`split` must be {self.fingerprint}, as drawn from dataset.seed, counts, folds and limits, but got "
                f"{self.split}; change those to what that split was drawn with, or set dataset.split=null."
            )

    def train_dataloader(self) -> Loader:
        return self._loader("train", self.batch_size, self.order_seed)

    def val_dataloader(self) -> Loader:
        return self._loader("val", self.eval_batch_size)

    def test_dataloader(self) -> Loader:
        return self._loader("test", self.eval_batch_size)

    def _loader(self, name: str, batch_size: int, seed: int | None = None) -> Loader:
        dataset = self.datasets[name]
        device, place = torch.device("cpu"), {}
        if trainer := self.trainer:
            device, place = trainer.strategy.root_device, {"rank": trainer.global_rank, "ranks": trainer.world_size}
        if self.on_device:
            dataset.to(device)
        return Loader(dataset, Batches(len(dataset), batch_size, seed, **place), self.num_workers, device)

    def _augmentation(self, augment: Mapping[str, Any] | None) -> Augmentation:
        if augment is not None and not isinstance(augment, Mapping):
            raise ValueError(
                f"`augment` must be null or map names to values, such as {{rotate: 180}}, but got {augment!r}; "
                "choose a file of configs/augment with augment=NAME."
            )
        given = dict(augment or {})
        augmentation = Augmentation(**given | {"border": given.get("border") or self.source.border})
        augmentation.check(len(self.size))
        whole = self.targets != "pixels" or not augmentation.cutout
        require("augment.cutout", augmentation.cutout, whole, "0 where classes of pixels are learned")
        return augmentation

    def _limited(self, name: str, split: Split) -> Split:
        limit, n = self.limits[name], len(split.labels)
        if limit is None:
            return split
        if limit > n:
            raise ValueError(
                f"`limit_{name}` must be at most {n}, the samples there are, but got {limit}; null uses all."
            )
        return split.at(stratified(split.labels, [limit], generator("limit", name, self.seed))[0])

    def _check_arguments(self, **promises: int | None) -> None:
        counts = {"batch_size": self.batch_size, "eval_batch_size": self.eval_batch_size}
        counts |= {f"limit_{name}": limit for name, limit in self.limits.items() if limit is not None}
        require_at_least(1, **counts)
        require_at_least(0, num_workers=self.num_workers)
        idle = self.num_workers == 0 or not self.on_device
        require("num_workers", self.num_workers, idle, "0 with on_device=true, as nothing is left to read")
        for name, value in promises.items():
            actual = getattr(self.source, name)
            if value not in (None, actual):
                raise ValueError(
                    f"`{name}` must be {actual}, what {type(self.source).__name__} has, but got {value}; correct it in "
                    "the configuration of the data set."
                )

    def _check_splits(self, splits: Splits) -> None:
        expected, source = (self.channels, *self.size), type(self.source).__name__
        for name, split in zip(SPLITS, splits, strict=True):
            wanted, found, fits = _check_targets(split.labels, self.targets, self.classes, self.size)
            if tuple(split.images.shape[1:]) != expected or not fits:
                raise ValueError(
                    f"the {name} split of {source} must be images of {expected} with {wanted}, but has "
                    f"{tuple(split.images.shape[1:])} and {found}; correct the source's `labels`, `targets`, "
                    "`channels` or `size`."
                )
            if self.on_device and isinstance(split.images, Lazy):
                raise ValueError("`on_device` must be false for images that are read lazily.")
        ids = torch.cat([split.ids for split in splits])
        if len(ids.unique()) != len(ids):
            raise ValueError(f"the splits of {source} share images; correct its `pools` or `splits`.")


def _check_targets(targets: Tensor, kind: str, classes: int, size: Sequence[int]) -> tuple[str, str, bool]:
    """What targets of a kind must be, what these are, and whether they are so."""
    low, high = float(targets.min()), float(targets.max())
    if kind in ("class", "pixels"):
        shape = tuple(size) if kind == "pixels" else ()
        wanted = f"labels in [0, {classes})" + (f" of shape {shape}" if shape else "")
        found = f"[{low:g}, {high:g}]" + (f" of shape {tuple(targets.shape[1:])}" if shape else "")
        return wanted, found, targets.shape[1:] == shape and low >= 0 and high < classes
    wanted = f"{kind} of shape (n, {classes})" + (", 0 or 1" if kind == "labels" else ", finite numbers")
    inside = low >= 0 and high <= 1 and not targets.is_floating_point()
    fits = targets.dim() == 2 and targets.shape[1] == classes
    right = inside if kind == "labels" else bool(targets.is_floating_point() and targets.isfinite().all())
    return wanted, f"{targets.dtype} of shape {tuple(targets.shape)} in [{low:g}, {high:g}]", fits and right
