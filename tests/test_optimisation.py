"""Parameter groups and learning rates."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from kills import SMALL, Bomb, execute, only_run, result, unequal

from src.models.kernels import Constant
from src.models.optimisation import Cosine, MultiStep, ParameterGroups, Plateau, Schedule
from src.training import load_recipe


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.1, weight_decay=0.01)


def test_every_parameter_is_in_one_group_in_a_fixed_order() -> None:
    net = load_recipe("quickstart").model.net
    groups = ParameterGroups(kernel_lr=2.0, kernel_decay=0.5, constant_lr=3.0).optimiser(net, sgd).param_groups
    assert [group["name"] for group in groups] == ["kernels", "weights", "no_decay"]
    assert [group["lr"] for group in groups] == pytest.approx([0.6, 0.1, 0.1]), "kernel=fourier has lr_factor=3"
    assert [group["weight_decay"] for group in groups] == [0.005, 0.01, 0.0]
    order = {id(parameter): n for n, parameter in enumerate(net.parameters())}
    positions = [[order[id(parameter)] for parameter in group["params"]] for group in groups]
    assert sorted(n for own in positions for n in own) == list(range(len(order)))
    assert all(own == sorted(own) for own in positions)


def test_groups_hold_what_their_names_say() -> None:
    net = load_recipe("quickstart").model.net
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    groups = {
        group.name: [names[id(p)] for p in group.members] for group in ParameterGroups(constant_lr=3.0).split(net)
    }
    assert all(".kernel.nets." in name and name.endswith("weight") for name in groups["kernels"])
    assert groups["weights"] == ["head.0.weight", "head.4.weight"]
    norms = [f"{name}.weight" for name, module in net.named_modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert all(name.endswith("bias") or name in norms for name in groups["no_decay"])
    assert set(norms) <= set(groups["no_decay"])


def test_weights_of_kernels_without_coordinates_are_weights() -> None:
    net = load_recipe("quickstart", ["implementation=dseparable"]).model.net
    constants = {id(module.weight) for module in net.modules() if isinstance(module, Constant)}
    assert constants
    apart, others, *_ = ParameterGroups(kernel_lr=2.0, constant_lr=1.0).optimiser(net, sgd).param_groups
    assert (apart["name"], others["name"]) == ("kernels_x2", "kernels_x6")
    assert {id(parameter) for parameter in apart["params"]} == constants
    assert (apart["lr"], others["lr"]) == pytest.approx((0.2, 0.6))
    together = ParameterGroups(constant_lr=3.0).split(net)[0]
    assert together.name == "kernels"
    assert constants < {id(parameter) for parameter in together.members}


def test_kernels_that_say_nothing_are_trained_as_other_weights() -> None:
    """As runs were made that have neither `kernel.lr_factor` nor `model.groups.constant_lr`."""
    net = load_recipe("quickstart", ["kernel=siren", "implementation=dseparable"]).model.net
    groups = ParameterGroups().split(net)
    assert [(group.name, group.lr) for group in groups] == [("kernels", 1.0), ("weights", 1.0), ("no_decay", 1.0)]


def test_no_decay_reaches_the_parameters() -> None:
    net = load_recipe("quickstart").model.net
    optimizer = ParameterGroups(kernel_decay=0.0, constant_lr=3.0).optimiser(net, sgd)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [[parameter.detach().clone() for parameter in group["params"]] for group in optimizer.param_groups]
    optimizer.step()
    moved = [
        any(not torch.equal(old, new) for old, new in zip(olds, group["params"], strict=True))
        for olds, group in zip(before, optimizer.param_groups, strict=True)
    ]
    assert moved == [False, True, False]


def test_schedules() -> None:
    assert [Schedule()(epoch, 10) for epoch in (0, 5, 10)] == [1, 1, 1]
    assert [Schedule(warmup=2)(epoch, 10) for epoch in (0, 1, 2, 9)] == pytest.approx([0.1, 0.55, 1, 1])
    assert [Cosine()(epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    assert [Cosine(warmup=2, floor=0.2)(epoch, 10) for epoch in (2, 6, 10)] == pytest.approx([1, 0.6, 0.2])
    assert [MultiStep(steps=(3, 6))(epoch, 10) for epoch in (2.9, 3, 6)] == pytest.approx([1, 0.1, 0.01])


def test_a_plateau_is_what_was_not_better_for_longer_than_patience() -> None:
    schedule = Plateau(warmup=2, factor=0.5, patience=1)
    rates = []
    for epoch, value in enumerate([3.0, 2.0, 2.0, 2.5, 1.0, 1.0, 1.0, 1.0]):
        schedule.observe(value)
        rates.append(schedule(epoch, 10))
    assert rates == pytest.approx([0.1, 0.55, 1, 0.5, 0.5, 0.5, 0.25, 0.25])
    later = Plateau(warmup=2, factor=0.5, patience=1)
    later.load_state_dict(schedule.state_dict())
    assert later(9, 10) == schedule(9, 10) == 0.25
    for own in (schedule, later):
        own.observe(1.0)
        assert own(9, 10) == 0.125, "and how long it has been one"


@pytest.mark.parametrize(
    ("options", "message"), [({"factor": 1.0}, "scheduler.factor"), ({"patience": -1}, "patience")]
)
def test_a_plateau_refuses_what_it_cannot_do(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plateau(**options)


def test_a_plateau_goes_on_after_a_kill_and_is_that_of_the_primary_metric(tmp_path: Path) -> None:
    # At a rate of nearly nothing no epoch is better than the first.
    overrides = [*SMALL, "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=1e-12"]
    assert execute(overrides, tmp_path / "whole") == [0]
    assert execute(overrides, tmp_path / "killed", Bomb("step", 16)) == [-signal.SIGKILL]
    assert execute(overrides, tmp_path / "killed") == [0]
    whole, killed = (result(only_run(tmp_path / name)) for name in ("whole", "killed"))
    assert unequal(whole, killed) == []
    assert whole["optimiser"][0]["param_groups"][-1]["lr"] == pytest.approx(1e-14)
