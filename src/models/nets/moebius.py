"""Nets of scalar, sign-flip and regular fields, for images on a Möbius strip."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from src.models.blocks import Head
from src.models.exactness import check_exact, sides_in
from src.models.field import Field
from src.models.field_types import FieldTypes, Projection, TypedConv
from src.models.gconv import GConv
from src.models.layers import Layers
from src.models.pooling import Invariants, SpatialPool
from src.require import require, require_choice, require_positive, require_whole


class MoebiusNet(nn.Module):
    """Convolutions to fields of some types, with pools between them, a last one to scalar fields, and a head.

    With `conv.boundary=moebius` images lie on a strip, and logits do not change when they are shifted along it by a
    multiple of all pools together, twice around: once around is a reflection. Over the trivial group, whose fields are
    all regular, it is a plain CNN.

    Args:
        in_channels: of the images, scalar fields.
        classes: logits.
        size: of the images, (y, x) or one number for both; x is along the strip.
        conv: makes a `GConv` from (in_channels, out_channels, **changes), of a group of one or two elements.
        fields: scalar, sign-flip and regular fields, of which each layer has a multiple.
        hidden_sizes: the multiples, one for each layer but the last.
        last: scalar fields of the last layer.
        pool_every: a pool comes after so many layers, each time, but the last; 0 for none.
        pooling: `max` or `mean`, over 2 x 2 pixels; of sign-flip fields a maximum is the mean of the largest and the
            smallest.
        normalisation: `none`, `batch`, `instance` or `layer`; see `Layers`.
        activation: `elu`, `relu` or `gelu`; see `Layers`.
        readout: how invariants are pooled, `max`, `mean` or `max_mean`; see `Invariants`.
        head: makes the head from (channels, classes, norm); its hidden layer has batch norm if fields have none.
        exact: what to do where a layer is not exactly equivariant at this size: `require`, `warn` or `off`.

    Raises:
        ValueError: if an argument cannot be honoured.

    Reference: Coordinate Independent Convolutional Networks (Weiler, Forré, Verlinde, Welling, 2021), chapter 5
    https://arxiv.org/abs/2106.06020

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from src.groups import Reflection
        >>> conv = partial(GConv, group=Reflection(), elements=[2], implementation="nonseparable", kernel_size=5)
        >>> net = MoebiusNet(1, 10, 28, partial(conv, boundary="moebius"), fields=(1, 1, 1), hidden_sizes=(2, 4))
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
        fields: Sequence[int] = (0, 0, 8),
        hidden_sizes: Sequence[int] = (1, 2, 4, 8, 16),
        last: int = 64,
        pool_every: int = 2,
        pooling: str = "max",
        normalisation: str = "none",
        activation: str = "elu",
        readout: str = "max",
        head: Callable[..., nn.Module] = Head,
        exact: str = "require",
    ) -> None:
        super().__init__()
        whole = len(fields) == 3 and all(type(n) is int and n >= 0 for n in fields) and sum(fields) > 0
        require("net.fields", list(fields), whole, "three whole numbers, of scalar, sign-flip and regular fields")
        require_positive(**{"net.last": last}, **{f"net.hidden_sizes[{n}]": m for n, m in enumerate(hidden_sizes)})
        require_whole(**{"net.pool_every": pool_every})
        require_choice("pooling", pooling, ("max", "mean"))
        layers = Layers(conv, normalisation, activation)
        made = [FieldTypes(*fields).times(n) for n in hidden_sizes]
        lift = conv(in_channels, sum((made or [FieldTypes(last, 0, 0)])[0]), implementation="lifting")
        self.group = lift.group
        _check_elements(lift, FieldTypes(*fields))
        self.size = sides_in(self.group.space, size)
        self.layers, channels = nn.Sequential(), in_channels
        final = FieldTypes(last, 0, 0) if len(lift.kernel.grid) > 1 else FieldTypes(0, 0, last)
        for n, types in enumerate([*made, final]):
            own = lift if n == 0 else conv(channels, sum(types))
            channels = sum(types)
            layer = [TypedConv(own, types), layers.norm(channels), layers.activate()]
            if n < len(made) and pool_every and n % pool_every == pool_every - 1:
                layer.append(SpatialPool(pooling))
            self.layers.append(nn.Sequential(*layer, Projection(types)))
        self.invariants = Invariants(readout)
        head_layers = layers if normalisation != "none" else Layers(conv, "batch")
        self.head = head(last, classes, head_layers.head_norm)
        check_exact(self, self.size, exact)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n classes"]:
        """(n, c, *space) -> logits (n, classes)."""
        return self.head(self.invariants(self.features(images)))

    def features(self, images: Float[Tensor, "n c *space"]) -> Field:
        """(n, c, *space) to the field before invariants are taken."""
        return self.layers(Field.of_images(images, self.group))


def _check_elements(conv: GConv, fields: FieldTypes) -> None:
    """Raises ValueError if the group has more elements than fields have types for, or fewer."""
    elements = len(conv.kernel.grid)
    if elements > 2 or (elements == 1 and fields.scalar + fields.sign_flip):
        raise ValueError(
            "`net.fields` are of a group of two elements, or of one, on which all are regular, but got "
            f"{list(fields)} and {elements} element(s) of {conv.group}; use group=reflection, or group=r2 with "
            "net.fields=[0,0,1]."
        )
