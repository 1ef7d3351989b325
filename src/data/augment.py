r"""Augmentation of whole batches: a table of parameters per epoch, and one function of (images, parameters).

The table is a pure function of (seed, epoch) with a row per sample, so results depend neither on workers, nor on the
order of batches, nor on ranks, nor on where a run was resumed; and every number has a column of its own, so switching
one augmentation on does not change what the others do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from src.data.draw import RANGE, is_range
from src.data.tables import uniform_table
from src.data.warp import Border, Mode, check_border, crop, warp
from src.groups import SO2, Dilation
from src.require import is_number, require, require_choice, require_whole

COLUMNS = ("angle", "scale", "flip y", "flip x", "shift y", "shift x", "hole y", "hole x")


class Parameters(NamedTuple):
    """What happens to each of n images; None where nothing does."""

    matrices: Tensor | None = None
    """(n, 2, 2), rotation and scaling about the centre."""
    shifts: Tensor | None = None
    """(n, 2), whole pixels (y, x)."""
    mirrored: Tensor | None = None
    """(n, 2) of bool, axes (y, x) that are reversed."""
    holes: Tensor | None = None
    """(n, 2), the pixel (y, x) at the centre of what is cut out."""

    def at(self, rows: Tensor, device: torch.device) -> Parameters:
        """Those of some of the images, on the device of theirs."""
        return Parameters(*(None if values is None else values.index_select(0, rows).to(device) for values in self))


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image, in this order; everything is off by default.

    Args:
        rotate: degrees each way; 180 is the whole circle.
        scale: [low, high], the range of a log-uniform magnification; None is off.
        crop: pixels each way by which the image is shifted: a random crop of the image padded by so many.
        flip: left and right exchanged, by a coin.
        flip_y: top and bottom exchanged, by a coin.
        cutout: side of a square in pixels whose centre is anywhere in the image, replaced by the mean colour.
        mode: interpolation of rotation and scaling, which share one: "bilinear" or "bicubic".
        border: what lies outside an image: "zeros", "edge" or "reflect".

    Reference (cutout): Improved Regularization of Convolutional Neural Networks with Cutout (DeVries and Taylor, 2017).

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> augmentation = Augmentation(rotate=180, crop=4)
        >>> parameters = augmentation.table(8, (28, 28), 0)
        >>> augmentation(torch.zeros(8, 3, 28, 28), parameters, torch.zeros(3, 1, 1)).shape
        torch.Size([8, 3, 28, 28])
    """

    rotate: float = 0
    scale: Sequence[float] | None = None
    crop: int = 0
    flip: bool = False
    flip_y: bool = False
    cutout: int = 0
    mode: Mode = "bilinear"
    border: Border = "zeros"

    def __post_init__(self) -> None:
        check_border(self.border)
        require_choice("augment.mode", self.mode, get_args(Mode))
        require_whole(**{"augment.crop": self.crop, "augment.cutout": self.cutout})
        degrees = is_number(self.rotate) and 0 <= self.rotate <= 180
        require("augment.rotate", self.rotate, degrees, "degrees each way, from 0 to 180")
        require("augment.scale", self.scale, self.scale is None or is_range(self.scale), RANGE)
        for name in ("flip", "flip_y"):
            value = getattr(self, name)
            require(f"augment.{name}", value, isinstance(value, bool), "true or false")

    @property
    def active(self) -> bool:
        return any((self.rotate, self.scale, self.crop, self.flip, self.flip_y, self.cutout))

    def table(self, n: int, size: Sequence[int], *key: str | int) -> Parameters:
        """Draw the parameters of n images of `size` (y, x): a pure function of the key, for instance (seed, epoch)."""
        return self.parameters(uniform_table(n, "augment", *key, columns=len(COLUMNS)), size)

    def parameters(self, uniform: Tensor, size: Sequence[int]) -> Parameters:
        """What numbers in [0, 1), (n, 8), mean for n images of `size` (y, x)."""
        turn, magnify, flips, shifts, holes = uniform.split([1, 1, 2, 2, 2], dim=1)
        sides = torch.tensor(tuple(size))
        return Parameters(
            matrices=self._matrices(turn, magnify) if self.rotate or self.scale else None,
            shifts=((2 * self.crop + 1) * shifts).long() - self.crop if self.crop else None,
            mirrored=(flips < 0.5) & torch.tensor([self.flip_y, self.flip]) if self.flip or self.flip_y else None,
            holes=(sides * holes).long() if self.cutout else None,
        )

    def __call__(self, images: Tensor, parameters: Parameters, mean: Tensor) -> Tensor:
        """Apply parameters to images.

        Args:
            images: (n, c, y, x), uint8 or floating point, not yet normalised, so that black is zero.
            parameters: of these n images, on their device.
            mean: (c, 1, 1), the colour of what is cut out, on the scale of the images.

        Returns:
            (n, c, y, x), new; floating point where something was interpolated or cut out.
        """
        matrices, shifts, mirrored, holes = parameters
        if matrices is not None:
            images = warp(images if images.is_floating_point() else images.float(), matrices, self.mode, self.border)
        if shifts is not None or mirrored is not None:
            corners = mirrored.new_zeros(len(images), 2, dtype=torch.int64) if shifts is None else shifts
            images = crop(images, corners, border=self.border, mirrored=mirrored)
        return images if holes is None else _cut(images, holes, self.cutout, mean)

    def _matrices(self, turn: Tensor, magnify: Tensor) -> Tensor:
        angles = (2 * turn - 1) * self.rotate * pi / 180
        low, high = map(log, self.scale or (1, 1))
        return SO2().matrix(angles) @ Dilation().matrix(low + (high - low) * magnify)


def _cut(images: Tensor, holes: Tensor, side: int, colour: Tensor) -> Tensor:
    """Paint a square of `side` pixels about the pixel (y, x) of each hole; what of it lies outside is lost."""
    near = []
    for axis, pixels in enumerate(images.shape[-2:]):
        offset = torch.arange(pixels, device=images.device) - (holes[:, axis, None] - side // 2)
        near.append(((offset >= 0) & (offset < side)).to(colour.dtype))
    hole = (near[0][:, :, None] * near[1][:, None])[:, None]
    # Of zeros and ones, so exact; twice as fast as a choice by a mask.
    return (images * (1 - hole)).add_(hole * colour)
