"""Kernels of known singular values, random ones, and those of every form; looks at them in runs."""

from __future__ import annotations

from functools import partial
from math import exp, gamma, log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import FACTORISATIONS, GROUPS, KERNELS, LAYERS, MASKS
from kills import SMALL, Bomb, execute, only_run, result, unequal
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from src.analysis.redundancy import (
    MEASURES,
    Spectrum,
    _forced,
    _part_names,
    _spectrum,
    draw_redundancy,
    group_convolutions,
    numbers,
    random_spectra,
    spectra,
)
from src.callbacks.kernel_redundancy import KernelRedundancy
from src.groups import O2, SO2, Dilation, Group, Product, Reflection
from src.models import GConv
from src.models.nets import CKGResNet
from src.models.sampling import join

SIM2 = Product(SO2(), Dilation(1.74))


def make(form: str, group: Group, elements: tuple[int, ...], k: int = 5, kernel: str = "siren", mask: str = "none"):
    """A small layer from 2 to 3 channels."""
    options = {"kernel": KERNELS[kernel], "mask": MASKS[mask]}
    return GConv(2, 3, k, group=group, elements=elements, implementation=form, **options)


def orthonormal(rows: int, columns: int) -> Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64)).Q


def kernels_of(values: list[float], n: int = 6, elements: int = 8, k: int = 5) -> Tensor:
    """(n, b, y, x) of given singular values, and of other scales."""
    size, s = len(values), torch.tensor(values, dtype=torch.float64)
    each = [m * orthonormal(elements, size) * s @ orthonormal(k * k, size).T for m in range(1, n + 1)]
    return torch.stack(each).unflatten(-1, (k, k))


def check_spectrum(found: Spectrum, values: list[float], tolerance: float = 1e-9) -> None:
    """The measures that do not need the mean, of singular values in descending order."""
    energy, total = sum(s * s for s in values), sum(values)
    shares = [s * s / energy for s in values]
    assert found.shares == pytest.approx(shares + [0.0] * (len(found.shares) - len(values)), abs=tolerance), "shares"
    assert found.first == pytest.approx(shares[0], abs=tolerance), "first"
    entropy = -sum(s / total * log(s / total) for s in values)
    assert found.effective_rank == pytest.approx(exp(entropy), abs=tolerance), "effective rank"
    needed = next(n for n in range(1, len(values) + 1) if sum(shares[:n]) >= 0.95)
    assert found.components95 == needed, "components"


class Table(nn.Module):
    """A kernel net of values known beforehand, (b, y, x) times one number per channel, at coordinates (b y x, k)."""

    def __init__(self, values: Tensor, coordinates: Tensor, channels: int = 6) -> None:
        super().__init__()
        self.values = values.flatten()[:, None] * torch.arange(1.0, channels + 1, dtype=values.dtype)
        self.coordinates = coordinates

    def forward(self, coordinates: Tensor) -> Tensor:
        return self.values[torch.cdist(coordinates, self.coordinates).argmin(-1)]


def layer_of(values: Tensor, group: Group, elements: tuple[int, ...]) -> GConv:
    """A layer, in double precision, whose kernels are multiples of (b, y, x)."""
    conv = make("oi x h", group, elements, values.shape[-1]).double()
    kernel = conv.kernel
    coordinates = kernel._coordinates(group.identity, kernel.grid, kernel.offsets())
    kernel.nets[0] = Table(values, join([coordinates["x"], coordinates["h"]])[0].flatten(0, 1))
    return conv


# ------------------------------------------------------------------------------------------------ known kernels


@pytest.mark.parametrize(("elements", "k"), [(8, 5), (48, 3), (9, 3), (48, 7)])
@pytest.mark.parametrize("values", [[2.0], [3.0, 1.0], [4.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
def test_known_singular_values(values: list[float], elements: int, k: int) -> None:
    found = _spectrum(kernels_of(values, elements=elements, k=k))
    assert len(found.shares) == min(elements, k * k)
    check_spectrum(found, values)
    assert not found.forced


def test_another_rank_and_a_view_for_a_transpose_are_seen() -> None:
    kernels = kernels_of([3.0, 2.9])
    check_spectrum(_spectrum(kernels), [3.0, 2.9])
    with pytest.raises(AssertionError, match="shares"):
        check_spectrum(_spectrum(kernels), [3.0])
    viewed = kernels.flatten(2).reshape(6, 25, 8)[..., None]
    with pytest.raises(AssertionError, match="shares"):
        check_spectrum(_spectrum(viewed), [3.0, 2.9])
    transposed = _spectrum(kernels.flatten(2).mT[..., None])
    check_spectrum(transposed, [3.0, 2.9])
    assert transposed.first_centred != pytest.approx(_spectrum(kernels).first_centred, abs=1e-3), "elements are rows"


def test_the_mean_is_removed_along_the_group() -> None:
    rows, columns = orthonormal(8, 3), orthonormal(25, 3)
    rows = torch.linalg.qr(torch.cat([torch.ones(8, 1, dtype=torch.float64), rows[:, 1:]], 1)).Q
    matrix = rows * torch.tensor([10.0, 2.0, 1.0], dtype=torch.float64) @ columns.T
    found = _spectrum(matrix.unflatten(-1, (5, 5))[None])
    check_spectrum(found, [10.0, 2.0, 1.0])
    assert found.first_centred == pytest.approx(4 / 5, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kernel_that_is_constant_along_the_group(dtype: torch.dtype) -> None:
    constant = torch.randn(4, 1, 5, 5, dtype=dtype).expand(4, 8, 5, 5)
    assert _spectrum(constant)[:4] == pytest.approx((1, 1, 1, 1), abs=1e-6)
    rounded = constant * (1 + torch.finfo(dtype).eps * torch.randint(-1, 2, constant.shape))
    assert _spectrum(rounded).first_centred == 1.0, "what is left is rounding"
    assert _spectrum(constant * (1 + 0.1 * torch.randn(constant.shape))).first_centred < 0.9


def test_kernels_that_are_zero_or_not_finite_are_left_out() -> None:
    kernels = kernels_of([3.0, 1.0])
    others = torch.stack([torch.zeros(8, 5, 5), torch.full((8, 5, 5), torch.nan), torch.full((8, 5, 5), torch.inf)])
    assert _spectrum(torch.cat([others, kernels])) == _spectrum(kernels)
    assert _spectrum(others) is None
    conv = layer_of(torch.zeros(8, 5, 5), SO2(), (8,))
    assert spectra(conv) == {}
    assert numbers({"layer": {}}, {}, {}) == {}


def test_a_layer_of_known_kernels() -> None:
    values = kernels_of([4.0, 2.0, 1.0])[0]
    found = spectra(layer_of(values, SO2(), (8,)))
    assert list(found) == ["all"]
    check_spectrum(found["all"], [4.0, 2.0, 1.0])
    assert found["all"].first_centred == pytest.approx(_spectrum(values[None]).first_centred)


def test_the_parts_of_known_kernels() -> None:
    """k(h0, h1, x) = v(h0) m(h1, x): rank 1 along rotations, that of m along scales."""
    values = torch.einsum("a,byx->abyx", torch.randn(4, dtype=torch.float64), kernels_of([3.0, 1.0], elements=3)[0])
    found = spectra(layer_of(values.flatten(0, 1), SIM2, (4, 3)))
    assert list(found) == ["all", "rotations", "scales"]
    check_spectrum(found["all"], [3.0, 1.0])
    check_spectrum(found["scales"], [3.0, 1.0])
    check_spectrum(found["rotations"], [1.0])
    exchanged = spectra(layer_of(values.transpose(0, 1).flatten(0, 1), SIM2, (4, 3)))
    with pytest.raises(AssertionError, match="shares"):
        check_spectrum(exchanged["rotations"], [1.0])


# ---------------------------------------------------------------------------------------------- forms of kernels


def check_forced(found: Spectrum) -> None:
    """What is said of the form agrees with the numbers."""
    assert found.forced == (found.effective_rank < 1 + 1e-4), found


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("group", "form"), LAYERS)
def test_forms_that_force_rank_1(group: str, form: str, kernel: str) -> None:
    conv = make(FACTORISATIONS[form], *GROUPS[group], kernel=kernel, mask="smooth_disc").double()
    if group == "r2" or form == "lifting":
        assert group_convolutions(conv) == {}
        return
    assert list(group_convolutions(nn.Sequential(conv))) == ["0"]
    found = spectra(conv)
    assert len(found) == (1 if len(conv.group.parts) == 1 else 1 + len(conv.group.parts))
    for measured in found.values():
        check_forced(measured)
        with pytest.raises(AssertionError):
            check_forced(measured._replace(forced=not measured.forced))
    assert not any(control.forced or control.effective_rank < 1.01 for control in random_spectra(conv).values())


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("oi h0, o x h1", {"all": False, "rotations": True, "scales": False}),
        ("oi x h0, o h1", {"all": False, "rotations": False, "scales": True}),
        ("oi x h0", {"all": False, "rotations": False, "scales": True}),
        ("oi h0, oi x", {"all": True, "rotations": True, "scales": True}),
        ("oi x h, o a", {"all": False, "rotations": False, "scales": False}),
    ],
)
def test_parts_are_forced_one_by_one(formula: str, expected: dict[str, bool]) -> None:
    conv = make(formula, SIM2, (4, 3)).double()
    found = spectra(conv)
    assert {name: measured.forced for name, measured in found.items()} == expected
    assert [_forced(conv), _forced(conv, 0), _forced(conv, 1)] == list(expected.values())
    for measured in found.values():
        check_forced(measured)


def test_layers_with_no_group_axis_to_speak_of() -> None:
    layers = {
        "kept": make("oi x h", SIM2, (4, 3)),
        "lifting": make("oi x", SIM2, (4, 3)),
        "one element": make("oi x h", SIM2, (1, 1)),
        "one pixel": make("oi x h", SIM2, (4, 3), k=1),
        "one pixel in the window": make("oi x h", SIM2, (4, 3), k=3, mask="disc"),
        "one part": make("oi x h", SIM2, (4, 1)),
    }
    assert list(group_convolutions(nn.ModuleDict(layers))) == ["kept", "one part"]
    assert list(spectra(layers["one part"])) == ["all", "rotations"]


def test_names() -> None:
    conv = partial(GConv, kernel_size=3, group=SO2(), elements=(4,), implementation="separable")
    net = CKGResNet(1, 5, 20, conv, hidden_sizes=(4, 4, 6), exact="off")
    assert list(group_convolutions(net)) == [*(f"stages.{n}.0.conv{m}" for n in (0, 1) for m in (1, 2)), "final.0"]
    assert _part_names(Product(O2(), Dilation(2.0))) == ["rotations_reflections", "scales"]
    assert _part_names(Product(Dilation(2.0), Dilation(1.5))) == ["scales_h0", "scales_h1"]


# ------------------------------------------------------------------------------------------------------- controls


def expected_first(n: int) -> float:
    """E[s_1^2 / sum s^2] of white noise (2, n), from the density of the eigenvalues of a Wishart matrix.

    For r = (l_1 - l_2) / (l_1 + l_2) it is proportional to r (1 - r^2)^((n - 3) / 2), and the share is (1 + r) / 2.
    """
    return 1 / 2 + (n - 1) / 4 * gamma(3 / 2) * gamma((n - 1) / 2) / gamma(n / 2 + 1)


def test_random_kernels_come_to_what_theory_says() -> None:
    found = random_spectra(make("oi x h", Reflection(), (2,)), draws=20_000)["all"]
    assert found.first == pytest.approx(expected_first(25), abs=1.5e-3)  # four standard errors
    assert found.first != pytest.approx(expected_first(24), abs=1.5e-3)
    assert found.first_centred == pytest.approx(1.0), "two elements less their mean"


def test_random_kernels_are_under_the_masks_of_the_layer() -> None:
    free, disc = (make("oi x h", SIM2, (4, 3), mask=mask) for mask in ("none", "disc"))
    inside = disc.kernel.envelope(SIM2.identity, disc.kernel.grid)[0, 0] != 0
    found = random_spectra(disc)["all"]
    assert inside.sum() == 5
    assert sum(share > 1e-9 for share in found.shares) == 5
    assert random_spectra(free)["all"].effective_rank > found.effective_rank + 3
    before = torch.get_rng_state()
    assert random_spectra(disc)["all"] == found, "always the same"
    assert torch.equal(before, torch.get_rng_state())
    assert random_spectra(make("oi h, o x", SIM2, (4, 3), mask="disc"))["all"] == found, "whatever the form"


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("formula", ["oi x h", "oi h, o x", "oi h0, o h1, o x", "oi h"])
def test_the_envelope_is_what_multiplies_the_nets(formula: str, mask: str) -> None:
    conv = make(formula, SIM2, (4, 3), mask=mask)
    a, b = SIM2.random(4), SIM2.random(3)
    for net in conv.kernel.nets:
        net.forward = partial(ones, net)
    envelope = conv.kernel.envelope(a, b)
    torch.testing.assert_close(conv.weight(a, b)[1, :, 1], envelope.expand(4, 3, 5, 5), rtol=1e-6, atol=0)


def ones(net: nn.Module, coordinates: Tensor) -> Tensor:
    """The values of a kernel net that is 1 everywhere."""
    return torch.ones_like(type(net).forward(net, coordinates))


def one(first: float, forced: bool = False) -> Spectrum:
    return Spectrum(first, first, 1 / first, 1.0, (first, 1 - first), forced)


def test_tags_and_overall_means() -> None:
    trained = {"a": {"all": one(0.5), "scales": one(0.25)}, "b": {"all": one(0.75)}, "c": {"all": one(1.0, True)}}
    found = numbers(trained, {"a": {"all": one(0.25)}}, {name: {"all": one(0.125)} for name in "abc"})
    assert found["redundancy/first/a"] == 0.5
    assert found["redundancy/first/a/scales"] == 0.25
    assert found["redundancy/first/c"] == 1.0
    assert found["redundancy/first/overall"] == 0.625, "without the layer that has no choice, and without parts"
    assert found["redundancy/effective_rank/overall"] == pytest.approx((2 + 4 / 3) / 2)
    assert found["redundancy/first/overall/initial"] == found["redundancy/first/a/initial"] == 0.25
    assert found["redundancy/first/overall/random"] == 0.125
    assert "redundancy/first/b/initial" not in found
    assert {tag.split("/")[1] for tag in found} == set(MEASURES)
    assert numbers({"c": trained["c"]}, {}, {})["redundancy/first/overall"] == 1.0, "all layers if none has a choice"


def test_picture() -> None:
    trained = {"conv1": {"all": one(0.5), "scales": one(0.25)}, "conv2": {"all": one(1.0, True)}}
    drawn = draw_redundancy(trained, {"conv1": {"all": one(0.25)}}, trained, columns=2)
    titles = [ax.get_title() for ax in drawn.axes]
    assert titles == ["conv1", "conv1, scales", "conv2\nrank 1 by its form"]
    assert [[line.get_label() for line in ax.lines] for ax in drawn.axes] == [
        ["initial", "trained", "random"],
        ["trained", "random"],
        ["trained", "random"],
    ]
    assert [list(line.get_ydata()) for line in drawn.axes[0].lines] == [[0.25, 1.0], [0.5, 1.0], [0.5, 1.0]]
    assert all(ax.get_xlabel() == "components" and ax.get_ylabel() == "share of energy" for ax in drawn.axes)
    with pytest.raises(ValueError, match="`trained` must have the spectra of a layer"):
        draw_redundancy({"conv1": {}}, {}, {})


# ----------------------------------------------------------------------------------------------------------- runs

PROBE = "++observers.redundancy={_target_: src.callbacks.kernel_redundancy.KernelRedundancy, every_epochs: 1}"
RUN = [*SMALL, "implementation=nonseparable", "train.epochs=2", "net.hidden_sizes=[4,4]"]
# What one process and two have in common: see test_runs.py.
WHOLE_BATCH = ["net.head.dropout=0", "train.shared_statistics=true", "train.precision=64-true"]


def run(folder: Path, *overrides: str, bombs: tuple[Bomb, ...] = (), ranks: int = 1) -> Path:
    """A run's folder, after as many kills."""
    folder.mkdir(exist_ok=True)
    for bomb in bombs:
        assert execute([*RUN, *overrides], folder / "logs", bomb) == [-9]
    assert execute([*RUN, *overrides], folder / "logs", ranks=ranks) == [0] * ranks
    return only_run(folder / "logs")


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the callback, never stopped."""
    return run(tmp_path_factory.mktemp("looked"), PROBE)


def untimed(found: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the clock."""
    return found | {"points": {tag: at for tag, at in found["points"].items() if not tag.startswith("time/")}}


def redundancy(folder: Path) -> dict[str, list[tuple[int, float]]]:
    return {tag: at for tag, at in result(folder)["points"].items() if tag.startswith("redundancy/")}


def test_what_a_run_logs(looked: Path) -> None:
    points = redundancy(looked)
    layers = ["stages.0.0.conv1", "stages.0.0.conv2", "final.0", "overall"]
    tags = {f"redundancy/{measure}/{layer}" for measure in MEASURES for layer in layers}
    assert set(points) == {f"{tag}{control}" for tag in tags for control in ("", "/initial", "/random")}
    for tag in tags:
        trained, initial, random = (dict(points[f"{tag}{control}"]) for control in ("", "/initial", "/random"))
        assert list(trained) == [0, 6, 13], "before the first step, and after both epochs"
        assert trained[0] == initial[0], "the control is the layer at the start of training"
        assert len(set(initial.values())) == len(set(random.values())) == 1
    assert len(set(dict(points["redundancy/first/overall"]).values())) == 3, "it has learned"
    images = EventAccumulator(str(looked / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [image.step for image in images.Images("redundancy/spectra")] == [0, 6, 13]


def test_training_comes_to_the_same_bits_without_it(looked: Path, tmp_path: Path) -> None:
    expected, found = (result(folder) for folder in (looked, run(tmp_path)))
    assert found["points"].keys() < expected["points"].keys()
    expected["points"] = {tag: expected["points"][tag] for tag in found["points"]}
    assert unequal(expected, found) == []


def test_a_run_that_is_killed_goes_on_with_its_controls(looked: Path, tmp_path: Path) -> None:
    killed = run(tmp_path, PROBE, bombs=(Bomb("step", 10),))
    assert unequal(untimed(result(looked)), untimed(result(killed))) == []
    kept = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["KernelRedundancy"]
        for folder in (looked, killed)
    ]
    assert kept[0] == kept[1]
    assert set(kept[0]["initial"]) == {"stages.0.0.conv1", "stages.0.0.conv2", "final.0"}
    restored = KernelRedundancy()
    restored.load_state_dict(kept[0])
    assert restored.state_dict() == kept[0]
    assert numbers(restored.initial, {}, {}) == pytest.approx(
        {tag.removesuffix("/initial"): at[0][1] for tag, at in redundancy(looked).items() if tag.endswith("/initial")}
    )


def test_two_ranks_log_what_one_logs(tmp_path: Path) -> None:
    one, two = (redundancy(run(tmp_path / str(ranks), PROBE, *WHOLE_BATCH, ranks=ranks)) for ranks in (1, 2))
    assert one.keys() == two.keys() > set()
    for tag, points in one.items():
        assert two[tag][0] == points[0], "nothing has been summed yet"
        assert torch.tensor(points) == pytest.approx(torch.tensor(two[tag]), abs=1e-5), tag


def test_without_group_convolutions_it_does_nothing() -> None:
    KernelRedundancy().look(None, SimpleNamespace(net=nn.Linear(2, 2)), 0)
    with pytest.raises(AttributeError):
        KernelRedundancy().look(None, nn.ModuleDict({"net": make("oi x h", SO2(), (4,))}), 0)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="`every_epochs` must be a positive integer, but got 0"):
        KernelRedundancy(every_epochs=0)
