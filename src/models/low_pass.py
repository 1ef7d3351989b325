"""Low-pass filters of kernels: what is finer than pixels is taken out of a kernel before it is sampled at them.

A kernel net without such a limit can be one function where a rotation by 45 degrees puts pixels, and another where
quarter turns put them: then a net with 8 rotations is two nets with 4, which share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_SPACING = {1: 0.8, 2: 1.0, 3: 1.0}
_RADIUS = {1: 2.4, 2: 2.0, 3: 7**0.5}
"""Of the points around the centre in each dimension, in standard deviations: more of a Gaussian is far from its centre
in more dimensions. So frequencies from 0.75 to 1.25 per pixel are left with 3 % at the most."""


@dataclass(frozen=True)
class LowPass:
    """The mean of a kernel net around each coordinate, weighted by a Gaussian in space.

    The points around it form a lattice in the kernel's own coordinates, in the plane one of triangles, so they turn and
    scale with the kernel, and a smoothed kernel obeys all laws of equivariance that an unsmoothed one does. A net that
    knows its mean in closed form, `smoothed`, is asked for that.

    Args:
        width: standard deviation of the Gaussian, in kernel coordinates; the points are about as far apart.

    Example:
        >>> LowPass(0.1)(torch.nn.Identity(), torch.tensor([[0.5, 0.25]]), slice(0, 2))
        tensor([[0.5000, 0.2500]])
    """

    width: float

    def __call__(
        self, net: nn.Module, coordinates: Float[Tensor, "p columns"], space: slice
    ) -> Float[Tensor, "p values"]:
        """Smoothed values of a net, (p, columns) -> (p, values); `space` says which columns are those of the space."""
        if hasattr(net, "smoothed"):
            return net.smoothed(coordinates, self.width, space)
        points, weights = (each.to(coordinates) for each in _points(space.stop - space.start))
        shifts = F.pad(self.width * points, (space.start, coordinates.shape[-1] - space.stop))
        around = coordinates[:, None] + shifts
        if not hasattr(net, "features"):
            return torch.einsum("pjv,j->pv", net(around), weights)
        # The last layer is linear and takes most of the work: it can wait until the mean is taken.
        return net.output(torch.einsum("pjv,j->pv", net.features(around), weights))


@cache
@torch.inference_mode(False)
def _points(d: int) -> tuple[Tensor, Tensor]:
    """The points of a lattice of regular simplices in the radius, (j, d), and their weights, (j,)."""
    steps = torch.arange(-4, 5, dtype=torch.float64)
    cells = torch.cartesian_prod(*[steps] * d).reshape(-1, d)
    edges = torch.full((d, d), 0.5, dtype=torch.float64).fill_diagonal_(1.0)
    points = _SPACING[d] * cells @ torch.linalg.cholesky(edges)
    points = points[points.square().sum(-1) <= _RADIUS[d] ** 2 + 1e-9]
    weights = points.square().sum(-1).div(-2).exp()
    return points, weights / weights.sum()
