"""Handwritten digits as solids in space: volumes of real strokes, without a download."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor

from src.data.sets.digits import Digits
from src.data.sources import Card, Pool, Pools

_RADIUS = 4.5 * sqrt(2)
"""From the centre of an 8 x 8 image to beyond its corner, in pixels."""
_RELIEF = (1.0, 1.0, 0.5, 0.25)
"""Of the ink at each depth, from the front to the back: a digit and its mirror image, seen from behind, differ."""
_STROKE, _FINER, _MARGIN = 0.6, 2, 2
"""Ink is spread by a Gaussian of 0.6 pixels, at 2 points for each pixel and to 2 pixels beyond the image.

Straight lines between pixels hold what is finer than the voxels of the canvas: another digit at every angle."""


class Digits3d(Digits):
    """The digits of scikit-learn, as smooth solids that fade from front to back, on a canvas of 16 x 16 x 16 voxels.

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
        return (min(self.size) - 1) / 2 / _RADIUS / _FINER

    def about(self) -> dict[str, Any]:
        return super().about() | {"stroke": _STROKE}

    def pools(self) -> Pools:
        digits, labels = super().pools().learn
        n = digits.shape[-1]
        depth, side = _spread(len(_RELIEF), n), _spread(n, n)
        ink, relief = digits.float(), torch.tensor(_RELIEF)
        solids = torch.einsum("ncjk,i,zi,yj,xk->nczyx", ink, relief, depth, side, side)
        return Pools(learn=Pool(solids.round().to(torch.uint8), labels))


def _spread(pixels: int, n: int) -> Tensor:
    """How much of each pixel is at each point of a finer line through n pixels: (points, pixels), about one centre."""
    points = torch.arange(_FINER * (n - 1 + 2 * _MARGIN) + 1) / _FINER
    apart = (points - points.mean())[:, None] - (torch.arange(pixels) - (pixels - 1) / 2)
    return torch.exp(-apart.square() / 2 / _STROKE**2) / (_STROKE * sqrt(2 * pi))
