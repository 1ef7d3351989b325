r"""Moving images of the plane, and random numbers that are a pure function of what they are for.

A matrix acts on plane vectors u = (y, x), y pointing down, about the image centre: result(u) = image(matrix^-1 u), as a
group element acts on a function. A rotation by pi/2 is `torch.rot90(image, 1, (-2, -1))`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from math import pi
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from src.groups import SO2

Mode = Literal["bilinear", "bicubic"]


def warp(images: Tensor, matrices: Tensor, mode: Mode = "bilinear", size: Sequence[int] | None = None) -> Tensor:
    """Resample every image under its own matrix; what comes from outside an image is zero.

    Args:
        images: (n, c, y, x), floating point.
        matrices: (n, 2, 2), invertible, acting on (y, x) in pixels, so non-square images are not distorted.
        mode: "bilinear", or "bicubic" (sharper; may overshoot the range of the images).
        size: (y, x) of the result, whose centre is the centre of the images; None is the size of the images.

    Returns:
        (n, c, *size), each image independent of the others in the batch, to the last bit.

    Raises:
        ValueError: if a shape or the mode does not fit.
    """
    _check(images, matrices, mode)
    y, x = images.shape[-2:] if size is None else size
    half = torch.tensor([images.shape[-2] - 1, images.shape[-1] - 1], dtype=torch.float64, device=images.device) / 2
    inverse = torch.linalg.inv(_snap(matrices.to(images.device, torch.float64))) / half[:, None]
    # Sums of products and no matrix product: those round differently for different numbers of images.
    down = inverse[:, None, None, :, 0] * _centred(y, images.device)[:, None, None]
    right = inverse[:, None, None, :, 1] * _centred(x, images.device)[:, None]
    grid = (down + right).flip(-1).to(images.dtype)
    return functional.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=True)


def rotate(images: Tensor, angles: Tensor, mode: Mode = "bilinear") -> Tensor:
    """Turn every image by its own angle; multiples of pi/2 move pixels onto pixels.

    Args:
        images: (n, c, y, x), floating point.
        angles: (n,), radians.
        mode: as for `warp`.

    Returns:
        (n, c, y, x).
    """
    return warp(images, SO2().matrix(angles.double()[:, None]), mode)


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror left and right where told to: (n, c, y, x), (n,) of bool -> (n, c, y, x)."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def generator(*key: str | int) -> torch.Generator:
    """A CPU generator seeded by what it is for, such as ("order", seed, epoch); different keys are independent."""
    digest = sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@lru_cache(maxsize=4)
def uniform_table(n: int, *key: str | int) -> Tensor:
    """n numbers in [0, 1), float64, a pure function of the key; shared, so not to be written to.

    A table for a whole epoch, indexed by sample: what happens to a sample depends neither on the batch it is in nor on
    the order, the number of workers or where a run was resumed.
    """
    return torch.rand(n, dtype=torch.float64, generator=generator(*key))


Augmentation = Callable[[Tensor, Tensor], Tensor]

AUGMENTATIONS: Mapping[str, Augmentation] = {
    "rotate": lambda images, uniform: rotate(images, 2 * pi * uniform),
    "flip": lambda images, uniform: flip(images, uniform < 0.5),
}
"""What `augment` may be: functions of images (n, c, y, x) in [0, 1] and one uniform number per image (n,)."""


def augmentation(name: str | None) -> Augmentation | None:
    """Look up an augmentation by name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name is not None and name not in AUGMENTATIONS:
        raise ValueError(f"`augment` must be null or one of {', '.join(AUGMENTATIONS)}, but got {name!r}.")
    return None if name is None else AUGMENTATIONS[name]


def _centred(n: int, device: torch.device) -> Tensor:
    """Pixel coordinates about the centre: (n,), float64."""
    return torch.arange(n, dtype=torch.float64, device=device) - (n - 1) / 2


def _snap(matrices: Tensor) -> Tensor:
    """Integers where an entry nearly is one: cos(pi / 2) is not zero in floating point, but lattices need it to be."""
    integers = matrices.round()
    return torch.where((matrices - integers).abs() < 1e-6, integers, matrices)


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
    if mode not in ("bilinear", "bicubic"):
        raise ValueError(f"`mode` must be 'bilinear' or 'bicubic', but got {mode!r}.")
