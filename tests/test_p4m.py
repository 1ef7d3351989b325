"""Cohen and Welling's nets, their numbers of parameters, what is exact of them, and the arithmetic of docs/p4m.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import composed
from laws import assert_close, check_net, warp
from test_nets import digits, train
from torch import Tensor, nn

from src.groups import O2, SO2, Group, Trivial
from src.models import Field, GConv
from src.models.kernels import Lattice
from src.models.nets import PreActivationResNet, StackedNet
from src.training.recipe import build

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "p4m.md").read_text()
P4, P4M, Z2 = (SO2(), (4,)), (O2(), (4, 2)), (Trivial(), (1,))
TURNS, DIHEDRAL = SO2().matrix(SO2().grid(4)), O2().matrix(O2().grid(4, 2))


def layer_of(group: tuple[Group, tuple[int, ...]], **options: Any) -> partial:
    h, elements = group
    common = {"kernel_size": 3, "implementation": "nonseparable", "kernel": Lattice, "bias": True}
    return partial(GConv, group=h, elements=elements, **{**common, **options})


def net_of(recipe: str, **values: Any) -> nn.Module:
    """The recipe's own net, or a narrow one, in double precision."""
    return build(composed(f"experiment={recipe}", *(f"net.{key}={value}" for key, value in values.items()))).model.net


def check_before_and_after(net: nn.Module, images: Tensor, labels: Tensor, matrices: Tensor) -> None:
    net, images = net.double(), images.double()
    for steps in (0, 3):
        if steps:
            train(net, images, labels, steps)
        check_net(net.eval(), images, matrices)


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        ("p4cnn", 24_680),
        ("p4cnn_early_pooling", 21_750),
        ("z2cnn", 21_750),
        ("p4m_resnet44", 2_622_878),
        ("p4m_resnet44_exact", 2_619_728),
    ],
)
def test_parameters(recipe: str, parameters: int) -> None:
    assert sum(own.numel() for own in net_of(recipe).parameters()) == parameters
    assert f"{parameters:,}" in PAGE, "and the page says so"


@pytest.mark.parametrize("recipe", ["p4cnn", "p4cnn_early_pooling"])
def test_stacked_recipes_are_invariant_under_p4(recipe: str) -> None:
    check_before_and_after(net_of(recipe), *digits(4, 28), TURNS)


def test_the_plain_net_is_not_invariant() -> None:
    with pytest.raises(AssertionError, match="invariance under"):
        check_before_and_after(net_of("z2cnn"), *digits(4, 28), TURNS)


def narrow_resnet(recipe: str) -> nn.Module:
    """Of the recipe's stages and readout, with fewer blocks and channels."""
    return net_of(recipe, hidden_sizes="[2,3,4]", blocks=2)


def colours(size: int = 32) -> tuple[Tensor, Tensor]:
    images, labels = digits(4, size)
    return torch.cat([images, images.roll(3, -1), images.roll(5, -2)], 1), labels


def test_the_exact_resnet_is_invariant_under_p4m() -> None:
    check_before_and_after(narrow_resnet("p4m_resnet44_exact"), *colours(), DIHEDRAL)


def test_the_published_resnet_is_neither_exact_nor_invariant() -> None:
    """Its features do not turn with the image, by a fifth of their size or more; nor would its outputs if they did."""
    images, _ = colours()
    net = narrow_resnet("p4m_resnet44").double().eval()
    images, turn = images.double(), O2().grid(4, 2)[2:3]
    assert _error_of_features(net, images, turn) > 0.05
    with pytest.raises(AssertionError, match="invariance under"):
        check_net(net, images, DIHEDRAL)
    # With an image of 33 pixels strides are exact; the linear layer on elements still is no invariant.
    images = colours(33)[0].double()
    assert _error_of_features(net, images, turn) < 1e-10
    with pytest.raises(AssertionError, match="invariance under"):
        check_net(net, images, DIHEDRAL)


def _error_of_features(net: nn.Module, images: Tensor, g: Tensor) -> float:
    """Of the last field of a turned image, against the turned field: relative, in the mean square."""
    group: Group = net.group
    matrix = group.matrix(g[0])
    with torch.no_grad():
        still, moved = net.features(images), net.features(warp(images, matrix))
    labels = group.chart(group.product(g, still.elements))
    index = (group.chart(moved.elements)[:, None] - labels).square().sum(-1).argmin(1)
    expected = warp(still.values, matrix)[:, :, index]
    return float((moved.values - expected).norm() / expected.norm())


DEPTHS = {
    "p4m to p4": (P4M, [[4, 2], [4, 2], [4, 1], [4, 1]], TURNS),
    "p4m to p4 to Z2": (P4M, [[4, 2], [4, 1], [1, 1], [1, 1]], TURNS[:1]),
    "p4m to flips": (P4M, [[4, 2], [4, 2], [1, 2], [1, 2]], O2().matrix(O2().grid(1, 2))),
    "p4 to half turns": (P4, [[4], [4], [2], [2]], TURNS[::2]),
}


@pytest.mark.parametrize("restriction", ["stack", "max", "mean"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_net_is_invariant_under_what_its_last_layer_has_left(depth: str, restriction: str) -> None:
    group, subgroups, matrices = DEPTHS[depth]
    options = {"hidden_sizes": (3, 3, 3), "pool_after": (1,), "subgroups": subgroups, "restriction": restriction}
    net = StackedNet(1, 5, 16, layer_of(group, padding=1), exact="require", **options)
    images, labels = digits(4, 16)
    check_before_and_after(net, images, labels, matrices)
    whole = DIHEDRAL if group is P4M else TURNS
    with pytest.raises(AssertionError, match="invariance under"):
        check_net(net.eval(), images.double(), whole)


def test_a_net_that_pools_elements_after_every_layer_is_invariant() -> None:
    for group, matrices in ((P4, TURNS), (P4M, DIHEDRAL)):
        conv = layer_of(group, implementation="lifting")
        net = StackedNet(1, 5, 12, conv, hidden_sizes=(4, 4), pool_elements=True, exact="require")
        check_before_and_after(net, *digits(4, 12), matrices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_sizes": ()}, "`net.hidden_sizes` must be one or more widths"),
        ({"pool_after": (3,)}, r"`net.pool_after` must be layers from 1 to 2, but got \[3\]"),
        ({"dropout_after": (0,)}, r"`net.dropout_after` must be layers from 1 to 2, but got \[0\]"),
        ({"subgroups": [[4], [4]]}, "`net.subgroups` must be none, or 3 lists"),
        ({"subgroups": [[4], [3], [3]]}, r"`subgroup` \[3\] of SO2\(\) must map"),
        ({"subgroups": [[4], [2], [4]]}, r"`subgroup` \[4\] of SO2\(\) must map"),
        ({"pool_elements": True}, "`implementation` must not depend on `h` with net.pool_elements"),
        ({"pool_elements": True, "subgroups": [[4]] * 3}, "`net.pool_elements` must be false with net.subgroups"),
        ({"restriction": "sum", "subgroups": [[4], [2], [2]]}, "`restriction` must be one of max, mean, stack"),
        ({"pool_after": (1,), "exact": "require", "size": 13}, "leaves 1 of 11 pixels over"),
    ],
    ids=str,
)
def test_wrong_options_of_stacks_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StackedNet(1, 5, **{"size": 14, "conv": layer_of(P4, padding=0), "hidden_sizes": (2, 2), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_sizes": ()}, "`net.hidden_sizes` must be one or more widths"),
        ({"blocks": 0}, "`net.blocks` must be a positive integer"),
        ({"pooling": "sum"}, "`pooling` must be one of max, mean, blur, max_blur, none"),
        ({"readout": "elements"}, "`readout` must be an invariant with net.exact=require, but got 'elements'"),
        ({"conv": layer_of(P4M, stride=2)}, "leaves 1 of 16 pixels over"),
        ({"conv": layer_of(P4M, padding=0)}, "`padding` of a preactivation block must keep the image size"),
    ],
    ids=str,
)
def test_wrong_options_of_resnets_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PreActivationResNet(
            1, 5, 16, **{"conv": layer_of(P4M), "hidden_sizes": (2, 2), "blocks": 1, "exact": "require", **options}
        )


def test_dropout_follows_the_layers_that_are_named() -> None:
    net = net_of("z2cnn")
    dropped = [any(isinstance(module, nn.Dropout) for module in layer.modules()) for layer in net.layers]
    assert dropped == [True, False, True, True, True, True, False]


def rows(head: str) -> Iterator[list[str]]:
    """The cells of the table of the page whose first line begins so."""
    (table,) = re.findall(rf"^\| {re.escape(head)}.*\n\|[-:| ]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    for line in table.splitlines():
        yield [cell.strip() for cell in line.strip("|").split("|")]


GROUPS = {"Z2": Z2, "p4": P4, "p4m": P4M}


@pytest.mark.parametrize("cells", [*rows("layer | C_in")], ids=" ".join)
def test_the_table_of_parameters(cells: list[str]) -> None:
    """C_in, C_out, k, S: counted on the layer, by the formula, and as written."""
    name, inputs, outputs, taps, summed, count = cells
    group, lifts = GROUPS[name.split()[-1]], name.startswith("lifting")
    form = "lifting" if lifts else "nonseparable"
    conv = layer_of(group, implementation=form, bias=False)(int(inputs), int(outputs), kernel_size=int(taps), padding=0)
    own = sum(parameter.numel() for parameter in conv.parameters())
    assert own == int(inputs) * int(outputs) * int(taps) ** 2 * int(summed) == int(count.replace(",", ""))
    assert int(summed) == (1 if lifts else len(conv.kernel.grid))


def written() -> Iterator[tuple[int, int, int, int, int, str]]:
    """n, k, stride, padding, output, and whether it is exact, of every cell of the table of sizes."""
    for kernel, stride, padding, *results in rows("k | stride"):
        for n, result in zip((11, 12, 32, 33), results, strict=True):
            size, verdict = result.split()
            yield n, int(kernel), int(stride), int(padding), int(size), verdict


@pytest.mark.parametrize("cell", [*written()], ids=str)
def test_the_table_of_sizes_by_brute_force(cell: tuple[int, int, int, int, int, str]) -> None:
    """Two layers, the first lifting: outputs of a turned or flipped image against the outputs turned or flipped."""
    n, kernel_size, stride, padding, size, verdict = cell
    error, found = _error_of_two_layers(n, kernel_size, stride, padding)
    assert found == size
    assert (error < 1e-10) == (verdict == "exact") == ((n + 2 * padding - kernel_size) % stride == 0)
    assert error < 1e-10 or error > 0.1, "nothing in between"


def test_every_combination_by_brute_force() -> None:
    """Beyond what the table shows, the rule alone decides."""
    for n, kernel_size, stride, padding in product((8, 9), (2, 3, 4), (2, 3), (0, 1)):
        error, _ = _error_of_two_layers(n, kernel_size, stride, padding)
        exact = (n + 2 * padding - kernel_size) % stride == 0
        assert (error < 1e-10) == exact, (n, kernel_size, stride, padding, error)


def _error_of_two_layers(n: int, kernel_size: int, stride: int, padding: int) -> tuple[float, int]:
    """The largest relative error over p4m, and the pixels after the first layer."""
    torch.manual_seed(0)
    group = O2()
    conv = layer_of(P4M, bias=False)
    form = {"implementation": "lifting", "kernel_size": kernel_size}
    lift = conv(1, 2, stride=stride, padding=padding, **form).double()
    second = conv(2, 2).double()  # the second keeps the size, and mixes elements
    images = torch.randn(1, 1, n, n, dtype=torch.float64)

    def outputs(batch: Tensor) -> Field:
        return second(lift(Field.of_images(batch, group)))

    with torch.no_grad():
        still = outputs(images)
        errors = []
        for g in still.elements[1:]:
            matrix = group.matrix(g)
            moved = outputs(warp(images, matrix))
            labels = group.chart(group.product(g[None], still.elements))
            index = (group.chart(moved.elements)[:, None] - labels).square().sum(-1).argmin(1)
            expected = warp(still.values, matrix)[:, :, index]
            errors.append(float((moved.values - expected).abs().max() / expected.abs().max()))
    return max(errors), still.values.shape[-1]


def test_even_kernels_are_exact_at_stride_one_also_with_flips() -> None:
    """GrouPy's p4m asks for odd ones."""
    for kernel_size in (2, 4):
        error, _ = _error_of_two_layers(11, kernel_size, 1, 0)
        assert error < 1e-10


def test_asymmetric_padding_is_not_exact() -> None:
    """What `SAME` pads where it cannot pad evenly: one pixel, at the far end alone."""
    torch.manual_seed(0)
    lift = layer_of(P4, implementation="lifting", stride=2, padding=0, bias=False)(1, 2).double()
    images = torch.randn(1, 1, 12, 12, dtype=torch.float64)
    same = nn.ZeroPad2d((0, 1, 0, 1))
    with torch.no_grad():
        still = lift(Field.of_images(same(images), SO2())).values.amax(2)
        moved = lift(Field.of_images(same(warp(images, TURNS[1])), SO2())).values.amax(2)
    with pytest.raises(AssertionError, match="SAME"):
        assert_close(moved, warp(still, TURNS[1]), "SAME")
