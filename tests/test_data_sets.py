"""Every published data set from its server to a training step; whatever its network, files and disk do; and draws."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import formats
import numpy as np
import pytest
import torch
from composing import loaded
from formats import Files, Format, Part, pictures, publish, seen, upright
from servers import PIECE, Server, serving
from torch import Tensor

from src.data import (
    Cifar10,
    Cifar100,
    Galaxy10,
    Galaxy10Decals,
    Lazy,
    Mnist,
    MnistRotOfficial,
    Npz,
    Pcam,
    Pool,
    Pools,
    Source,
    Split,
    Splits,
    Stl10,
)
from src.data.io import fetch
from src.data.io.fetch import ChecksumError, DownloadError, File
from src.data.sets.published import Published
from src.training import Recipe

SMALL = ("net.hidden_sizes=[4,4,6]", "conv.kernel_size=5", "net.exact=off", "train.batch_size=8")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small nets are slower with more, most of all where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Case(NamedTuple):
    """A data set, and how it is made small."""

    source: type[Published]
    format: Format
    shape: tuple[int, int, int]
    classes: int
    parts: tuple[int, ...]
    """Images published for learning, for validation if apart, and for testing."""
    counts: list[int] | None
    """None is the publisher's shares."""
    sizes: tuple[int, int, int]
    """Of the splits."""
    dataset: str
    more: tuple[str, ...] = ()
    posed: bool = False
    """Whether images are turned or scaled."""
    kept: bool = True
    """Whether the cache alone is enough from the second time on."""

    def made(self) -> list[Part]:
        return [pictures(n, self.classes, self.shape, seed) for seed, n in enumerate(self.parts)]

    def publish(self, folder: Path, *mirrors: str) -> tuple[File, ...]:
        kind = self.source.files[0].sum.partition(":")[0]
        return publish(folder, self.format(self.made()), *mirrors, kind=kind)

    def overrides(self, folder: Path) -> list[str]:
        counts = [] if self.counts is None else [f"dataset.counts={self.counts}"]
        paths = [f"paths.data={folder / 'data'}", f"paths.cache={folder / 'cache'}"]
        return [f"dataset={self.dataset}", *self.more, *counts, *paths, *SMALL]


ALL_MNIST = (Mnist, formats.mnist, (1, 28, 28), 10, (200, 40))
CIFAR10 = (Cifar10, formats.cifar10, (3, 32, 32), 10, (60, 20), [40, 20], (40, 20, 20))
CASES = {
    "mnist": Case(*ALL_MNIST, [180, 20], (180, 20, 40), "mnist", kept=False),
    "mnist_rot": Case(*ALL_MNIST, [100, 20, 120], (100, 20, 120), "mnist_rot", posed=True),
    "mnist_rot_official": Case(
        MnistRotOfficial,
        formats.mnist_rot,
        (1, 28, 28),
        10,
        (120, 50),
        [100, 20],
        (100, 20, 50),
        "mnist_rot",
        ("dataset.source=official",),
    ),
    "mnist_scale": Case(*ALL_MNIST, [100, 20, 120], (100, 20, 120), "mnist_scale", posed=True),
    "mnist_rot_scale": Case(*ALL_MNIST, [120, 80, 40], (120, 80, 40), "mnist_rot_scale", posed=True),
    "cifar10": Case(*CIFAR10, "cifar10"),
    "cifar10_rot": Case(*CIFAR10, "cifar10_rot", posed=True),
    "cifar100": Case(Cifar100, formats.cifar100, (3, 32, 32), 100, (200, 100), [100, 100], (100,) * 3, "cifar100"),
    "stl10": Case(Stl10, formats.stl10, (3, 96, 96), 10, (20, 10), [12, 8], (12, 8, 10), "stl10"),
    "galaxy10": Case(Galaxy10, formats.galaxy10, (3, 69, 69), 10, (100,), None, (70, 10, 20), "galaxy10", kept=False),
    "galaxy10_decals": Case(
        Galaxy10Decals, formats.galaxy10_decals, (3, 256, 256), 10, (40,), None, (28, 4, 8), "galaxy10_decals"
    ),
    "pcam": Case(Pcam, formats.pcam, (3, 96, 96), 2, (16, 8, 8), None, (16, 8, 8), "pcam"),
}
EVERY = pytest.mark.parametrize("name", CASES)


def load(name: str, folder: Path) -> Recipe:
    return loaded("cnn_baseline", CASES[name].overrides(folder))


def splits_of(recipe: Recipe) -> Splits:
    return Splits(**{name: dataset.split for name, dataset in recipe.datamodule.datasets.items()})


def same(a: Splits, b: Splits) -> bool:
    """Bit for bit; images may be read from disk."""
    pairs = zip(a, b, strict=True)
    return all(torch.equal(x[:], y[:]) for left, right in pairs for x, y in zip(left, right, strict=True))


def aligned(split: Split) -> bool:
    """Whether every image shows its own label."""
    return torch.equal(seen(split.images[:]), split.labels)


def original(split: Split, made: Sequence[Part]) -> bool:
    """Whether every image and label is, bit for bit, the one of its number among those that were made."""
    images = np.concatenate([part.images for part in made])[split.ids]
    labels = np.concatenate([part.labels for part in made])[split.ids]
    return np.array_equal(split.images[:], images) and np.array_equal(split.labels, labels)


def disjoint(splits: Sequence[Split]) -> bool:
    ids = torch.cat([split.ids for split in splits])
    return len(ids.unique()) == len(ids)


def proportional(labels: Tensor, classes: int) -> bool:
    """Whether classes that are equally frequent in all are so here, give or take one image."""
    return bool(((torch.bincount(labels, minlength=classes) - len(labels) / classes).abs() <= 1).all())


def intact(root: Path, files: Sequence[File]) -> None:
    """Under every final name is a whole file: an original, or one that is derived and can be read to its end."""
    originals = {file.name: file for file in files}
    for path in root.rglob("*"):
        if path.is_dir() or path.name.startswith(".") or path.is_relative_to(root / "served"):
            continue
        if path.name in originals:
            assert sum_of(path.read_bytes(), originals[path.name]) == originals[path.name].sum
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[key] is not None for key in arrays)
        elif path.suffix == ".json":
            assert json.loads(path.read_text())
        elif path.parent != root:
            assert path.suffix == ".h5"
            packed = next(found for found in root.rglob(f"{path.name}.gz") if not found.is_relative_to(root / "served"))
            assert path.read_bytes() == gzip.decompress(packed.read_bytes())


def sum_of(content: bytes, file: File) -> str:
    kind = file.sum.partition(":")[0]
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


def unreachable(*args: object, **options: object) -> None:
    raise AssertionError("nothing may be downloaded")


def step(recipe: Recipe) -> Tensor:
    """The loss of a training batch, after an optimiser step on it."""
    images, labels = next(iter(recipe.datamodule.train_dataloader()))
    optimizer = recipe.model.groups.optimiser(recipe.model.net, recipe.model.optimizer)
    torch.nn.functional.cross_entropy(recipe.model(images), labels).backward()
    optimizer.step()
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(recipe.model(images), labels)


@EVERY
def test_from_the_server_to_a_training_step(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    with serving() as serve:
        server: Server = serve(tmp_path / "served")
        files = case.publish(tmp_path / "served", server.url)
        monkeypatch.setattr(case.source, "files", files)
        recipe = load(name, tmp_path)
        assert not server.asked, "composing a recipe reads nothing"
        recipe.datamodule.prepare_data()
    assert server.asked == [None] * len(files)
    splits = splits_of(recipe)
    assert tuple(len(split.labels) for split in splits) == case.sizes
    assert disjoint(splits)
    for split in splits:
        assert split.images.shape == (len(split.labels), case.shape[0], *recipe.datamodule.size)
        assert proportional(split.labels, case.classes)
        assert aligned(split)
        assert upright(split.images[:]) == (not case.posed)
        if not case.posed:
            assert recipe.datamodule.size != case.shape[1:] or original(split, case.made())
    check_statistics(recipe, splits.train)
    check_batches(recipe)
    assert step(recipe).isfinite()
    intact(tmp_path, files)

    monkeypatch.setattr(fetch.requests, "get", unreachable)
    if case.kept:
        (tmp_path / "data").rename(tmp_path / "gone")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    again = load(name, tmp_path)
    assert same(splits_of(again), splits)
    assert torch.equal(again.datamodule.datasets["train"].mean, recipe.datamodule.datasets["train"].mean)
    assert torch.equal(again.datamodule.datasets["train"].std, recipe.datamodule.datasets["train"].std)
    assert again.datamodule.fingerprint == recipe.datamodule.fingerprint
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def check_statistics(recipe: Recipe, train: Split) -> None:
    """Those of the training images, computed otherwise; kept in one file."""
    pixels = train.images[:].numpy().astype(np.float64) / 255
    dataset = recipe.datamodule.datasets["train"]
    np.testing.assert_allclose(dataset.mean.flatten(), pixels.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(dataset.std.flatten(), pixels.std((0, 2, 3)), rtol=1e-4)
    assert len([*recipe.datamodule.source.cache.glob("statistics-*")]) == 1


def check_batches(recipe: Recipe) -> None:
    """What reaches the net is normalised and still aligned; the split is written under its name."""
    module = recipe.datamodule
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        dataset = loader.dataset
        for images, labels in loader:
            assert torch.equal(seen(((images * dataset.std + dataset.mean) * 255).round()), labels)
    with np.load(module.source.cache / f"split-{module.fingerprint}.npz") as ids:
        assert {name: ids[name].tolist() for name in ids} == {
            name: dataset.split.ids.tolist() for name, dataset in module.datasets.items()
        }


# What may go wrong, for every format of files.

FORMATS = ("mnist", "mnist_rot_official", "cifar10", "cifar100", "stl10", "galaxy10", "galaxy10_decals", "pcam")
EVERY_FORMAT = pytest.mark.parametrize("name", FORMATS)


def source(name: str, folder: Path, files: Sequence[File], **options: object) -> Published:
    case = CASES[name]
    return case.source(path=folder / "data", cache=folder / "cache", files=files, counts=case.counts, **options)


def expected(name: str, folder: Path, **options: object) -> Splits:
    """The splits where nothing goes wrong."""
    files = CASES[name].publish(folder / "good" / "data")
    return source(name, folder / "good", files, **options).splits()


@contextmanager
def ignored() -> Iterator[None]:
    """The warning that the cache cannot be written to, where the error that follows says more."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*cannot be written", RuntimeWarning)
        yield


def fails(source: Published, error: type[Exception], *texts: str) -> None:
    """Reading ends in an error of these texts, and leaves nothing under a final name that is not whole."""
    with pytest.raises(error) as raised:
        source.splits()
    for text in texts:
        assert text in str(raised.value)
    intact(source.folders[0].parent, source.originals)


@EVERY_FORMAT
def test_wrong_sum_on_the_server(name: str, tmp_path: Path) -> None:
    with serving() as serve:
        server = serve(tmp_path / "served")
        files = CASES[name].publish(tmp_path / "served", server.url)
        content = (tmp_path / "served" / files[-1].name).read_bytes()
        wrong = content[:-1] + bytes([content[-1] ^ 1])
        (tmp_path / "served" / files[-1].name).write_bytes(wrong)
        message = f"the sum must be {files[-1].sum}, but is {sum_of(wrong, files[-1])}"
        fails(source(name, tmp_path, files), DownloadError, files[-1].name, server.url + files[-1].name, message)
    assert not (tmp_path / "data" / files[-1].name).exists()


@EVERY_FORMAT
def test_truncated_on_the_server(name: str, tmp_path: Path) -> None:
    with serving() as serve:
        server = serve(tmp_path / "served")
        files = CASES[name].publish(tmp_path / "served", server.url)
        content = (tmp_path / "served" / files[0].name).read_bytes()
        (tmp_path / "served" / files[0].name).write_bytes(content[:-100])
        message = f"the file must have {len(content)} bytes, but there it has {len(content) - 100}"
        fails(source(name, tmp_path, files), DownloadError, files[0].name, message)
    assert not (tmp_path / "data" / files[0].name).exists()


@EVERY_FORMAT
def test_second_mirror_where_the_first_has_nothing(name: str, tmp_path: Path) -> None:
    with serving() as serve:
        empty, full = serve(tmp_path / "empty"), serve(tmp_path / "served")
        files = CASES[name].publish(tmp_path / "served", empty.url, full.url)
        splits = source(name, tmp_path, files).splits()
        assert len(empty.asked) == len(full.asked) == len(files)
    assert same(splits, expected(name, tmp_path))
    intact(tmp_path, files)


@pytest.mark.parametrize("several", [True, False])
def test_mirror_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool) -> None:
    monkeypatch.setattr(Mnist, "files", CASES["mnist"].publish(tmp_path / "served", "http://127.0.0.1:9/"))
    with serving() as serve:
        url = serve(tmp_path / "served").url
        given = f"dataset.mirrors={f'[{url}]' if several else url}"
        recipe = loaded("cnn_baseline", [*CASES["mnist"].overrides(tmp_path), given])
        assert all(original(split, CASES["mnist"].made()) for split in splits_of(recipe))


@EVERY_FORMAT
def test_connection_that_is_cut_is_continued(name: str, tmp_path: Path) -> None:
    files = CASES[name].publish(tmp_path / "served")
    half = max(PIECE, files[0].size // 2)
    assert half < files[0].size, "too small a file to be cut"
    with serving() as serve:
        server = serve(tmp_path / "served", cuts=[half])
        splits = source(name, tmp_path, CASES[name].publish(tmp_path / "served", server.url)).splits()
    first, second, *others = server.asked
    assert first is None
    assert half - PIECE < int(second.removeprefix("bytes=").removesuffix("-")) <= half
    assert others == [None] * (len(files) - 1)
    assert server.served <= sum(file.size for file in files) + PIECE, "what had arrived was not asked for again"
    assert same(splits, expected(name, tmp_path))
    intact(tmp_path, files)


@EVERY_FORMAT
def test_another_file_under_the_name_is_an_error_and_stays(name: str, tmp_path: Path) -> None:
    files = CASES[name].publish(tmp_path / "data")
    path = tmp_path / "data" / files[0].name
    wrong = path.read_bytes()[:-100]
    path.write_bytes(wrong)
    with pytest.raises(ChecksumError) as error:
        source(name, tmp_path, files).splits()
    for text in (str(path), files[0].sum, sum_of(wrong, files[0]), "move it away"):
        assert text in str(error.value)
    assert path.read_bytes() == wrong


def fill_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Nothing that is written reaches the disk, which is noticed when it is flushed."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    return "No space left on device"


def occupy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The cache cannot be made, for root neither."""
    (folder / "cache").write_text("a file, so no folder can be made here")
    return "File exists|Not a directory"


OBSTACLES = pytest.mark.parametrize("obstacle", [fill_disk, occupy])
Obstacle = Callable[[Path, pytest.MonkeyPatch], str]


@EVERY_FORMAT
def test_disk_is_full_in_the_download(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(tmp_path, monkeypatch)
    with serving() as serve:
        files = CASES[name].publish(tmp_path / "served", serve(tmp_path / "served").url)
        with ignored():
            fails(source(name, tmp_path, files), DownloadError, f"{tmp_path / 'data'} is full: {files[0].name}")
    assert not any((folder / files[0].name).exists() for folder in (tmp_path / "data", tmp_path / "cache"))


def derived(folder: Path) -> list[Path]:
    """All that was made in the cache, whole or not, but for locks, which are empty."""
    return [path for path in (folder / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


DERIVED = {
    "mnist": {"rotate": True},
    "galaxy10_decals": {"size": 128},
    "mnist_rot_official": {},
    "cifar10": {},
    "cifar100": {},
    "stl10": {},
}


@OBSTACLES
@pytest.mark.parametrize("name", DERIVED)
def test_what_cannot_be_kept_is_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: Obstacle
) -> None:
    wanted = expected(name, tmp_path, **DERIVED[name])
    files = CASES[name].publish(tmp_path / "data")
    reason = obstacle(tmp_path, monkeypatch)
    with pytest.warns(RuntimeWarning, match=f"cannot be written .*({reason}).*paths.cache"):
        assert same(source(name, tmp_path, files, **DERIVED[name]).splits(), wanted)
    assert not derived(tmp_path)


@OBSTACLES
def test_what_cannot_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: Obstacle) -> None:
    files = CASES["pcam"].publish(tmp_path / "data")
    reason = obstacle(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=f"{files[0].name} cannot be unpacked to {tmp_path}.*({reason}).*paths.cache"):
        source("pcam", tmp_path, files).splits()
    assert not derived(tmp_path)


@OBSTACLES
@pytest.mark.parametrize("name", ["mnist", "mnist_rot", "cifar10"])
def test_training_needs_no_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: Obstacle
) -> None:
    monkeypatch.setattr(CASES[name].source, "files", CASES[name].publish(tmp_path / "served"))
    recipe = load(name, tmp_path)
    recipe.datamodule.source.folders[0].parent.mkdir()
    (tmp_path / "served").rename(recipe.datamodule.source.folders[0])
    reason = obstacle(tmp_path, monkeypatch)
    with pytest.warns(RuntimeWarning, match=f"cannot be written .*({reason})"):
        recipe.datamodule.prepare_data()
    assert all(map(aligned, splits_of(recipe)))
    assert step(recipe).isfinite()
    assert not derived(tmp_path)


@EVERY_FORMAT
def test_data_folder_that_cannot_be_written_to(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, so no folder can be made here")
    with serving() as serve:
        files = CASES[name].publish(tmp_path / "served", serve(tmp_path / "served").url)
        assert same(source(name, tmp_path, files).splits(), expected(name, tmp_path))
    intact(tmp_path, files)
    assert {file.name for file in files} <= {path.name for path in (tmp_path / "cache").iterdir()}


@EVERY_FORMAT
def test_no_folder_can_be_written_to(name: str, tmp_path: Path) -> None:
    for folder in ("data", "cache"):
        (tmp_path / folder).write_text("a file, so no folder can be made here")
    files = CASES[name].publish(tmp_path / "served", "http://127.0.0.1:9/")
    with ignored():
        fails(source(name, tmp_path, files), DownloadError, "no folder can be written to", str(tmp_path / "data"))


# Archives and contents that are not what they should be although their sums are: the reader itself must see it.

ARCHIVES = {
    "mnist_rot_official": (formats.mnist_rot_members, formats.zipped),
    "cifar10": (formats.cifar10_members, formats.tar_gz),
    "cifar100": (formats.cifar100_members, formats.tar_gz),
    "stl10": (formats.stl10_members, formats.tar_gz),
}
EVERY_ARCHIVE = pytest.mark.parametrize("name", ARCHIVES)


def members(name: str) -> Files:
    return ARCHIVES[name][0](CASES[name].made())


def archived(name: str, content: Files, links: Sequence[str] = ()) -> Files:
    """The archive that is published, of other members."""
    return {CASES[name].source.files[0].name: ARCHIVES[name][1](content, links)}


def refused(name: str, folder: Path, contents: Files, *texts: str) -> None:
    """Files of other content, whose sums are right, end in an error of these texts, and nothing is derived of them."""
    files = publish(folder / "data", contents)
    fails(source(name, folder, files), ValueError, *texts)
    assert not [*(folder / "cache").glob("*.npz")]


@EVERY_ARCHIVE
@pytest.mark.parametrize("hostile", ["../evil.bin", "/tmp/evil.bin"])
def test_member_that_would_be_written_elsewhere(name: str, tmp_path: Path, hostile: str) -> None:
    contents = archived(name, {hostile: b"hostile"} | members(name))
    texts = (*contents, repr(hostile), "must have a relative name", "replace it by the original")
    refused(name, tmp_path, contents, *texts)
    assert not list(tmp_path.rglob("evil*"))


@EVERY_ARCHIVE
def test_member_that_is_a_link(name: str, tmp_path: Path) -> None:
    wanted = next(member for member in members(name) if Path(member).suffix in (".bin", ".amat"))
    contents = archived(name, members(name), [wanted])
    refused(name, tmp_path, contents, *contents, repr(wanted), "must be a regular file")


@EVERY_ARCHIVE
def test_member_that_is_missing(name: str, tmp_path: Path) -> None:
    wanted = next(member for member in members(name) if Path(member).suffix in (".bin", ".amat"))
    rest = {member: content for member, content in members(name).items() if member != wanted}
    contents = archived(name, rest)
    refused(name, tmp_path, contents, *contents, f"no member {wanted}", "replace it by the original")


@EVERY_ARCHIVE
def test_members_in_any_order(name: str, tmp_path: Path) -> None:
    contents = archived(name, dict(reversed(members(name).items())))
    splits = source(name, tmp_path, publish(tmp_path / "data", contents)).splits()
    assert same(splits, expected(name, tmp_path))


@EVERY_FORMAT
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_file_of_another_kind(name: str, tmp_path: Path, content: bytes) -> None:
    contents = CASES[name].format(CASES[name].made())
    first = next(iter(contents))
    # What is unpacked has lost its .gz.
    named = first.removesuffix(".gz") if name == "pcam" else first
    refused(name, tmp_path, contents | {first: content}, named, "replace it by the original")


def in_archive(name: str, member: str, change: Callable[[bytes], bytes]) -> Files:
    content = members(name)
    return archived(name, content | {member: change(content[member])})


def relabelled(name: str, label: int) -> Files:
    """Every image has the same label."""
    return CASES[name].format([Part(images, np.full(len(images), label)) for images, _ in CASES[name].made()])


def galaxies(**arrays: np.ndarray | None) -> Files:
    """Galaxy10 with other arrays, or without them if they are None."""
    (part,) = CASES["galaxy10"].made()
    given = {"images": part.images.transpose(0, 2, 3, 1), "ans": part.labels.astype(np.uint8)} | arrays
    return {"Galaxy10.h5": formats.h5({key: array for key, array in given.items() if array is not None})}


def patches(part: str, arrays: Mapping[str, np.ndarray]) -> Files:
    """PatchCamelyon with another file."""
    name = f"camelyonpatch_level_2_split_{part}.h5.gz"
    return CASES["pcam"].format(CASES["pcam"].made()) | {name: gzip.compress(formats.h5(arrays))}


def damaged_chunk() -> Files:
    """One byte of the pixels, which are compressed and have no sum, is another."""
    ((name, content),) = CASES["galaxy10"].format(CASES["galaxy10"].made()).items()
    middle = len(content) // 2
    return {name: content[:middle] + bytes(100) + content[middle + 100 :]}


def digits(**others: bytes) -> Files:
    """MNIST with other files."""
    contents = CASES["mnist"].format(CASES["mnist"].made())
    by_start = {name.replace("-", "_").partition("_idx")[0]: name for name in contents}
    return contents | {by_start[start]: gzip.compress(content) for start, content in others.items()}


TEXT = "mnist_all_rotation_normalized_float_test.amat"
BATCH = "cifar-10-batches-bin/data_batch_2.bin"
ONES = np.ones(100, np.uint8)
DAMAGES: dict[str, tuple[str, Callable[[], Files], tuple[str, ...]]] = {
    "mnist magic number": (
        "mnist",
        lambda: digits(train_images=b"\0\0\x0d\3" + bytes(12)),
        ("train-images-idx3-ubyte.gz", "magic number must be 00000803, but is 00000d03"),
    ),
    "mnist too short": (
        "mnist",
        lambda: digits(t10k_labels=formats.idx(np.ones(40))[:-1]),
        ("t10k-labels-idx1-ubyte.gz", "says 8 + 40 bytes, but it has 47"),
    ),
    "mnist number of labels": (
        "mnist",
        lambda: digits(train_labels=formats.idx(np.ones(199))),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "(200, 1, 28, 28) and 199"),
    ),
    "mnist size": (
        "mnist",
        lambda: digits(train_images=formats.idx(np.ones((200, 28, 27)))),
        ("train-images-idx3-ubyte.gz", "28 x 28", "(200, 1, 28, 27)"),
    ),
    "mnist label": ("mnist", lambda: relabelled("mnist", 10), ("train-labels", "labels from 0 to 9", "from 10 to 10")),
    "mnist_rot words": (
        "mnist_rot_official",
        lambda: in_archive("mnist_rot_official", TEXT, lambda text: b"<html>no numbers</html>\n" + text),
        ("mnist_rotation_new.zip", "could not convert string '<html>no'", "replace it by the original"),
    ),
    "mnist_rot words at the end": (
        "mnist_rot_official",
        lambda: in_archive("mnist_rot_official", TEXT, lambda text: text + b"the end\n"),
        ("mnist_rotation_new.zip", "columns changed from 785 to 2 at row 51", "replace it by the original"),
    ),
    "mnist_rot other bytes": (
        "mnist_rot_official",
        lambda: in_archive("mnist_rot_official", TEXT, lambda text: b"\xff" + text[1:]),
        ("mnist_rotation_new.zip", "could not convert string", "replace it by the original"),
    ),
    "mnist_rot too few numbers": (
        "mnist_rot_official",
        lambda: in_archive("mnist_rot_official", TEXT, lambda text: text[text.index(b" ") :]),
        ("mnist_rotation_new.zip", "columns changed from 784 to 785 at row 2", "replace it by the original"),
    ),
    "mnist_rot nothing": (
        "mnist_rot_official",
        lambda: in_archive("mnist_rot_official", TEXT, lambda text: b""),
        ("mnist_rotation_new.zip", "lines of 785 numbers", "has none", "replace it by the original"),
    ),
    "mnist_rot no label": (
        "mnist_rot_official",
        lambda: in_archive("mnist_rot_official", TEXT, lambda text: text.rstrip()[:-13] + b"nan"),
        ("mnist_rotation_new.zip", "labels from 0 to 9"),
    ),
    "cifar10 record": (
        "cifar10",
        lambda: in_archive("cifar10", BATCH, lambda batch: batch[:-1]),
        ("cifar-10-binary.tar.gz", "3073 bytes each", f"has {60 * 3073 - 1}", "replace it by the original"),
    ),
    "cifar10 nothing": (
        "cifar10",
        lambda: in_archive("cifar10", "cifar-10-batches-bin/test_batch.bin", lambda batch: b""),
        ("cifar-10-binary.tar.gz", "3073 bytes each", "has 0"),
    ),
    "cifar10 label": (
        "cifar10",
        lambda: relabelled("cifar10", 10),
        ("cifar-10-binary", "labels from 0 to 9", "from 10 to 10"),
    ),
    "cifar100 record": (
        "cifar100",
        lambda: in_archive("cifar100", "cifar-100-binary/test.bin", lambda batch: batch[:-1]),
        ("cifar-100-binary.tar.gz", "3074 bytes each", f"has {100 * 3074 - 1}"),
    ),
    "cifar100 label": (
        "cifar100",
        lambda: relabelled("cifar100", 100),
        ("cifar-100", "labels from 0 to 99", "from 100 to 100"),
    ),
    "stl10 pixels": (
        "stl10",
        lambda: in_archive("stl10", "stl10_binary/train_X.bin", lambda pixels: pixels[:-1]),
        ("stl10_binary.tar.gz", "27648 bytes of pixels for every label", f"has {20 * 27648 - 1} for 20 labels"),
    ),
    "stl10 number of labels": (
        "stl10",
        lambda: in_archive("stl10", "stl10_binary/test_y.bin", lambda labels: labels[:-1]),
        ("stl10_binary.tar.gz", "27648 bytes of pixels for every label", f"has {10 * 27648} for 9 labels"),
    ),
    "stl10 label 0": (
        "stl10",
        lambda: relabelled("stl10", -1),
        ("stl10_binary.tar.gz", "labels from 0 to 9", "from -1 to -1"),
    ),
    "stl10 label 11": (
        "stl10",
        lambda: relabelled("stl10", 10),
        ("stl10_binary.tar.gz", "labels from 0 to 9", "from 10 to 10"),
    ),
    "galaxy10 no labels": (
        "galaxy10",
        lambda: galaxies(ans=None, labels=ONES),
        ("Galaxy10.h5", "must have the key 'ans', but has 'images', 'labels'", "original"),
    ),
    "galaxy10 no images": (
        "galaxy10",
        lambda: galaxies(images=None),
        ("Galaxy10.h5", "must have the key 'images', but has 'ans'"),
    ),
    "galaxy10 floats": (
        "galaxy10",
        lambda: galaxies(images=np.zeros((100, 69, 69, 3), np.float32)),
        ("Galaxy10.h5", "must be uint8", "float32 of (100, 69, 69, 3)"),
    ),
    "galaxy10 axes": (
        "galaxy10",
        lambda: galaxies(images=np.zeros((100, 69, 69, 4), np.uint8)),
        ("Galaxy10.h5", "one or three channels", "uint8 of (100, 69, 69, 4)"),
    ),
    "galaxy10 size": (
        "galaxy10",
        lambda: galaxies(images=np.zeros((100, 68, 69, 3), np.uint8)),
        ("Galaxy10.h5", "(3, 69, 69)", "(3, 68, 69)"),
    ),
    "galaxy10 number of labels": (
        "galaxy10",
        lambda: galaxies(ans=ONES[:99]),
        ("Galaxy10.h5", "must be 100 integers", "uint8 of the shape (99,)"),
    ),
    "galaxy10 float labels": (
        "galaxy10",
        lambda: galaxies(ans=ONES.astype(np.float64)),
        ("Galaxy10.h5", "must be 100 integers", "float64 of the shape (100,)"),
    ),
    "galaxy10 label": (
        "galaxy10",
        lambda: galaxies(ans=10 * ONES),
        ("Galaxy10.h5", "labels from 0 to 9", "from 10 to 10"),
    ),
    "galaxy10 chunk": ("galaxy10", damaged_chunk, ("Galaxy10.h5", "replace it by the original")),
    "pcam no images": (
        "pcam",
        lambda: patches("valid_x", {"images": np.zeros((8, 96, 96, 3), np.uint8)}),
        ("split_valid_x.h5", "must have the key 'x', but has 'images'"),
    ),
    "pcam no labels": (
        "pcam",
        lambda: patches("valid_y", {"x": np.zeros((8, 1, 1, 1), np.uint8)}),
        ("split_valid_y.h5", "must have the key 'y', but has 'x'"),
    ),
    "pcam floats": (
        "pcam",
        lambda: patches("test_x", {"x": np.zeros((8, 96, 96, 3), np.float32)}),
        ("split_test_x.h5", "must be uint8", "float32 of (8, 96, 96, 3)"),
    ),
    "pcam number of labels": (
        "pcam",
        lambda: patches("train_y", {"y": np.zeros((15, 1, 1, 1), np.uint8)}),
        ("split_train_y.h5", "must be 16 integers", "(15, 1, 1, 1)"),
    ),
    "pcam label": ("pcam", lambda: relabelled("pcam", 2), ("split_train_y.h5", "labels from 0 to 1", "from 2 to 2")),
    "pcam size": (
        "pcam",
        lambda: patches("test_x", {"x": np.zeros((8, 96, 95, 3), np.uint8)}),
        ("split_test_x.h5", "(3, 96, 96)", "(3, 96, 95)"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_content_of_the_right_sum(damage: str, tmp_path: Path) -> None:
    name, contents, texts = DAMAGES[damage]
    refused(name, tmp_path, contents(), *texts)


# What was derived, and is damaged later.


@pytest.mark.parametrize("name", DERIVED)
def test_damaged_cache_is_made_again(name: str, tmp_path: Path) -> None:
    files = CASES[name].publish(tmp_path / "data")
    splits = source(name, tmp_path, files, **DERIVED[name]).splits()
    (file,) = (tmp_path / "cache").glob("*.npz")
    content = file.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2], content[:5000] + bytes(500) + content[5500:]):
        file.write_bytes(damaged)
        with pytest.warns(RuntimeWarning, match=f"{file} is damaged .* is made again"):
            assert same(source(name, tmp_path, files, **DERIVED[name]).splits(), splits)
        assert file.read_bytes() == content


@pytest.mark.parametrize("damaged", [b"", b"text", None])
def test_damaged_unpacked_file_is_an_error(tmp_path: Path, damaged: bytes | None) -> None:
    files = CASES["pcam"].publish(tmp_path / "data")
    splits = source("pcam", tmp_path, files).splits()
    path = next((tmp_path / "cache").rglob("*valid_x.h5"))
    path.write_bytes(path.read_bytes()[:-1000] if damaged is None else damaged)
    with pytest.raises(ValueError, match=f"{path} cannot be used: .* remove {path.parent}"):
        source("pcam", tmp_path, files).splits()
    shutil.rmtree(path.parent)
    assert same(source("pcam", tmp_path, files).splits(), splits)


def test_damaged_statistics_are_made_again(tmp_path: Path) -> None:
    mnist = source("mnist", tmp_path, CASES["mnist"].publish(tmp_path / "data"))
    train = mnist.splits().train
    first = mnist.statistics(train)
    (file,) = (tmp_path / "cache").glob("statistics-*")
    file.write_bytes(file.read_bytes()[:10])
    with pytest.warns(RuntimeWarning, match=f"{file} is damaged"):
        assert all(map(torch.equal, mnist.statistics(train), first))


@EVERY_FORMAT
def test_cache_of_other_originals_is_not_used(name: str, tmp_path: Path) -> None:
    case, splits = CASES[name], []
    for number in (0, 1):
        parts = [Part(images ^ number, labels) for images, labels in case.made()]
        files = publish(tmp_path / f"data{number}", case.format(parts))
        there = case.source(path=tmp_path / f"data{number}", cache=tmp_path / "cache", files=files, counts=case.counts)
        splits.append(there.splits())
        assert all(original(split, parts) for split in splits[-1])
        there.statistics(splits[-1].train)
    assert not same(*splits)
    assert len([*(tmp_path / "cache").glob("statistics-*")]) == 2


# PatchCamelyon stays on the disk.


@pytest.mark.parametrize("size", [96, 48, 112])
def test_patches_are_read_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(Pcam, "files", CASES["pcam"].publish(tmp_path / "data" / "pcam"))
    overrides = [*CASES["pcam"].overrides(tmp_path), f"dataset.size={size}"]
    here, there = (loaded("cnn_baseline", [*overrides, f"dataset.num_workers={n}"]) for n in (0, 2))
    for split in splits_of(here):
        assert isinstance(split.images, Lazy)
        assert split.images.shape == split.images[:].shape == (len(split.labels), 3, size, size)
        assert aligned(split)
        assert upright(split.images[:]) or size > 96
    for a, b in zip(here.datamodule.train_dataloader(), there.datamodule.train_dataloader(), strict=True):
        assert all(map(torch.equal, a, b))
    assert not [*(tmp_path / "cache").rglob("v*.npz")]


@pytest.mark.parametrize("posed", [{"rotate": True}, {"scale": [0.5, 1]}, {"rotate": {"test": True}, "size": 48}])
def test_patches_cannot_be_posed(tmp_path: Path, posed: dict[str, object]) -> None:
    files = CASES["pcam"].publish(tmp_path / "data")
    with pytest.raises(ValueError, match=r"must be off for pcam, .* augment\.rotate"):
        source("pcam", tmp_path, files, **posed).splits()


def test_patches_cannot_be_drawn_together(tmp_path: Path) -> None:
    files = CASES["pcam"].publish(tmp_path / "data")
    with pytest.raises(ValueError, match="cannot be drawn from together"):
        Pcam(path=tmp_path / "data", cache=tmp_path / "cache", files=files, counts=[16, 8, 8]).splits()


# The checks themselves: each must fail on what is wrong.


def example(name: str = "cifar10") -> tuple[Split, list[Part]]:
    made = CASES[name].made()
    images, labels = made[0]
    return Split(torch.from_numpy(images), torch.from_numpy(labels), torch.arange(len(labels))), made


def shows_upright(split: Split) -> bool:
    return upright(split.images)


Check = Callable[[Split], bool]
WRONG: dict[str, tuple[Check | None, Callable[[Split], Split]]] = {
    "labels rolled": (aligned, lambda split: split._replace(labels=split.labels.roll(1))),
    "labels from 1": (aligned, lambda split: split._replace(labels=split.labels + 1)),
    "images rolled": (aligned, lambda split: split._replace(images=split.images.roll(1, 0))),
    "numbers rolled": (None, lambda split: split._replace(ids=split.ids.roll(1))),
    "B, G, R": (aligned, lambda split: split._replace(images=split.images.flip(1))),
    "channels rolled": (aligned, lambda split: split._replace(images=split.images.roll(1, 1))),
    "channels last": (
        aligned,
        lambda split: split._replace(images=split.images.movedim(1, 3).reshape(split.images.shape)),
    ),
    "transposed": (shows_upright, lambda split: split._replace(images=split.images.mT)),
    "mirrored": (shows_upright, lambda split: split._replace(images=split.images.flip(-1))),
    "upside down": (shows_upright, lambda split: split._replace(images=split.images.flip(-2))),
    "turned": (shows_upright, lambda split: split._replace(images=split.images.rot90(1, (-2, -1)))),
    "one pixel": (shows_upright, lambda split: split._replace(images=split.images.roll(1, -1))),
    "one bit": (None, lambda split: split._replace(images=split.images ^ (torch.arange(32) == 31).byte())),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_checks_fail_on_what_is_wrong(wrong: str) -> None:
    check, spoil = WRONG[wrong]
    split, made = example()
    assert aligned(split)
    assert shows_upright(split)
    assert original(split, made)
    spoiled = spoil(split)
    assert not original(spoiled, made)
    assert check is None or not check(spoiled)


def test_checks_of_draws_fail_on_what_is_wrong() -> None:
    split, _ = example()
    first, second = split.at(torch.arange(30)), split.at(torch.arange(30, 60))
    assert disjoint([first, second])
    assert not disjoint([first, second.at(torch.arange(3)), split.at(torch.tensor([29]))])
    assert proportional(split.labels, 10)
    assert not proportional(split.labels.clamp(max=8), 10)
    assert not same(Splits(first, first, first), Splits(first, first, second))


@pytest.mark.parametrize("end", ["whole", "half", "other"])
def test_check_of_files_fails_on_what_is_not_whole(tmp_path: Path, end: str) -> None:
    files = CASES["pcam"].publish(tmp_path / "data")
    source("pcam", tmp_path, files).splits()
    intact(tmp_path, files)
    path = {
        "whole": tmp_path / "data" / files[0].name,
        "half": next((tmp_path / "cache").rglob("*train_x.h5")),
        "other": tmp_path / "cache" / "originals.npz",
    }[end]
    path.write_bytes(path.read_bytes()[:-1] if path.exists() else b"PK")
    with pytest.raises((AssertionError, EOFError, ValueError, zipfile.BadZipFile)):
        intact(tmp_path, files)


# Laws of drawing.


class Toy(Source):
    """Pools in memory: of sizes for learning, for validation if not 0, and for testing if not 0."""

    name = "toy"
    labels = tuple("abcde")
    channels = 3
    native = (16, 16)

    def __init__(self, learn: int = 100, val: int = 0, test: int = 0, **drawing: object) -> None:
        super().__init__(**drawing)
        self.sizes = (learn, val, test)

    def made(self) -> list[Part]:
        return [pictures(n, 5, (3, 16, 16), seed) for seed, n in enumerate(self.sizes) if n]

    def pools(self) -> Pools:
        pools = iter(self.made())
        return Pools(*(Pool(*map(torch.from_numpy, next(pools))) if n else None for n in self.sizes))


def ids(split: Split) -> set[int]:
    return set(split.ids.tolist())


def sizes(splits: Splits) -> list[int]:
    return [len(split.labels) for split in splits]


def law(splits: Splits, made: Sequence[Part]) -> None:
    """Splits of images of their own, of all classes alike, with their labels, in ascending order."""
    assert disjoint(splits)
    for split in splits:
        assert proportional(split.labels, 5)
        assert aligned(split)
        assert original(split, made)
        assert torch.equal(split.ids, split.ids.sort().values)


@pytest.mark.parametrize("test", [0, 30])
@pytest.mark.parametrize("folds", [2, 3, 5, 7])
def test_folds_cover_what_is_for_learning(folds: int, test: int) -> None:
    counts = (60, 10) if test else (60, 10, 30)
    plain = Toy(test=test, counts=counts).splits()
    parts = [Toy(test=test, counts=counts, fold=fold, folds=folds).splits() for fold in range(folds)]
    for splits in parts:
        law(splits, Toy(test=test).made())
        assert same(splits._replace(train=plain.train, val=plain.val), plain), "the test split is another"
        assert ids(splits.train) | ids(splits.val) == ids(plain.train) | ids(plain.val)
        assert len(splits.val.labels) in (70 // folds, 70 // folds + 1)
    validated = [split.ids for split in (splits.val for splits in parts)]
    assert torch.equal(torch.cat(validated).sort().values, torch.cat([plain.train.ids, plain.val.ids]).sort().values)
    other = Toy(test=test, counts=counts, fold=0, folds=folds, seed=1).splits()
    assert ids(other.val) != ids(parts[0].val)


def test_folds_through_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mnist, "files", CASES["mnist"].publish(tmp_path / "data" / "mnist"))
    overrides = CASES["mnist"].overrides(tmp_path)
    recipes = [loaded("cnn_baseline", [*overrides, f"dataset.fold={n}", "dataset.folds=4"]) for n in range(4)]
    splits = [splits_of(recipe) for recipe in recipes]
    assert torch.equal(torch.cat([part.val.ids for part in splits]).sort().values, torch.arange(200))
    assert len({recipe.datamodule.fingerprint for recipe in recipes}) == 4
    assert all(same(part._replace(train=splits[0].train, val=splits[0].val), splits[0]) for part in splits)


def test_limits_keep_numbers_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mnist, "files", CASES["mnist"].publish(tmp_path / "data" / "mnist"))
    limits = ["dataset.limit_train=30", "dataset.limit_val=10", "dataset.limit_test=20"]
    few, all_ = (loaded("cnn_baseline", [*CASES["mnist"].overrides(tmp_path), *more]) for more in (limits, []))
    assert sizes(splits_of(few)) == [30, 10, 20]
    assert few.datamodule.fingerprint != all_.datamodule.fingerprint
    for part, whole in zip(splits_of(few), splits_of(all_), strict=True):
        assert ids(part) < ids(whole)
        assert original(part, CASES["mnist"].made())
        assert proportional(part.labels, 10)


@pytest.mark.parametrize(
    ("fold", "folds"), [(0, None), (None, 5), (5, 5), (-1, 5), (0, 1), (0.5, 5), (True, 5), ("0", "5")]
)
def test_wrong_folds(fold: object, folds: object) -> None:
    with pytest.raises(ValueError, match=f"must be given together.*fold={fold} and folds={folds}"):
        Toy(fold=fold, folds=folds)


def test_no_folds_where_validation_is_published(tmp_path: Path) -> None:
    files = CASES["pcam"].publish(tmp_path / "data")
    for source_ in (
        Toy(val=20, test=30, counts=[1.0], fold=0, folds=5),
        source("pcam", tmp_path, files, fold=0, folds=5),
    ):
        with pytest.raises(ValueError, match=r"`folds` must be null .* or give three `counts`"):
            source_.splits()
    drawn = [Toy(val=20, test=30, counts=[70, 50, 30], fold=n, folds=3).splits() for n in range(3)]
    assert len(set.union(*(ids(splits.val) for splits in drawn))) == 120


@pytest.mark.parametrize(
    ("published", "counts", "wanted"),
    [
        ((100, 0, 0), None, [80, 10, 10]),
        ((100, 0, 0), [60, 20, 10], [60, 20, 10]),
        ((100, 0, 0), [0.5, 0.3, 0.2], [50, 30, 20]),
        ((100, 0, 0), [0.5, 0.2, 0.1], [50, 20, 10]),
        ((100, 0, 0), [0.333, 0.333, 0.333], [33, 34, 33]),
        ((101, 0, 0), [0.7, 0.1, 0.2], [71, 10, 20]),
        ((100, 0, 30), [0.9, 0.1], [90, 10, 30]),
        ((100, 0, 30), [0.9, 0.05], [90, 5, 30]),
        ((100, 0, 30), [60, 40], [60, 40, 30]),
        ((100, 20, 0), [90, 10], [90, 20, 10]),
        ((100, 20, 30), [1.0], [100, 20, 30]),
        ((100, 20, 30), [50], [50, 20, 30]),
        ((100, 0, 30), [50, 20, 60], [50, 20, 60]),
        ((100, 20, 30), [0.2, 0.2, 0.6], [30, 30, 90]),
    ],
)
def test_counts(published: tuple[int, int, int], counts: list[float] | None, wanted: list[int]) -> None:
    toy = Toy(*published, counts=counts)
    splits = toy.splits()
    assert sizes(splits) == wanted
    law(splits, toy.made())
    assert same(splits, Toy(*published, counts=counts).splits())
    assert ids(Toy(*published, counts=counts, seed=1).splits().train) != ids(splits.train) or wanted[0] == 100
    if counts is not None and len(counts) == 3 and sum(wanted) == sum(published):
        assert set.union(*map(ids, splits)) == set(range(sum(published)))


def test_published_splits_stay_whole() -> None:
    """What is published apart is used as it is, in its order."""
    toy = Toy(100, 20, 30, counts=[1.0])
    assert [part.ids.tolist() for part in toy.splits()] == [[*range(100)], [*range(100, 120)], [*range(120, 150)]]


@pytest.mark.parametrize(
    ("published", "counts", "text"),
    [
        ((100, 0, 0), [80, 20], "numbers of images for train, val, test"),
        ((100, 0, 30), [80], r"numbers of images for train, val \(test are published apart\)"),
        ((100, 20, 30), [80, 20], r"numbers of images for train \(val and test are published apart\)"),
        ((100, 0, 0), [80, 10, 5, 5], "numbers of images for train, val, test"),
        ((100, 0, 0), [80, 20, 1], "at most 100 samples in all"),
        ((100, 0, 30), [100, 10, 21], "at most 130 samples in all"),
        ((100, 0, 30), [100, 10], "at most 100 samples in all"),
        ((100, 0, 0), [80, -1, 1], "numbers of images, or fractions, such as"),
        ((100, 0, 0), [0.5, 0.5, 0.1], "fractions of at most 1 in all"),
        ((100, 0, 0), [50, 0.3, 0.2], "whole numbers, or fractions"),
        ((100, 0, 0), [1.5, -0.5, 0.0], "numbers of images, or fractions, such as"),
        ((100, 0, 0), ["a", "b", "c"], "numbers of images, or fractions, such as"),
        ((100, 0, 0), [100, 0, 0], "images for val"),
        ((100, 0, 0), [1.0, 0.0, 0.0], "images for val"),
        ((100, 0, 0), [0.999, 0.0005, 0.0005], "images for val"),
    ],
)
def test_wrong_counts(published: tuple[int, int, int], counts: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=f"`counts` must .*{text}.*, but got") as error:
        Toy(*published, counts=counts).splits()
    assert str(counts) in str(error.value)


@pytest.mark.parametrize(
    "posed", [{"rotate": True}, {"scale": [0.5, 1.0]}, {"rotate": True, "scale": [0.5, 1.0], "size": 20}]
)
def test_pose_belongs_to_the_image(posed: dict[str, object]) -> None:
    """An image has one pose in its seed, whatever split it is in."""

    def by_number(splits: Splits) -> dict[int, Tensor]:
        return {n: image for split in splits for n, image in zip(split.ids.tolist(), split.images, strict=True)}

    drawings = [{"fold": n, "folds": 3} for n in range(3)] + [{"counts": [30, 30, 40]}, {}]
    first, *others = (by_number(Toy(**posed, **drawing).splits()) for drawing in drawings)
    for other in others:
        assert first.keys() == other.keys()
        assert all(torch.equal(first[n], image) for n, image in other.items())
    for splits in (Toy(**posed, seed=1).splits(), Toy(size=posed.get("size")).splits()):
        assert not any(torch.equal(first[n], image) for n, image in by_number(splits).items())
    assert all(map(aligned, Toy(**posed).splits()))


def test_rotation_and_scale_are_drawn_apart() -> None:
    turned, both = Toy(rotate=True).splits(), Toy(rotate=True, scale=[1, 1]).splits()
    assert same(turned, both)
    only = Toy(rotate={"test": True}).splits()
    assert same(only, Toy().splits()._replace(test=turned.test))


# The real data, where they are.

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="the files of MNIST are not in ../shared/data")
def test_real_mnist(tmp_path: Path) -> None:
    splits = Mnist(path=SHARED / "mnist", cache=tmp_path, mirrors=[]).splits()
    assert sizes(splits) == [55_000, 5_000, 10_000]
    assert disjoint(splits)
    names = ("train-images-idx3", "t10k-images-idx3", "train-labels-idx1", "t10k-labels-idx1")
    raw = [
        np.frombuffer(gzip.decompress((SHARED / "mnist" / f"{name}-ubyte.gz").read_bytes()), np.uint8) for name in names
    ]
    images = np.concatenate([array[16:].reshape(-1, 1, 28, 28) for array in raw[:2]])
    labels = np.concatenate([array[8:] for array in raw[2:]])
    for split in splits:
        assert np.array_equal(split.images, images[split.ids])
        assert np.array_equal(split.labels, labels[split.ids])
        shares = np.bincount(split.labels) / len(split.labels)
        assert np.abs(shares - np.bincount(labels) / 70_000).max() < 0.005
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@pytest.mark.skipif(not (SHARED / "cifar10_subset").is_dir(), reason="the subset of CIFAR-10 is not in ../shared/data")
def test_real_cifar10(tmp_path: Path) -> None:
    with np.load(SHARED / "cifar10_subset" / "cifar10_lossless_5k.npz") as arrays:
        given = {name: arrays[name] for name in ("train_x", "train_y", "test_x", "test_y", "class_names")}
    parts = [Part(given[f"{part}_x"].transpose(0, 3, 1, 2), given[f"{part}_y"]) for part in ("train", "test")]
    files = publish(tmp_path / "data", formats.cifar10(parts))
    cifar = Cifar10(path=tmp_path / "data", cache=tmp_path / "cache", files=files, counts=[3500, 500])
    own = Npz(path=SHARED / "cifar10_subset" / "cifar10_lossless_5k.npz", images="x", labels="y", counts=[3500, 500])
    assert cifar.labels == tuple(given["class_names"].tolist())
    for splits in (cifar.splits(), own.splits()):
        assert sizes(splits) == [3500, 500, 1000]
        assert disjoint(splits)
        assert all(original(split, parts) for split in splits)
        first = splits.train if 0 in splits.train.ids else splits.val
        (row,) = (first.ids == 0).nonzero()[0].tolist()
        assert first.images[row, 0, 0, :5].tolist() == [59, 43, 50, 68, 98], "red, of the first row of a frog"
        assert first.labels[row] == 6
