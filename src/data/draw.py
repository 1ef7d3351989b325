"""Which images are in which split: seeded, stratified and disjoint; and the arguments that say so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from src.require import is_number, require

SPLITS = ("train", "val", "test")
RANGE = "null or [low, high] with 0 < low <= high"
"""What a range of magnifications must be."""
_SIDES = {1: "[x]", 2: "a pair [y, x]", 3: "a triple [z, y, x]"}


class Fold(NamedTuple):
    """Part `fold`, counted from 0, of `folds` parts."""

    fold: int
    folds: int

    @classmethod
    def of(cls, fold: int | None, folds: int | None) -> Fold | None:
        """Both or neither.

        Raises:
            ValueError: if one is missing, or out of its range.
        """
        if fold is None and folds is None:
            return None
        if type(fold) is not int or type(folds) is not int or folds < 2 or not 0 <= fold < folds:
            raise ValueError(
                "`fold` and `folds` must be given together, folds at least 2 and fold from 0 to folds - 1, but got "
                f"fold={fold} and folds={folds}."
            )
        return cls(fold, folds)


def draw(
    labels: Tensor, counts: Sequence[float], generator: torch.Generator, fold: Fold | None, given: Collection[str] = ()
) -> dict[str, Tensor]:
    """Draw the splits that are not given.

    Args:
        labels: of the images that are drawn from; see `stratified`.
        counts: how many of them each split gets, whole numbers, or fractions of n that are at most 1 in all.
        generator: decides which.
        fold: which part of those for training and validation validates instead.
        given: names of the splits that are published apart.

    Returns:
        Ascending indices by the name of the split.

    Raises:
        ValueError: if there are fewer images than asked for, or `counts` or `fold` do not fit to what is given.
    """
    names = [name for name in SPLITS if name not in given]
    apart = f" ({' and '.join(given)} are published apart)" if given else ""
    what = f"numbers of images for {', '.join(names)}{apart}, or for all three splits to draw from all images"
    require("counts", list(counts), len(counts) == len(names), what)
    rows = dict(zip(names, stratified(labels, _whole(counts, len(labels)), generator), strict=True))
    if fold is not None:
        if "val" in given:
            raise ValueError(
                "`folds` must be null where validation images are published apart, or give three `counts`."
            )
        pool = torch.cat([rows["train"], rows["val"]]).sort().values
        shares = _whole([1 / fold.folds] * fold.folds, len(pool))
        parts = [pool[part] for part in stratified(labels[pool], shares, generator)]
        rows["val"] = parts.pop(fold.fold)
        rows["train"] = torch.cat(parts).sort().values
    for name, part in rows.items():
        if not len(part):
            raise ValueError(f"`counts` must leave images for {name}, but got {list(counts)} of {len(labels)} images.")
    return rows


def _whole(counts: Sequence[float], n: int) -> list[int]:
    """Numbers of images: whole ones as they are, fractions as shares of n that lose none to rounding.

    Raises:
        ValueError: if they are neither, or fractions of more than 1 in all.
    """
    if all(type(count) is int for count in counts):
        return [int(count) for count in counts]
    if not all(isinstance(count, int | float) and 0 <= count <= 1 for count in counts) or sum(counts) > 1 + 1e-9:
        raise ValueError(f"`counts` must be whole numbers, or fractions of at most 1 in all, but got {list(counts)}.")
    return [end - start for start, end in pairwise(round(n * share) for share in accumulate(counts, initial=0.0))]


def stratified(labels: Tensor, counts: Iterable[int], generator: torch.Generator) -> list[Tensor]:
    """Disjoint random subsets in which every class has its share of all, give or take one sample.

    Args:
        labels: (n,), classes; of other targets, (n, k), subsets are drawn without regard to what they are.
        counts: how many samples each subset gets; together at most n.
        generator: decides which.

    Returns:
        One ascending tensor of indices per count.

    Raises:
        ValueError: if there are fewer samples than asked for.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> train, val = stratified(labels, [6, 2], torch.Generator().manual_seed(0))
        >>> labels[train].tolist(), labels[val].tolist()
        ([0, 0, 0, 1, 1, 1], [0, 1])
    """
    counts = list(counts)
    if labels.dim() > 1:  # one stratum
        labels = labels.new_zeros(len(labels), dtype=torch.int64)
    if min(counts, default=0) < 0 or sum(counts) > len(labels):
        raise ValueError(f"`counts` must be at most {len(labels)} samples in all, but got {counts}; ask for fewer.")
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    sizes = torch.bincount(labels)
    rank = torch.cat([(torch.arange(size) + 0.5) / size for size in sizes.tolist()])
    # By rank within its class, so any stretch of the order has all classes in proportion.
    mixed = order[rank.argsort(stable=True)]
    return [part.sort().values for part in mixed[: sum(counts)].split(counts)]


def shares(counts: Sequence[float]) -> tuple[float, ...]:
    """`counts` as numbers.

    Raises:
        ValueError: if they are anything else, or negative.
    """
    given = counts if isinstance(counts, Sequence) and not isinstance(counts, str) else ()
    what = "numbers of images, or fractions, such as [45000, 5000] or [0.8, 0.1, 0.1]"
    require("counts", counts, given and all(is_number(n) and n >= 0 for n in given), what)
    return tuple(given)


def canvas(size: int | Sequence[int], min_size: int = 2, d: int = 2) -> tuple[int, ...]:
    """`size` as d sides: one number for all, or one for each.

    Raises:
        ValueError: if it is neither, or below `min_size` pixels.
    """
    sides = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size,) * d
    fits = len(sides) == d and all(type(n) is int and n >= min_size for n in sides)
    require("size", size, fits, f"a number of pixels or {_SIDES[d]}, each at least {min_size}")
    return sides


def switched_splits(name: str, switch: bool | Mapping[str, bool] | None) -> dict[str, bool]:
    """Which splits something is done to, such as `rotate`; those left out stay as they are.

    Raises:
        ValueError: for another key than a split's, or another value than true and false.
    """
    given = _by_split(name, switch, lambda value: isinstance(value, bool), "true or false")
    return dict.fromkeys(SPLITS, False) | given


def scalings(
    scale: Sequence[float] | Mapping[str, Sequence[float] | None] | None,
) -> dict[str, tuple[float, float] | None]:
    """The range of magnifications of every split; None where there is none.

    Raises:
        ValueError: for another key than a split's, or anything but a range of positive numbers.
    """
    given = _by_split("scale", scale, lambda value: value is None or is_range(value), RANGE)
    return dict.fromkeys(SPLITS) | {name: None if value is None else tuple(value) for name, value in given.items()}


def _by_split(name: str, value: Any, fits: Callable[[Any], bool], what: str) -> dict[str, Any]:
    """One value for all splits, or a value for some.

    Raises:
        ValueError: if a key is no split, or a value does not fit.
    """
    given = {} if value is None else dict(value) if isinstance(value, Mapping) else dict.fromkeys(SPLITS, value)
    right = given.keys() <= set(SPLITS) and all(map(fits, given.values()))
    require(name, value, right, f"{what}, or map train, val and test to that")
    return given


def is_range(value: Any) -> bool:
    """Whether it is [low, high] of positive numbers."""
    if not isinstance(value, Sequence) or len(value) != 2 or not all(map(is_number, value)):
        return False
    return 0 < value[0] <= value[1]
