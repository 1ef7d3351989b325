"""Images that are read from files when a batch asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from src.data.resample import fit
from src.data.warp import Border

_Read = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lazy:
    """n images behind a function; indexed as a tensor (n, c, y, x) is, by a tensor of indices or a slice.

    Args:
        read: rows (m,) -> images (m, c, y, x) in uint8; it must survive pickling, which takes it to other processes.
        rows: (n,), which rows these images are.
        shape: (n, c, y, x).

    Example:
        >>> images = Lazy(lambda rows: rows[:, None, None, None].byte(), torch.arange(5), (5, 1, 1, 1))
        >>> images[torch.tensor([3, 1])].flatten().tolist()
        [3, 1]
    """

    read: _Read
    rows: Tensor
    shape: tuple[int, int, int, int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return self.read(self.rows[index])

    def at(self, index: Tensor) -> Lazy:
        """A subset, still unread."""
        return Lazy(self.read, self.rows[index], (len(index), *self.shape[1:]))

    def fitted(self, size: tuple[int, int], border: Border) -> Lazy:
        """The same images on another canvas, still unread."""
        if size == self.shape[2:]:
            return self
        return Lazy(partial(_fitted, self.read, size, border), self.rows, (*self.shape[:2], *size))


def _fitted(read: _Read, size: tuple[int, int], border: Border, rows: Tensor) -> Tensor:
    """Images that are brought to a size after they are read."""
    return fit(read(rows), size, border)


Images = Tensor | Lazy


def take(images: Images, rows: Tensor) -> Images:
    """A subset: of a tensor a copy, of lazy images a view."""
    return images.at(rows) if isinstance(images, Lazy) else images[rows]


def join(*parts: Tensor) -> Tensor:
    """The images of several tensors, one after another.

    Raises:
        ValueError: for lazy images, which are not read all at once.
    """
    if any(isinstance(part, Lazy) for part in parts):
        raise ValueError("images that are read lazily cannot be drawn from together; leave out the third of `counts`.")
    return torch.cat(parts)
