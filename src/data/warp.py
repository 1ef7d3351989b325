r"""Moving images of the plane: by matrices, which interpolates, and by whole pixels, which does not.

A matrix acts on plane vectors u = (y, x), y pointing down, about the image centre: result(u) = image(matrix^-1 u), as a
group element acts on a function. A rotation by pi/2 is `torch.rot90(image, 1, (-2, -1))`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        images: (n, c, y, x), floating point.
        matrices: (n, 2, 2), invertible, acting on (y, x) in pixels, so non-square images are not distorted.
        mode: "bilinear", or "bicubic" (sharper; may overshoot the range of the images).
        border: what lies outside an image: "zeros", "edge" or "reflect".
        size: (y, x) of the result, whose centre is the centre of the images; None is the size of the images.

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
    y, x = images.shape[-2:] if size is None else size
    half = torch.tensor([images.shape[-1] - 1, images.shape[-2] - 1], dtype=torch.float64, device=images.device) / 2
    # As grid_sample wants it, x before y.
    inverse = _inverse(_snap(matrices.to(images.device, torch.float64))).flip(1) / half[:, None]
    # Sums of products and no matrix product: those round differently for different numbers of images. What is left to
    # do for every pixel is one sum, in the precision of the images.
    down = (inverse[:, :, :1] * _centred(y, images.device)).to(images.dtype)
    right = (inverse[:, :, 1:] * _centred(x, images.device)).to(images.dtype)
    # Two planes, because sums along rows are fast, and rows of pairs are not; bicubic sampling is slow on planes.
    grid = (down[:, :, :, None] + right[:, :, None]).movedim(1, -1)
    grid = grid.contiguous() if mode == "bicubic" else grid
    return functional.grid_sample(images, grid, mode=mode, padding_mode=_PADDING[border], align_corners=True)


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
    """Crop every image, beyond its rim if need be: result[y, x] = image[corner + (y, x)].

    Args:
        images: (n, c, y, x), any dtype.
        corners: (n, 2), integers, negative where the crop begins outside.
        size: (y, x) of the crops; None is the size of the images.
        border: what lies outside an image.
        mirrored: (n, 2) of bool, which axes (y, x) of the crops are reversed; None is neither.

    Returns:
        (n, c, *size), the same dtype.
    """
    check_border(border)
    n, c = images.shape[:2]
    sizes = images.shape[-2:] if size is None else size
    if border == "zeros":  # outside is the black row and column that come last
        images = functional.pad(images, (0, 1, 0, 1))
    indices = []
    for axis in (0, 1):
        sites = torch.arange(sizes[axis], device=images.device).expand(n, -1)
        if mirrored is not None:
            sites = torch.where(mirrored[:, axis, None], sizes[axis] - 1 - sites, sites)
        indices.append(_inside(sites + corners[:, axis, None], images.shape[2 + axis], border))
    rows, columns = indices
    pixels = (rows[:, :, None] * images.shape[-1] + columns[:, None]).flatten(1)
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
    """Of 2 x 2 matrices, a fraction of the time of a general one."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrices.unbind(-2))
    adjugate = torch.stack([d, -b, -c, a], dim=-1).unflatten(-1, (2, 2))
    return adjugate / (a * d - b * c)[..., None, None]


def _check(images: Tensor, matrices: Tensor, mode: str) -> None:
    if images.dim() != 4 or not images.is_floating_point() or min(images.shape[-2:]) < 2:
        raise ValueError(
            f"`images` must be floating point, (n, c, y, x) of at least 2 x 2 pixels, but got {images.dtype} of shape "
            f"{tuple(images.shape)}; convert with .float() or add the missing axes."
        )
    if matrices.shape != (len(images), 2, 2):
        raise ValueError(
            f"`matrices` must be one 2 x 2 matrix per image, {(len(images), 2, 2)}, but got {tuple(matrices.shape)}; "
            "use expand(len(images), 2, 2) to share one."
        )
    require_choice("mode", mode, get_args(Mode))
