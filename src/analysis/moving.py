"""Images and fields moved by group elements, and how far two of them are from equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import log, pi
from typing import Any

import torch
from torch import Tensor, nn

from src.analysis.look import untouched
from src.data.masks import with_planes, without_planes
from src.data.poses import turns
from src.data.warp import Border, Mode, warp
from src.groups import Dilation
from src.models import Field, GConv

KINDS = {1: ("scale",), 2: ("rotation", "scale"), 3: ("rotation", "scale")}
"""Of motions of a space of each dimension that there is a derivative by."""
BATCH = 32
"""Images at a time where nothing else decides."""


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
            stack.enter_context(conv.register_forward_pre_hook(translate, with_kwargs=True))
        yield


@contextmanager
def watched(layers: Mapping[str, GConv], see: Callable[[str, Field], None]) -> Iterator[None]:
    """Every layer's name and output are shown to `see`."""
    with ExitStack() as stack:
        for name, conv in layers.items():
            stack.enter_context(conv.register_forward_hook(lambda _conv, _args, field, name=name: see(name, field)))
        yield


def predict(net: nn.Module, images: Tensor) -> Tensor:
    """Logits, in the net's own precision."""
    with _full_precision(images.device.type):
        return net(images.to(dtype_of(net, images)))


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
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


def move(
    images: Tensor,
    matrix: Tensor,
    border: Border = "zeros",
    size: Sequence[int] | None = None,
    mode: Mode = "bilinear",
) -> Tensor:
    """All images (n, c, *space) by the same matrix (d, d); to another size if it is given."""
    return warp(images, matrix.expand(len(images), -1, -1), mode, border, size)


def outputs_under(
    net: nn.Module, images: Tensor, matrix: Tensor, border: Border = "edge", mode: Mode = "bilinear"
) -> Tensor:
    """What a net says, in float32, of images (n, c, *space) that are moved by a matrix (d, d), `BATCH` at a time."""
    moved = (move(batch, matrix, border, mode=mode) for batch in images.split(BATCH))
    return torch.cat([predict(net, batch).float() for batch in moved])


def is_dense(outputs: Tensor) -> bool:
    """Whether there are outputs for each pixel, (n, k, *space), which are to move with the images."""
    return outputs.dim() > 2


def along(outputs: Tensor, matrix: Tensor, size: Sequence[int] | None = None) -> Tensor:
    """What outputs of images are to be when those are moved: of each pixel moved as well, else the same.

    Args:
        outputs: (n, k), or (n, k, *space).
        matrix: (d, d).
        size: of the moved images, if it is another.
    """
    return move(outputs, matrix, size=size) if is_dense(outputs) else outputs


def targets_along(targets: Tensor, outputs: Tensor, matrix: Tensor, border: Border) -> Tensor:
    """What is right for moved images: classes of pixels (n, *space) move as well, all else stays.

    Args:
        targets: as a task has them.
        outputs: (n, k), or (n, k, *space).
        matrix: (d, d).
        border: of the images.
    """
    if not is_dense(outputs):
        return targets
    planes = with_planes(outputs[:, :0].to(torch.float32), targets, outputs.shape[1])
    return without_planes(move(planes, matrix, border), outputs.shape[1])[1]


def field_error(actual: Field, reference: Field, matrix: Tensor) -> float:
    """The relative error of a field, beside the moved reference, where both are defined.

    Of one pixel, or one row of them, there is nothing to move: their means are compared.
    """
    found, planes = actual.planes(), reference.planes()
    if min(planes.shape[2:]) < 2:
        return relative_error(found.flatten(2).mean(-1), planes.flatten(2).mean(-1))
    # Coordinates of pixels need more digits than half precision has.
    planes = planes.to(torch.promote_types(planes.dtype, torch.float32))
    expected, inside = move(planes, matrix, size=found.shape[2:]), _disc(found, matrix)
    return relative_error(found * inside, expected * inside)


def relative_error(actual: Tensor, expected: Tensor, unit: Tensor | None = None) -> float:
    """||actual - expected|| / ||expected||, or in units of another norm."""
    norm = torch.linalg.vector_norm(expected if unit is None else unit)
    error = torch.linalg.vector_norm(actual - expected)
    return (error / norm.clamp_min(torch.finfo(norm.dtype).tiny)).item()


def _disc(images: Tensor, matrix: Tensor) -> Tensor:
    """Which pixels lie in a centred disc that stays in the image, and came from within it."""
    radius = _half(images) / max(1.0, stretch(torch.linalg.inv(matrix)))
    # At least the pixels about the centre.
    return (_distance(images) <= max(radius, 0.375 * (images.dim() - 2))).to(images)


def faded(images: Tensor, extent: float = 1.0) -> Tensor:
    """Images that fall smoothly to zero at the rim of a disc, which stays inside them if stretched by `extent`."""
    radius = _distance(images) * extent / _half(images)
    fall = ((radius - 0.75) / 0.25).clamp(0, 1)
    return images * ((1 + torch.cos(pi * fall)) / 2).to(images)


def stretch(matrix: Tensor) -> float:
    """The longest that a matrix (..., d, d) makes a vector of length 1."""
    return torch.linalg.svdvals(matrix).max().item()


def _distance(images: Tensor) -> Tensor:
    """Of pixels from the centre, in pixels: (*space)."""
    lines = [torch.arange(n, dtype=torch.float64, device=images.device) - (n - 1) / 2 for n in images.shape[2:]]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")).square().sum(0).sqrt()


def _half(images: Tensor) -> float:
    """From the centre to the last pixel of the shorter side, in pixels."""
    return (min(images.shape[2:]) - 1) / 2


def scales(extent: float, steps: int = 4) -> Tensor:
    """From 1/extent to extent, or from 0.6 to 1.6 without dilations, in equal ratios on either side of 1."""
    low, high = (1 / extent, extent) if extent > 1 else (0.6, 1.6)
    below, above = (torch.linspace(0, log(end), steps + 1, dtype=torch.float64) for end in (low, high))
    return torch.cat([below.flip(0)[:-1], above]).exp()


def lie_derivative(net: nn.Module, images: Tensor, kind: str) -> float:
    r"""How fast logits change with the action, ||d/dt f(exp(tX) x)|| / ||f(x) - mean f|| at t = 0, over a batch.

    This is the Lie derivative of a net with invariant output, as of the paper below. The paper's code takes it of
    probabilities; here it is of logits, in units of their deviation over the batch, so that neither temperature nor a
    constant matters: 1 is a change as large as that between images, per radian or per unit of log scale.
    Where there are outputs for each pixel, those of moved images are moved back first.

    Differences are central, over a tenth of a pixel at the rim: small beside what pixels resolve, and large beside
    rounding. They are bilinear, the difference of neighbouring pixels then, whatever the step; PyTorch's bicubic kernel
    (a = -0.75) has 1.5 times the slope of a ramp at its pixels.

    Args:
        net: images (n, c, *space) to logits (n, k), or (n, k, *space).
        images: zero outside.
        kind: "rotation", of volumes about their diagonal, or "scale".

    Reference:
        The Lie Derivative for Measuring Learned Equivariance (Gruver, Finzi, Goldblum, Wilson, ICLR 2023)
        https://arxiv.org/abs/2210.02984, code: https://github.com/ngruver/lie-deriv
    """
    step, d = 0.1 / max(_half(images), 0.5), images.dim() - 2
    steps = torch.tensor([step, -step], dtype=torch.float64)
    matrices = turns(steps, d) if kind == "rotation" else Dilation(space=d).matrix(steps[:, None])
    with untouched(net):
        moved = [(predict(net, move(images, matrix)), matrix) for matrix in matrices]
        ahead, behind = (along(outputs, torch.linalg.inv(matrix)) for outputs, matrix in moved)
    logits = (ahead + behind) / 2
    return relative_error((ahead - behind) / (2 * step), torch.zeros_like(logits), logits - logits.mean(0))
