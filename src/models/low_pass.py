"""Low-pass filters of kernels: what is finer than pixels is taken out of a kernel before it is sampled at them.

A kernel net without such a limit can be one function where a rotation by 45 degrees puts pixels, and another where
quarter turns put them: then a net with 8 rotations is two nets with 4, which share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_RINGS = 2
"""Of points around the centre: with 2, frequencies from 0.75 to 1.25 per pixel are left with 3 % at the most."""


@dataclass(frozen=True)
class LowPass:
    """The mean of a kernel net around each coordinate, weighted by a Gaussian in the plane.

    The points around it form a triangular lattice in the kernel's own coordinates, so they turn and scale with the
    kernel, and a smoothed kernel obeys all laws of equivariance that an unsmoothed one does. A net that knows its mean
    in closed form, `smoothed`, is asked for that.

    Args:
        width: standard deviation of the Gaussian, and distance of the points, in kernel coordinates.

    Example:
        >>> LowPass(0.1)(torch.nn.Identity(), torch.tensor([[0.5, 0.25]]))
        tensor([[0.5000, 0.2500]])
    """

    width: float

    @cached_property
    def _points(self) -> tuple[Tensor, Tensor]:
        """Points (j, 2) and their weights (j,)."""
        steps = range(-_RINGS, _RINGS + 1)
        cells = torch.tensor([(p, q) for p in steps for q in steps if abs(p + q) <= _RINGS], dtype=torch.float64)
        basis = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
        points = cells @ basis
        weights = points.square().sum(-1).div(-2).exp()
        return self.width * points, weights / weights.sum()

    def __call__(
        self, net: nn.Module, coordinates: Float[Tensor, "p columns"], before: int = 0
    ) -> Float[Tensor, "p values"]:
        """Smoothed values of a net, (p, columns) -> (p, values); the plane's two columns have so many before them."""
        if hasattr(net, "smoothed"):
            return net.smoothed(coordinates, self.width, slice(before, before + 2))
        points, weights = (each.to(coordinates) for each in self._points)
        shifts = F.pad(points, (before, coordinates.shape[-1] - 2 - before))
        around = coordinates[:, None] + shifts
        if not hasattr(net, "features"):
            return torch.einsum("pjv,j->pv", net(around), weights)
        # The last layer is linear and takes most of the work: it can wait until the mean is taken.
        return net.output(torch.einsum("pjv,j->pv", net.features(around), weights))
