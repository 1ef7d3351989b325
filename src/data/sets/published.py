"""Data sets with original files, which are found, verified and downloaded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from src.data.io.fetch import File, locate
from src.data.io.store import digest
from src.data.sources import VERSION, Pool, Pools, Source, keep


class Published(Source):
    """A source whose pools are read from original files.

    Args:
        path: folder of the original files; it may be read-only.
        cache: folder to look in next, to download to if `path` cannot be written to, and of what is derived.
        mirrors: addresses to download from, or one, which names of files are appended to; None is the public ones.
        files: names, checksums and addresses of the files; None is the public ones.
        drawing: as for `Source`.
    """

    files: ClassVar[tuple[File, ...]]
    slow: ClassVar[bool] = False
    """Whether reading the files takes long enough to keep their content in `cache`, which is then read instead."""

    def __init__(
        self,
        *,
        path: str | Path,
        cache: str | Path,
        mirrors: str | Sequence[str] | None = None,
        files: Sequence[File] | None = None,
        **drawing: Any,
    ) -> None:
        super().__init__(cache=cache, **drawing)
        self.folders = (Path(path), Path(cache))
        self.mirrors = [mirrors] if isinstance(mirrors, str) else mirrors
        self.originals = self.files if files is None else tuple(files)

    @abstractmethod
    def read(self, paths: Mapping[str, Path]) -> Pools:
        """Parse the original files, given by name.

        Raises:
            ValueError: if a file is not what its name says.
        """

    def locate(self) -> dict[str, Path]:
        """Find or download the original files.

        Raises:
            ChecksumError: if a file is there with another checksum.
            DownloadError: if files are missing and no mirror gave them.
        """
        return locate(self.originals, self.folders, self.mirrors)

    def pools(self) -> Pools:
        file = self.cache / f"originals-{digest({'version': VERSION, 'sums': self._sums()})}.npz"
        return keep(file if self.slow else None, lambda: self.checked(self.read(self.locate())), Pools, Pool)

    def checked(self, pools: Pools) -> Pools:
        """The same.

        Raises:
            ValueError: if there are other images or labels than there should be.
        """
        shape = (self.channels, *self.native)
        for pool in filter(None, pools):
            found, labels = tuple(pool.images.shape[1:]), pool.labels.unique().tolist()
            if found != shape or not labels or labels[0] < 0 or labels[-1] >= self.classes:
                held = f"{found} with labels from {labels[0]} to {labels[-1]}" if labels else "none"
                raise ValueError(
                    f"{', '.join(file.name for file in self.originals)} must hold images of {shape} with labels from 0 "
                    f"to {self.classes - 1}, but hold {held}; replace them by the originals."
                )
        return pools

    def about(self) -> dict[str, Any]:
        return super().about() | {"sums": self._sums()}

    def _sums(self) -> list[str]:
        return [file.sum for file in self.originals]
