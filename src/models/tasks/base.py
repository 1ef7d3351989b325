"""What a task is: a loss of every sample, metrics, and how what a net predicts is put into words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

Decisions = Tensor
"""(n, ...): what a net decides for each sample, to be compared for equality."""


Known = Mapping[str, Metric | Callable[[], Metric]]
"""Metrics by name, or what makes them, which is called only for those that are logged."""


class Caption(NamedTuple):
    """What is written below a sample."""

    text: str
    right: bool | None
    """Whether the net is right; None where a prediction is near or far and not right or wrong."""


class Score(NamedTuple):
    """What is to be known of a metric to show it."""

    title: str
    higher: bool
    """Whether more of it is better."""
    share: bool
    """Whether it is from 0 to 1, and written in percent."""

    @property
    def tag(self) -> str:
        """The title as a part of a tag."""
        return self.title.replace(" ", "_")


class Task(nn.Module, ABC):
    """A loss, the metrics that are logged beside it, and the primary one, which selects the best epoch and is shown.

    A task is one class with the abstract methods below, and one file of configs/task.

    Args:
        outputs: numbers that the net gives for an image.
        metrics: names of those of `known` that are logged.
        known: metrics by name, or what makes them; each is updated with outputs and targets, and computes one number.
        primary: one of `metrics`, or "loss".

    Raises:
        ValueError: if a metric is not known, or the primary one is not logged.
    """

    targets: ClassVar[Literal["class", "labels", "values", "pixels"]]
    """What is learned of an image: its class, (n,) of int64; its labels, (n, k) of 0 and 1; (n, k) values; or the class
    of each pixel, (n, *space) of int64, of outputs (n, k, *space)."""
    titles: ClassVar[Mapping[str, str]] = {}
    """What metrics are called; others by their own names."""
    shares: ClassVar[frozenset[str]] = frozenset()
    """Metrics that are written in percent."""

    def __init__(self, outputs: int, metrics: Sequence[str], known: Known, primary: str) -> None:
        super().__init__()
        if unknown := [name for name in metrics if name not in known]:
            raise ValueError(
                f"`task.metrics` must be of those in `task.known`, {', '.join(known)}, but got {', '.join(unknown)}."
            )
        if primary not in ("loss", *metrics):
            raise ValueError(
                f"`task.primary` must be loss or one of `task.metrics`, {', '.join(metrics) or 'which has none'}, but "
                f"got {primary!r}."
            )
        self.outputs, self.primary = outputs, primary
        # Prototypes, which are copied and never updated; not modules of the task, as they learn nothing.
        self._known = {name: own if isinstance(own := known[name], Metric) else own() for name in metrics}

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of every sample: outputs (n, k), targets -> (n,)."""

    @abstractmethod
    def captions(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> list[Caption]:
        """What is written below samples.

        Args:
            outputs: (n, k).
            targets: see `targets`.
            names: of the classes, the labels, or the values.
        """

    def decisions(self, outputs: Tensor) -> Decisions | None:
        """What is decided for each sample, (n, ...); None where nothing is decided, as in regression."""
        return None

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss, (): outputs (n, k), targets as `targets` says."""
        return self.losses(outputs, targets).mean()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what is logged beside the loss."""
        return tuple(self._known)

    def meter(self, name: str | None = None) -> Metric:
        """A new metric, or the loss: updated with outputs and targets, it computes one number.

        Args:
            name: one of `metrics`, or "loss"; None is the primary one.
        """
        name = self.primary if name is None else name
        return Loss(self) if name == "loss" else self._known[name].clone()

    def measured(self, outputs: Tensor, targets: Tensor) -> float:
        """The primary metric of some samples, in this process alone: outputs (n, k), targets as `targets` says."""
        meter = self.meter().to(outputs.device)
        meter.distributed_available_fn = lambda: False  # others look at other samples, and would not answer
        meter.update(outputs, targets)
        return float(meter.compute())

    def direction(self, name: str) -> Literal["max", "min"]:
        """Which values of a metric are better.

        Args:
            name: as logged, such as "val/acc", or without the stage.

        Raises:
            ValueError: if the metric does not say, or is none of the task's.
        """
        short = name.rpartition("/")[2]
        higher = False if short == "loss" else getattr(self._known.get(short), "higher_is_better", None)
        if higher is None:
            raise ValueError(
                f"`callbacks.checkpoint.mode` must be max or min, as {name!r} is not the loss nor one of "
                f"{', '.join(self.metrics)}, or does not say which is better."
            )
        return "max" if higher else "min"

    @property
    def mode(self) -> Literal["max", "min"]:
        """Which values of the primary metric are better."""
        return self.direction(self.primary)

    @property
    def score(self) -> Score:
        """The primary metric."""
        return Score(self.title(self.primary), self.mode == "max", self.primary in self.shares)

    @classmethod
    def title(cls, name: str) -> str:
        """What a metric is called.

        >>> from src.models.tasks import Regression
        >>> Regression.title("mae")
        'mean absolute error'
        """
        return cls.titles.get(name, name)

    @classmethod
    def written(cls, name: str, value: float | None) -> str:
        """A value of a metric, of any stage, as it is shown; "-" where there is none.

        >>> from src.models.tasks import Classification
        >>> Classification.written("test/acc", 0.5)
        '50.00 %'
        """
        if value is None:
            return "-"
        return f"{100 * value:.2f} %" if name.rpartition("/")[2] in cls.shares else f"{value:.4f}"


class Loss(MeanMetric):
    """The mean loss of a task, as a metric of outputs and targets."""

    higher_is_better = False

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._losses = task.losses

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add samples."""
        super().update(self._losses(outputs, targets).detach())


def check_shape(name: str, tensor: Tensor, shape: Sequence[int], dtypes: str) -> None:
    """Raises ValueError, with what is expected, unless a tensor of targets has this shape."""
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(
            f"targets of task={name} must be {dtypes} of shape {tuple(shape)}, but got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}; choose the task that fits the data, or correct what the data set gives."
        )


def shortened(name: str, most: int = 10) -> str:
    """The beginning of a long name.

    >>> shortened("elliptical galaxy")
    'elliptica…'
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def per_class(weights: Sequence[float] | None, outputs: int, key: str) -> Tensor | None:
    """Weights of classes or labels as a tensor (k,).

    Raises:
        ValueError: if they are not one positive number for each.
    """
    if weights is None:
        return None
    if len(weights) != outputs or any(not weight > 0 for weight in weights):
        raise ValueError(f"`{key}` must be {outputs} positive numbers, one for each output, but got {list(weights)}.")
    return torch.tensor(list(weights), dtype=torch.float32)
