"""Where a kernel is sampled: the taps of its window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from src.groups import Group
from src.require import require


@dataclass(frozen=True)
class Window:
    """k taps along each axis of the space, on [-extent, extent]; or in the past, on [-extent, 0].

    Args:
        size: taps k.
        space: dimension d.
        extent: coordinate of the outermost taps, the largest dilation of the group.
        causal: the last tap is the present, and the others lie before it.
        cut: taps that are left out at each end, or at the far end of a causal window.

    Example:
        >>> Window(3, 1, 1.0).offsets().flatten().tolist()
        [-1.0, 0.0, 1.0]
        >>> Window(5, 1, 1.0, cut=1).offsets().flatten().tolist()
        [-0.5, 0.0, 0.5]
    """

    size: int
    space: int
    extent: float
    causal: bool = False
    cut: int = 0

    @property
    def taps(self) -> tuple[int, ...]:
        """Along each axis."""
        return (self.size - self.cut * (1 if self.causal else 2),) * self.space

    @property
    def pitch(self) -> float:
        """The distance of two taps; 0 if there is one."""
        return (1 if self.causal else 2) * self.extent / (self.size - 1) if self.size > 1 else 0.0

    def padding(self, padding: int) -> tuple[int, int]:
        """Pixels that are to be added before and after an image, so that it is as with none cut.

        Args:
            padding: on each side; a causal window has all of its own before.
        """
        before, after = (self.size - 1, 0) if self.causal else (padding, padding)
        return before - self.cut, after if self.causal else after - self.cut

    def offsets(self) -> Float[Tensor, "*taps d"]:
        """Coordinates (*taps, d), float64; those of one tap are the origin."""
        low, high = (-self.extent, 0.0 if self.causal else self.extent) if self.size > 1 else (0.0, 0.0)
        line = torch.linspace(low, high, self.size, dtype=torch.float64)
        line = line[self.cut : len(line) - (0 if self.causal else self.cut)]
        return torch.stack(torch.meshgrid(*[line] * self.space, indexing="ij"), -1)

    def beyond(self, reach: float) -> int:
        """How many taps at one end are further from the centre than a coordinate."""
        steps = torch.arange(self.size, dtype=torch.float64)
        outside = int((self.extent - steps * self.pitch > reach + 1e-9).sum())
        return min(outside, (self.size - 1) // (1 if self.causal else 2))


def check_causal(group: Group, elements: Tensor) -> None:
    """Raises ValueError if there is no past, or if an element exchanges it with the future."""
    if group.space > 1 or (group.matrix(elements) <= 0).any():
        raise ValueError(
            f"`padding` causal is for sequences, and groups that do not reverse them, but got {group}; use "
            "padding=null, or a group such as Trivial(space=1) or Dilation(space=1)."
        )


def padding_of(kernel_size: int, padding: int | str | None) -> int:
    """Zeros on each side; on average, where they are all before the first pixel."""
    if padding == "causal":
        return kernel_size // 2
    if padding is not None:
        require("padding", padding, isinstance(padding, int), "a number of pixels, null or causal")
        return padding
    if kernel_size % 2 == 0:
        raise ValueError(
            f"`padding` none keeps the image size, which needs an odd `kernel_size`, but got {kernel_size}; use an odd "
            "kernel or give the padding."
        )
    return kernel_size // 2
