"""The depthwise convolution equals torch's, in values and in first and second gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from laws import assert_close

from src.models.depthwise import _BlockwiseGradient, depthwise


@pytest.mark.parametrize(("channels", "stride", "padding"), [(16, 1, 3), (48, 2, 3), (12, 1, 0), (20, 2, 2)])
def test_gradients(channels: int, stride: int, padding: int) -> None:
    planes = torch.randn(2, channels, 13, 15, requires_grad=True)
    weight = torch.randn(channels, 1, 7, 7, requires_grad=True)

    def derivatives(conv) -> list[torch.Tensor]:
        out = conv(planes, weight)
        first = torch.autograd.grad(out.sin().sum(), (planes, weight), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (planes, weight))
        return [out, *first, *second]

    expected = derivatives(lambda x, w: F.conv2d(x, w, stride=stride, padding=padding, groups=channels))
    actual = derivatives(lambda x, w: depthwise(x, w, stride, padding))
    for n, (one, other) in enumerate(zip(actual, expected, strict=True)):
        assert_close(one, other, f"derivative {n}")


def test_it_is_used_where_it_pays_and_only_there() -> None:
    def uses(planes: torch.Tensor, weight: torch.Tensor) -> bool:
        return _BlockwiseGradient.__name__ in str(depthwise(planes, weight, 1, 1).grad_fn)

    planes, weight = torch.randn(1, 16, 5, 5), torch.randn(16, 1, 3, 3, requires_grad=True)
    assert uses(planes, weight)
    assert not uses(planes.double(), weight.double())
    assert not uses(planes[:, :6], weight[:6])
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses(planes, weight)
