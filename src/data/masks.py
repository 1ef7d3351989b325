"""Classes of pixels, which move with their images: as planes of 0 and 1 beside the channels of these."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_FULL = 255
"""What a plane has where its class is, the brightest of an image."""


def with_planes(images: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Images with a plane for each class, so that whatever moves pixels moves their classes.

    Args:
        images: (n, c, *space).
        masks: (n, *space), the class of each pixel.
        classes: how many there are.

    Returns:
        (n, c + classes, *space), of the images' dtype.
    """
    planes = functional.one_hot(masks, classes).movedim(-1, 1)
    return torch.cat([images, _FULL * planes.to(images)], 1)


def without_planes(images: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Images and masks of `with_planes`, each pixel of the class that has most of it, and of the first where none has.

    Example:
        >>> images, masks = torch.zeros(1, 1, 3), torch.tensor([[2, 0, 1]])
        >>> without_planes(with_planes(images, masks, 3), 3)[1]
        tensor([[2, 0, 1]])
    """
    images, planes = images.split([images.shape[1] - classes, classes], 1)
    return images, planes.argmax(1)
