r"""How far a net is from commuting with a group: by layer, by prediction, by derivative, and by accuracy.

An element g acts on images by warp(images, matrix(g)), and on a field by Field(warp(values, g), product(g, elements)).
A layer commutes with g if on moved images, and on elements g H, its field is the moved field of the images on H.

What is no fault of the net's: moving pixels interpolates, save by quarter turns and flips, and coarsely so on the few
pixels that pools leave; convolutions pad a square with zeros, which only those keep. Such errors shrink with more
pixels and smoother images. At quarter turns and flips there is rounding and nothing else, and an error that is larger
is the net's: a kernel of absolute elements, or a stride or pool that does not keep the centre.

Dilations are measured by their inverses, which shrink: the image stays in its frame, and kernels, of which the largest
fills its window, stay in theirs. Windows without a mask cut kernels of all scales alike; that is the net's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from math import log, pi
from statistics import fmean as mean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.callbacks.probe import Task, untouched
from src.data.warp import Border, warp
from src.groups import SO2, Dilation, Group
from src.models import Field, GConv
from src.models.gconv import convolutions, require_positive

LOGITS = "logits"
"""The last layer, whose values must not change at all."""
LATTICE, RANDOM = "lattice", "random"
ROUNDING = 1e4
"""Errors of this many machine epsilons, 1.2e-3 in float32, are still rounding: of sums of thousands of products, norms,
and many layers. Sound nets were seen to come to a few, broken ones to a million."""
GENERATORS = {"rotation": ((0.0, -1.0), (1.0, 0.0)), "scale": ((1.0, 0.0), (0.0, 1.0))}
"""X of exp(t X): t is an angle in radians, or the logarithm of a scale."""
BATCH = 32
"""Images at a time where nothing else decides."""


class Action(NamedTuple):
    """A group element, and what it is measured for."""

    kind: str
    """What it does to the plane, such as "rotation"; or "random"."""
    element: Tensor
    """(1, dim)"""
    exact: bool
    """Whether a net must commute with it to rounding."""


class Curve(NamedTuple):
    """Accuracy by angle in degrees, or by scale."""

    at: Tensor
    """(k,)"""
    accuracy: Tensor
    """(k,), in [0, 1]"""


class Flaw(NamedTuple):
    """The first layer that does not commute with a quarter turn or flip, and where its error is largest."""

    layer: str
    action: Action
    error: float


@dataclass(frozen=True)
class Measured:
    """What `measure` found.

    Errors are ||actual - expected|| / ||expected|| over a batch, in a centred disc, by layer in the order of execution.
    """

    errors: dict[str, dict[str, float]]
    """By kind, then by layer: means over the grid's elements of that kind. "random" are elements off the grid,
    "lattice" is the largest over quarter turns and flips."""
    agreement: dict[str, float]
    """By kind: how often the net as deployed predicts the same for a moved image."""
    lie: dict[str, float]
    """By kind: see `lie_derivative`."""
    rotation: Curve
    scale: Curve
    flaw: Flaw | None

    def numbers(self) -> dict[str, float]:
        """All of them, by tag."""
        errors = {f"{kind}/{layer}": error for kind, own in self.errors.items() for layer, error in own.items()}
        shares = {f"agreement/{kind}": share for kind, share in self.agreement.items()}
        slopes = {f"lie/{kind}": slope for kind, slope in self.lie.items()}
        return {f"equivariance/{tag}": number for tag, number in (errors | shares | slopes).items()} | {
            "robustness/accuracy/rotation": self.rotation.accuracy.mean().item(),
            "robustness/accuracy/scale": self.scale.accuracy.mean().item(),
            "robustness/worst/rotation": self.rotation.accuracy.min().item(),
        }


class Study:
    """A look at one net, in tasks that can be shared among processes.

    The group is that of the net's convolutions. A net without one, such as a plain CNN, is turned by eighths, and only
    its logits are compared. Layers and logits are compared on elements that move along, so off the grid they show how
    well the layers commute and not how fine the grid is; all else takes the net as deployed.

    Args:
        net: images (n, c, y, x) to logits, in evaluation.
        images: normalised.
        labels: (n,).
        samples: images for errors, agreement and derivatives; the fields of all layers are held for so many at once.
            They are faded to zero towards the rim of a disc that every element keeps inside the image.
        elements: random ones off the grid, always the same.
        curve_samples: images for accuracy by angle and scale, which are not faded.
        angles: in a whole turn.
        border: what lies outside an unfaded image.

    Raises:
        ValueError: if a number is not a positive integer.
    """

    def __init__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        samples: int = 32,
        elements: int = 4,
        curve_samples: int = 128,
        angles: int = 16,
        border: Border = "edge",
    ) -> None:
        require_positive(samples=samples, elements=elements, curve_samples=curve_samples, angles=angles)
        self.net, self.border = net, border
        self.group, sizes, own = acting(net)
        self.layers = layers_of(net) if own else {}
        self.actions = actions(self.group, sizes, elements, promised=own)
        self.images = faded(images[:samples], max(stretch(self.group.matrix(g)) for _, g, _ in self.actions))
        self.pictures, self.labels = images[:curve_samples], labels[:curve_samples]
        self.angles = torch.arange(angles, dtype=torch.float64) * 360 / angles
        self.scales = scales(self.group.extent)

    @cached_property
    def reference(self) -> tuple[dict[str, Field], Tensor]:
        """Fields and logits of the images where they are."""
        fields: dict[str, Field] = {}
        with watched(self.layers, fields.__setitem__):
            return fields, predict(self.net, self.images)

    def tasks(self) -> list[Task]:
        """Independent of each other, but for the reference that each process computes once."""
        turns = SO2().matrix((self.angles * pi / 180)[:, None])
        sizes = Dilation().matrix(self.scales.log()[:, None])
        return [
            *(partial(self.compare, action) for action in self.actions),
            *(partial(lie_derivative, self.net, self.images, kind) for kind in GENERATORS),
            *(partial(self.accuracy, matrix) for matrix in torch.cat([turns, sizes])),
        ]

    def compare(self, action: Action) -> tuple[dict[str, float], float]:
        """Errors by layer, and the share of predictions that stay."""
        matrix = self.group.matrix(action.element[0])
        size = self.images.shape[-2:]
        if action.exact and matrix[0, 0].abs() < 0.5:  # a quarter turn takes the frame along
            size = size[::-1]
        moved, (fields, logits) = move(self.images, matrix, size=size), self.reference
        errors: dict[str, float] = {}

        def see(name: str, field: Field) -> None:
            errors[name] = field_error(field, fields[name], matrix)

        with translated(self.layers, action.element), watched(self.layers, see):
            errors[LOGITS] = relative_error(predict(self.net, moved), logits)
        same = predict(self.net, moved).argmax(-1) == logits.argmax(-1)
        return errors, same.double().mean().item()

    def accuracy(self, matrix: Tensor) -> float:
        """On images moved by a matrix (2, 2)."""
        return accuracy_under(self.net, self.pictures, self.labels, matrix[None], self.border).item()

    def measured(self, results: Sequence[Any]) -> Measured:
        """What the results of all tasks, in their order, come to."""
        counts = len(self.actions), len(GENERATORS), len(self.angles), len(self.scales)
        rest = iter(results)
        compared, slopes, turned, scaled = ([next(rest) for _ in range(count)] for count in counts)
        errors, shares = zip(*compared, strict=True)
        layers = errors[0]
        chosen = {kind: [n for n, action in enumerate(self.actions) if action.kind == kind] for kind in self.kinds}
        found = {
            kind: {layer: mean([errors[n][layer] for n in own]) for layer in layers} for kind, own in chosen.items()
        }
        if lattice := [n for n, action in enumerate(self.actions) if action.exact]:
            found[LATTICE] = {layer: max(errors[n][layer] for n in lattice) for layer in layers}
        return Measured(
            errors=found,
            agreement={kind: mean([shares[n] for n in own]) for kind, own in chosen.items()},
            lie=dict(zip(GENERATORS, slopes, strict=True)),
            rotation=Curve(self.angles, torch.tensor(turned)),
            scale=Curve(self.scales, torch.tensor(scaled)),
            flaw=self._flaw({n: errors[n] for n in lattice}),
        )

    @property
    def kinds(self) -> list[str]:
        """Of the actions, in their order."""
        return list(dict.fromkeys(action.kind for action in self.actions))

    def _flaw(self, errors: Mapping[int, Mapping[str, float]]) -> Flaw | None:
        """The first layer in order of execution whose error, by action, is more than rounding."""
        tolerance = ROUNDING * torch.finfo(dtype_of(self.net, self.images)).eps
        for layer in next(iter(errors.values()), {}):
            worst = max(errors, key=lambda n: errors[n][layer])
            if not errors[worst][layer] <= tolerance:
                return Flaw(layer, self.actions[worst], errors[worst][layer])
        return None


def measure(net: nn.Module, images: Tensor, labels: Tensor, **options: Any) -> Measured:
    """All of it at once, without a Trainer.

    Args:
        net: images (n, c, y, x) to logits; its modes are left as they are.
        images: normalised, on the net's device.
        labels: (n,).
        options: of `Study`.
    """
    with untouched(net):
        study = Study(net, images, labels, **options)
        return study.measured([task() for task in study.tasks()])


def accuracy_under(net: nn.Module, images: Tensor, labels: Tensor, matrices: Tensor, border: Border = "edge") -> Tensor:
    """Accuracy on images moved by each matrix, of the net as deployed.

    Args:
        net: images (n, c, y, x) to logits.
        images: normalised; black is not zero then, so what lies outside is by default the outermost pixels.
        labels: (n,).
        matrices: (k, 2, 2), acting on (y, x).
        border: see `warp`.

    Returns:
        (k,), on the CPU.
    """

    def right(matrix: Tensor) -> int:
        batches = zip(images.split(BATCH), labels.split(BATCH), strict=True)
        return sum(
            int((predict(net, move(batch, matrix, border)).argmax(-1) == truth).sum()) for batch, truth in batches
        )

    with untouched(net):
        return torch.tensor([right(matrix) / len(labels) for matrix in matrices])


def lie_derivative(net: nn.Module, images: Tensor, kind: str) -> float:
    r"""How fast logits change with the action, ||d/dt f(exp(tX) x)|| / ||f(x) - mean f|| at t = 0, over a batch.

    This is the Lie derivative of a net with invariant output, as of the paper below. The paper's code takes it of
    probabilities; here it is of logits, in units of their deviation over the batch, so that neither temperature nor a
    constant matters: 1 is a change as large as that between images, per radian or per unit of log scale.

    Differences are central, over a tenth of a pixel at the rim: small beside what pixels resolve, and large beside
    rounding. They are bilinear, the difference of neighbouring pixels then, whatever the step; PyTorch's bicubic kernel
    (a = -0.75) has 1.5 times the slope of a ramp at its pixels.

    Args:
        net: images (n, c, y, x) to logits.
        images: zero outside.
        kind: "rotation" or "scale".

    Reference:
        The Lie Derivative for Measuring Learned Equivariance (Gruver, Finzi, Goldblum, Wilson, ICLR 2023)
        https://arxiv.org/abs/2210.02984, code: https://github.com/ngruver/lie-deriv
    """
    step = 0.1 / max(half(images), 0.5)
    generator = step * torch.tensor(GENERATORS[kind], dtype=torch.float64)
    with untouched(net):
        ahead, behind = (predict(net, move(images, torch.matrix_exp(sign * generator))) for sign in (1, -1))
    logits = (ahead + behind) / 2
    return relative_error((ahead - behind) / (2 * step), torch.zeros_like(logits), logits - logits.mean(0))


def kinds(group: Group, sizes: Sequence[int]) -> dict[str, Tensor]:
    """Elements of a grid that move the plane, each in one part of the group alone, by what they do.

    They are rotation, reflection or scale by their matrices; others have the name of their group's class.

    Args:
        group: H.
        sizes: as for `group.grid`.

    Returns:
        (n, dim) of each kind.
    """
    found: dict[str, list[Tensor]] = {}
    for n, (part, own) in enumerate(group.part_sizes(group.sizes(sizes))):
        for element in part.grid(*own):
            if (kind := kind_of(part, element)) is not None:
                found.setdefault(kind, []).append(embedded(group, n, element))
    return {kind: torch.stack(elements) for kind, elements in found.items()}


def kind_of(part: Group, element: Tensor) -> str | None:
    """What an element (dim,) of one part does to the plane; None for nothing."""
    matrix = part.matrix(element)
    eye = torch.eye(2).to(matrix)
    if torch.allclose(matrix, eye):
        return None
    if torch.allclose(matrix @ matrix.mT, eye):
        return "rotation" if torch.linalg.det(matrix) > 0 else "reflection"
    if torch.allclose(matrix, matrix[0, 0] * eye):
        return "scale"
    return type(part).__name__.lower()


def embedded(group: Group, n: int, element: Tensor) -> Tensor:
    """The element (dim,) of the whole group that is `element` in part n, and the identity in all others."""
    coordinates = list(group.split(group.identity[0]))
    coordinates[n] = element
    return torch.cat(coordinates)


def actions(group: Group, sizes: Sequence[int], random: int, promised: bool = True) -> list[Action]:
    """The grid's elements by kind, then random ones off the grid; inverses of those that enlarge.

    Args:
        group: H.
        sizes: as for `group.grid`.
        random: how many random ones; of a finite group those that are not of the grid.
        promised: whether the net is meant to commute with the group.
    """
    chosen = [(kind, element) for kind, elements in kinds(group, sizes).items() for element in elements]
    grid = group.matrix(group.grid(*group.sizes(sizes)))
    for element in group.random(random, torch.Generator().manual_seed(0)):
        if not torch.isclose(group.matrix(element), grid).all(-1).all(-1).any():
            chosen.append((RANDOM, element))
    inward = [(kind, group.inverse(g) if group.det(g) > 1 + 1e-9 else g) for kind, g in chosen]
    return [Action(kind, g[None], promised and bool(group.lattice_exact(g))) for kind, g in inward]


def acting(net: nn.Module) -> tuple[Group, tuple[int, ...], bool]:
    """The group that a net is measured with, the sizes of its grid, and whether it is the net's own."""
    for conv in layers_of(net).values():
        if kinds(conv.group, conv.elements):
            return conv.group, conv.elements, True
    return SO2(), (8,), False


def layers_of(net: nn.Module) -> dict[str, GConv]:
    """Group convolutions by name, without the `net.` of a LightningModule."""
    return {name.removeprefix("net."): conv for name, conv in convolutions(net).items()}


@contextmanager
def translated(layers: Mapping[str, GConv], g: Tensor) -> Iterator[None]:
    """Lifting layers put their output on g H instead of H, and the layers after them follow.

    Args:
        layers: group convolutions.
        g: (1, dim).
    """

    def translate(conv: GConv, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        field, *given = args
        lifts = len(field.elements) == 1 < len(conv.kernel.grid) and not given and kwargs.get("elements") is None
        moved = {"elements": conv.group.product(g, conv.kernel.grid)} if lifts else {}
        return args, kwargs | moved

    with ExitStack() as stack:
        for conv in layers.values():
            stack.callback(conv.register_forward_pre_hook(translate, with_kwargs=True).remove)
        yield


@contextmanager
def watched(layers: Mapping[str, GConv], see: Callable[[str, Field], None]) -> Iterator[None]:
    """Every layer's name and output are shown to `see`."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _conv, _args, field: see(name, field)

    with ExitStack() as stack:
        for name, conv in layers.items():
            stack.callback(conv.register_forward_hook(hook(name)).remove)
        yield


def predict(net: nn.Module, images: Tensor) -> Tensor:
    """Logits, in the net's own precision."""
    with full_precision(images.device.type):
        return net(images.to(dtype_of(net, images)))


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Neither autocast nor the shortened products of GPUs, whose errors of 1e-3 would hide those looked for."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def dtype_of(net: nn.Module, images: Tensor) -> torch.dtype:
    """That of the net's parameters; that of the images if it has none."""
    return next(net.parameters(), images).dtype


def move(images: Tensor, matrix: Tensor, border: Border = "zeros", size: Sequence[int] | None = None) -> Tensor:
    """All images (n, c, y, x) by the same matrix (2, 2); to another size (y, x) if it is given."""
    return warp(images, matrix.expand(len(images), 2, 2), border=border, size=size)


def field_error(actual: Field, reference: Field, matrix: Tensor) -> float:
    """The relative error of a field, beside the moved reference, where both are defined."""
    found, planes = actual.planes(), reference.planes()
    # Coordinates of pixels need more digits than half precision has.
    planes = planes.to(torch.promote_types(planes.dtype, torch.float32))
    expected, inside = move(planes, matrix, size=found.shape[-2:]), disc(found, matrix)
    return relative_error(found * inside, expected * inside)


def relative_error(actual: Tensor, expected: Tensor, unit: Tensor | None = None) -> float:
    """||actual - expected|| / ||expected||, or in units of another norm."""
    norm = torch.linalg.vector_norm(expected if unit is None else unit)
    error = torch.linalg.vector_norm(actual - expected)
    return (error / norm.clamp_min(torch.finfo(norm.dtype).tiny)).item()


def disc(images: Tensor, matrix: Tensor) -> Tensor:
    """Which pixels (y, x) lie in a centred disc that stays in the image, and came from within it."""
    radius = half(images) / max(1.0, stretch(torch.linalg.inv(matrix)))
    # At least the four pixels about the centre.
    return (distance(images) <= max(radius, 0.75)).to(images)


def faded(images: Tensor, extent: float = 1.0) -> Tensor:
    """Images that fall smoothly to zero at the rim of a disc, which stays inside them if stretched by `extent`."""
    radius = distance(images) * extent / half(images)
    fall = ((radius - 0.75) / 0.25).clamp(0, 1)
    return images * ((1 + torch.cos(pi * fall)) / 2).to(images)


def stretch(matrix: Tensor) -> float:
    """The longest that a matrix (..., 2, 2) makes a vector of length 1."""
    return torch.linalg.svdvals(matrix).max().item()


def distance(images: Tensor) -> Tensor:
    """Of pixels from the centre: (y, x), in pixels."""
    lines = [torch.arange(n, dtype=torch.float64, device=images.device) - (n - 1) / 2 for n in images.shape[-2:]]
    return torch.hypot(lines[0][:, None], lines[1])


def half(images: Tensor) -> float:
    """From the centre to the last pixel of the shorter side, in pixels."""
    return (min(images.shape[-2:]) - 1) / 2


def scales(extent: float, steps: int = 4) -> Tensor:
    """From 1/extent to extent, or from 0.6 to 1.6 without dilations, in equal ratios on either side of 1."""
    low, high = (1 / extent, extent) if extent > 1 else (0.6, 1.6)
    below, above = (torch.linspace(0, log(end), steps + 1, dtype=torch.float64) for end in (low, high))
    return torch.cat([below.flip(0)[:-1], above]).exp()
