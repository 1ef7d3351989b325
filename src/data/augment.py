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
from src.data.poses import magnifications, rotation_numbers, rotations
from src.data.tables import uniform_table
from src.data.warp import Border, Mode, check_border, crop, warp
from src.require import is_number, require, require_choice, require_whole


class Parameters(NamedTuple):
    """What happens to each of n images; None where nothing does."""

    matrices: Tensor | None = None
    """(n, d, d), rotation and scaling about the centre."""
    shifts: Tensor | None = None
    """(n, d), whole pixels."""
    mirrored: Tensor | None = None
    """(n, d) of bool, axes that are reversed."""
    holes: Tensor | None = None
    """(n, d), the pixel at the centre of what is cut out."""

    def at(self, rows: Tensor, device: torch.device) -> Parameters:
        """Those of some of the images, on the device of theirs."""
        return Parameters(*(None if values is None else values.index_select(0, rows).to(device) for values in self))


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image, in this order; everything is off by default.

    Args:
        rotate: the largest angle in degrees, each way; 180 is any rotation. Of volumes, about any axis; of sequences
            there are none.
        scale: [low, high], the range of a log-uniform magnification; None is off.
        crop: pixels each way by which the image is shifted: a random crop of the image padded by so many.
        flip: left and right exchanged, by a coin; a sequence reversed.
        flip_y: top and bottom exchanged, by a coin.
        cutout: side of a square, or cube, in pixels whose centre is anywhere in the image, replaced by the mean colour.
        mode: interpolation of rotation and scaling, which share one: "bilinear" or, but for volumes, "bicubic".
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
        """Draw the parameters of n images of a size: a pure function of the key, for instance (seed, epoch)."""
        return self.parameters(uniform_table(n, "augment", *key, columns=sum(columns(len(size)))), size)

    def parameters(self, uniform: Tensor, size: Sequence[int]) -> Parameters:
        """What numbers in [0, 1), (n, 8) for images of two dimensions, mean for n images of a size."""
        turn, magnify, flips, shifts, holes = uniform.split(columns(len(size)), dim=1)
        sides = torch.tensor(tuple(size))
        may_flip = torch.tensor([False, self.flip_y, self.flip][-len(size) :])
        return Parameters(
            matrices=self._matrices(turn, magnify, len(size)) if self.rotate or self.scale else None,
            shifts=((2 * self.crop + 1) * shifts).long() - self.crop if self.crop else None,
            mirrored=(flips < 0.5) & may_flip if self.flip or self.flip_y else None,
            holes=(sides * holes).long() if self.cutout else None,
        )

    def __call__(self, images: Tensor, parameters: Parameters, mean: Tensor) -> Tensor:
        """Apply parameters to images.

        Args:
            images: (n, c, *space), uint8 or floating point, not yet normalised, so that black is zero.
            parameters: of these n images, on their device.
            mean: (c, 1, ...), the colour of what is cut out, on the scale of the images.

        Returns:
            (n, c, *space), new; floating point where something was interpolated or cut out.
        """
        matrices, shifts, mirrored, holes = parameters
        if matrices is not None:
            images = warp(images if images.is_floating_point() else images.float(), matrices, self.mode, self.border)
        if shifts is not None or mirrored is not None:
            corners = torch.zeros_like(mirrored, dtype=torch.int64) if shifts is None else shifts
            images = crop(images, corners, border=self.border, mirrored=mirrored)
        return images if holes is None else _cut(images, holes, self.cutout, mean)

    def _matrices(self, turn: Tensor, magnify: Tensor, d: int) -> Tensor:
        low, high = map(log, self.scale or (1, 1))
        return rotations(turn, d, self.rotate * pi / 180) @ magnifications(low + (high - low) * magnify, d)

    def check(self, d: int) -> None:
        """Raises ValueError for what images of d dimensions cannot have done to them."""
        for name in ("rotate", "flip_y") if d == 1 else ():
            require(f"augment.{name}", getattr(self, name), not getattr(self, name), "off for sequences")
        require("augment.mode", self.mode, d < 3 or self.mode == "bilinear", "bilinear for volumes")


def columns(d: int) -> list[int]:
    """How many numbers an image of d dimensions takes: for its rotation, magnification, flips, shift and hole."""
    return [rotation_numbers(d), 1, d, d, d]


def _cut(images: Tensor, holes: Tensor, side: int, colour: Tensor) -> Tensor:
    """Paint a square of `side` pixels about the pixel of each hole; what of it lies outside is lost."""
    hole = colour.new_ones(len(images), 1)
    for axis, pixels in enumerate(images.shape[2:]):
        offset = torch.arange(pixels, device=images.device) - (holes[:, axis, None] - side // 2)
        near = ((offset >= 0) & (offset < side)).to(colour.dtype)
        hole = hole[..., None] * near.unflatten(1, (*[1] * (axis + 1), -1))
    # Of zeros and ones, so exact; twice as fast as a choice by a mask.
    return (images * (1 - hole)).add_(hole * colour)
