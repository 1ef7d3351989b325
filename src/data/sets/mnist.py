"""MNIST from its four original files, and its relatives: rotated, scaled, and both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from src.data.io.idx import read_idx
from src.data.sets.published import Published, originals
from src.data.sources import Pool, Pools

SIDE = 28


class Mnist(Published):
    """MNIST: 55,000 / 5,000 of the digits for learning by a stratified draw, and the official 10,000 for testing.

    With three `counts` the splits are drawn from all 70,000: rotated MNIST (`rotate`) and scaled MNIST (`scale`) of the
    literature are 10,000 / 2,000 / 50,000. The draw, the poses and the interpolation are this project's own, so
    accuracies are comparable with published ones, but not image by image.

    References: Gradient-based learning applied to document recognition (LeCun, Bottou, Bengio, Haffner, 1998).
    Rotated: An empirical evaluation of deep architectures on problems with many factors of variation (Larochelle,
    Erhan, Courville, Bergstra, Bengio, 2007). Scaled: Scale-Equivariant Steerable Networks (Sosnovik, Szmaja,
    Smeulders, 2020).
    """

    name = "mnist"
    card, files, labels = originals("mnist")
    channels = 1
    default_border = "zeros"
    native = (SIDE, SIDE)
    recommended = (55_000, 5_000)

    def read(self, paths: Mapping[str, Path]) -> Pools:
        train_images, train_labels, test_images, test_labels = (paths[file.name] for file in self.originals)
        return Pools(learn=_pair(train_images, train_labels), test=_pair(test_images, test_labels))


def _pair(images: Path, labels: Path) -> Pool:
    pool = Pool(read_idx(images, axes=3)[:, None], read_idx(labels, axes=1).to(torch.int64))
    if len(pool.images) != len(pool.labels) or pool.images.shape[-2:] != (SIDE, SIDE):
        raise ValueError(
            f"{images} and {labels} must hold as many images of {SIDE} x {SIDE} as labels, but have "
            f"{tuple(pool.images.shape)} and {len(pool.labels)}; use the files of one archive."
        )
    return pool
