r"""What a data set is: three splits, and what is known of them before a file is touched.

A new data set is one class with the attributes of `Source`, and one YAML file that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

SPLITS = ("train", "val", "test")


class Split(NamedTuple):
    """Images with their labels; `images` may be anything that has a length and is indexed by a tensor or a slice."""

    images: Tensor
    """(n, c, y, x), uint8."""
    labels: Tensor
    """(n,), int64."""

    def at(self, indices: Tensor) -> Split:
        return Split(self.images[indices], self.labels[indices])


class Splits(NamedTuple):
    """The three parts of a data set; no image is in two of them."""

    train: Split
    val: Split
    test: Split


class Statistics(NamedTuple):
    """Mean and standard deviation of every channel over all pixels, (c,), for images in [0, 1]."""

    mean: Tensor
    std: Tensor


class Source(Protocol):
    """What a data module needs. `splits` may download and generate; the attributes cost nothing."""

    classes: int
    channels: int
    size: tuple[int, int]
    """(y, x) in pixels."""

    def splits(self) -> Splits:
        """Read the data: always the same for the same arguments."""


def statistics(images: Tensor, chunk: int = 4096) -> Statistics:
    """Mean and deviation of training images, (n, c, y, x) in uint8.

    Sums are integers, so the result depends neither on order nor on the chunk. A constant channel has deviation 1/255,
    the step between two grey values, so that it can be divided by.
    """
    count, total, square = 0, torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    for start in range(0, len(images), chunk):
        values = images[start : start + chunk].to(torch.int64)
        count += values.numel() // values.shape[1]
        total, square = total + values.sum((0, 2, 3)), square + values.square().sum((0, 2, 3))
    mean = total.double() / count
    std = (square.double() / count - mean.square()).clamp(min=1).sqrt()
    return Statistics((mean / 255).float(), (std / 255).float())


def stratified(labels: Tensor, counts: Iterable[int], generator: torch.Generator) -> list[Tensor]:
    """Disjoint random subsets in which every class has its share of all, give or take one sample.

    Args:
        labels: (n,), integers.
        counts: how many samples each subset gets; together at most n.
        generator: decides which.

    Returns:
        One ascending tensor of indices per count.

    Raises:
        ValueError: if there are fewer samples than asked for.
    """
    counts = list(counts)
    if min(counts, default=0) < 0 or sum(counts) > len(labels):
        raise ValueError(f"`counts` must be at most {len(labels)} samples in all, but got {counts}; ask for fewer.")
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    sizes = torch.bincount(labels)
    rank = torch.cat([(torch.arange(size) + 0.5) / size for size in sizes.tolist()])
    # By rank within its class, so any stretch of the order has all classes in proportion.
    mixed = order[rank.argsort(stable=True)]
    return [part.sort().values for part in mixed[: sum(counts)].split(counts)]


def canvas(size: int | Sequence[int], least: int = 2) -> tuple[int, int]:
    """`size` as (y, x): one number for a square, or a pair.

    Raises:
        ValueError: if it is neither, or below `least` pixels.
    """
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or any(not isinstance(n, int) or isinstance(n, bool) or n < least for n in pair):
        raise ValueError(f"`size` must be a number of pixels or a pair [y, x], each at least {least}, but got {size}.")
    return pair[0], pair[1]


def rotations(rotate: Mapping[str, bool] | None) -> dict[str, bool]:
    """`rotate` with every split named; those left out stay upright.

    Raises:
        ValueError: for another key than a split's, or another value than true and false.
    """
    given = dict(rotate or {})
    if not given.keys() <= set(SPLITS) or not all(isinstance(value, bool) for value in given.values()):
        raise ValueError(f"`rotate` must map train, val and test to true or false, but got {given}.")
    return dict.fromkeys(SPLITS, False) | given
