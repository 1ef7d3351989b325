"""Whole nets: invariance at initialisation and after training, and every option honoured or refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import GROUPS, KERNELS, MASKS, forms_of
from laws import check_net, exact_elements
from sklearn.datasets import load_digits
from torch import Tensor, nn

from src.models import IMPLEMENTATIONS, GConv
from src.models.blocks import Head
from src.models.nets import CKGResNet

SIZES = {16: {}, 17: {"pool_size": 3}}
"""Pixels of an image that are halved exactly, and how: small, as what is tested is the same at every size."""


def make(group: str = "se2", form: str = "separable", size=16, kernel="siren", sampling="grid", conv=None, **options):
    """A narrow net on one channel and five classes."""
    h, elements = GROUPS[group]
    layer = partial(
        GConv,
        **{"kernel_size": 5, **(conv or {})},
        group=h,
        elements=elements,
        implementation=form,
        kernel=KERNELS[kernel],
        mask=MASKS["smooth_disc"],
        sampling=sampling,
    )
    return CKGResNet(1, 5, size, layer, **{"hidden_sizes": (4, 4, 6), "exact": "require", **options})


def digits(n: int, size: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Real images of five classes: noise looks the same to every invariant, and norms would amplify its rounding."""
    data = load_digits(n_class=5)
    images = torch.as_tensor(data.images[:n] / 8 - 1).float()[:, None]
    return torch.nn.functional.interpolate(images, size, mode="bilinear"), torch.as_tensor(data.target[:n])


def train(
    net: nn.Module, images: Tensor, labels: Tensor, steps: int = 10, rate: float = 1e-2, last: float = 1.0
) -> None:
    """Some steps that move every parameter and the running statistics; the rate falls linearly to a share of it."""
    optimizer = torch.optim.Adam(net.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, last, steps)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net.train()(images), labels).backward()
        optimizer.step()
        schedule.step()
    still = [name for (name, new), old in zip(net.named_parameters(), before, strict=True) if torch.equal(old, new)]
    assert not still, f"never trained: {still}"


def matrices(group: str) -> Tensor:
    """Of the elements that are exact on the pixel grid."""
    h, elements = GROUPS[group]
    return h.matrix(exact_elements(h, elements))


def check_everywhere(net: nn.Module, group: str, size: int) -> None:
    """Before and after training, as in training and in evaluation.

    In double precision: what is rounding in single precision, norms of so few images can make larger than a tolerance.
    """
    images, labels = digits(4, size)
    net, images = net.double(), images.double()
    for steps in (0, 4):
        if steps:
            train(net, images, labels, steps)
        check_net(net.train(), images, matrices(group), seed=3)
        check_net(net.eval(), images, matrices(group))


@pytest.mark.parametrize("sampling", ["grid", "random"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("group", ["se2", "p4", "sim2", "e2", "p4m", "flip", "r2xrplus"])
def test_invariance(group: str, size: int, sampling: str) -> None:
    check_everywhere(make(group, size=size, sampling=sampling, **SIZES[size]), group, size)


@pytest.mark.parametrize(
    ("group", "form"),
    [("se2", f) for f in forms_of("se2") if f in IMPLEMENTATIONS]
    + [("sim2", f) for f in ("nonseparable", "separable+2d", "gseparable+2d")],
)
def test_invariance_of_every_implementation(group: str, form: str) -> None:
    check_everywhere(make(group, form, 12, conv={"kernel_size": 3}), group, 12)


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_invariance_of_lattices(group: str) -> None:
    check_everywhere(make(group, "nonseparable", kernel="lattice"), group, 16)


@pytest.mark.parametrize(
    "options",
    [
        *({"normalisation": name} for name in ("instance", "layer", "none")),
        *({"activation": name} for name in ("elu", "gelu")),
        {"pooling": "mean"},
        {"pooling": "mean", "pool_size": 3, "size": 17},
        {"pooling": "none"},
        {"readout": "mean"},
        {"widen_factor": 0.5},
        {"dropout": 0.2, "head": partial(Head, hidden=16, dropout=0.1)},
        {"conv": {"stride": 2}, "pooling": "none", "size": 17},
        {"conv": {"bias": True}, "normalisation": "none"},
        {"hidden_sizes": (6,)},
        {"conv": {"path": "dense"}},
    ],
    ids=str,
)
def test_options_are_honoured(options: dict) -> None:
    torch.manual_seed(1)
    plain = make(size=options.get("size", 16), exact="off")
    torch.manual_seed(1)
    net = make(**options)
    images, labels = digits(8, net.size)
    train(net, images, labels, 2)
    check_net(net.eval(), images, matrices("se2"))
    assert str(net) != str(plain), "the option left no trace"


def test_a_plain_cnn_is_not_invariant() -> None:
    with pytest.raises(AssertionError, match="invariance under"):
        check_everywhere(make("r2", "nonseparable", kernel="lattice"), "se2", 16)


def test_the_checker_sees_an_inexact_pool() -> None:
    with pytest.raises(AssertionError, match="invariance under"):
        check_everywhere(make(size=17, exact="off"), "se2", 17)


def test_parameters_do_not_depend_on_the_number_of_elements() -> None:
    options = {"kernel_size": 3, "implementation": "nonseparable", "sampling": "random", "low_pass": 0.6}
    layer = partial(GConv, group=GROUPS["se2"][0], kernel=KERNELS["fourier"], **options)
    nets = [CKGResNet(1, 5, 8, partial(layer, elements=[n]), hidden_sizes=(8, 8, 16)) for n in (8, 6, 16, 32)]
    assert len({sum(parameter.numel() for parameter in net.parameters()) for net in nets}) == 1
    images, labels = digits(64, 8)
    # At a constant rate the last steps are as noisy as rounding, and so the number of threads, would have them.
    train(nets[0], images, labels, 60, last=0.01)
    accuracy = []
    for net in nets:
        net.load_state_dict(nets[0].state_dict())
        with torch.no_grad():
            accuracy.append((net.eval()(images).argmax(1) == labels).float().mean().item())
    assert min(accuracy) > 0.9, f"trained on 8 elements, evaluated on 8, 6, 16, 32: {accuracy}"


def test_skips_share_the_elements_of_the_main_path() -> None:
    net = make(sampling="random").train()
    block = net.stages[1][0]
    seen = {}
    for name in ("conv1", "conv2", "skip"):
        getattr(block, name).register_forward_hook(lambda m, i, out, name=name: seen.update({name: out.elements}))
    net(torch.randn(4, 1, 16, 16))
    assert torch.equal(seen["skip"], seen["conv2"])
    assert not torch.equal(seen["conv1"], seen["conv2"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": 29},
            r"`stages.0.2` \(kernel 2, stride 2, padding 0\) leaves 1 of 29 pixels over.*Sizes that work: 28 and 32",
        ),
        ({"size": (28, 30)}, "leaves 1 of 15 pixels over"),
        ({"conv": {"stride": 2}, "pooling": "none"}, "leaves 1 of 28 pixels over"),
        ({"conv": {"kernel_size": 31}}, r"kernel 31 and gets 28 pixels of an image of 28 x 28"),
        ({"conv": {"kernel_size": 4}}, "needs an odd `kernel_size`"),
        ({"conv": {"padding": 0}}, "`padding` of a residual block must keep the image size, but got 0"),
        (
            {"normalisation": "batchnorm"},
            "`normalisation` must be one of batch, instance, layer, none, but got 'batchnorm'",
        ),
        ({"activation": "tanh"}, "`activation` must be one of relu, elu, gelu"),
        ({"pooling": "sum"}, "`pooling` must be one of max, mean, blur, max_blur, none, but got 'sum'"),
        ({"pool_size": 5}, "`pool_size` must be one of 2, 3, but got 5"),
        ({"readout": "sum"}, "`readout` must be one of max, mean"),
        ({"dropout": 1.0}, r"`dropout` must be a probability in \[0, 1\), but got 1.0"),
        ({"widen_factor": 0.3}, "must be one or more positive integers"),
        ({"hidden_sizes": ()}, "must be one or more positive integers"),
        ({"exact": "maybe"}, "`exact` must be one of require, warn, off"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"size": 28, **options})


def test_inexact_sizes_warn_by_request_and_plain_cnns_do_not_care() -> None:
    with pytest.warns(UserWarning, match="leaves 1 of 29 pixels over"):
        make(size=29, exact="warn")
    make("r2", "nonseparable", size=29)
    make("r2xrplus", size=29)


@pytest.mark.parametrize("size", [28, 30, 32, 69, 96])
def test_nearest_sizes_are_exact(size: int) -> None:
    from src.models.exactness import nearest_sizes

    net = make(size=28)
    for n in nearest_sizes(net, size):
        make(size=n)
