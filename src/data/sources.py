r"""What a data set is: pools of images as they are published, drawn into three splits and put on a canvas.

A new data set is one class with the attributes of `Source` and one method, `pools`, and one YAML file that names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from src.data.draw import SPLITS, Fold, canvas, draw, scalings, shares, switched_splits
from src.data.io.store import digest, stored
from src.data.lazy import Images, Lazy
from src.data.masks import with_planes, without_planes
from src.data.poses import magnifications, rotation_numbers, rotations
from src.data.resample import fit, pose
from src.data.tables import generator, uniform_table
from src.data.warp import Border, check_border
from src.require import require

VERSION = 2
"""To be raised whenever other bytes are derived from the same originals: it is in the names of derived files."""


class Split(NamedTuple):
    """Images with their labels and with their numbers in the original data."""

    images: Images
    """(n, c, *space), uint8; a tensor, or read when asked for."""
    labels: Tensor
    """What is to be learned, as `Source.targets` says: (n,), (n, k) or (n, *space)."""
    ids: Tensor
    """(n,), int64: no other image of the data set has the same."""

    def at(self, rows: Tensor) -> Split:
        images = self.images.at(rows) if isinstance(self.images, Lazy) else self.images[rows]
        return Split(images, self.labels[rows], self.ids[rows])


class Splits(NamedTuple):
    """The three parts of a data set; no image is in two of them."""

    train: Split
    val: Split
    test: Split


class Pool(NamedTuple):
    """Images as they are published."""

    images: Images
    """(n, c, *space), uint8."""
    labels: Tensor
    """As `Source.targets` says: (n,), (n, k) or (n, *space)."""


class Pools(NamedTuple):
    """What is published for learning, and apart from it for validation and testing if there is such a part."""

    learn: Pool
    val: Pool | None = None
    test: Pool | None = None


_Parts = TypeVar("_Parts", Splits, Pools)


class Statistics(NamedTuple):
    """Mean and standard deviation of every channel over all pixels, (c,), for images in [0, 1]."""

    mean: Tensor
    std: Tensor


class Card(NamedTuple):
    """What its users are to know of a data set."""

    title: str
    licence: str
    """As its publisher states it."""
    citation: str
    homepage: str


class Source(ABC):
    """A data set. Building one costs nothing; `splits` may download, generate and read.

    Args:
        cache: folder of what is derived: generated images, statistics; None keeps nothing.
        size: canvas in pixels, a number or one for each axis, such as [y, x]: a border is put around smaller images,
            larger ones are shrunk with antialiasing. None is the size of the originals.
        seed: decides the split, the rotations and the scales.
        counts: images for training and validation, drawn from what is published for learning, or for training,
            validation and testing, drawn from all there is; whole numbers, or fractions that are at most 1 in all.
            Every class has its share of every split. None is what the publisher recommends.
        fold, folds: use part `fold`, counted from 0, of `folds` equal parts of what `counts` gives for training and
            validation to validate, and the others to train.
        rotate: which of train, val and test are rotated, one uniform rotation per image; true or false is for all.
        scale: range [low, high] of the uniform magnification of every image, one for all or by split; null is none.
        border: what a rotation or a larger canvas brings in: "zeros", "edge" or "reflect". None is the source's own.

    Raises:
        ValueError: if an argument is out of its range.
    """

    name: ClassVar[str]
    card: ClassVar[Card | None] = None
    targets: Literal["class", "labels", "values", "pixels"] = "class"
    """What is learned of an image: its class, (n,) of int64; which labels it has, (n, k) of int64, 0 or 1; values,
    (n, k) of float32; or the class of each pixel, (n, *space) of int64, which moves with the image. Where nothing was,
    class 0 comes in."""
    labels: tuple[str, ...]
    """Names of the classes, by label; or of the labels, or of the values."""
    channels: int
    native: tuple[int, ...]
    """Of the originals in pixels: (x) of sequences, (y, x) of images, (z, y, x) of volumes."""
    recommended: Sequence[float] = (0.8, 0.1, 0.1)
    """`counts` if none are given."""
    default_border: Border = "zeros"
    """`border` if none is given: black only where the originals are black at their rims."""
    min_size: ClassVar[int] = 2
    in_memory: bool = True
    """Whether images are read at the start; if not, they are brought to a size when they are read, and not kept."""
    magnification: float = 1.0
    """From the originals to the canvas, before any `scale`."""

    def __init__(
        self,
        *,
        cache: str | Path | None = None,
        size: int | Sequence[int] | None = None,
        seed: int = 0,
        counts: Sequence[float] | None = None,
        fold: int | None = None,
        folds: int | None = None,
        rotate: bool | Mapping[str, bool] | None = None,
        scale: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
        border: Border | None = None,
    ) -> None:
        self.cache = None if cache is None else Path(cache)
        self.size = self.native if size is None else canvas(size, self.min_size, len(self.native))
        self.seed = seed
        self.counts = shares(self.recommended if counts is None else counts)
        self.fold = Fold.of(fold, folds)
        self.rotate = switched_splits("rotate", rotate)
        turned = any(self.rotate.values())
        require("rotate", rotate, len(self.size) > 1 or not turned, "false for sequences, which have no rotations")
        self.scale = scalings(scale)
        self.border = self.default_border if border is None else border
        check_border(self.border)

    @abstractmethod
    def pools(self) -> Pools:
        """Read what is published: always the same, in the same order."""

    @property
    def classes(self) -> int:
        """How many classes there are; or labels, or values."""
        return len(self.labels)

    def about(self) -> dict[str, Any]:
        """All that decides the splits, in plain containers; sources with originals of their own add to it."""
        options = ("size", "seed", "counts", "fold", "rotate", "scale", "border")
        return {"version": VERSION, "name": self.name} | {option: getattr(self, option) for option in options}

    @cached_property
    def key(self) -> str:
        """A short name for `about`."""
        return digest(self.about())

    @property
    def moved(self) -> bool:
        """Whether images are other than the originals."""
        return any(self.rotate.values()) or any(self.scale.values()) or self.size != self.native

    @property
    def file(self) -> Path | None:
        """Where images that are resampled are kept, which takes longer than reading the result."""
        kept = self.cache and self.in_memory and self.moved
        return self.cache / f"v{VERSION}-{self.key}.npz" if kept else None

    def splits(self) -> Splits:
        """The three parts, read or generated: the same bytes for the same arguments.

        Raises:
            ChecksumError, DownloadError, ValueError: if originals are missing, damaged, or fewer than asked for.
        """
        return keep(self.file, self._generate, Splits, Split)

    def statistics(self, train: Split) -> Statistics:
        """Mean and deviation of the training images; computed once and kept."""
        file = self.cache and self.cache / f"statistics-{self.key}.npz"
        return Statistics(**stored(file, lambda: statistics(train.images)._asdict()))

    def _generate(self) -> Splits:
        pools = self.pools()
        sizes = [len(pool.labels) if pool else 0 for pool in pools]
        numbers = torch.arange(sum(sizes)).split(sizes)  # from the first of `learn` to the last of `test`
        drawn = self._draw(*(pool and Split(*pool, ids) for pool, ids in zip(pools, numbers, strict=True)))
        return Splits(*(self._place(split, name, sum(sizes)) for name, split in zip(SPLITS, drawn, strict=True)))

    def _draw(self, learn: Split, val: Split | None, test: Split | None) -> Splits:
        """Which images are in which split."""
        given = {name: split for name, split in {"val": val, "test": test}.items() if split is not None}
        if len(self.counts) == len(SPLITS) and given:
            learn, given = _joined(learn, *given.values()), {}
        rows = draw(learn.labels, self.counts, generator(f"{self.name} split", self.seed), self.fold, given)
        return Splits(**given, **{name: learn.at(part) for name, part in rows.items()})

    def _place(self, split: Split, name: str, n: int) -> Split:
        """Put a split on the canvas, with the classes of its pixels if these are its labels."""
        if self.targets != "pixels":
            return self._posed(split, name, n)
        if isinstance(split.images, Lazy):
            raise ValueError(f"images of {self.name} must be in memory, as classes of pixels move with them.")
        placed = self._posed(split._replace(images=with_planes(split.images, split.labels, self.classes)), name, n)
        images, masks = without_planes(placed.images, self.classes)
        return Split(images.contiguous(), masks, split.ids)

    def _posed(self, split: Split, name: str, n: int) -> Split:
        """Put images on the canvas; the pose belongs to the image, whatever split it is in."""
        upright = not self.rotate[name] and not self.scale[name] and self.magnification == 1
        if isinstance(split.images, Lazy):
            if not upright:
                raise ValueError(
                    f"`rotate` and `scale` must be off for {self.name}, whose images are read when they are needed; "
                    "use augment.rotate and augment.scale, which act on batches."
                )
            return split._replace(images=split.images.fitted(self.size, self.border))
        if upright:
            return split._replace(images=fit(split.images, self.size, self.border))
        d = len(self.size)
        turn = uniform_table(n, f"{self.name} rotation", self.seed, columns=rotation_numbers(d))[split.ids]
        magnify = uniform_table(n, f"{self.name} scale", self.seed)[split.ids]
        low, high = self.scale[name] or (1, 1)
        turned = rotations(turn, d) if self.rotate[name] else torch.eye(d, dtype=torch.float64).expand(len(turn), d, d)
        matrices = turned @ magnifications((self.magnification * (low + (high - low) * magnify)).log(), d)
        # Shrunk first if need be, so that the rotation is about the centre of the canvas whatever its parity.
        smaller = tuple(min(pair) for pair in zip(self.size, split.images.shape[2:], strict=True))
        images = split.images if self.magnification != 1 else fit(split.images, smaller)
        return split._replace(images=pose(images, matrices, self.size, self.border))


def _joined(*splits: Split) -> Split:
    """One split of the images of several.

    Raises:
        ValueError: for lazy images, which are not read all at once.
    """
    if any(isinstance(split.images, Lazy) for split in splits):
        raise ValueError("images that are read lazily cannot be drawn from together; leave out the third of `counts`.")
    return Split(*map(torch.cat, zip(*splits, strict=True)))


def keep(file: Path | None, make: Callable[[], _Parts], parts: type[_Parts], part: type[Split | Pool]) -> _Parts:
    """Parts that take long to make, from a file of their own once they have been made; None keeps nothing."""

    def columns() -> dict[str, Tensor]:
        there = {name: own for name, own in make()._asdict().items() if own is not None}
        return {f"{name}_{field}": column for name, own in there.items() for field, column in own._asdict().items()}

    kept = stored(file, columns)
    there = [name for name in parts._fields if f"{name}_labels" in kept]
    return parts(**{name: part(*(kept[f"{name}_{field}"] for field in part._fields)) for name in there})


def statistics(images: Images, chunk: int = 2**24) -> Statistics:
    """Mean and deviation of training images, (n, c, *space), read so many numbers at a time; in units of 255.

    Of uint8, sums are integers, so the result depends neither on order nor on the chunk. A constant channel has
    deviation 1/255, the step between two grey values, so that it can be divided by.
    """
    kind = torch.float64 if images[:1].is_floating_point() else torch.int64
    count, total, square = 0, torch.zeros((), dtype=kind), torch.zeros((), dtype=kind)
    step = max(1, chunk // prod(images.shape[1:]))
    for start in range(0, len(images), step):
        values = images[start : start + step].to(kind)
        count += values.numel() // values.shape[1]
        values = values.flatten(2)
        total, square = total + values.sum((0, 2)), square + values.square().sum((0, 2))
    mean = total.double() / count
    variance = square.double() / count - mean.square()
    if kind == torch.int64:
        variance = variance.clamp(min=1)
    else:
        variance = torch.where(variance > 1e-12 * mean.square() + 1e-30, variance, 1.0)
    return Statistics((mean / 255).float(), (variance.sqrt() / 255).float())
