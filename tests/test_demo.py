"""The demonstration: two comparable nets, upright training images, turned test images, and what is written."""

from __future__ import annotations

import json
from math import pi
from pathlib import Path

import pytest
import torch
from PIL import Image
from short_fits import QUIET
from torch import Tensor, nn

from scripts import demo
from src.config.compose import plain
from src.data import Digits, ImageDataModule
from src.data.warp import rotate
from src.runs.identity import identifying
from src.training import load_recipe
from src.training.demo import (
    _CNN,
    _GCNN,
    _NETS,
    ANGLES,
    Demonstration,
    Outcome,
    _accuracy_by_angle,
    _configuration,
    demonstrate,
)
from src.training.recipe import build

SMALL = [
    "net.hidden_sizes=[4,4,6]",
    "conv.kernel_size=3",
    "dataset.size=16",
    "dataset.limit_train=96",
    "dataset.limit_val=40",
    "dataset.limit_test=48",
    "train.epochs=1",
    *(f"observers.{name}=null" for name in ("equivariance", "figures", "redundancy")),
]
QUARTERS = [ANGLES.index(angle) for angle in (0, 90, 180, 270)]
pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*")]


class Constant(nn.Module):
    """Says 0 whatever it is shown."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(10)[:1].expand(len(images), 10)


class NearestMean(nn.Module):
    """Says which class's mean of upright training images is nearest: it knows digits only as they stand."""

    def __init__(self, data: ImageDataModule) -> None:
        super().__init__()
        train = data.datasets["train"]
        images, labels = train.finish(train[0, torch.arange(len(train))], torch.device("cpu"))
        self.means = torch.stack([images[labels == label].mean(0) for label in range(10)])

    def forward(self, images: Tensor) -> Tensor:
        return -torch.cdist(images.flatten(1), self.means.flatten(1))


class Witness(Constant):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        return super().forward(images)


@pytest.fixture(scope="module")
def digits() -> ImageDataModule:
    """The data of the demonstration."""
    return build(_configuration(_CNN)).datamodule


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a small demonstration was called."""
    folder = tmp_path_factory.mktemp("demo")
    demo.main(arguments(folder))
    return folder


def arguments(folder: Path) -> list[str]:
    return [*SMALL, *places(folder), "--output", str(folder / "docs" / "picture.png")]


def places(folder: Path) -> list[str]:
    return [f"paths.logs={folder}/logs", f"paths.cache={folder}/cache"]


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_nets_have_as_many_parameters() -> None:
    equivariant, plain = (parameters(build(_configuration(net)).model.net) for net in _NETS)
    assert abs(plain / equivariant - 1) < 0.05
    as_wide = parameters(build(_configuration(_CNN, ["net.hidden_sizes=[16,16,32]"])).model.net)
    assert abs(as_wide / equivariant - 1) > 0.5, "the widths of the G-CNN would make the CNN a small one"


def test_nets_differ_in_nothing_else() -> None:
    equivariant, cnn = (identifying(plain(_configuration(net))) for net in _NETS)
    differing = {key for key in equivariant | cnn if equivariant.get(key) != cnn.get(key)}
    # Those of the model are the same again, as it holds the net.
    keys = {key.removeprefix("model.").removeprefix("net.").removeprefix("conv.") for key in differing}
    assert {key.partition(".")[0] for key in keys} == {
        *("name", "hidden_sizes", "group", "elements", "sampling", "low_pass", "kernel", "mask", "implementation")
    }


def test_training_images_are_upright(digits: ImageDataModule) -> None:
    assert not digits.augmentation.active
    upright = Digits(size=24, rotate=False).splits()
    quickstart = load_recipe("quickstart").datamodule
    for name, split in zip(("train", "val", "test"), upright, strict=True):
        assert torch.equal(digits.datasets[name].split.images, split.images)
        assert not torch.equal(quickstart.datasets[name].split.images, split.images), "which are turned"
    assert Demonstration({}, digits, Path()).upright
    assert not Demonstration({}, quickstart, Path()).upright


def test_test_images_are_turned_and_surrounded_by_black(digits: ImageDataModule) -> None:
    witness, test = Witness(), digits.datasets["test"]
    _accuracy_by_angle(witness, digits)
    shown = torch.cat(witness.shown).unflatten(0, (len(ANGLES), len(test)))
    images, _ = test.finish(test[0, torch.arange(len(test))], torch.device("cpu"))
    for n, turns in zip(QUARTERS, range(4), strict=True):
        torch.testing.assert_close(shown[n], images.rot90(turns, (-2, -1)))
    black = test.shift.item()
    corners = shown[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, torch.full_like(corners, black))
    grey = rotate(images, torch.full((len(images),), pi / 4))[..., 0, 0]
    assert not torch.isclose(grey, torch.tensor(black)).any(), "zeros about normalised images are not black"


def test_curves_tell_what_depends_on_the_angle(digits: ImageDataModule) -> None:
    flat = _accuracy_by_angle(Constant(), digits)
    assert flat.unique().item() == pytest.approx(0.1, abs=0.01), "chance at every angle"
    steep = _accuracy_by_angle(NearestMean(digits), digits)
    assert steep[0] > 0.85
    assert steep[ANGLES.index(90)] < 0.4
    assert steep.argmax() == 0


def test_what_is_written(written: Path) -> None:
    (folder,) = (written / "logs" / "demo").iterdir()
    assert {path.name for path in folder.iterdir()} == {"demo.png", "demo.json"}
    with Image.open(folder / "demo.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (960, 588))
        assert len(picture.convert("RGB").getcolors(2**20)) > 50, "it is not empty"
    assert (written / "docs" / "picture.png").read_bytes() == (folder / "demo.png").read_bytes()
    numbers = json.loads((folder / "demo.json").read_text())
    assert numbers["angles"] == [10 * n for n in range(36)]
    assert numbers["chance"] == 0.1
    assert list(numbers["nets"]) == [_GCNN, _CNN]
    for net in numbers["nets"].values():
        assert len(net["accuracies"]) == 36
        assert net["mean"] == pytest.approx(sum(net["accuracies"]) / 36)
        assert net["worst"] == min(net["accuracies"]) == net["accuracies"][net["worst_angle"] // 10]
        metrics = json.loads((Path(net["run"]) / "metrics.json").read_text())
        assert net["upright"] == net["accuracies"][0] == pytest.approx(metrics["test/acc"])
        assert net["parameters"] == metrics["parameters"]
    accuracies = numbers["nets"][_GCNN]["accuracies"]
    assert len({accuracies[n] for n in QUARTERS}) == 1, "a G-CNN is invariant under quarter turns"


def test_complete_runs_are_found_again(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stamps() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in (written / "logs").glob("demo_*/**/*")}

    before, (numbers,) = stamps(), (written / "logs" / "demo").glob("*/demo.json")
    content = numbers.read_bytes()
    demo.main(arguments(written))
    assert stamps() == before
    assert numbers.read_bytes() == content
    assert {path.name for path in (written / "logs").iterdir()} == {"demo", "demo_gcnn", "demo_cnn"}
    printed = capsys.readouterr().out
    for promised in ("Trained on upright digits", "mean over all angles", "worst angle", "picture.png"):
        assert promised in printed


def test_rows_and_titles(digits: ImageDataModule) -> None:
    own = Outcome([0.9, *[0.5] * 34, 0.25], 1234, 59.6, "run")
    assert demo._rows([own]) == {
        "accuracy, upright": ["90.0 %"],
        "mean over all angles": [f"{(90 + 34 * 50 + 25) / 36:.1f} %"],
        "worst angle": ["25.0 % at 350°"],
        "parameters": ["1,234"],
        "training time": ["60 s"],
    }
    turned = build(_configuration(_CNN, ["augment=rotate"])).datamodule
    assert demo._title(Demonstration({}, digits, Path())) == "Trained on upright digits, tested at every angle"
    assert demo._title(Demonstration({}, turned, Path())) == "Trained on turned digits, tested at every angle"


def test_options_are_of_both_nets_but_those_of_equivariance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def keep(cfg, changes):
        asked[cfg.name] = cfg, changes
        return Outcome([0.0] * 36, 1, 1.0, str(tmp_path / cfg.name))

    monkeypatch.setattr("src.training.demo._outcome", keep)
    monkeypatch.setattr("src.training.demo.load_recipe", lambda run: build(_configuration(_GCNN)))
    demonstrate(["group=p4m", "kernel=lattice", "group.sampling=random", "optimizer.lr=0.1"])
    (equivariant, all_of_them), (plain, some) = asked["demo_gcnn"], asked["demo_cnn"]
    assert (equivariant.group.elements, equivariant.group.sampling, equivariant.optimizer.lr) == ([4, 2], "random", 0.1)
    assert (plain.group.elements, plain.group.sampling, plain.optimizer.lr) == ([1], "grid", 0.1)
    assert (len(all_of_them), some) == (4, ["optimizer.lr=0.1"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.epochs=3", "`trian.epochs` is not a key of the configuration. Did you mean 'train.epochs'?"),
        ("group.elements=[0]", "`elements`"),
        ("group=p5", "`group` has no 'p5'"),
        ("dataset.limit_train=0", "`limit_train` must be at least 1"),
        ("dataset.rotate=true", "`dataset.rotate` must leave the test images upright"),
        ("debug=true", "`debug` must be False in the demonstration"),
        ("train.do=false", "`train.do` must be True in the demonstration"),
        ("trainer.devices=2", "`trainer.devices` must be 1 in the demonstration"),
    ],
)
def test_errors_are_one_line(override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        demo.main([override, *places(tmp_path)])
    assert capsys.readouterr().out == ""
    assert raised.value.code.startswith("error: ")
    assert message in raised.value.code
    assert "\n" not in raised.value.code
    assert not (tmp_path / "logs").exists()
