"""What keeps a net the same between the quarter turns: kernels, pools and borders; each with what fails without it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from src.analysis.moving import field_error
from src.data.warp import rotate
from src.groups import O2, SO2, Dilation, Group
from src.models import Field, GConv
from src.models.blocks import ResidualBlock
from src.models.border import Border
from src.models.kernels import Fourier, Lattice, Siren
from src.models.layers import Layers
from src.models.low_pass import LowPass, _points
from src.models.masks import Disc, Mask, SoftDisc
from src.models.pooling import POOLINGS, SpatialPool, Subsample

SOFT, HARD = partial(Mask, space=SoftDisc()), partial(Mask, space=Disc())
EIGHTH = torch.tensor([torch.pi / 4], dtype=torch.float64)


def turned(kernels: Tensor, matrix: Tensor) -> Tensor:
    """Kernels (n, y, x) between whose pixels a band-limited function is meant, zero outside, turned by a matrix."""
    k = kernels.shape[-1]
    line = torch.arange(k, dtype=torch.float64) - (k - 1) / 2
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1) @ torch.linalg.inv(matrix).T
    down, right = (torch.sinc(places[..., axis, None] - line) for axis in (0, 1))
    return torch.einsum("yxp,yxq,npq->nyx", down, right, kernels)


def aliasing(low_pass: float, mask: partial, kernel: partial, kernel_size: int = 7) -> float:
    """How far turned samples of a kernel are from samples of the turned kernel, at 45 degrees."""
    group = SO2()
    conv = GConv(
        1,
        64,
        kernel_size,
        group=group,
        elements=(8,),
        implementation="lifting",
        kernel=kernel,
        mask=mask,
        low_pass=low_pass,
    )
    grid = conv.kernel.grid
    with torch.no_grad():
        upright, eighth = conv.weight(grid[:2], group.identity)[:, :, 0, 0].unbind(1)
    return ((turned(upright, group.matrix(grid[1])) - eighth).norm() / eighth.norm()).item()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("omega", "bound"), [(5.0, 0.2), (10.0, 0.2), (20.0, 0.3), (30.0, 0.4)])
def test_samples_of_a_turned_kernel_are_turned_samples(omega: float, bound: float) -> None:
    for kernel in (partial(Siren, first_omega_0=omega), partial(Fourier, omega_0=omega)):
        assert aliasing(0.6, SOFT, kernel) < bound
        assert aliasing(0.0, HARD, kernel) > 1.4 * aliasing(0.6, SOFT, kernel)


@pytest.mark.usefixtures("float64")
def test_free_weights_alias_less_when_smoothed() -> None:
    assert aliasing(0.6, SOFT, Lattice) < 0.25
    assert aliasing(0.0, HARD, Lattice) > 0.5


@pytest.mark.usefixtures("float64")
def test_without_a_low_pass_fast_kernels_are_others_at_every_angle() -> None:
    assert aliasing(0.0, SOFT, partial(Siren, first_omega_0=30.0)) > 0.8


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("kernel", "points"), [(Fourier, 1), (Siren, 19)])
@pytest.mark.parametrize(("group", "elements", "planes"), [(SO2(), (8,), 2), (O2(), (8, 2), 2), (SO2(), (4,), 1)])
def test_each_coordinate_is_evaluated_once(
    group: Group, elements: tuple[int, ...], planes: int, kernel: type[nn.Module], points: int
) -> None:
    conv = GConv(1, 2, 5, group=group, elements=elements, implementation="lifting", kernel=kernel, low_pass=0.6)
    seen: list[int] = []
    conv.kernel.nets[0].hidden[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numel() // 2))
    conv.kernel.forget()
    weight = conv.weight(conv.kernel.grid, group.identity)
    # Quarter turns and flips of 25 pixels are these pixels; the centre is one for all angles.
    assert seen == [points * (25 * planes - (planes - 1))]
    conv.kernel.nets[0].hidden[0]._forward_pre_hooks.clear()
    alone = [conv.weight(element[None], group.identity) for element in conv.kernel.grid]
    assert torch.allclose(weight, torch.cat(alone, 1), atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_smoothed_kernel_is_the_mean_around_each_pixel() -> None:
    net, coordinates = Siren(SO2().axes(8) * 2, 3), torch.rand(5, 4)  # a circle, then two columns of a plane
    points, weights = _points(2)
    points = 0.2 * points
    expected = sum(w * net(coordinates + torch.cat([torch.zeros(2), p])) for p, w in zip(points, weights, strict=True))
    assert torch.allclose(LowPass(0.2)(net, coordinates, slice(2, 4)), expected)
    smoothed = LowPass(0.2)(nn.Sequential(net), coordinates, slice(2, 4))
    assert torch.allclose(smoothed, expected), "any net, not a SIREN alone"
    assert not torch.allclose(net(coordinates), expected, atol=1e-2)


@pytest.mark.usefixtures("float64")
def test_waves_are_smoothed_in_closed_form() -> None:
    axes, width = SO2().axes(8) * 2, 0.4
    net, coordinates = Fourier(axes, 3), torch.rand(5, 4)
    line = torch.linspace(-6, 6, 97)
    around = torch.cat([torch.zeros(97, 97, 2), width * torch.cartesian_prod(line, line).view(97, 97, 2)], -1)
    weights = torch.outer(*[torch.exp(-line.square() / 2)] * 2)
    values = net(coordinates[:, None, None] + around)
    expected = torch.einsum("pyxv,yx->pv", values, weights / weights.sum())
    assert torch.allclose(LowPass(width)(net, coordinates, slice(2, 4)), expected, atol=1e-9)
    assert not torch.allclose(LowPass(width)(net, coordinates, slice(0, 2)), expected, atol=1e-3), "other columns"
    assert not torch.allclose(net(coordinates), expected, atol=1e-2)


@pytest.mark.usefixtures("float64")
def test_points_and_closed_form_agree() -> None:
    net, coordinates = Fourier(SO2().axes(8), 3), torch.rand(9, 2)
    exact = LowPass(0.2)(net, coordinates, slice(0, 2))
    by_points = LowPass(0.2)(nn.Sequential(net), coordinates, slice(0, 2))
    assert (by_points - exact).norm() < 0.05 * exact.norm()
    assert (net(coordinates) - exact).norm() > 0.2 * exact.norm()


@pytest.mark.parametrize(("d", "count"), [(1, 7), (2, 19), (3, 135)])
def test_a_gaussian_it_is(d: int, count: int) -> None:
    points, weights = _points(d)
    assert points.shape == (count, d)
    assert weights.sum() == pytest.approx(1)
    for direction in torch.nn.functional.normalize(torch.randn(6, d, dtype=torch.float64), dim=1):
        for pixels, expected in ((0.25, 0.64), (0.5, 0.17), (0.75, 0.02), (1.0, 0.0), (1.25, 0.0)):
            waves = torch.cos(2 * torch.pi * pixels * 0.6 * points @ direction)
            assert (weights * waves).sum().item() == pytest.approx(expected, abs=0.055)


def test_parameters_and_state_do_not_know_of_it() -> None:
    make = partial(GConv, 2, 3, 5, group=SO2(), elements=(8,), implementation="separable", mask=SOFT)
    plain, smooth = make(), make(low_pass=0.6)
    assert {name: value.shape for name, value in plain.state_dict().items()} == {
        name: value.shape for name, value in smooth.state_dict().items()
    }
    smooth.load_state_dict(plain.state_dict())
    assert not torch.allclose(plain.weight(*[plain.kernel.grid] * 2), smooth.weight(*[plain.kernel.grid] * 2))


def test_it_smooths_dilated_kernels_as_much_as_themselves() -> None:
    # In their own coordinates all scales are one function: what the smallest needs, all have.
    conv = GConv(1, 4, 9, group=Dilation(2.0), elements=(2,), implementation="lifting", low_pass=0.6)
    u = torch.rand(3, 3, 2, dtype=torch.float64)
    small, large = conv.kernel.grid[:1], conv.kernel.grid[1:]
    e = conv.group.identity
    assert torch.allclose(conv.weight(large, e, 2 * u) * 4, conv.weight(small, e, u), atol=1e-5)


def blob(n: int) -> Tensor:
    """Smooth noise, zero towards the rim: (6, 2, n, n) in double precision."""
    noise = torch.randn(12, 1, n, n, dtype=torch.float64)
    line = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    kernel = torch.exp(-torch.arange(-4, 5, dtype=torch.float64).square() / 2 / 1.2**2)
    smooth = nn.functional.conv2d(noise, torch.outer(kernel, kernel)[None, None], padding=4)
    fade = ((n / 2 - 2 - (line[:, None].square() + line.square()).sqrt()) / 4).clamp(0, 1)
    return (smooth * fade).unflatten(0, (6, 2)).squeeze(2)


def pool_error(kind: str, n: int) -> float:
    """How far pooling is from commuting with 45 degrees, on a field of zero beyond the rim."""
    pool, images = SpatialPool(kind, 2 + n % 2), blob(n)
    angles = EIGHTH.expand(len(images))

    def pooled(batch: Tensor) -> Tensor:
        return pool(Field.of_images(batch, SO2())).values[:, :, 0]

    expected = rotate(pooled(images), angles, mode="bicubic")
    return ((pooled(rotate(images, angles, mode="bicubic")) - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("n", [28, 29])
def test_binomial_pools_turn_with_an_image(n: int) -> None:
    errors = {kind: pool_error(kind, n) for kind in POOLINGS}
    assert errors["blur"] < errors["mean"], errors
    assert errors["blur"] < 0.5 * errors["max"], errors
    assert errors["max_blur"] < 0.8 * errors["max"], errors


@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("n", [8, 9])
def test_pools_are_exact_at_quarter_turns(kind: str, n: int) -> None:
    pool, images = SpatialPool(kind, 2 + n % 2), torch.randn(2, 3, n, n, dtype=torch.float64)
    plain, quarter = (pool(Field.of_images(each, SO2())).values[:, :, 0] for each in (images, images.rot90(1, (2, 3))))
    assert plain.shape[-1] == (n + 1) // 2
    assert torch.allclose(quarter, plain.rot90(1, (2, 3)))
    constant = pool(Field.of_images(torch.ones(1, 1, n, n), SO2())).values
    assert torch.allclose(constant, torch.ones_like(constant)), "nothing comes in from outside"


@pytest.mark.parametrize("stride", [2, 3])
def test_strides_that_are_smoothed_turn_with_an_image(stride: int) -> None:
    errors = {antialias: stride_error(antialias, stride) for antialias in (True, False)}
    assert errors[True] < 0.5 * errors[False], errors


def stride_error(antialias: bool, stride: int) -> float:
    """How far a strided block, whose skip mixes channels, is from commuting with 45 degrees."""
    torch.manual_seed(0)
    group = SO2()
    make = partial(GConv, kernel_size=2 * stride + 1, group=group, elements=(8,), mask=SOFT, low_pass=0.6)
    lift = make(2, 4, implementation="lifting").double()
    layers = Layers(partial(make, implementation="separable", stride=stride, antialias=antialias), "none")
    block = ResidualBlock(4, 6, layers).double()
    images = blob(12 * stride + 1)

    def strided(batch: Tensor) -> Tensor:
        with torch.no_grad():
            return block(lift(Field.of_images(batch, group))).values

    values = strided(images).roll(1, 2)
    expected = rotate(values.flatten(1, 2), EIGHTH.expand(len(images)), mode="bicubic").view_as(values)
    turned_first = strided(rotate(images, EIGHTH.expand(len(images)), mode="bicubic"))
    return ((turned_first - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("n", [8, 9])
def test_every_s_th_pixel_of_a_constant_is_the_constant(n: int) -> None:
    field = Field.of_images(torch.full((1, 2, n, n), 3.0), SO2())
    for stride in (2, 3, 4):
        values = Subsample(stride)(field).values
        assert values.shape[3:] == (len(range(0, n, stride)),) * 2
        assert torch.allclose(values, torch.full_like(values, 3.0))


def test_what_is_not_smoothed_stays_as_it_was() -> None:
    make = partial(GConv, kernel_size=5, group=SO2(), elements=(8,), implementation="separable", stride=2)
    for changes in ({"low_pass": 0.6, "antialias": False}, {"low_pass": 0.0}):
        skip = ResidualBlock(2, 4, Layers(partial(make, **changes))).skip
        assert isinstance(skip, GConv)
        assert skip.stride == 2
    smooth = ResidualBlock(2, 4, Layers(partial(make, low_pass=0.6)))
    assert smooth.conv1.kernel.low_pass.width == pytest.approx(2 * smooth.conv2.kernel.low_pass.width)


def border_error(kind: str) -> float:
    """How far three convolutions of a light on grey, which rotations leave alone, are from being turned by 45°."""
    border, group = Border(kind), SO2()
    make = partial(GConv, kernel_size=7, group=group, elements=(8,), mask=SOFT, low_pass=0.6)
    layers = [make(1, 4, implementation="lifting"), *(make(4, 4, implementation="separable") for _ in range(2))]
    line = torch.arange(28) - 13.5
    light = 2 * torch.exp(-(line[:, None].square() + line.square()) / 32)
    inner = Border("zeros") if kind == "background" else border  # as in nets
    field = border(Field.of_images(1 + light[None, None], group))
    with torch.no_grad():
        for layer in layers:
            field = inner(layer(field))
    values = field.values
    turned_values = rotate(values.roll(1, 2).flatten(1, 2), EIGHTH, mode="bicubic").view_as(values)
    return ((turned_values - values).norm() / values.norm()).item()


def test_a_disc_and_a_background_turn_and_a_frame_of_zeros_does_not() -> None:
    errors = {kind: border_error(kind) for kind in ("disc", "background", "zeros")}
    assert max(errors["disc"], errors["background"]) < 0.5 * errors["zeros"], errors


def test_the_background_is_a_number_for_each_channel_of_each_image() -> None:
    images = torch.randn(2, 3, 5, 8)
    images[:, :, 1:-1, 1:-1] *= 7  # which does not count
    less = Border("background")(Field.of_images(images, SO2())).values[:, :, 0]
    removed = images - less
    assert torch.allclose(removed, removed[:, :, :1, :1].expand_as(removed), atol=1e-5)
    frame = torch.ones(5, 8, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    assert torch.allclose(removed[:, :, 0, 0], images[..., frame].mean(-1), atol=1e-6)


def test_borders_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"needs square images, but got 8 x 9 pixels; use net\.border=zeros"):
        Border("disc")(Field.of_images(torch.ones(1, 1, 8, 9), SO2()))
    with pytest.raises(ValueError, match="`border` must be one of zeros, disc"):
        Border("circle")
    with pytest.raises(ValueError, match=r"must be above 0\.9"):
        SoftDisc(0.9, 0.8)


@pytest.mark.parametrize("size", [(1, 1), (1, 4)])
def test_errors_of_a_single_pixel_are_measured(size: tuple[int, int]) -> None:
    group = SO2()
    reference = Field(torch.randn(2, 3, 8, *size), group.grid(8))
    assert field_error(reference, reference, group.matrix(group.grid(8)[1])) == 0
    other = Field(2 * reference.values, reference.elements)
    assert field_error(other, reference, group.matrix(group.grid(8)[1])) == pytest.approx(1)
