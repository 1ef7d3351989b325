"""CIFAR-10 and CIFAR-100 from their binary archives: no pickles are opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from src.data.io.archive import members
from src.data.io.fetch import File
from src.data.sets.published import Published
from src.data.sources import Card, Pool, Pools

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_HOMES = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""
_CITATION = "Krizhevsky: Learning Multiple Layers of Features from Tiny Images. Technical report, Toronto, 2009"


class Cifar10(Published):
    """CIFAR-10: 45,000 / 5,000 of the images for learning by a stratified draw, and the official 10,000 for testing."""

    name = "cifar10"
    card = Card("CIFAR-10", "none stated by its publisher", _CITATION, f"{_HOMES[0]}cifar.html")
    files = (
        File.below(
            _HOMES,
            "cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            170_052_171,
        ),
    )
    slow = True
    labels = tuple(_CLASSES.split())
    channels = 3
    native = _SHAPE[1:]
    recommended = (45_000, 5_000)
    default_border = "reflect"

    folder = "cifar-10-batches-bin"
    learn = tuple(f"data_batch_{n}.bin" for n in range(1, 6))
    test = "test_batch.bin"
    label_bytes = 1
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
    card = Card("CIFAR-100", "none stated by its publisher", _CITATION, f"{_HOMES[0]}cifar.html")
    files = (
        File.below(
            _HOMES,
            "cifar-100-binary.tar.gz",
            "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            168_513_733,
        ),
    )
    labels = tuple(_FINE.split())
    folder = "cifar-100-binary"
    learn = ("train.bin",)
    test = "test.bin"
    label_bytes = 2
