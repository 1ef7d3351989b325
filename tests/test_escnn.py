"""The baseline with kernels of escnn, which is no package of this project: with a stand-in that keeps its interface.

What the package itself comes to is in docs/alias.md.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from src.training import ConfigError, load_recipe

WORDS = ["net=escnn", "~net.exact", "~net.border", "net.hidden_sizes=[3,3,4]", "dataset.size=20", "conv.kernel_size=3"]


class Representation(NamedTuple):
    size: int


class FieldType:
    """Channels: one for each dimension of each representation."""

    def __init__(self, group: Any, representations: list[Representation]) -> None:
        self.group, self.representations = group, representations
        self.size = sum(each.size for each in representations)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldType) and self.representations == other.representations

    __hash__ = None


class GeometricTensor:
    """A tensor that has as many channels as its type says."""

    def __init__(self, tensor: Tensor, kind: FieldType) -> None:
        assert tensor.shape[1] == kind.size
        self.tensor, self.type = tensor, kind

    def __add__(self, other: GeometricTensor) -> GeometricTensor:
        assert self.type.size == other.type.size
        return GeometricTensor(self.tensor + other.tensor, self.type)


class Layer(nn.Module):
    """A layer of PyTorch from one type to another."""

    def __init__(self, layer: nn.Module, before: FieldType, after: FieldType) -> None:
        super().__init__()
        self.layer, self.before, self.after = layer, before, after

    def forward(self, field: GeometricTensor) -> GeometricTensor:
        assert field.type.size == self.before.size
        return GeometricTensor(self.layer(field.tensor), self.after)


class Pool(nn.Module):
    """The maximum over the elements of each regular field."""

    def __init__(self, before: FieldType) -> None:
        super().__init__()
        self.elements = before.group.regular_repr.size
        self.after = FieldType(before.group, [Representation(1)] * (before.size // self.elements))

    def forward(self, field: GeometricTensor) -> GeometricTensor:
        return GeometricTensor(field.tensor.unflatten(1, (-1, self.elements)).amax(2), self.after)


def convolution(before: FieldType, after: FieldType, kernel_size: int, **options: Any) -> Layer:
    return Layer(nn.Conv2d(before.size, after.size, kernel_size, **options), before, after)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the package importable, in its stand-in."""
    names = ("escnn", "escnn.gspaces", "escnn.nn")
    modules = {name: ModuleType(name) for name in names}
    modules["escnn"].gspaces, modules["escnn"].nn = modules["escnn.gspaces"], modules["escnn.nn"]
    modules["escnn.gspaces"].rot2dOnR2 = lambda n: SimpleNamespace(
        trivial_repr=Representation(1), regular_repr=Representation(n)
    )
    vars(modules["escnn.nn"]).update(
        FieldType=FieldType,
        GeometricTensor=GeometricTensor,
        SequentialModule=nn.Sequential,
        R2Conv=convolution,
        InnerBatchNorm=lambda kind: Layer(nn.BatchNorm2d(kind.size), kind, kind),
        ReLU=lambda kind: Layer(nn.ReLU(), kind, kind),
        MaskModule=lambda kind, size, margin: Layer(nn.Identity(), kind, kind),
        PointwiseMaxPoolAntialiased2D=lambda kind, kernel_size, stride: Layer(
            nn.MaxPool2d(kernel_size, stride), kind, kind
        ),
        GroupPooling=Pool,
    )
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("library")
def test_its_widths_and_rotations_are_those_of_the_recipe() -> None:
    net = load_recipe("quickstart", WORDS).model.net
    assert [stage.conv1[0].after.size for stage in net.stages] == [3 * 8, 3 * 8]
    assert net.final[0].after.size == 4 * 8
    assert [stage.skip is None for stage in net.stages] == [True, False], "only what changes its width has one"
    other = load_recipe("quickstart", [*WORDS, "group.elements=[4]"]).model.net
    assert other.final[0].after.size == 4 * 4


@pytest.mark.usefixtures("library")
def test_every_parameter_is_trained() -> None:
    model = load_recipe("quickstart", WORDS).model
    logits = model(torch.randn(8, 1, 20, 20))
    assert logits.shape == (8, 10)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_where_it_is_not_installed_it_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "escnn", None)
    with pytest.raises(ConfigError, match=r"`net` escnn needs the package escnn, .* -m pip install escnn"):
        load_recipe("quickstart", WORDS)
