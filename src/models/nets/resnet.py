"""The residual net of the paper's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from src.models.blocks import Head, PaperBlock, ResidualBlock
from src.models.border import Border
from src.models.exactness import check_exact, pixels_after, sides_in
from src.models.field import Field
from src.models.gconv import GConv
from src.models.layers import Layers
from src.models.pooling import POOLINGS, Invariants, SpatialPool
from src.require import require_choice, require_positive

_BLOCKS = {"residual": ResidualBlock, "paper": PaperBlock}


class CKGResNet(nn.Module):
    """Lifting, then residual blocks each followed by a pool, a last convolution, invariants, and a head.

    The first width is that of lifting; every further one is a stage: a residual block to that width, norm, spatial
    pool, activation. The last convolution has no padding and an odd kernel of at most 11 pixels, as the image has left.
    With the trivial group it is a plain CNN.

    Args:
        in_channels: of the images.
        classes: logits.
        size: of the images, (x), (y, x) or (z, y, x), or one number for all; every layer is checked against it.
        conv: makes a `GConv` from (in_channels, out_channels, **changes); a stride is that of each block.
        hidden_sizes: widths, one more than stages.
        widen_factor: multiplies the widths.
        normalisation: see `Layers`.
        activation: see `Layers`.
        dropout: in the blocks; see `Layers`.
        block: `residual`, or `paper` for that of its code.
        border: of the images and of every activation, `zeros` or `disc`; or `background`, taken from images, with zeros
            around activations; see `Border`.
        pooling: `max`, `mean`, `blur`, `max_blur` or `none`; see `SpatialPool`.
        pool_size: 2, or 3 for odd sizes.
        last_kernel_size: pixels that the last kernel has at least, if the image has them left; the paper's code has 3.
            At 3, kernels at even and odd multiples of 45 degrees share no pixel but the centre.
        readout: how invariants are pooled, `max`, `mean` or `max_mean`; see `Invariants`.
        head: makes the head from (channels, classes, norm).
        exact: what to do where a layer is not exactly equivariant at this size: `require`, `warn` or `off`.

    Raises:
        ValueError: if an argument cannot be honoured.

    Reference:
        Exploiting Redundancy: Separable Group Convolutional Networks on Lie Groups (Knigge, Romero, Bekkers, 2022)
        https://arxiv.org/abs/2110.13059

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from src.groups import SO2
        >>> conv = partial(GConv, group=SO2(), elements=[4], implementation="separable", kernel_size=5)
        >>> CKGResNet(1, 10, 28, conv, hidden_sizes=[4, 8])(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int | Sequence[int],
        conv: Callable[..., GConv],
        *,
        hidden_sizes: Sequence[int] = (32, 32, 64),
        widen_factor: float = 1,
        normalisation: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        block: str = "residual",
        border: str = "zeros",
        pooling: str = "max",
        pool_size: int = 2,
        last_kernel_size: int = 3,
        readout: str = "max",
        head: Callable[..., nn.Module] = Head,
        exact: str = "warn",
    ) -> None:
        super().__init__()
        require_positive(last_kernel_size=last_kernel_size)
        require_choice("block", block, tuple(_BLOCKS))
        require_choice("pooling", pooling, (*POOLINGS, "none"))
        first, *rest = widths_of(hidden_sizes, widen_factor)
        layers = Layers(conv, normalisation, activation, dropout, border)
        self.border = Border(border)
        lift = conv(in_channels, first, implementation="lifting", stride=1)
        self.group = lift.group
        self.size = sides_in(lift.group.space, size)
        self.lifting = nn.Sequential(lift, layers.norm(first), layers.activate())
        pools = [nn.Identity() if pooling == "none" else SpatialPool(pooling, pool_size) for _ in rest]
        self.stages = nn.Sequential()
        for before, after, pool in zip([first, *rest], rest, pools, strict=False):
            made = _BLOCKS[block](before, after, layers)
            self.stages.append(nn.Sequential(made, layers.norm(after), pool, layers.activate()))
        last = rest[-1] if rest else first
        left = pixels_after(self, self.size)
        kernel_size = _last_kernel_size(left, lift.kernel_size, last_kernel_size)
        final = conv(last, last, kernel_size=kernel_size, padding=0, stride=1)
        self.final = nn.Sequential(final, layers.norm(last), layers.activate())
        self.invariants = Invariants(readout)
        self.head = head(last, classes, layers.head_norm)
        check_exact(self, self.size, exact)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n classes"]:
        """(n, c, *space) -> logits (n, classes)."""
        return self.head(self.invariants(self.features(images)))

    def features(self, images: Float[Tensor, "n c *space"]) -> Field:
        """(n, c, *space) to the field before invariants are taken."""
        return self.final(self.stages(self.lifting(self.border(Field.of_images(images, self.group)))))


def widths_of(hidden_sizes: Sequence[int], widen_factor: float = 1) -> list[int]:
    """Hidden sizes times the factor; raises ValueError unless they come out as positive integers."""
    widened = [size * widen_factor for size in hidden_sizes]
    if not widened or any(width < 1 or width != int(width) for width in widened):
        raise ValueError(
            "`hidden_sizes` times `widen_factor` must be one or more positive integers, but got "
            f"{list(hidden_sizes)} times {widen_factor}."
        )
    return [int(width) for width in widened]


def _last_kernel_size(pixels: int, kernel_size: int, least: int) -> int:
    """What the paper's code takes, clip(pixels - kernel_size, least, 11), made odd and no larger than the image."""
    size = min(max(pixels - kernel_size, least), 11, pixels)
    return size if size % 2 else size - 1
