"""The rotated MNIST that is published as text: 12,000 digits for learning and 50,000 for testing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from src.data.io.archive import members
from src.data.io.fetch import File
from src.data.sets.mnist import SIDE, Mnist
from src.data.sources import Card, Pool, Pools, Source
from src.require import require_choice

_GENERATED = (10_000, 2_000, 50_000)


class MnistRotOfficial(Mnist):
    """Rotated MNIST as Larochelle et al. published it: 10,000 / 2,000 of 12,000 for learning, and 50,000 for testing.

    The published numbers are grey values divided by 256, interpolated; here they are rounded to whole ones again.
    """

    name = "mnist_rot"
    card = Card(
        title="Rotated MNIST digits (mnist_rotation_new)",
        licence="none stated by its publisher",
        citation="Larochelle, Erhan, Courville, Bergstra, Bengio: An empirical evaluation of deep architectures on "
        "problems with many factors of variation. ICML, 2007",
        homepage="http://www.iro.umontreal.ca/~lisa/icml2007",
    )
    files = (
        File.below(
            ("http://www.iro.umontreal.ca/~lisa/icml2007data", "https://zenodo.org/record/3670627/files"),
            "mnist_rotation_new.zip",
            "md5:0f9a947ff3d30e95cd685462cbf3b847",
            None,  # about 56 MB
        ),
    )
    slow = True
    recommended = (10_000, 2_000)
    texts = (
        "mnist_all_rotation_normalized_float_train_valid.amat",
        "mnist_all_rotation_normalized_float_test.amat",
    )

    def read(self, paths: Mapping[str, Path]) -> Pools:
        (path,) = paths.values()
        learn, test = (_parse(text, path) for text in members(path, self.texts).values())
        return Pools(learn=learn, test=test)


class MnistRot(Mnist):
    """Rotated MNIST, 10,000 / 2,000 / 50,000: generated from the 70,000 original digits, or as published.

    Args:
        source: "generated" or "official", which is a `MnistRotOfficial`.
        counts, rotate: as for `Source`; of generated ones, None are those of rotated MNIST.
        options: as for `Mnist`.

    Raises:
        ValueError: for another source.
    """

    def __new__(cls, *, source: Literal["generated", "official"] = "generated", **options: Any) -> Source:
        require_choice("source", source, ("generated", "official"))
        return MnistRotOfficial(**options) if source == "official" else super().__new__(cls)

    def __init__(
        self,
        *,
        source: Literal["generated", "official"] = "generated",
        counts: Sequence[float] | None = None,
        rotate: bool | Mapping[str, bool] | None = None,
        **options: Any,
    ) -> None:
        counts, rotate = _GENERATED if counts is None else counts, True if rotate is None else rotate
        super().__init__(counts=counts, rotate=rotate, **options)


def _parse(text: bytes, path: Path) -> Pool:
    """A line for each image: its pixels, and its label.

    The pixels go column by column, as MATLAB keeps them: read row by row, every digit is seen in a mirror.
    """
    columns = SIDE * SIDE + 1
    try:
        table = np.loadtxt(BytesIO(text), np.float32, comments=None, ndmin=2) if text else np.empty((0, 0))
        if table.shape[1] != columns:
            held = f"{table.shape[1]} in each" if text else "none"
            raise ValueError(f"it must hold lines of {columns} numbers, but has {held}")
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}; replace it by the original.") from error
    rows = torch.from_numpy(table)
    pixels = rows[:, :-1].unflatten(1, (1, SIDE, SIDE)).mT
    return Pool(pixels.mul(256).round().clamp(0, 255).to(torch.uint8), rows[:, -1].to(torch.int64))
