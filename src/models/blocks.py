"""What nets are made of: residual blocks and the head, as maps from fields to fields and from invariants to logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from src.models.field import Field, joined
from src.models.gconv import GConv
from src.models.layers import Layers
from src.models.pooling import Subsample
from src.require import require, require_positive, require_probability, require_whole


class _SkippedBlock(nn.Module):
    """A main path, `_main`, plus a skip, sampled on the same elements.

    A skip that changes nothing makes the main path end on the elements of the input; one that must change channels or
    stride is a convolution of one tap, onto those of the main path.
    """

    skip: GConv | _SmoothSkip | None

    def forward(self, field: Field) -> Field:
        if self.skip is None:
            main, skip = self._main(field, field.elements), field
        else:
            main = self._main(field, None)
            skip = self.skip(field, main.elements)
        return Field(main.values + skip.values, main.elements)

    def _main(self, field: Field, elements: Tensor | None) -> Field:
        """The main path, onto the given elements or those that its last convolution draws."""
        raise NotImplementedError


class _SmoothSkip(nn.Module):
    """Smooth and subsample, then mix channels: one tap alone would take every s-th pixel, with all that is finer."""

    def __init__(self, smooth: Subsample, mix: GConv) -> None:
        super().__init__()
        self.smooth, self.mix = smooth, mix

    def forward(self, field: Field, elements: Tensor | None) -> Field:
        return self.mix(self.smooth(field), elements)


def _skip(
    in_channels: int, out_channels: int, layers: Layers, main: GConv, **changes: Any
) -> GConv | _SmoothSkip | None:
    """What a skip that must change something does: a convolution of one tap, at the stride of that of the main path."""
    if in_channels == out_channels and main.stride == 1:
        return None
    return _mixing(in_channels, out_channels, layers, main, **changes)


def _mixing(in_channels: int, out_channels: int, layers: Layers, main: GConv, **changes: Any) -> GConv | _SmoothSkip:
    """A convolution of one tap beside another one, at the stride of that."""
    stride = 1 if main.smooths else main.stride
    mix = layers.conv(in_channels, out_channels, kernel_size=1, padding=0, stride=stride, **changes)
    return _SmoothSkip(Subsample(main.stride), mix) if main.smooths else mix


def _check_size(conv: GConv, block: str) -> None:
    """Raises ValueError if a convolution's padding changes the image size."""
    if not conv.keeps_size:
        raise ValueError(
            f"`padding` of a {block} block must keep the image size, but got {conv.padding} for "
            f"kernel_size={conv.kernel_size}; leave conv.padding=null and use an odd kernel."
        )


class ResidualBlock(_SkippedBlock):
    """conv - norm - activation - conv - norm, plus a skip, then activation; the border is left to what follows.

    Args:
        in_channels: of the input field.
        out_channels: of the output field.
        layers: what it is made of; the first convolution has its stride.
        hidden: channels between the two convolutions; none for those of the input.

    Raises:
        ValueError: if the convolution's padding changes the image size.
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers, hidden: int | None = None) -> None:
        super().__init__()
        hidden = in_channels if hidden is None else hidden
        self.conv1 = layers.conv(in_channels, hidden)
        self.conv2 = layers.conv(hidden, out_channels, stride=1)
        _check_size(self.conv2, "residual")
        self.norm1, self.norm2 = layers.norm(hidden), layers.norm(out_channels)
        self.activate1, self.activate2 = layers.activate(), layers.activate(border=False)
        self.skip = _skip(in_channels, out_channels, layers, self.conv1)

    def forward(self, field: Field) -> Field:
        return self.activate2(super().forward(field))

    def _main(self, field: Field, elements: Tensor | None) -> Field:
        return self.norm2(self.conv2(self.activate1(self.norm1(self.conv1(field))), elements))


class TemporalBlock(ResidualBlock):
    """A residual block with an activation before the sum as well, as in temporal convolutional networks.

    Reference: An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling (Bai,
    Kolter, Koltun, 2018), https://arxiv.org/abs/1803.01271
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers, hidden: int | None = None) -> None:
        super().__init__(in_channels, out_channels, layers, hidden)
        self.activate_main = layers.activate()

    def _main(self, field: Field, elements: Tensor | None) -> Field:
        return self.activate_main(super()._main(field, elements))


class PaperBlock(TemporalBlock):
    """As in the paper's code: an activation before the sum as well, and a kernel half as wide in the skip."""

    def __init__(self, in_channels: int, out_channels: int, layers: Layers, hidden: int | None = None) -> None:
        super().__init__(in_channels, out_channels, layers, hidden)
        if self.skip is not None:
            kernel = layers.conv.keywords["kernel"]
            narrow = partial(kernel, hidden_size=kernel.keywords.get("hidden_size", 64) // 2)
            self.skip = _skip(in_channels, out_channels, layers, self.conv1, kernel=narrow)


class SeparableBlock(_SkippedBlock):
    """norm - conv - activation - mixing of channels - activation, plus a skip: the block of CCNN.

    Args:
        in_channels: of the input field.
        out_channels: of the output field.
        layers: what it is made of.

    Raises:
        ValueError: if the convolution's padding changes the image size.

    Reference: Towards a General Purpose CNN for Long Range Dependencies in ND (Romero, Knigge et al., 2022)
    https://arxiv.org/abs/2206.03398
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers) -> None:
        super().__init__()
        self.norm, self.conv = layers.norm(in_channels), layers.conv(in_channels, out_channels)
        _check_size(self.conv, "separable")
        self.mixing = layers.conv(out_channels, out_channels, kernel_size=1, padding=0, stride=1)
        self.activate1, self.activate2 = layers.activate(), layers.activate(border=False)
        self.skip = _skip(in_channels, out_channels, layers, self.conv)

    def _main(self, field: Field, elements: Tensor | None) -> Field:
        return self.activate2(self.mixing(self.activate1(self.conv(self.norm(field))), elements))


class PlainBlock(nn.Sequential):
    """conv - norm - activation.

    Args:
        in_channels: of the input field.
        out_channels: of the output field.
        layers: what it is made of.
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers) -> None:
        super().__init__(layers.conv(in_channels, out_channels), layers.norm(out_channels), layers.activate())


class BottleneckBlock(_SkippedBlock):
    """Mixing of channels to fewer - conv - mixing to more, each with a norm, plus a skip, then activation.

    Args:
        in_channels: of the input field.
        out_channels: of the output field.
        layers: what it is made of; the convolution between the mixings has its stride.
        factor: by how many times fewer channels are between the mixings.

    Raises:
        ValueError: if the convolution's padding changes the image size.

    Reference: Deep Residual Learning for Image Recognition (He et al., 2016), https://arxiv.org/abs/1512.03385
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers, factor: int = 4) -> None:
        super().__init__()
        require_positive(**{"net.bottleneck_factor": factor})
        hidden, one = max(1, out_channels // factor), {"kernel_size": 1, "padding": 0, "stride": 1}
        self.reduce, self.norm1 = layers.conv(in_channels, hidden, **one), layers.norm(hidden)
        self.conv, self.norm2 = layers.conv(hidden, hidden), layers.norm(hidden)
        _check_size(self.conv, "bottleneck")
        self.expand, self.norm3 = layers.conv(hidden, out_channels, **one), layers.norm(out_channels)
        self.activate1, self.activate2, self.activate3 = (layers.activate() for _ in range(3))
        self.skip = _skip(in_channels, out_channels, layers, self.conv)

    def forward(self, field: Field) -> Field:
        return self.activate3(super().forward(field))

    def _main(self, field: Field, elements: Tensor | None) -> Field:
        field = self.activate1(self.norm1(self.reduce(field)))
        field = self.activate2(self.norm2(self.conv(field)))
        return self.norm3(self.expand(field, elements))


class PreactivationBlock(_SkippedBlock):
    """norm - activation - conv - norm - activation - conv, plus a skip: the block of wide residual nets.

    Args:
        in_channels: of the input field.
        out_channels: of the output field.
        layers: what it is made of; the first convolution has its stride, and dropout is before the second.

    Raises:
        ValueError: if the convolution's padding changes the image size.

    Reference: Identity Mappings in Deep Residual Networks (He et al., 2016), https://arxiv.org/abs/1603.05027; Wide
    Residual Networks (Zagoruyko, Komodakis, 2016), https://arxiv.org/abs/1605.07146
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers) -> None:
        super().__init__()
        self.norm1, self.norm2 = layers.norm(in_channels), layers.norm(out_channels)
        self.activate1, self.activate2 = replace(layers, dropout=0.0).activate(), layers.activate()
        self.conv1 = layers.conv(in_channels, out_channels)
        self.conv2 = layers.conv(out_channels, out_channels, stride=1)
        _check_size(self.conv2, "preactivation")
        self.skip = _skip(in_channels, out_channels, layers, self.conv1)

    def _main(self, field: Field, elements: Tensor | None) -> Field:
        field = self.conv1(self.activate1(self.norm1(field)))
        return self.conv2(self.activate2(self.norm2(field)), elements)


class FireBlock(nn.Module):
    """A mixing to few channels - activation - a mixing beside a conv, half of the channels each - norm - activation.

    Args:
        in_channels: of the input field.
        out_channels: of the output field, two or more.
        layers: what it is made of; what is after the activation has its stride.
        factor: by how many times fewer channels are squeezed in between.

    Raises:
        ValueError: if the convolution's padding changes the image size, or if there is one output channel.

    Reference: SqueezeNet (Iandola et al., 2016), https://arxiv.org/abs/1602.07360
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers, factor: int = 8) -> None:
        super().__init__()
        require_positive(**{"net.bottleneck_factor": factor})
        require("net.hidden_sizes", out_channels, out_channels > 1, "at least 2 in each fire block")
        squeezed, half = max(1, out_channels // factor), out_channels // 2
        mix = partial(layers.conv, kernel_size=1, padding=0, stride=1)
        self.squeeze = PlainBlock(in_channels, squeezed, replace(layers, conv=mix))
        self.conv = layers.conv(squeezed, out_channels - half)
        _check_size(self.conv, "fire")
        self.skip = _mixing(squeezed, half, layers, self.conv)
        self.norm, self.activate = layers.norm(out_channels), layers.activate()

    def forward(self, field: Field) -> Field:
        squeezed = self.squeeze(field)
        wide = self.conv(squeezed)
        return self.activate(self.norm(joined(self.skip(squeezed, wide.elements), wide)))


class Head(nn.Sequential):
    """Invariants (n, channels) to logits (n, classes): linear - norm - ReLU - dropout - linear; or linear alone.

    Args:
        channels: invariants.
        classes: logits.
        norm: makes the norm of the hidden layer.
        hidden: its width; 0 for none.
        dropout: probability in [0, 1), of the hidden layer.
    """

    def __init__(
        self, channels: int, classes: int, norm: Callable[[int], nn.Module], hidden: int = 256, dropout: float = 0.3
    ) -> None:
        require_probability(dropout=dropout)
        require_whole(**{"net.head.hidden": hidden})
        if not hidden:
            super().__init__(nn.Linear(channels, classes))
            return
        first = nn.Linear(channels, hidden, bias=False)
        super().__init__(first, norm(hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))
