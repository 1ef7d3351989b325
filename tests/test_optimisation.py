"""Parameter groups and learning rates."""

from __future__ import annotations

import pytest
import torch

from src.models import GConv
from src.models.optimisation import Cosine, MultiStep, ParameterGroups, Schedule
from src.training import load_recipe


def test_every_parameter_is_in_one_group_in_a_fixed_order() -> None:
    net = load_recipe("quickstart").model.net
    groups = ParameterGroups(kernel_lr=2.0, kernel_decay=0.5)(net, lr=0.1, weight_decay=0.01)
    assert [group["name"] for group in groups] == ["kernels", "weights", "no_decay"]
    assert [group["lr"] for group in groups] == [0.2, 0.1, 0.1]
    assert [group["weight_decay"] for group in groups] == [0.005, 0.01, 0.0]
    members = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(members) == sorted(id(parameter) for parameter in net.parameters())
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    kernels, weights, no_decay = ([names[id(p)] for p in group["params"]] for group in groups)
    assert all(".kernel.nets." in name and name.endswith("weight") for name in kernels)
    assert set(weights) == {"head.0.weight", "head.4.weight"}
    assert any("norm" in name for name in no_decay)
    assert all(
        name.endswith("bias") or "norm" in name or name.startswith(("head.1", "stages", "lifting", "final"))
        for name in no_decay
    )
    order = {id(parameter): n for n, parameter in enumerate(net.parameters())}
    for group in groups:
        positions = [order[id(parameter)] for parameter in group["params"]]
        assert positions == sorted(positions)


def test_weights_of_kernels_without_coordinates_are_weights() -> None:
    recipe = load_recipe("quickstart", ["implementation=dseparable"])
    groups = {group["name"]: group["params"] for group in ParameterGroups()(recipe.model.net, 0.1, 0.1)}
    constant = next(
        m for m in recipe.model.net.modules() if isinstance(m, GConv) and m.kernel_size == 5 and len(m.stages) > 1
    )
    assert any(constant.kernel.nets[0].weight is parameter for parameter in groups["kernels"])


def test_no_decay_reaches_the_parameters() -> None:
    recipe = load_recipe("quickstart", ["optimizer=sgd"])
    groups = ParameterGroups(kernel_decay=0.0)(recipe.model.net, lr=0.1, weight_decay=1.0)
    optimizer = torch.optim.SGD(groups)
    for parameter in recipe.model.net.parameters():
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
