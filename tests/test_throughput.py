"""Speed, gradients and steps, as they are logged."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import SMALL, Bomb, execute, only_run, result, unequal
from lightning.pytorch import Callback, LightningModule, Trainer
from short_fits import QUIET, events, fit, points
from torch.optim import SGD

from src.callbacks import throughput
from src.callbacks.throughput import _GIB, Throughput, _groups, _peak_memory, _update_ratios
from src.data.loader import ImageBatches
from src.models.learner import Learner

pytestmark = QUIET
ADDED = "++observers.throughput={_target_: src.callbacks.throughput.Throughput}"


class Witness(Callback):
    """Measures every step for itself."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.clipped: list[float] = []
        self.ratios: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.norms.append(length([weight.grad for weight in pl_module.parameters()]))
        self.weights = [weight.detach().clone() for weight in pl_module.parameters()]
        self.pending = True

    def on_train_batch_start(self, *args: Any) -> None:
        self.pending = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if self.pending:
            after = [weight.detach() for weight in pl_module.parameters()]
            change = [new - old for new, old in zip(after, self.weights, strict=True)]
            self.ratios.append(length(change) / length(self.weights))
            self.clipped.append(length([weight.grad for weight in pl_module.parameters()]))


def length(tensors: list[torch.Tensor]) -> float:
    return float(torch.cat([values.flatten() for values in tensors]).double().norm())


def logged(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in events(folder).Scalars(tag)]


def apart(result: dict[str, Any]) -> dict[str, Any]:
    """A run's result without what is measured in seconds and bytes."""
    return result | {"points": {tag: own for tag, own in result["points"].items() if not tag.startswith("time/")}}


def test_the_ratio_of_a_known_step() -> None:
    one, two = torch.nn.Parameter(torch.tensor([3.0, 4.0])), torch.nn.Parameter(torch.zeros(2))
    optimizer = SGD([{"name": "one", "params": [one]}, {"name": "two", "params": [two]}], lr=0.1)
    before = {name: [weight.detach().clone() for weight in own] for name, own in _groups(optimizer).items()}
    one.grad, two.grad = torch.tensor([0.6, 0.8]), torch.tensor([0.0, 1.0])
    optimizer.step()
    ratios = _update_ratios(before, _groups(optimizer))
    assert ratios == pytest.approx({"": 0.1 * 2**0.5 / 5, "one": 0.1 * 1 / 5}), "zero weights have no ratio"
    assert _groups(SGD([{"name": "all", "params": [one]}], lr=0.1)).keys() == {""}, "one group is all there is"


def test_norms_and_ratios_are_those_of_the_step(tmp_path: Path) -> None:
    """Accumulated over two batches, clipped, logged every second step; the last step of an epoch has one batch."""
    witness = Witness()
    options = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.05, "log_every_n_steps": 2}
    fit(tmp_path, [witness, Throughput()], **options)
    assert len(witness.norms) == len(witness.ratios) == 12, "7 batches are 4 steps"
    steps = list(range(1, 12, 2))
    norms, ratios = logged(tmp_path, "train/gradient_norm"), logged(tmp_path, "train/update_ratio")
    assert norms == [(step, pytest.approx(witness.norms[step], rel=1e-5)) for step in steps]
    assert ratios == [(step, pytest.approx(witness.ratios[step], rel=1e-4)) for step in steps]
    assert min(ratio for _, ratio in ratios) > 0
    assert max(witness.clipped) < 0.0501 < min(norm for _, norm in norms), "not those that were clipped"
    for group in ("kernels", "weights", "no_decay"):
        assert [step for step, _ in logged(tmp_path, f"train/update_ratio/{group}")] == steps


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves by 3 s when a batch is cut, 1 s in its step, and 100 s in validation."""
    now = [0.0]
    monkeypatch.setattr(throughput, "_moment", lambda device: now[0])

    def takes(owner: type, name: str, seconds: float) -> None:
        function = getattr(owner, name)

        def slow(*args: Any) -> Any:
            now[0] += seconds
            return function(*args)

        monkeypatch.setattr(owner, name, slow)

    takes(ImageBatches, "__getitem__", 3)
    takes(Learner, "training_step", 1)
    takes(Learner, "validation_step", 97)
    return now


def test_times_are_those_of_training_alone(tmp_path: Path, clock: list[float]) -> None:
    fit(tmp_path, [Throughput()], max_epochs=2, log_every_n_steps=5)
    assert clock[0] == 2 * (7 * 4 + 3 * 100)
    shares = {"data_share": 0.75, "step": 4.0}
    for name, value in shares.items():
        assert logged(tmp_path, f"time/{name}") == [(4, value), (9, value)]
        assert logged(tmp_path, f"time/epoch/{name}") == [(6, value), (13, value)]
    speeds = logged(tmp_path, "time/samples_per_second")
    assert speeds == [(4, 5 * 16 / 20), (9, pytest.approx((16 + 4 + 3 * 16) / 20))], "100 = 6 x 16 + 4"
    epochs = logged(tmp_path, "time/epoch/samples_per_second")
    assert epochs == [(6, pytest.approx(100 / 28)), (13, pytest.approx(100 / 28))]


def test_a_step_of_several_batches(tmp_path: Path, clock: list[float]) -> None:
    fit(tmp_path, [Throughput()], max_epochs=1, accumulate_grad_batches=2, log_every_n_steps=2)
    assert logged(tmp_path, "time/step") == [(1, 8.0), (3, 6.0)]
    assert logged(tmp_path, "time/samples_per_second") == [(1, 4.0), (3, pytest.approx(36 / 12))]
    assert logged(tmp_path, "time/epoch/step") == [(3, 7.0)]


def test_a_slow_loader_is_seen_and_a_fast_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(tmp_path / "fast", [Throughput()], max_epochs=1)
    cut = ImageBatches.__getitem__

    def slow(dataset: ImageBatches, key: Any) -> Any:
        time.sleep(0.2)
        return cut(dataset, key)

    monkeypatch.setattr(ImageBatches, "__getitem__", slow)
    fit(tmp_path / "slow", [Throughput()], max_epochs=1)
    waited = {}
    for name in ("fast", "slow"):
        shares, steps = (logged(tmp_path / name, f"time/{tag}") for tag in ("data_share", "step"))
        waited[name] = sorted(share * step for (_, share), (_, step) in zip(shares, steps, strict=True))[3]
    assert waited["fast"] < 0.05
    assert 0.19 < waited["slow"] < 0.3


def test_memory_is_in_gib(tmp_path: Path) -> None:
    fit(tmp_path, [Throughput()], max_epochs=1)
    held = [value for _, value in logged(tmp_path, "time/memory_gib")]
    assert all(0.05 < value < 50 for value in held), "PyTorch alone has hundreds of MiB"
    assert held == sorted(held)
    assert held[-1] <= _peak_memory(torch.device("cpu")) / _GIB


def test_training_is_the_same_without_it(tmp_path: Path) -> None:
    states = [
        fit(tmp_path / name, callbacks, "group.sampling=random").lightning_module.state_dict()
        for name, callbacks in {"with": [Throughput()], "without": []}.items()
    ]
    assert unequal(*states) == []
    assert "train/gradient_norm" not in points(tmp_path / "without")
    assert {"train/gradient_norm", "train/update_ratio"} < points(tmp_path / "with").keys()
    changed = fit(tmp_path / "changed", [], "group.sampling=random", gradient_clip_val=0.01)
    assert unequal(states[0], changed.lightning_module.state_dict()) != []


def test_without_a_logger_nothing_is_measured(tmp_path: Path) -> None:
    callback, witness = Throughput(), Witness()
    fit(tmp_path, [callback, witness], logger=False, max_epochs=1)
    assert len(witness.norms) == 7
    assert callback._norm is None
    assert not (tmp_path / "tensorboard").exists()


def test_a_run_that_is_killed_logs_the_same(tmp_path: Path) -> None:
    overrides = [*SMALL, ADDED, "train.accumulate=2", "train.gradient_clip=0.5", "trainer.log_every_n_steps=3"]
    whole, killed = tmp_path / "whole" / "logs", tmp_path / "killed" / "logs"
    for logs in (whole, killed):
        logs.parent.mkdir()
    assert execute(overrides, whole) == [0]
    for bomb in (Bomb("step", 6), Bomb("step", 6), Bomb("validation", 2)):
        assert execute(overrides, killed, bomb) == [-signal.SIGKILL]
    assert execute(overrides, killed) == [0]
    one, two = (result(only_run(logs)) for logs in (whole, killed))
    assert [step for step, _ in one["points"]["train/gradient_norm"]] == [2, 5, 8, 11]
    assert unequal(apart(one), apart(two)) == []
    assert one["points"].keys() == two["points"].keys()
    doubled = one["points"] | {"train/update_ratio": one["points"]["train/update_ratio"] * 2}
    assert unequal(apart(one), apart(one | {"points": doubled})) == ["/points/train/update_ratio: 4 against 8"]


def test_two_ranks_log_what_one_does(tmp_path: Path) -> None:
    """In double precision, to 1e-5, for sums are taken in another order."""
    overrides = [*SMALL, ADDED, "net.head.dropout=0", "train.shared_statistics=true", "train.precision=64-true"]
    found = []
    for ranks in (1, 2):
        logs = tmp_path / f"{ranks}" / "logs"
        logs.parent.mkdir()
        assert execute([*overrides, "train.epochs=1"], logs, ranks=ranks) == [0] * ranks
        found.append(result(only_run(logs))["points"])
    one, two = found
    assert one.keys() == two.keys()
    for tag in ("train/gradient_norm", "train/update_ratio", "train/update_ratio/kernels"):
        assert [step for step, _ in two[tag]] == list(range(7))
        assert torch.tensor(two[tag]) == pytest.approx(torch.tensor(one[tag]), rel=1e-5), tag
    for each in found:
        speeds, steps = each["time/samples_per_second"], each["time/step"]
        samples = [speed * step for (_, speed), (_, step) in zip(speeds, steps, strict=True)]
        assert samples == pytest.approx([16] * 6 + [4], rel=1e-4), "of both ranks together"
