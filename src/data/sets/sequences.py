"""Images as sequences of pixels, row after row: the sequential tasks of the literature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from src.data.resample import fit
from src.data.sources import Pool, Pools, Source
from src.data.tables import generator
from src.require import require, require_positive


class PixelSequences(Source):
    """Images (n, c, y, x) as sequences (n, c, y x), for instance sequential MNIST, in their order or another.

    Args:
        images: the data set, such as the class `Mnist`.
        path, cache, mirrors: of its files, where it has any.
        side: pixels that images are brought to first, each way; None is their own. Half of them make a quarter of the
            length.
        permuted: put all sequences, of training and testing, into the same random order, which is always the same.
        drawing: as for `Source`; the size can be no other than the number of pixels.

    Raises:
        ValueError: if an argument is out of its range.

    Reference: A Simple Way to Initialize Recurrent Networks of Rectified Linear Units (Le, Jaitly, Hinton, 2015)
    """

    def __init__(
        self,
        *,
        images: Callable[..., Source],
        path: str | Path | None = None,
        cache: str | Path | None = None,
        mirrors: str | Sequence[str] | None = None,
        side: int | None = None,
        permuted: bool = False,
        **drawing: Any,
    ) -> None:
        if side is not None:
            require_positive(**{"dataset.side": side})
        require("dataset.permuted", permuted, isinstance(permuted, bool), "true or false")
        files = {} if path is None else {"path": path, "mirrors": mirrors}
        self.images = images(cache=cache, **files)
        self.permuted = permuted
        self.canvas = self.images.native if side is None else (side, side)
        self.name = f"{self.images.name}_pixels"
        self.card, self.labels, self.channels = self.images.card, self.images.labels, self.images.channels
        self.native = (self.canvas[0] * self.canvas[1],)
        self.recommended = self.images.recommended
        super().__init__(cache=cache, **drawing)
        fits = self.size == self.native
        require(
            "dataset.size",
            list(self.size),
            fits,
            f"{self.native[0]}, the pixels of {' x '.join(map(str, self.canvas))}",
        )

    def about(self) -> dict[str, Any]:
        return super().about() | {"of": self.images.about(), "canvas": self.canvas, "permuted": self.permuted}

    def pools(self) -> Pools:
        return Pools(*(pool and Pool(self._lines(pool.images), pool.labels) for pool in self.images.pools()))

    def _lines(self, images: torch.Tensor) -> torch.Tensor:
        """(n, c, y, x) -> (n, c, y x)."""
        lines = fit(images, self.canvas).flatten(2)
        if not self.permuted:
            return lines
        return lines[..., torch.randperm(lines.shape[-1], generator=generator("permutation of pixels"))]
