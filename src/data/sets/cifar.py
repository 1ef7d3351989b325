"""CIFAR-10 and CIFAR-100 from their binary archives: no pickles are opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch

from src.data.io.archive import members
from src.data.sets.published import Published, originals
from src.data.sources import Pool, Pools

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


class Cifar10(Published):
    """CIFAR-10: 45,000 / 5,000 of the images for learning by a stratified draw, and the official 10,000 for testing."""

    name = "cifar10"
    card, files, labels = originals("cifar10")
    slow = True
    native = _SHAPE[1:]
    recommended = (45_000, 5_000)

    folder: ClassVar[str] = "cifar-10-batches-bin"
    learn: ClassVar[Sequence[str]] = [f"data_batch_{n}.bin" for n in range(1, 6)]
    test: ClassVar[str] = "test_batch.bin"
    label_bytes: ClassVar[int] = 1
    """Before the pixels of every image; the last of them is the label."""

    def read(self, paths: Mapping[str, Path]) -> Pools:
        (path,) = paths.values()
        names = [f"{self.folder}/{name}" for name in (*self.learn, self.test)]
        *learn, test = members(path, names).values()
        return Pools(learn=self._parse(b"".join(learn), path), test=self._parse(test, path))

    def _parse(self, content: bytes, path: Path) -> Pool:
        record = self.label_bytes + _PIXELS
        if not content or len(content) % record:
            raise ValueError(
                f"{path} must hold images of {record} bytes each, but has {len(content)} bytes of them; replace it by "
                "the original."
            )
        records = torch.frombuffer(bytearray(content), dtype=torch.uint8).unflatten(0, (-1, record))
        labels = records[:, self.label_bytes - 1].to(torch.int64)
        return Pool(records[:, self.label_bytes :].unflatten(1, _SHAPE).contiguous(), labels)


class Cifar100(Cifar10):
    """CIFAR-100, with its 100 fine labels: 45,000 / 5,000 / 10,000 as CIFAR-10."""

    name = "cifar100"
    card, files, labels = originals("cifar100")
    folder = "cifar-100-binary"
    learn: ClassVar[Sequence[str]] = ["train.bin"]
    test = "test.bin"
    label_bytes = 2
