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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import pi
from statistics import fmean as mean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.analysis import moving
from src.analysis.actions import LATTICE, Action, acting, actions, layers_of
from src.analysis.look import Job, untouched
from src.data.poses import turns
from src.data.warp import Border
from src.groups import Dilation
from src.models import Field
from src.models.relaxed import relaxations
from src.models.tasks import ACCURACY, Classification, Score, Task
from src.require import require_positive

LOGITS = "logits"
"""The last layer, whose values must not change at all; or, where there are some for each pixel, move with the image."""
_ROUNDING = 1e4
"""Errors of this many machine epsilons, 1.2e-3 in float32, are still rounding: of sums of thousands of products, norms,
and many layers. Sound nets were seen to come to a few, broken ones to a million."""


class Curve(NamedTuple):
    """The primary metric by angle in degrees, or by scale."""

    at: Tensor
    """(k,)"""
    score: Tensor
    """(k,)"""


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
    """By kind: how often the net as deployed decides the same for a moved image, where a task has decisions."""
    lie: dict[str, float]
    """By kind: see `moving.lie_derivative`."""
    rotation: Curve
    scale: Curve
    flaw: Flaw | None
    score: Score = ACCURACY
    """What the curves are of."""

    def worst(self, curve: Curve) -> int:
        """Where on a curve the metric is worst."""
        return int(curve.score.argmin() if self.score.higher else curve.score.argmax())

    def numbers(self) -> dict[str, float]:
        """All of them, by tag."""
        tables = {**self.errors, "agreement": self.agreement, "lie": self.lie}
        return {f"equivariance/{name}/{key}": number for name, own in tables.items() for key, number in own.items()} | {
            f"robustness/{self.score.tag}/rotation": self.rotation.score.mean().item(),
            f"robustness/{self.score.tag}/scale": self.scale.score.mean().item(),
            "robustness/worst/rotation": self.rotation.score[self.worst(self.rotation)].item(),
        }


class Study:
    """A look at one net, in tasks that can be shared among processes.

    The group is that of the net's convolutions. A net without one, such as a plain CNN, is turned by eighths (a volume
    by the rotations of the cube, and a sequence is reversed), and only its logits are compared. Layers and logits are
    compared on elements that move along, so off the grid they show how well the layers commute and not how fine the
    grid is; all else takes the net as deployed.

    Args:
        net: images (n, c, *space) to logits, in evaluation.
        images: normalised.
        targets: as the task has them.
        task: what is learned; None is classification.
        samples: images for errors, agreement and derivatives; the fields of all layers are held for so many at once.
            They are faded to zero towards the rim of a disc that every element keeps inside the image.
        elements: random ones off the grid, always the same.
        curve_samples: images for the primary metric by angle and scale, which are not faded.
        angles: in a whole turn, of volumes about their diagonal; sequences do not turn.
        border: what lies outside an unfaded image.

    Raises:
        ValueError: if a number is not a positive integer.
    """

    def __init__(
        self,
        net: nn.Module,
        images: Tensor,
        targets: Tensor,
        *,
        task: Task | None = None,
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
        extent = max(moving.stretch(self.group.matrix(g)) for _, g, _ in self.actions)
        self.images = moving.faded(images[:samples], extent)
        self.pictures, self.targets = images[:curve_samples], targets[:curve_samples]
        self.task = task
        angles = 1 if images.dim() == 3 else angles  # sequences do not turn
        self.angles = torch.arange(angles, dtype=torch.float64) * 360 / angles
        self.scales = moving.scales(self.group.extent)

    @cached_property
    def reference(self) -> tuple[dict[str, Field], Tensor]:
        """Fields and logits of the images where they are."""
        fields: dict[str, Field] = {}
        with moving.watched(self.layers, fields.__setitem__):
            return fields, moving.predict(self.net, self.images)

    def tasks(self) -> list[Job]:
        """Independent of each other, but for the reference that each process computes once."""
        d = self.images.dim() - 2
        turned, scaled = turns(self.angles * pi / 180, d), Dilation(space=d).matrix(self.scales.log()[:, None])
        matrices, images = torch.cat([turned, scaled])[:, None], (self.net, self.pictures, self.targets)
        return [
            *(partial(self.compare, action) for action in self.actions),
            *(partial(moving.lie_derivative, self.net, self.images, kind) for kind in moving.KINDS[d]),
            *(partial(score_under, *images, matrix, self.border, self.task) for matrix in matrices),
        ]

    def compare(self, action: Action) -> tuple[dict[str, float], float | None]:
        """Errors by layer, and the share of decisions that stay, if there are any."""
        matrix = self.group.matrix(action.element[0])
        size = self.images.shape[2:]
        if action.exact:  # a quarter turn takes the frame along
            size = [size[axis] for axis in matrix.abs().argmax(1).tolist()]
        moved, (fields, logits) = moving.move(self.images, matrix, size=size), self.reference
        errors: dict[str, float] = {}

        def see(name: str, field: Field) -> None:
            errors[name] = moving.field_error(field, fields[name], matrix)

        with moving.translated(self.layers, action.element), moving.watched(self.layers, see):
            errors[LOGITS] = self._error(moving.predict(self.net, moved), logits, matrix)
        task, expected = _task_of(self.task, logits), moving.along(logits, matrix, size)
        before, after = task.decisions(expected), task.decisions(moving.predict(self.net, moved))
        if before is None:
            return errors, None
        same = before == after
        if not moving.is_dense(logits):  # of all labels of an image
            same = same.flatten().unflatten(0, (len(same), -1)).all(1)
        return errors, same.double().mean().item()

    def _error(self, actual: Tensor, logits: Tensor, matrix: Tensor) -> float:
        """Of the logits of moved images, beside those of the images where they are."""
        if not moving.is_dense(logits):
            return moving.relative_error(actual, logits)
        fields = (Field.of_images(outputs, self.group) for outputs in (actual, logits))
        return moving.field_error(*fields, matrix)

    def measured(self, results: Sequence[Any]) -> Measured:
        """What the results of all tasks, in their order, come to."""
        kinds = moving.KINDS[self.images.dim() - 2]
        counts = len(self.actions), len(kinds), len(self.angles), len(self.scales)
        rest = iter(results)
        compared, slopes, turned, scaled = ([next(rest) for _ in range(count)] for count in counts)
        errors, shares = zip(*compared, strict=True)
        layers = errors[0]
        chosen: dict[str, list[int]] = {}
        for n, action in enumerate(self.actions):
            chosen.setdefault(action.kind, []).append(n)
        found = {
            kind: {layer: mean([errors[n][layer] for n in own]) for layer in layers} for kind, own in chosen.items()
        }
        if lattice := [n for n, action in enumerate(self.actions) if action.exact]:
            found[LATTICE] = {layer: max(errors[n][layer] for n in lattice) for layer in layers}
        return Measured(
            errors=found,
            agreement={k: mean([shares[n] for n in own]) for k, own in chosen.items() if None not in shares},
            lie=dict(zip(kinds, slopes, strict=True)),
            rotation=Curve(self.angles, torch.cat(turned)),
            scale=Curve(self.scales, torch.cat(scaled)),
            flaw=self._flaw({n: errors[n] for n in lattice}),
            **({} if self.task is None else {"score": self.task.score}),
        )

    def _flaw(self, errors: Mapping[int, Mapping[str, float]]) -> Flaw | None:
        """The first layer in order of execution whose error, by action, is more than rounding.

        None in nets that have relaxed, which are meant to have such errors.
        """
        if any(relaxation.spread() > 0 for relaxation in relaxations(self.net).values()):
            return None
        tolerance = _ROUNDING * torch.finfo(moving.dtype_of(self.net, self.images)).eps
        for layer in next(iter(errors.values()), {}):
            worst = max(errors, key=lambda n: errors[n][layer])
            if not errors[worst][layer] <= tolerance:
                return Flaw(layer, self.actions[worst], errors[worst][layer])
        return None


def measure(net: nn.Module, images: Tensor, targets: Tensor, **options: Any) -> Measured:
    """All of it at once, without a Trainer.

    Args:
        net: images (n, c, *space) to logits; its modes are left as they are.
        images: normalised, on the net's device.
        targets: as the task has them, (n,) for classification.
        options: of `Study`.
    """
    with untouched(net):
        study = Study(net, images, targets, **options)
        return study.measured([task() for task in study.tasks()])


def score_under(
    net: nn.Module,
    images: Tensor,
    targets: Tensor,
    matrices: Tensor,
    border: Border = "edge",
    task: Task | None = None,
) -> Tensor:
    """The primary metric on images moved by each matrix, of the net as deployed.

    Args:
        net: images (n, c, *space) to logits.
        images: normalised; black is not zero then, so what lies outside is by default the outermost pixels.
        targets: as the task has them.
        matrices: (k, d, d).
        border: see `warp`.
        task: what is learned; None is classification, whose metric is the accuracy.

    Returns:
        (k,), on the CPU.
    """

    scores = []
    with untouched(net):
        for matrix in matrices:
            outputs = moving.outputs_under(net, images, matrix, border)
            moved = moving.targets_along(targets, outputs, matrix, border)
            scores.append(_task_of(task, outputs).measured(outputs, moved))
    return torch.tensor(scores)


def _task_of(task: Task | None, outputs: Tensor) -> Task:
    """The task, or classification by outputs (n, k), or of each pixel (n, k, *space)."""
    return Classification(outputs.shape[1]) if task is None else task
