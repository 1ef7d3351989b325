"""MNIST from its four original files, and its relatives: rotated, scaled, and both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from src.data.io.fetch import File
from src.data.io.idx import read_idx
from src.data.sets.published import Published
from src.data.sources import Card, Pool, Pools

SIDE = 28
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_SUMS = {
    "train-images-idx3-ubyte.gz": ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
    "train-labels-idx1-ubyte.gz": ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
    "t10k-images-idx3-ubyte.gz": ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
    "t10k-labels-idx1-ubyte.gz": ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
}


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
    card = Card(
        title="MNIST handwritten digits",
        licence="CC BY-SA 3.0, as TensorFlow's documentation states it; its publisher states none",
        citation="LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. "
        "Proceedings of the IEEE 86(11), 1998",
        homepage="http://yann.lecun.com/exdb/mnist/",
    )
    files = tuple(File.below(_MIRRORS, name, f"sha256:{sha256}", size) for name, (sha256, size) in _SUMS.items())
    labels = tuple("0123456789")
    channels = 1
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
