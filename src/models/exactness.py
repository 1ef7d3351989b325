"""Which layers keep quarter turns and flips exact on a pixel grid.

A layer with kernel k, padding p and stride s on n pixels places its window at one border and steps by s; a turned or
flipped image is sampled at the turned places iff the last step ends at the other border, (n + 2 p - k) mod s = 0.
One pixel more or less makes an exactly equivariant net an approximate one: "Using and Abusing Equivariance"
(Edixhoven, Lengyel, van Gemert, 2023), https://arxiv.org/abs/2308.11316.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

from torch import nn

from src.models.border import Border
from src.models.gconv import GConv
from src.models.pooling import Invariants, SpatialPool, Subsample
from src.require import require_choice


class _Geometry(NamedTuple):
    """The geometry of one layer."""

    name: str
    kernel_size: int
    stride: int
    padding: int
    glued: bool = False
    """Whether the ends of the last axis are glued, so that windows go round it."""

    def left_over(self, n: int) -> int:
        """Pixels that the kernel does not reach."""
        return (n + 2 * self.padding - self.kernel_size) % self.stride

    def outputs(self, n: int) -> int:
        """Pixels after the layer."""
        return (n + 2 * self.padding - self.kernel_size) // self.stride + 1


def _geometries(net: nn.Module) -> Iterator[_Geometry]:
    """The layers along the main path, in order; skips have the stride of what they skip and agree with it."""
    for name, module in net.named_modules():
        if isinstance(module, GConv | SpatialPool) and "skip" not in name.split("."):
            glued = getattr(module, "seam", None) is not None
            yield _Geometry(name, module.kernel_size, module.stride, module.padding, glued)


def inexact(net: nn.Module, size: Sequence[int]) -> list[tuple[_Geometry, int]]:
    """The layers that are not exact on images of `size`, with the pixels that each gets."""
    found = []
    for n in dict.fromkeys(size):
        for layer in _geometries(net):
            if layer.left_over(n):
                found.append((layer, n))
            n = layer.outputs(n)
    return found


def pixels_after(net: nn.Module, size: Sequence[int], padded: bool = False) -> int:
    """Pixels of the shorter side after the layers that a net has so far.

    Args:
        net: whose layers are convolutions and pools in order.
        size: of its input images.
        padded: whether kernels may be as large as images with their padding.

    Raises:
        ValueError: if a layer has a larger kernel than it gets pixels.
    """
    n = min(size)
    for layer in _geometries(net):
        if layer.kernel_size > n + (2 * layer.padding if padded else 0):
            raise ValueError(
                f"`conv.kernel_size` and `net.hidden_sizes` must suit the image, but `{layer.name}` has kernel "
                f"{layer.kernel_size} and gets {n} pixels of an image of {' x '.join(map(str, size))}; use a smaller "
                "kernel, fewer widths, net.pooling=none, or larger images."
            )
        n = layer.outputs(n)
    return n


def check_exact(net: nn.Module, size: Sequence[int], policy: str) -> None:
    """Refuse, warn of, or accept layers that are not exact.

    Args:
        net: whose layers are convolutions and pools in order.
        size: of its input images, such as (y, x).
        policy: `require`, `warn` or `off`.

    Raises:
        ValueError: if a layer is not exact, and exactness is required.
    """
    require_choice("exact", policy, ("require", "warn", "off"))
    if any(layer.glued for layer in _geometries(net)):
        _check_round(net, size[-1])
        size = size[:-1]
    found = inexact(net, size) if policy != "off" and _has_exact_elements(net) else []
    if not found:
        return
    layer, n = found[0]
    pixels, sizes = " x ".join(map(str, size)), " and ".join(map(str, nearest_sizes(net, max(size))))
    message = (
        f"`{layer.name}` (kernel {layer.kernel_size}, stride {layer.stride}, padding {layer.padding}) leaves "
        f"{layer.left_over(n)} of {n} pixels over, so quarter turns and flips are not exact for images of "
        f"{pixels}. Sizes that work: {sizes}; or change conv.stride, net.pooling or net.pool_size (3 suits odd sizes), "
        "or accept it with net.exact=off."
    )
    if policy == "require":
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)


def _check_round(net: nn.Module, n: int) -> None:
    """Raises ValueError if a net of glued convolutions has a layer that is not the same all the way round n pixels."""
    for name, module in net.named_modules():
        if _sees_ends(module):
            raise ValueError(
                f"`conv.boundary` glues the ends of the last axis, but `{name}`, {module}, sees where they are; use "
                "net.pooling=max, mean or none, net.pool_size=2, net.border=zeros, another readout than last, and "
                "conv.antialias=false with strides; or conv.boundary=zeros."
            )
    stride = prod(layer.stride for layer in _geometries(net))
    if n % stride:
        raise ValueError(
            f"`size` must be a multiple of {stride}, the strides and pools of the net together, along the axis whose "
            f"ends conv.boundary glues, but got {n}; take for instance {n + stride - n % stride}, or fewer pools."
        )


def _sees_ends(module: nn.Module) -> bool:
    """Whether a layer, other than a convolution, is not at the ends of the last axis what it is inside."""
    if isinstance(module, SpatialPool):
        return module.kind not in ("max", "mean") or module.padding > 0
    if isinstance(module, Border):
        return module.kind != "zeros"
    return isinstance(module, Subsample) or (isinstance(module, Invariants) and module.kind == "last")


def nearest_sizes(net: nn.Module, n: int, how_many: int = 2) -> list[int]:
    """The sizes of equal sides nearest to n at which every strided layer is exact."""
    candidates = sorted(range(max(4, n // 2), 2 * n + 8), key=lambda m: (abs(m - n), m))
    return sorted([m for m in candidates if not inexact(net, (m,))][:how_many])


def _has_exact_elements(net: nn.Module) -> bool:
    """Whether any group in the net turns or flips the pixel grid onto itself."""
    convs = [module for module in net.modules() if isinstance(module, GConv)]
    return any(int(conv.group.lattice_exact(conv.kernel.grid).sum()) > 1 for conv in convs)


def sides_in(space: int, size: int | Sequence[int]) -> tuple[int, ...]:
    """The sides of images; raises ValueError unless there is one for each dimension of the space."""
    sides = (size,) * space if isinstance(size, int) else tuple(size)
    if len(sides) != space:
        raise ValueError(
            f"`size` must have {space} sides, as the group acts on R^{space}, but got {list(sides)}; choose a group of "
            "the data's dimension."
        )
    return sides
