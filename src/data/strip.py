"""Images on a Möbius strip: going once around shows their mirror image."""

from __future__ import annotations

import torch
from torch import Tensor


def shift_on_strip(images: Tensor, shifts: Tensor) -> Tensor:
    """Move images along the last axis, whose ends are glued with the first axis of the space reversed.

    Args:
        images: (n, c, *space).
        shifts: (n,), whole pixels, each its own; twice the length of the strip is once around its double cover, and
            changes nothing.

    Returns:
        (n, c, *space)

    Example:
        >>> shift_on_strip(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([1]))
        tensor([[[[4, 1],
                  [2, 3]]]])
    """
    length = images.shape[-1]
    cover = torch.cat([images, images.flip(2)], -1)
    columns = (torch.arange(length) - shifts[:, None]) % (2 * length)
    shape = (len(images), *[1] * (images.dim() - 2), length)
    return cover.gather(-1, columns.view(shape).expand(*images.shape[:-1], length))
