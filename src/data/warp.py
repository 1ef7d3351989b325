r"""Moving images of d dimensions: by matrices, which interpolates, and by whole pixels, which does not.

A matrix acts on vectors u = (x), (y, x) or (z, y, x), y pointing down, about the image centre: result(u) =
image(matrix^-1 u), as a group element acts on a function. In the plane a rotation by pi/2 is
`torch.rot90(image, 1, (-2, -1))`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from src.groups import SO2
from src.require import require_choice

Mode = Literal["bilinear", "bicubic"]
Border = Literal["zeros", "edge", "reflect"]
"""What lies outside an image: black, its outermost pixels repeated, or the image mirrored about them."""

_PADDING: Mapping[Border, str] = {"zeros": "zeros", "edge": "border", "reflect": "reflection"}


def warp(
    images: Tensor,
    matrices: Tensor,
    mode: Mode = "bilinear",
    border: Border = "zeros",
    size: Sequence[int] | None = None,
) -> Tensor:
    """Resample every image under its own matrix.

    Args:
        images: (n, c, *space), floating point: sequences, images or volumes.
        matrices: (n, d, d), invertible, acting on vectors in pixels, so images of unequal sides are not distorted.
        mode: "bilinear", which is linear along every axis, or "bicubic" (sharper; may overshoot the range of the
            images; not for volumes).
        border: what lies outside an image: "zeros", "edge" or "reflect".
        size: of the result, whose centre is the centre of the images; None is the size of the images.

    Returns:
        (n, c, *size), each image independent of the others in the batch, to the last bit.

    Raises:
        ValueError: if a shape, the mode or the border does not fit.

    Example:
        >>> warp(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([[[-1.0, 0.0], [0.0, 1.0]]]))
        tensor([[[[3., 4.],
                  [1., 2.]]]])
    """
    _check(images, matrices, mode)
    check_border(border)
    sizes = images.shape[2:] if size is None else size
    half = (torch.tensor(images.shape[:1:-1], dtype=torch.float64, device=images.device) - 1) / 2
    # As grid_sample wants it, x before y.
    inverse = _inverse(_snap(matrices.to(images.device, torch.float64))).flip(1) / half[:, None]
    # Sums of products and no matrix product: those round differently for different numbers of images. What is left to
    # do for every pixel is one sum, in the precision of the images.
    lines = [inverse[:, :, [axis]] * _centred(n, images.device) for axis, n in enumerate(sizes)]
    # A plane for each coordinate, as sums along rows are fast, and rows of pairs are not.
    grid = reduce(_outer_sum, [line.to(images.dtype) for line in lines]).movedim(1, -1)
    if len(sizes) == 1:  # grid_sample has no sequences: they are images of one row
        row = functional.pad(grid, (0, 1))[:, None]
        return _sample(images[:, :, None], row, mode, border)[:, :, 0]
    return _sample(images, grid, mode, border)


def _sample(images: Tensor, grid: Tensor, mode: Mode, border: Border) -> Tensor:
    """Images at the coordinates of a grid (n, *space, d)."""
    grid = grid.contiguous() if mode == "bicubic" else grid  # which is slow on planes
    return functional.grid_sample(images, grid, mode=mode, padding_mode=_PADDING[border], align_corners=True)


def _outer_sum(one: Tensor, other: Tensor) -> Tensor:
    """All sums of (n, d, *space) and (n, d, k): (n, d, *space, k)."""
    return one[..., None] + other.unflatten(2, (*[1] * (one.dim() - 2), -1))


def sharpest(d: int) -> Mode:
    """The best interpolation that there is in d dimensions."""
    return "bicubic" if d < 3 else "bilinear"


def rotate(images: Tensor, angles: Tensor, mode: Mode = "bilinear", border: Border = "zeros") -> Tensor:
    """Turn every image by its own angle; multiples of pi/2 move pixels onto pixels.

    Args:
        images: (n, c, y, x), floating point.
        angles: (n,), radians.
        mode, border: as for `warp`.

    Returns:
        (n, c, y, x).

    Example:
        >>> rotate(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([torch.pi / 2]))
        tensor([[[[2., 4.],
                  [1., 3.]]]])
    """
    return warp(images, SO2().matrix(angles.double()[:, None]), mode, border)


def crop(
    images: Tensor,
    corners: Tensor,
    size: Sequence[int] | None = None,
    border: Border = "zeros",
    mirrored: Tensor | None = None,
) -> Tensor:
    """Crop every image, beyond its rim if need be: result[u] = image[corner + u].

    Args:
        images: (n, c, *space), any dtype.
        corners: (n, d), integers, negative where the crop begins outside.
        size: of the crops; None is the size of the images.
        border: what lies outside an image.
        mirrored: (n, d) of bool, which axes of the crops are reversed; None is none.

    Returns:
        (n, c, *size), the same dtype.
    """
    check_border(border)
    (n, c), d = images.shape[:2], images.dim() - 2
    sizes = images.shape[2:] if size is None else size
    if border == "zeros":  # outside is the black row and column that come last
        images = functional.pad(images, (0, 1) * d)
    indices = []
    for axis in range(d):
        sites = torch.arange(sizes[axis], device=images.device).expand(n, -1)
        if mirrored is not None:
            sites = torch.where(mirrored[:, axis, None], sizes[axis] - 1 - sites, sites)
        indices.append(_inside(sites + corners[:, axis, None], images.shape[2 + axis], border))
    pixels, *others = indices
    for length, along in zip(images.shape[3:], others, strict=True):
        pixels = (pixels[:, :, None] * length + along[:, None]).flatten(1)
    return images.flatten(2).gather(2, pixels[:, None].expand(-1, c, -1)).unflatten(2, tuple(sizes))


def check_border(border: str) -> None:
    """Raises ValueError for a border that does not exist."""
    require_choice("border", border, get_args(Border))


def _inside(sites: Tensor, n: int, border: Border) -> Tensor:
    """Where a pixel outside takes its value from; for zeros from the last of n."""
    if border == "zeros":
        return torch.where((sites < 0) | (sites >= n), n - 1, sites)
    if border == "reflect" and n > 1:
        sites = sites.remainder(2 * n - 2)
        return torch.minimum(sites, 2 * n - 2 - sites)
    return sites.clamp(0, n - 1)


def _centred(n: int, device: torch.device) -> Tensor:
    """Pixel coordinates about the centre: (n,), float64."""
    return torch.arange(n, dtype=torch.float64, device=device) - (n - 1) / 2


def _snap(matrices: Tensor) -> Tensor:
    """Integers where an entry nearly is one: cos(pi / 2) is not zero in floating point, but lattices need it to be."""
    integers = matrices.round()
    return torch.where((matrices - integers).abs() < 1e-6, integers, matrices)


def _inverse(matrices: Tensor) -> Tensor:
    """By cofactors, a fraction of the time of a general one, and each matrix for itself."""
    if matrices.shape[-1] == 1:
        return 1 / matrices
    if matrices.shape[-1] == 3:
        z, y, x = matrices.unbind(-2)
        cofactors = torch.stack([torch.linalg.cross(y, x), torch.linalg.cross(x, z), torch.linalg.cross(z, y)], -1)
        return cofactors / (z * cofactors[..., 0]).sum(-1)[..., None, None]
    (a, b), (c, d) = (row.unbind(-1) for row in matrices.unbind(-2))
    adjugate = torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2))
    return adjugate / (a * d - b * c)[..., None, None]


def _check(images: Tensor, matrices: Tensor, mode: str) -> None:
    d = images.dim() - 2
    if d not in (1, 2, 3) or not images.is_floating_point() or min(images.shape[2:]) < 2:
        raise ValueError(
            f"`images` must be floating point, (n, c, x), (n, c, y, x) or (n, c, z, y, x) of at least 2 pixels along "
            f"each axis, but got {images.dtype} of shape {tuple(images.shape)}; convert with .float() or add the "
            "missing axes."
        )
    if matrices.shape != (len(images), d, d):
        raise ValueError(
            f"`matrices` must be one {d} x {d} matrix per image, {(len(images), d, d)}, but got "
            f"{tuple(matrices.shape)}; use expand(len(images), {d}, {d}) to share one."
        )
    require_choice("mode", mode, ("bilinear", sharpest(d)))
