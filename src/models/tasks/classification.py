"""One class for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from src.models.tasks.base import Caption, Decisions, Known, Score, Task, check_shape, per_class, shortened
from src.require import require_probability

ACCURACY = Score("accuracy", higher=True, share=True)


class Classification(Task):
    """Cross-entropy of logits (n, classes) and classes (n,).

    Args:
        classes: how many.
        metrics: names of those of `known` that are logged; accuracy if there are no others.
        known: metrics by name, or what makes them.
        primary: one of `metrics`, or "loss".
        label_smoothing: share of the probability that is spread over all classes.
        class_weights: what the loss of a sample is multiplied by, one number for each class; None is 1.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import torch
        >>> task = Classification(3)
        >>> task.primary, task.mode, task.written("test/acc", 0.5)
        ('acc', 'max', '50.00 %')
        >>> task.losses(torch.zeros(1, 3), torch.tensor([2]))
        tensor([1.0986])
    """

    targets = "class"
    titles: ClassVar[Mapping[str, str]] = {
        "acc": "accuracy",
        "top5": "top-5 accuracy",
        "f1": "F1 score",
        "auroc": "area under the ROC",
        "nll": "negative log-likelihood",
        "ece": "calibration error",
    }
    shares = frozenset({"acc", "top5"})

    def __init__(
        self,
        classes: int,
        *,
        metrics: Sequence[str] = ("acc",),
        known: Known | None = None,
        primary: str = "acc",
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        if known is None:
            known = {"acc": MulticlassAccuracy(classes, average="micro")}
        super().__init__(classes, metrics, known, primary)
        require_probability(**{"task.label_smoothing": label_smoothing})
        self.label_smoothing = label_smoothing
        self.register_buffer("weights", per_class(class_weights, classes, "task.class_weights"), persistent=False)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # Of every pixel where there are pixels, as in segmentation.
        check_shape(type(self).__name__.lower(), targets, outputs.shape[:1] + outputs.shape[2:], "classes, int64")
        losses = F.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.label_smoothing)
        # Not the weights of `cross_entropy`, whose mean over a batch depends on how the batch is shared out.
        return losses if self.weights is None else losses * self.weights[targets]

    def decisions(self, outputs: Tensor) -> Decisions:
        return outputs.argmax(1)

    def captions(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> list[Caption]:
        confidences, predictions = (found.tolist() for found in outputs.float().softmax(1).max(1))
        captions = []
        for label, predicted, confidence in zip(targets.tolist(), predictions, confidences, strict=True):
            mistaken = "" if label == predicted else f"\n→ {shortened(names[predicted])}"
            text = f"{shortened(names[label])}{mistaken}, {100 * confidence:.0f}%"
            captions.append(Caption(text, label == predicted))
        return captions


class NegativeLogLikelihood(MeanMetric):
    """The mean of -log p of the right class, in nats, whatever the loss has besides.

    Strictly proper: it is lowest for the true probabilities. Logits (n, classes), classes (n,).
    """

    higher_is_better = False

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add samples."""
        super().update(F.cross_entropy(outputs, targets, reduction="none"))
