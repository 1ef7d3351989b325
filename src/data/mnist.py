"""MNIST from its four original files, upright or rotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from src.data.augment import generator
from src.data.fetch import locate
from src.data.idx import read_idx
from src.data.resample import fit, turned
from src.data.sources import Split, Splits, canvas, rotations, stratified

SIDE = 28
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SUMS = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


class Archive(NamedTuple):
    """Where the four files come from; tests serve small ones with other sums."""

    sums: tuple[tuple[str, str], ...] = tuple(SUMS.items())
    """(name, sha256) of training images, training labels, test images and test labels, in this order."""
    mirrors: tuple[str, ...] = MIRRORS


PUBLIC = Archive()


class Original(NamedTuple):
    """The two official parts: 60,000 and 10,000 digits of 28 x 28 pixels."""

    train: Split
    test: Split


@lru_cache(maxsize=1)
def load_mnist(folders: tuple[Path, ...], archive: Archive = PUBLIC) -> Original:
    """Find or download the files, verify and parse them: once per process.

    Args:
        folders: where to look, in this order; downloads go to the first that can be written to.
        archive: names, checksums and mirrors.

    Raises:
        ChecksumError: if a file is there with another checksum.
        DownloadError: if files are missing and no mirror gave them.
        ValueError: if a file is not what its name says.
    """
    files = locate(dict(archive.sums), folders, archive.mirrors)
    train_images, train_labels, test_images, test_labels = (files[name] for name, _ in archive.sums)
    return Original(_pair(train_images, train_labels), _pair(test_images, test_labels))


class Mnist:
    """MNIST: 55,000 / 5,000 of the training digits by a stratified draw, and the official 10,000 for testing.

    Reference: Gradient-based learning applied to document recognition (LeCun, Bottou, Bengio, Haffner, 1998).

    Args:
        path: folder of the four original .gz files; it may be read-only.
        cache: folder to look in next, and to download to if `path` cannot be written to.
        size: pixels, a number or [y, x]: zeros are padded around 28 x 28 (an odd row or column at the bottom and
            right), and smaller sizes are resampled with antialiasing.
        rotate: which of train, val and test are rotated, one uniform angle per image; the others are upright.
        seed: decides the split and the angles.
        counts: digits of the training files for training and validation.
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
        size: int | Sequence[int] = SIDE,
        rotate: Mapping[str, bool] | None = None,
        seed: int = 0,
        counts: Sequence[int] = (55_000, 5_000),
        mirrors: Sequence[str] | None = None,
        archive: Archive = PUBLIC,
    ) -> None:
        self.folders = (Path(path), Path(cache))
        self.size = canvas(size)
        self.rotate = rotations(rotate)
        self.seed = seed
        self.counts = tuple(counts)
        self.archive = archive if mirrors is None else archive._replace(mirrors=tuple(mirrors))

    def splits(self) -> Splits:
        """Read the files; downloads those that are missing.

        Raises:
            ChecksumError, DownloadError, ValueError: as `load_mnist`.
        """
        original = load_mnist(self.folders, self.archive)
        train, val = stratified(original.train.labels, self.counts, generator("mnist split", self.seed))
        parts = (original.train.at(train), original.train.at(val), original.test)
        return Splits(*(self._place(part, name) for part, name in zip(parts, self.rotate, strict=True)))

    def _place(self, split: Split, name: str) -> Split:
        if not self.rotate[name]:
            return split._replace(images=fit(split.images, self.size))
        # Shrunk first if need be, so that the rotation is about the centre of the canvas whatever its parity.
        smaller = (min(self.size[0], SIDE), min(self.size[1], SIDE))
        return turned(split._replace(images=fit(split.images, smaller)), self.size, "mnist rotation", name, self.seed)


def _pair(images: Path, labels: Path) -> Split:
    split = Split(read_idx(images, axes=3)[:, None], read_idx(labels, axes=1).to(torch.int64))
    if len(split.images) != len(split.labels) or split.images.shape[-2:] != (SIDE, SIDE):
        raise ValueError(
            f"{images} and {labels} must hold as many images of {SIDE} x {SIDE} as labels, but have "
            f"{tuple(split.images.shape)} and {len(split.labels)}; use the files of one archive."
        )
    return split
