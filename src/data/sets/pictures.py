"""Pictures of your own: folders of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from src.data.draw import canvas
from src.data.io.store import digest
from src.data.lazy import Lazy
from src.data.sets.own import COUNTS, PARTS, existing
from src.data.sources import VERSION, Pool, Pools, Source, keep
from src.require import require

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
_LIKE_PARTS = {"training", "testing", *chain(*PARTS.values())}
"""Folders that are hardly classes if there are folders in them."""


class ImageFolder(Source):
    """Images in folders that are named as their classes: path/cat/1.png, or path/train/cat/1.png, path/test/cat/2.png.

    Labels follow the alphabetical order of the folders; an image may lie deeper in them. Images of other shapes than
    `size` are scaled until they cover it, and their centre is cut out.

    Args:
        path: the folder.
        size: pixels, a number or [y, x]; None is the size of the first image, which all must have then.
        channels: 1 or 3; None is what the first image has.
        in_memory: read all images at the start, and keep them in `cache`; false reads those of a batch only.
        drawing: as for `Source`; 80 / 10 / 10 % unless `counts` or folders say otherwise.

    Raises:
        ValueError: if there is no such folder, or no two classes of images in it.
    """

    name = "images"
    default_border = "reflect"

    def __init__(
        self,
        *,
        path: str | Path | None,
        size: int | Sequence[int] | None = None,
        channels: int | None = None,
        in_memory: bool = True,
        **drawing: Any,
    ) -> None:
        self.path = existing(path, "a folder with a folder of images for each class", folder=True)
        self.in_memory = in_memory
        self.pictures = _pictures(self.path)
        self.labels = tuple(sorted({picture.label for picture in chain(*self.pictures.values())}))
        learn = sorted({picture.label for picture in self.pictures["learn"]})
        if len(self.labels) < 2 or not learn:
            raise ValueError(
                "`path` must be a folder with a folder of images for each of at least two classes, but to learn from "
                f"{self.path} has {' and '.join(learn) or 'none'}; make {self.path}/<class>/<image>.png."
            )
        first = _open(self.pictures["learn"][0].file)
        what = "1 or 3, or null for those of the first picture"
        require("channels", channels, channels in (None, 1, 3), what)
        self.channels = channels or (1 if Image.getmodebase(first.mode) == "L" else 3)
        self.native = (first.height, first.width) if size is None else canvas(size)
        self.decode = _Decode(self.native, self.channels, strict=size is None)
        self.recommended = COUNTS[tuple(self.pictures)[1:]]
        super().__init__(size=size, **drawing)

    def about(self) -> dict[str, Any]:
        return super().about() | {"pictures": self._listing()}

    def pools(self) -> Pools:
        lazy = Pools(**{part: self._pool(pictures) for part, pictures in self.pictures.items()})
        if not self.in_memory:
            return lazy
        name = f"pictures-{digest({'version': VERSION, 'listing': self._listing()})}.npz"

        def read() -> Pools:
            return Pools(*(pool and Pool(pool.images[:], pool.labels) for pool in lazy))

        return keep(self.cache and self.cache / name, read, Pools, Pool)

    def _pool(self, pictures: Sequence[_Picture]) -> Pool:
        numbers = {label: number for number, label in enumerate(self.labels)}
        labels = torch.tensor([numbers[picture.label] for picture in pictures])
        read = partial(_read_rows, self.decode, tuple(str(picture.file) for picture in pictures))
        return Pool(Lazy(read, torch.arange(len(labels)), (len(labels), self.channels, *self.native)), labels)

    def _listing(self) -> list[Any]:
        """All that decides what is decoded: a file that was changed is read again."""
        stamps = [(picture.file, picture.file.stat()) for picture in chain(*self.pictures.values())]
        return [
            [self.native, self.channels, self.decode.strict],
            [[str(file.relative_to(self.path)), stamp.st_size, stamp.st_mtime_ns] for file, stamp in stamps],
        ]


@dataclass(frozen=True)
class _Decode:
    """Reads one picture: (c, y, x), uint8.

    Raises:
        ValueError: if the file is damaged, or has another size than all others and none was chosen.
    """

    size: tuple[int, int]
    channels: int
    strict: bool

    def __call__(self, file: str) -> Tensor:
        picture = _open(Path(file))
        width_height = self.size[::-1]
        if self.strict and picture.size != width_height:
            raise ValueError(
                f"`size` must be given where pictures have different sizes, but is null, and {file} has "
                f"{picture.height} x {picture.width} pixels where others have {self.size[0]} x {self.size[1]}; choose "
                "one with dataset.size=64, say."
            )
        picture = _plain(picture).convert("L" if self.channels == 1 else "RGB")
        if picture.size != width_height:
            picture = ImageOps.fit(picture, width_height, Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(picture)).reshape(*self.size, self.channels).movedim(-1, 0)


def _read_rows(decode: _Decode, files: Sequence[str], rows: Tensor) -> Tensor:
    """Some pictures of a list of files."""
    return torch.stack([decode(files[row]) for row in rows.tolist()])


class _Picture(NamedTuple):
    file: Path
    label: str


def _pictures(folder: Path) -> dict[str, list[_Picture]]:
    """The files of every pool, in alphabetical order.

    Raises:
        ValueError: if folders are named as parts, and have folders as parts do, but not all of them are parts.
    """
    names = _folders(folder)
    if "train" not in names or not names <= {name for part in PARTS.values() for name in part}:
        if misnamed := sorted(name for name in names if name.lower() in _LIKE_PARTS and _folders(folder / name)):
            raise ValueError(
                f"`path` must be a folder of classes, or of train, val and test only, but {folder} has "
                f"{', '.join(sorted(names))}, with folders in {', '.join(misnamed)}; rename them, or move the others "
                "away."
            )
        return {"learn": _of_classes(folder)}
    parts = {part: [folder / name for name in chosen if name in names] for part, chosen in PARTS.items()}
    return {part: _of_classes(folders[0]) for part, folders in parts.items() if folders}


def _folders(folder: Path) -> set[str]:
    """Names of those in it that are not hidden."""
    return {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}


def _of_classes(folder: Path) -> list[_Picture]:
    """Those in the folders of `folder`, however deep, but for hidden ones."""
    below = ((file, file.relative_to(folder).parts) for file in folder.glob("*/**/*"))
    shown = (_Picture(file, parts[0]) for file, parts in below if not any(part.startswith(".") for part in parts))
    return sorted(picture for picture in shown if picture.file.suffix.lower() in _ENDINGS and picture.file.is_file())


def _open(file: Path) -> Image.Image:
    """A picture as it is to be seen, which need not be as it is stored."""
    try:
        with Image.open(file) as picture:
            return ImageOps.exif_transpose(picture)
    except Exception as error:  # a decoder raises whatever damage leads it to
        raise ValueError(f"{file} is not an intact picture: {error}; replace or remove it.") from error


def _plain(picture: Image.Image) -> Image.Image:
    """Of eight bits, and without a palette some of whose colours are transparent."""
    if picture.mode.startswith("I"):  # Pillow clips sixteen bits to eight instead of scaling them
        return Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    return picture.convert("RGBA") if picture.mode == "P" else picture
