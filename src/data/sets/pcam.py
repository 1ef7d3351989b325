"""PatchCamelyon: too large for most memories, so read from disk as batches need it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from src.data.io.archive import gunzip
from src.data.io.h5 import open_h5
from src.data.io.store import digest
from src.data.sets.published import Published, originals
from src.data.sources import Pools


class Pcam(Published):
    """PatchCamelyon: 262,144 / 32,768 / 32,768 images of 96 x 96, as published: is there a tumour in the centre?

    The files are unpacked once into a folder of `cache`, 8 GB, and their images stay there.
    """

    name = "pcam"
    card, files, labels = originals("pcam")
    native = (96, 96)
    recommended = (1.0,)
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
            return Pools(*(open_h5(x, "x", "y", y) for x, y in zip(files[::2], files[1::2], strict=True)))
        except ValueError as error:
            raise ValueError(f"{error} To have it unpacked again, remove {files[0].parent}.") from error
