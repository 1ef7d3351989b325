"""Images and labels in .h5 and .npz files: read whole, or row by row where they are too large for memory."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import torch
from torch import Tensor

from src.data.io.archive import DAMAGE
from src.data.lazy import Lazy
from src.data.sources import Pool

_Arrays = Mapping[str, Any]
"""An opened file, h5py's or `NpzFile`: of an array by its key, `shape` and `dtype` are known, and `[:]` reads it."""
_Column = Callable[[np.ndarray, int], Tensor]
"""Labels as they are in a file, and the number of images -> what is learned of each, (n,) or (n, k)."""


class NpzFile(zipfile.ZipFile):
    """An .npz file that needs no pickle, read as h5py reads its own."""

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npy") for name in self.namelist())

    def __getitem__(self, key: str) -> _Npy:
        return _Npy(partial(self.open, f"{key}.npy"))


class _Npy:
    """An array in an .npz file."""

    def __init__(self, opened: Callable[[], IO[bytes]]) -> None:
        self.opened = opened
        with opened() as array:
            version = np.lib.format.read_magic(array)
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
            self.shape, _, self.dtype = read(array)

    def __getitem__(self, index: slice) -> np.ndarray:
        with self.opened() as array:
            return np.lib.format.read_array(array, allow_pickle=False)[index]


@contextmanager
def opened(path: Path, opener: Callable[[Path], Any] = h5py.File) -> Iterator[_Arrays]:
    """A file for reading, by default an .h5 file; what goes wrong names it.

    Raises:
        ValueError: if it is of another kind, is damaged, or does not hold what is looked for.
    """
    try:
        with opener(path) as file:
            yield file
    except (KeyError, ValueError, *DAMAGE) as error:
        raise ValueError(f"{path} cannot be used: {error}; convert it, or replace it by the original.") from error


def _label_column(labels: np.ndarray, n: int) -> Tensor:
    """Labels as (n,), int64.

    Raises:
        ValueError: if they are not n integers.
    """
    if labels.size != n or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be {n} integers, one for each image, but are {labels.dtype} of the shape {labels.shape}"
        )
    return torch.from_numpy(labels.astype(np.int64)).flatten()


def target_column(labels: np.ndarray, n: int) -> Tensor:
    """Labels of any kind, told apart by type and shape.

    Args:
        labels: integers (n,) or (n, 1), classes; 0 and 1 as integers or booleans (n, k), which of k labels an image
            has; floating-point numbers (n,) or (n, k), values.
        n: how many images there are.

    Returns:
        (n,) of int64; (n, k) of int64; or (n, k) of float32.

    Raises:
        ValueError: if they are none of these.
    """
    if labels.ndim in (1, 2) and len(labels) == n and labels.size:
        if np.issubdtype(labels.dtype, np.floating):
            return torch.from_numpy(labels.astype(np.float32).reshape(n, -1))
        if labels.size > n and labels.dtype.kind in "iub" and np.isin(labels, (0, 1)).all():
            return torch.from_numpy(labels.astype(np.int64))
    try:
        return _label_column(labels, n)
    except ValueError as error:
        raise ValueError(
            f"{error}; or 0 and 1 for each of several labels, ({n}, k), or floating-point values, ({n},) or ({n}, k)"
        ) from error


def describe(
    file: _Arrays, images: str, labels: str, column: _Column = _label_column
) -> tuple[tuple[int, int, int, int], Tensor]:
    """The shape (n, c, y, x) of the images and the labels, under two keys of an opened file.

    Raises:
        ValueError: if they are not there, or are none.
    """
    shape = _image_shape(file, images)
    return shape, column(_find(file, labels)[:], shape[0])


def read_pool(file: _Arrays, images: str, labels: str, column: _Column = _label_column) -> Pool:
    """As `describe`, with the images themselves."""
    _, numbers = describe(file, images, labels, column)
    return Pool(_channels_first(torch.from_numpy(file[images][:])), numbers)


def open_pool(
    path: Path, images: str, labels: str, column: _Column = _label_column, labels_path: Path | None = None
) -> Pool:
    """As `read_pool`, of an .h5 file whose images are read when they are asked for; labels may be in another.

    Raises:
        ValueError: if a file is damaged, or does not hold that.
    """
    with opened(path) as file:
        shape = _image_shape(file, images)
    with opened(labels_path or path) as file:
        numbers = column(_find(file, labels)[:], shape[0])
    return Pool(Lazy(_Rows(path, images), torch.arange(len(numbers)), shape), numbers)


@dataclass(frozen=True)
class _Rows:
    """Reads rows of a data set in a file; opened for every batch, so that it survives forks and pickling."""

    path: Path
    key: str

    def __call__(self, rows: Tensor) -> Tensor:
        ascending, where = np.unique(rows.numpy(), return_inverse=True)
        with opened(self.path) as file:
            return _channels_first(torch.from_numpy(file[self.key][ascending]))[torch.from_numpy(where)]


def _image_shape(file: _Arrays, key: str) -> tuple[int, int, int, int]:
    """The shape (n, c, y, x) of images of uint8, (n, y, x), (n, y, x, c) or (n, c, y, x).

    Raises:
        ValueError: if the type is not uint8, or it cannot be told which axis is which.
    """
    images = _find(file, key)
    shape, dtype = tuple(images.shape), images.dtype
    result = tuple(_channels_first(torch.empty(shape, device="meta")).shape) if len(shape) in (3, 4) else ()
    if dtype != np.uint8 or len(result) != 4 or result[1] not in (1, 3):
        raise ValueError(
            "images must be uint8 of the shape (n, y, x), (n, y, x, c) or (n, c, y, x) with one or three channels, but "
            f"are {dtype} of {shape}; convert numbers in [0, 1] with (255 * x).round().astype('uint8')"
        )
    return result


def _channels_first(images: Tensor) -> Tensor:
    """(n, y, x), (n, y, x, c) or (n, c, y, x) -> (n, c, y, x), contiguous; one or three channels."""
    if images.dim() == 3:
        return images[:, None]
    return images.movedim(-1, 1).contiguous() if images.shape[-1] in (1, 3) else images


def _find(file: _Arrays, key: str) -> Any:
    """The array of a key; an .h5 file may have a group there instead."""
    if key not in file or isinstance(file[key], h5py.Group):
        raise ValueError(f"it must have the key {key!r}, but has {', '.join(map(repr, file)) or 'none'}")
    return file[key]
