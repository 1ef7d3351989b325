"""What PyTorch has under another name for each dimension of the space: the only place that tells dimensions apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class _Functions(NamedTuple):
    """Of one dimension."""

    conv: Callable[..., Tensor]
    transposed: Callable[..., Tensor]
    max_pool: Callable[..., Tensor]
    mean_pool: Callable[..., Tensor]
    layer: type[nn.Conv1d | nn.Conv2d | nn.Conv3d]
    pad_layer: type[nn.ZeroPad1d | nn.ZeroPad2d | nn.ZeroPad3d]


_BY_DIMENSION = {
    1: _Functions(F.conv1d, F.conv_transpose1d, F.max_pool1d, F.avg_pool1d, nn.Conv1d, nn.ZeroPad1d),
    2: _Functions(F.conv2d, F.conv_transpose2d, F.max_pool2d, F.avg_pool2d, nn.Conv2d, nn.ZeroPad2d),
    3: _Functions(F.conv3d, F.conv_transpose3d, F.max_pool3d, F.avg_pool3d, nn.Conv3d, nn.ZeroPad3d),
}


def functions_for(planes: Tensor) -> _Functions:
    """Those for planes (n, c, *space), or for a weight (o, i, *taps).

    >>> import torch
    >>> functions_for(torch.zeros(2, 3, 28, 28)).layer.__name__
    'Conv2d'
    """
    return _BY_DIMENSION[planes.dim() - 2]
