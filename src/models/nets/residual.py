"""Residual nets without pools, in any space: nets of large continuous kernels, and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from src.models.blocks import Head, ResidualBlock, SeparableBlock, TemporalBlock
from src.models.border import Border
from src.models.exactness import check_exact, sides_in
from src.models.field import Field
from src.models.gconv import GConv
from src.models.layers import Layers
from src.models.pooling import Invariants
from src.require import require, require_choice, require_probability

_BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "residual": ResidualBlock,
    "temporal": TemporalBlock,
    "separable": SeparableBlock,
}


class ResidualNet(nn.Module):
    """A first convolution, residual blocks that keep the image size, invariants, and a head.

    With its kernels, masks and blocks it is one of the nets of the literature: `temporal` blocks after no first
    convolution make CKCNN and FlexTCN, `residual` blocks FlexNet, `separable` ones CCNN.

    Args:
        in_channels: of the images.
        classes: logits.
        size: of the images, (x), (y, x) or (z, y, x), or one number for all.
        conv: makes a `GConv` from (in_channels, out_channels, **changes); a stride is that of each block.
        hidden_sizes: width of each block.
        stem: whether there is a first convolution, norm and activation before the blocks, to the first width. Nets on
            a group need it, to lift images.
        block: `residual`; `temporal`, with an activation before the sum as well; or `separable`, see `SeparableBlock`.
        normalisation, activation, dropout: see `Layers`.
        border: of the images and of every activation but the last of a block, `zeros` or `disc`; or `background`, taken
            from images; see `Border`.
        input_dropout: probability in [0, 1) of dropping a number of the image.
        readout: how invariants are pooled, `max`, `mean`, `max_mean` or, of sequences, `last`; see `Invariants`.
        head: makes the head from (channels, classes, norm).
        exact: what to do where a layer is not exactly equivariant at this size: `require`, `warn` or `off`.

    Raises:
        ValueError: if an argument cannot be honoured.

    References:
        CKConv: Continuous Kernel Convolution For Sequential Data (Romero et al., 2022), https://arxiv.org/abs/2102.02611
        FlexConv (Romero et al., 2022), https://arxiv.org/abs/2110.08059
        Towards a General Purpose CNN for Long Range Dependencies in ND (Romero, Knigge et al., 2022)
        https://arxiv.org/abs/2206.03398

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from src.groups import Trivial
        >>> conv = partial(GConv, group=Trivial(space=1), elements=[1], implementation="separable", kernel_size=5)
        >>> ResidualNet(1, 10, 28, conv, hidden_sizes=[4, 8])(torch.zeros(2, 1, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int | Sequence[int],
        conv: Callable[..., GConv],
        *,
        hidden_sizes: Sequence[int] = (30, 30),
        stem: bool = True,
        block: str = "residual",
        normalisation: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        border: str = "zeros",
        input_dropout: float = 0.0,
        readout: str = "max_mean",
        head: Callable[..., nn.Module] = Head,
        exact: str = "warn",
    ) -> None:
        super().__init__()
        require("net.hidden_sizes", list(hidden_sizes), len(hidden_sizes) > 0, "one or more widths")
        require_choice("block", block, tuple(_BLOCKS))
        require_probability(input_dropout=input_dropout)
        layers = Layers(conv, normalisation, activation, dropout, border)
        self.border = Border(border)
        first = hidden_sizes[0] if stem else in_channels
        lift = conv(in_channels, first, implementation="lifting", stride=1)
        self.group = lift.group
        lifts = len(lift.kernel.grid) > 1
        require("net.stem", stem, stem or not lifts, f"true for {self.group}, which images must be lifted to")
        require(
            "net.readout", readout, readout != "last" or self.group.space == 1, "another than last, but for sequences"
        )
        self.size = sides_in(self.group.space, size)
        self.input_dropout = nn.Dropout(input_dropout)
        self.stem = nn.Sequential(lift, layers.norm(first), layers.activate()) if stem else nn.Sequential()
        self.blocks = nn.Sequential()
        for before, after in zip([first, *hidden_sizes], hidden_sizes, strict=False):
            options = {} if block == "separable" else {"hidden": after}
            self.blocks.append(_BLOCKS[block](before, after, layers, **options))
        last = hidden_sizes[-1]
        self.norm = layers.norm(last) if block == "separable" else nn.Identity()
        self.invariants = Invariants(readout)
        self.head = head(last, classes, layers.head_norm)
        check_exact(self, self.size, exact)

    def forward(self, images: Float[Tensor, "n c *space"]) -> Float[Tensor, "n classes"]:
        """(n, c, *space) -> logits (n, classes)."""
        return self.head(self.invariants(self.features(images)))

    def features(self, images: Float[Tensor, "n c *space"]) -> Field:
        """(n, c, *space) to the field before invariants are taken."""
        field = self.border(Field.of_images(self.input_dropout(images), self.group))
        return self.norm(self.blocks(self.stem(field)))
