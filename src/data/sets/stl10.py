"""STL-10 from its binary archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from src.data.io.archive import members
from src.data.io.fetch import File
from src.data.sets.published import Published
from src.data.sources import Card, Pool, Pools

_SHAPE = (3, 96, 96)
_CLASSES = "airplane bird car cat deer dog horse monkey ship truck"


class Stl10(Published):
    """STL-10: 4,500 / 500 of the labelled images for learning by a stratified draw, and the official 8,000 for testing.

    Its 100,000 unlabelled images are not used, nor are its ten published folds; `fold` and `folds` draw others.
    """

    name = "stl10"
    card = Card(
        "STL-10",
        "none stated by its publisher; images are from ImageNet",
        "Coates, Lee, Ng: An Analysis of Single Layer Networks in Unsupervised Feature Learning. AISTATS, 2011",
        "https://cs.stanford.edu/~acoates/stl10/",
    )
    files = (
        File.below(
            ("https://cs.stanford.edu/~acoates/stl10", "http://ai.stanford.edu/~acoates/stl10"),
            "stl10_binary.tar.gz",
            "sha256:f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
            2_640_397_119,
        ),
    )
    slow = True
    labels = tuple(_CLASSES.split())
    channels = 3
    native = _SHAPE[1:]
    recommended = (4_500, 500)
    default_border = "reflect"

    def read(self, paths: Mapping[str, Path]) -> Pools:
        (path,) = paths.values()
        names = [f"stl10_binary/{part}_{what}.bin" for part in ("train", "test") for what in ("X", "y")]
        train_images, train_labels, test_images, test_labels = members(path, names).values()
        return Pools(learn=_parse(train_images, train_labels, path), test=_parse(test_images, test_labels, path))


def _parse(images: bytes, labels: bytes, path: Path) -> Pool:
    """Columns of pixels one after another, and labels that count from 1."""
    c, y, x = _SHAPE
    if not labels or len(images) != len(labels) * c * y * x:
        raise ValueError(
            f"{path} must hold {c * y * x} bytes of pixels for every label, but has {len(images)} for {len(labels)} "
            "labels; replace it by the original."
        )
    pixels = torch.frombuffer(bytearray(images), dtype=torch.uint8).unflatten(0, (-1, c, x, y)).mT.contiguous()
    return Pool(pixels, torch.frombuffer(bytearray(labels), dtype=torch.uint8).to(torch.int64) - 1)
