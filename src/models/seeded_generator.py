"""Random numbers that are part of a layer's state."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SeededGenerator(nn.Module):
    """A generator of its own for a layer's random elements, whose state is part of the layer's.

    It is seeded from the global one when the layer is made. So a run that goes on from a checkpoint draws what it would
    have drawn, and processes that share a batch draw the same.

    Example:
        >>> SeededGenerator().generator.initial_seed() >= 0
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu())
