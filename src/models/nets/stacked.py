"""Convolutions one after the other, on a group or from depth to depth on less of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from src.groups import Group
from src.models.exactness import check_exact, sides_in
from src.models.field import Field
from src.models.gconv import GConv
from src.models.layers import Layers
from src.models.pooling import Invariants, SpatialPool
from src.models.subgroups import SubgroupPool
from src.require import require, require_probability


class StackedNet(nn.Module):
    """Convolutions with norm and activation, a last one whose channels are the classes, and invariants: no head.

    P4CNN, Z2CNN and P4CNNRotationPooling are settings of it. Later layers can be equivariant to less than the first
    ones: where `subgroups` get smaller, the field is restricted to the subgroup, or pooled to it.

    Args:
        in_channels: of the images.
        classes: channels of the last convolution.
        size: of the images, (x), (y, x) or (z, y, x), or one number for all.
        conv: makes a `GConv` from (in_channels, out_channels, **changes), with what all layers share.
        hidden_sizes: width of each layer but the last.
        last_kernel_size: of the last layer; none for that of the others.
        pool_after: the layers, from 1, that a spatial pool follows.
        pooling: `max`, `mean`, `blur` or `max_blur`; see `SpatialPool`.
        pool_size: 2, or 3 for odd sizes.
        pool_elements: take the maximum over elements after every layer, so that the next one sees an image, and lifts
            it anew. Asks for `implementation` lifting, or a formula of your own without `h`.
        subgroups: how many elements each layer has, the last included, as for `conv.elements`; none for those always.
        restriction: how a field comes to the next subgroup: `stack`, with all that it has, `max` or `mean`.
        normalisation, activation: see `Layers`.
        dropout: probability in [0, 1).
        dropout_after: the layers, from 1, that dropout follows; none for all but the last.
        readout: how invariants are pooled, `max`, `mean` or `max_mean`; see `Invariants`.
        exact: what to do where a layer is not exactly equivariant at this size: `require`, `warn` or `off`.

    Raises:
        ValueError: if an argument cannot be honoured.

    Reference: Group Equivariant Convolutional Networks (Cohen, Welling, 2016), section 8.1
    https://arxiv.org/abs/1602.07576

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from src.groups import O2
        >>> conv = partial(GConv, group=O2(), elements=[4, 2], implementation="nonseparable", kernel_size=3)
        >>> net = StackedNet(1, 10, 12, conv, hidden_sizes=[4, 4], subgroups=[[4, 2], [4, 1], [1, 1]])
        >>> net(torch.zeros(2, 1, 12, 12)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int | Sequence[int],
        conv: Callable[..., GConv],
        *,
        hidden_sizes: Sequence[int] = (10, 10, 10, 10, 10, 10),
        last_kernel_size: int | None = None,
        pool_after: Sequence[int] = (),
        pooling: str = "max",
        pool_size: int = 2,
        pool_elements: bool = False,
        subgroups: Sequence[Sequence[int]] | None = None,
        restriction: str = "stack",
        normalisation: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        dropout_after: Sequence[int] | None = None,
        readout: str = "max",
        exact: str = "warn",
    ) -> None:
        super().__init__()
        require("net.hidden_sizes", list(hidden_sizes), len(hidden_sizes) > 0, "one or more widths")
        require_probability(dropout=dropout)
        depth, everywhere = len(hidden_sizes), range(1, len(hidden_sizes) + 1)
        dropout_after = everywhere if dropout_after is None else dropout_after
        for name, chosen in {"pool_after": pool_after, "dropout_after": dropout_after}.items():
            require(f"net.{name}", list(chosen), set(chosen) <= {*everywhere}, f"layers from 1 to {depth}")
        many = subgroups is None or len(subgroups) == depth + 1
        require("net.subgroups", subgroups, many, f"none, or {depth + 1} lists, one for each layer and the last")
        require("net.pool_elements", pool_elements, not pool_elements or subgroups is None, "false with net.subgroups")
        own = {} if subgroups is None else {"elements": subgroups[0]}
        lift = conv(in_channels, hidden_sizes[0], implementation="lifting", **own)
        self.group = lift.group
        self.size = sides_in(self.group.space, size)
        kept = [lift.elements] * (depth + 1) if subgroups is None else [self.group.sizes(each) for each in subgroups]

        def follow(n: int, width: int) -> list[nn.Module]:
            """What comes after the convolution of layer n."""
            layers = Layers(conv, normalisation, activation, dropout if n in dropout_after else 0.0)
            pools: list[nn.Module] = [SubgroupPool(self.group, [1] * len(lift.elements))] if pool_elements else []
            pools += [SpatialPool(pooling, pool_size)] if n in pool_after else []
            return [layers.norm(width), layers.activate(), *pools]

        self.layers = nn.Sequential(nn.Sequential(lift, *follow(1, hidden_sizes[0])))
        for n, (before, after) in enumerate(pairwise([*hidden_sizes, classes]), 2):
            restricted, shares = _restrict(self.group, kept[n - 2], kept[n - 1], restriction)
            last = {"kernel_size": last_kernel_size} if n > depth and last_kernel_size else {}
            layer = conv(before * shares, after, elements=kept[n - 1], **last)
            _check_formula(layer, pool_elements)
            self.layers.append(nn.Sequential(*restricted, layer, *(follow(n, after) if n <= depth else ())))
        self.invariants = Invariants(readout)
        check_exact(self, self.size, exact)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n classes"]:
        """(n, c, *space) -> logits (n, classes)."""
        return self.invariants(self.features(images))

    def features(self, images: Float[Tensor, "n c *space"]) -> Field:
        """(n, c, *space) to the field before invariants are taken, whose channels are the classes."""
        return self.layers(Field.of_images(images, self.group))


def _restrict(group: Group, before: Sequence[int], after: Sequence[int], kind: str) -> tuple[list[nn.Module], int]:
    """What comes between layers on some elements and on some of those, and how many channels it makes of one."""
    pool = SubgroupPool(group, after, kind) if before != after else None
    if pool is None:
        return [], 1
    return [pool], pool.members(group.grid(*before)).shape[1] if kind == "stack" else 1


def _check_formula(conv: GConv, pool_elements: bool) -> None:
    """Raises ValueError if a kernel depends on elements that are gone."""
    if pool_elements and conv.kernel.carried:
        raise ValueError(
            "`implementation` must not depend on `h` with net.pool_elements, which leaves images, but got "
            f"{conv.kernel.factorisation.formula!r}; use implementation=lifting."
        )
