"""The layers that all blocks of a net share: norms, activations, dropout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from src.models.border import Border
from src.models.field import Field, Pointwise
from src.models.gconv import GConv
from src.require import require_choice, require_probability

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


class _InstanceNorm(nn.InstanceNorm1d):
    """PyTorch's, over all elements and pixels."""

    def forward(self, values: Float[Tensor, "n c *rest"]) -> Float[Tensor, "n c *rest"]:
        """(n, c, ...) -> (n, c, ...)."""
        return super().forward(values.flatten(2)).view_as(values)


# Statistics over all elements and pixels are the same for a turned or scaled field, so every norm is equivariant.
_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": BatchNorm,
    "instance": lambda channels: Pointwise(_InstanceNorm(channels, affine=True)),
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
        border: of activations; see `Border`. A background is taken from images alone: what lies at the border of a deep
            layer is none, as all of the image has reached it.

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
        if border and self.border not in ("zeros", "background"):
            layers.append(Border(self.border))
        return nn.Sequential(*layers) if len(layers) > 1 else layers[0]
