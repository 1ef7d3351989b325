"""The handwritten digits that scikit-learn brings along: real data without a download."""

from __future__ import annotations

from math import sqrt

import torch

from src.data.sources import Card, Pool, Pools, Source

_RADIUS = 3.5 * sqrt(2) + 1
"""From the centre of an 8 x 8 image to its corner pixel and through the interpolation around it, in pixels."""


class Digits(Source):
    """1,797 digits of 8 x 8 pixels and 17 grey values, on a larger canvas: 1,197 / 200 / 400.

    A digit is magnified as far as it stays on the canvas under every rotation, in one interpolation with its rotation.
    The canvas is 20 x 20 unless `size`, at least 12, says otherwise.

    Example:
        >>> Digits().splits().train.images.shape
        torch.Size([1197, 1, 20, 20])
    """

    name = "digits"
    card = Card(
        title="Optical recognition of handwritten digits, the test part, as in scikit-learn",
        licence="none stated with the copy in scikit-learn, which is BSD-3-Clause",
        citation="Alpaydin, Kaynak: Cascading Classifiers. Kybernetika, 1998",
        homepage="https://archive.ics.uci.edu/dataset/80",
    )
    labels = tuple("0123456789")
    channels = 1
    native = (20, 20)
    recommended = (1197, 200, 400)
    min_size = 12

    @property
    def magnification(self) -> float:
        return (min(self.size) - 1) / 2 / _RADIUS

    @property
    def file(self) -> None:
        """Nothing is kept: generating all of them takes a fraction of a second."""
        return

    def pools(self) -> Pools:
        from sklearn.datasets import load_digits  # half a second, for which other data need not wait

        bunch = load_digits()
        images = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)[:, None]
        return Pools(learn=Pool(images, torch.from_numpy(bunch.target).long()))


class SegmentedDigits(Digits):
    """The same digits, with the class of each pixel: 0 for the paper, 1 + d for the strokes of a digit d.

    A stroke is what is darker than half of the darkest grey, at the resolution of the originals; its pixels move with
    the digit.

    Example:
        >>> train = SegmentedDigits().splits().train
        >>> train.labels.shape, int(train.labels.max())
        (torch.Size([1197, 20, 20]), 10)
    """

    name = "digits_segmentation"
    card = Card(
        title=f"{Digits.card.title}, with classes of pixels",
        licence=Digits.card.licence,
        citation=Digits.card.citation,
        homepage=Digits.card.homepage,
    )
    targets = "pixels"
    labels = ("paper", *Digits.labels)

    def pools(self) -> Pools:
        images, digits = super().pools().learn
        strokes = images[:, 0] > 127
        return Pools(learn=Pool(images, strokes * (1 + digits[:, None, None])))
