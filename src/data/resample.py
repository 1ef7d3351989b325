r"""Putting uint8 images on a canvas: turned and scaled in one interpolation, or padded and shrunk without turning."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from src.data.warp import Border, crop, warp
from src.groups import SO2, Dilation


def pose(
    images: Tensor,
    angles: Tensor,
    scales: Tensor,
    size: tuple[int, int],
    border: Border = "zeros",
    chunk: int = 1000,
) -> Tensor:
    """Rotate and scale about the centre in one bicubic interpolation, clamp and round: the same bytes for any chunk.

    An image that is made smaller is sampled more finely and averaged, ceil(1 / scale) samples a pixel each way, so that
    it is not aliased; at scale 1 and above that is one sample, and multiples of pi/2 move pixels onto pixels.

    Args:
        images: (n, c, y, x), uint8.
        angles: (n,), radians.
        scales: (n,), magnifications.
        size: (y, x) of the result.
        border: what lies outside an image.
        chunk: images resampled at a time, which bounds the memory.

    Returns:
        (n, c, *size), uint8.
    """
    result = torch.empty(len(images), images.shape[1], *size, dtype=torch.uint8)
    matrices = SO2().matrix(angles.double()[:, None]) @ Dilation().matrix(scales.double().log()[:, None])
    samples = (1 / scales.double() - 1e-9).ceil().clamp(min=1).int()
    for fine in samples.unique().tolist():
        for rows in (samples == fine).nonzero()[:, 0].split(ceil(chunk / fine**2)):
            canvas = (fine * size[0], fine * size[1])
            warped = warp(images[rows].float(), fine * matrices[rows], "bicubic", border, canvas)
            result[rows] = _bytes(functional.avg_pool2d(warped, fine))
    return result


def fit(images: Tensor, size: tuple[int, int], border: Border = "zeros", chunk: int = 1000) -> Tensor:
    """Bring images to a size, each axis for itself: a border around smaller ones, antialiased bilinear for larger ones.

    The border is central; where it is odd, the extra row is at the bottom and the extra column at the right.

    Args:
        images: (n, c, y, x), uint8.
        size: (y, x) wanted.
        border: what lies outside an image.
        chunk: images resampled at a time, which bounds the memory.

    Returns:
        (n, c, *size), uint8.
    """
    if images.shape[-2:] == size:
        return images
    return torch.cat([_fitted(part, size, border) for part in images.split(chunk)])


def _fitted(images: Tensor, size: tuple[int, int], border: Border) -> Tensor:
    y, x = (min(pair) for pair in zip(size, images.shape[-2:], strict=True))
    if images.shape[-2:] != (y, x):
        images = _bytes(functional.interpolate(images.float(), (y, x), mode="bilinear", antialias=True))
    if (y, x) == size:
        return images
    corners = -torch.tensor([(size[0] - y) // 2, (size[1] - x) // 2])
    return crop(images, corners.expand(len(images), 2), size, border)


def _bytes(images: Tensor) -> Tensor:
    return images.clamp(0, 255).round().to(torch.uint8)
