"""Any number of labels for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import MultilabelF1Score

from src.models.tasks.base import Caption, Decisions, Known, Task, check_shape, per_class, shortened


class Multilabel(Task):
    """Binary cross-entropy of logits (n, labels), as a mean over labels; targets are (n, labels) of 0 and 1.

    Args:
        labels: how many.
        metrics: names of those of `known` that are logged; the F1 score if there are no others.
        known: metrics by name, or what makes them.
        primary: one of `metrics`, or "loss".
        positive_weights: what the loss of a label that is there is multiplied by, one number for each; None is 1.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import torch
        >>> Multilabel(2).losses(torch.zeros(1, 2), torch.tensor([[1, 0]]))
        tensor([0.6931])
    """

    targets = "labels"
    titles: ClassVar[Mapping[str, str]] = {
        "f1": "F1 score",
        "acc": "accuracy of labels",
        "exact": "all labels right",
        "auroc": "area under the ROC",
        "map": "mean average precision",
    }
    shares = frozenset({"acc", "exact"})

    def __init__(
        self,
        labels: int,
        *,
        metrics: Sequence[str] = ("f1",),
        known: Known | None = None,
        primary: str = "f1",
        positive_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(labels, metrics, {"f1": MultilabelF1Score(labels)} if known is None else known, primary)
        self.register_buffer("weights", per_class(positive_weights, labels, "task.positive_weights"), persistent=False)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        check_shape("multilabel", targets, outputs.shape, "0 or 1 for each label")
        each = F.binary_cross_entropy_with_logits(
            outputs, targets.to(outputs.dtype), reduction="none", pos_weight=self.weights
        )
        return each.mean(1)

    def decisions(self, outputs: Tensor) -> Decisions:
        return outputs > 0

    def captions(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> list[Caption]:
        return [
            Caption(_listed(own, names) if right else f"{_listed(own, names)}\n→ {_listed(given, names)}", right)
            for own, given in zip(targets.bool().tolist(), self.decisions(outputs).tolist(), strict=True)
            for right in [own == given]
        ]


def _listed(there: Sequence[bool], names: Sequence[str], most: int = 2) -> str:
    """The labels that are there, the first of them by name."""
    found = [shortened(name) for name, is_there in zip(names, there, strict=True) if is_there]
    return ", ".join(found[:most]) + (f", +{len(found) - most}" if len(found) > most else "") or "none"
