"""Residual nets that normalise before they convolve, in stages of equal widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from src.models.blocks import Head, PreactivationBlock
from src.models.exactness import check_exact, sides_in
from src.models.field import Field
from src.models.gconv import GConv
from src.models.layers import Layers
from src.models.pooling import POOLINGS, ElementFeatures, Invariants, SpatialPool
from src.require import require, require_choice, require_positive


class PreActivationResNet(nn.Module):
    """Lifting, stages of pre-activation blocks, norm, activation, a readout and a head.

    Every stage but the first begins with half of the pixels: by a stride of its first convolution, `conv.stride`, or by
    a pool before it. With 3 x 3 kernels, strides are exact for odd sizes, and pools of 2 x 2 for even ones.

    Args:
        in_channels: of the images.
        classes: logits.
        size: of the images, (x), (y, x) or (z, y, x), or one number for all.
        conv: makes a `GConv` from (in_channels, out_channels, **changes); a stride is that of stages after the first.
        hidden_sizes: width of each stage.
        blocks: in each stage.
        pooling: `max`, `mean`, `blur` or `max_blur` before stages after the first, see `SpatialPool`; or `none`.
        pool_size: 2, or 3 for odd sizes.
        normalisation, activation, dropout: see `Layers`; dropout is before the second convolution of a block.
        readout: how invariants are pooled, `max`, `mean` or `max_mean`, see `Invariants`; or `elements`, the mean over
            pixels of each element by itself, which is no invariant.
        head: makes the head from (features, classes, norm).
        exact: what to do where a layer is not exactly equivariant at this size: `require`, `warn` or `off`. With
            `require`, the readout must be an invariant.

    Raises:
        ValueError: if an argument cannot be honoured.

    References:
        Identity Mappings in Deep Residual Networks (He et al., 2016), https://arxiv.org/abs/1603.05027
        Group Equivariant Convolutional Networks (Cohen, Welling, 2016), section 8.2, https://arxiv.org/abs/1602.07576

    Example:
        >>> import torch
        >>> from src.groups import SO2
        >>> conv = partial(GConv, group=SO2(), elements=[4], implementation="nonseparable", kernel_size=3)
        >>> net = PreActivationResNet(3, 10, 16, conv, hidden_sizes=[4, 8], blocks=2, pooling="mean")
        >>> net(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int | Sequence[int],
        conv: Callable[..., GConv],
        *,
        hidden_sizes: Sequence[int] = (11, 23, 45),
        blocks: int = 7,
        pooling: str = "none",
        pool_size: int = 2,
        normalisation: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        readout: str = "mean",
        head: Callable[..., nn.Module] = Head,
        exact: str = "warn",
    ) -> None:
        super().__init__()
        require("net.hidden_sizes", list(hidden_sizes), len(hidden_sizes) > 0, "one or more widths")
        require_positive(**{"net.blocks": blocks})
        require_choice("pooling", pooling, (*POOLINGS, "none"))
        by_element = readout == "elements"
        require("readout", readout, not by_element or exact != "require", "an invariant with net.exact=require")
        layers, first = Layers(conv, normalisation, activation, dropout), hidden_sizes[0]
        same = replace(layers, conv=partial(conv, stride=1))
        self.lifting = same.conv(in_channels, first, implementation="lifting")
        self.group = self.lifting.group
        self.size = sides_in(self.group.space, size)
        self.stages = nn.Sequential()
        for n, (before, after) in enumerate(zip([first, *hidden_sizes], hidden_sizes, strict=False)):
            pools = [SpatialPool(pooling, pool_size)] if n and pooling != "none" else []
            begin = PreactivationBlock(before, after, layers if n else same)
            rest = [PreactivationBlock(after, after, same) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*pools, begin, *rest))
        last = hidden_sizes[-1]
        self.norm, self.activate = layers.norm(last), replace(layers, dropout=0.0).activate()
        self.readout = ElementFeatures() if by_element else Invariants(readout)
        features = last * len(self.lifting.kernel.grid) if by_element else last
        self.head = head(features, classes, layers.head_norm)
        check_exact(self, self.size, exact)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n classes"]:
        """(n, c, *space) -> logits (n, classes)."""
        return self.head(self.readout(self.features(images)))

    def features(self, images: Float[Tensor, "n c *space"]) -> Field:
        """(n, c, *space) to the field before the readout."""
        return self.activate(self.norm(self.stages(self.lifting(Field.of_images(images, self.group)))))
