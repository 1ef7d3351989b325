"""Studies: what a file of configs/study says is trained, tested on moved images, drawn and written."""

from __future__ import annotations

import json
from math import pi
from pathlib import Path

import pytest
import torch
from composing import composed
from PIL import Image
from short_fits import QUIET
from torch import Tensor, nn

from scripts import study as script
from src.analysis.moving import outputs_under
from src.config.compose import CONFIGS, plain
from src.config.targets import ConfigError
from src.data import ImageDataModule
from src.data.samples import Samples, samples
from src.data.warp import rotate
from src.models.tasks import Classification
from src.reports.study import Findings, Outcome, Study, load_study, run_study
from src.reports.study_picture import draw_study
from src.runs.identity import identifying
from src.training.recipe import build

TINY = [
    "dataset=digits",
    "dataset.counts=[64,32,48]",
    "dataset.size=16",
    "conv.kernel_size=3",
    "train.epochs=2",
    "train.batch_size=16",
    "optimizer.lr=1e-2",
    "scheduler.warmup=0",
    *(f"observers.{name}=null" for name in ("equivariance", "figures", "redundancy", "progress", "summary")),
]
UPRIGHT = [*TINY, "dataset.rotate=false"]
SMALL = "net.hidden_sizes=[4,4]"
QUARTERS = [0, 6, 12, 18]
"""Where the angles of the demonstration are quarter turns."""
pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*")]


class Constant(nn.Module):
    """Says 0 whatever it is shown, and keeps that."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        return torch.eye(10)[:1].expand(len(images), 10)


class NearestMean(nn.Module):
    """Says which class's mean of upright training images is nearest: it knows digits only as they stand."""

    def __init__(self, data: ImageDataModule) -> None:
        super().__init__()
        found = all_of(data, "train")
        self.means = torch.stack([found.images[found.targets == label].mean(0) for label in range(10)])

    def forward(self, images: Tensor) -> Tensor:
        return -torch.cdist(images.flatten(1), self.means.flatten(1))


@pytest.fixture(scope="module")
def demo() -> Study:
    """The demonstration."""
    return load_study("demo")


@pytest.fixture(scope="module")
def digits(demo: Study) -> ImageDataModule:
    """Its data."""
    return build(composed(*demo.overrides("plain CNN", 0))).datamodule


def all_of(data: ImageDataModule, split: str) -> Samples:
    return samples(data, split, 10**9, torch.device("cpu"), 0)


def places(folder: Path) -> list[str]:
    return [f"paths.logs={folder}/logs", f"paths.cache={folder}/cache"]


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def by_angle(study: Study, net: nn.Module, found: Samples) -> list[float]:
    """Accuracy at each angle of a study."""
    _, turns = study.moves()["angles"]
    outputs = [outputs_under(net, found.images, turn, found.border, "bicubic") for turn in turns]
    return [Classification(10).measured(own, found.targets) for own in outputs]


def test_every_study_of_the_project_can_be_run() -> None:
    names = sorted(path.stem for path in (CONFIGS / "study").glob("*.yaml"))
    assert {"alias", "demo", "learning"} <= set(names)
    for name in names:
        study = load_study(name)
        assert study.name == name
        assert len(study.variants) > 1
        configurations = [composed(*study.overrides(variant, 0)) for variant in study.variants]
        assert len({json.dumps(identifying(plain(cfg)), sort_keys=True) for cfg in configurations}) == len(
            configurations
        ), "no variant is another one"


def test_nets_of_the_demonstration_have_as_many_parameters(demo: Study) -> None:
    def parameters(*changes: str) -> list[int]:
        study = demo.changed(changes)
        nets = [build(composed(*study.overrides(variant, 0))).model.net for variant in study.variants]
        return [sum(parameter.numel() for parameter in net.parameters()) for net in nets]

    equivariant, cnn = parameters()
    assert abs(cnn / equivariant - 1) < 0.05
    other, same = parameters("net.hidden_sizes=[24,24,46]")
    assert same == cnn
    assert abs(cnn / other - 1) > 0.5, "a G-CNN as wide as the CNN would be a large one"


def test_nets_of_the_demonstration_differ_in_nothing_else(demo: Study) -> None:
    equivariant, cnn = (identifying(plain(composed(*demo.overrides(name, 0)))) for name in demo.variants)
    differing = {key for key in equivariant | cnn if equivariant.get(key) != cnn.get(key)}
    # Those of the model are the same again, as it holds the net.
    keys = {key.removeprefix("model.").removeprefix("net.").removeprefix("conv.") for key in differing}
    assert {key.partition(".")[0] for key in keys} == {
        *("hidden_sizes", "group", "elements", "sampling", "low_pass", "kernel", "mask", "implementation")
    }


def test_test_images_are_turned_and_surrounded_by_black(demo: Study, digits: ImageDataModule) -> None:
    witness, found = Constant(), all_of(digits, "test")
    by_angle(demo, witness, found)
    shown = torch.cat(witness.shown).unflatten(0, (24, len(found.images)))
    for n, turns in zip(QUARTERS, range(4), strict=True):
        torch.testing.assert_close(shown[n], found.images.rot90(turns, (-2, -1)))
    black = digits.datasets["test"].shift.item()
    corners = shown[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, torch.full_like(corners, black))
    grey = rotate(found.images, torch.full((len(found.images),), pi / 4))[..., 0, 0]
    assert not torch.isclose(grey, torch.tensor(black)).any(), "zeros about normalised images are not black"


def test_curves_tell_what_depends_on_the_angle(demo: Study, digits: ImageDataModule) -> None:
    found = all_of(digits, "test")
    (flat,) = set(by_angle(demo, Constant(), found))
    assert flat == pytest.approx(0.1, abs=0.01), "chance at every angle"
    steep = by_angle(demo, NearestMean(digits), found)
    assert steep[0] == max(steep) > 0.85
    assert steep[QUARTERS[1]] < 0.4


def test_what_is_trained_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*UPRIGHT, SMALL, *places(tmp_path), "--study", "alias"]
    words += ["--variants", "now", "square border", "--seeds", "0", "1"]
    script.main(words)
    (folder,) = (tmp_path / "logs" / "studies").iterdir()
    assert folder.name.startswith("alias-")
    assert {path.name for path in folder.iterdir()} == {"study.json", "study.md", "study.png"}
    numbers = json.loads((folder / "study.json").read_text())
    assert list(numbers["outcomes"]) == ["now", "square border"]
    assert len({own["run"] for outcomes in numbers["outcomes"].values() for own in outcomes}) == 4
    for own in (own for outcomes in numbers["outcomes"].values() for own in outcomes):
        assert len(own["moved"]["angles"]) == 18
        metrics = json.loads((Path(own["run"]) / "metrics.json").read_text())
        assert own["moved"]["angles"][0] == own["unmoved"] == pytest.approx(metrics["test/acc"])
        assert own["parameters"] == metrics["parameters"]
        assert len(own["losses"]) == 2
        assert own["change"] > 0
    table = (folder / "study.md").read_text().splitlines()
    assert table[0].startswith("|  | test accuracy | mean | best | worst | best - worst | change at 45° | loss |")
    assert [line.split("|")[1].strip() for line in table[2:]] == ["now", "square border"]
    with Image.open(folder / "study.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (960, 612))
        assert len(picture.convert("RGB").getcolors(2**20)) > 50, "it is not empty"
    # Complete runs are found again, and say the same.
    before, content = stamps(tmp_path / "logs" / "se2_separable"), (folder / "study.json").read_bytes()
    script.main([*words, "--output", str(tmp_path / "elsewhere")])
    assert stamps(tmp_path / "logs" / "se2_separable") == before
    assert (tmp_path / "elsewhere" / "study.json").read_bytes() == content
    printed = capsys.readouterr().out
    for promised in ("Trained upright on 2,000 MNIST digits", "(dataset=digits", "square border", "study.png"):
        assert promised in printed


def test_quarter_turns_and_sizes_are_measured(tmp_path: Path) -> None:
    common = ["experiment=se2_separable", *UPRIGHT, SMALL, "train.epochs=12", *places(tmp_path)]
    study = Study("t", common, {"a": []}, seeds=[0], angles=[0, 90, 270], scales=[0.1, 1])
    found = run_study(study)
    (own,) = found.outcomes["a"]
    assert {*own.moved["angles"]} == {own.unmoved} == {own.moved["scales"][1]}
    assert own.moved["scales"][0] != own.unmoved
    assert len(draw_study(found).axes) == 2


def test_a_study_that_moves_nothing_draws_losses(digits: ImageDataModule) -> None:
    runs = [Outcome(0.5, {}, 0.1, [2.0, 1.0], 1234, 59.6, "run"), Outcome(0.6, {}, 0.1, [2.2, 1.2], 1234, 60.4, "run")]
    found = Findings(Study("t", [], {"a": []}), {"a": runs}, Classification(10).score, all_of(digits, "test"), Path())
    (axes,) = draw_study(found).axes
    (line,) = axes.lines
    assert line.get_ydata().tolist() == pytest.approx([2.1, 1.1])
    assert line.get_label() == "a: 1,234 parameters"
    assert axes.get_ylabel() == "training loss"
    assert script._head(found.study, "accuracy") == ["", "test accuracy", "loss", "parameters", "seconds"]
    assert script._cells(found, runs) == ["55.00 ± 7.07", "1.100 ± 0.141", "1,234", "60"]


def test_a_variant_replaces_what_is_common_and_an_override_what_a_variant_leaves_open(demo: Study) -> None:
    study = Study("t", ["experiment=quickstart", "seed=9"], {"a": ["experiment=se2_separable"], "b": ["group=r2"]})
    assert study.overrides("a", 1) == ["experiment=se2_separable", "seed=1"]
    given = demo.changed(["group=p4m", "kernel=lattice", "optimizer.lr=0.1"])
    equivariant, cnn = (composed(*given.overrides(variant, 0)) for variant in given.variants)
    assert (equivariant.group.elements, equivariant.group.sampling, equivariant.optimizer.lr) == ([4, 2], "random", 0.1)
    assert (cnn.group.elements, cnn.group.sampling, cnn.optimizer.lr) == ([1], "grid", 0.1)
    assert given.title.endswith("(group=p4m kernel=lattice optimizer.lr=0.1)")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.epochs=3", "`trian.epochs` is not a key of the configuration. Did you mean 'train.epochs'?"),
        ("group.elements=[0]", "`elements`"),
        ("group=p5", "`group` has no 'p5'"),
        ("dataset.limit_train=0", "`limit_train` must be at least 1"),
        ("dataset.rotate=true", "`dataset.rotate` must leave the test images upright"),
        ("debug=true", "`debug` must be False in a study"),
        ("train.do=false", "`train.do` must be True in a study"),
        ("trainer.devices=2", "`trainer.devices` must be 1 in a study"),
        ("seed=3", "`seed` is what the runs of the study differ in"),
    ],
)
def test_errors_are_one_line(override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        script.main([override, *places(tmp_path), "--study", "demo"])
    assert capsys.readouterr().out == ""
    assert raised.value.code.startswith("error: ")
    assert message in raised.value.code
    assert "\n" not in raised.value.code
    assert not (tmp_path / "logs").exists()


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`study` must be a file .* but got 'alais'.* 'alias'"):
        load_study("alais")
    with pytest.raises(ConfigError, match=r"`variants` must be .* but got 'nov'.* 'now'"):
        load_study("alias").restricted(None, ["nov"])
    with pytest.raises(ConfigError, match=r"`net.border` is what the runs of the study differ in"):
        load_study("alias").restricted(None, ["square border"]).changed(["net.border=disc"])
