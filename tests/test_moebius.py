"""Fields on a Möbius strip: layers and nets commute with every shift, twice around, and what breaks that is seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import forms_of
from kills import SMALL, Bomb, execute, only_run, result, unequal
from laws import assert_close, check_layer, check_paths
from test_gconv import form_of
from test_nets import digits, train
from torch import Tensor, nn

from src.data import MoebiusMnist, Pool, Pools
from src.data.strip import shift_on_strip
from src.groups import O2, SO2, Dilation, Group, Product, Reflection, Trivial
from src.models import Field, GConv
from src.models.field_types import FieldTypes, Projection, TypedConv
from src.models.gaussian_mask import GaussianMask
from src.models.kernels import Lattice
from src.models.layers import Layers
from src.models.nets import CKGResNet, MoebiusNet, ResidualNet
from src.models.pooling import SpatialPool

FLIP = Reflection()
TYPES = {
    "scalar": FieldTypes(2, 0, 0),
    "signflip": FieldTypes(0, 2, 0),
    "regular": FieldTypes(0, 0, 2),
    "irrep": FieldTypes(2, 2, 0),
    "mixed": FieldTypes(1, 1, 1),
}
WIDTH = 6
"""Pixels around the strip: after so many, a field comes back reflected, and after twice as many as it was."""


def reflect(field: Field, group: Group) -> Field:
    """The action of the reflection of the first axis, with the elements in their old order."""
    values = field.values.flip(3)
    if len(field.elements) == 1:
        return Field(values, field.elements)
    matrices, d = group.matrix(field.elements), group.space
    across = torch.diag(torch.tensor([-1.0] + [1.0] * (d - 1), dtype=matrices.dtype))
    # (s.f)(b) = f(s^-1 b), by the matrices of the elements, which tell those that are used here apart.
    source = [next(n for n, m in enumerate(matrices) if torch.allclose(m, across @ own)) for own in matrices]
    return Field(values[:, :, source], field.elements)


def shift(field: Field, pixels: int, group: Group = FLIP) -> Field:
    """Step by step: what leaves the strip on the right comes in on the left, reflected."""
    for _ in range(pixels):
        values, comes = field.values, reflect(field, group).values[..., -1:]
        field = Field(torch.cat([comes, values[..., :-1]], -1), field.elements)
    return field


def roll(field: Field, pixels: int, group: Group = FLIP) -> Field:
    """On a ring."""
    return Field(field.values.roll(pixels, -1), field.elements)


def check_shifts(
    layer: Callable[[Field], Field], field: Field, move: Callable = shift, group: Group = FLIP, stride: int = 1
) -> None:
    """layer(shift_a f) = shift_(a / stride) layer(f), for every multiple a of the stride, twice around."""
    turns = range(0, 2 * field.values.shape[-1], stride)
    with torch.no_grad():
        assert_close(move(field, 2 * field.values.shape[-1], group).values, field.values, "twice around")
        moved = [move(field, a, group).values for a in turns]
        out = layer(Field(torch.cat(moved), field.elements))
        first, *others = (Field(own, out.elements) for own in out.values.split(len(field.values)))
        for a, other in zip(turns[1:], others, strict=True):
            assert_close(other.values, move(first, a // stride, group).values, f"shift by {a}")


def noise(channels: int, elements: Tensor, *size: int, types: FieldTypes | None = None) -> Field:
    field = Field(torch.randn(2, channels, len(elements), *size), elements)
    return field if types is None else Projection(types)(field)


def make(form: str = "nonseparable", boundary: str = "moebius", k: int = 3, group: Group = FLIP, **options) -> GConv:
    made = {"elements": (2,), "kernel": Lattice, "bias": True} | options
    conv = GConv(2, 3, k, group=group, implementation=form, boundary=boundary, **made)
    if conv.bias is not None:
        nn.init.normal_(conv.bias)
    return conv


# --------------------------------------------------------------------------------------------- convolutions


@pytest.mark.usefixtures("float64")
class TestConvolutions:
    @pytest.mark.parametrize("form", forms_of("flip"))
    def test_every_form_commutes_with_every_shift(self, form: str) -> None:
        conv = make(form_of(form))
        check_shifts(conv, noise(2, FLIP.grid(2), 5, WIDTH))

    @pytest.mark.parametrize("boundary", ["zeros", "circular"])
    def test_other_boundaries_break_at_the_seam(self, boundary: str) -> None:
        with pytest.raises(AssertionError, match="shift by 1: "):
            check_shifts(make(boundary=boundary), noise(2, FLIP.grid(2), 5, WIDTH))

    def test_a_flip_without_the_exchange_of_elements_breaks(self) -> None:
        conv = make()
        conv.seam.reflection = None
        with pytest.raises(AssertionError, match="shift by 1: "):
            check_shifts(conv, noise(2, FLIP.grid(2), 5, WIDTH))

    def test_images_are_lifted(self) -> None:
        image = Field.of_images(torch.randn(2, 2, 5, WIDTH), FLIP)
        check_shifts(make("lifting"), image)
        with pytest.raises(AssertionError, match="shift by 1: "):
            check_shifts(make("lifting", "circular"), image)
        with pytest.raises(ValueError, match="must have the reflection of each of its elements"):
            make("nonseparable")(image)

    @pytest.mark.parametrize(
        ("group", "elements", "size"),
        [
            (FLIP, (2,), (5, WIDTH)),
            (Reflection(space=3), (2,), (3, 4, WIDTH)),
            (O2(), (2, 2), (5, WIDTH)),
            (Product(FLIP, Dilation(1.5)), (2, 2), (5, WIDTH)),
        ],
        ids=str,
    )
    def test_groups_with_the_reflection(self, group: Group, elements: tuple[int, ...], size: tuple[int, ...]) -> None:
        for form in ("separable", "nonseparable"):
            conv = make(form, group=group, elements=elements, low_pass=0.6)
            field = noise(2, conv.kernel.grid, *size)
            check_shifts(conv, field, group=group)
            check_paths(conv, field, conv.kernel.grid)

    @pytest.mark.parametrize(("group", "size"), [(Trivial(space=1), ()), (Reflection(space=1), ()), (SO2(), (5,))])
    def test_rings(self, group: Group, size: tuple[int, ...]) -> None:
        elements = (2,) if group.dim else (1,)  # of rotations, by half a turn
        conv = make("nonseparable", "circular", group=group, elements=elements)
        check_shifts(conv, noise(2, conv.kernel.grid, *size, WIDTH), roll, group)
        conv = make("nonseparable", "zeros", group=group, elements=elements)
        with pytest.raises(AssertionError, match="shift by 1: "):
            check_shifts(conv, noise(2, conv.kernel.grid, *size, WIDTH), roll, group)

    def test_the_other_laws_hold_around_the_seam(self) -> None:
        for form in ("separable", "nonseparable"):
            for options in (
                {},
                {"padding": 0},
                {"k": 1, "padding": 0},
                {"mask": partial(GaussianMask, size=0.2), "k": 9},
            ):
                conv, field = make(form, **options), noise(2, FLIP.grid(2), 9, 12)
                for g in FLIP.grid(2)[:, None]:
                    check_layer(conv, field, FLIP.grid(2), g)
                check_paths(conv, field, FLIP.grid(2))
                check_shifts(conv, field)

    def test_strides_go_round(self) -> None:
        conv = make(stride=2)
        check_shifts(conv, noise(2, FLIP.grid(2), 5, WIDTH), stride=2)
        with pytest.raises(ValueError, match=r"last axis is a multiple of the stride 2 .* but got 7"):
            conv(noise(2, FLIP.grid(2), 5, 7))

    def test_the_fourier_transform_is_the_same(self) -> None:
        field = noise(2, FLIP.grid(2), 5, WIDTH)
        conv = make()
        expected, conv.fft = conv(field).values, "always"
        assert_close(conv(field).values, expected, "by the Fourier transform")

    def test_random_cosets(self) -> None:
        conv = make(sampling="random").train()
        seen = set()
        for _ in range(8):
            a = conv.output_elements(noise(2, FLIP.grid(2), 5, WIDTH))
            seen.add(tuple(a[:, 0].tolist()))
            check_shifts(lambda field, a=a: conv(field, a), noise(2, a, 5, WIDTH))
        assert seen == {(0.0, 1.0), (1.0, 0.0)}

    def test_what_crosses_the_seam(self) -> None:
        """By hand: a scalar stays, a sign-flip field changes sign, a regular field exchanges its elements."""
        first = torch.arange(1.0, 7.0).view(2, 3)
        values = torch.stack(
            [torch.stack([first, first]), torch.stack([first, -first]), torch.stack([first, 10 * first])]
        )
        pixels = make().seam.extend(Field(values[None], FLIP.grid(2)), 1, 0, True)
        left, right = (pixels[0, :, x, 0].T.tolist() for x in (0, -1))
        assert left == [[6, 3], [-6, -3], [60, 30]]
        assert right == [[4, 1], [-4, -1], [40, 10]]


REFUSED = [
    ({"boundary": "ring"}, "`conv.boundary` must be one of zeros, circular, moebius, but got 'ring'"),
    ({"group": SO2(), "elements": (4,)}, "which groups must map to itself, but got SO2"),
    ({"group": O2(), "elements": (2, 2), "sampling": "random"}, "which groups must map to itself, but got O2"),
    ({"group": SO2(), "elements": (2,)}, "have the reflection of the first axis, but got SO2"),
    ({"group": Reflection(point=True)}, "have the reflection of the first axis"),
    ({"group": Dilation(1.5)}, "have the reflection of the first axis"),
    ({"elements": (1,)}, r"have the reflection of the first axis, but got Reflection.* with 1 element"),
    ({"group": Reflection(space=1)}, "moebius needs images or volumes"),
    ({"group": Trivial(space=1), "elements": (1,)}, "moebius needs images or volumes"),
    ({"group": Trivial(space=1), "elements": (1,), "padding": "causal", "boundary": "circular"}, "has no past"),
    ({"k": 4, "padding": 1}, "`conv.kernel_size` must be odd for conv.boundary=moebius"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=str)
def test_what_cannot_be_glued_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("nonseparable", **options)


def test_a_kernel_reaches_around_once_at_most() -> None:
    with pytest.raises(ValueError, match="at least 4 pixels"):
        make(k=9)(noise(2, FLIP.grid(2), 9, 3))


# ------------------------------------------------------------------------------------------- fields of all types


def is_of(types: FieldTypes, field: Field, tolerance: float = 1e-12) -> bool:
    """Whether scalar fields are equal and sign-flip fields opposite on both elements, and regular ones neither."""
    one, other = field.values.unbind(2)
    scalar, sign, regular = ((one - other).split(types, 1)[0], (one + other).split(types, 1)[1], one.split(types, 1)[2])
    even = regular.numel() == 0 or (one - other).split(types, 1)[2].abs().max() > 0.01
    return all(part.numel() == 0 or part.abs().max() < tolerance for part in (scalar, sign)) and bool(even)


@pytest.mark.usefixtures("float64")
class TestTypes:
    @pytest.mark.parametrize("types", TYPES.values(), ids=TYPES)
    @pytest.mark.parametrize("norm", ["none", "batch", "instance", "layer"])
    @pytest.mark.parametrize("activation", ["elu", "relu", "gelu"])
    def test_layers_commute_with_every_shift(self, types: FieldTypes, norm: str, activation: str) -> None:
        conv = GConv(
            4, sum(types), 3, group=FLIP, elements=(2,), implementation="nonseparable", boundary="moebius", bias=True
        )
        layers = Layers(None, norm, activation)
        layer = nn.Sequential(TypedConv(conv, types), layers.norm(sum(types)), layers.activate(), Projection(types))
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        field = noise(4, FLIP.grid(2), 6, WIDTH, types=FieldTypes(1, 1, 2))
        assert is_of(types, layer(field))
        check_shifts(layer, field)
        for pool in ("max", "mean"):
            check_shifts(nn.Sequential(layer, SpatialPool(pool), Projection(types)), field, stride=2)
        with pytest.raises(AssertionError, match="shift by 1: "):
            check_shifts(nn.Sequential(layer, SpatialPool("max"), Projection(types)), field)

    def test_sign_flip_fields_need_what_projects_them(self) -> None:
        types, field = TYPES["signflip"], noise(2, FLIP.grid(2), 6, WIDTH, types=TYPES["signflip"])
        conv = GConv(2, 2, 3, group=FLIP, elements=(2,), implementation="nonseparable", boundary="moebius", bias=True)
        nn.init.ones_(conv.bias)
        conv = TypedConv(conv, types)
        assert not is_of(types, conv(field)), "a bias is a threshold"
        conv.bias = None
        assert is_of(types, conv(field))
        assert not is_of(types, Field(nn.functional.elu(conv(field).values), field.elements))

    def test_odd_parts_of_activations(self) -> None:
        """Linear of ReLU and GELU without a threshold, of ELU never."""
        line = torch.linspace(-2, 2, 9)
        field = Field(torch.stack([line, -line])[None, None, :, None], FLIP.grid(2))
        odd = {
            name: Projection(FieldTypes(0, 1, 0))(Layers(None, activation=name).activate()(field)).values[0, 0, 0, 0]
            for name in ("relu", "gelu", "elu")
        }
        assert_close(odd["relu"], line / 2, "relu")
        assert_close(odd["gelu"], line / 2, "gelu")
        with pytest.raises(AssertionError, match="elu"):
            assert_close(odd["elu"], odd["elu"][-1] * line / 2, "elu")

    @pytest.mark.parametrize(
        ("one", "other", "dimension"),
        [
            ((1, 0, 0), (1, 0, 0), 6),
            ((1, 0, 0), (0, 1, 0), 3),
            ((0, 1, 0), (1, 0, 0), 3),
            ((0, 1, 0), (0, 1, 0), 6),
            ((1, 0, 0), (0, 0, 1), 9),
            ((0, 1, 0), (0, 0, 1), 9),
            ((0, 0, 1), (1, 0, 0), 9),
            ((0, 0, 1), (0, 1, 0), 9),
            ((0, 0, 1), (0, 0, 1), 18),
        ],
    )
    def test_projections_leave_all_steerable_kernels(self, one: tuple, other: tuple, dimension: int) -> None:
        """As many dimensions as the solutions of k(s x) = rho_out(s) k(x) rho_in(s)^-1 on 3 x 3 taps have."""
        before, after = FieldTypes(*one), FieldTypes(*other)
        conv = GConv(1, 1, 3, group=FLIP, elements=(2,), implementation="nonseparable", kernel=Lattice)
        layer, (weight,) = TypedConv(conv, after), conv.kernel.nets.parameters()
        basis = Projection(before)(Field(torch.eye(50).view(50, 1, 2, 5, 5), FLIP.grid(2)))

        outputs = []
        with torch.no_grad():
            for unit in torch.eye(weight.numel()):
                weight.copy_(unit.view_as(weight))
                outputs.append(layer(basis).values.flatten())
        assert torch.linalg.matrix_rank(torch.stack(outputs)) == dimension

    def test_projected_layers_keep_the_variance(self) -> None:
        """White noise of unit variance keeps it, for outputs of every type, on average over draws."""
        for types in (FieldTypes(8, 0, 0), FieldTypes(0, 8, 0), FieldTypes(0, 0, 8)):
            squares = []
            for _ in range(10):
                conv = GConv(8, 8, 5, group=FLIP, elements=(2,), implementation="nonseparable", boundary="moebius")
                field = noise(8, FLIP.grid(2), 16, 16)
                squares.append(TypedConv(conv, types)(field).values[..., 2:-2, :].square().mean())
            assert 0.7 < torch.stack(squares).mean() < 1.4


# --------------------------------------------------------------------------------------------------- whole nets


def layer(boundary: str = "moebius", group: Group = FLIP, **options) -> Callable[..., GConv]:
    made = {"group": group, "elements": (2,) if group.dim else (1,), "kernel_size": 3, "kernel": Lattice}
    return partial(GConv, implementation="nonseparable", boundary=boundary, **made | {"bias": True} | options)


def net_of(fields: FieldTypes, conv: Callable[..., GConv] | None = None, **options) -> MoebiusNet:
    made = {"hidden_sizes": (1, 2, 2, 2), "last": 6, "exact": "require"} | options
    return MoebiusNet(1, 5, (8, 16), conv or layer(), fields=fields, **made)


def check_invariant(net: nn.Module, stride: int = 4) -> None:
    """Logits, before and after training, as in training and in evaluation, under every shift by so many pixels."""
    images, labels = digits(6, (8, 16))
    net, images = net.double(), images.double()
    for steps in (0, 5):
        if steps:
            train(net, images, labels, steps)
        for mode in (net.train(), net.eval()):
            for module in mode.modules():  # what is dropped is drawn anew in every pass
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            with torch.no_grad():
                turned = [shift(Field.of_images(images, FLIP), a).values[:, :, 0] for a in range(0, 32, stride)]
                expected, *others = mode(torch.cat(turned)).split(len(images))
                assert (expected[0] - expected[1:]).abs().amax(1).min() > 1e-3, "a constant is invariant"
                for n, logits in enumerate(others, 1):
                    assert_close(logits, expected, f"shift by {n * stride}")


class TestNets:
    @pytest.mark.parametrize("types", TYPES.values(), ids=TYPES)
    def test_every_type(self, types: FieldTypes) -> None:
        check_invariant(net_of(types))

    @pytest.mark.parametrize(
        "options",
        [{"normalisation": n} for n in ("batch", "instance", "layer")]
        + [
            {"activation": "relu"},
            {"activation": "gelu"},
            {"pooling": "mean"},
            {"readout": "mean"},
            {"readout": "max_mean"},
        ],
        ids=str,
    )
    def test_options(self, options: dict) -> None:
        bias = "normalisation" not in options
        check_invariant(net_of(TYPES["mixed"], layer(bias=bias), **options))

    def test_without_pools_every_shift(self) -> None:
        check_invariant(net_of(TYPES["mixed"], pool_every=0), stride=1)

    @pytest.mark.parametrize("make", [CKGResNet, ResidualNet])
    def test_residual_nets(self, make: type) -> None:
        options = {"pooling": "max"} if make is CKGResNet else {}
        stride = 2 if make is CKGResNet else 1
        check_invariant(make(1, 5, (8, 16), layer(), hidden_sizes=(4, 6), exact="require", **options), stride)

    @pytest.mark.parametrize("types", TYPES.values(), ids=TYPES)
    @pytest.mark.parametrize("boundary", ["zeros", "circular"])
    def test_other_boundaries_show_the_seam(self, types: FieldTypes, boundary: str) -> None:
        with pytest.raises(AssertionError, match="shift by 4: "):
            check_invariant(net_of(types, layer(boundary)))

    def test_shifts_of_less_than_all_pools_are_not_exact(self) -> None:
        with pytest.raises(AssertionError, match="shift by 2: "):
            check_invariant(net_of(TYPES["mixed"]), stride=2)

    def test_a_plain_cnn_shows_the_seam(self) -> None:
        with pytest.raises(AssertionError, match="shift by 4: "):
            check_invariant(net_of(FieldTypes(0, 0, 2), layer(group=Trivial())))


WRONG = [
    ({"fields": (1, 1)}, "`net.fields` must be three whole numbers"),
    ({"fields": (0, 0, 0)}, "`net.fields` must be three whole numbers"),
    ({"fields": (1, 0, 1), "conv": layer(group=Trivial())}, r"but got \[1, 0, 1\] and 1 element"),
    ({"conv": layer("zeros", O2(), elements=(4, 2))}, "8 element"),
    ({"pooling": "max_blur"}, "`pooling` must be one of max, mean, but got 'max_blur'"),
    ({"size": (8, 18)}, "must be a multiple of 4, the strides and pools .* but got 18; take for instance 20"),
    ({"size": (10, 16)}, "leaves 1 of 5 pixels over"),
    ({"pool_every": -1}, "`net.pool_every` must be"),
    ({"last": 0}, "`net.last` must be a positive integer"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=str)
def test_wrong_options_of_nets_are_named(options: dict, message: str) -> None:
    options = {"size": (8, 16), "conv": layer(), "fields": (0, 0, 1), "hidden_sizes": (1, 1, 1, 1)} | options
    with pytest.raises(ValueError, match=message):
        MoebiusNet(1, 5, **options)


@pytest.mark.parametrize(
    ("make", "options", "conv"),
    [
        (CKGResNet, {"pooling": "max_blur"}, {}),
        (CKGResNet, {"pooling": "max", "pool_size": 3}, {}),
        (CKGResNet, {"pooling": "max", "border": "background"}, {}),
        (ResidualNet, {"border": "disc"}, {}),
        (ResidualNet, {}, {"stride": 2, "low_pass": 0.6}),
    ],
    ids=str,
)
def test_layers_that_see_the_seam_are_refused(make: type, options: dict, conv: dict) -> None:
    with pytest.raises(ValueError, match=r"glues the ends of the last axis, but `.*`, .*, sees where they are"):
        make(1, 5, 16, layer(**conv), hidden_sizes=(4, 6), exact="off", **options)


# -------------------------------------------------------------------------------------------------- data and runs


def test_images_are_shifted_twice_around() -> None:
    images = torch.randint(255, (3, 1, 4, 6), dtype=torch.uint8)
    for a in range(13):
        expected = shift(Field.of_images(images, FLIP), a).values[:, :, 0]
        assert torch.equal(shift_on_strip(images, torch.tensor([a, a, a])), expected)
    mixed = shift_on_strip(images, torch.tensor([0, 6, 12]))
    assert torch.equal(mixed[0], images[0])
    assert torch.equal(mixed[1], images[1].flip(1)), "once around, it comes back mirrored"
    assert torch.equal(mixed[2], images[2])


def test_digits_are_shifted_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(256, (300, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    pools = Pools(Pool(images[:200], torch.arange(200) % 10), test=Pool(images[200:], torch.arange(100) % 10))
    monkeypatch.setattr(MoebiusMnist, "pools", lambda source: pools)
    options = {"path": tmp_path, "cache": tmp_path, "counts": [150, 50]}
    centred, shifted = (MoebiusMnist(shift=own, **options).splits() for own in ({"test": True, "train": False}, True))
    for split in (centred.train, centred.val):
        assert torch.equal(split.images, images[split.ids])
    assert torch.equal(centred.test.images, shifted.test.images), "a shift belongs to the image"
    seen = set()
    for image, number in zip(shifted.test.images, shifted.test.ids, strict=True):
        covers = shift_on_strip(images[number].expand(56, -1, -1, -1), torch.arange(56))
        (found,) = (covers == image).flatten(1).all(1).nonzero()
        seen.add(int(found))
    assert min(seen) < 14
    assert max(seen) > 42
    again = MoebiusMnist(shift=True, **options)
    assert again.file.exists(), "what was generated is kept"
    assert torch.equal(again.splits().train.images, shifted.train.images)
    assert again.key not in (MoebiusMnist(shift=False, **options).key, MoebiusMnist(shift=True, seed=1, **options).key)
    with pytest.raises(ValueError, match="`shift` must be true or false, or map"):
        MoebiusMnist(shift=1, **options)


RUN = [
    *(word for word in SMALL if not word.startswith(("group.", "kernel.", "experiment=", "net."))),
    *("protocol=digits", "method=moebius_mixed", "net.hidden_sizes=[1,1]", "net.fields=[1,1,1]", "net.last=4"),
    *("conv.kernel_size=3", "train.epochs=2"),
]


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
def test_a_run_that_is_killed_goes_on_to_the_bit(tmp_path: Path) -> None:
    folders = [tmp_path / name / "logs" for name in ("whole", "killed")]
    for logs in folders:
        logs.parent.mkdir()
    assert execute(RUN, folders[0]) == [0]
    assert execute(RUN, folders[1], Bomb("step", 9)) != [0]
    assert execute(RUN, folders[1]) == [0]
    whole, killed = (result(only_run(logs)) for logs in folders)
    assert not unequal(whole, killed)
