"""Rotated MNIST, generated from the original digits rather than downloaded."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from src.data.augment import generator
from src.data.mnist import PUBLIC, SIDE, Archive, load_mnist
from src.data.resample import fit, turned
from src.data.sources import SPLITS, Split, Splits, canvas, stratified

VERSION = 1
"""To be raised whenever other bytes are generated from the same seed: it is in the name of the cached file."""
COUNTS = (10_000, 2_000, 50_000)


class MnistRot:
    """10,000 / 2,000 / 50,000 of all 70,000 digits, each turned by its own angle, uniform in [0, 2 pi).

    The protocol of the rotated MNIST of the literature: 12,000 digits to learn from, of which 2,000 validate, and
    50,000 for testing. The draw, the angles and the interpolation (bicubic, rounded to uint8) are this project's own,
    so accuracies are comparable with published ones, but not image by image. The same seed gives the same bytes,
    generated once and kept.

    Reference: An empirical evaluation of deep architectures on problems with many factors of variation (Larochelle,
    Erhan, Courville, Bergstra, Bengio, 2007).

    Args:
        path: folder of the four original .gz files of MNIST; it may be read-only.
        cache: folder that downloaded originals go to if `path` cannot be written to.
        derived: folder of the generated file.
        size: pixels, a number or [y, x], as for `Mnist`.
        seed: decides the draw and the angles.
        counts: digits for training, validation and testing.
        mirrors: addresses to download from; None is the two public ones.
        archive: names and checksums of the files.
    """

    classes = 10
    channels = 1

    def __init__(
        self,
        *,
        path: str | Path,
        cache: str | Path,
        derived: str | Path,
        size: int | Sequence[int] = SIDE,
        seed: int = 0,
        counts: Sequence[int] = COUNTS,
        mirrors: Sequence[str] | None = None,
        archive: Archive = PUBLIC,
    ) -> None:
        self.folders = (Path(path), Path(cache))
        self.derived = Path(derived)
        self.size = canvas(size)
        self.seed = seed
        self.counts = tuple(counts)
        self.archive = archive if mirrors is None else archive._replace(mirrors=tuple(mirrors))

    @property
    def file(self) -> Path:
        """The generated file: its name says all that decides its content, except for the originals."""
        return self.derived / f"v{VERSION}-seed{self.seed}-{'-'.join(map(str, self.counts))}.npz"

    def splits(self) -> Splits:
        """Read the generated file; generate it if it is missing or damaged.

        Raises:
            ChecksumError, DownloadError, ValueError: as `load_mnist`, which is needed for generating only.
        """
        splits = self._read() if self.file.exists() else None
        if splits is None:
            splits = self._generate()
            write(self.file, splits)
        return Splits(*(split._replace(images=fit(split.images, self.size)) for split in splits))

    def _generate(self) -> Splits:
        train, test = load_mnist(self.folders, self.archive)
        digits = Split(torch.cat([train.images, test.images]), torch.cat([train.labels, test.labels]))
        parts = stratified(digits.labels, self.counts, generator("mnist_rot split", self.seed))
        keys = (("mnist_rot rotation", name, self.seed) for name in SPLITS)
        return Splits(*(turned(digits.at(part), (SIDE, SIDE), *key) for part, key in zip(parts, keys, strict=True)))

    def _read(self) -> Splits | None:
        try:
            splits = read(self.file)
            if tuple(len(split.labels) for split in splits) == self.counts:
                return splits
            reason = "it holds other numbers of images than its name says"
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            reason = str(error)
        warnings.warn(f"{self.file} is damaged ({reason}) and is generated again.", RuntimeWarning, stacklevel=3)
        return None


def write(file: Path, splits: Splits) -> None:
    """Write splits so that the file is either there and whole, or not there: beside it first, then renamed."""
    arrays = {
        f"{name}_{field}": getattr(split, field).numpy()
        for name, split in zip(SPLITS, splits, strict=True)
        for field in split._fields
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        with (part := Path(folder) / file.name).open("wb") as opened:
            np.savez(opened, allow_pickle=False, **arrays)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(part, file)


def read(file: Path) -> Splits:
    """Read what `write` wrote; the zip container checks a sum of every array.

    Raises:
        OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile: if the file is damaged.
    """
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        return Splits(*(Split(*(torch.from_numpy(arrays[f"{name}_{f}"]) for f in Split._fields)) for name in SPLITS))
