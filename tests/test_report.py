"""Reports: every section is there and right, whatever state a run is in, and a page needs and obeys nothing else."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import composed, loaded
from jinja2 import Environment
from kills import SMALL
from PIL import Image
from torch import nn

from scripts import report as command
from src.analysis.costs import costs
from src.analysis.redundancy import group_convolutions, spectra
from src.models.tasks import Classification
from src.reports.curves import Line, lines, rates, scalars
from src.reports.loaded_run import Entry, LoadedRun, load_run
from src.reports.net_sections import _ALONE, _NO_GROUP, _SHARED, _spectrum_rows
from src.reports.page import _TEMPLATE, Code, Section, Table, _html
from src.reports.record_sections import _remarks
from src.reports.report import _sections, report
from src.runs.compare import differences
from src.runs.record import read
from src.training import ConfigError, train

OF_NET = [*_SHARED, *_ALONE]
SINGLE = ["Result", "Training", *OF_NET, "Costs", "Reproduction"]
SEVERAL = ["Runs", "Training", "Robustness", "Equivariance", "Redundancy", "Costs", "Reproduction"]
PLAIN = ("group=r2", "kernel=lattice", "mask=none", "implementation=nonseparable")
HOSTILE = "<script>alert(1)</script>&\"'"
# Lightning's own, on this version of torch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*"),
]


class Page(HTMLParser):
    """What is in a page: sections with their texts, pictures, tags, and all that is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self.pictures: list[bytes] = []
        self.tags: set[str] = set()
        self.loaded: list[str] = re.findall(r"(?:@import|url\()\s*([^;)]*)", text)
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.tags.add(tag)
        if tag == "section":
            self._within = given["id"]
            self.sections[self._within] = ""
        if tag == "img" and given["src"].startswith("data:image/png;base64,"):
            self.pictures.append(b64decode(given["src"].partition(",")[2], validate=True))
        elif address := given.get("src") or given.get("srcset") or (given.get("href") if tag == "link" else None):
            self.loaded.append(address)

    def handle_data(self, data: str) -> None:
        if self._within:
            self.sections[self._within] += data


def run(folder: Path, *overrides: str) -> Path:
    """A small run that is complete."""
    places = [f"paths.logs={folder}/logs", f"paths.cache={folder}/cache"]
    of_others = ("kernel.", "group.") if overrides[0] == "group=r2" else ()
    small = [override for override in SMALL if not override.startswith(of_others)]
    cfg = composed(*small, "train.epochs=2", *places, *overrides)
    return train(cfg).folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def equivariant(place: Path) -> Path:
    """The folder of a run of a G-CNN whose kernels may have any rank."""
    return run(place, "implementation=nonseparable")


@pytest.fixture(scope="module")
def plain(place: Path) -> Path:
    """The folder of a run of a plain CNN, of another recipe."""
    return run(place, *PLAIN, "name=plain", "seed=1")


@pytest.fixture(scope="module")
def written(equivariant: Path) -> Path:
    """The page of the first run."""
    return report([equivariant])


@pytest.fixture(scope="module")
def look(equivariant: Path) -> LoadedRun:
    """Its net."""
    return load_run(read(equivariant), 1000)


def copy(folder: Path, to: Path, *without: str, **status: Any) -> Path:
    """A run's folder without some of its parts, and with another status."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("report", *without))
    record = json.loads((to / "status.json").read_text())
    (to / "status.json").write_text(json.dumps(record | status))
    return to


def anchors(titles: Sequence[str]) -> list[str]:
    return [title.lower() for title in titles]


def test_page_of_a_run(equivariant: Path, written: Path) -> None:
    assert written == equivariant / "report" / "report.html"
    page = Page(written.read_text())
    assert list(page.sections) == anchors(SINGLE)
    metrics = json.loads((equivariant / "metrics.json").read_text())
    accuracy = f"{100 * metrics['test/acc']:.2f} %"
    status = json.loads((equivariant / "status.json").read_text())
    promised = {
        "result": [
            accuracy,
            f"{metrics['parameters']:,}",
            status["data"],
            "quickstart",
            "complete",
            "2 of 2",
            "torch 2",
        ],
        "robustness": ["all 40 test images", "the best epoch by validation", f"as they are{accuracy}", "worst angle"],
        "equivariance": ["lattice", "rotation", "random", "Lie derivative", "per radian"],
        "redundancy": ["stages.0.0.conv1", "final.0", "initial", "random", "effective rank", "mean"],
        "kernels": ["lifting.0", "final.0"],
        "features": ["lifting.0", "turns of 45°"],
        "costs": ["lifting", "head", "million", "seconds of an epoch", "training images per second"],
        "reproduction": ["python ", "order_seed: 0", "formula: oi x h"],
    }
    for section, words in promised.items():
        text = re.sub(r"\s*\n\s*", "", page.sections[section])
        assert all(word in text for word in words), (section, text)


def test_pictures_are_in_the_page_and_beside_it(written: Path) -> None:
    page = Page(written.read_text())
    files = {path.name: path.read_bytes() for path in written.parent.glob("*.png")}
    assert sorted(files.values()) == sorted(page.pictures)
    names = {"training", "robustness", "equivariance", "redundancy", "features", "confusion", "worst", "samples"}
    assert set(files) >= {f"{name}.png" for name in names | {"filters-1", "filters-2"}}
    for content in page.pictures:
        with Image.open(BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").getcolors(2**22)) > 10, "it is not empty"


def test_nothing_else_is_loaded(written: Path) -> None:
    page = Page(written.read_text())
    assert page.loaded == []
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    for harm in (
        '<img src="https://a.b/c.png">',
        '<link href="http://a.b/c.css">',
        "<style>p{background:url(x)}</style>",
    ):
        assert Page(harm).loaded, f"{harm} loads something"


def test_the_same_run_gives_the_same_bytes(equivariant: Path, written: Path, tmp_path: Path) -> None:
    again = report([equivariant], output=tmp_path)
    assert again == tmp_path / "report.html"
    assert again.read_bytes() == written.read_bytes()
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_texts_are_shown_and_not_obeyed(equivariant: Path, tmp_path: Path) -> None:
    hostile = copy(equivariant, tmp_path / "run", "checkpoints", id=HOSTILE, experiment=f"${HOSTILE}")
    for path in (hostile / "config.yaml", hostile / "recipe.yaml"):
        path.write_text(path.read_text() + f"note: {json.dumps(HOSTILE)}\n")
    content = report([hostile]).read_text()
    page = Page(content)
    assert "script" not in page.tags
    assert page.sections["result"].count(HOSTILE) == 2
    assert HOSTILE.partition("&")[0] in page.sections["reproduction"]
    compared = Page(report([hostile, equivariant], images=8, output=tmp_path).read_text())
    assert "script" not in compared.tags
    assert compared.sections["runs"].count(HOSTILE) == 3, "the recipe, the run, and in what it differs"

    sections = [Section(HOSTILE, HOSTILE, [Table([[HOSTILE, HOSTILE]], [HOSTILE]), Code(HOSTILE), HOSTILE])]
    assert "script" not in Page(_html(HOSTILE, sections)).tags
    careless = Environment().from_string(_TEMPLATE.read_text()).render(title="", sections=sections)
    assert "script" in Page(careless).tags, "the test sees it"


def test_plain_cnn(plain: Path) -> None:
    page = Page(report([plain]).read_text())
    assert list(page.sections) == anchors(SINGLE)
    assert _NO_GROUP in page.sections["redundancy"]
    assert not (plain / "report" / "redundancy.png").exists()
    assert (plain / "report" / "filters-1.png").exists()
    assert page.sections["equivariance"].count("lattice") == 1, "explained, and not in the table"


@pytest.mark.parametrize(
    ("without", "empty", "why"),
    [
        (["checkpoints", "metrics.json"], OF_NET, "no checkpoint"),
        (["tensorboard", "weights.pt", "best.ckpt"], ["Training"], "the last checkpoint"),
        (
            ["checkpoints", "tensorboard", "metrics.json", "config.yaml", "recipe.yaml"],
            [*OF_NET, "Training"],
            "",
        ),
    ],
)
def test_runs_that_are_not_complete(
    equivariant: Path, tmp_path: Path, without: list[str], empty: list[str], why: str
) -> None:
    left = copy(equivariant, tmp_path / "run", *without, status="interrupted")
    page = Page(report([left], images=8).read_text())
    assert list(page.sections) == anchors(SINGLE)
    assert "interrupted" in page.sections["result"]
    for title in SINGLE:
        says_so = any(word in page.sections[title.lower()] for word in ("Nothing can be shown", "There are no curves"))
        assert says_so == (title in empty), title
    assert any(why in text for text in page.sections.values())


def test_damaged_files_are_told_of(equivariant: Path, tmp_path: Path) -> None:
    left = copy(equivariant, tmp_path / "run", "metrics.json")
    for name in ("best.ckpt", "weights.pt"):
        (left / "checkpoints" / name).write_bytes(b"PK")
    (left / "status.json").write_text("{")
    with pytest.warns(RuntimeWarning, match="the next file is taken"):
        page = Page(report([left], images=8).read_text())
    assert "is not an intact checkpoint" in page.sections["robustness"]
    assert "damaged (status.json cannot be read)" in page.sections["result"]


def test_runs_are_compared(equivariant: Path, plain: Path) -> None:
    written = report([equivariant, plain, equivariant / ".." / equivariant.name], images=20)
    assert written.parent.parent == equivariant.parents[1] / "reports"
    assert re.fullmatch(r"plain\+quickstart-[0-9a-f]{8}", written.parent.name)
    page = Page(written.read_text())
    assert list(page.sections) == anchors(SEVERAL)
    names = {path.stem for path in written.parent.glob("*.png")}
    assert names == {"training", "robustness", "equivariance", "redundancy"}
    assert len(page.pictures) == len(names)
    for words in ("group.H=SO2", "group.H=Trivial", "seed=0", "seed=1", "kernel=Fourier", "kernel=Lattice"):
        assert words in page.sections["runs"]
    assert "no layer with a group axis: run 2." in page.sections["redundancy"]
    assert "not the same data" not in page.sections["runs"]
    assert "20 of the 40" in page.sections["robustness"]


def test_comparison_of_what_is_there(equivariant: Path, tmp_path: Path) -> None:
    left = copy(equivariant, tmp_path / "a" / "run", "checkpoints", "tensorboard", status="failed")
    page = Page(report([left, equivariant], images=8).read_text())
    assert "run 1 is left out below: the run has no checkpoint" in page.sections["runs"]
    assert "an epoch that is over: run 1." in page.sections["training"]
    neither = Page(report([left, copy(left, tmp_path / "a" / "other")]).read_text())
    assert list(neither.sections) == anchors(["Runs", "Training", "Costs", "Reproduction"])
    assert "There are no curves" in neither.sections["training"]


def test_what_cannot_be_compared_is_said(look: LoadedRun) -> None:
    same = Entry("run 1", look.run, look)
    assert _remarks([same, same]) == []
    other = replace(look, run=replace(look.run, data="other-1"), task=Classification(3))
    first, second = _remarks([same, Entry("run 2", other.run, other)])
    assert "not the same data" in first
    assert "(3 of class, 10 of class)" in second


def test_differences_are_few(equivariant: Path, tmp_path: Path) -> None:
    def changed(name: str, old: str, new: str) -> Path:
        folder = copy(equivariant, tmp_path / name)
        recipe = (folder / "recipe.yaml").read_text()
        assert old in recipe
        (folder / "recipe.yaml").write_text(recipe.replace(old, new))
        return folder

    first, same = read(equivariant), read(copy(equivariant, tmp_path / "same"))
    seeded = read(changed("seeded", "seed: 0", "seed: 1"))
    assert differences([first, same]) == ["", ""]
    assert differences([first, read(changed("lr", "lr: 0.001", "lr: 0.1"))]) == [
        "optimizer.lr=0.001",
        "optimizer.lr=0.1",
    ]
    assert [text.split()[-1] for text in differences([first, seeded])] == ["seed=0", "seed=1"]
    assert differences([first, read(copy(equivariant, tmp_path / "bare", "config.yaml", "recipe.yaml"))])[0] != ""


def test_controls_of_redundancy(look: LoadedRun) -> None:
    """The initial weights are those that the recipe builds, and none of the kinds is another."""
    recipe = loaded("quickstart", [*SMALL, "implementation=nonseparable"])
    fresh = {name: spectra(conv) for name, conv in group_convolutions(recipe.model.net).items()}
    assert look.spectra["initial"] == fresh
    assert look.spectra["trained"] != fresh
    assert look.spectra["random"] != look.spectra["trained"]
    rows = _spectrum_rows(look.spectra)
    assert {row[1] for row in rows} == {"any", ""}
    assert [row[2] for row in rows[-3:]] == ["trained", "initial", "random"]


def test_forced_layers_are_marked() -> None:
    net = loaded("quickstart", SMALL).model.net
    own = {name: spectra(conv) for name, conv in group_convolutions(net).items()}
    rows = _spectrum_rows({"trained": own})
    assert {row[1] for row in rows} == {"1", ""}
    assert all(row[3] == "1.000" for row in rows)


def test_multiply_adds_are_those_of_the_formula(look: LoadedRun) -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 7))
    counted = costs(net.eval().requires_grad_(False), torch.zeros(1, 3, 6, 6))
    assert [part.multiply_adds for part in counted.parts.values()] == [36 * 9 * 3 * 5, 0, 0, 5 * 36 * 7]
    assert [part.parameters for part in counted.parts.values()] == [140, 0, 0, 1267]
    assert counted.total == (1407, 36 * 9 * 3 * 5 + 5 * 36 * 7)
    assert counted.assembly == 0, "there is nothing to assemble"
    assert look.costs.assembly > 0
    assert sum(part.multiply_adds for part in look.costs.parts.values()) == look.costs.total.multiply_adds


def test_curves_are_over_epochs(equivariant: Path) -> None:
    there = lines(scalars(read(equivariant)))
    assert there["train/loss"].epochs == there["val/acc"].epochs == [1, 2]
    assert max(there["lr-AdamW/weights"].epochs) == 2
    assert lines({"val/loss": [(3, 0.5)]}) == {}, "no epoch is over"
    first, other = Line([1], [2]), Line([1], [3])
    assert rates({"lr-a": first, "lr-b": first, "lr-c": other}) == {"a\nb": first, "c": other}


def test_command(equivariant: Path, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main([str(equivariant), "--images", "8", "--output", str(tmp_path / "new" / "place")])
    printed = capsys.readouterr().out
    assert printed == f"{tmp_path}/new/place/report.html\n"
    page = Path(printed.strip())
    assert page.read_bytes() != written.read_bytes()
    assert "8 of the 40 test images" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "--images", "0"], "error: `--images` must be at least 1, but got 0."),
        (["{run}/checkpoints"], "error: .*/checkpoints must be the folder of a run, with a status.json, but"),
        (["{run}", "/nowhere"], "error: /nowhere must be the folder of a run"),
    ],
)
def test_errors_are_a_line(equivariant: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message) as caught:
        command.main([argument.format(run=equivariant) for argument in arguments])
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_written_to(equivariant: Path, tmp_path: Path) -> None:
    left = copy(equivariant, tmp_path / "run", "checkpoints")
    with pytest.raises(SystemExit, match=r"error: .*config\.yaml"):
        command.main([str(left), "--output", str(left / "config.yaml")])


def test_sections_of_both_pages_can_be_reached(look: LoadedRun) -> None:
    """No two have the same anchor."""
    for sections in (_sections([look.run], ["gone"]), _sections([look.run] * 2, ["gone"] * 2)):
        names = [section.anchor for section in sections]
        assert len(set(names)) == len(names)
    with pytest.raises(ConfigError, match="must be the folder of a run"):
        report([Path("/nowhere")])
