"""Equivariance errors: small where a net is sound, large where it is broken, and known where they can be worked out."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import partial
from math import pi
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import GROUPS
from kills import SMALL, execute, only_run, result, unequal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_extension import Squeeze
from torch import Tensor, nn

from src.analysis.actions import Action, acting, actions, kinds
from src.analysis.drawing import pixels
from src.analysis.equivariance import Study, measure, score_under
from src.analysis.equivariance_figures import draw_curves, draw_layers, explain
from src.analysis.moving import (
    _full_precision,
    faded,
    field_error,
    lie_derivative,
    predict,
    scales,
    translated,
    watched,
)
from src.callbacks.equivariance_error import EquivarianceError
from src.groups import SO2, Dilation, Group, Trivial
from src.models import Field, GConv
from src.models.gconv import convolutions
from src.models.kernels import Siren
from src.models.masks import Mask
from src.models.nets import CKGResNet

CALLBACK = (
    "++observers.equivariance={_target_: src.callbacks.equivariance_error.EquivarianceError, "
    "every_epochs: 1, samples: 8, curve_samples: 16, angles: 4}"
)
FEW = {"samples": 4, "elements": 2, "curve_samples": 6, "angles": 4}
SIN = partial(Siren, hidden_size=6)
# Lightning's own, on this version of torch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*not supported by the model summary.*"),
]


def make(group: str = "p4", formula: str = "separable", size: tuple[int, int] = (16, 16), **options: Any) -> CKGResNet:
    """A tiny net."""
    own, elements = GROUPS[group]
    bound = {"group": own, "elements": elements, "implementation": formula, "kernel": SIN, "kernel_size": 3}
    conv = partial(GConv, **bound | options.pop("conv", {}))
    settings = {"hidden_sizes": (3, 3, 4), "pooling": "none", "exact": "off"} | options
    return CKGResNet(1, 5, size, conv, **settings).eval()


def pictures(n: int = 6, size: tuple[int, int] = (16, 16)) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, *size), torch.arange(n) % 5


def smooth(n: int, size: int) -> Tensor:
    """Blobs that are the same at every resolution: (n, 1, size, size)."""
    centres = torch.rand(n, 3, 2, 1, 1, generator=torch.Generator().manual_seed(3)) / 2 - 0.25
    line = torch.linspace(-1, 1, size, dtype=torch.get_default_dtype())
    u = torch.stack(torch.meshgrid(line, line, indexing="ij"))
    return torch.exp(-(u - centres.to(line)).square().sum(2) / 0.1).sum(1, keepdim=True)


def absolute(net: CKGResNet) -> CKGResNet:
    """The same net, but its second convolution takes pixels where they are, not relative to its output elements."""
    kernel = net.stages[0][0].conv1.kernel
    relative = kernel._coordinates

    def coordinates(a: Tensor, b: Tensor, u: Tensor) -> dict[str, Tensor]:
        return relative(a, b, u) | {"x": relative(kernel.group.identity.expand_as(a), b, u)["x"]}

    kernel._coordinates = coordinates
    return net


SOUND = [
    ("se2", "separable"),
    ("p4", "nonseparable"),
    ("p4", "dseparable"),
    ("sim2", "separable+2d"),
    ("p4", "gseparable"),
    ("p4m", "dgseparable"),
    ("flip", "nonseparable"),
    ("e2xrplus", "separable"),
]


@pytest.mark.parametrize(("group", "formula"), SOUND)
def test_a_sound_net_has_errors_of_rounding_on_the_lattice(float64: None, group: str, formula: str) -> None:
    measured = measure(make(group, formula), *pictures(), **FEW)
    assert max(measured.errors["lattice"].values()) < 1e-10
    assert measured.flaw is None
    assert list(measured.errors["lattice"])[-1] == "logits"
    assert len(measured.errors["lattice"]) == 8


@pytest.mark.parametrize(
    "options", [{}, {"pooling": "max"}, {"conv": {"stride": 2}, "size": (17, 13)}, {"size": (15, 12)}]
)
def test_in_float32_with_pools_strides_and_other_shapes(options: dict[str, Any]) -> None:
    net = make("p4", **options)
    measured = measure(net, *pictures(size=net.size), **FEW)
    assert 0 < max(measured.errors["lattice"].values()) < 2e-5
    assert measured.flaw is None


BROKEN = {
    "a": lambda: make("p4", "oi x h a"),
    "a in space": lambda: make("se2", "oi h, o x a"),
    "absolute pixels": lambda: absolute(make("p4m")),
    "a stride that misses the centre": lambda: make("p4", conv={"stride": 2}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_layer_is_found(name: str) -> None:
    measured = measure(BROKEN[name](), *pictures(), **FEW)
    assert measured.flaw.layer == "stages.0.0.conv1"
    assert measured.flaw.error > 0.1
    assert measured.errors["lattice"]["lifting.0"] < 2e-5
    assert "`stages.0.0.conv1` must commute with the " in explain(measured.flaw)


def test_half_precision_promises_nothing_on_the_lattice() -> None:
    measured = measure(make().bfloat16(), *pictures(), **FEW)
    assert measured.flaw is None
    # There may be none, as kernels are evaluated once for coordinates that several elements share.
    assert measured.errors["lattice"]["logits"] < 0.5


def test_precision_is_that_of_the_net_and_no_less() -> None:
    net, images = make(), pictures()[0]
    before = torch.backends.cudnn.conv.fp32_precision
    with torch.no_grad():
        expected = net(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(predict(net, images), expected)
            assert not torch.equal(net(images), expected)
    with _full_precision("cpu"):
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == before


def test_a_plain_net_is_measured_by_its_logits(float64: None) -> None:
    cnn = nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    for net in (cnn, make("r2")):
        study = Study(net, *pictures(), **FEW)
        quarter = next(action for action in study.actions if torch.allclose(action.element, torch.tensor(pi / 2)))
        errors, _ = study.compare(quarter)
        assert list(errors) == ["logits"]
        assert errors["logits"] > 0.02
        measured = measure(net, *pictures(), **FEW)
        assert set(measured.errors) == {"rotation", "random"}
        assert measured.flaw is None
    errors, _ = Study(make("p4"), *pictures(), **FEW).compare(quarter)
    assert errors["logits"] < 1e-10  # of the same turn


class Two(nn.Module):
    """Lifting and one more layer, whose kernels are smooth and cover the same part of an image at every size."""

    def __init__(self, size: int, group: Group) -> None:
        super().__init__()
        torch.manual_seed(0)
        kernel = partial(Siren, hidden_size=6, first_omega_0=5.0, omega_0=5.0)
        mask = partial(Mask, space=lambda u: torch.exp(-12 * u.square().sum(-1)))  # which the window does not cut off
        conv = partial(GConv, kernel_size=size // 8 * 2 + 1, group=group, elements=(4,), kernel=kernel, mask=mask)
        self.lift, self.conv = conv(1, 3, implementation="lifting"), conv(3, 3, implementation="nonseparable")

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(self.lift(Field.of_images(images, self.lift.group))).values.mean((2, 3, 4))


@pytest.mark.parametrize(("group", "g"), [(SO2(), 0.6), (Dilation(1.74), -0.3)])
def test_off_the_grid_errors_shrink_with_resolution_if_elements_move_along(
    group: Group, g: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = Action("random", torch.tensor([[g]], dtype=torch.float64), False)
    studies = [Study(Two(size, group), smooth(2, size), torch.zeros(2)) for size in (32, 64, 128)]
    with torch.no_grad():
        along = [study.compare(action)[0]["conv"] for study in studies]
        monkeypatch.setattr("src.analysis.moving.translated", lambda *_: nullcontext())
        staying = [study.compare(action)[0]["conv"] for study in studies]
    # Linear interpolation and sums over pixels err with the square of their distance.
    assert along[1] < along[0] / 3
    assert along[2] < along[1] / 3
    assert staying[1:] == pytest.approx(staying[:2], rel=0.15)
    assert staying[2] > 20 * along[2]


def test_elements_are_moved_for_as_long_as_they_should_be() -> None:
    net, g = make(), torch.tensor([[0.3]], dtype=torch.float64)
    layers, seen = convolutions(net), []
    with torch.no_grad(), watched(layers, lambda name, field: seen.append((name, field.elements))):
        with translated(layers, g):
            net(pictures()[0])
        net(pictures()[0])
    half = len(seen) // 2
    for (name, moved), (same, stayed) in zip(seen[:half], seen[half:], strict=True):
        assert name == same
        assert torch.equal(moved, SO2().product(g, stayed))
    assert {name for name, _ in seen} == set(layers)


class Quadrant(nn.Module):
    """Says in which quarter of the image its light is: 0 at the right, 1 at the top, 2 at the left, 3 at the bottom."""

    def forward(self, images: Tensor) -> Tensor:
        y, x = moments(images).unbind(-1)
        return torch.stack([x, -y, -x, y], -1)


def moments(images: Tensor) -> Tensor:
    """Sum of (y, x) times brightness: (n, 2)."""
    y, x = (torch.arange(size, dtype=images.dtype) - (size - 1) / 2 for size in images.shape[-2:])
    return torch.stack([torch.einsum("ncyx,y->n", images, y), torch.einsum("ncyx,x->n", images, x)], -1)


def test_accuracy_where_it_is_known() -> None:
    images = torch.zeros(6, 1, 15, 17)
    images[:4, :, 7, 14] = images[4:, :, 2, 8] = 1.0  # four at the right, two at the top
    labels = torch.tensor([0, 0, 0, 0, 1, 0])
    quarters = SO2().grid(4)
    found = score_under(Quadrant(), images, labels, SO2().matrix(quarters))
    # A quarter turn takes right to top; the last, which is wrong at first, is right after three of them.
    assert torch.allclose(found, torch.tensor([5, 0, 0, 1]) / 6)
    sizes = Dilation(2.0).matrix(torch.tensor([[-0.3], [0.0], [0.2]], dtype=torch.float64))
    assert torch.allclose(score_under(Quadrant(), images, labels, sizes), torch.tensor([5, 5, 5]) / 6)


def test_accuracy_leaves_the_net_as_it_was() -> None:
    net = nn.Sequential(nn.Dropout(0.9), Quadrant()).train()
    images, labels = pictures(40)
    state = torch.get_rng_state()
    first, again = (score_under(net, images, labels, torch.eye(2)[None]) for _ in range(2))
    assert torch.equal(first, again)
    assert net[0].training
    assert torch.equal(state, torch.get_rng_state())


class Moments(nn.Module):
    """First moments as logits."""

    def forward(self, images: Tensor) -> Tensor:
        return moments(images)


class Radial(nn.Module):
    """The sum of the squared radius times brightness, which turns do not change: (n, 1)."""

    def forward(self, images: Tensor) -> Tensor:
        y, x = (torch.arange(size, dtype=images.dtype) - (size - 1) / 2 for size in images.shape[-2:])
        return torch.einsum("ncyx,yx->n", images, y[:, None] ** 2 + x**2)[:, None]


@pytest.mark.parametrize("size", [(60, 60), (65, 74)])
def testlie_derivatives_that_are_known(size: tuple[int, int]) -> None:
    images = nn.functional.pad(smooth(8, 48), (6, size[1] - 54, 4, size[0] - 52))
    for net, rotation, scale in (
        # A dilation by s scales areas by s^2, so it scales first moments by s^3 and second ones by s^4.
        (Moments(), 1.0, 3.0),
        (Radial(), 0.0, 4.0),
    ):
        logits = net(images)
        unit = logits.norm() / (logits - logits.mean(0)).norm()
        assert lie_derivative(net, images, "rotation") == pytest.approx(rotation * unit.item(), rel=0.02, abs=0.02)
        assert lie_derivative(net, images, "scale") == pytest.approx(scale * unit.item(), rel=0.02)


def test_kinds() -> None:
    found = {name: {kind: len(own) for kind, own in kinds(*GROUPS[name]).items()} for name in GROUPS}
    assert found == {
        "r2": {},
        "se2": {"rotation": 7},
        "p4": {"rotation": 3},
        "r2xrplus": {"scale": 2},
        "sim2": {"rotation": 3, "scale": 2},
        "e2": {"reflection": 8, "rotation": 7},
        "p4m": {"reflection": 4, "rotation": 3},
        "flip": {"reflection": 1},
        "e2xrplus": {"reflection": 4, "rotation": 3, "scale": 1},
    }
    assert {kind: len(own) for kind, own in kinds(Squeeze(), (3,)).items()} == {"squeeze": 2}


@pytest.mark.parametrize("name", [name for name in GROUPS if name != "r2"])
def test_elements_of_a_kind_are_elements_of_the_grid(name: str) -> None:
    group, sizes = GROUPS[name]
    grid = {tuple(element.tolist()) for element in group.grid(*sizes)}
    for action in actions(group, sizes, 5):
        on_grid = {tuple(g[0].tolist()) for g in (action.element, group.inverse(action.element))} & grid
        assert bool(on_grid) == (action.kind != "random")
        assert group.det(action.element) <= 1 + 1e-9  # nothing leaves the image
        assert action.exact == bool(group.lattice_exact(action.element[0]))
    assert not any(action.exact for action in actions(group, sizes, 5, promised=False))


def test_a_group_of_the_users_own() -> None:
    conv = partial(GConv, kernel_size=3, group=Squeeze(), elements=(3,), kernel=SIN, implementation="separable")
    net = CKGResNet(1, 5, 16, conv, hidden_sizes=(3, 3), pooling="none", exact="off")
    measured = measure(net, *pictures(), **FEW)
    assert set(measured.errors) == {"squeeze", "random"}
    assert set(measured.lie) == {"rotation", "scale"}
    assert acting(net)[2]
    assert not acting(nn.Flatten())[2]


def test_what_lies_outside_the_disc_does_not_count() -> None:
    images, quarter = faded(torch.ones(1, 1, 20, 30)), SO2().matrix(torch.tensor([pi / 4], dtype=torch.float64))
    assert images[..., 10, 15] == 1
    assert images[..., 0, :].abs().max() < 0.01
    assert images[..., :5].abs().max() == 0
    field = Field.of_images(torch.randn(2, 3, 20, 30), Trivial())
    corner = field.values.clone()
    corner[..., :2, :3] = 1e6
    eye = torch.eye(2, dtype=torch.float64)
    assert field_error(Field(corner, field.elements), field, eye) < 1e-5
    assert field_error(Field(corner * 0, field.elements), field, eye) == pytest.approx(1)
    assert field_error(field, field, quarter) > 0.5


def test_scales_are_those_of_the_group() -> None:
    assert scales(2.0).tolist()[::4] == pytest.approx([0.5, 1, 2])
    assert scales(1.0).tolist()[::4] == pytest.approx([0.6, 1, 1.6])


def test_numbers_and_pictures(tmp_path: Path) -> None:
    measured = measure(make("sim2", "separable+2d"), *pictures(), **FEW)
    numbers = measured.numbers()
    layers = [*convolutions(make("sim2")), "logits"]
    assert {f"equivariance/{kind}/{layer}" for kind in measured.errors for layer in layers} < numbers.keys()
    assert {"equivariance/agreement/scale", "equivariance/lie/scale", "robustness/worst/rotation"} < numbers.keys()
    assert numbers["robustness/worst/rotation"] <= numbers["robustness/accuracy/rotation"]
    blank = pixels(draw_layers({"rotation": {"logits": float("nan")}}))
    for drawn in (
        draw_layers(measured.errors),
        draw_curves({"a": measured.rotation, "b": measured.rotation}, {"a": measured.scale}),
        draw_curves({"": measured.rotation}),
    ):
        image = pixels(drawn)
        assert len(image.reshape(-1, 3)) > 100_000
        assert image.std() > 5
        assert image.shape != blank.shape or (image != blank).any()
        drawn.savefig(tmp_path / "drawn.png")


@pytest.mark.parametrize("name", ["samples", "elements", "curve_samples", "angles", "every_epochs"])
def test_numbers_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        EquivarianceError(**{name: 0})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a run without the callback, one with it, and one with it in two processes."""
    found = {}
    for name, ranks, more in (("without", 1, []), ("with", 1, [CALLBACK]), ("shared", 2, [CALLBACK])):
        folder = tmp_path_factory.mktemp(name)
        changes = ["train.epochs=1", "group.sampling=random", *more]
        assert execute([*SMALL, *changes], folder / "logs", ranks=ranks) == [0] * ranks
        found[name] = only_run(folder / "logs")
    return found


def test_of_two_processes_each_does_its_share(runs: dict[str, Path]) -> None:
    one, two = looked(runs["with"]), looked(runs["shared"])
    assert one.keys() == two.keys()
    assert {"equivariance/lattice/logits", "equivariance/agreement/rotation", "robustness/accuracy/scale"} < one.keys()
    for tag, points in one.items():
        # Before training the nets are the same; after it they differ, as sums over processes round differently.
        assert two[tag][0] == (0, pytest.approx(points[0][1], rel=1e-5, abs=1e-6)), tag
        assert [step for step, _ in points] == [step for step, _ in two[tag]] == [0, 6]
    assert pictured(runs["with"]) == pictured(runs["shared"]) == ["equivariance/layers", "robustness/curves"]


def test_training_comes_to_the_same_bits_with_it(runs: dict[str, Path]) -> None:
    plain, looked_at = result(runs["without"]), result(runs["with"])
    added = {tag for tag in looked_at["points"] if tag.startswith(("equivariance/", "robustness/", "time/"))}
    assert added
    looked_at["points"] = {tag: own for tag, own in looked_at["points"].items() if tag not in added}
    assert unequal(plain, looked_at) == []


def looked(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What the callback logged."""
    points = result(folder)["points"]
    return {tag: own for tag, own in points.items() if tag.startswith(("equivariance/", "robustness/"))}


def pictured(folder: Path) -> list[str]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return sorted(events.Tags()["images"])


def test_it_warns_once_in_a_run_of_a_broken_net_and_not_of_a_sound_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.callbacks.equivariance_error.log", lambda *_: None)
    monkeypatch.setattr("src.callbacks.equivariance_error.writers", lambda _: [])
    for formula, expected in (("oi x h a", 1), ("separable", 0)):
        callback = EquivarianceError(**FEW)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                callback._study = Study(make("p4", formula), *pictures(), **FEW)
                with torch.no_grad():
                    callback.report(None, None, [task() for task in callback._study.tasks()], 0)
        assert len([w for w in caught if "must commute" in str(w.message)]) == expected
