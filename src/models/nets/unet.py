"""A U-Net, whose outputs turn with the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from src.models.blocks import ResidualBlock
from src.models.border import Border
from src.models.exactness import check_exact, inexact, nearest_sizes, sides_in
from src.models.field import Field, joined
from src.models.gconv import GConv
from src.models.layers import Layers
from src.models.nets.resnet import widths_of
from src.models.pooling import SpatialPool
from src.models.upsampling import Upsample
from src.require import require


class CKGUNet(nn.Module):
    """Logits of the classes of every pixel: residual blocks and pools, and the way back with skips.

    Each width is a level of half as many pixels. On the way back the channels are mixed to those of the level above,
    up-sampled, and joined with what was there on the way down, on the same group elements. At the end the maximum over
    elements is taken at every pixel, so that the outputs are fields on R^d alone, which turn with the images.

    Args:
        in_channels: of the images.
        classes: logits of a pixel.
        size: of the images, (x), (y, x) or (z, y, x), or one number for all; each pool must halve it exactly.
        conv: makes a `GConv` from (in_channels, out_channels, **changes), of stride 1.
        hidden_sizes: width of each level, from the finest; two or more.
        widen_factor: multiplies the widths.
        normalisation, activation, dropout: see `Layers`.
        border: of the images and of every activation, `zeros` or `disc`; or `background`; see `Border`.
        pooling: `max`, `mean`, `blur` or `max_blur`; see `SpatialPool`. The way back is the transpose of `blur`.
        pool_size: 2, or 3 for odd sizes.
        exact: what to do where a layer is not exactly equivariant at this size: `require`, `warn` or `off`.

    Raises:
        ValueError: if an argument cannot be honoured.

    Reference:
        U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger, Fischer, Brox, 2015)
        https://arxiv.org/abs/1505.04597

    Example:
        >>> from functools import partial
        >>> from src.groups import SO2
        >>> conv = partial(GConv, group=SO2(), elements=[4], implementation="separable", kernel_size=3)
        >>> CKGUNet(1, 3, 8, conv, hidden_sizes=[2, 4])(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int | Sequence[int],
        conv: Callable[..., GConv],
        *,
        hidden_sizes: Sequence[int] = (8, 16, 32),
        widen_factor: float = 1,
        normalisation: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        border: str = "zeros",
        pooling: str = "max_blur",
        pool_size: int = 2,
        exact: str = "warn",
    ) -> None:
        super().__init__()
        require("net.hidden_sizes", list(hidden_sizes), len(hidden_sizes) > 1, "two or more widths")
        widths = widths_of(hidden_sizes, widen_factor)
        layers = Layers(conv, normalisation, activation, dropout, border)
        lift = conv(in_channels, widths[0], implementation="lifting")
        require("conv.stride", lift.stride, lift.stride == 1, "1 in a U-Net, whose pools halve images")
        self.group, self.size = lift.group, sides_in(lift.group.space, size)
        self.border = Border(border)
        self.lifting = nn.Sequential(lift, layers.norm(widths[0]), layers.activate())
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(_level(*pair, layers) for pair in [(widths[0], widths[0]), *pairs])
        self.pools = nn.ModuleList(SpatialPool(pooling, pool_size) for _ in pairs)
        self.decoder = nn.ModuleList(_Up(coarse, fine, layers, pool_size) for fine, coarse in reversed(pairs))
        self.classify = nn.Linear(widths[0], classes)
        self._check_sizes()
        check_exact(self, self.size, exact)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n classes *space"]:
        """(n, c, *space) -> logits (n, classes, *space)."""
        return torch.einsum("n...k->nk...", self.classify(self.features(images).pixels().amax(-2)))

    def features(self, images: Float[Tensor, "n c *space"]) -> Field:
        """(n, c, *space) to the field before the maximum over elements is taken."""
        field = self.lifting(self.border(Field.of_images(images, self.group)))
        *levels, field = self._down(field)
        for up, skip in zip(self.decoder, reversed(levels), strict=True):
            field = up(field, skip)
        return field

    def _down(self, field: Field) -> list[Field]:
        """The fields of all levels, from the finest."""
        levels = [self.encoder[0](field)]
        for pool, level in zip(self.pools, self.encoder[1:], strict=True):
            levels.append(level(pool(levels[-1])))
        return levels

    def _check_sizes(self) -> None:
        """Raises ValueError unless up-sampling comes back to the pixels that each pool had, with whatever group."""
        if inexact(self, self.size):
            sizes = " and ".join(map(str, nearest_sizes(self, max(self.size))))
            raise ValueError(
                f"`size` must be halved exactly by each of {len(self.pools)} pools of a U-Net, but got "
                f"{' x '.join(map(str, self.size))}. Sizes that work: {sizes}; or use fewer widths, or net.pool_size=3 "
                "for odd sizes."
            )


class _Up(nn.Module):
    """Mix to fewer channels, up-sample, join with the skip, and a level."""

    def __init__(self, coarse: int, fine: int, layers: Layers, pool_size: int) -> None:
        super().__init__()
        self.reduce, self.norm = layers.conv(coarse, fine, kernel_size=1, padding=0), layers.norm(fine)
        self.upsample = Upsample(pool_size)
        self.level = _level(2 * fine, fine, layers)

    def forward(self, field: Field, skip: Field) -> Field:
        return self.level(joined(skip, self.upsample(self.norm(self.reduce(field, skip.elements)))))


def _level(before: int, after: int, layers: Layers) -> nn.Sequential:
    """A residual block, norm and activation."""
    return nn.Sequential(ResidualBlock(before, after, layers), layers.norm(after), layers.activate())
