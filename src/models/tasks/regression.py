"""Numbers for each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanAbsoluteError

from src.models.tasks.base import Caption, Known, Task, check_shape
from src.require import require_choice

_LOSSES: Mapping[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


class Regression(Task):
    """Squared, absolute or Huber error of outputs (n, values), as a mean over values; targets are (n, values).

    Args:
        values: how many.
        metrics: names of those of `known` that are logged; the mean absolute error if there are no others.
        known: metrics by name, or what makes them.
        primary: one of `metrics`, or "loss".
        error: "mse", "mae" or "huber".

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import torch
        >>> task = Regression(2)
        >>> task.primary, task.mode
        ('mae', 'min')
        >>> task.losses(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))
        tensor([5.])
    """

    targets = "values"
    titles: ClassVar[Mapping[str, str]] = {
        "mae": "mean absolute error",
        "rmse": "root of the mean squared error",
        "r2": "coefficient of determination",
    }

    def __init__(
        self,
        values: int,
        *,
        metrics: Sequence[str] = ("mae",),
        known: Known | None = None,
        primary: str = "mae",
        error: str = "mse",
    ) -> None:
        super().__init__(values, metrics, {"mae": MeanAbsoluteError()} if known is None else known, primary)
        require_choice("task.error", error, tuple(_LOSSES))
        self.error = error

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        check_shape("regression", targets, outputs.shape, "values, floating point")
        return _LOSSES[self.error](outputs, targets.to(outputs.dtype), reduction="none").mean(1)

    def captions(self, outputs: Tensor, targets: Tensor, names: Sequence[str]) -> list[Caption]:
        return [
            Caption(f"{_numbers(own)}\n→ {_numbers(given)}", None)
            for own, given in zip(targets.tolist(), outputs.tolist(), strict=True)
        ]


def _numbers(values: Sequence[float], most: int = 3) -> str:
    """The first of some values, to two places."""
    return " ".join(f"{value:.2f}" for value in values[:most]) + (" …" if len(values) > most else "")
