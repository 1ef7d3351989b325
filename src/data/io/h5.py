"""Images in HDF5 files: read whole, or row by row where they are too large for memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from src.data.lazy import Lazy
from src.data.sources import Pool

_Column = Callable[[np.ndarray, int], Tensor]
"""Labels as they are in a file, and the number of images -> what is learned of each, (n,) or (n, k)."""


@dataclass(frozen=True)
class _Rows:
    """Reads rows of a data set in a file; opened for every batch, so that it survives forks and pickling."""

    path: Path
    key: str

    def __call__(self, rows: Tensor) -> Tensor:
        ascending, where = np.unique(rows.numpy(), return_inverse=True)
        with _opened(self.path) as file:
            return channels_first(torch.from_numpy(file[self.key][ascending]))[torch.from_numpy(where)]


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A file for reading; what goes wrong names it.

    Raises:
        ValueError: if it is not an .h5 file, is damaged, or does not hold what is looked for.
    """
    try:
        with h5py.File(path) as file:
            yield file
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be used: {error}; convert it, or replace it by the original.") from error


def read_h5(path: Path, images: str, labels: str, column: _Column | None = None) -> Pool:
    """Read a file whole.

    Args:
        path: the file.
        images: key of uint8, (n, y, x), (n, y, x, c) or (n, c, y, x).
        labels: key of integers, n of them, or of what `column` takes.
        column: makes a tensor of the labels; None is `label_column`.

    Raises:
        ValueError: if the file is damaged, or does not hold that.
    """
    _, numbers = inspect_h5(path, images, labels, column=column)
    with _opened(path) as file:
        return Pool(channels_first(torch.from_numpy(file[images][:])), numbers)


def open_h5(
    path: Path, images: str, labels: str, labels_path: Path | None = None, column: _Column | None = None
) -> Pool:
    """As `read_h5`, with images that are read when they are asked for, and labels from a file of their own if given."""
    shape, numbers = inspect_h5(path, images, labels, labels_path, column)
    return Pool(Lazy(_Rows(path, images), torch.arange(len(numbers)), shape), numbers)


def channels_first(images: Tensor) -> Tensor:
    """(n, y, x), (n, y, x, c) or (n, c, y, x) -> (n, c, y, x), contiguous; one or three channels."""
    if images.dim() == 3:
        return images[:, None]
    return images.movedim(-1, 1).contiguous() if images.shape[-1] in (1, 3) else images


def image_shape(shape: Sequence[int], dtype: np.dtype) -> tuple[int, int, int, int]:
    """The shape that `channels_first` gives.

    Raises:
        ValueError: if the type is not uint8, or it cannot be told which axis is which.
    """
    result = tuple(channels_first(torch.empty(tuple(shape), device="meta")).shape) if len(shape) in (3, 4) else ()
    if dtype != np.uint8 or len(result) != 4 or result[1] not in (1, 3):
        raise ValueError(
            "images must be uint8 of the shape (n, y, x), (n, y, x, c) or (n, c, y, x) with one or three channels, but "
            f"are {dtype} of {tuple(shape)}; convert numbers in [0, 1] with (255 * x).round().astype('uint8')"
        )
    return result


def label_column(labels: np.ndarray, n: int) -> Tensor:
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
        return label_column(labels, n)
    except ValueError as error:
        raise ValueError(
            f"{error}; or 0 and 1 for each of several labels, ({n}, k), or floating-point values, ({n},) or ({n}, k)"
        ) from error


def h5_keys(path: Path) -> list[str]:
    """The keys of a file."""
    with _opened(path) as file:
        return list(file)


def inspect_h5(
    path: Path, images: str, labels: str, labels_path: Path | None = None, column: _Column | None = None
) -> tuple[tuple[int, int, int, int], Tensor]:
    """The shape (n, c, y, x) of the images, and the labels.

    Raises:
        ValueError: as `read_h5`.
    """
    with _opened(path) as file:
        pixels = _find(file, images)
        shape = image_shape(pixels.shape, pixels.dtype)
    with _opened(labels_path or path) as file:
        return shape, (column or label_column)(_find(file, labels)[:], shape[0])


def _find(file: h5py.File, key: str) -> h5py.Dataset:
    if key not in file or not isinstance(file[key], h5py.Dataset):
        raise ValueError(f"it must have the key {key!r}, but has {', '.join(map(repr, file)) or 'none'}")
    return file[key]
