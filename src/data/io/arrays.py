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
    file: _Arrays, images: str, labels: str, column: _Column = _label_column, space: int = 2
) -> tuple[tuple[int, ...], Tensor]:
    """The shape (n, c, *space) of the images and the labels, under two keys of an opened file.

    Raises:
        ValueError: if they are not there, or are none.
    """
    shape = _image_shape(file, images, space)
    return shape, column(_find(file, labels)[:], shape[0])


def read_pool(file: _Arrays, images: str, labels: str, column: _Column = _label_column, space: int = 2) -> Pool:
    """As `describe`, with the images themselves."""
    _, numbers = describe(file, images, labels, column, space)
    return Pool(_channels_first(torch.from_numpy(file[images][:]), space), numbers)


def open_pool(
    path: Path,
    images: str,
    labels: str,
    column: _Column = _label_column,
    labels_path: Path | None = None,
    space: int = 2,
) -> Pool:
    """As `read_pool`, of an .h5 file whose images are read when they are asked for; labels may be in another.

    Raises:
        ValueError: if a file is damaged, or does not hold that.
    """
    with opened(path) as file:
        shape = _image_shape(file, images, space)
    with opened(labels_path or path) as file:
        numbers = column(_find(file, labels)[:], shape[0])
    return Pool(Lazy(_Rows(path, images, space), torch.arange(len(numbers)), shape), numbers)


@dataclass(frozen=True)
class _Rows:
    """Reads rows of a data set in a file; opened for every batch, so that it survives forks and pickling."""

    path: Path
    key: str
    space: int = 2

    def __call__(self, rows: Tensor) -> Tensor:
        ascending, where = np.unique(rows.numpy(), return_inverse=True)
        with opened(self.path) as file:
            return _channels_first(torch.from_numpy(file[self.key][ascending]), self.space)[torch.from_numpy(where)]


_SHAPES = {
    1: "(n, x) or (n, c, x)",
    2: "(n, y, x), (n, y, x, c) or (n, c, y, x) with one or three channels",
    3: "(n, z, y, x), (n, z, y, x, c) or (n, c, z, y, x)",
}


def _image_shape(file: _Arrays, key: str, space: int) -> tuple[int, ...]:
    """The shape (n, c, *space) of images of uint8, or of floating-point numbers but for images of the plane.

    Raises:
        ValueError: if the type is another, or it cannot be told which axis is which.
    """
    images = _find(file, key)
    shape, dtype = tuple(images.shape), images.dtype
    known = len(shape) in (space + 1, space + 2)
    result = tuple(_channels_first(torch.empty(shape, device="meta"), space).shape) if known else ()
    numbers = dtype == np.uint8 or (space != 2 and np.issubdtype(dtype, np.floating))
    if not numbers or not known or (space == 2 and result[1] not in (1, 3)):
        what = "uint8" if space == 2 else "uint8 or floating-point numbers"
        raise ValueError(
            f"images must be {what} of the shape {_SHAPES[space]}, but are {dtype} of {shape}; convert numbers in "
            "[0, 1] with (255 * x).round().astype('uint8'), and for sequences or volumes set dataset.space to 1 or 3"
        )
    return result


def _channels_first(images: Tensor, space: int) -> Tensor:
    """(n, *space), (n, *space, c) or (n, c, *space) -> (n, c, *space), contiguous; floating-point numbers in float32.

    Channels are last where there are one or three, but never in sequences.
    """
    images = images.float() if images.is_floating_point() else images
    if images.dim() == space + 1:
        return images[:, None]
    return images.movedim(-1, 1).contiguous() if space > 1 and images.shape[-1] in (1, 3) else images


def _find(file: _Arrays, key: str) -> Any:
    """The array of a key; an .h5 file may have a group there instead."""
    if key not in file or isinstance(file[key], h5py.Group):
        raise ValueError(f"it must have the key {key!r}, but has {', '.join(map(repr, file)) or 'none'}")
    return file[key]
