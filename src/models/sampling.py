"""Where a factor of a kernel is evaluated: once at each of its distinct coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Sampling(NamedTuple):
    """Where a factor is evaluated: quarter turns of a kernel, for one, need the same values at other pixels."""

    rows: Tensor
    """Coordinates that are different from each other, and where the mask is not zero: (p, columns)."""
    index: Tensor
    """The row of every value, (a, b, u); p where the mask is zero."""
    envelope: Tensor
    """What multiplies the values, (a, b, u, 1)."""
    trained: Sequence[tuple[str, Tensor]] = ()
    """Coordinates with masks that are trained, and multiply as well: (a, b, u, columns)."""

    @classmethod
    def of(cls, coordinates: Tensor, envelope: Tensor, like: Tensor, trained: Sequence[tuple[str, Tensor]]) -> Sampling:
        """From coordinates (a, b, u, columns) in double precision, for a kernel like `like`."""
        inside = (envelope[..., 0] != 0).expand(coordinates.shape[:-1])
        rows = coordinates[inside].round(decimals=12)  # far below what an image can tell, far above rounding
        if rows.shape[1]:
            rows, found = torch.unique(rows, dim=0, return_inverse=True)
        else:
            rows, found = rows[:1], torch.zeros(len(rows), dtype=torch.long)
        index = torch.full(inside.shape, len(rows)).masked_scatter(inside, found)
        return cls(rows.to(like), index.to(like.device), envelope.to(like), trained)


def join(coordinates: Sequence[Tensor]) -> Tensor:
    """Concatenate (a, b, u, columns), broadcasting all but the columns."""
    shape = torch.broadcast_shapes(*(values.shape[:-1] for values in coordinates))
    return torch.cat([values.expand(*shape, values.shape[-1]) for values in coordinates], -1)


def by_letters(values: Tensor, letters: str, wanted: str) -> Tensor:
    """Name the last axes, (..., *letters) -> (..., *wanted): in another order, of size 1 where there is none.

    >>> by_letters(torch.zeros(9, 2, 3), "io", "loi").shape
    torch.Size([9, 1, 3, 2])
    """
    values = torch.einsum(f"...{letters}->...{''.join(letter for letter in wanted if letter in letters)}", values)
    for place, letter in enumerate(reversed(wanted), 1):
        values = values if letter in letters else values.unsqueeze(-place)
    return values


def same_kind(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree in dtype and device."""
    return one.dtype == other.dtype and one.device == other.device


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal in value, dtype and device."""
    return one is other or (same_kind(one, other) and torch.equal(one, other))
