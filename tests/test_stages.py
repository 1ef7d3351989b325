"""Nets of stages, and the U-Net: invariance, equivariance, published sizes, and options honoured or refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from conftest import ALL_GROUPS, KERNELS, MASKS
from laws import assert_close, check_net, exact_elements
from omegaconf import DictConfig
from test_nets import digits, train
from torch import Tensor, nn

from src.config.compose import CONFIGS, compose_config
from src.models import Field, GConv
from src.models.blocks import Head
from src.models.kernels import Lattice
from src.models.nets import CKGCNN, CKGUNet
from src.models.pooling import SpatialPool
from src.models.upsampling import Upsample
from src.training.recipe import build

NETS = {
    "ckgcnn": {"hidden_sizes": (4, 4, 6), "last_kernel_size": None},
    "ckgallcnnc": {"hidden_sizes": ((4, 4), (4, 4), (6, 6)), "pointwise": 1},
    "ckgallcnncbottleneck": {"hidden_sizes": ((4, 4), (8,)), "block": "bottleneck"},
    "ckgbottlenecknet": {"hidden_sizes": ((4, 8), (8,)), "block": "bottleneck", "bottleneck_factor": 2},
    "ckgwideresnet": {"hidden_sizes": ((2, 4), (4,), (6,)), "block": "preactivation"},
    "ckgsqueezenet": {"hidden_sizes": ((4,), (6, 6)), "block": "fire", "bottleneck_factor": 2},
    "ckgcnnsosnovik": {"hidden_sizes": (3, 4, 5)},
}
"""Small ones of the classes and blocks that the configurations choose."""


def layer_of(group: str, form: str = "separable", kernel: str = "fourier", **conv):
    h, elements = ALL_GROUPS[group]
    options = {"kernel_size": 3, "mask": MASKS["smooth_disc"], "kernel": KERNELS[kernel], "sampling": "grid", **conv}
    return partial(GConv, group=h, elements=elements, implementation=form, **options)


def make(group: str = "p4", size: int = 16, conv=None, **options) -> CKGCNN:
    """A narrow net on one channel and five classes."""
    return CKGCNN(1, 5, size, layer_of(group, **(conv or {})), **{"exact": "require", **options})


def unet(group: str = "p4", size: int = 16, conv=None, classes: int = 3, **options) -> CKGUNet:
    return CKGUNet(
        1, classes, size, layer_of(group, **(conv or {})), **{"hidden_sizes": (3, 4), "exact": "require", **options}
    )


def images_of(group: str, size: int, n: int = 4) -> tuple[Tensor, Tensor]:
    """Real digits as sequences, images or volumes, in double precision."""
    images, labels = digits(n, size)
    space = ALL_GROUPS[group][0].space
    if space == 1:
        images = images[:, :, size // 2]
    if space == 3:
        images = torch.einsum("ncyx,z->nczyx", images, torch.linspace(0.2, 1, size))
    return images.double(), labels


def exact_matrices(group: str) -> Tensor:
    h, elements = ALL_GROUPS[group]
    return h.matrix(exact_elements(h, elements))[1:4]


def check_everywhere(net: nn.Module, group: str, size: int, acts_on: str | None = None) -> None:
    """Before and after training, as in training and in evaluation, under the elements of `acts_on`, or of the group."""
    images, labels = images_of(group, size)
    net = net.double()
    for steps in (0, 3):
        if steps:
            train(net, images, labels, steps)
        for mode in (True, False):
            check_net(net.train(mode), images, exact_matrices(acts_on or group), seed=3)


@pytest.mark.parametrize(("group", "sampling"), [("p4m", "grid"), ("p4", "random")])
@pytest.mark.parametrize("name", NETS)
def test_invariance(name: str, group: str, sampling: str) -> None:
    check_everywhere(make(group, 8, conv={"sampling": sampling}, **NETS[name]), group, 8)


@pytest.mark.parametrize(("group", "size"), [("flip_1d", 16), ("se2", 8), ("sim2", 8), ("flip_3d", 4)])
@pytest.mark.parametrize("block", ["plain", "bottleneck", "preactivation", "fire"])
def test_invariance_in_every_space(block: str, group: str, size: int) -> None:
    check_everywhere(make(group, size, hidden_sizes=((4, 4), (4,)), block=block), group, size)


@pytest.mark.parametrize("block", ["plain", "residual", "bottleneck", "preactivation", "fire"])
def test_strides_are_exact_at_odd_sizes(block: str) -> None:
    net = make(size=17, hidden_sizes=((4, 4), (8, 8), (8,)), block=block, pooling="stride")
    check_everywhere(net, "p4", 17)
    assert net.features(torch.zeros(1, 1, 17, 17).double()).values.shape[3:] == (5, 5)
    with pytest.raises(ValueError, match=r"leaves 1 of 16 pixels over.*Sizes that work: 13 and 17"):
        make(size=16, hidden_sizes=((4, 4), (8, 8), (8,)), block=block, pooling="stride")


@pytest.mark.parametrize("block", ["plain", "bottleneck", "preactivation", "fire"])
def test_a_stride_at_an_even_size_is_seen(block: str) -> None:
    net = make(size=16, hidden_sizes=((4, 4), (8,)), block=block, pooling="stride", exact="off")
    with pytest.raises(AssertionError, match="invariance under"):
        check_everywhere(net, "p4", 16)


@pytest.mark.parametrize("name", NETS)
def test_an_absolute_kernel_is_seen(name: str) -> None:
    net = make(conv={"form": "oi x a"}, **NETS[name])
    with pytest.raises(AssertionError, match="invariance under"):
        check_everywhere(net, "p4", 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": "narrow"}, "`block` must be one of plain, residual, bottleneck, preactivation, fire"),
        ({"bottleneck_factor": 2}, "`net.bottleneck_factor` must be null, as a plain block has no bottleneck"),
        (
            {"block": "fire", "hidden_sizes": (4, 1)},
            "`net.hidden_sizes` must be at least 2 in each fire block, but got 1",
        ),
        ({"pointwise": 3}, r"`net.pointwise` must be at most 2, the layers after lifting"),
        ({"hidden_sizes": ((4, 4), ())}, "must be one or more positive integers"),
        ({"hidden_sizes": (4, 4, 4, 4, 4, 4, 4)}, r"kernel 2 and gets 1 pixels of an image of 16 x 16"),
        ({"last_kernel_size": 9}, r"`net.last_kernel_size` must be at most 4, the pixels that are left"),
        ({"pooling": "sum"}, "`pooling` must be one of max, mean, blur, max_blur, stride, none"),
        ({"stage_dropout": 1.0}, r"`stage_dropout` must be a probability"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"hidden_sizes": (4, 4, 4), **options})


@pytest.mark.parametrize(
    "options",
    [
        {"input_dropout": 0.2},
        {"stage_dropout": 0.5},
        {"dropout": 0.1},
        {"pointwise": 1},
        {"last_kernel_size": 3},
        {"last_kernel_size": None},
        {"widen_factor": 2},
        {"pooling": "mean"},
        {"pooling": "none"},
        {"pool_size": 3, "size": 17},
        {"normalisation": "layer"},
        {"activation": "gelu"},
        {"border": "disc"},
        {"readout": "mean"},
        {"head": partial(Head, hidden=0)},
        {"conv": {"padding": 0}, "size": 22},
        {"block": "bottleneck", "bottleneck_factor": 1},
    ],
    ids=str,
)
def test_options_are_honoured(options: dict) -> None:
    plain = make(size=options.get("size", 16), hidden_sizes=(4, 4, 8), exact="off")
    net = make(**{"hidden_sizes": (4, 4, 8), **options})
    assert str(net) != str(plain), "the option left no trace"
    check_net(net.double().eval(), images_of("p4", net.size[0])[0], exact_matrices("p4"))


# Plain nets, with the free kernels of `group=r2 kernel=lattice`.


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def counted(hidden_sizes, classes: int = 10, channels: int = 3, bias: bool = False, size: int = 32, **options) -> int:
    conv = partial(layer_of("r2", "nonseparable"), kernel=partial(Lattice, degree=0), mask=None, bias=bias)
    kernel_size = options.pop("kernel_size", 3)
    head = options.pop("head", partial(Head, hidden=0))
    conv = partial(conv, kernel_size=kernel_size)
    return parameters(CKGCNN(channels, classes, size, conv, hidden_sizes=hidden_sizes, head=head, **options))


def net_of(name: str) -> DictConfig:
    return compose_config(["protocol=digits", "method=cnn_baseline", f"net={name}"]).net


def wide(depth: int, k: int) -> list[list[int]]:
    n = (depth - 4) // 6
    return [[16, *[16 * k] * n], [32 * k] * n, [64 * k] * n]


@pytest.mark.parametrize(("depth", "k", "published"), [(40, 1, 0.6), (40, 2, 2.2), (16, 8, 11.0), (16, 4, 2.8)])
def test_parameters_of_wide_residual_nets(depth: int, k: int, published: float) -> None:
    """In millions, table 3 of Wide Residual Networks (Zagoruyko, Komodakis, 2016), https://arxiv.org/abs/1605.07146"""
    found = counted(wide(depth, k), block="preactivation", pooling="stride")
    assert abs(found / 1e6 - published) < 0.06


def test_parameters_of_a_deep_bottleneck_net() -> None:
    """ResNet-164, 1.7 million: Identity Mappings in Deep Residual Networks (He et al., 2016), arXiv 1603.05027."""
    found = counted([[16, *[64] * 18], [128] * 18, [256] * 18], block="bottleneck", pooling="stride")
    assert round(found / 1e6, 1) == 1.7


def test_parameters_of_all_cnn_c() -> None:
    """About 1.3 million (Springenberg et al., 2015), https://arxiv.org/abs/1412.6806; by hand, 1,369,738."""
    cfg = net_of("ckgallcnnc")
    shape = {"hidden_sizes": cfg.hidden_sizes, "pointwise": cfg.pointwise}
    assert counted(**shape, normalisation="none", bias=True) == 1_369_738


def test_parameters_of_squeezenet() -> None:
    """SqueezeNet 1.1, as torchvision states them: 1,235,496 of 1,000 classes."""
    cfg = net_of("ckgsqueezenet")
    shape = {"hidden_sizes": cfg.hidden_sizes, "block": cfg.block, "bottleneck_factor": cfg.bottleneck_factor}
    assert counted(**shape, classes=1000, normalisation="none", bias=True) == 1_235_496


def test_parameters_of_sesn() -> None:
    """About 495 thousand (Sosnovik, Szmaja, Smeulders, 2020), table 2, https://arxiv.org/abs/1910.11093

    Their head reads 2 x 2 pixels of each channel; ours reads one invariant.
    """
    cfg = net_of("ckgcnnsosnovik")
    options = {"channels": 1, "size": 28, "kernel_size": 7, "bias": True, "head": Head}
    found = counted(cfg.hidden_sizes, **options) + 3 * 95 * 256
    assert abs(found / 495_000 - 1) < 0.01


def test_parameters_of_the_benchmark_cnn() -> None:
    """About 25 thousand: Group Equivariant Convolutional Networks (Cohen, Welling, 2016), section 8.1."""
    recipe = build(compose_config(["protocol=digits", "method=benchmarkcnn", "dataset.size=28"]))
    assert 24_000 < parameters(recipe.model.net) < 26_000


# Dense outputs.


def segment(net: nn.Module, images: Tensor, steps: int) -> None:
    """Some steps of learning where the strokes are."""
    targets = (images[:, 0] > 0).long()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net.train()(images), targets).backward()
        optimizer.step()
    still = [name for (name, new), old in zip(net.named_parameters(), before, strict=True) if torch.equal(old, new)]
    assert not still, f"never trained: {still}"


def check_dense_everywhere(net: nn.Module, group: str, size: int, acts_on: str | None = None) -> None:
    images, _ = images_of(group, size)
    net = net.double()
    for steps in (0, 3):
        if steps:
            segment(net, images, steps)
        for mode in (True, False):
            check_net(net.train(mode), images, exact_matrices(acts_on or group))


UNETS = [("p4", 8, {}), ("p4m", 8, {"hidden_sizes": (3, 4, 5)}), ("se2", 9, {"pool_size": 3}), ("sim2", 8, {})]


@pytest.mark.parametrize(("group", "size", "options"), [*UNETS, ("flip_1d", 16, {}), ("flip_3d", 4, {})])
def test_a_unet_is_equivariant(group: str, size: int, options: dict) -> None:
    check_dense_everywhere(unet(group, size, **options), group, size)


@pytest.mark.parametrize("pooling", ["max", "mean", "blur", "max_blur"])
def test_a_unet_is_equivariant_with_every_pool(pooling: str) -> None:
    check_dense_everywhere(unet(size=8, pooling=pooling), "p4", 8)


@pytest.mark.parametrize(("group", "conv"), [("r2", {}), ("p4", {"form": "oi x a"})])
def test_a_plain_unet_and_an_absolute_one_are_not(group: str, conv: dict) -> None:
    with pytest.raises(AssertionError, match="invariance under"):
        check_dense_everywhere(unet(group, conv=conv), group, 16, acts_on="p4")


def test_the_fields_that_a_unet_joins_are_on_the_same_elements() -> None:
    net = unet("se2", conv={"sampling": "random"}).double().train()
    seen = {}
    net.encoder[0].register_forward_hook(lambda m, args, out: seen.update(skip=out.elements))
    net.decoder[0].reduce.register_forward_hook(lambda m, args, out: seen.update(up=out.elements))
    assert net(torch.randn(2, 1, 16, 16).double()).shape == (2, 3, 16, 16)
    assert torch.equal(seen["skip"], seen["up"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": 18, "hidden_sizes": (2, 2, 2)},
            r"`size` must be halved exactly by each of 2 pools.*Sizes that work: 16 and 20",
        ),
        ({"size": (16, 17)}, r"`size` must be halved exactly"),
        ({"hidden_sizes": (4,)}, r"`net.hidden_sizes` must be two or more widths"),
        ({"pooling": "none"}, "`pooling` must be one of max, mean, blur, max_blur, but got 'none'"),
        ({"conv": {"stride": 2}}, "`conv.stride` must be 1"),
    ],
    ids=str,
)
def test_wrong_options_of_a_unet_are_named(options: dict, message: str) -> None:
    for group in ("p4", "r2"):
        with pytest.raises(ValueError, match=message):
            unet(group, **{"size": 16, **options})


# Up-sampling.


def image_of_spectrum(upsample: nn.Module, kernel_size: int) -> float:
    """Of a wave of an eighth of a cycle a pixel, made twice as fine: what lies at other frequencies, relative to it."""
    n = 64 + (kernel_size - 2)
    wave = torch.cos(2 * torch.pi * torch.arange(n) / 8)
    fine = upsample(Field(wave.expand(1, 1, 1, n), torch.zeros(1, 0))).values.flatten()[32:96]
    spectrum = torch.fft.rfft(fine - fine.mean()).abs()
    peak = int(spectrum.argmax())
    assert peak == 4
    return ((spectrum.square().sum() - spectrum[peak].square()) / spectrum[peak].square()).sqrt().item()


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_upsampling_is_free_of_images_of_the_spectrum(kernel_size: int, float64: None) -> None:
    class Repeat(nn.Module):
        def forward(self, field):
            return field._replace(values=field.values.repeat_interleave(2, -1))

    assert image_of_spectrum(Upsample(kernel_size), kernel_size) < 0.02
    assert image_of_spectrum(Repeat(), kernel_size) > 0.15, "the control: repeated pixels"


@pytest.mark.parametrize(("kernel_size", "sizes"), [(2, (4, 6)), (3, (5, 3)), (2, (3,)), (2, (2, 3, 4))])
def test_upsampling_undoes_the_size_of_a_pool_and_keeps_constants(
    kernel_size: int, sizes: tuple, float64: None
) -> None:
    fine = tuple(2 * n - (kernel_size - 2) for n in sizes)
    field = Field(torch.ones(2, 3, 2, *fine), torch.zeros(2, 1))
    pooled = SpatialPool("blur", kernel_size)(field)
    assert pooled.values.shape[3:] == sizes
    up = Upsample(kernel_size)(pooled)
    assert_close(up.values, field.values, "constants")
    assert torch.equal(up.elements, field.elements)


# Configurations.


OF_THEIR_OWN = ("escnn", "ckgunet", "moebius", "preactivation", "stacked")
"""Nets whose widths mean something else; their own tests compose them."""


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted((CONFIGS / "net").glob("*.yaml")) if path.stem not in OF_THEIR_OWN]
)
@pytest.mark.parametrize("method", ["cnn_baseline", "se2_separable_small"])
def test_every_net_composes_and_trains_a_step(name: str, method: str) -> None:
    sizes = {"ckgcnn": "[2,2]", "ckgresnet": "[2,2]", "residual": "[2,2]", "ckgcnnsosnovik": "[2,2]"}
    group = "r2" if method == "cnn_baseline" else "p4"
    overrides = [
        *("protocol=digits", f"method={method}", f"net={name}", f"net.hidden_sizes={sizes.get(name, '[[2,4],[4]]')}"),
        *("conv.kernel_size=3", "kernel=lattice", "mask=none", "implementation=nonseparable", f"group={group}"),
        *(f"dataset.size={21 if name.startswith('benchmarkwrn') else 20}", "net.exact=require"),
    ]
    recipe = build(compose_config(overrides))
    recipe.datamodule.setup()
    data, net = recipe.datamodule.datasets["train"], recipe.model.net
    images, labels = data.finish(data[0, torch.arange(8)], torch.device("cpu"))
    optimizer = recipe.model.groups.optimiser(net, recipe.model.optimizer)
    recipe.model.task.loss(net(images), labels).backward()
    optimizer.step()
    outputs = net.eval()(images)
    assert torch.isfinite(outputs).all()
    again = build(recipe.cfg).model.net
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(images), outputs), "as a run that goes on builds it again"
    if group == "p4":
        check_net(net.double(), images.double(), exact_matrices("p4"))
