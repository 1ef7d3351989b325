"""MNIST and rotated MNIST on small fake archives, served from the loopback interface."""

import functools
import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from src.data import Mnist, MnistRot, Split, Splits
from src.data.fetch import ChecksumError, DownloadError
from src.data.mnist import SUMS, Archive, load_mnist

NAMES = tuple(SUMS)
COUNTS = (30, 10, 50)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def fake_files(folder: Path, train: int = 60, test: int = 40) -> Archive:
    """Four files of noise around a square as bright as its label; all labels equally frequent. Returns their sums."""
    random = np.random.default_rng(0)
    arrays = []
    for n in (train, test):
        images = np.zeros((n, 28, 28), np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        images[:, 4:24, 8:20] = random.integers(0, 256, (n, 20, 12))
        images[:, 10:18, 10:18] = 20 * labels[:, None, None]
        arrays += [images, labels]
    folder.mkdir(parents=True)
    for name, array in zip(NAMES, arrays, strict=True):
        (folder / name).write_bytes(gzip.compress(idx(array), mtime=0))
    return Archive(tuple((name, hashlib.sha256((folder / name).read_bytes()).hexdigest()) for name in NAMES))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing to the terminal."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """A function from a folder to the address it is served at."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    servers: list[ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Files in tmp_path / "data", without mirrors: nothing here reaches the network."""
    return fake_files(tmp_path / "data")._replace(mirrors=())


def mnist(folder: Path, archive: Archive, **options: object) -> Mnist:
    return Mnist(path=folder / "data", cache=folder / "cache", counts=(40, 20), archive=archive, **options)


def rotated(folder: Path, archive: Archive, **options: object) -> MnistRot:
    settings = {"counts": COUNTS, "derived": folder / "derived"} | options
    return MnistRot(path=folder / "data", cache=folder / "cache", archive=archive, **settings)


def same(a: Splits, b: Splits) -> bool:
    return all(torch.equal(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True))


def aligned(split: Split) -> bool:
    """Whether every image still has its own label."""
    centre = split.images[:, 0, 13:15, 13:15].double().mean((1, 2))
    return bool(((centre - 20 * split.labels).abs() < 5).all())


def test_reads_local_files_once(tmp_path: Path, archive: Archive) -> None:
    splits = mnist(tmp_path, archive).splits()
    assert [len(split.labels) for split in splits] == [40, 20, 40]
    assert torch.bincount(splits.val.labels).tolist() == [2] * 10
    assert splits.train.images.shape == (40, 1, 28, 28)
    assert all(map(aligned, splits))
    assert not aligned(splits.train._replace(labels=splits.train.labels.roll(1)))
    misses = load_mnist.cache_info().misses
    assert same(splits, mnist(tmp_path, archive).splits())
    assert load_mnist.cache_info().misses == misses
    assert not (tmp_path / "cache").exists()


def test_sizes_and_rotations(tmp_path: Path, archive: Archive) -> None:
    plain = mnist(tmp_path, archive).splits()
    padded = mnist(tmp_path, archive, size=29).splits()
    assert torch.equal(padded.val.images[..., :28, :28], plain.val.images)
    assert mnist(tmp_path, archive, size=[14, 30]).splits().test.images.shape == (40, 1, 14, 30)
    turned = mnist(tmp_path, archive, rotate={"test": True}, size=29).splits()
    assert torch.equal(turned.val.images, padded.val.images)
    assert not torch.equal(turned.test.images, padded.test.images)
    assert turned.test.images.shape == (40, 1, 29, 29)


def test_downloads_to_the_data_folder(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    archive = fake_files(tmp_path / "mirror")
    splits = mnist(tmp_path, archive, mirrors=[serve(tmp_path / "mirror")]).splits()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted(NAMES)
    (tmp_path / "elsewhere").mkdir()
    assert same(splits, mnist(tmp_path, archive, mirrors=[]).splits())


def test_downloads_to_the_cache_if_data_is_read_only(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    archive = fake_files(tmp_path / "mirror")
    (tmp_path / "data").write_text("a file, so no folder can be made here")
    mnist(tmp_path, archive, mirrors=[serve(tmp_path / "mirror")]).splits()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(NAMES)


def test_nowhere_to_download_to(tmp_path: Path, archive: Archive) -> None:
    for name in ("data", "cache"):
        (tmp_path / "full" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "full" / name).write_text("a file, so no folder can be made here")
    with pytest.raises(DownloadError, match="no folder can be written to"):
        mnist(tmp_path / "full", archive).splits()


def test_downloads_only_what_is_missing(tmp_path: Path, archive: Archive, serve: Callable[[Path], str]) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "data" / NAMES[1]).rename(tmp_path / "mirror" / NAMES[1])
    mnist(tmp_path, archive, mirrors=[serve(tmp_path / "mirror")]).splits()
    assert (tmp_path / "data" / NAMES[1]).exists()


@pytest.mark.parametrize("first", ["empty", "damaged"])
def test_second_mirror_helps(tmp_path: Path, serve: Callable[[Path], str], first: str) -> None:
    archive = fake_files(tmp_path / "mirror")
    fake_files(tmp_path / "damaged")
    flip(tmp_path / "damaged" / NAMES[0])
    (tmp_path / "empty").mkdir()
    mirrors = [serve(tmp_path / first), serve(tmp_path / "mirror")]
    assert len(mnist(tmp_path, archive, mirrors=mirrors).splits().train.labels) == 40


def test_damaged_download_is_not_kept(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    archive = fake_files(tmp_path / "mirror")
    flip(tmp_path / "mirror" / NAMES[0])
    with pytest.raises(DownloadError, match=f"missing and could not be downloaded: {NAMES[0]}"):
        mnist(tmp_path, archive, mirrors=[serve(tmp_path / "mirror")]).splits()
    assert not (tmp_path / "data" / NAMES[0]).exists()


@pytest.mark.parametrize("folder", ["data", "cache"])
def test_file_with_another_sum_is_an_error_and_stays(tmp_path: Path, folder: str, serve: Callable[[Path], str]) -> None:
    archive = fake_files(tmp_path / folder)
    good = (tmp_path / folder / NAMES[2]).read_bytes()
    flip(tmp_path / folder / NAMES[2])
    bad = (tmp_path / folder / NAMES[2]).read_bytes()
    with pytest.raises(ChecksumError) as error:
        mnist(tmp_path, archive, mirrors=[serve(tmp_path)]).splits()
    for part in (str(tmp_path / folder / NAMES[2]), *(hashlib.sha256(x).hexdigest() for x in (good, bad)), "move it"):
        assert part in str(error.value)
    assert (tmp_path / folder / NAMES[2]).read_bytes() == bad


def test_offline_message(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    nobody = "http://127.0.0.1:9/mnist/"
    with pytest.raises(DownloadError) as error:
        Mnist(path=tmp_path / "data", cache=tmp_path / "cache", mirrors=[nobody]).splits()
    for part in (*NAMES, nobody, str(tmp_path / "data"), "dataset=digits needs no download"):
        assert part in str(error.value)


def test_images_and_labels_must_match(tmp_path: Path) -> None:
    archive = fake_files(tmp_path / "data")
    swapped = archive._replace(sums=tuple(archive.sums[i] for i in (0, 3, 2, 1)))
    with pytest.raises(ValueError, match="must hold as many images of 28 x 28 as labels"):
        mnist(tmp_path, swapped).splits()


def test_rotated_is_generated_once_and_the_same(tmp_path: Path, archive: Archive) -> None:
    source = rotated(tmp_path, archive)
    splits = source.splits()
    assert [len(split.labels) for split in splits] == list(COUNTS)
    assert torch.bincount(splits.test.labels).tolist() == [5] * 10
    assert all(map(aligned, splits))
    stamp, content = source.file.stat().st_mtime_ns, source.file.read_bytes()
    assert same(splits, source.splits())
    assert source.file.stat().st_mtime_ns == stamp
    other = rotated(tmp_path, archive, derived=tmp_path / "again")
    assert same(splits, other.splits())
    assert other.file.read_bytes() == content
    assert not same(splits, rotated(tmp_path, archive, seed=1).splits())
    assert sorted(path.name for path in (tmp_path / "derived").iterdir()) == [
        "v1-seed0-30-10-50.npz",
        "v1-seed1-30-10-50.npz",
    ]


def test_rotated_needs_no_originals_once_generated(tmp_path: Path, archive: Archive) -> None:
    splits = rotated(tmp_path, archive).splits()
    gone = MnistRot(path="x", cache="x", derived=tmp_path / "derived", counts=COUNTS, mirrors=(), size=32)
    assert torch.equal(gone.splits().val.images[..., 2:30, 2:30], splits.val.images)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "counts"])
def test_damaged_cache_is_generated_again(tmp_path: Path, archive: Archive, damage: str) -> None:
    source = rotated(tmp_path, archive)
    splits = source.splits()
    content = source.file.read_bytes()
    if damage == "flipped":
        flip(source.file)
    elif damage == "counts":
        source.file.write_bytes(fewer(tmp_path, archive).read_bytes())
    else:
        source.file.write_bytes(content[: 1000 if damage == "truncated" else 0])
    with pytest.warns(RuntimeWarning, match=r"npz is damaged .* generated again"):
        assert same(splits, source.splits())
    assert source.file.read_bytes() == content


def test_rotated_refuses_more_than_there_is(tmp_path: Path, archive: Archive) -> None:
    with pytest.raises(ValueError, match="at most 100 samples"):
        rotated(tmp_path, archive, counts=(60, 20, 40)).splits()


def fewer(folder: Path, archive: Archive) -> Path:
    source = rotated(folder, archive, counts=(20, 10, 10))
    source.splits()
    return source.file


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
