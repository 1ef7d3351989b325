"""The handwritten digits that scikit-learn brings along: real data without a download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import pi, sqrt

import torch
from sklearn.datasets import load_digits

from src.data.augment import generator, uniform_table
from src.data.resample import turn
from src.data.sources import Split, Splits, canvas, rotations, stratified

COUNTS = (1197, 200, 400)
RADIUS = 3.5 * sqrt(2) + 1
"""From the centre of an 8 x 8 image to its corner pixel and through the interpolation around it, in pixels."""


class Digits:
    """1,797 digits of 8 x 8 pixels and 17 grey values, on a larger canvas and optionally rotated: 1,197 / 200 / 400.

    A digit is magnified as far as it stays on the canvas under every rotation, in one interpolation with its rotation.

    Reference: UCI ML hand-written digits (Alpaydin and Kaynak, 1998), the copy in scikit-learn.

    Args:
        size: canvas in pixels, a number or [y, x], at least 12.
        rotate: which of train, val and test are rotated, one uniform angle per image; the others are upright.
        seed: decides the split and the angles.
    """

    classes = 10
    channels = 1

    def __init__(
        self, *, size: int | Sequence[int] = 20, rotate: Mapping[str, bool] | None = None, seed: int = 0
    ) -> None:
        self.size = canvas(size, least=12)
        self.rotate = rotations(rotate)
        self.seed = seed

    def splits(self) -> Splits:
        """Read and place the digits: they are part of an installed package."""
        bunch = load_digits()
        images = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8)[:, None]
        digits = Split(images, torch.from_numpy(bunch.target).long())
        parts = stratified(digits.labels, COUNTS, generator("digits split", self.seed))
        return Splits(*(self._place(digits.at(part), name) for part, name in zip(parts, self.rotate, strict=True)))

    def _place(self, split: Split, name: str) -> Split:
        angles = 2 * pi * uniform_table(len(split.labels), "digits rotation", name, self.seed) * self.rotate[name]
        scale = (min(self.size) - 1) / 2 / RADIUS
        return split._replace(images=turn(split.images, angles, self.size, scale=scale))
