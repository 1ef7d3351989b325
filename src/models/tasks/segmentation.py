"""One class for each pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from src.models.tasks.base import Caption, Known
from src.models.tasks.classification import Classification


class Segmentation(Classification):
    """Cross-entropy of logits (n, classes, *space) and classes (n, *space), as a mean over pixels.

    Args:
        classes: how many.
        metrics: names of those of `known` that are logged; the mean intersection over union if there are no others.
        known: metrics by name, or what makes them.
        primary: one of `metrics`, or "loss".
        options: `label_smoothing` and `class_weights`, as of `Classification`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import torch
        >>> Segmentation(3).losses(torch.zeros(1, 3, 2, 2), torch.tensor([[[2, 0], [1, 1]]]))
        tensor([1.0986])
    """

    targets = "pixels"
    titles: ClassVar[Mapping[str, str]] = {
        "iou": "mean intersection over union",
        "acc": "accuracy of pixels",
        "f1": "F1 score",
        "nll": "negative log-likelihood",
    }
    shares = frozenset({"iou", "acc"})

    def __init__(
        self,
        classes: int,
        *,
        metrics: Sequence[str] = ("iou",),
        known: Known | None = None,
        primary: str = "iou",
        **options: Any,
    ) -> None:
        known = {"iou": MulticlassJaccardIndex(classes)} if known is None else known
        super().__init__(classes, metrics=metrics, known=known, primary=primary, **options)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().losses(outputs, targets).flatten(1).mean(1)

    def captions(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> list[Caption]:
        right = (self.decisions(outputs) == targets).flatten(1).double().mean(1)
        return [Caption(f"{100 * share:.0f}% of pixels", None) for share in right.tolist()]
