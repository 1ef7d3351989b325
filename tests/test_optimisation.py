"""Parameter groups and learning rates."""

from __future__ import annotations

import pytest
import torch

from src.models.kernels import Constant
from src.models.optimisation import Cosine, MultiStep, ParameterGroups, Schedule
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
