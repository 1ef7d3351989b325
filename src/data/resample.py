r"""Putting uint8 images on a canvas: turned and scaled in one interpolation, or padded and shrunk without turning."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

from src.data.warp import Border, crop, sharpest, warp
from src.models.torch_functions import functions_for


def pose(
    images: Tensor,
    matrices: Tensor,
    size: Sequence[int],
    border: Border = "zeros",
    chunk: int = 1000,
) -> Tensor:
    """Turn and scale about the centre in one interpolation, clamp and round: the same bytes for any chunk.

    It is cubic, and in volumes linear. An image that is made smaller is sampled more finely and averaged, ceil(1 /
    scale) samples a pixel along each axis, so that it is not aliased; at scale 1 and above that is one sample, and
    quarter turns move pixels onto pixels.

    Args:
        images: (n, c, *space), uint8.
        matrices: (n, d, d), rotations times magnifications.
        size: of the result.
        border: what lies outside an image.
        chunk: images resampled at a time, which bounds the memory.

    Returns:
        (n, c, *size), uint8.
    """
    _check_bytes(images)
    d = len(size)
    result = torch.empty(len(images), images.shape[1], *size, dtype=torch.uint8)
    scales = torch.linalg.det(matrices).abs() ** (1 / d)
    samples = (1 / scales - 1e-9).ceil().clamp(min=1).int()
    for fine in samples.unique().tolist():
        for rows in (samples == fine).nonzero()[:, 0].split(ceil(chunk / fine**d)):
            canvas = [fine * side for side in size]
            warped = warp(images[rows].float(), fine * matrices[rows], sharpest(d), border, canvas)
            result[rows] = _bytes(functions_for(warped).mean_pool(warped, fine))
    return result


def fit(images: Tensor, size: Sequence[int], border: Border = "zeros", chunk: int = 1000) -> Tensor:
    """Bring images to a size, each axis for itself: a border around smaller ones, antialiased linear for larger ones.

    The border is central; where it is odd, the extra row is at the bottom and the extra column at the right.

    Args:
        images: (n, c, *space), uint8.
        size: wanted.
        border: what lies outside an image.
        chunk: images resampled at a time, which bounds the memory.

    Returns:
        (n, c, *size), uint8.
    """
    if images.shape[2:] == tuple(size):
        return images
    _check_bytes(images)
    return torch.cat([_fitted(part, tuple(size), border) for part in images.split(chunk)])


def _fitted(images: Tensor, size: tuple[int, ...], border: Border) -> Tensor:
    inner = tuple(min(pair) for pair in zip(size, images.shape[2:], strict=True))
    if images.shape[2:] != inner:
        images = _bytes(_shrunk(images.float(), inner))
    if inner == size:
        return images
    corners = -torch.tensor([(side - own) // 2 for side, own in zip(size, inner, strict=True)])
    return crop(images, corners.expand(len(images), -1), size, border)


def _shrunk(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Antialiased linear interpolation: in planes, of which a sequence is a row; then along what axis is left."""
    if len(size) == 1:
        return _shrunk(images[:, :, None], (1, *size))[:, :, 0]
    planes = functional.interpolate(images.flatten(1, -3), size[-2:], mode="bilinear", antialias=True)
    images = planes.unflatten(1, images.shape[1:-2])
    if len(size) == 2:
        return images
    columns = images.flatten(3)
    columns = functional.interpolate(columns, (size[0], columns.shape[-1]), mode="bilinear", antialias=True)
    return columns.unflatten(-1, size[1:])


def _check_bytes(images: Tensor) -> None:
    """Raises ValueError for floating-point numbers, which are given as they are."""
    if images.dtype != torch.uint8:
        raise ValueError(
            f"`size`, `rotate` and `scale` must be null for images of {images.dtype}, which are used as they are; use "
            "augment.rotate and augment.scale, or uint8."
        )


def _bytes(images: Tensor) -> Tensor:
    return images.clamp(0, 255).round().to(torch.uint8)
