"""Handwritten digits as solids in space: volumes of real strokes, without a download."""

from __future__ import annotations

from math import sqrt

import torch

from src.data.sets.digits import Digits
from src.data.sources import Card, Pool, Pools

_RADIUS = 4.5 * sqrt(2)
"""From the centre of an 8 x 8 image to beyond its corner, in pixels."""
_RELIEF = (1.0, 1.0, 0.5, 0.25)
"""Of the ink at each depth, from the front to the back: a digit and its mirror image, seen from behind, differ."""


class Digits3d(Digits):
    """The digits of scikit-learn, thickened to solids that fade from front to back, on a canvas of 16 x 16 x 16 voxels.

    A digit is magnified as far as it stays on the canvas under every rotation, in one interpolation with its rotation.
    Rotations are uniform in SO(3): `rotate` says which splits are rotated. 1,197 / 200 / 400 digits.

    Example:
        >>> Digits3d(size=12).splits().train.images.shape
        torch.Size([1197, 1, 12, 12, 12])
    """

    name = "digits3d"
    card = Card(
        title=f"{Digits.card.title}, thickened to solids",
        licence=Digits.card.licence,
        citation=Digits.card.citation,
        homepage=Digits.card.homepage,
    )
    native = (16, 16, 16)
    min_size = 10

    @property
    def magnification(self) -> float:
        return (min(self.size) - 1) / 2 / _RADIUS

    def pools(self) -> Pools:
        digits, labels = super().pools().learn
        relief = torch.tensor(_RELIEF)
        solids = torch.einsum("ncyx,z->nczyx", digits.float(), relief).round().to(torch.uint8)
        depth = (digits.shape[-1] - len(relief)) // 2
        return Pools(learn=Pool(torch.nn.functional.pad(solids, (0, 0, 0, 0, depth, depth)), labels))
