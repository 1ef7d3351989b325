"""The laws of the convolution, for every group, kernel and factorisation, and layers that break them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import ALL_GROUPS, ALL_KERNELS, ALL_LAYERS, GROUPS, KERNELS, LINE, MASKS, SPACES, VOLUME, forms_of
from laws import (
    assert_close,
    check_invariance,
    check_layer,
    check_naturality,
    check_paths,
    check_scale,
    exact_elements,
    warp,
)
from torch import nn

from src.groups import O2, O3, SO2, SO3, Dilation, Product, Trivial
from src.models import Field, GConv, contraction
from src.models.kernels import Lattice

SIM2 = Product(SO2(), Dilation(1.74))


SIZES = {1: (13,), 2: (9, 11), 3: (3, 5, 7)}
"""Pixels of images by the dimension of the space: sides that are not equal."""


def make(
    group: str, form: str, kernel: str = "siren", mask: str = "smooth_disc", k: int | None = None, **options
) -> GConv:
    """A small layer from 2 to 3 channels."""
    h, sizes = ALL_GROUPS[group]
    k = (3 if h.space == 3 else 5) if k is None else k
    made = {"kernel": ALL_KERNELS[kernel], "mask": MASKS[mask]}
    return GConv(2, 3, k, group=h, elements=sizes, implementation=form, **made, **options)


def field_on(conv: GConv, elements: torch.Tensor) -> Field:
    """White noise."""
    return Field(torch.randn(2, conv.in_channels, len(elements), *SIZES[conv.group.space]), elements)


def form_of(form: str) -> str:
    from conftest import FACTORISATIONS

    return FACTORISATIONS[form]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kernel", ALL_KERNELS)
@pytest.mark.parametrize(("group", "form"), ALL_LAYERS)
def test_laws_of_kernels(group: str, form: str, kernel: str) -> None:
    """Every member of SPACES x GROUPS x KERNELS x FACTORISATIONS, on arbitrary elements."""
    conv, h = make(group, form_of(form), kernel), ALL_GROUPS[group][0]
    check_invariance(conv, h.random(4), h.random(3), h.random(1))
    check_invariance(conv, conv.kernel.grid, conv.kernel.grid, h.random(1))
    check_naturality(conv, h.random(4), h.random(3))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("group", "form"), ALL_LAYERS)
class TestLayers:
    """Of all spaces, groups and factorisations; which kernel net it is makes no difference after its values."""

    def test_layer(self, group: str, form: str, kernel: str) -> None:
        conv, (h, sizes) = make(group, form_of(form), kernel, bias=True), ALL_GROUPS[group]
        nn.init.normal_(conv.bias)
        field = field_on(conv, h.sample(sizes))
        for g in exact_elements(h, sizes)[:, None]:
            check_layer(conv, field, h.sample(sizes), g)
        check_layer(conv, field_on(conv, h.random(3)), h.random(4), g)

    @pytest.mark.parametrize("halve_from", [1, 10**9], ids=["halved", "whole"])
    def test_paths(self, group: str, form: str, kernel: str, halve_from: int, monkeypatch) -> None:
        monkeypatch.setattr(contraction, "_HALVE_FROM", halve_from)
        conv, (h, sizes) = make(group, form_of(form), kernel, bias=True), ALL_GROUPS[group]
        nn.init.normal_(conv.bias)
        check_paths(conv, field_on(conv, h.grid(*sizes)), h.sample(sizes))


@pytest.mark.parametrize(("group", "halved"), [("se2", True), ("sim2", True), ("p4m", True), ("r2xrplus", False)])
def test_products_are_halved_where_half_a_turn_pairs_the_elements(group: str, halved: bool, monkeypatch) -> None:
    monkeypatch.setattr(contraction, "_HALVE_FROM", 1)
    conv, h = make(group, "separable", path="sequential"), GROUPS[group][0]

    def first(a: torch.Tensor, b: torch.Tensor) -> bool:
        return conv._steps(a, b)[0].halved

    grid, sample = conv.kernel.grid, h.sample(conv.elements)
    assert first(grid, grid) == first(sample, grid) == halved
    assert not first(h.random(4), grid)
    assert not first(grid, grid.flip(0)[torch.randperm(len(grid))])
    assert not first(grid[:-1], grid)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("group", "form"), ALL_LAYERS)
def test_stride_and_1x1_kernels(group: str, form: str) -> None:
    h, sizes = ALL_GROUPS[group]
    for options in ({"stride": 2}, {"k": 1, "padding": 0}, {"k": 1, "padding": 0, "stride": 2}, {"padding": 0}):
        conv = make(group, form_of(form), **options)
        field = field_on(conv, h.grid(*sizes))
        for g in exact_elements(h, sizes)[:, None]:
            check_layer(conv, field, conv.kernel.grid, g)
        check_paths(conv, field, h.sample(sizes))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("group", ALL_GROUPS)
def test_masks(group: str, mask: str) -> None:
    conv, h = make(group, "separable", mask=mask), ALL_GROUPS[group][0]
    check_invariance(conv, h.random(4), h.random(3), h.random(1))
    check_naturality(conv, h.random(4), h.random(3))


@pytest.mark.usefixtures("float64")
def test_lifting_is_the_same_convolution() -> None:
    h = O2()
    lift = GConv(2, 3, 5, group=h, elements=(4, 2), implementation="lifting", kernel=Lattice)
    image = Field.of_images(torch.randn(2, 2, 9, 11), h)
    assert lift(image).values.shape == (2, 3, 8, 9, 11)
    for g in exact_elements(h, (4, 2))[:, None]:
        check_layer(lift, image, h.grid(4, 2), g)


# ------------------------------------------------------------------------------------------- negative controls


class Swapped(GConv):
    """As in the public code: output and input elements change places."""

    def weight(self, a, b, u=None):
        return super().weight(b, a, u)


class Viewed(GConv):
    """As in the public code: a view where a transpose is meant."""

    def weight(self, a, b, u=None):
        weight = super().weight(a, b, u)
        return weight.transpose(1, 3).reshape(weight.shape)


class Exchanged(GConv):
    """As in the public code: height and width change places."""

    def forward(self, field, elements=None):
        out = super().forward(field, elements)
        n, c, a, y, x = out.values.shape
        return Field(out.values.reshape(n, c, a, x, y), out.elements)


class Transposed(GConv):
    """As in the public code's Sim(2): the kernel is turned against the labels."""

    def _assemble(self, a, b):
        return [(step, weight.transpose(-1, -2).contiguous()) for step, weight in super()._assemble(a, b)]


class Absolute(GConv):
    """Pixels are weighted by where they are."""

    def forward(self, field, elements=None):
        ramp = torch.linspace(1, 2, field.values.shape[-1]).to(field.values)
        return super().forward(Field(field.values * ramp, field.elements), elements)


class Detached(GConv):
    """A sequential path of its own: right in value, without gradients for one factor."""

    def _assemble(self, a, b):
        return [(step, weight.detach() if n else weight) for n, (step, weight) in enumerate(super()._assemble(a, b))]


@pytest.mark.usefixtures("float64")
class TestBrokenLayersFail:
    """Each law fails where it should; a checker that cannot fail proves nothing."""

    def broken(self, kind: type[GConv], group=SIM2, sizes=(4, 3), form="nonseparable") -> GConv:
        return kind(2, 3, 5, group=group, elements=sizes, implementation=form, kernel=KERNELS["siren"])

    def test_absolute_elements_break_invariance(self) -> None:
        conv = self.broken(GConv, form="oi x h, o a")
        with pytest.raises(AssertionError, match="W1"):
            check_invariance(conv, SIM2.random(4), SIM2.random(3), SIM2.random(1))
        check_naturality(conv, SIM2.random(4), SIM2.random(3))

    def test_wrong_determinant_breaks_invariance(self) -> None:
        conv = self.broken(GConv, Dilation(2.0), (3,))
        coordinates = conv.kernel._coordinates
        conv.kernel._coordinates = lambda *args: {
            w: v.sqrt() if w == "1/det" else v for w, v in coordinates(*args).items()
        }
        with pytest.raises(AssertionError, match="W1"):
            check_invariance(conv, conv.kernel.grid, conv.kernel.grid, Dilation(2.0).random(1))

    @pytest.mark.parametrize("kind", [Swapped, Viewed])
    def test_swapped_elements_break_naturality(self, kind) -> None:
        with pytest.raises(AssertionError, match="W2"):
            check_naturality(self.broken(kind), SIM2.random(4), SIM2.random(4))

    @pytest.mark.parametrize("kind", [Exchanged, Transposed, Absolute])
    def test_layer(self, kind) -> None:
        conv = self.broken(kind, SO2(), (4,))
        with pytest.raises(AssertionError, match="W3"):
            check_layer(conv, field_on(conv, SO2().grid(4)), SO2().grid(4), SO2().grid(4)[1:2])

    def test_forgotten_gradient_breaks_paths(self) -> None:
        conv = self.broken(Detached, SO2(), (4,), "separable")
        with pytest.raises(AssertionError, match=r"gradient|NoneType"):
            check_paths_or_none(conv)

    def test_sums_in_turn_that_share_an_index_break_paths(self) -> None:
        conv = self.broken(GConv, SO2(), (4,), "oi h, o h, o x")
        assert len(conv.stages) == 2, "factors that share h are one stage"
        stage = conv.stages[0]
        conv.stages = (stage._replace(factors=(0,)), stage._replace(factors=(1,), input=False), conv.stages[1])
        with pytest.raises(AssertionError, match=r"sequential path|auto path"):
            check_paths(conv, field_on(conv, SO2().grid(4)), SO2().grid(4))

    def test_unscaled_kernel_breaks_scale(self) -> None:
        def unscaled() -> GConv:
            conv = self.broken(GConv, SO2(), (8,))
            conv.kernel.gain.mul_(2)
            return conv

        with pytest.raises(AssertionError, match="scale"):
            check_scale(unscaled, 2, 12)


def check_paths_or_none(conv: GConv) -> None:
    """A parameter without gradient has none to compare."""
    try:
        check_paths(conv, field_on(conv, SO2().grid(4)), SO2().grid(4))
    except AttributeError as error:
        raise AssertionError(str(error)) from error


# ------------------------------------------------------------------------------------------------- lattice, scale


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("k", [1, 3, 5])
def test_p4_is_the_textbook_filter_bank(k: int) -> None:
    conv = GConv(3, 4, k, group=SO2(), elements=(4,), implementation="nonseparable", kernel=Lattice)
    assert sum(parameter.numel() for parameter in conv.parameters()) == 3 * 4 * k * k * 4
    table = conv.kernel.nets[0].weight.detach().reshape(k, k, 4, 4, 3) * conv.kernel.gain / 4
    base = torch.einsum("yxhoi->oihyx", table)
    bank = torch.stack([torch.rot90(base, r, (-2, -1)).roll(r, 2) for r in range(4)], 1)
    h, values = SO2().grid(4), torch.randn(2, 3, 4, 9, 9)
    assert_close(conv.weight(h, h), bank, "bank")
    textbook = F.conv2d(values.flatten(1, 2), bank.flatten(2, 3).flatten(0, 1), padding=k // 2)
    assert_close(conv(Field(values, h)).values, textbook.unflatten(1, (4, 4)), "p4")
    other = torch.stack([torch.rot90(base, r, (-2, -1)).roll(-r, 2) for r in range(4)], 1)
    with pytest.raises(AssertionError, match="bank"):
        assert_close(conv.weight(h, h), other, "bank")


@pytest.mark.parametrize("mask", ["none", "disc", "smooth_disc"])
@pytest.mark.parametrize(("group", "form"), [(g, f) for g in ("r2", "se2", "r2xrplus", "sim2") for f in forms_of(g)])
def test_variance_is_preserved(group: str, form: str, mask: str) -> None:
    h, sizes = GROUPS[group]

    def layer() -> GConv:
        return GConv(16, 24, 5, group=h, elements=sizes, implementation=form_of(form), mask=MASKS[mask])

    check_scale(layer, 16, 16)


# ------------------------------------------------------------------------------------------------ elements, state


def test_more_elements_after_training_change_little() -> None:
    conv = GConv(8, 8, 5, group=SO2(), elements=(8,), implementation="separable", mask=MASKS["disc"]).eval()
    lift = GConv(1, 8, 5, group=SO2(), elements=(8,), implementation="lifting", mask=MASKS["disc"]).eval()
    image = Field.of_images(torch.randn(1, 1, 15, 15), SO2())
    size = {}
    for n in (8, 16, 64):
        lift.elements = conv.elements = (n,)
        size[n] = conv(lift(image)).values.std().item()
    assert 0.5 < size[16] / size[8] < 2
    assert abs(size[64] / size[16] - 1) < 0.1, "an average over elements converges"
    rebuilt = GConv(8, 8, 5, group=SO2(), elements=(64,), implementation="separable", mask=MASKS["disc"]).eval()
    rebuilt.load_state_dict(conv.state_dict())
    assert_close(rebuilt(lift(image)).values, conv(lift(image)).values, "rebuilt on other elements")


@pytest.mark.parametrize("group", ["se2", "tetrahedral", "r1xrplus"])
def test_shared_elements_are_drawn_where_images_are_lifted(group: str) -> None:
    h, _ = ALL_GROUPS[group]
    lift, conv = (make(group, form, sampling="shared") for form in ("lifting", "separable"))
    image = Field.of_images(torch.randn(1, 2, *SIZES[h.space]), h)
    fields = [lift(image) for _ in range(2)]
    assert not torch.equal(fields[0].elements, fields[1].elements), "new ones in every pass"
    assert conv.output_elements(fields[0]) is fields[0].elements, "the net has the same"
    assert not torch.equal(fields[0].elements, lift.kernel.grid)
    assert lift.eval()(image).elements is lift.kernel.grid, "none in evaluation"


@pytest.mark.usefixtures("float64")
def test_a_turned_grid_is_a_turned_image() -> None:
    """Why samples of SO(3) are translated from the left: on g H is done to an image what H does to it turned back."""
    conv = GConv(1, 2, 3, group=SO3(), elements=(12,), implementation="lifting", kernel=ALL_KERNELS["siren"])
    image, g = torch.randn(1, 1, 5, 5, 5), SO3().grid(24)[7:8]
    on_turned = conv(Field.of_images(image, SO3()), SO3().product(g, conv.kernel.grid)).values
    back = warp(image, SO3().matrix(SO3().inverse(g))[0])
    of_turned_back = conv(Field.of_images(back, SO3()), conv.kernel.grid).values
    assert_close(on_turned, warp(of_turned_back, SO3().matrix(g)[0]), "turned")
    from_the_right = conv(Field.of_images(image, SO3()), SO3().product(conv.kernel.grid, g)).values
    with pytest.raises(AssertionError, match="turned"):
        assert_close(from_the_right, warp(of_turned_back, SO3().matrix(g)[0]), "turned")


def test_state_is_parameters_and_gain() -> None:
    conv = make("se2", "separable", bias=True)
    keys = set(conv.state_dict())
    assert keys == {name for name, _ in conv.named_parameters()} | {"kernel.gain"}
    with torch.no_grad():
        conv.eval()(field_on(conv, conv.kernel.grid))
    assert set(conv.state_dict()) == keys
    assert copy.deepcopy(conv).state_dict().keys() == keys


# ------------------------------------------------------------------------------------------------------ spaces


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("form", "sizes", "turns"), [("separable", (24, 2), 48), ("separable", (24, 1), 24), ("nonseparable", (24, 1), 24)]
)
def test_layers_are_exact_under_all_turns_and_flips_of_the_cube(form: str, sizes: tuple[int, int], turns: int) -> None:
    conv = GConv(1, 2, 3, group=O3(), elements=sizes, implementation=form, kernel=ALL_KERNELS["siren"])
    elements = exact_elements(O3(), sizes)
    assert len(elements) == turns
    field = Field(torch.randn(1, 1, turns, 4, 5, 6), conv.kernel.grid)
    check_layers(conv, field)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("space", SPACES)
def test_a_convolution_of_the_trivial_group_is_that_of_torch(space: int) -> None:
    conv = GConv(2, 3, 3, group=Trivial(space=space), elements=(1,), implementation="oi x", kernel=Lattice)
    values = torch.randn(2, 2, *SIZES[space])
    weight = conv.kernel.nets[0].weight * conv.kernel.gain
    plain = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[space](
        values, torch.einsum("...oi->oi...", weight.unflatten(-1, (3, 2))), padding=1
    )
    assert_close(conv(Field.of_images(values, conv.group)).values[:, :, 0], plain, "torch")


class Rolled(GConv):
    """The kernel is not about its centre."""

    def _assemble(self, a, b):
        return [(step, weight.roll(1, 2) if step.stage.space else weight) for step, weight in super()._assemble(a, b)]


class Steep(GConv):
    """Pixels are weighted by where they are along the first axis."""

    def forward(self, field, elements=None):
        ramp = torch.linspace(1, 2, field.values.shape[3]).to(field.values)
        return super().forward(Field(torch.einsum("ncbu...,u->ncbu...", field.values, ramp), field.elements), elements)


def check_layers(conv: GConv, field: Field) -> None:
    """W3, for every element that is exact."""
    for g in exact_elements(conv.group, conv.elements)[:, None]:
        check_layer(conv, field, conv.kernel.grid, g)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", [Rolled, Steep])
@pytest.mark.parametrize("group", ["flip_1d", "p4m", "flip_3d", "tetrahedral", "e3"])
def test_broken_layers_fail_in_every_space(group: str, kind: type[GConv]) -> None:
    h, sizes = ALL_GROUPS[group]
    conv = kind(2, 3, 3, group=h, elements=sizes, implementation="nonseparable", kernel=ALL_KERNELS["siren"])
    field = field_on(conv, conv.kernel.grid)
    with pytest.raises(AssertionError, match="W3"):
        check_layers(conv, field)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("group", [name for name in (*LINE, *VOLUME) if ALL_GROUPS[name][0].dim])
def test_absolute_elements_break_invariance_in_every_space(group: str) -> None:
    conv, (h, sizes) = make(group, "oi x h, o a"), ALL_GROUPS[group]
    with pytest.raises(AssertionError, match="W1"):
        check_invariance(conv, h.random(3), h.random(3), h.grid(*sizes)[-1:])


@pytest.mark.parametrize(("group", "form"), [(g, f) for g in ("r1xrplus", "r3", "sim3") for f in forms_of(g)])
def test_variance_is_preserved_in_other_spaces(group: str, form: str) -> None:
    h, sizes = ALL_GROUPS[group]
    k = 3 if h.space == 3 else 7

    def layer() -> GConv:
        return GConv(16, 24, k, group=h, elements=sizes, implementation=form_of(form), mask=MASKS["disc"])

    check_scale(layer, 16, 8 if h.space == 3 else 64)


def changes():
    """Every way in which a parameter may change behind a layer's back."""

    def load(conv):
        conv.load_state_dict({name: value * 1.1 for name, value in conv.state_dict().items()})

    def step(conv):
        conv.kernel.nets[0].output.weight.grad = torch.ones_like(conv.kernel.nets[0].output.weight)
        torch.optim.SGD(conv.parameters(), 0.1).step()

    def in_place(conv):
        with torch.no_grad():
            conv.kernel.nets[0].output.weight.mul_(1.1)

    def data_in_place(conv):
        conv.kernel.nets[0].output.weight.data.mul_(1.1)

    def data(conv):
        conv.kernel.nets[0].output.weight.data = conv.kernel.nets[0].output.weight.data * 1.1

    return [load, step, in_place, data_in_place, data]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_kept_weights_are_dropped_when_a_parameter_changes(change) -> None:
    conv = make("se2", "separable").eval()
    field = field_on(conv, conv.kernel.grid)
    with torch.no_grad():
        before = conv(field).values
        kept = conv._kept
        assert torch.equal(conv(field).values, before)
        assert conv._kept is kept, "assembled again although nothing changed"
    change(conv)
    with torch.no_grad():
        after = conv(field).values
    assert not torch.allclose(after, before)
    assert torch.equal(after, conv.train()(field).values), "kept weights differ from fresh ones"


def test_kept_weights_follow_elements_and_dtype() -> None:
    conv = make("se2", "separable").eval()
    field = field_on(conv, conv.kernel.grid)
    with torch.no_grad():
        conv(field)
        other = SO2().sample((8,))
        assert_close(conv(field, other).values, copy.deepcopy(conv).train()(field, other).values, "elements")
        double = conv.double()(Field(field.values.double(), field.elements)).values
    assert double.dtype == torch.float64


def test_gradients_flow_in_evaluation() -> None:
    conv = make("se2", "separable").eval()
    with torch.no_grad():
        conv(field_on(conv, conv.kernel.grid))
    conv(field_on(conv, conv.kernel.grid)).values.sum().backward()
    assert all(parameter.grad is not None for parameter in conv.parameters())


def test_training_follows_evaluation_in_inference_mode() -> None:
    conv = make("se2", "separable")
    field = field_on(conv, conv.kernel.grid)
    with torch.inference_mode():
        conv.eval()(field)
    conv.train()(field).values.sum().backward()
    assert all(parameter.grad is not None for parameter in conv.parameters())


@pytest.mark.parametrize("group", ["se2", "sim2", "e2"])
def test_random_sampling_is_for_training_only(group: str) -> None:
    conv = make(group, "separable", sampling="random")
    field = field_on(conv, conv.kernel.grid)
    first, second = conv(field), conv(field)
    assert not torch.equal(first.elements, second.elements), "drawn anew in every forward pass"
    conv.eval()
    assert torch.equal(conv(field).elements, conv.kernel.grid)
    assert torch.equal(conv(field).values, conv(field).values)


def test_autocast_keeps_the_kernel_in_float32() -> None:
    conv = make("se2", "separable").eval()
    field = field_on(conv, conv.kernel.grid)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert all(weight.dtype == torch.float32 for _, weight in conv._assemble(field.elements, field.elements))
        low = conv(field).values
    assert low.dtype == torch.bfloat16
    assert_close(low.float(), conv(field).values, "bf16", tolerance=0.03)


def test_values_lie_with_channels_fastest() -> None:
    conv = make("se2", "separable")
    out = conv(field_on(conv, conv.kernel.grid))
    assert out.pixels().data_ptr() == out.values.data_ptr(), "a copy where none is needed"


# ------------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 4}, "`padding` none keeps the image size, which needs an odd `kernel_size`, but got 4"),
        ({"k": 0}, "`kernel_size` must be a positive integer, but got 0"),
        ({"stride": 0}, "`stride` must be a positive integer"),
        ({"sampling": "uniform"}, "`sampling` must be one of grid, random, shared, but got 'uniform'"),
        ({"path": "fast"}, "`path` must be one of auto, dense, sequential"),
    ],
)
def test_wrong_arguments_are_named(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("se2", "separable", **options)


def test_sequential_needs_a_separable_kernel() -> None:
    with pytest.raises(ValueError, match="`path` sequential needs a kernel whose sums can be taken in turn"):
        make("se2", "nonseparable", path="sequential")
    conv = make("sim2", "separable+2d", path="sequential")
    with pytest.raises(ValueError, match="a product of the parts"):
        conv(field_on(conv, SIM2.random(5)))


def test_wrong_fields_are_explained() -> None:
    conv = make("se2", "separable")
    h = conv.kernel.grid
    with pytest.raises(ValueError, match=r"`field` must have values \(n, 2, b, y, x\), but got \(1, 2, 9, 9\)"):
        conv(Field(torch.randn(1, 2, 9, 9), h))
    with pytest.raises(ValueError, match="lists 8 elements"):
        conv(Field(torch.randn(1, 2, 3, 9, 9), h))
    conv = make("se2", "separable", padding=0)
    with pytest.raises(ValueError, match="must not exceed the image with its padding, but got 5 for 4 x 9 pixels"):
        conv(Field(torch.randn(1, 2, 8, 4, 9), h))
