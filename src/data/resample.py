r"""Putting uint8 images on a canvas: turned and scaled in one interpolation, or padded and shrunk without turning."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor
from torch.nn import functional

from src.data.augment import uniform_table, warp
from src.data.sources import Split
from src.groups import SO2


def turn(images: Tensor, angles: Tensor, size: tuple[int, int], *, scale: float = 1.0, chunk: int = 1000) -> Tensor:
    """Rotate and scale about the centre in one bicubic interpolation, clamp and round: the same bytes for any chunk.

    Args:
        images: (n, c, y, x), uint8.
        angles: (n,), radians.
        size: (y, x) of the result.
        scale: magnification.
        chunk: images resampled at a time, which bounds the memory.

    Returns:
        (n, c, *size), uint8.
    """
    result = torch.empty(len(images), images.shape[1], *size, dtype=torch.uint8)
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        warped = warp(images[part].float(), scale * SO2().matrix(angles[part, None]), "bicubic", size)
        result[part] = warped.clamp(0, 255).round().to(torch.uint8)
    return result


def turned(split: Split, size: tuple[int, int], *key: str | int) -> Split:
    """Every image of a split turned by its own uniform angle, drawn from the key."""
    return split._replace(images=turn(split.images, 2 * pi * uniform_table(len(split.labels), *key), size))


def fit(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring images to a size, each axis for itself: zeros around smaller ones, antialiased bilinear for larger ones.

    Padding is central; where it is odd, the extra row is at the bottom and the extra column at the right.

    Args:
        images: (n, c, y, x), uint8.
        size: (y, x) wanted.

    Returns:
        (n, c, *size), uint8.
    """
    images = _shrink(images, (min(size[0], images.shape[-2]), min(size[1], images.shape[-1])))
    spare_y, spare_x = size[0] - images.shape[-2], size[1] - images.shape[-1]
    left, top = spare_x // 2, spare_y // 2
    return functional.pad(images, (left, spare_x - left, top, spare_y - top))


def _shrink(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[-2:] == size:
        return images
    resized = functional.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return resized.clamp(0, 255).round().to(torch.uint8)
