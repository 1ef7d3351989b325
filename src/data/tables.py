"""Random numbers that are a pure function of what they are for."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

import torch
from torch import Tensor


def generator(*key: str | int) -> torch.Generator:
    """A CPU generator seeded by what it is for, such as ("order", seed, epoch); different keys are independent."""
    digest = sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@lru_cache(maxsize=4)
def uniform_table(n: int, *key: str | int, columns: int = 1) -> Tensor:
    """Numbers in [0, 1), (n, columns) in float64, a pure function of the arguments; shared, so not to be written to.

    A table of all samples, indexed by sample: what happens to one depends neither on the batch it is in nor on the
    order, the number of workers or ranks, or where a run was resumed.
    """
    return torch.rand(n, columns, dtype=torch.float64, generator=generator(*key))
