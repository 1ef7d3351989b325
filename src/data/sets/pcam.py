"""PatchCamelyon: too large for most memories, so read from disk as batches need it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from src.data.io.archive import gunzip
from src.data.io.arrays import open_pool
from src.data.io.fetch import File
from src.data.io.store import digest
from src.data.sets.published import Published
from src.data.sources import Card, Pools

_HOME = "https://zenodo.org/records/2546921/files"
_NAME = "camelyonpatch_level_2_split_{}.h5.gz"
_SUMS = {
    "train_x": ("d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c", 6_421_353_462),
    "train_y": ("b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a", 21_378),
    "valid_x": ("f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2", 805_965_320),
    "valid_y": ("ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c", 3_038),
    "test_x": ("79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245", 800_875_929),
    "test_y": ("0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef", 3_040),
}
"""Of the compressed files. The publisher's README has the sums of valid and test exchanged, as its author says."""


class Pcam(Published):
    """PatchCamelyon: 262,144 / 32,768 / 32,768 images of 96 x 96, as published: is there a tumour in the centre?

    The files are unpacked once into a folder of `cache`, 8 GB, and their images stay there.
    """

    name = "pcam"
    card = Card(
        "PatchCamelyon",
        "CC0",
        "Veeling, Linmans, Winkens, Cohen, Welling: Rotation Equivariant CNNs for Digital Pathology. MICCAI, 2018",
        "https://github.com/basveeling/pcam",
    )
    files = tuple(
        File.below([_HOME], _NAME.format(part), f"sha256:{sha256}", size) for part, (sha256, size) in _SUMS.items()
    )
    labels = ("no tumour", "tumour")
    channels = 3
    native = (96, 96)
    recommended = (1.0,)
    default_border = "reflect"
    in_memory = False

    @property
    def unpacked(self) -> dict[str, Path]:
        """Where every original file is unpacked to, by its name."""
        folder = self.cache / f"originals-{digest({'sums': self._sums()})}"
        return {file.name: folder / file.name.removesuffix(".gz") for file in self.originals}

    def pools(self) -> Pools:
        there = all(path.exists() for path in self.unpacked.values())
        return self.checked(self.read({} if there else self.locate()))

    def read(self, paths: Mapping[str, Path]) -> Pools:
        for name, path in paths.items():
            try:
                gunzip(path, self.unpacked[name])
            except OSError as error:
                raise ValueError(
                    f"{path} cannot be unpacked to {self.unpacked[name].parent}: {error}; make room, or name another "
                    "folder with paths.cache=..."
                ) from error
        files = list(self.unpacked.values())
        try:
            return Pools(*(open_pool(x, "x", "y", labels_path=y) for x, y in zip(files[::2], files[1::2], strict=True)))
        except ValueError as error:
            raise ValueError(f"{error} To have it unpacked again, remove {files[0].parent}.") from error
