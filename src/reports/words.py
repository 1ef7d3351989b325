"""What pages take from the task, classification: its metric and loss, and how they are called and written.

Another task would say all of this otherwise, so no other module of this room names a metric.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

PRIMARY = "acc"
"""The metric that selects the best epoch, as its tags have it."""
TITLES = {PRIMARY: "accuracy", "loss": "loss"}
"""What is logged of every split, and what it is called."""
UNITS = {PRIMARY: "share of images", "loss": "cross-entropy, nats"}


def written(name: str, value: float) -> str:
    """The value of a metric; shares as percent."""
    return f"{100 * value:.2f} %" if name == PRIMARY else f"{value:.4f}"


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of every sample: (n, classes) and (n,) to (n,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def predicted(logits: Tensor) -> Tensor:
    """What samples are taken for: (n, classes) to (n,)."""
    return logits.argmax(1)
