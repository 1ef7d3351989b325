"""MNIST on a Möbius strip: digits that are shifted along it, up to twice around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from src.data.draw import switched_splits
from src.data.sets.mnist import Mnist
from src.data.sources import Split
from src.data.strip import shift_on_strip
from src.data.tables import uniform_table


class MoebiusMnist(Mnist):
    """MNIST, 10,000 / 2,000 of the digits for learning and the official 10,000 for testing, on a strip of its own size.

    The left and right ends of an image are glued after a flip. A shift along the strip belongs to the image, whatever
    split it is in: whole pixels, uniform over two revolutions, after one of which a digit comes back mirrored.

    Args:
        shift: which of train, val and test are shifted; true or false is for all.
        options: as for `Mnist`. Rotations and scales come first.

    Reference: Coordinate Independent Convolutional Networks (Weiler, Forré, Verlinde, Welling, 2021), chapter 5
    https://arxiv.org/abs/2106.06020. There the first 12,000 digits are learned, and the test set validates.
    """

    name = "moebius_mnist"
    recommended = (10_000, 2_000)

    def __init__(self, *, shift: bool | Mapping[str, bool] | None = True, **options: Any) -> None:
        super().__init__(**options)
        self.shift = switched_splits("shift", shift)

    @property
    def moved(self) -> bool:
        return super().moved or any(self.shift.values())

    def about(self) -> dict[str, Any]:
        return super().about() | {"shift": self.shift}

    def _place(self, split: Split, name: str, n: int) -> Split:
        split = super()._place(split, name, n)
        if not self.shift[name]:
            return split
        table = uniform_table(n, f"{self.name} shift", self.seed)[split.ids, 0]
        return split._replace(images=shift_on_strip(split.images, (2 * self.size[-1] * table).long()))
