"""Kernels of one form, fitted by those of another: against exact kernels, and against singular values."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import ALL_GROUPS, MASKS
from laws import assert_close
from torch import Tensor, nn

from src.analysis.best_factors import Assembled, best_tables
from src.analysis.projection import matched, project
from src.models import GConv
from src.models.kernels import Fourier, Lattice, Siren
from src.models.masks import Disc, Mask
from src.models.nets.resnet import CKGResNet

pytestmark = pytest.mark.usefixtures("float64")

SMOOTH = {"mask": partial(Mask, space=Disc()), "low_pass": 0.6}
FREE = {"kernel": Lattice, **SMOOTH}


def layer(group: str, form: str, size: int = 5, **options) -> GConv:
    own, elements = ALL_GROUPS[group]
    return GConv(2, 3, size, group=own, elements=elements, implementation=form, **FREE | options)


def make_separable(conv: GConv, shuffled: bool = False) -> None:
    """Products of free weights k_o(x) k_oi(h) for a nonseparable lattice kernel; or of elements in another order
    at every site."""
    (net,) = conv.kernel.nets
    window, sites = net.weight.shape[: conv.group.space], net.weight.shape[conv.group.space : -1].numel()
    space, mixing = torch.randn(*window, conv.out_channels), torch.randn(sites, conv.out_channels, conv.in_channels)
    weight = torch.einsum("...o,hoi->...hoi", space, mixing).flatten(-2)
    if shuffled:
        turn = torch.arange(window.numel()).view(*window, 1, 1)
        weight = weight.gather(-2, ((torch.arange(sites)[:, None] + turn) % sites).expand_as(weight))
    net.weight.data.copy_(weight.view_as(net.weight))


def error_everywhere(source: GConv, target: GConv) -> float:
    """||K' - K|| / ||K|| over all pairs of elements, by the public assembly alone."""
    a = source.kernel.grid
    wanted, found = (conv.weight(a, a).detach() * conv.kernel.summed for conv in (source, target))
    return float((found - wanted).norm() / wanted.norm())


def frames(conv: GConv) -> Tensor:
    """Kernels in the frame of each output element: (o, i h, a u), of which a separable one has rank 1 for each o."""
    grid = conv.kernel.grid
    turned = [conv.weight(a[None], conv.group.product(a[None], grid)) for a in grid]
    return torch.cat([weight[:, 0].flatten(1, 2).flatten(2) for weight in turned], -1).detach()


def small_net(form: str) -> CKGResNet:
    group, elements = ALL_GROUPS["p4"]
    conv = partial(GConv, kernel_size=3, group=group, elements=elements, implementation=form, **FREE)
    return CKGResNet(1, 5, 12, conv, hidden_sizes=[3, 3, 4]).eval()


def test_exactly_separable_kernels_lose_nothing_and_logits_stay() -> None:
    """The control: of elements in another order at every site, the same weights are not separable."""
    source, target = small_net("nonseparable"), small_net("separable")
    layers, images = matched(source, target), torch.rand(4, 1, 12, 12)
    for shuffled in (False, True):
        for name, (conv, _) in layers.items():
            if name != "lifting.0" and conv.kernel_size > 1:
                make_separable(conv, shuffled)
        lost = {name: project(*pair) for name, pair in layers.items()}
        rest = {name: value for name, value in source.state_dict().items() if ".kernel." not in name}
        target.load_state_dict(target.state_dict() | rest)
        with torch.no_grad():
            expected, actual = source(images), target(images)
        assert [name for name, each in lost.items() if each.kept] == ["lifting.0"]
        assert len(lost) == 7
        if shuffled:
            assert max(each.form for each in lost.values()) > 0.3
            assert (actual - expected).norm() > 0.01 * expected.norm()
        else:
            assert max(each.fitted for each in lost.values()) < 1e-6
            assert_close(actual, expected, "logits", 1e-6)


@pytest.mark.parametrize("group", ["se2", "p4m", "flip_3d", "flip_1d"])
def test_what_separable_kernels_lose_is_the_rest_of_the_singular_values(group: str) -> None:
    size = 5 if group == "flip_1d" else 3
    source, target = layer(group, "nonseparable", size), layer(group, "separable", size)
    values = torch.linalg.svdvals(frames(source))
    expected = float((values[:, 1:].square().sum() / values.square().sum()).sqrt())
    lost = project(source, target)
    assert lost.form == pytest.approx(expected, abs=1e-9)
    assert lost.form > 0.3
    assert torch.linalg.svdvals(frames(target))[:, 1:].max() < 1e-10
    shuffled = layer(group, "nonseparable", size)
    shuffled.load_state_dict(source.state_dict())
    make_separable(source)
    make_separable(shuffled, shuffled=True)
    assert project(source, target).form < 1e-9
    assert project(shuffled, target).form > 0.1


@pytest.mark.parametrize(
    ("group", "before", "after", "mask"),
    [
        ("se2", "nonseparable", "gseparable", "disc"),
        ("se2", "nonseparable", "oi x", "none"),
        ("se2", "nonseparable", "oi h, o x a", "none"),
        ("e2", "nonseparable", "dseparable", "smooth_disc"),
        ("r2xrplus", "nonseparable", "separable", "smooth_disc"),
        ("sim2", "dseparable", "dgseparable", "none"),
        ("r2", "nonseparable", "separable", "box"),
        ("flipxrplus_1d", "nonseparable", "oi h0, i x, o h1", "smooth_disc"),
        ("r3xrplus", "nonseparable", "gseparable", "none"),
        ("spiral", "nonseparable", "separable", "none"),
    ],
)
def test_the_error_is_that_of_all_elements(group: str, before: str, after: str, mask: str) -> None:
    """Quarter turns are left out of the fit, and must not be missed."""
    options = {"kernel": partial(Fourier, hidden_size=16), "mask": MASKS[mask]}
    source, target = (layer(group, form, 3, **options) for form in (before, after))
    unfitted = error_everywhere(source, target)
    lost = project(source, target, 0)
    assert lost.fitted == pytest.approx(error_everywhere(source, target), abs=1e-9)
    assert lost.form - 1e-6 < lost.fitted < min(1.0, unfitted)
    target.kernel.gain.mul_(2)
    assert error_everywhere(source, target) > lost.fitted + 1e-3, "it sees a kernel that is another"


def test_no_factors_are_better_than_the_best() -> None:
    source, target = layer("se2", "nonseparable", 3), layer("se2", "gseparable", 3)
    wanted = Assembled.of(source.kernel, target.kernel)
    tables = best_tables(target.kernel, wanted)
    best = wanted.error(tables)
    weights = [net.weight for net in tables.nets]
    for size in (1e-1, 1e-2, 1e-3):
        for net, weight in zip(tables.nets, weights, strict=True):
            net.weight = weight + size * torch.randn_like(weight)
        assert wanted.error(tables) > best
    for net, weight in zip(tables.nets, weights, strict=True):
        net.weight = weight.clone().requires_grad_()
    gradients = torch.autograd.grad(wanted.loss(tables), [net.weight for net in tables.nets])
    assert max(gradient.abs().max() for gradient in gradients) < 1e-6
    one, other = (net.weight.square().mean(0) for net in tables.nets)
    assert_close(one, other, "factors of one size", 1e-9)


def test_kernel_nets_come_as_near_as_they_can() -> None:
    """Few waves cannot be any table: least squares come some way, and L-BFGS on all weights further."""
    source, errors = layer("p4", "separable", 3, kernel=partial(Siren, hidden_size=8, first_omega_0=3.0)), []
    for steps in (0, 20):
        torch.manual_seed(2)
        target = layer("p4", "nonseparable", 3, kernel=partial(Fourier, hidden_size=8))
        start = error_everywhere(source, target)
        lost = project(source, target, steps)
        assert lost.form < 1e-8
        assert lost.fitted == pytest.approx(error_everywhere(source, target), abs=1e-9)
        errors.append(lost.fitted)
    assert errors[1] < 0.7 * errors[0] < 0.7 * start


def test_nets_without_a_linear_layer_of_that_name_are_fitted_by_steps() -> None:
    class Waves(nn.Module):
        def __init__(self, axes, channels):
            super().__init__()
            self.register_buffer("frequency", 2 * torch.randn(sum(axis.columns for axis in axes), 30))
            self.amplitude = nn.Parameter(torch.randn(30, channels))

        def forward(self, coordinates):
            return torch.cos(coordinates @ self.frequency) @ self.amplitude

    source, target = layer("p4", "nonseparable", 3, kernel=Waves), layer("p4", "separable", 3, kernel=Waves)
    lost, few = project(source, target, 40), project(source, layer("p4", "separable", 3, kernel=Waves), 1)
    assert lost.fitted < lost.form + 0.05
    assert lost.fitted < few.fitted - 0.05


def test_a_kernel_of_the_same_form_and_nets_is_copied() -> None:
    source, target = layer("se2", "separable"), layer("se2", "separable")
    assert project(source, target) == (0.0, 0.0, True)
    assert all(torch.equal(one, target.state_dict()[name]) for name, one in source.state_dict().items())
    slower = layer("se2", "separable", kernel=partial(Fourier, omega_0=2.0))
    faster = layer("se2", "separable", kernel=partial(Fourier, omega_0=8.0))
    assert not project(faster, slower, 5).kept, "the same shapes, another meaning"


def test_learned_masks_are_taken_over() -> None:
    from src.models.gaussian_mask import GaussianMask

    source, target = (layer("p4", form, 7, mask=GaussianMask) for form in ("nonseparable", "separable"))
    source.kernel.masks["x"].log_size.data.fill_(-1.5)
    lost = project(source, target)
    assert target.kernel.window == source.kernel.window != target.kernel.whole
    assert lost.fitted == pytest.approx(error_everywhere(source, target), abs=1e-9)
    with pytest.raises(ValueError, match="`mask` must be the same for both kernels"):
        project(source, layer("p4", "separable", 7))


def test_what_cannot_be_projected_is_refused() -> None:
    with pytest.raises(ValueError, match="the net must have group convolutions, but Linear has none"):
        matched(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"the layer `0` must be the same but for its kernel, .* 5 taps.* 3 taps"):
        matched(nn.Sequential(layer("p4", "separable")), nn.Sequential(layer("p4", "separable", 3)))
    with pytest.raises(ValueError, match=r"the layer `1` must be the same .* is not there"):
        matched(nn.Sequential(*(layer("p4", "separable") for _ in "ab")), nn.Sequential(layer("p4", "separable")))
    source = layer("p4", "nonseparable")
    for value in (0.0, float("nan")):
        source.kernel.nets[0].weight.data.fill_(value)
        with pytest.raises(ValueError, match="a kernel must be finite and not zero"):
            project(source, layer("p4", "separable"))
