"""The doors to data: what they print, what they write, and how they fail."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_script
from PIL import Image
from rich.console import Console

from scripts import data, show
from src.analysis.drawing import pixels
from src.config.targets import ConfigError
from src.data import Digits, Mnist
from src.data.io.fetch import File
from src.training.commands import _data_sets, load_data

NONE = "error: `dataset` must be given, as dataset=NAME. There are: "


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Overrides that keep everything in the folder of the test."""
    return [f"paths.{name}={tmp_path / name}" for name in ("data", "cache", "logs")]


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Overrides that choose arrays of one's own: two classes, one of which has a name like markup."""
    images = np.random.default_rng(0).integers(256, size=(40, 12, 9, 3), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(40) % 2)
    return ["dataset=npz", f"dataset.path={tmp_path}/own.npz", "dataset.names=['[red]', second]"]


def error(arguments: list[str], capsys: pytest.CaptureFixture[str], command=data.main) -> str:
    """What is printed before the exit with code 1."""
    with pytest.raises(SystemExit) as raised:
        command(arguments)
    assert capsys.readouterr().out == ""
    assert isinstance(raised.value.code, str), "which Python prints, and exits with 1"
    return raised.value.code


def test_data_says_all_there_is_to_know(paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.main(["dataset=digits", *paths])
    out = capsys.readouterr().out
    module = load_data(["dataset=digits", *paths]).module
    for promised in (*module.source.card, module.fingerprint, str(tmp_path / "cache" / "digits"), "24 x 24 pixels"):
        assert promised in out
    mean, std = module.source.statistics(module.datasets["train"].split)
    assert re.search(rf"mean of train\s+│ {mean.item():.4f} ", out)
    assert re.search(rf"deviation of train\s+│ {std.item():.4f} ", out)
    assert re.search(r"│ all +│ 1,197 │ +200 │ +400 │", out)
    counts = [torch.bincount(dataset.split.labels) for dataset in module.datasets.values()]
    for label in range(10):
        assert re.search(rf"│ {label} +│ +{counts[0][label]} │ +{counts[1][label]} │ +{counts[2][label]} │", out)
    assert "original files" not in out


def test_data_of_ones_own(paths: list[str], own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    data.main([*own, *paths])
    out = capsys.readouterr().out
    assert "own.npz" in out
    assert "[red]" in out, "names are no markup"
    assert "12 x 9 pixels" in out
    assert re.search(r"mean of train\s+│ 0\.\d{4}, 0\.\d{4}, 0\.\d{4} ", out)
    assert "licence" not in out


def test_data_lists_original_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "original.gz").write_bytes(b"0123456789" * 123)
    sum_ = f"sha256:{sha256(b'0123456789' * 123).hexdigest()}"
    source = Mnist(path=tmp_path / "a", cache=tmp_path / "b", files=[File("original.gz", sum_, None, ())])
    (table,) = data._files(source)
    Console(width=300).print(table)
    assert re.search(rf"│ original.gz +│ 1,230 │ {sum_} │ {tmp_path}/b +│", capsys.readouterr().out)
    assert not list(data._files(Digits()))


def test_a_damaged_file_is_one_line(paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    (tmp_path / "data" / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(b"not the original")
    message = error(["dataset=cifar10", *paths], capsys)
    assert "cifar-10-binary.tar.gz must have the sum sha256:c4a38c" in message
    assert "\n" not in message


@pytest.mark.parametrize("command", [data.main, show.main])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], f"{NONE}{', '.join(_data_sets())}."),
        (["dataset="], NONE),
        (["dataset=digit"], "error: `dataset` has no 'digit'. Did you mean 'digits' or 'sdigits'?"),
        (["dataset=digits", "dataset.sise=3"], "error: `dataset.sise` is not a key of the configuration. Did you mean"),
        (["dataset=digits", "dataset.size=3"], "error: `size` must be a number of pixels"),
        (["dataset=digits", "dataset.classes=3"], "error: `classes` must be 10"),
        (["dataset=digits", "+dataset.foo=3"], "error: "),
        (["dataset=null"], "error: "),
        (["dataset=npz"], "error: `path` must be an .npz file"),
        (["experiment=quickstop"], "error: `experiment` has no 'quickstop'"),
    ],
)
def test_errors_are_one_line(
    command, arguments: list[str], message: str, paths: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    printed = error([*arguments, *paths], capsys, command)
    assert printed.startswith(message)
    assert "\n" not in printed


def test_the_names_of_data_sets_are_those_that_can_be_chosen() -> None:
    assert {"digits", "mnist", "cifar10", "npz"} <= set(_data_sets())
    assert not [name for name in _data_sets() if name.startswith("_")]


def test_a_recipe_chooses_its_data_and_another_data_set_wins(paths: list[str]) -> None:
    recipe = load_data(["experiment=quickstart", *paths])
    assert recipe.name == "digits"
    assert recipe.module.augmentation.rotate == 180
    assert load_data(["dataset=digits", *paths]).module.augmentation.rotate == 0, "of no recipe"
    with pytest.raises(ConfigError, match="`path` must be"):
        load_data(["experiment=quickstart", "dataset=images", *paths])


def sheet(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Path, Image.Image]:
    show.main(arguments)
    path = Path(capsys.readouterr().out.strip())
    with Image.open(path) as picture:
        picture.load()
    return path, picture


def test_show_writes_a_sheet(paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = sheet(["dataset=digits", "augment=rotate", *paths, "--samples", "3"], capsys)
    assert path == tmp_path / "logs" / "show" / "digits.png"
    assert [entry.name for entry in path.parent.iterdir()] == ["digits.png"]
    module = load_data(["dataset=digits", *paths]).module
    train = module.datasets["train"].split
    rows = show._first_of_each(train.labels, 10, 3)
    assert train.labels[rows].tolist() == [label for label in range(10) for _ in range(3)]
    again = show._draw(load_data(["dataset=digits", "augment=rotate", *paths]), 3)
    assert np.array_equal(np.array(picture.convert("RGB")), pixels(again))
    stored, *augmented = (axes.images[0].get_array()[..., 0] for axes in again.axes)
    side = slice(7 * 25, 7 * 25 + 24), slice(2 * 25, 2 * 25 + 24)
    assert np.array_equal(stored[side], train.images[rows[7 * 3 + 2], 0])
    for row, sample in [(0, 0), (5, 1), (9, 2)]:
        place = slice(row * 25, row * 25 + 24), slice(sample * 25, sample * 25 + 24)
        assert not np.array_equal(stored[place], augmented[0][place])
        assert not np.array_equal(augmented[0][place], augmented[1][place]), "another epoch is augmented otherwise"


def test_without_augmentation_training_sees_what_is_stored(paths: list[str]) -> None:
    train = load_data(["dataset=digits", *paths]).module.datasets["train"]
    rows = torch.tensor([3, 1, 4])
    stored = train.split.images[rows] / 255
    torch.testing.assert_close(show._seen_in_training(train, rows, 0), stored, atol=1e-6, rtol=0)


def test_show_draws_what_training_is_given(paths: list[str]) -> None:
    module = load_data(["dataset=digits", "augment=rotate", "seed=3", *paths]).module
    train, loader = module.datasets["train"], module.train_dataloader()
    for epoch in show._EPOCHS:
        loader.batches.set_epoch(epoch)
        (_, indices), (images, _) = next(iter(loader.batches)), next(iter(loader))
        shown = show._seen_in_training(train, indices[:5], epoch)
        torch.testing.assert_close((shown - train.mean) / train.std, images[:5], atol=1e-5, rtol=0)


def test_show_of_ones_own(paths: list[str], own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = sheet([*own, *paths, "augment.flip=true"], capsys)
    assert path.name == "npz.png"
    assert picture.mode in ("RGB", "RGBA")
    assert "--samples" in error([*own, *paths, "--samples", "0"], capsys, show.main)


def test_a_sheet_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").write_text("no folder")
    arguments = ["dataset=digits", f"paths.cache={tmp_path}/cache", f"paths.logs={tmp_path}/logs"]
    assert "logs" in error(arguments, capsys, show.main)


def test_the_benchmark_prints_ratios(tmp_path: Path) -> None:
    output = tmp_path / "data_benchmark.md"
    small = ["--samples", "40", "--batch-size", "16", "--repeats", "1", "--sizes", "CIFAR"]
    done = run_script("benchmark_data", *small, "--output", str(output), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, output.read_text()):
        rows = re.findall(
            r"^\| 3 x 32 x 32 \| .* \| 16 \| ([\d,]+) \| [\d,]+ \([02]\) \| [\d.]+ \| ", text, re.MULTILINE
        )
        assert len(rows) == 3


def test_scripts_exit_as_they_should(tmp_path: Path) -> None:
    wrong = run_script("data", "dataset=digit", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr == "error: `dataset` has no 'digit'. Did you mean 'digits' or 'sdigits'?\n"
    assert not list(tmp_path.iterdir())
