"""Images of your own: folders of classes, arrays in an .npz file, data sets in an .h5 file."""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from src.data.draw import canvas
from src.data.io.archive import DAMAGE
from src.data.io.h5 import channels_first, h5_keys, image_shape, inspect_h5, label_column, open_h5, read_h5
from src.data.io.store import digest
from src.data.lazy import Lazy
from src.data.sources import VERSION, Pool, Pools, Source, keep
from src.data.warp import Border

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
GREY = {"1", "L", "LA", "La", "F"}
"""Modes of Pillow with one channel, besides those of integers, I and I;16 and so on."""
PARTS = {"learn": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Names of the folders and arrays of each pool, where they are given apart."""
LIKE_PARTS = {"training", "testing", *chain(*PARTS.values())}
"""Folders that are hardly classes if there are folders in them."""
COUNTS = {(): (0.8, 0.1, 0.1), ("test",): (0.9, 0.1), ("val",): (0.9, 0.1), ("val", "test"): (1.0,)}
"""What is drawn where these pools are given apart."""


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
    default_border: ClassVar[Border] = "reflect"

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
        self.channels = _channels(1 if first.mode.startswith("I") or first.mode in GREY else 3, channels)
        self.native = (first.height, first.width) if size is None else canvas(size)
        self.decode = Decode(self.native, self.channels, strict=size is None)
        self.recommended = COUNTS[tuple(self.pictures)[1:]]
        super().__init__(size=size, **drawing)

    def about(self) -> dict[str, Any]:
        return super().about() | {"pictures": self._listing()}

    def pools(self) -> Pools:
        if not self.in_memory:
            return self._pools()
        name = f"pictures-{digest({'version': VERSION, 'listing': self._listing()})}.npz"
        return keep(self.cache and self.cache / name, self._read)

    def _pools(self) -> Pools:
        return Pools(**{part: self._pool(pictures) for part, pictures in self.pictures.items()})

    def _pool(self, pictures: Sequence[_Picture]) -> Pool:
        numbers = {label: number for number, label in enumerate(self.labels)}
        labels = torch.tensor([numbers[picture.label] for picture in pictures])
        read = Pictures(tuple(str(picture.file) for picture in pictures), self.decode)
        return Pool(Lazy(read, torch.arange(len(labels)), (len(labels), self.channels, *self.native)), labels)

    def _read(self) -> Pools:
        lazy = self._pools()._asdict()
        return Pools(**{part: Pool(pool.images[:], pool.labels) for part, pool in lazy.items() if pool})

    def _listing(self) -> list[Any]:
        """All that decides what is decoded: a file that was changed is read again."""
        stamps = [(picture.file, picture.file.stat()) for picture in chain(*self.pictures.values())]
        return [
            [self.native, self.channels, self.decode.strict],
            [[str(file.relative_to(self.path)), stamp.st_size, stamp.st_mtime_ns] for file, stamp in stamps],
        ]


@dataclass(frozen=True)
class Decode:
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


@dataclass(frozen=True)
class Pictures:
    """Reads rows of a list of files."""

    files: tuple[str, ...]
    decode: Decode

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.stack([self.decode(self.files[row]) for row in rows.tolist()])


class Arrays(Source):
    """Images and labels in one file, under the keys images and labels, or train_images, train_labels, val_..., test_...

    Images are uint8, (n, y, x), (n, y, x, c) or (n, c, y, x) with one or three channels; labels are integers from 0.

    Args:
        path: the file.
        images, labels: keys, or what follows train_, val_ and test_ in them.
        names: of the classes, by label; None is their numbers, up to the highest label.
        drawing: as for `Source`; 80 / 10 / 10 % unless `counts` or keys say otherwise.

    Raises:
        ValueError: if there is no such file, or if it does not hold that.
    """

    default_border: ClassVar[Border] = "reflect"
    kind: ClassVar[str]

    def __init__(
        self,
        *,
        path: str | Path | None,
        images: str = "images",
        labels: str = "labels",
        names: Sequence[str] | None = None,
        **drawing: Any,
    ) -> None:
        self.path = existing(path, f"an {self.kind} file", folder=False)
        available = self.available()
        with _named(self.path):
            self.keys = _keys(available, images, labels)
        found = {part: self.inspect(*keys) for part, keys in self.keys.items()}
        with _named(self.path):
            self.channels, *native = _one_shape([shape for shape, _ in found.values()])
            self.labels = _class_names([labels for _, labels in found.values()], names)
        self.native = (native[0], native[1])
        self.recommended = COUNTS[tuple(self.keys)[1:]]
        super().__init__(**drawing)

    @abstractmethod
    def available(self) -> list[str]:
        """The keys of the file."""

    @abstractmethod
    def inspect(self, images: str, labels: str) -> tuple[Sequence[int], Tensor]:
        """The shape (n, c, y, x) of the images, and the labels."""

    @abstractmethod
    def read(self, images: str, labels: str) -> Pool:
        """The images and labels of a pair of keys."""

    def about(self) -> dict[str, Any]:
        stamp = self.path.stat()
        return super().about() | {"keys": self.keys, "file": [str(self.path), stamp.st_size, stamp.st_mtime_ns]}

    def pools(self) -> Pools:
        return Pools(**{part: self.read(*keys) for part, keys in self.keys.items()})


class Npz(Arrays):
    """As `Arrays`, from an .npz file that needs no pickle, such as those of MedMNIST."""

    name = "npz"
    kind = ".npz"

    def available(self) -> list[str]:
        with _named(self.path), zipfile.ZipFile(self.path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]

    def inspect(self, images: str, labels: str) -> tuple[Sequence[int], Tensor]:
        with _named(self.path):
            shape, dtype = self._header(images)
            return image_shape(shape, dtype), label_column(self._load(labels), shape[0])

    def read(self, images: str, labels: str) -> Pool:
        with _named(self.path):
            pixels = channels_first(torch.from_numpy(self._load(images)))
            return Pool(pixels, label_column(self._load(labels), len(pixels)))

    def _header(self, key: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of an array, without reading it."""
        with zipfile.ZipFile(self.path) as file, file.open(f"{key}.npy") as array:
            version = np.lib.format.read_magic(array)
            read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
            shape, _, dtype = read(array)
            return shape, dtype

    def _load(self, key: str) -> np.ndarray:
        with np.load(self.path, allow_pickle=False) as arrays:
            return arrays[key]


class H5(Arrays):
    """As `Arrays`, from an .h5 file.

    Args:
        path: the file.
        in_memory: false reads the images of a batch when it is needed, for files that are larger than the memory.
        options: as for `Arrays`.
    """

    name = "h5"
    kind = ".h5"

    def __init__(self, *, path: str | Path | None, in_memory: bool = True, **options: Any) -> None:
        self.in_memory = in_memory
        super().__init__(path=path, **options)

    def available(self) -> list[str]:
        return h5_keys(self.path)

    def inspect(self, images: str, labels: str) -> tuple[Sequence[int], Tensor]:
        return inspect_h5(self.path, images, labels)

    def read(self, images: str, labels: str) -> Pool:
        return (read_h5 if self.in_memory else open_h5)(self.path, images, labels)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong names the file."""
    try:
        yield
    except (KeyError, ValueError, *DAMAGE) as error:
        raise ValueError(f"{path} cannot be used: {error}.") from error


def existing(path: str | Path | None, what: str, *, folder: bool) -> Path:
    """`path`, if a folder or a file is there.

    Raises:
        ValueError: if not.
    """
    if path is None or not (Path(path).is_dir() if folder else Path(path).is_file()):
        raise ValueError(f"`path` must be {what}, but got {path}; give one that exists with dataset.path=...")
    return Path(path)


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
        if misnamed := sorted(name for name in names if name.lower() in LIKE_PARTS and _folders(folder / name)):
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
    return sorted(picture for picture in shown if picture.file.suffix.lower() in ENDINGS and picture.file.is_file())


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


def _channels(found: int, wanted: int | None) -> int:
    if wanted not in (None, 1, 3):
        raise ValueError(f"`channels` must be 1 or 3, or null for those of the first picture, but got {wanted}.")
    return wanted or found


def _keys(available: Sequence[str], images: str, labels: str) -> dict[str, tuple[str, str]]:
    """The pair of keys of every pool."""
    pairs = {"learn": (images, labels)} if images in available else {}
    if not pairs:
        for part, names in PARTS.items():
            if there := [name for name in names if f"{name}_{images}" in available]:
                pairs[part] = (f"{there[0]}_{images}", f"{there[0]}_{labels}")
    missing = [label for _, label in pairs.values() if label not in available]
    if "learn" not in pairs or missing:
        raise ValueError(
            f"it must have the keys {images} and {labels}, or train_{images} and train_{labels}, and so on for val and "
            f"test, but has {', '.join(available) or 'none'}; name others with dataset.images=... dataset.labels=..."
        )
    return pairs


def _one_shape(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """(c, y, x) of the images of all parts."""
    different = sorted({tuple(shape[1:]) for shape in shapes})
    if len(different) > 1 or not all(shape[0] for shape in shapes):
        raise ValueError(
            "it must have images of one shape in all its parts, but has "
            f"{' and '.join(map(str, different)) if len(different) > 1 else 'none in one'}"
        )
    return different[0]


def _class_names(labels: Sequence[Tensor], names: Sequence[str] | None) -> tuple[str, ...]:
    highest = max(int(column.max()) for column in labels)
    if min(int(column.min()) for column in labels) < 0 or (names is not None and highest >= len(names)):
        raise ValueError(
            f"labels must be from 0 to {highest if names is None else len(names) - 1}, but they reach from "
            f"{min(int(column.min()) for column in labels)} to {highest}"
        )
    return tuple(map(str, range(highest + 1) if names is None else names))
