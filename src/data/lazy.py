"""Images that are read from files when a batch asks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from src.data.resample import fit
from src.data.warp import Border


@dataclass(frozen=True)
class Lazy:
    """n images behind a function; indexed as a tensor (n, c, *space) is, by a tensor of indices or a slice.

    Args:
        read: rows (m,) -> images (m, c, *space) in uint8; it must survive pickling, which takes it to other processes.
        rows: (n,), which rows these images are.
        shape: (n, c, *space); images of another size are brought to it.
        border: what that brings in.

    Example:
        >>> import torch
        >>> images = Lazy(lambda rows: rows[:, None, None, None].byte(), torch.arange(5), (5, 1, 1, 1))
        >>> images[torch.tensor([3, 1])].flatten().tolist()
        [3, 1]
    """

    read: Callable[[Tensor], Tensor]
    rows: Tensor
    shape: tuple[int, ...]
    border: Border = "zeros"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return fit(self.read(self.rows[index]), self.shape[2:], self.border)

    def at(self, index: Tensor) -> Lazy:
        """A subset, still unread."""
        return replace(self, rows=self.rows[index], shape=(len(index), *self.shape[1:]))

    def fitted(self, size: tuple[int, ...], border: Border) -> Lazy:
        """The same images on another canvas, still unread."""
        return replace(self, shape=(*self.shape[:2], *size), border=border)


Images = Tensor | Lazy
