"""Tasks: losses, metrics that are chosen by name, the primary one, and what is said of predictions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAUROC

from src.analysis.equivariance import measure
from src.callbacks.exact_state import _restore_sums, _sums
from src.config.compose import compose_config
from src.config.instantiate import instantiate
from src.models.tasks import Classification, Multilabel, NegativeLogLikelihood, Regression
from src.training import ConfigError
from src.training.recipe import build

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.0, 1.0]])
CLASSES = torch.tensor([0, 1])


def test_cross_entropy() -> None:
    expected = -LOGITS.log_softmax(1)[torch.arange(2), CLASSES]
    assert torch.allclose(Classification(3).losses(LOGITS, CLASSES), expected)
    assert torch.allclose(Classification(3).loss(LOGITS, CLASSES), expected.mean())
    smoothed = 0.7 * expected + 0.3 * -LOGITS.log_softmax(1).mean(1)
    assert torch.allclose(Classification(3, label_smoothing=0.3).losses(LOGITS, CLASSES), smoothed)
    weighted = Classification(3, class_weights=[1, 4, 2])
    assert torch.allclose(weighted.losses(LOGITS, CLASSES), expected * torch.tensor([1.0, 4.0]))
    halves = (weighted.loss(LOGITS[:1], CLASSES[:1]) + weighted.loss(LOGITS[1:], CLASSES[1:])) / 2
    assert torch.allclose(weighted.loss(LOGITS, CLASSES), halves), "however a batch is shared out"


def test_likelihood_knows_nothing_of_the_loss() -> None:
    meter = NegativeLogLikelihood()
    meter.update(LOGITS, CLASSES)
    assert torch.allclose(meter.compute(), Classification(3).loss(LOGITS, CLASSES))
    assert not torch.allclose(meter.compute(), Classification(3, label_smoothing=0.3).loss(LOGITS, CLASSES))


def test_binary_cross_entropy() -> None:
    targets = torch.tensor([[1, 0, 1], [0, 0, 1]])
    likelihood = torch.where(targets.bool(), LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    assert torch.allclose(Multilabel(3).losses(LOGITS, targets), -likelihood.log().mean(1))
    weights = torch.where(targets.bool(), torch.tensor([3.0, 1.0, 2.0]), torch.tensor(1.0))
    assert torch.allclose(
        Multilabel(3, positive_weights=[3, 1, 2]).losses(LOGITS, targets), -(weights * likelihood.log()).mean(1)
    )
    texts = [caption.text for caption in Multilabel(3).captions(LOGITS, targets, ["cat", "dog", "bird"])]
    assert texts == ["cat, bird\n→ cat", "bird\n→ cat, bird"]


@pytest.mark.parametrize(("error", "expected"), [("mse", 2.5), ("mae", 1.5), ("huber", 1.0)])
def test_errors_of_values(error: str, expected: float) -> None:
    assert Regression(2, error=error).losses(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]])).item() == expected
    assert Regression(2).decisions(LOGITS) is None


def test_metrics_are_chosen_by_name_and_only_those_are_made() -> None:
    def never() -> Metric:
        raise AssertionError("is not logged")

    known = {"auroc": lambda: MulticlassAUROC(3), "other": never}
    task = Classification(3, metrics=["auroc"], known=known, primary="loss")
    assert (task.metrics, task.mode, task.direction("val/auroc")) == (("auroc",), "min", "max")
    assert task.meter("auroc") is not task.meter("auroc")
    task.meter().update(LOGITS, CLASSES)
    assert task.measured(LOGITS, CLASSES) == pytest.approx(task.loss(LOGITS, CLASSES).item())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.metrics=[acc,f2]"], r"`task.metrics` must be of those in `task.known`, acc, top5, .* but got f2"),
        (["task.primary=f1"], r"`task.primary` must be loss or one of `task.metrics`, acc, but got 'f1'"),
        (["task.label_smoothing=1"], r"`task.label_smoothing` must be a probability in \[0, 1\), but got 1"),
        (["task.class_weights=[1,2]"], r"`task.class_weights` must be 10 positive numbers, .* but got \[1, 2\]"),
    ],
)
def test_wrong_tasks_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(compose_config(overrides))


def test_a_wrong_error_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`task.error` must be one of mse, mae, huber, but got 'mape'"):
        Regression(2, error="mape")


@pytest.mark.parametrize(
    ("task", "targets"),
    [(Classification(3), torch.zeros(2, 3)), (Multilabel(3), CLASSES), (Regression(3), torch.zeros(2))],
)
def test_targets_of_another_kind_are_refused(task: nn.Module, targets: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="choose the task that fits the data"):
        task.losses(LOGITS, targets)


@pytest.mark.parametrize("name", ["classification", "segmentation", "multilabel", "regression"])
def test_every_known_metric_computes_one_number(name: str) -> None:
    cfg = compose_config([f"task={name}", "dataset.classes=6"])
    known = list(cfg.task.known)
    cfg.task.metrics = known
    task = instantiate(cfg.task)
    outputs = torch.randn(40, 6)
    if name == "segmentation":
        outputs = torch.randn(40, 6, 3, 2)
    pixels = torch.arange(240).unflatten(0, (40, 3, 2)) % 6
    targets = {
        "class": torch.arange(40) % 6,
        "pixels": pixels,
        "labels": (torch.randn(40, 6) > 0).long(),
        "values": torch.randn(40, 6),
    }
    for metric in known:
        meter = task.meter(metric)
        meter.update(outputs, targets[task.targets])
        value = meter.compute()
        assert value.numel() == 1
        assert math.isfinite(value)
        assert task.direction(metric) in ("max", "min")
        assert task.title(metric) != metric or metric in ("mse",)


def test_what_a_metric_has_gathered_is_kept_and_shared() -> None:
    """Of two processes, whose shares one goes on with: sums, and lists of what was seen."""
    for make in (MeanMetric, lambda: MulticlassAUROC(3)):
        whole, first, second, other = (make() for _ in range(4))
        outputs, targets = torch.randn(12, 3).softmax(1), torch.arange(12) % 3
        for meter, rows in ((whole, slice(None)), (first, slice(0, 5)), (second, slice(5, None))):
            meter.update(*((outputs[rows].flatten(),) if make is MeanMetric else (outputs[rows], targets[rows])))
        _restore_sums(other, [_sums(first), _sums(second)])
        assert torch.allclose(other.compute(), whole.compute())
        _restore_sums(other, [])
        assert other._update_count == 0


def test_a_task_without_decisions_is_measured_without_them() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    measured = measure(
        net, torch.rand(3, 1, 8, 8), torch.rand(3, 2), task=Regression(2), elements=1, angles=4, curve_samples=3
    )
    assert measured.agreement == {}
    assert measured.score.title == "mean absolute error"
    assert measured.rotation.score[measured.worst(measured.rotation)] == measured.rotation.score.max()
    assert "robustness/mean_absolute_error/rotation" in measured.numbers()
