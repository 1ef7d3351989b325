"""Arrays of your own: in an .npz file, or data sets in an .h5 file; and what own data of all kinds share."""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from src.data.io.archive import DAMAGE
from src.data.io.h5 import channels_first, h5_keys, image_shape, inspect_h5, open_h5, read_h5, target_column
from src.data.sources import Pool, Pools, Source
from src.data.warp import Border

PARTS = {"learn": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Names of the folders and arrays of each pool, where they are given apart."""
COUNTS = {(): (0.8, 0.1, 0.1), ("test",): (0.9, 0.1), ("val",): (0.9, 0.1), ("val", "test"): (1.0,)}
"""What is drawn where these pools are given apart."""


class _Arrays(Source):
    """Images and labels in one file, under the keys images and labels, or train_images, train_labels, val_..., test_...

    Images are uint8, (n, y, x), (n, y, x, c) or (n, c, y, x) with one or three channels. Labels say by their type and
    shape what is learned: integers from 0, (n,), are classes; 0 and 1, (n, k), which of k labels an image has;
    floating-point numbers, (n,) or (n, k), values.

    Args:
        path: the file.
        images, labels: keys, or what follows train_, val_ and test_ in them.
        names: of the classes, by label, or of the labels or values; None is numbers.
        drawing: as for `Source`; 80 / 10 / 10 % unless `counts` or keys say otherwise.

    Raises:
        ValueError: if there is no such file, or if it does not hold that.
    """

    default_border: ClassVar[Border] = "reflect"
    kind: ClassVar[str]

    def __init__(
        self,
        *,
        path: str | Path | None,
        images: str = "images",
        labels: str = "labels",
        names: Sequence[str] | None = None,
        **drawing: Any,
    ) -> None:
        self.path = existing(path, f"an {self.kind} file", folder=False)
        available = self.available()
        with _named(self.path):
            self.keys = _keys(available, images, labels)
        found = {part: self.inspect(*keys) for part, keys in self.keys.items()}
        with _named(self.path):
            self.channels, *native = _one_shape([shape for shape, _ in found.values()])
            columns = [labels for _, labels in found.values()]
            self.targets = _one_kind(columns)
            self.labels = _class_names(columns, names) if self.targets == "class" else _column_names(columns, names)
        self.native = (native[0], native[1])
        self.recommended = COUNTS[tuple(self.keys)[1:]]
        super().__init__(**drawing)

    @abstractmethod
    def available(self) -> list[str]:
        """The keys of the file."""

    @abstractmethod
    def inspect(self, images: str, labels: str) -> tuple[Sequence[int], Tensor]:
        """The shape (n, c, y, x) of the images, and the labels."""

    @abstractmethod
    def read(self, images: str, labels: str) -> Pool:
        """The images and labels of a pair of keys."""

    def about(self) -> dict[str, Any]:
        stamp = self.path.stat()
        return super().about() | {"keys": self.keys, "file": [str(self.path), stamp.st_size, stamp.st_mtime_ns]}

    def pools(self) -> Pools:
        return Pools(**{part: self.read(*keys) for part, keys in self.keys.items()})


class Npz(_Arrays):
    """As `_Arrays`, from an .npz file that needs no pickle, such as those of MedMNIST."""

    name = "npz"
    kind = ".npz"

    def available(self) -> list[str]:
        with _named(self.path), zipfile.ZipFile(self.path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]

    def inspect(self, images: str, labels: str) -> tuple[Sequence[int], Tensor]:
        with _named(self.path):
            shape, dtype = self._header(images)
            return image_shape(shape, dtype), target_column(self._load(labels), shape[0])

    def read(self, images: str, labels: str) -> Pool:
        with _named(self.path):
            pixels = channels_first(torch.from_numpy(self._load(images)))
            return Pool(pixels, target_column(self._load(labels), len(pixels)))

    def _header(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of an array, without reading it."""
        with zipfile.ZipFile(self.path) as file, file.open(f"{key}.npy") as array:
            version = np.lib.format.read_magic(array)
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
            shape, _, dtype = read(array)
            return shape, dtype

    def _load(self, key: str) -> np.ndarray:
        with np.load(self.path, allow_pickle=False) as arrays:
            return arrays[key]


class H5(_Arrays):
    """As `_Arrays`, from an .h5 file.

    Args:
        path: the file.
        in_memory: false reads the images of a batch when it is needed, for files that are larger than the memory.
        options: as for `_Arrays`.
    """

    name = "h5"
    kind = ".h5"

    def __init__(self, *, path: str | Path | None, in_memory: bool = True, **options: Any) -> None:
        self.in_memory = in_memory
        super().__init__(path=path, **options)

    def available(self) -> list[str]:
        return h5_keys(self.path)

    def inspect(self, images: str, labels: str) -> tuple[Sequence[int], Tensor]:
        return inspect_h5(self.path, images, labels, column=target_column)

    def read(self, images: str, labels: str) -> Pool:
        return (read_h5 if self.in_memory else open_h5)(self.path, images, labels, column=target_column)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong names the file."""
    try:
        yield
    except (KeyError, ValueError, *DAMAGE) as error:
        raise ValueError(f"{path} cannot be used: {error}.") from error


def existing(path: str | Path | None, what: str, *, folder: bool) -> Path:
    """`path`, if a folder or a file is there.

    Raises:
        ValueError: if not.
    """
    if path is None or not (Path(path).is_dir() if folder else Path(path).is_file()):
        raise ValueError(f"`path` must be {what}, but got {path}; give one that exists with dataset.path=...")
    return Path(path)


def _keys(available: Sequence[str], images: str, labels: str) -> dict[str, tuple[str, str]]:
    """The pair of keys of every pool."""
    pairs = {"learn": (images, labels)} if images in available else {}
    if not pairs:
        for part, names in PARTS.items():
            if there := [name for name in names if f"{name}_{images}" in available]:
                pairs[part] = (f"{there[0]}_{images}", f"{there[0]}_{labels}")
    missing = [label for _, label in pairs.values() if label not in available]
    if "learn" not in pairs or missing:
        raise ValueError(
            f"it must have the keys {images} and {labels}, or train_{images} and train_{labels}, and so on for val and "
            f"test, but has {', '.join(available) or 'none'}; name others with dataset.images=... dataset.labels=..."
        )
    return pairs


def _one_shape(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """(c, y, x) of the images of all parts."""
    different = sorted({tuple(shape[1:]) for shape in shapes})
    if len(different) > 1 or not all(shape[0] for shape in shapes):
        raise ValueError(
            "it must have images of one shape in all its parts, but has "
            f"{' and '.join(map(str, different)) if len(different) > 1 else 'none in one'}"
        )
    return different[0]


def _one_kind(columns: Sequence[Tensor]) -> Literal["class", "labels", "values"]:
    """What the columns of all parts are; see `Source.targets`."""
    found = sorted({f"{column.dtype} of {('n', *column.shape[1:])}" for column in columns})
    if len(found) > 1:
        raise ValueError(f"labels must be of one kind in all its parts, but are {' and '.join(found)}")
    if columns[0].is_floating_point():
        return "values"
    return "class" if columns[0].dim() == 1 else "labels"


def _column_names(columns: Sequence[Tensor], names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of labels or values: those given, or numbers."""
    k = columns[0].shape[1]
    if names is not None and len(names) != k:
        raise ValueError(f"names must be {k}, one for each of the labels or values, but are {len(names)}")
    word = "value" if columns[0].is_floating_point() else "label"
    return tuple(map(str, names or (f"{word} {n}" for n in range(k))))


def _class_names(labels: Sequence[Tensor], names: Sequence[str] | None) -> tuple[str, ...]:
    highest = max(int(column.max()) for column in labels)
    if min(int(column.min()) for column in labels) < 0 or (names is not None and highest >= len(names)):
        raise ValueError(
            f"labels must be from 0 to {highest if names is None else len(names) - 1}, but they reach from "
            f"{min(int(column.min()) for column in labels)} to {highest}"
        )
    return tuple(map(str, range(highest + 1) if names is None else names))
