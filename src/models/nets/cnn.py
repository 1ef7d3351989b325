"""Nets of stages with pools between them: plain ones, and those of several blocks of the literature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from src.models.blocks import BottleneckBlock, FireBlock, Head, PlainBlock, PreactivationBlock, ResidualBlock
from src.models.border import Border
from src.models.exactness import check_exact, pixels_after, sides_in
from src.models.field import Field, Pointwise
from src.models.gconv import GConv
from src.models.layers import Layers
from src.models.nets.resnet import widths_of
from src.models.pooling import POOLINGS, Invariants, SpatialPool
from src.require import require, require_choice, require_probability, require_whole

_BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "plain": PlainBlock,
    "residual": ResidualBlock,
    "bottleneck": BottleneckBlock,
    "preactivation": PreactivationBlock,
    "fire": FireBlock,
}
_NARROWED = ("bottleneck", "fire")


class CKGCNN(nn.Module):
    """Lifting, then stages of blocks with a pool between each two, invariants, and a head.

    By its widths and its block it is one of several nets: All-CNN-C of plain blocks, a wide residual net of
    `preactivation` ones, SqueezeNet of `fire` ones, the deep residual nets of `bottleneck` ones. With the trivial group
    each is the plain CNN that it is named after.

    Args:
        in_channels: of the images.
        classes: logits.
        size: of the images, (x), (y, x) or (z, y, x), or one number for all; every layer is checked against it.
        conv: makes a `GConv` from (in_channels, out_channels, **changes); a stride is that of each block.
        hidden_sizes: widths of the layers of each stage, or one number for a stage of one layer. The first layer lifts,
            each other one is a block.
        widen_factor: multiplies the widths.
        block: `plain`, `residual`, `bottleneck`, `preactivation` or `fire`.
        bottleneck_factor: by how many times fewer channels are inside of a bottleneck or fire block; none for the
            block's own.
        pointwise: how many of the last layers have kernels of one pixel.
        last_kernel_size: of a last convolution without padding; none for all pixels that are left, 0 for no such layer.
        normalisation, activation, dropout: see `Layers`.
        input_dropout: probability in [0, 1) of dropping a number of the image.
        stage_dropout: of dropping a number of what each further stage begins with.
        border: of the images and of every activation, `zeros` or `disc`; or `background`; see `Border`.
        pooling: between stages, `max`, `mean`, `blur` or `max_blur`, see `SpatialPool`; `stride`, of the first block of
            each further stage, which is exact at odd sizes; or `none`.
        pool_size: 2, or 3 for odd sizes.
        readout: how invariants are pooled, `max`, `mean` or `max_mean`; see `Invariants`.
        head: makes the head from (channels, classes, norm).
        exact: what to do where a layer is not exactly equivariant at this size: `require`, `warn` or `off`.

    Raises:
        ValueError: if an argument cannot be honoured.

    References:
        Striving for Simplicity: The All Convolutional Net (Springenberg et al., 2015), https://arxiv.org/abs/1412.6806
        Scale-Equivariant Steerable Networks (Sosnovik, Szmaja, Smeulders, 2020), https://arxiv.org/abs/1910.11093
        and those of the blocks.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from src.groups import SO2
        >>> conv = partial(GConv, group=SO2(), elements=[4], implementation="separable", kernel_size=3)
        >>> net = CKGCNN(1, 10, 28, conv, hidden_sizes=[[4, 4], [8, 8]], block="bottleneck")
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int | Sequence[int],
        conv: Callable[..., GConv],
        *,
        hidden_sizes: Sequence[int | Sequence[int]] = (32, 32, 64),
        widen_factor: float = 1,
        block: str = "plain",
        bottleneck_factor: int | None = None,
        pointwise: int = 0,
        last_kernel_size: int | None = 0,
        normalisation: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        stage_dropout: float = 0.0,
        border: str = "zeros",
        pooling: str = "max_blur",
        pool_size: int = 2,
        readout: str = "max_mean",
        head: Callable[..., nn.Module] = Head,
        exact: str = "warn",
    ) -> None:
        super().__init__()
        require_choice("block", block, tuple(_BLOCKS))
        require_choice("pooling", pooling, (*POOLINGS, "stride", "none"))
        require_probability(input_dropout=input_dropout, stage_dropout=stage_dropout)
        whole = bottleneck_factor is None or block in _NARROWED
        require("net.bottleneck_factor", bottleneck_factor, whole, f"null, as a {block} block has no bottleneck")
        stages = [widths_of([own] if isinstance(own, int) else own, widen_factor) for own in hidden_sizes]
        widths = widths_of([width for stage in stages for width in stage])
        first, last = widths[0], widths[-1]
        layers = Layers(conv, normalisation, activation, dropout, border)
        lift = conv(in_channels, first, implementation="lifting", stride=1)
        self.group = lift.group
        self.size = sides_in(lift.group.space, size)
        self.border, self.input_dropout = Border(border), nn.Dropout(input_dropout)
        self.lifting = nn.Sequential(lift)
        # A block that begins with these is not given them twice.
        closing = [layers.norm(last), layers.activate()] if block == "preactivation" else []
        if not closing:
            self.lifting.extend([layers.norm(first), layers.activate()])
        options = {} if bottleneck_factor is None else {"factor": bottleneck_factor}
        self.stages = nn.Sequential()
        for n, blocks in enumerate(_blocks(stages, layers, pointwise, pooling == "stride")):
            stage = nn.Sequential()
            if n and pooling in POOLINGS:
                stage.append(SpatialPool(pooling, pool_size))
            if n and stage_dropout:
                stage.append(Pointwise(nn.Dropout(stage_dropout)))
            stage.extend(_BLOCKS[block](*made, **options) for made in blocks)
            self.stages.append(stage)
        self.stages.extend(closing)
        left = pixels_after(self, self.size, padded=True)
        self.final = _final(last, layers, left, last_kernel_size)
        self.invariants = Invariants(readout)
        self.head = head(last, classes, layers.head_norm)
        check_exact(self, self.size, exact)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n classes"]:
        """(n, c, *space) -> logits (n, classes)."""
        return self.head(self.invariants(self.features(images)))

    def features(self, images: Float[Tensor, "n c *space"]) -> Field:
        """(n, c, *space) to the field before invariants are taken."""
        field = self.border(Field.of_images(self.input_dropout(images), self.group))
        return self.final(self.stages(self.lifting(field)))


def _blocks(
    stages: Sequence[Sequence[int]], layers: Layers, pointwise: int, strided: bool
) -> Iterator[list[tuple[int, int, Layers]]]:
    """What the blocks of each stage are made of: widths before and after, and layers."""
    widths = [width for stage in stages for width in stage]
    require_whole(**{"net.pointwise": pointwise})
    count = len(widths) - 1
    require("net.pointwise", pointwise, pointwise <= count, f"at most {count}, the layers after lifting")
    place = 0
    for n, stage in enumerate(stages):
        blocks = []
        for m, width in enumerate(stage):
            if place:
                changes = {"stride": 2} if strided and n and not m else {}
                changes |= {"kernel_size": 1, "padding": 0} if place > count - pointwise else {}
                own = replace(layers, conv=partial(layers.conv, **changes))
                blocks.append((widths[place - 1], width, own))
            place += 1
        yield blocks


def _final(channels: int, layers: Layers, left: int, kernel_size: int | None) -> nn.Sequential:
    """A convolution without padding on `left` pixels, with norm and activation; nothing if its kernel has none."""
    if kernel_size == 0:
        return nn.Sequential()
    size = left if kernel_size is None else kernel_size
    require_whole(**{"net.last_kernel_size": size})
    require("net.last_kernel_size", size, size <= left, f"at most {left}, the pixels that are left")
    own = partial(layers.conv, kernel_size=size, padding=0, stride=1)
    return PlainBlock(channels, channels, replace(layers, conv=own))
