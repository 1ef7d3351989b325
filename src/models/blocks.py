"""What nets are made of: norms, pools, the residual block and the head, all as maps from fields to fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import comb

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from src.models.border import Border
from src.models.field import Field, Pointwise
from src.models.gconv import GConv
from src.require import require_choice, require_probability

POOLINGS = ("max", "mean", "blur", "max_blur")
_ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}


class _BatchNorm1d(nn.BatchNorm1d):
    """PyTorch's, which can take its statistics over the samples of all processes that share a batch.

    Unlike `torch.nn.SyncBatchNorm` it does so on CPUs as well.
    """

    shared = False
    """Whether statistics are those of all processes together."""

    def forward(self, features: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """(n, c) -> (n, c)."""
        if not (self.shared and self.training and dist.is_initialized()):
            return super().forward(features)
        count = all_reduce(features.new_tensor(float(len(features))))
        mean = all_reduce(features.sum(0)) / count
        centred = features - mean
        variance = all_reduce(centred.square().sum(0)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return centred * (variance + self.eps).rsqrt() * self.weight + self.bias


def share_statistics(net: nn.Module) -> None:
    """Let every batch norm of a net take its statistics over all processes."""
    for module in net.modules():
        if isinstance(module, _BatchNorm1d):
            module.shared = True


class BatchNorm(nn.Module):
    """Batch norm per channel over samples, elements and pixels, as a matrix (pixels, channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _BatchNorm1d(channels)

    def forward(self, field: Field) -> Field:
        pixels = field.pixels()
        return Field.from_pixels(self.norm(pixels.flatten(0, -2)).view_as(pixels), field.elements)


# Statistics over all elements and pixels are the same for a turned or scaled field, so every norm is equivariant.
_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": BatchNorm,
    "instance": lambda channels: Pointwise(nn.InstanceNorm3d(channels, affine=True)),
    "layer": lambda channels: Pointwise(nn.GroupNorm(1, channels)),
    "none": lambda _: nn.Identity(),
}
_HEAD_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": _BatchNorm1d,
    "instance": nn.LayerNorm,
    "layer": nn.LayerNorm,
    "none": lambda _: nn.Identity(),
}


@dataclass(frozen=True)
class Layers:
    """The layers that a net chooses once and all its blocks share.

    Args:
        conv: makes a `GConv` from (in_channels, out_channels, **changes); everything else is bound.
        normalisation: `batch`, `instance` (per sample and channel), `layer` (per sample) or `none`.
        activation: `relu`, `elu` or `gelu`.
        dropout: probability in [0, 1).
        border: of activations, `zeros` or `disc`; see `Border`.

    Raises:
        ValueError: if one of them is none of these.
    """

    conv: Callable[..., GConv]
    normalisation: str = "batch"
    activation: str = "relu"
    dropout: float = 0.0
    border: str = "zeros"

    def __post_init__(self) -> None:
        require_choice("normalisation", self.normalisation, tuple(_NORMS))
        require_choice("activation", self.activation, tuple(_ACTIVATIONS))
        require_probability(dropout=self.dropout)

    def norm(self, channels: int) -> nn.Module:
        """Of a field."""
        return _NORMS[self.normalisation](channels)

    def head_norm(self, features: int) -> nn.Module:
        """Of invariants (n, features); per sample where fields are normalised per sample."""
        return _HEAD_NORMS[self.normalisation](features)

    def activate(self, border: bool = True) -> nn.Module:
        """Activation, then dropout if any, and the border unless a later layer has it, before the next convolution."""
        layers: list[nn.Module] = [Pointwise(_ACTIVATIONS[self.activation]())]
        if self.dropout:
            layers.append(Pointwise(nn.Dropout(self.dropout)))
        if border and self.border != "zeros":
            layers.append(Border(self.border))
        return nn.Sequential(*layers) if len(layers) > 1 else layers[0]


class SpatialPool(nn.Module):
    """Halve the image: over 2 x 2 pixels for even sizes, or over 3 x 3 with a border for odd ones.

    A maximum or mean of few pixels leaves what is finer than the halved image can hold, and that does not turn with an
    image, save by quarter turns. The binomial filter takes it out first: 4 x 4 for even sizes, 5 x 5 for odd ones, and
    3 x 3 after a maximum.

    Args:
        kind: `max`; `mean`; `blur`, the binomial filter alone; or `max_blur`, of the maxima at every pixel.
        kernel_size: 2 or 3.

    Reference: Making Convolutional Networks Shift-Invariant Again (Zhang, 2019), https://arxiv.org/abs/1904.11486
    """

    stride = 2

    def __init__(self, kind: str = "max", kernel_size: int = 2) -> None:
        super().__init__()
        require_choice("pooling", kind, POOLINGS)
        require_choice("pool_size", kernel_size, (2, 3))
        self.kind, self.kernel_size, self.padding = kind, kernel_size, kernel_size - 2

    def extra_repr(self) -> str:
        return f"{self.kind}, {self.kernel_size}"

    def forward(self, field: Field) -> Field:
        if min(field.values.shape[-2:]) < 2:
            raise ValueError(
                f"`pooling` needs 2 x 2 pixels or more, but got {tuple(field.values.shape[-2:])}; pool less."
            )
        return field.with_planes(self._pool(field.planes()))

    def _pool(self, planes: Tensor) -> Tensor:
        """(n, k, y, x) -> (n, k, y', x')."""
        size, stride, padding = self.kernel_size, self.stride, self.padding
        if self.kind == "mean":
            return F.avg_pool2d(planes, size, stride, padding, count_include_pad=False)
        if self.kind == "max":
            return F.max_pool2d(planes, size, stride, padding)
        if self.kind == "blur":
            return _binomial(planes, size + 2)
        # Maxima of 2 x 2 pixels lie between them, and are an odd number where pixels are an even one.
        return _binomial(F.max_pool2d(planes, size, 1, padding), 3)


def _binomial(planes: Tensor, size: int) -> Tensor:
    """Every second pixel of planes (n, k, y, x), smoothed by the binomial filter; beyond the border is nothing."""
    line = planes.new_tensor([comb(size - 1, n) for n in range(size)])
    weight = torch.outer(line, line).expand(planes.shape[1], 1, size, size)
    geometry = {"stride": 2, "padding": (size - 1) // 2}
    inside = F.conv2d(torch.ones_like(planes[:1, :1]), weight[:1], **geometry)
    return F.conv2d(planes, weight, groups=len(weight), **geometry) / inside


class ResidualBlock(nn.Module):
    """conv - norm - activation - conv - norm, plus a skip, then activation; the border is left to what follows.

    Main path and skip are sampled on the same elements. A skip that changes nothing makes the main path end on the
    elements of the input; one that must change channels or stride is a 1x1 convolution onto those of the main path.

    Args:
        in_channels: of the input field.
        out_channels: of the output field.
        layers: what it is made of; the first convolution has its stride.

    Raises:
        ValueError: if the convolution's padding changes the image size.
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers) -> None:
        super().__init__()
        self.conv1 = layers.conv(in_channels, in_channels)
        self.conv2 = layers.conv(in_channels, out_channels, stride=1)
        if 2 * self.conv2.padding != self.conv2.kernel_size - 1:
            raise ValueError(
                f"`padding` of a residual block must keep the image size, but got {self.conv2.padding} for "
                f"kernel_size={self.conv2.kernel_size}; leave conv.padding=null and use an odd kernel."
            )
        self.norm1, self.norm2 = layers.norm(in_channels), layers.norm(out_channels)
        self.activate1, self.activate2 = layers.activate(), layers.activate(border=False)
        stride = self.conv1.stride
        changes = in_channels != out_channels or stride != 1
        self.skip = layers.conv(in_channels, out_channels, kernel_size=1, padding=0, stride=stride) if changes else None

    def forward(self, field: Field) -> Field:
        if self.skip is None:
            main, skip = self._main(field, field.elements), field
        else:
            main = self._main(field, None)
            skip = self.skip(field, main.elements)
        return self.activate2(Field(main.values + skip.values, main.elements))

    def _main(self, field: Field, elements: Tensor | None) -> Field:
        """The main path, onto the given elements or those that its last convolution draws."""
        return self.norm2(self.conv2(self.activate1(self.norm1(self.conv1(field))), elements))


class PaperBlock(ResidualBlock):
    """As in the paper's code: an activation before the sum as well, and a kernel half as wide in the skip."""

    def __init__(self, in_channels: int, out_channels: int, layers: Layers) -> None:
        super().__init__(in_channels, out_channels, layers)
        self.activate_main = layers.activate()
        if self.skip is not None:
            kernel = layers.conv.keywords["kernel"]
            narrow = partial(kernel, hidden_size=kernel.keywords.get("hidden_size", 64) // 2)
            size = {"kernel_size": 1, "padding": 0, "stride": self.skip.stride}
            self.skip = layers.conv(in_channels, out_channels, kernel=narrow, **size)

    def _main(self, field: Field, elements: Tensor | None) -> Field:
        return self.activate_main(super()._main(field, elements))


class Head(nn.Sequential):
    """Invariants (n, channels) to logits (n, classes): linear - norm - ReLU - dropout - linear.

    Args:
        channels: invariants.
        classes: logits.
        norm: makes the norm of the hidden layer.
        hidden: its width.
        dropout: probability in [0, 1).
    """

    def __init__(
        self, channels: int, classes: int, norm: Callable[[int], nn.Module], hidden: int = 256, dropout: float = 0.3
    ) -> None:
        require_probability(dropout=dropout)
        first = nn.Linear(channels, hidden, bias=False)
        super().__init__(first, norm(hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes))


class Invariants(nn.Module):
    """Pool over elements and pixels: (n, c, b, y, x) to (n, c).

    Args:
        kind: `max` or `mean` over both; or `max_mean`, the mean over pixels of the maximum over elements: elements
            are few and mean something on their own, whereas the largest pixel is another one between the quarter turns.
    """

    def __init__(self, kind: str = "max") -> None:
        super().__init__()
        require_choice("readout", kind, ("max", "mean", "max_mean"))
        self.kind = kind

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, field: Field) -> Float[Tensor, "n c"]:
        pixels = field.pixels()
        if self.kind == "max_mean":
            return pixels.amax(-2).flatten(1, 2).mean(1)
        pool = torch.amax if self.kind == "max" else torch.mean
        return pool(pixels.flatten(1, -2), 1)
