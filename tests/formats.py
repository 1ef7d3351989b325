"""Small files in the genuine formats of the published data sets, of pictures that show what became of them.

A format is a function from parts, (images, labels) for learning, for validation where it is published, and for testing,
to the content of every file by name. They share no code with src: they follow the publishers' descriptions.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from src.data.io.fetch import File

STEP = 25
"""From a channel to the next, in the centre of a picture."""


class Part(NamedTuple):
    """Pictures and what they show."""

    images: np.ndarray
    """(n, c, y, x), uint8."""
    labels: np.ndarray
    """(n,), int64."""


Files = dict[str, bytes]
Format = Callable[[Sequence[Part]], Files]


@cache
def pictures(n: int, classes: int, shape: tuple[int, int, int], seed: int = 0) -> Part:
    """Noise around a centre of 2 * label + 25 * channel; white, grey and black in all corners but the fourth.

    All labels are equally frequent, in a random order.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % classes)
    channels, y, x = shape
    images = random.integers(0, 256, (n, *shape), dtype=np.uint8)
    centre = 2 * labels[:, None] + STEP * np.arange(channels)
    images[:, :, y // 4 : y - y // 4, x // 4 : x - x // 4] = centre[..., None, None]
    top, left = max(1, y // 8), max(1, x // 8)
    images[..., :top, :left], images[..., :top, -left:], images[..., -top:, :left] = 255, 128, 0
    return Part(images, labels)


def seen(images: Tensor) -> Tensor:
    """The label that every picture shows, in whatever pose, (n,); -1 where channels are not in the order R, G, B."""
    y, x = images.shape[-2:]
    centre = images[..., (y - 1) // 2 : y // 2 + 1, (x - 1) // 2 : x // 2 + 1].long()
    shown = centre - STEP * torch.arange(images.shape[1])[:, None, None]
    first = shown[:, :1, :1, :1]
    return torch.where((shown == first).all((1, 2, 3)), first[:, 0, 0, 0] // 2, -1)


def upright(images: Tensor) -> bool:
    """Whether no picture is turned, mirrored or transposed."""
    corners = (images[..., 0, 0], images[..., 0, -1], images[..., -1, 0])
    return all(bool((corner == value).all()) for corner, value in zip(corners, (255, 128, 0), strict=True))


def publish(folder: Path, contents: Mapping[str, bytes], *mirrors: str, kind: str = "sha256") -> tuple[File, ...]:
    """Write files, and say what is published about them: their sums, sizes, and addresses below these mirrors."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return tuple(
        File(name, f"{kind}:{hashlib.new(kind, content).hexdigest()}", len(content), tuple(m + name for m in mirrors))
        for name, content in contents.items()
    )


def tar_gz(members: Mapping[str, bytes], links: Sequence[str] = ()) -> bytes:
    """A compressed archive with its folder first; `links` are those members that shall be symbolic links."""
    top = tarfile.TarInfo([*members][-1].split("/")[0])
    top.type, top.mode = tarfile.DIRTYPE, 0o755
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(top)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if name in links:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return gzip.compress(file.getvalue(), 1, mtime=0)


def zipped(members: Mapping[str, bytes], links: Sequence[str] = ()) -> bytes:
    """As `tar_gz`, a zip without a folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((stat.S_IFLNK if name in links else stat.S_IFREG) | 0o644) << 16
            archive.writestr(info, "/etc/passwd" if name in links else content, zipfile.ZIP_DEFLATED, 1)
    return file.getvalue()


def h5(arrays: Mapping[str, np.ndarray], **settings: object) -> bytes:
    """An HDF5 file."""
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        for name, array in arrays.items():
            opened.create_dataset(name, data=array, **settings)
    return file.getvalue()


def idx(array: np.ndarray) -> bytes:
    """MNIST's own format: a magic number, the sizes of the axes, then bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def mnist(parts: Sequence[Part]) -> Files:
    """Four files."""
    arrays = {}
    for name, part in zip(("train", "t10k"), parts, strict=True):
        arrays |= {f"{name}-images-idx3-ubyte.gz": part.images[:, 0], f"{name}-labels-idx1-ubyte.gz": part.labels}
    return {name: gzip.compress(idx(array), 1, mtime=0) for name, array in arrays.items()}


def amat(part: Part) -> bytes:
    """A line for each image: grey values / 256 column by column, as MATLAB flattens, and the label, as text."""
    columns = part.images[:, 0].transpose(0, 2, 1).reshape(len(part.images), -1) / 256
    text = io.BytesIO()
    np.savetxt(text, np.column_stack([columns, part.labels]), fmt="%.7e")
    return text.getvalue()


def mnist_rot_members(parts: Sequence[Part]) -> Files:
    names = ("train_valid", "test")
    named = zip(names, parts, strict=True)
    return {f"mnist_all_rotation_normalized_float_{name}.amat": amat(part) for name, part in named}


def mnist_rot(parts: Sequence[Part]) -> Files:
    """The zip of two texts."""
    return {"mnist_rotation_new.zip": zipped(mnist_rot_members(parts))}


def records(part: Part, *before: np.ndarray) -> bytes:
    """Labels and pixels, R then G then B, each row by row, image after image."""
    labels = np.stack([*before, part.labels], axis=1).astype(np.uint8)
    return np.concatenate([labels, part.images.reshape(len(part.images), -1)], axis=1).tobytes()


def cifar10_members(parts: Sequence[Part]) -> Files:
    """All members, in the order of the original."""
    learn, test = parts
    fifths = np.array_split(np.arange(len(learn.labels)), 5)
    batches = {
        f"data_batch_{n}.bin": records(Part(learn.images[rows], learn.labels[rows])) for n, rows in enumerate(fifths, 1)
    }
    others = {"batches.meta.txt": b"airplane\n", "readme.html": b"<html>\n", "test_batch.bin": records(test)}
    order = (1, "batches.meta.txt", 3, 4, "test_batch.bin", "readme.html", 5, 2)
    names = [name if isinstance(name, str) else f"data_batch_{name}.bin" for name in order]
    return {f"cifar-10-batches-bin/{name}": (batches | others)[name] for name in names}


def cifar10(parts: Sequence[Part]) -> Files:
    return {"cifar-10-binary.tar.gz": tar_gz(cifar10_members(parts))}


def cifar100_members(parts: Sequence[Part]) -> Files:
    """Two labels for each image; the first, coarse one is none of those that are wanted."""
    train, test = (records(part, (part.labels + 7) % 20) for part in parts)
    names = {"fine_label_names.txt": b"apple\n", "train.bin": train, "coarse_label_names.txt": b"fish\n"}
    return {f"cifar-100-binary/{name}": content for name, content in (names | {"test.bin": test}).items()}


def cifar100(parts: Sequence[Part]) -> Files:
    return {"cifar-100-binary.tar.gz": tar_gz(cifar100_members(parts))}


def stl10_members(parts: Sequence[Part]) -> Files:
    """Pixels column by column, labels from 1; those for testing come first, in the original too."""
    contents = {"unlabeled_X.bin": bytes(3 * 96 * 96), "class_names.txt": b"airplane\n", "fold_indices.txt": b"0 1\n"}
    for name, part in zip(("train", "test"), parts, strict=True):
        contents[f"{name}_X.bin"] = part.images.transpose(0, 1, 3, 2).tobytes()
        contents[f"{name}_y.bin"] = (part.labels + 1).astype(np.uint8).tobytes()
    order = ("test_X.bin", "test_y.bin", "train_X.bin", "train_y.bin", "unlabeled_X.bin", "class_names.txt")
    return {f"stl10_binary/{name}": contents[name] for name in (*order, "fold_indices.txt")}


def stl10(parts: Sequence[Part]) -> Files:
    return {"stl10_binary.tar.gz": tar_gz(stl10_members(parts))}


def galaxy10(parts: Sequence[Part]) -> Files:
    (learn,) = parts
    arrays = {"ans": learn.labels.astype(np.uint8), "images": learn.images.transpose(0, 2, 3, 1)}
    return {"Galaxy10.h5": h5(arrays, compression="gzip", compression_opts=1)}


def galaxy10_decals(parts: Sequence[Part]) -> Files:
    (learn,) = parts
    others = {key: np.linspace(0, 1, len(learn.labels)) for key in ("ra", "dec", "redshift", "pxscale")}
    arrays = {"ans": learn.labels.astype(np.uint8), "images": learn.images.transpose(0, 2, 3, 1)} | others
    return {"Galaxy10_DECals.h5": h5(arrays)}


def pcam(parts: Sequence[Part]) -> Files:
    """Six files; labels have as many axes as images."""
    arrays = {}
    for name, part in zip(("train", "valid", "test"), parts, strict=True):
        arrays[f"{name}_x"] = part.images.transpose(0, 2, 3, 1)
        arrays[f"{name}_y"] = part.labels.astype(np.uint8).reshape(-1, 1, 1, 1)
    return {
        f"camelyonpatch_level_2_split_{name}.h5.gz": gzip.compress(h5({name[-1]: array}), 1, mtime=0)
        for name, array in arrays.items()
    }
