"""The laws, as checkers that raise AssertionError: each has a negative control in the tests that must fail.

A group element g acts on a field by moving its values and its labels:
g.f = Field(warp(values, g), product(g, elements)).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from src.groups import Group
from src.models import Field, GConv
from src.models.seeded_generator import SeededGenerator

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def assert_close(actual: Tensor, expected: Tensor, what: str, tolerance: float | None = None) -> None:
    """Relative to the largest expected number; two tensors of zeros prove nothing and are refused."""
    assert actual.shape == expected.shape, f"{what}: shapes {tuple(actual.shape)} and {tuple(expected.shape)}"
    scale = expected.detach().abs().max()
    assert scale > 0, f"{what}: all zero"
    error = ((actual - expected).detach().abs().max() / scale).item()
    tolerance = TOLERANCE[expected.dtype] if tolerance is None else tolerance
    assert error <= tolerance, f"{what}: relative error {error:.1e} above {tolerance:.0e}"


def warp(values: Tensor, matrix: Tensor) -> Tensor:
    """Move images (..., *space) by a matrix that maps the pixel grid to itself: by flips and exchanged axes alone."""
    assert torch.allclose(matrix, matrix.round()), "warp: not a quarter turn or flip"
    matrix, d = matrix.round().long(), len(matrix)
    # result(u) = image(M^-1 u) and M^-1 = M^T: the result's axis k is the image's axis j where M[k, j] is not 0.
    source = matrix.abs().argmax(1).tolist()
    first = values.dim() - d
    values = values.permute(*range(first), *(first + j for j in source))
    axes = [first + k for k, j in enumerate(source) if matrix[k, j] < 0]
    return values.flip(axes) if axes else values


def act(field: Field, group: Group, g: Tensor) -> Field:
    """g.f for one element g (1, dim) that is exact on the pixel grid."""
    return Field(warp(field.values, group.matrix(g[0])), group.product(g, field.elements))


def exact_elements(group: Group, sizes: tuple[int, ...]) -> Tensor:
    """The elements of a grid that map the pixel grid to itself: (n, dim)."""
    grid = group.grid(*sizes)
    return grid[group.lattice_exact(grid)]


def check_group(group: Group, sizes: tuple[int, ...], closed: bool) -> None:
    """Associativity, inverse, a homomorphism that acts, charts of relative elements, and samplings inside the range."""
    generator = torch.Generator().manual_seed(0)
    a, b, c = (group.random(7, generator) for _ in range(3))
    matrix, eye = group.matrix, torch.eye(group.space, dtype=torch.float64).expand(7, -1, -1)
    left, right = group.product(group.product(a, b), c), group.product(a, group.product(b, c))
    assert_close(matrix(left), matrix(right), "associativity")
    if group.dim:
        chart_left, chart_right = group.chart(left), group.chart(right)
        assert_close(chart_left, chart_right, "associativity in the chart")
    assert_close(matrix(group.product(a, group.inverse(a))), eye, "right inverse")
    assert_close(matrix(group.product(group.inverse(a), a)), eye, "left inverse")
    assert_close(matrix(group.product(a, b)), matrix(a) @ matrix(b), "homomorphism")
    u = torch.randn(7, group.space, dtype=torch.float64, generator=generator)
    assert_close(group.act(a, group.act(b, u)), group.act(group.product(a, b), u), "action")
    assert_close(group.det(a), torch.linalg.det(matrix(a)).abs(), "determinant")
    pairs = group.relative(a, b)
    assert pairs.shape == (7, 7, group.dim), "relative: one element for each pair"
    assert_close(matrix(pairs[2, 5]), torch.linalg.inv(matrix(a[2])) @ matrix(b[5]), "relative")
    assert group.chart(a).shape[-1] == sum(axis.columns for axis in group.axes(*sizes)), "chart: columns of its axes"
    grid = group.grid(*sizes)
    assert len(distinct(group, grid)) == len(grid), "grid: elements repeat"
    if closed:
        everything = torch.cat([grid, group.product(grid[:, None], grid[None]).flatten(0, 1)])
        assert len(distinct(group, everything)) == len(grid), "grid: not closed"
    for elements in (grid, group.sample(sizes, generator), group.random(50, generator)):
        scale = group.det(elements) ** (1 / group.space)
        inside = (scale >= 1 - 1e-9) & (scale <= group.extent + 1e-9)
        assert inside.all(), "samples outside [1, extent]"


def distinct(group: Group, elements: Tensor) -> Tensor:
    """Different elements, told apart by chart."""
    return torch.unique(group.chart(elements).round(decimals=6) + 0.0, dim=0) if group.dim else elements[:1]


def check_invariance(conv: GConv, a: Tensor, b: Tensor, g: Tensor) -> None:
    """W1: weight(ga, gb) on g.u, times |det g|, equals weight(a, b) on u, for any g."""
    group, u = conv.group, conv.kernel.offsets()
    moved = conv.weight(group.product(g, a), group.product(g, b), group.act(g, u)) * group.det(g).to(conv.kernel.gain)
    assert_close(moved, conv.weight(a, b), "W1 invariance")


def check_naturality(conv: GConv, a: Tensor, b: Tensor) -> None:
    """W2: an entry of the weight depends only on its own two elements."""
    generator = torch.Generator().manual_seed(1)
    p = torch.randint(len(a), (len(a) + 2,), generator=generator)
    q = torch.randint(len(b), (len(b) + 2,), generator=generator)
    assert_close(conv.weight(a[p], b[q]), conv.weight(a, b)[:, p][:, :, :, q], "W2 naturality")


def check_layer(conv: GConv, field: Field, a: Tensor, g: Tensor) -> None:
    """W3: conv(g.f, g.a) equals g.conv(f, a), for g exact on the pixel grid."""
    expected = act(conv(field, a), conv.group, g)
    actual = conv(act(field, conv.group, g), conv.group.product(g, a))
    assert_close(conv.group.matrix(actual.elements), conv.group.matrix(expected.elements), "W3 labels")
    assert_close(actual.values, expected.values, "W3 layer")


def check_net(net: nn.Module, images: Tensor, matrices: Tensor, seed: int | None = None) -> None:
    """Logits are invariant, or turn with the images where there are some for each pixel.

    With a seed, the net may draw random numbers, the same for all.
    """

    def logits(batch: Tensor) -> Tensor:
        if seed is not None:
            torch.manual_seed(seed)
            for index, module in enumerate(net.modules()):
                if isinstance(module, SeededGenerator):
                    module.generator.manual_seed(seed + index)  # each layer draws elements of its own
        return net(batch)

    with torch.no_grad():
        expected = logits(images)
        dense = expected.dim() == images.dim()
        assert not dense or expected.flatten(2).std(-1).max() > 1e-6, "the same at every pixel proves nothing"
        for matrix in matrices:
            moved = warp(expected, matrix) if dense else expected
            assert_close(logits(warp(images, matrix)), moved, f"invariance under {matrix.round().tolist()}")


def check_paths(conv: GConv, field: Field, a: Tensor) -> None:
    """The path that the layer chooses equals the dense truth, in values and in gradients of every parameter."""
    expected, expected_grads = run(conv, field, a, "dense")
    for path in ("auto", "sequential") if len(conv.stages) > 1 else ("auto",):
        actual, grads = run(conv, field, a, path)
        assert_close(actual, expected, f"{path} path")
        for name in expected_grads:
            # The weights of a coordinate that is zero everywhere, as on a 1x1 window, have no gradient on any path.
            if expected_grads[name].any() or grads[name].any():
                assert_close(grads[name], expected_grads[name], f"gradient of {name} on the {path} path")
    baked = conv.bake(a, field.elements)(field.values.flatten(1, 2)).unflatten(1, (conv.out_channels, len(a)))
    assert_close(baked, expected, "baked")


def run(conv: GConv, field: Field, a: Tensor, path: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Values, and gradients of a fixed function of them, with the layer's path set for the moment."""
    before, conv.path = conv.path, path
    conv.zero_grad()
    values = conv(field, a).values
    (values * torch.linspace(-1, 1, values.numel()).view_as(values)).sum().backward()
    conv.path = before
    return values.detach(), {name: parameter.grad.clone() for name, parameter in conv.named_parameters()}


def check_scale(make: type, inputs: int, size: int, trials: int = 6) -> None:
    """White noise of unit variance keeps it, at initialisation, on average over elements, channels and draws."""
    variances = []
    for seed in range(trials):
        torch.manual_seed(seed)
        conv = make()
        b = conv.kernel.grid if conv.kernel.carried else conv.group.identity
        values = torch.randn(2, inputs, len(b), *(size,) * conv.group.space)
        inside = (slice(conv.kernel_size // 2, -(conv.kernel_size // 2)),) * conv.group.space
        with torch.no_grad():
            out = conv(Field(values, b), conv.kernel.grid).values[..., *inside]
        variances.append(out.square().mean())
    mean = torch.stack(variances).mean().item()
    assert 0.7 < mean < 1.4, f"scale: variance {mean:.2f} instead of 1"
