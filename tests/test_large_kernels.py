"""Kernels as large as the input: learned sizes, the past alone, the fast Fourier transform, and nets of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import ALL_GROUPS, ALL_KERNELS
from laws import assert_close, check_invariance, check_naturality, check_net, check_paths
from torch import Tensor, nn

from src.groups import SO2, SO3, Axis, Dilation, Group, Reflection, Trivial
from src.models import Field, GConv
from src.models.fft import fft_conv, fft_pays
from src.models.gaussian_mask import GaussianMask
from src.models.kernels import Multiplicative, Siren
from src.models.kernels.domain import domain
from src.models.nets import ResidualNet
from src.models.optimisation import ParameterGroups
from src.models.penalties import AliasPenalty
from src.models.window import Window
from src.reports.curves import scalars
from src.runs.process import quiet
from src.runs.record import read
from src.training import load_recipe, train
from src.training.run import Request

CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
LINE = Trivial(space=1)


def conv_of(group: Group, elements: tuple[int, ...], form: str = "separable", k: int = 9, **options) -> GConv:
    made = {"kernel": ALL_KERNELS["siren"], **options}
    return GConv(2, 3, k, group=group, elements=elements, implementation=form, **made)


def field_of(conv: GConv, size: int) -> Field:
    grid = conv.kernel.grid
    return Field(torch.randn(2, 2, len(grid), *(size,) * conv.group.space), grid)


# ------------------------------------------------------------------------------------------------------ the past


def looks_ahead(run: nn.Module, length: int, inputs: int) -> bool:
    """Whether any output depends on a later input, by gradients."""
    signal = torch.randn(1, inputs, length, requires_grad=True)
    values = run(signal)
    for step in range(0, length - 1, 3):
        (gradient,) = torch.autograd.grad(values[..., step].square().sum(), signal, retain_graph=True)
        if gradient[..., step + 1 :].any():
            return True
    return False


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("fft", ["never", "always"])
@pytest.mark.parametrize("group", ["r1", "r1xrplus"])
@pytest.mark.parametrize("form", ["nonseparable", "separable"])
def test_causal_convolutions_do_not_look_ahead(group: str, form: str, fft: str) -> None:
    h, sizes = ALL_GROUPS[group]

    def run(conv: GConv, signal: Tensor) -> Tensor:
        grid = conv.kernel.grid
        return conv(Field(signal[:, :, None].expand(-1, -1, len(grid), -1), grid)).values

    for k in (4, 9, 20):
        conv = conv_of(h, sizes, form, k, padding="causal", fft=fft)
        assert run(conv, torch.randn(1, 2, 20)).shape[-1] == 20
        if fft == "never":  # whose rounding reaches everywhere
            assert not looks_ahead(partial(run, conv), 20, 2)
        assert_close(run(conv, torch.ones(1, 2, 20)), dense(conv, torch.ones(1, 2, 20)), "dense")
    plain = conv_of(h, sizes, form, 9, fft="never")
    assert looks_ahead(partial(run, plain), 20, 2), "the control: a window about its centre"


def dense(conv: GConv, signal: Tensor) -> Tensor:
    """The convolution as its definition says."""
    grid = conv.kernel.grid
    weight = conv.weight(grid, grid) * conv._average(grid)
    padded = F.pad(signal, (conv.kernel_size - 1, 0))
    return torch.einsum("oaibu,nixu->noax", weight, padded.unfold(-1, conv.kernel_size, 1))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", ["nonseparable", "separable", "dseparable"])
def test_causal_convolutions_obey_the_laws(form: str) -> None:
    h = Dilation(2.0, space=1)
    conv = conv_of(h, (3,), form, padding="causal", low_pass=0.6)
    check_invariance(conv, h.random(4), h.random(3), h.random(1))
    check_naturality(conv, h.random(4), h.random(3))
    check_paths(conv, field_of(conv, 20), conv.kernel.grid)


@pytest.mark.parametrize(("group", "elements"), [(Reflection(space=1), (2,)), (SO2(), (4,)), (Trivial(), (1,))])
def test_there_is_a_past_in_sequences_alone(group: Group, elements: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="`padding` causal is for sequences, and groups that do not reverse them"):
        conv_of(group, elements, padding="causal")
    with pytest.raises(ValueError, match="`padding` must be a number of pixels, null or causal"):
        conv_of(group, elements, padding="past")


def test_windows() -> None:
    assert Window(3, 2, 2.0).offsets()[0, 2].tolist() == [-2.0, 2.0]
    assert Window(3, 1, 2.0, causal=True).offsets().flatten().tolist() == [-2.0, -1.0, 0.0]
    assert Window(1, 3, 2.0).offsets().flatten().tolist() == [0.0, 0.0, 0.0]
    assert Window(9, 1, 1.0).beyond(0.5) == 2
    assert Window(9, 1, 1.0).beyond(0.0) == 4, "the centre stays"
    assert Window(9, 1, 1.0, causal=True).beyond(0.5) == 4
    assert Window(9, 1, 1.0, cut=2).padding(4) == (2, 2)
    assert Window(9, 1, 1.0, causal=True, cut=2).padding(4) == (6, 0)


# ------------------------------------------------------------------------------------------------ Fourier transform


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("d", CONVS)
@pytest.mark.parametrize(("groups", "c", "o"), [(1, 3, 4), (3, 3, 3), (3, 6, 9)])
@pytest.mark.parametrize(("k", "before", "after"), [(3, 1, 1), (5, 4, 0), (4, 0, 0), (5, -1, -1), (9, 8, 8)])
def test_fourier_transforms_give_the_same(d: int, groups: int, c: int, o: int, k: int, before: int, after: int) -> None:
    planes = torch.randn(2, c, *(11, 9, 10)[:d], requires_grad=True)
    weight = torch.randn(o, c // groups, *(k,) * d, requires_grad=True)
    expected = CONVS[d](F.pad(planes, (before, after) * d), weight, groups=groups)
    actual = fft_conv(planes, weight, before, after, groups)
    assert_close(actual, expected, "values")
    ramp = torch.linspace(-1, 1, actual.numel()).view_as(actual)
    found, wanted = (torch.autograd.grad((values * ramp).sum(), (planes, weight)) for values in (actual, expected))
    for own, other in zip(found, wanted, strict=True):
        assert_close(own, other, "gradient")
    with pytest.raises(AssertionError, match="values"):
        assert_close(fft_conv(planes, weight.flip(-1), before, after, groups), expected, "values")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("group", ["r1", "sim2", "tetrahedral"])
@pytest.mark.parametrize("form", ["nonseparable", "separable"])
def test_layers_by_fourier_transforms(group: str, form: str) -> None:
    h, sizes = ALL_GROUPS[group]
    conv = conv_of(h, sizes, form, 5)
    field = field_of(conv, 8)
    conv.fft = "always"
    actual = conv(field).values
    conv.fft = "never"
    assert_close(actual, conv(field).values, "values")


def test_where_they_pay() -> None:
    def pays(n: int, c: int, k: int, d: int = 1, depthwise: bool = True) -> bool:
        planes, weight = torch.empty(16, c, *(n,) * d), torch.empty(c, 1 if depthwise else c, *(k,) * d)
        return fft_pays(planes, weight, k // 2, k // 2)

    assert [pays(784, 32, k) for k in (3, 9, 33, 783)] == [False, True, True, True]
    assert [pays(784, 30, k, depthwise=False) for k in (9, 17, 65, 783)] == [False, False, True, True]
    assert [pays(32, 32, k, d=2) for k in (5, 7, 17, 31)] == [False, False, True, True]
    assert [pays(16, 32, k, d=3) for k in (3, 7)] == [False, True]


# --------------------------------------------------------------------------------------------------- learned sizes


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kernel", ["magnet", "siren"])
@pytest.mark.parametrize("group", ["r1", "se2", "sim2", "tetrahedral"])
def test_masks_that_are_learned_obey_the_laws(group: str, kernel: str) -> None:
    h, sizes = ALL_GROUPS[group]
    mask = partial(GaussianMask, size=0.4, group=True, threshold=0)
    conv = conv_of(h, sizes, "nonseparable", 5, kernel=ALL_KERNELS[kernel], mask=mask)
    with torch.no_grad():
        for own in [own for own in conv.kernel.masks.values() if own.sizes]:
            own.log_size.add_(0.3 * torch.randn_like(own.log_size))
    check_invariance(conv, h.random(4), h.random(3), h.random(1))
    check_naturality(conv, h.random(4), h.random(3))
    check_paths(conv, field_of(conv, 7), conv.kernel.grid)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("axis", [*SO2().axes(8), *SO3().axes(12), *Dilation().axes(3), Axis("space", 5)])
def test_gaussians_on_every_axis(axis: Axis) -> None:
    mask = GaussianMask((axis,), size=0.4, group=True)
    values = mask(domain((axis,)).double())
    assert 0 < values.min() < 0.2
    assert values.max() > 0.95
    assert list(mask.sizes) == [f"{axis.kind}_0"]
    assert not GaussianMask((Axis("points", 2),), group=True).sizes, "a reflection has no size"


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("group", ["r1", "se2", "r2xrplus", "tetrahedral"])
@pytest.mark.parametrize("size", [0.15, 0.25])
def test_what_is_cut_off_is_below_the_threshold(group: str, size: float) -> None:
    h, sizes = ALL_GROUPS[group]
    k = 9 if h.space == 3 else 15
    make = partial(conv_of, h, sizes, "nonseparable", k)
    cut, whole = (make(mask=partial(GaussianMask, size=size, threshold=own)) for own in (0.1, 0.0))
    whole.load_state_dict(cut.state_dict())
    taps = cut.kernel.window.taps[0]
    assert taps < k
    field = field_of(cut, k)
    inside = (..., *[slice((k - taps) // 2, (k + taps) // 2)] * h.space)
    weight = whole.weight(whole.kernel.grid, whole.kernel.grid)
    assert_close(cut.weight(cut.kernel.grid, cut.kernel.grid), weight[inside], "inside")
    left = weight.clone()
    left[inside] = 0
    without = whole.kernel.masks["x"]
    envelope = without(whole.kernel._coordinates(h.identity, h.identity, whole.kernel.offsets())["x"])
    outside = envelope.view(whole.kernel.window.taps).clone()
    outside[inside[1:]] = 0
    assert h.extent > 1 or outside.max() < 0.1, "what is cut off of the undilated kernel"
    error = (cut(field).values - whole(field).values).norm() / whole(field).values.norm()
    assert 0 < error < 0.25
    finer = make(mask=partial(GaussianMask, size=size, threshold=0.001))
    finer.load_state_dict(cut.state_dict())
    assert (finer(field).values - whole(field).values).norm() < 0.1 * (cut(field).values - whole(field).values).norm()


@pytest.mark.parametrize("start", [0.15, 0.9])
def test_a_size_is_learned_from_both_sides(start: float) -> None:
    """The target is made by a layer of size 0.4; another one finds it, from too small and from too large."""
    torch.manual_seed(0)
    mask = partial(GaussianMask, size=0.4)
    target = GConv(1, 1, 33, group=LINE, elements=(1,), implementation="oi x", kernel=Multiplicative, mask=mask)
    learner = GConv(1, 1, 33, group=LINE, elements=(1,), implementation="oi x", kernel=Multiplicative, mask=mask)
    learner.load_state_dict(target.state_dict())
    with torch.no_grad():
        learner.kernel.masks["x"].log_size.fill_(torch.tensor(start).log())
    optimiser = torch.optim.Adam(learner.kernel.masks.parameters(), 0.03)
    windows = []
    for _ in range(120):
        field = Field.of_images(torch.randn(16, 1, 64), LINE)
        loss = F.mse_loss(learner(field).values, target(field).values.detach())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        windows.append(learner.kernel.window.taps[0])
    assert learner.kernel.masks["x"].sizes["space_0"] == pytest.approx(0.4, abs=0.03)
    assert windows[0] != windows[-1] == target.kernel.window.taps[0], "the window follows"


def test_sizes_have_a_learning_rate_of_their_own_and_no_decay() -> None:
    mask = partial(GaussianMask, lr_factor=0.1)
    conv = GConv(2, 3, 5, group=SO2(), elements=(4,), implementation="separable", kernel=Multiplicative, mask=mask)
    make = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.5)
    groups = {group["name"]: group for group in ParameterGroups().optimiser(conv, make).param_groups}
    assert groups["masks"]["lr"] == pytest.approx(1e-3)
    assert groups["masks"]["weight_decay"] == 0
    assert [id(p) for p in groups["masks"]["params"]] == [id(conv.kernel.masks["x"].log_size)]
    fixed = GConv(2, 3, 5, group=SO2(), elements=(4,), implementation="oi x", mask=partial(GaussianMask, learned=False))
    assert not fixed.kernel.masks["x"].log_size.requires_grad
    assert "masks" not in {group["name"] for group in ParameterGroups().optimiser(fixed, make).param_groups}
    with pytest.raises(ValueError, match=r"`mask\.threshold` must be below 1"):
        GaussianMask((Axis("space", 5),), threshold=1.5)


# ------------------------------------------------------------------------------------------------------------ nets


def net_of(block: str = "temporal", **options) -> ResidualNet:
    conv = partial(GConv, kernel_size=28, group=LINE, elements=(1,), implementation="separable", padding="causal")
    return ResidualNet(1, 5, 28, conv, **{"hidden_sizes": (6, 8), "block": block, "readout": "last", **options})


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("block", ["residual", "temporal", "separable"])
@pytest.mark.parametrize("stem", [True, False])
def test_nets_of_the_past(block: str, stem: bool) -> None:
    net = net_of(block, stem=stem, dropout=0.1, input_dropout=0.1).eval()
    assert net(torch.randn(3, 1, 28)).shape == (3, 5)

    def run(signal: Tensor) -> Tensor:
        return net.features(signal).values

    for conv in net.modules():
        if isinstance(conv, GConv):
            conv.fft = "never"
    assert not looks_ahead(run, 28, 1)


@pytest.mark.parametrize("block", ["residual", "temporal", "separable"])
@pytest.mark.parametrize("group", ["p4", "tetrahedral", "flip_1d"])
def test_nets_on_groups_are_invariant(group: str, block: str) -> None:
    h, sizes = ALL_GROUPS[group]
    mask = partial(GaussianMask, size=0.4)
    conv = partial(GConv, kernel_size=5, group=h, elements=sizes, implementation="separable", mask=mask)
    net = ResidualNet(1, 5, 7, partial(conv, kernel=ALL_KERNELS["magnet"]), hidden_sizes=(2, 3), block=block)
    images = torch.randn(2, 1, *(7,) * h.space, dtype=torch.float64)
    check_net(net.double().eval(), images, h.matrix(h.grid(*sizes)))


def test_wrong_nets_are_explained() -> None:
    with pytest.raises(ValueError, match=r"`net.readout` must be another than last"):
        ResidualNet(
            1, 5, 8, partial(GConv, kernel_size=3, group=SO2(), elements=(4,), implementation="oi x h"), readout="last"
        )
    with pytest.raises(ValueError, match=r"`net.stem` must be true for SO2\(\)"):
        ResidualNet(
            1, 5, 8, partial(GConv, kernel_size=3, group=SO2(), elements=(4,), implementation="oi x h"), stem=False
        )
    with pytest.raises(ValueError, match=r"`padding` of a separable block must keep the image size"):
        ResidualNet(
            1,
            5,
            8,
            partial(GConv, kernel_size=3, group=LINE, elements=(1,), implementation="oi x", padding=0),
            block="separable",
        )


# ------------------------------------------------------------------------------------------ frequencies, resolutions


def test_frequencies_above_those_of_the_taps_are_penalised() -> None:
    def penalty(omega: float, k: int = 9, kernel: type[nn.Module] = Multiplicative, **options) -> float:
        torch.manual_seed(0)
        made = partial(kernel, **options) if kernel is Siren else partial(kernel, omega_0=omega, **options)
        conv = GConv(2, 3, k, group=SO2(), elements=(4,), implementation="separable", kernel=made)
        return float(AliasPenalty(1.0)(conv).detach())

    assert penalty(2.0) == 0
    assert penalty(100.0) > penalty(60.0) > 0
    assert penalty(60.0, k=33) < penalty(60.0, k=9), "more taps can tell more apart"
    assert penalty(2.0, window="anisotropic", window_size=0.02) > 0, "a narrow window has high frequencies"
    assert penalty(100.0, kernel=Siren) == 0, "one that does not say"
    with pytest.raises(ValueError, match="at least 0"):
        AliasPenalty(-1.0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("window", ["none", "isotropic", "anisotropic"])
def test_frequencies_are_those_of_the_kernel(window: str) -> None:
    """By its spectrum on fine taps: almost nothing is above the largest frequency, and some is at half of it."""
    net = Multiplicative((Axis("space", 9),), 4, omega_0=60.0, window=window)
    highest = net.highest_frequencies(slice(0, 1)).item()
    line = torch.linspace(-1, 1, 4097)[:-1, None]
    faded = net(line) * torch.hann_window(4096)[:, None]  # no edges
    power = torch.fft.rfft(faded, dim=0).abs().square().sum(1)
    frequencies = torch.arange(len(power)) * torch.pi
    assert power[frequencies > 1.1 * highest + 20].sum() < 1e-3 * power.sum()
    assert power[frequencies > 0.3 * highest].sum() > 1e-5 * power.sum()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", ["oi x", "oi h, o x"])
def test_finer_images_mean_the_same(form: str) -> None:
    """Weights of a coarse layer, on twice as many pixels: the same smooth function convolved with the same kernel."""
    options = {"group": Dilation(1.5, space=1), "elements": (2,), "implementation": form, "low_pass": 0.6}
    smooth = partial(Multiplicative, omega_0=4.0)
    coarse = GConv(2, 3, 17, kernel=smooth, **options)
    fine, unscaled = (GConv(2, 3, 33, kernel=smooth, resolution=own, **options) for own in (2, 1))
    for other in (fine, unscaled):
        other.load_state_dict(coarse.state_dict())

    def image(n: int) -> Field:
        line = torch.linspace(-1, 1, n)
        waves = torch.stack([torch.cos(3 * line), torch.sin(2 * line)])
        return Field(waves[None, :, None].expand(1, 2, 2, n), coarse.kernel.grid)

    with torch.no_grad():
        expected = coarse(image(81)).values[..., 12:-12]
        actual, other = (conv(image(161)).values[..., ::2][..., 12:-12] for conv in (fine, unscaled))
    assert (actual - expected).norm() < 0.1 * expected.norm()
    assert (other - expected).norm() > 0.5 * expected.norm(), "the control: twice as many taps sum to twice as much"


def test_a_penalty_is_trained_and_not_logged(tmp_path: Path) -> None:
    quiet()
    words = ["dataset=sdigits", "augment=none", "group=r1", "net=residual", "conv=flexconv", "conv.kernel_size=33"]
    words += ["net.hidden_sizes=[4]", "dataset.limit_train=32", "dataset.limit_val=16", "dataset.limit_test=16"]
    words += ["train.epochs=1", "kernel.omega_0=200", "observers=brief", "seed=1", f"paths.logs={tmp_path}"]
    penalty = "model.penalty={_target_: src.models.penalties.AliasPenalty, factor: 100}"
    recipes = [load_recipe("quickstart", [*words, *more]) for more in ([], [penalty])]
    results = [train(recipe.cfg, Request()) for recipe in recipes]
    before = [float(AliasPenalty()(recipe.model.net).detach()) for recipe in recipes]
    after = [float(AliasPenalty()(load_recipe(run=result.folder).model.net).detach()) for result in results]
    assert before[0] == before[1] > 0
    assert after[1] < after[0]
    curves = [scalars(read(result.folder)) for result in results]
    assert curves[1]["train/loss"][0][1] < 10, "the loss of the task alone"
    assert any(tag.startswith("mask/blocks.0.conv1/space_0") for tag in curves[0])
    assert any(tag == "mask/blocks.0.conv1/taps" for tag in curves[0])
