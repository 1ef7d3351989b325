"""Arrays of your own: in an .npz file, or data sets in an .h5 file; and what own data of all kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
from torch import Tensor

from src.data.io.arrays import NpzFile, describe, open_pool, opened, read_pool, target_column
from src.data.sources import Pools, Source
from src.require import require_choice

PARTS = {"learn": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Names of the folders and arrays of each pool, where they are given apart."""
COUNTS = {(): (0.8, 0.1, 0.1), ("test",): (0.9, 0.1), ("val",): (0.9, 0.1), ("val", "test"): (1.0,)}
"""What is drawn where these pools are given apart."""


class _Arrays(Source):
    """Images and labels in one file, under the keys images and labels, or train_images, train_labels, val_..., test_...

    Images are uint8, (n, y, x), (n, y, x, c) or (n, c, y, x) with one or three channels. Sequences, `space` 1, are
    (n, x) or (n, c, x), and volumes, `space` 3, (n, z, y, x), (n, z, y, x, c) or (n, c, z, y, x), both of any number of
    channels and of uint8 or floating-point numbers, which are neither moved nor brought to another size. Labels say by
    their type and shape what is learned: integers from 0, (n,), are classes; 0 and 1, (n, k), which of k labels an
    image has; floating-point numbers, (n,) or (n, k), values.

    Args:
        path: the file.
        images, labels: keys, or what follows train_, val_ and test_ in them.
        names: of the classes, by label, or of the labels or values; None is numbers.
        space: dimension of the images: 1, 2 or 3.
        drawing: as for `Source`; 80 / 10 / 10 % unless `counts` or keys say otherwise.

    Raises:
        ValueError: if there is no such file, or if it does not hold that.
    """

    default_border = "reflect"
    opener: ClassVar[Callable[[Path], Any]]

    def __init__(
        self,
        *,
        path: str | Path | None,
        images: str = "images",
        labels: str = "labels",
        names: Sequence[str] | None = None,
        space: int = 2,
        **drawing: Any,
    ) -> None:
        self.path = existing(path, f"an .{self.name} file", folder=False)
        require_choice("dataset.space", space, (1, 2, 3))
        self.space = space
        with opened(self.path, self.opener) as file:
            available = list(file)
        with _named(self.path):
            self.keys = _keys(available, images, labels)
        with opened(self.path, self.opener) as file:
            found = [describe(file, *keys, target_column, space) for keys in self.keys.values()]
        shapes, columns = zip(*found, strict=True)
        with _named(self.path):
            self.channels, *native = _one_shape(shapes)
            self.targets = _one_kind(columns)
            self.labels = _names(columns, self.targets, names)
        self.native = tuple(native)
        self.recommended = COUNTS[tuple(self.keys)[1:]]
        super().__init__(**drawing)

    def about(self) -> dict[str, Any]:
        stamp = self.path.stat()
        return super().about() | {"keys": self.keys, "file": [str(self.path), stamp.st_size, stamp.st_mtime_ns]}

    def pools(self) -> Pools:
        with opened(self.path, self.opener) as file:
            return Pools(
                **{part: read_pool(file, *keys, target_column, self.space) for part, keys in self.keys.items()}
            )


class Npz(_Arrays):
    """As `_Arrays`, from an .npz file that needs no pickle, such as those of MedMNIST."""

    name = "npz"
    opener = NpzFile


class H5(_Arrays):
    """As `_Arrays`, from an .h5 file.

    Args:
        path: the file.
        in_memory: false reads the images of a batch when it is needed, for files that are larger than the memory.
        options: as for `_Arrays`.
    """

    name = "h5"
    opener = h5py.File

    def __init__(self, *, path: str | Path | None, in_memory: bool = True, **options: Any) -> None:
        self.in_memory = in_memory
        super().__init__(path=path, **options)

    def pools(self) -> Pools:
        if self.in_memory:
            return super().pools()
        return Pools(
            **{part: open_pool(self.path, *keys, target_column, space=self.space) for part, keys in self.keys.items()}
        )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong names the file."""
    try:
        yield
    except ValueError as error:
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
    """(c, *space) of the images of all parts."""
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


def _names(
    columns: Sequence[Tensor], kind: Literal["class", "labels", "values"], names: Sequence[str] | None
) -> tuple[str, ...]:
    """Those given, if they fit to the labels of all parts, or numbers."""
    if kind == "class":
        low, high = min(int(column.min()) for column in columns), max(int(column.max()) for column in columns)
        classes = high + 1 if names is None else len(names)
        if low < 0 or high >= classes:
            raise ValueError(f"labels must be from 0 to {classes - 1}, but they reach from {low} to {high}")
        return tuple(map(str, names or range(classes)))
    k = columns[0].shape[1]
    if names is not None and len(names) != k:
        raise ValueError(f"names must be {k}, one for each of the labels or values, but are {len(names)}")
    return tuple(map(str, names or (f"{kind.removesuffix('s')} {n}" for n in range(k))))
