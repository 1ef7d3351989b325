"""Images of one's own: folders of pictures, .npz and .h5 files, whatever is in them."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import formats
import numpy as np
import pytest
import torch
from composing import loaded
from formats import Part, pictures, seen
from PIL import Image
from torch import Tensor

from src.data import H5, ImageFolder, Npz, Source, Splits
from src.data.sets import pictures as module
from src.training import ConfigError, Recipe, load_recipe

SMALL = ("net.hidden_sizes=[4,4,6]", "conv.kernel_size=5", "net.exact=off", "train.batch_size=8")
CLASSES = ("cat", "dog", "owl")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small nets are slower with more, most of all where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(n: int = 60, shape: tuple[int, int, int] = (3, 16, 16), seed: int = 0) -> Part:
    return pictures(n, len(CLASSES), shape, seed)


def picture(image: np.ndarray) -> Image.Image:
    """(c, y, x) -> grey or RGB."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def save(
    folder: Path, part: Part, ending: str = ".png", convert: Callable[[Image.Image], Image.Image] = lambda x: x
) -> Part:
    """Write folder/<class>/<number>.png; the same in the order in which it is to be read."""
    for n, (image, label) in enumerate(zip(*part, strict=True)):
        path = folder / CLASSES[label] / f"{n:03}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        convert(picture(image)).save(path)
    order = np.argsort(part.labels, stable=True)
    return Part(part.images[order], part.labels[order])


def same(a: Splits, b: Splits) -> bool:
    """Bit for bit; images may be read from disk."""
    pairs = zip(a, b, strict=True)
    return all(torch.equal(x[:], y[:]) for left, right in pairs for x, y in zip(left, right, strict=True))


def check(source: Source, *parts: Part, sizes: Sequence[int] | None = None) -> Splits:
    """Every image and label is, bit for bit, the one of its number, and none is there twice; the splits."""
    splits = source.splits()
    images, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    for split in splits:
        assert np.array_equal(split.images[:], images[split.ids])
        assert np.array_equal(split.labels, labels[split.ids])
    ids = torch.cat([split.ids for split in splits])
    assert len(ids.unique()) == len(ids)
    assert sizes is None or [len(split.labels) for split in splits] == list(sizes)
    return splits


def message(build: Callable[[], Source]) -> str:
    """Of the error in which building a source, or reading it, ends."""
    with pytest.raises(ValueError, match=r"must|cannot|not") as error:
        build().splits()
    return str(error.value)


def read(build: Callable[[], Source]) -> None:
    """All images, when they are needed."""
    for split in build().splits():
        split.images[:]


def test_check_fails_on_what_is_wrong(tmp_path: Path) -> None:
    right = save(tmp_path, made())
    check(ImageFolder(path=tmp_path), right)
    wrong = [
        right._replace(labels=np.roll(right.labels, 1)),
        right._replace(images=right.images.transpose(0, 1, 3, 2)),
        right._replace(images=right.images[..., ::-1]),
        right._replace(images=right.images[:, ::-1]),
        made(),
    ]
    for part in wrong:
        with pytest.raises(AssertionError):
            check(ImageFolder(path=tmp_path), part)


# Pictures in folders.


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ({".": 60}, (48, 6, 6)),
        ({"train": 60, "val": 9, "test": 12}, (60, 9, 12)),
        ({"train": 60, "valid": 9, "test": 12}, (60, 9, 12)),
        ({"train": 60, "validation": 9, "test": 12}, (60, 9, 12)),
        ({"train": 60, "test": 12}, (54, 6, 12)),
        ({"train": 60, "val": 9}, (54, 9, 6)),
        ({"train": 60}, (48, 6, 6)),
    ],
)
def test_layouts(tmp_path: Path, parts: Mapping[str, int], sizes: Sequence[int], in_memory: bool) -> None:
    saved = [save(tmp_path / name, made(n, seed=seed)) for seed, (name, n) in enumerate(parts.items())]
    source = ImageFolder(path=tmp_path, in_memory=in_memory)
    assert (source.labels, source.classes, source.channels, source.size) == (CLASSES, 3, 3, (16, 16))
    check(source, *saved, sizes=sizes)


def test_folders_that_are_no_parts(tmp_path: Path) -> None:
    """A class may be called as a part is, if there are others."""
    right = save(tmp_path, made())
    for old, new in zip(CLASSES, ("a", "test", "train"), strict=True):
        (tmp_path / old).rename(tmp_path / new)
    source = ImageFolder(path=tmp_path)
    assert source.labels == ("a", "test", "train")
    check(source, right, sizes=(48, 6, 6))


@pytest.mark.parametrize(
    "names", [("train", "test", "more"), ("Train", "Test"), ("training", "testing"), ("test", "val")]
)
def test_parts_of_other_names_are_not_taken_for_classes(tmp_path: Path, names: Sequence[str]) -> None:
    for name in names:
        save(tmp_path / name, made(6))
    text = message(lambda: ImageFolder(path=tmp_path))
    assert f"{tmp_path} has {', '.join(sorted(names))}, with folders in" in text
    assert "rename them" in text


@pytest.mark.parametrize("part", [".", "train"])
def test_nested_folders_belong_to_their_class(tmp_path: Path, part: str) -> None:
    right = save(tmp_path / part, made())
    for name in CLASSES:
        first = min((tmp_path / part / name).iterdir())
        (tmp_path / part / name / "000" / "more").mkdir(parents=True)
        first.rename(tmp_path / part / name / "000" / "more" / first.name)
    source = ImageFolder(path=tmp_path)
    assert source.labels == CLASSES
    check(source, right)


def test_other_files_are_ignored(tmp_path: Path) -> None:
    right = save(tmp_path, made())
    example = (
        (tmp_path / "cat" / "000.png") if (tmp_path / "cat" / "000.png").exists() else next(tmp_path.rglob("*.png"))
    )
    ignored = (
        ".hidden.png",
        ".thumbnails/a.png",
        "cat/._000.png",
        "cat/.ipynb_checkpoints/a.png",
        "a.png",
        "empty/.keep",
        "dog/Thumbs.db",
        "dog/labels.csv",
        "README.md",
        "train.txt",
    )
    for name in ignored:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(example, tmp_path / name)
    (tmp_path / "owl" / "folder.png").mkdir()
    source = ImageFolder(path=tmp_path)
    assert source.labels == CLASSES
    check(source, right)


def grey(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"))[None]


def rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA"))[..., :3].transpose(2, 0, 1)


def sixteen(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


def translucent(image: Image.Image) -> Image.Image:
    image.putalpha(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)))
    return image


def palette(image: Image.Image) -> Image.Image:
    return image.quantize(64, dither=Image.Dither.NONE)


def palette_with_holes(image: Image.Image) -> Image.Image:
    image = palette(image)
    image.info["transparency"] = bytes(range(64))
    return image


@pytest.mark.parametrize(
    ("channels", "ending", "convert", "seen_as"),
    [
        (1, ".png", lambda x: x, grey),
        (1, ".PNG", lambda x: x, grey),
        (1, ".bmp", lambda x: x, grey),
        (1, ".tif", lambda x: x, grey),
        (1, ".gif", lambda x: x, grey),
        (1, ".pgm", lambda x: x, grey),
        (1, ".png", translucent, grey),
        (1, ".png", lambda x: x.convert("1", dither=Image.Dither.NONE), grey),
        (3, ".png", lambda x: x, rgb),
        (3, ".tiff", lambda x: x, rgb),
        (3, ".ppm", lambda x: x, rgb),
        (3, ".png", translucent, rgb),
        (3, ".png", palette, rgb),
        (3, ".png", palette_with_holes, rgb),
        (3, ".gif", palette, rgb),
    ],
)
def test_kinds_of_pictures(
    tmp_path: Path,
    channels: int,
    ending: str,
    convert: Callable[[Image.Image], Image.Image],
    seen_as: Callable[[Image.Image], np.ndarray],
) -> None:
    part = made(30, (channels, 16, 16))
    _, labels = save(tmp_path, part, ending, convert)
    order = np.argsort(part.labels, stable=True)
    images = np.stack([seen_as(convert(picture(image))) for image in part.images[order]])
    source = ImageFolder(path=tmp_path)
    if ending != ".gif":
        assert source.channels == channels
        check(source, Part(images, labels))
    else:  # always of a palette
        check(ImageFolder(path=tmp_path, channels=channels), Part(images, labels))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, ending: str) -> None:
    right = save(tmp_path, made(shape=(1, 16, 16)), ending, sixteen)
    source = ImageFolder(path=tmp_path)
    assert source.channels == 1
    check(source, right)


def test_sixteen_bits_of_the_other_order(tmp_path: Path) -> None:
    def swapped(image: Image.Image) -> Image.Image:
        content = (np.asarray(image).astype(">u2") * 257).tobytes()
        return Image.frombytes("I;16B", image.size, content)

    right = save(tmp_path, made(shape=(1, 16, 16)), ".tif", swapped)
    check(ImageFolder(path=tmp_path), right)


@pytest.mark.parametrize("wanted", [1, 3])
@pytest.mark.parametrize("there", [1, 3])
def test_channels_can_be_chosen(tmp_path: Path, there: int, wanted: int) -> None:
    right = save(tmp_path, made(shape=(there, 16, 16)))
    images = np.stack([(grey if wanted == 1 else rgb)(picture(image)) for image in right.images])
    check(ImageFolder(path=tmp_path, channels=wanted), Part(images, right.labels))
    assert "`channels` must be 1 or 3" in message(lambda: ImageFolder(path=tmp_path, channels=2))


def test_mixed_kinds_follow_the_first(tmp_path: Path) -> None:
    right = save(tmp_path, made())
    path = max((tmp_path / "owl").iterdir())
    Image.open(path).convert("L").save(path)
    images = right.images.copy()
    images[-1] = grey(picture(right.images[-1]))
    check(ImageFolder(path=tmp_path), right._replace(images=images))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
def test_pictures_that_say_how_they_are_held(tmp_path: Path, orientation: int, ending: str) -> None:
    """Stored turned or mirrored, with a tag that says so, and taller than wide: seen upright, the first too."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition of Pillow that stores it as the tag says

    def held(image: Image.Image) -> Image.Image:
        stored = image.transpose(Image.Transpose(undo[orientation])) if orientation in undo else image
        stored.getexif()[0x0112] = orientation
        return stored

    part = made(6, (3, 48, 32))
    for n, (image, label) in enumerate(zip(*part, strict=True)):
        path = tmp_path / CLASSES[label] / f"{n}{ending}"
        path.parent.mkdir(exist_ok=True)
        stored = held(picture(image))
        options = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}.get(ending, {})
        stored.save(path, exif=stored.getexif(), **options)
    source = ImageFolder(path=tmp_path, counts=[2, 2, 2])
    assert source.size == (48, 32)
    images = torch.cat([split.images for split in source.splits()])
    labels = torch.cat([split.labels for split in source.splits()])
    centres = images[..., 20:28, 14:18].float().mean((2, 3))
    wanted = 2 * labels[:, None] + formats.STEP * torch.arange(3)
    assert (centres - wanted).abs().max() < (4 if ending == ".jpg" else 1e-3)
    corners = [images[..., :4, :4], images[..., :4, -4:], images[..., -4:, :4]]
    for corner, value in zip(corners, (255, 128, 0), strict=True):
        assert (corner.float().mean((2, 3)) - value).abs().max() < (20 if ending == ".jpg" else 1e-3)


def test_different_sizes_need_a_size(tmp_path: Path) -> None:
    for seed, side in enumerate((32, 16, 48)):
        save(tmp_path, made(30 + seed, (3, side, side), seed), f"_{side}.png")
    text = message(lambda: ImageFolder(path=tmp_path, cache=tmp_path / "cache"))
    assert "`size` must be given where pictures have different sizes" in text
    assert "_16.png has 16 x 16 pixels where others have 32 x 32" in text
    for size in (16, 32, 40):
        source = ImageFolder(path=tmp_path, cache=tmp_path / "cache", size=size)
        for split in source.splits():
            assert split.images.shape[1:] == (3, size, size)
            assert torch.equal(seen(split.images), split.labels)
            assert split.images[..., 0, 0].min() > 200 > 180 > split.images[..., 0, -1].max()
            assert split.images[..., 0, -1].min() > 80 > 60 > split.images[..., -1, 0].max()
    # What was decoded for the same size, when it was given, must not hide that it is not.
    assert "`size` must be given" in message(lambda: ImageFolder(path=tmp_path, cache=tmp_path / "cache"))


def test_other_shapes_are_covered_and_cut(tmp_path: Path) -> None:
    """The centre is kept, without distortion."""
    wide = np.zeros((3, 16, 32), np.uint8)
    wide[:, :, 8:24] = made(1).images[0]
    tall = wide.transpose(0, 2, 1)
    for name, image in {"cat/wide.png": wide, "dog/tall.png": tall, "dog/square.png": made(1).images[0]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(image).save(tmp_path / name)
    splits = ImageFolder(path=tmp_path, size=16, counts=[1, 1, 1]).splits()
    images = torch.cat([split.images for split in splits])[torch.cat([split.ids for split in splits]).argsort()]
    square = torch.from_numpy(made(1).images[0])
    assert torch.equal(images, torch.stack([square, square, square.mT]))
    oblong = ImageFolder(path=tmp_path, size=[16, 32], counts=[1, 1, 1])
    assert oblong.splits().train.images.shape == (1, 3, 16, 32)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "flipped"])
@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".tif"])
def test_corrupt_picture(tmp_path: Path, ending: str, which: int, damage: str) -> None:
    save(tmp_path, made(), ending)
    path = sorted((tmp_path / "cat").iterdir())[which]
    content = path.read_bytes()
    flipped = bytes(255 - byte for byte in content[:40]) + content[40:]
    path.write_bytes(
        {"truncated": content[: len(content) // 2], "text": b"text", "empty": b"", "flipped": flipped}[damage]
    )
    for in_memory in (True, False):
        with pytest.raises(ValueError, match=r"is not an intact picture: .*; replace or remove it") as error:
            read(lambda there=in_memory: ImageFolder(path=tmp_path, in_memory=there, cache=tmp_path / "cache"))
        assert str(path) in str(error.value)
    assert not [*(tmp_path / "cache").glob("*.npz")]


def test_any_damage_is_an_error_that_names_the_file_or_is_harmless(tmp_path: Path) -> None:
    """Bytes at random places are other ones: whatever the decoders raise, it is explained."""
    random = np.random.default_rng(0)
    part = made(3)
    for ending in (".png", ".jpg", ".gif", ".tif", ".bmp", ".webp", ".ppm"):
        save(tmp_path / ending, part, ending)
        path = next((tmp_path / ending).rglob(f"*{ending}"))
        content = np.frombuffer(path.read_bytes(), np.uint8)
        decode = module._Decode((16, 16), 3, strict=False)
        for _ in range(40):
            spoiled = content.copy()
            where = random.integers(0, min(len(content), 200), 3)
            spoiled[where] = random.integers(0, 256, 3)
            path.write_bytes(spoiled.tobytes())
            assert explained(decode, path)


def explained(decode: Callable[[str], Tensor], path: Path) -> bool:
    """Whether a picture is read, or refused by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about the damage
        try:
            return decode(str(path)).shape == (3, 16, 16)
        except ValueError as error:
            return f"{path} is not an intact picture" in str(error)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    save(tmp_path / "one", Part(made().images, np.zeros(60, int)))
    save(tmp_path / "tests" / "test", made())
    save(tmp_path / "flat" / "deep", made())
    shutil.copytree(tmp_path / "tests" / "test", tmp_path / "mixed" / "test")
    (tmp_path / "mixed" / "train").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    texts = {
        None: "`path` must be a folder with a folder of images for each class, but got None",
        "nowhere": "nowhere; give one that exists with dataset.path=",
        "file": "file; give one that exists with dataset.path=",
        "empty": f"at least two classes, but to learn from {tmp_path / 'empty'} has none",
        "one": f"{tmp_path / 'one'} has cat; make {tmp_path / 'one'}/<class>/<image>.png",
        "flat": f"{tmp_path / 'flat'} has deep;",
        "mixed": f"{tmp_path / 'mixed'} has none;",
    }
    for name, text in texts.items():
        assert text in message(lambda name=name: ImageFolder(path=None if name is None else tmp_path / name))


@pytest.mark.parametrize("options", [{}, {"size": 12}, {"counts": [20, 20, 20]}])
def test_pictures_are_the_same_from_memory_and_from_disk(tmp_path: Path, options: dict[str, Any]) -> None:
    save(tmp_path, made())
    memory, disk = (ImageFolder(path=tmp_path, in_memory=there, **options).splits() for there in (True, False))
    assert isinstance(memory.train.images, Tensor)
    assert not isinstance(disk.train.images, Tensor)
    assert same(memory, disk)


def test_decoded_once_and_again_if_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = save(tmp_path / "pictures", made(), ".bmp")  # whose length says nothing of what they show
    folder, cache = tmp_path / "pictures", tmp_path / "cache"
    decoded: list[str] = []
    decode = module._Decode.__call__

    def counted(self: module._Decode, file: str) -> Tensor:
        decoded.append(file)
        return decode(self, file)

    monkeypatch.setattr(module._Decode, "__call__", counted)
    check(ImageFolder(path=folder, cache=cache), right)
    assert len(decoded) == 60
    check(ImageFolder(path=folder, cache=cache, seed=1, counts=[30, 20, 10], rotate=False), right)
    assert len(decoded) == 60, "another draw needs no decoding"
    path = min((folder / "cat").iterdir())
    stamp = path.stat()
    picture(255 - right.images[0]).save(path)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    right.images[0] = 255 - right.images[0]
    check(ImageFolder(path=folder, cache=cache), right)
    assert len(decoded) == 120
    path.unlink()
    check(ImageFolder(path=folder, cache=cache), Part(right.images[1:], right.labels[1:]))


# Arrays in files.


def npz(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def compressed(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def h5(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    path.with_suffix(".h5").write_bytes(formats.h5(arrays))
    return path.with_suffix(".h5")


def lazy(**options: Any) -> H5:
    return H5(in_memory=False, **options)


Write = Callable[[Path, Mapping[str, np.ndarray]], Path]
KINDS: dict[str, tuple[Write, Callable[..., Source]]] = {
    "npz": (npz, Npz),
    "compressed": (compressed, Npz),
    "h5": (h5, H5),
    "lazy": (h5, lazy),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
FILES = pytest.mark.parametrize("kind", ["npz", "h5"])


def column(labels: np.ndarray) -> np.ndarray:
    """As MedMNIST has them."""
    return labels[:, None].astype(np.uint8)


@EVERY_KIND
@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ({"": 60}, (48, 6, 6)),
        ({"train_": 60, "val_": 9, "test_": 12}, (60, 9, 12)),
        ({"train_": 60, "valid_": 9, "test_": 12}, (60, 9, 12)),
        ({"train_": 60, "validation_": 9, "test_": 12}, (60, 9, 12)),
        ({"train_": 60, "test_": 12}, (54, 6, 12)),
        ({"train_": 60, "val_": 9}, (54, 9, 6)),
        ({"train_": 60}, (48, 6, 6)),
    ],
)
def test_keys(tmp_path: Path, kind: str, parts: Mapping[str, int], sizes: Sequence[int]) -> None:
    write, source = KINDS[kind]
    given = {name: made(n, seed=seed) for seed, (name, n) in enumerate(parts.items())}
    arrays = {f"{name}images": part.images.transpose(0, 2, 3, 1) for name, part in given.items()}
    arrays |= {f"{name}labels": column(part.labels) for name, part in given.items()}
    check(source(path=write(tmp_path / "my", arrays)), *given.values(), sizes=sizes)


@EVERY_KIND
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["channels last", "channels first", "none"])
def test_axes(tmp_path: Path, kind: str, channels: int, layout: str) -> None:
    write, source = KINDS[kind]
    part = made(shape=(channels, 16, 12))
    images = {
        "channels first": part.images,
        "channels last": part.images.transpose(0, 2, 3, 1),
        "none": part.images[:, 0],
    }
    found = source(path=write(tmp_path / "my", {"images": images[layout], "labels": part.labels}))
    images = part.images[:, :1] if layout == "none" else part.images
    assert (found.channels, found.size, found.labels) == (images.shape[1], (16, 12), ("0", "1", "2"))
    check(found, Part(images, part.labels))


@EVERY_KIND
def test_keys_and_names_of_ones_own(tmp_path: Path, kind: str) -> None:
    write, source = KINDS[kind]
    part, other = made(), made(12, seed=1)
    path = write(
        tmp_path / "my",
        {"x": part.images, "y": part.labels, "test_x": other.images, "test_y": other.labels, "ra": np.ones(3)},
    )
    named = source(path=path, images="x", labels="y", names=[*CLASSES, "none"])
    assert named.labels == (*CLASSES, "none")
    check(named, part, sizes=(48, 6, 6))
    part_only = write(
        tmp_path / "parts",
        {"train_x": part.images, "train_y": part.labels, "test_x": other.images, "test_y": other.labels},
    )
    check(source(path=part_only, images="x", labels="y"), part, other, sizes=(54, 6, 12))


def changed(**arrays: np.ndarray | None) -> dict[str, np.ndarray]:
    """What a file holds, with other arrays, or without them."""
    given = {"images": made().images, "labels": made().labels} | arrays
    return {name: array for name, array in given.items() if array is not None}


TEST = {"train_images": made().images, "train_labels": made().labels, "images": None, "labels": None}
UNUSABLE: dict[str, tuple[dict[str, Any], dict[str, np.ndarray | None], tuple[str, ...]]] = {
    "floats": (
        {},
        {"images": made().images / 255},
        ("must be uint8", "float64 of (60, 3, 16, 16)", "(255 * x).round().astype('uint8')"),
    ),
    "16 bits": ({}, {"images": made().images.astype(np.uint16)}, ("must be uint8", "are uint16")),
    "flat": ({}, {"images": made().images.reshape(60, -1)}, ("(n, y, x)", "uint8 of (60, 768)")),
    "4 channels": ({}, {"images": np.zeros((60, 8, 8, 4), np.uint8)}, ("one or three channels", "(60, 8, 8, 4)")),
    "no images": ({}, {"images": None}, ("it must have the keys images and labels", "has labels", "dataset.images=")),
    "no labels": ({}, {"labels": None}, ("it must have the keys images and labels", "has images", "dataset.labels=")),
    "no test labels": (
        {},
        TEST | {"test_images": made().images},
        ("it must have the keys", "train_labels"),
    ),
    "only test": ({}, {"images": None, "test_images": made().images, "test_labels": made().labels}, ("must have",)),
    "nothing": ({}, {"images": None, "labels": None}, ("it must have the keys images and labels", "has none")),
    "other keys": ({"images": "x"}, {}, ("it must have the keys x and labels", "images, labels")),
    "fewer labels": ({}, {"labels": made().labels[:59]}, ("must be 60 integers", "int64 of the shape (59,)")),
    "fewer values": ({}, {"labels": made().labels[:59] / 2}, ("must be 60 integers", "float64 of the shape (59,)")),
    "counts": (
        {},
        {"labels": 2 * np.eye(3, dtype=int)[made().labels]},
        ("must be 60 integers", "int64 of the shape (60, 3)", "or 0 and 1 for each of several labels, (60, k)"),
    ),
    "cube": ({}, {"labels": np.zeros((60, 2, 2))}, ("must be 60 integers", "float64 of the shape (60, 2, 2)")),
    "other kind of test": (
        {},
        TEST | {"test_images": made().images, "test_labels": made().labels / 2},
        ("labels must be of one kind in all its parts", "float32 of ('n', 1) and torch.int64 of ('n',)"),
    ),
    "negative": ({}, {"labels": made().labels - 1}, ("labels must be from 0", "from -1 to 1")),
    "too high": ({"names": CLASSES}, {"labels": made().labels + 1}, ("labels must be from 0 to 2", "from 1 to 3")),
    "no image": (
        {},
        {"images": made().images[:0], "labels": made().labels[:0]},
        ("it must have images", "but has none in one"),
    ),
    "other test size": (
        {},
        TEST | {"test_images": made().images[..., 1:], "test_labels": made().labels},
        ("images of one shape", "has (3, 16, 15) and (3, 16, 16)"),
    ),
}


@FILES
@pytest.mark.parametrize("case", UNUSABLE)
def test_arrays_that_cannot_be_used(tmp_path: Path, kind: str, case: str) -> None:
    write, source = KINDS[kind]
    options, arrays, texts = UNUSABLE[case]
    path = write(tmp_path / "my", changed(**arrays))
    text = message(lambda: source(path=path, **options))
    for part in (str(path), *texts):
        assert part in text
    assert text.count(str(path)) == 1, "said once"


@EVERY_KIND
@pytest.mark.parametrize("damage", ["text", "empty", "truncated", "pixels"])
def test_damaged_files(tmp_path: Path, kind: str, damage: str) -> None:
    write, source = KINDS[kind]
    path = write(tmp_path / "my", changed())
    content = path.read_bytes()
    if damage == "pixels":
        if kind in ("h5", "lazy"):
            path.write_bytes(content := formats.h5(changed(), compression="gzip"))
        start = len(content) // 3
        path.write_bytes(content[:start] + bytes(100) + content[start + 100 :])
    else:
        path.write_bytes({"text": b"text", "empty": b"", "truncated": content[: len(content) // 2]}[damage])
    with pytest.raises(ValueError, match="cannot be used") as error:
        read(lambda: source(path=path))
    assert str(path) in str(error.value)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    text = message(lambda: Npz(path=npz(tmp_path / "my", changed(labels=np.array([{}] * 60, dtype=object)))))
    assert "cannot be used" in text
    assert "my.npz" in text


@pytest.mark.parametrize(("source", "what"), [(Npz, "an .npz file"), (H5, "an .h5 file")])
def test_no_file(tmp_path: Path, source: Callable[..., Source], what: str) -> None:
    for path in (None, tmp_path / "nowhere", tmp_path):
        assert f"`path` must be {what}, but got {path}" in message(lambda path=path: source(path=path))


@FILES
def test_changed_file_is_read_again(tmp_path: Path, kind: str) -> None:
    write, source = KINDS[kind]
    options = {"path": write(tmp_path / "my", changed()), "cache": tmp_path / "cache", "size": 20, "border": "zeros"}
    before = source(**options)
    first = before.splits()
    assert before.file.exists()
    write(tmp_path / "my", changed(images=255 - made().images))
    os.utime(options["path"], ns=(0, options["path"].stat().st_mtime_ns + 1))
    second = source(**options).splits()
    assert torch.equal(second.train.images[..., 2:18, 2:18], 255 - first.train.images[..., 2:18, 2:18])


# All of them.


def build(kind: str, folder: Path, **options: Any) -> Source:
    """A source of the pictures `made`."""
    if kind in ("images", "decoded"):
        if not (folder / "pictures").exists():
            save(folder / "pictures", made())
        return ImageFolder(path=folder / "pictures", in_memory=kind == "images", **options)
    write, source = KINDS[kind]
    return source(path=write(folder / "my", changed()), **options)


OWN = ("images", "decoded", "npz", "h5", "lazy")
EVERY_OWN = pytest.mark.parametrize("kind", OWN)


@EVERY_OWN
@pytest.mark.parametrize("folds", [2, 5])
def test_folds(tmp_path: Path, kind: str, folds: int) -> None:
    parts = [build(kind, tmp_path, fold=fold, folds=folds, counts=[0.7, 0.1, 0.2]).splits() for fold in range(folds)]
    validated = torch.cat([splits.val.ids for splits in parts])
    assert len(validated.unique()) == len(validated) == 48
    for splits in parts:
        assert torch.equal(splits.test.ids, parts[0].test.ids)
        assert not set(splits.train.ids.tolist()) & set(splits.val.ids.tolist())
        assert all(torch.equal(seen(split.images[:]), split.labels) for split in splits)
        assert torch.bincount(splits.val.labels).float().std() <= 1


@pytest.mark.parametrize("kind", ["decoded", "lazy"])
@pytest.mark.parametrize("posed", [{"rotate": True}, {"rotate": {"test": True}}, {"scale": [0.5, 1.0]}])
def test_poses_need_memory(tmp_path: Path, kind: str, posed: dict[str, Any]) -> None:
    text = message(lambda: build(kind, tmp_path, cache=tmp_path / "cache", **posed))
    assert "`rotate` and `scale` must be off" in text
    assert "augment.rotate" in text


@pytest.mark.parametrize("kind", ["images", "npz", "h5"])
def test_poses(tmp_path: Path, kind: str) -> None:
    upright_, turned = build(kind, tmp_path).splits(), build(kind, tmp_path, rotate={"test": True}).splits()
    assert same(turned._replace(test=upright_.test), upright_)
    assert not torch.equal(turned.test.images, upright_.test.images)
    assert torch.equal(seen(turned.test.images), turned.test.labels)


@pytest.mark.parametrize("kinds", [("images", "decoded"), ("h5", "lazy")])
@pytest.mark.parametrize("size", [None, 8, 24, [20, 12]])
def test_reading_when_needed_changes_nothing(tmp_path: Path, kinds: tuple[str, str], size: Any) -> None:
    memory, disk = (build(kind, tmp_path, size=size, cache=tmp_path / kind).splits() for kind in kinds)
    assert same(memory, disk)
    assert not isinstance(disk.val.images, Tensor)


def load(kind: str, folder: Path, *more: str, recipe: str = "cnn_baseline") -> Recipe:
    source = build(kind, folder)
    dataset = {"decoded": "images", "lazy": "h5"}.get(kind, kind)
    lazily = ["dataset.in_memory=false"] if kind in ("decoded", "lazy") else []
    paths = [f"dataset.path={source.path}", f"paths.cache={folder / 'cache'}"]
    return loaded(recipe, [f"dataset={dataset}", *paths, *lazily, *SMALL, *more])


def first_batches(recipe: Recipe) -> list[tuple[Tensor, Tensor]]:
    module = recipe.datamodule
    return [batch for loader in (module.train_dataloader(), module.test_dataloader()) for batch in loader]


def step(recipe: Recipe) -> Tensor:
    """The loss of a training batch, after an optimiser step on it."""
    images, labels = next(iter(recipe.datamodule.train_dataloader()))
    optimizer = recipe.model.groups.optimiser(recipe.model.net, recipe.model.optimizer)
    torch.nn.functional.cross_entropy(recipe.model(images), labels).backward()
    optimizer.step()
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(recipe.model(images), labels)


@EVERY_OWN
def test_recipe_finds_classes_channels_and_size(tmp_path: Path, kind: str) -> None:
    recipe = load(kind, tmp_path)
    assert (recipe.cfg.dataset.classes, recipe.cfg.dataset.channels, recipe.cfg.dataset.size) == (3, 3, [16, 16])
    assert step(recipe).isfinite()
    dataset = recipe.datamodule.datasets["train"]
    for images, labels in first_batches(recipe):
        assert torch.equal(seen(((images * dataset.std + dataset.mean) * 255).round()), labels)
    again = load(kind, tmp_path)
    assert again.datamodule.fingerprint == recipe.datamodule.fingerprint


def test_equivariant_recipe(tmp_path: Path) -> None:
    assert step(load("images", tmp_path, recipe="se2_separable")).isfinite()


@pytest.mark.parametrize("kind", ["decoded", "lazy"])
def test_workers_change_nothing(tmp_path: Path, kind: str) -> None:
    here, there = (first_batches(load(kind, tmp_path, f"dataset.num_workers={n}")) for n in (0, 2))
    assert len(here) == len(there)
    for (images, labels), (others, numbers) in zip(here, there, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, numbers)


@pytest.mark.parametrize("kind", ["decoded", "lazy"])
def test_what_is_read_when_needed_cannot_be_on_the_device(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="`on_device` must be false"):
        load(kind, tmp_path, "dataset.on_device=true").datamodule.setup()


@pytest.mark.parametrize("dataset", ["images", "npz", "h5"])
def test_recipe_without_a_path(dataset: str) -> None:
    with pytest.raises(ConfigError, match=r"`path` must be .* but got None; .* dataset\.path="):
        load_recipe("cnn_baseline", [f"dataset={dataset}"])


def test_recipe_that_promises_other_classes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`classes` must be 3"):
        load("npz", tmp_path, "dataset.classes=4")
