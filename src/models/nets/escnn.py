"""The residual net with steerable kernels of escnn: what this project's are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from src.models.blocks import Head
from src.require import require_positive


class EscnnResNet(nn.Module):
    """Lifting, residual blocks each followed by an anti-aliased pool, a last convolution, invariants, and a head.

    It has the widths of `CKGResNet`, and regular fields of as many rotations. Images are masked by a disc, as in the
    library's examples. Like those of `CKGResNet`, its pools are exact at quarter turns where sizes are even.

    Args:
        in_channels: of the images.
        classes: logits.
        size: of the images, pixels on each side.
        rotations: of the cyclic group.
        kernel_size: of all convolutions but the last, odd.
        hidden_sizes: widths, one more than stages.
        last_kernel_size: of the last convolution, which has no padding.
        head: makes the head from (channels, classes, norm).

    Raises:
        ValueError: if the package escnn is not installed, or if an argument is not positive.

    Reference:
        A Program to Build E(N)-Equivariant Steerable CNNs (Cesa, Lang, Weiler, 2022), https://github.com/QUVA-Lab/escnn
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        size: int,
        rotations: int = 8,
        kernel_size: int = 7,
        hidden_sizes: Sequence[int] = (32, 32, 64),
        last_kernel_size: int = 5,
        head: Callable[..., nn.Module] = Head,
    ) -> None:
        super().__init__()
        require_positive(rotations=rotations, kernel_size=kernel_size, last_kernel_size=last_kernel_size)
        escnn = _library()
        self._layers, group = escnn.nn, escnn.gspaces.rot2dOnR2(rotations)
        images = escnn.nn.FieldType(group, in_channels * [group.trivial_repr])
        lifted, *rest = (escnn.nn.FieldType(group, width * [group.regular_repr]) for width in hidden_sizes)
        self.images = images
        self.mask = escnn.nn.MaskModule(images, size, margin=1)
        self.lifting = _convolution(escnn.nn, images, lifted, kernel_size, kernel_size // 2)
        self.stages = nn.ModuleList(
            _Stage(escnn.nn, before, after, kernel_size) for before, after in zip([lifted, *rest], rest, strict=False)
        )
        last = [lifted, *rest][-1]
        self.final = _convolution(escnn.nn, last, last, last_kernel_size, 0)
        self.pool = escnn.nn.GroupPooling(last)
        self.head = head(hidden_sizes[-1], classes, nn.BatchNorm1d)

    def forward(self, images: Float[Tensor, "n c y x"]) -> Float[Tensor, "n classes"]:
        """(n, c, y, x) -> logits (n, classes)."""
        field = self.lifting(self.mask(self._layers.GeometricTensor(images, self.images)))
        for stage in self.stages:
            field = stage(field)
        return self.head(self.pool(self.final(field)).tensor.mean((-2, -1)))


class _Stage(nn.Module):
    """A residual block, then norm, pool and activation."""

    def __init__(self, layers: ModuleType, before: Any, after: Any, kernel_size: int) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv1 = _convolution(layers, before, before, kernel_size, padding)
        self.conv2 = layers.SequentialModule(
            layers.R2Conv(before, after, kernel_size, padding=padding, bias=False), layers.InnerBatchNorm(after)
        )
        self.skip = layers.R2Conv(before, after, 1, bias=False) if before != after else None
        self.activate = layers.ReLU(after)
        self.pool = layers.SequentialModule(
            layers.InnerBatchNorm(after),
            layers.PointwiseMaxPoolAntialiased2D(after, kernel_size=2, stride=2),
            layers.ReLU(after),
        )

    def forward(self, field: Any) -> Any:
        skip = field if self.skip is None else self.skip(field)
        return self.pool(self.activate(self.conv2(self.conv1(field)) + skip))


def _convolution(layers: ModuleType, before: Any, after: Any, kernel_size: int, padding: int) -> nn.Module:
    """Convolution, norm and activation."""
    return layers.SequentialModule(
        layers.R2Conv(before, after, kernel_size, padding=padding, bias=False),
        layers.InnerBatchNorm(after),
        layers.ReLU(after),
    )


def _library() -> ModuleType:
    """The package, which this project does not install: it needs a Fortran compiler."""
    try:
        import escnn
        import escnn.gspaces
        import escnn.nn
    except ImportError as error:
        raise ValueError(
            f"`net` escnn needs the package escnn, but it cannot be imported ({error}); install gfortran, then type "
            ".venv/bin/python -m pip install escnn."
        ) from None
    return escnn
