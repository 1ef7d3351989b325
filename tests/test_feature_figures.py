"""Pictures of nets: what is drawn where, in which size, and that training does not notice."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from math import pi
from pathlib import Path

import numpy as np
import pytest
import torch
from composing import composed
from conftest import GROUPS
from kills import SMALL, Bomb
from matplotlib.figure import Figure
from PIL import Image
from short_fits import QUIET, events, fit, whole_and_killed

from src.analysis.drawing import pixels
from src.analysis.outcomes import _WRONG, _confusion, _draw_confusion, _draw_samples
from src.analysis.pictures import _outputs, draw_filters, draw_rotation, element_label, mosaic
from src.callbacks.feature_figures import FeatureFigures, convolutions
from src.data.samples import samples
from src.data.warp import rotate
from src.groups import SO2, Dilation, Product, Trivial
from src.models import Field, GConv
from src.models.tasks import Classification, Task
from src.training.recipe import build

pytestmark = QUIET
ADDED = "++observers.figures={_target_: src.callbacks.feature_figures.FeatureFigures, every_epochs: 2, samples: 20}"
LAYERS = ["lifting.0", "stages.0.0.conv1", "stages.0.0.conv2", "stages.1.0.conv1", "stages.1.0.conv2", "final.0"]
TAGS = {"features/rotation", "samples/predictions", "samples/worst", "confusion", *(f"filters/{n}" for n in LAYERS)}


def images(folder: Path) -> dict[str, list[tuple[int, bytes]]]:
    found = events(folder)
    return {tag: [(x.step, x.encoded_image_string) for x in found.Images(tag)] for tag in found.Tags()["images"]}


def shown(figure: Figure, axes: int = 0) -> np.ndarray:
    """The numbers that an image of a figure stands for, with those of lines between cells as NaN."""
    return np.ma.filled(figure.axes[axes].get_images()[0].get_array(), np.nan)


def cell(numbers: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    return numbers[row * (size + 1) : row * (size + 1) + size, column * (size + 1) : column * (size + 1) + size]


def words(figure: Figure, axes: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[axes].texts]


def ticks(figure: Figure, axis: str, axes: int = 0) -> list[str]:
    return [text.get_text() for text in getattr(figure.axes[axes], f"get_{axis}ticklabels")()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit(folder, [FeatureFigures(every_epochs=2, samples=20)])
    return folder


def test_pictures_are_written_in_their_size(run: Path) -> None:
    found = images(run)
    assert found.keys() == TAGS, "and no filters of the skip's 1x1 kernels"
    for tag, pictures in found.items():
        assert [step for step, _ in pictures] == [0, 13, 20], tag
        for _, content in pictures:
            picture = Image.open(BytesIO(content))
            assert picture.mode == "RGB"
            assert 300 <= min(picture.size) <= max(picture.size) <= 1600, tag
            assert np.asarray(picture).std() > 10, "not blank"
    sizes = {tag: Image.open(BytesIO(pictures[0][1])).size for tag, pictures in found.items()}
    assert sizes["samples/predictions"] == sizes["samples/worst"]
    assert found["filters/lifting.0"][0][1] != found["filters/lifting.0"][-1][1], "trained"


@pytest.mark.parametrize("group", GROUPS)
def test_filters_of_every_group(group: str) -> None:
    own, elements = GROUPS[group]
    for kind in ("lifting", "nonseparable"):
        conv = GConv(2, 3, 5, group=own, elements=elements, implementation=kind)
        figure = draw_filters(conv)
        columns, rows = ticks(figure, "x"), ticks(figure, "y")
        assert len(columns) == elements[0]
        assert len(rows) == 3 * len(conv.kernel.grid) // elements[0], "three pairs of channels"
        assert len(set(columns)) == len(columns)
        assert len(set(rows)) == len(rows), "every row has a name of its own"
        assert shown(figure).shape == (6 * len(rows) - 1, 6 * len(columns) - 1)
        assert pixels(figure).std() > 10


def test_filters_are_the_weights_of_their_pair_and_element() -> None:
    group = Product(SO2(), Dilation(1.74))
    lift = GConv(3, 8, 5, group=group, elements=(4, 2), implementation="lifting")
    conv = GConv(8, 8, 5, group=group, elements=(4, 2), implementation="nonseparable")
    grid, identity = conv.kernel.grid, group.identity
    drawn = draw_filters(lift)
    assert ticks(drawn, "x") == ["0°", "90°", "180°", "270°"]
    assert ticks(drawn, "y")[:3] == ["0, 0   x1.00", "0, 0   x1.74", "1, 1   x1.00"]
    with torch.no_grad():
        lifting, weight = lift.weight(grid, identity).numpy(), conv.weight(identity, grid).numpy()
    pair, other = lifting[1, :, 1, 0], weight[2, 0, 2]
    assert cell(shown(drawn), 3, 2, 5) == pytest.approx(pair[2 * 2 + 1] / abs(pair).max()), "1, 1 at 180°, x1.74"
    assert cell(shown(draw_filters(conv)), 5, 1, 5) == pytest.approx(other[1 * 2 + 1] / abs(other).max())
    assert cell(shown(drawn), 2, 2, 5) != pytest.approx(pair[2 * 2 + 1] / abs(pair).max())
    turned = np.rot90(cell(shown(drawn), 0, 0, 5), 1)
    assert cell(shown(drawn), 0, 1, 5) == pytest.approx(turned, abs=1e-5), "lifting has turned copies of one kernel"
    assert drawn.axes[0].get_images()[0].get_clim() == (-1, 1), "zero is in the middle"


def test_maps_of_a_turned_image_turn_and_move() -> None:
    lift = GConv(1, 4, 5, group=SO2(), elements=(8,), implementation="lifting")
    turned = rotate(torch.rand(1, 1, 15, 15).expand(8, -1, -1, -1), pi / 4 * torch.arange(8.0))
    with torch.no_grad():
        features = lift(Field.of_images(turned, SO2()))
    figure = draw_rotation(turned, features, lift, "lifting.0")
    assert ticks(figure, "x", 1) == ticks(figure, "y", 0) == [f"{45 * n}°" for n in range(8)]
    assert ticks(figure, "x", 0) == ["input"]
    maps = shown(figure, 1)
    assert cell(maps, 2, 5, 15) == pytest.approx(np.rot90(cell(maps, 0, 3, 15)), abs=1e-4), "turned by 90°, moved by 2"
    assert cell(maps, 2, 4, 15) != pytest.approx(np.rot90(cell(maps, 0, 3, 15)), abs=1e-2)
    inputs = shown(figure, 0)
    assert inputs[32:47, :15, 0] == pytest.approx(np.rot90(inputs[:15, :15, 0]), abs=1e-5)
    values = features.values[0]
    channel = int(figure.get_suptitle().removeprefix("lifting.0, channel "))
    spread = [float(values[c].var(0).mean()) for c in range(4)]
    assert spread[channel] == max(spread)


def test_a_plain_net_has_one_map() -> None:
    lift = GConv(3, 4, 5, group=Trivial(), elements=(1,), implementation="lifting")
    turned = torch.rand(8, 3, 15, 15)
    with torch.no_grad():
        figure = draw_rotation(turned, lift(Field.of_images(turned, Trivial())), lift, "lifting.0")
    assert shown(figure, 1).shape == (8 * 16 - 1, 15)


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_net_that_has_diverged_or_died_is_drawn(value: float) -> None:
    lift = GConv(1, 4, 5, group=SO2(), elements=(4,), implementation="lifting")
    turned, logits = torch.rand(8, 1, 9, 9), torch.full((8, 10), value)
    with torch.no_grad():
        for weight in lift.parameters():
            weight.fill_(value)
        features = lift(Field.of_images(turned, SO2()))
    for figure in (
        draw_filters(lift),
        draw_rotation(turned, features, lift, "lifting.0"),
        _draw_samples(Classification(10), turned, torch.arange(8), logits, "0123456789"),
        _draw_confusion(torch.arange(8), logits.argmax(1), "0123456789"),
    ):
        assert pixels(figure).std() > 10


def test_a_wrong_prediction_is_marked_and_a_right_one_is_not() -> None:
    names = ["zero", "one", "a very long name"]
    logits = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    figure = _draw_samples(Classification(3), torch.rand(3, 1, 9, 9), torch.tensor([1, 0, 2]), logits, names)
    assert words(figure) == ["one, 100%", "zero, 33%", "a very lo…\n→ zero, 100%"]
    colours = [text.get_color() for text in figure.axes[0].texts]
    assert [colour == _WRONG for colour in colours] == [False, False, True]
    (frame,) = figure.axes[0].patches
    assert frame.get_x() == pytest.approx(2 * 10 - 0.5), "around the third"


def test_samples_are_shown_as_they_were_before_normalisation() -> None:
    recipe = build(composed(*SMALL))
    dataset = recipe.datamodule.datasets["val"]
    found = samples(recipe.datamodule, "val", 5, torch.device("cpu"), 10)
    originals = dataset.split.images[:5] / 255
    assert torch.allclose(found.shown(found.images), originals, atol=1e-5)
    assert torch.allclose(found.normalised(originals), found.images, atol=1e-5)
    assert dataset.denormalise(torch.tensor([-99.0, 99.0])).unique().tolist() == [0, 1], "clamped"
    assert not torch.allclose(found.images, originals, atol=0.1)
    figure = _draw_samples(
        Classification(10), found.shown(found.images), torch.zeros(5).long(), torch.zeros(5, 10), "0123456789"
    )
    assert shown(figure)[:20, 21:41, 0] == pytest.approx(originals[1, 0].numpy(), abs=1e-5)


def test_the_worst_samples_have_the_largest_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def keep(task: Task, images: torch.Tensor, labels: torch.Tensor, logits: torch.Tensor, names: list[str]) -> Figure:
        drawn.append((images, torch.nn.functional.cross_entropy(logits, labels, reduction="none")))
        return Figure(figsize=(1, 1))

    monkeypatch.setattr("src.analysis.outcomes._draw_samples", keep)
    monkeypatch.setattr("src.callbacks.feature_figures.pixels", lambda figure: np.zeros((4, 4, 3), np.uint8))
    fit(tmp_path, [FeatureFigures(every_epochs=9, before_training=False)], "dataset.limit_val=40", max_epochs=1)
    (_, worst), (_, predictions) = drawn
    assert len(predictions) == len(worst) == 32, "of 40"
    assert worst.tolist() == sorted(worst.tolist(), reverse=True)
    assert worst[0] >= predictions.max()
    assert predictions.tolist() != sorted(predictions.tolist(), reverse=True)


def test_the_confusion_matrix() -> None:
    labels, predictions = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
    assert _confusion(labels, predictions, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    figure = _draw_confusion(labels, predictions, ["cat", "dog", "bird"])
    assert words(figure) == ["1", "1", "1", "1", "2"]
    assert ticks(figure, "x") == ticks(figure, "y") == ["cat", "dog", "bird"]
    assert "66.7 %" in figure.axes[0].get_title()
    assert figure.axes[0].get_images()[0].get_array()[2].tolist() == pytest.approx([1 / 3, 0, 2 / 3])


@pytest.mark.parametrize(("classes", "named", "most"), [(10, 10, 900), (100, 100, 1500), (1000, 112, 1500)])
def test_names_do_not_overlap(classes: int, named: int, most: int) -> None:
    labels = torch.arange(512) % classes
    figure = _draw_confusion(labels, labels, [f"number {n}" for n in range(classes)])
    picture = pixels(figure)
    assert max(picture.shape) <= most
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert len(boxes) == named
    assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))
    assert min(box.height for box in boxes) >= 7, "pixels"


def test_labels_of_elements() -> None:
    e2xrplus, _ = GROUPS["e2xrplus"]
    assert element_label(e2xrplus, torch.tensor([-3 * pi / 4, 1, 0.6931], dtype=torch.float64)) == [
        "225°",
        "flip",
        "x2.00",
    ]
    assert element_label(SO2(), torch.tensor([2 * pi / 7])) == ["51.4°"]
    assert element_label(SO2(), torch.tensor([-1e-9])) == ["0°"]


def test_a_mosaic_has_lines_between_its_cells() -> None:
    grid = mosaic(torch.arange(6.0).view(2, 3, 1, 1).expand(-1, -1, 2, 2), -1.0)
    assert grid.shape == (5, 8)
    assert grid[0].tolist() == [0, 0, -1, 1, 1, -1, 2, 2]
    assert grid[:, 0].tolist() == [0, 0, -1, 3, 3]


def test_features_of_a_named_layer(tmp_path: Path) -> None:
    net = build(composed(*SMALL)).model.net.eval()
    conv = convolutions(net)["final.0"]
    found = _outputs(conv, lambda: torch.cat([net(torch.rand(1, 1, 20, 20)), net(torch.rand(2, 1, 20, 20))]))
    assert found.values.shape[:3] == (3, 4, 4)
    assert not conv._forward_hooks, "nothing is left behind"
    fit(tmp_path, [FeatureFigures(layer="final.0", before_training=False)], max_epochs=1)
    with pytest.raises(ValueError, match=r"`layer` must be a group convolution of the net, but got 'final'; there are"):
        fit(tmp_path / "wrong", [FeatureFigures(layer="final")], max_epochs=1)


@pytest.mark.parametrize("samples", [0, -1, 2.5, True])
def test_wrong_numbers_of_samples(samples: object) -> None:
    with pytest.raises(ValueError, match="`samples` must be a positive integer, but got"):
        FeatureFigures(samples=samples)


@pytest.mark.parametrize("way", [{"logger": False}, {"precision": "64-true"}, {"precision": "bf16-mixed"}])
def test_other_ways_to_train(tmp_path: Path, way: dict[str, object]) -> None:
    fit(tmp_path, [FeatureFigures(samples=20, before_training=False)], max_epochs=1, **way)
    assert (tmp_path / "tensorboard").exists() == ("logger" not in way)
    assert "logger" in way or images(tmp_path).keys() == TAGS


def test_training_is_the_same_without_it(tmp_path: Path, run: Path) -> None:
    one, two, other = (
        fit(tmp_path / name, callbacks, "group.sampling=random", **options).lightning_module.state_dict()
        for name, callbacks, options in (
            ("with", [FeatureFigures(every_epochs=3, samples=20)], {}),
            ("without", [], {}),
            ("other", [], {"gradient_clip_val": 0.01}),
        )
    )
    same = {name: torch.equal(one[name], two[name]) for name in one}
    assert all(same.values()), [name for name, equal in same.items() if not equal]
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_is_killed_draws_the_same(tmp_path: Path) -> None:
    """Over two processes, which share the work."""
    overrides = [*SMALL, ADDED, "train.epochs=2"]
    one, two = map(images, whole_and_killed(tmp_path, overrides, Bomb("step", 9)))
    assert one == two
    assert one.keys() == TAGS
    assert {len(pictures) for pictures in one.values()} == {2}
