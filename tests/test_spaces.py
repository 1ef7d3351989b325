"""Sequences and volumes, from the data to what is measured of nets: what is done to images is done to them."""

from __future__ import annotations

from functools import partial
from math import pi
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import ALL_GROUPS, KERNELS, LINE, VOLUME
from laws import assert_close, check_net, exact_elements
from laws import warp as exact_warp
from torch import Tensor, nn

from src.analysis.equivariance import LOGITS, measure
from src.analysis.pictures import draw_filters
from src.analysis.redundancy import spectra
from src.data import H5, Digits3d, ImageDataModule, Npz, PixelSequences, Pool, Pools, Source, warp
from src.data.augment import Augmentation, Parameters
from src.data.poses import magnifications, rotations, turns
from src.data.resample import fit, pose
from src.data.sets.digits import Digits
from src.data.warp import crop
from src.groups import SO3
from src.models import GConv
from src.models.border import Border
from src.models.field import Field
from src.models.nets import CKGResNet
from src.models.pooling import SpatialPool
from src.reports.curves import scalars
from src.runs.process import quiet
from src.runs.record import read
from src.training import ConfigError, load_recipe, train
from src.training.run import Request

SIZES = {1: 20, 3: 8}


def make(group: str, kernel: str = "siren", **options) -> CKGResNet:
    """A narrow net on one channel and five classes."""
    h, elements = ALL_GROUPS[group]
    k = 5 if h.space == 1 else 3
    layer = partial(GConv, kernel_size=k, group=h, elements=elements, implementation="separable")
    conv = partial(layer, kernel=KERNELS[kernel])
    return CKGResNet(1, 5, SIZES[h.space], conv, **{"hidden_sizes": (2, 3, 3), "exact": "require", **options})


def noise(d: int, n: int = 4) -> Tensor:
    """Smooth images of one channel."""
    random = torch.randn(n, 1, *(SIZES[d],) * d, dtype=torch.float64)
    return torch.nn.functional.interpolate(random[..., ::2].repeat_interleave(2, -1), SIZES[d]) if d == 1 else random


# ------------------------------------------------------------------------------------------------------- nets


@pytest.mark.parametrize(
    "options",
    [
        {"border": "disc", "pooling": "max_blur", "readout": "max_mean"},
        {"border": "background", "pooling": "blur", "normalisation": "instance", "readout": "mean"},
        {"pooling": "mean", "normalisation": "layer"},
        {"block": "paper", "pooling": "max", "normalisation": "none"},
    ],
    ids=lambda options: options.get("border", options["pooling"]),
)
@pytest.mark.parametrize("group", ["flip_1d", "flip_3d", "e3"])
def test_nets_are_invariant_in_every_space(group: str, options: dict) -> None:
    h, sizes = ALL_GROUPS[group]
    net, images = make(group, **options).double(), noise(h.space)
    matrices = h.matrix(exact_elements(h, sizes))
    assert len(matrices) > 1
    check_net(net.train(), images, matrices, seed=3)  # the head has dropout
    check_net(net.eval(), images, matrices)


def test_nets_are_invariant_under_all_rotations_of_the_cube() -> None:
    conv = partial(GConv, kernel_size=3, group=SO3(), elements=(24,), implementation="separable", low_pass=0.6)
    net = CKGResNet(1, 5, 8, conv, hidden_sizes=(2, 2), exact="require", pooling="max_blur").double().eval()
    check_net(net, noise(3, 2), SO3().matrix(SO3().grid(24)))
    plain = partial(GConv, kernel_size=3, group=ALL_GROUPS["r3"][0], elements=(1,), implementation="nonseparable")
    net = CKGResNet(1, 5, 8, plain, hidden_sizes=(2, 2)).double().eval()
    with pytest.raises(AssertionError, match="invariance"):
        check_net(net, noise(3, 2), SO3().matrix(SO3().grid(24)))


@pytest.mark.parametrize("group", ["flip_1d", "flip_3d"])
def test_a_size_that_is_not_exact_is_refused(group: str) -> None:
    with pytest.raises(ValueError, match="Sizes that work"):
        CKGResNet(1, 5, SIZES[ALL_GROUPS[group][0].space] + 1, make_conv(group), hidden_sizes=(2, 3), exact="require")
    with pytest.raises(ValueError, match=r"`size` must have . sides, as the group acts on R\^."):
        CKGResNet(1, 5, (8, 8), make_conv(group), hidden_sizes=(2, 3))


def make_conv(group: str) -> partial:
    h, sizes = ALL_GROUPS[group]
    return partial(GConv, kernel_size=3, group=h, elements=sizes, implementation="separable")


@pytest.mark.parametrize("kind", ["max", "mean", "blur", "max_blur"])
@pytest.mark.parametrize("d", [1, 3])
def test_pools_keep_constants_and_flip_with_the_image(kind: str, d: int) -> None:
    h = ALL_GROUPS[f"flip_{d}d"][0]
    pool, images = SpatialPool(kind), noise(d)
    pooled = pool(Field.of_images(images, h)).values
    assert pooled.shape == (4, 1, 1, *(SIZES[d] // 2,) * d)
    assert_close(pool(Field.of_images(images.flip(2), h)).values, pooled.flip(3), "flip")
    ones = pool(Field.of_images(torch.ones_like(images), h)).values
    assert_close(ones, torch.ones_like(ones), "constant")


def test_a_ball_and_a_line() -> None:
    ball = Border("disc")(Field.of_images(torch.ones(1, 1, 8, 8, 8), SO3())).values[0, 0, 0]
    assert (ball[0, 0, 0], ball[4, 4, 4]) == (0, 1)
    assert 0.45 < ball.mean() < 0.6, "pi / 6 of a cube"
    line = Field.of_images(torch.ones(1, 1, 8), ALL_GROUPS["r1"][0])
    assert torch.equal(Border("disc")(line).values, line.values)


# ------------------------------------------------------------------------------------------------------ moving


def test_warps_are_exact_under_the_rotations_of_the_cube() -> None:
    images = torch.randn(24, 2, 5, 5, 5)
    matrices = SO3().matrix(SO3().grid(24))
    moved = warp(images, matrices)
    for own, image, matrix in zip(moved, images, matrices, strict=True):
        assert_close(own, exact_warp(image, matrix), "turn")
    with pytest.raises(ValueError, match="`mode` must be"):
        warp(images, matrices, "bicubic")


def test_warps_of_sequences() -> None:
    line = torch.tensor([[[0.0, 1.0, 4.0, 9.0, 16.0]]])
    assert torch.equal(warp(line, torch.tensor([[[-1.0]]])), line.flip(-1))
    assert_close(warp(line, torch.tensor([[[2.0]]])), torch.tensor([[[1.0, 2.5, 4.0, 6.5, 9.0]]]), "magnified")
    assert warp(line, torch.tensor([[[1.0]]]), "bicubic", size=(7,))[0, 0, 1:-1].equal(line[0, 0])


def test_a_dot_goes_where_the_matrix_takes_it() -> None:
    matrix = SO3().matrix(SO3().random(1, torch.Generator().manual_seed(3)))[0]
    dot = torch.zeros(1, 1, 15, 15, 15)
    dot[0, 0, 7 + 1, 7 - 4, 7 + 3] = 1
    blurred = torch.nn.functional.avg_pool3d(dot, 3, 1, 1)
    moved = warp(blurred, matrix[None].float())[0, 0]
    line = torch.arange(15.0) - 7
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)
    centre = torch.einsum("zyx,zyxk->k", moved, grid) / moved.sum()
    assert_close(centre, matrix.float() @ torch.tensor([1.0, -4.0, 3.0]), "centre", 0.05)


@pytest.mark.parametrize("border", ["zeros", "edge", "reflect"])
def test_crops_of_volumes_and_sequences(border: str) -> None:
    volume = torch.randn(2, 1, 4, 5, 6)
    whole = crop(volume, torch.tensor([[-1, -2, -3]] * 2), (6, 9, 12), border)
    assert torch.equal(whole[:, :, 1:5, 2:7, 3:9], volume)
    expected = {"zeros": torch.zeros(2, 1), "edge": volume[:, :, 0, 0, 0], "reflect": volume[:, :, 1, 1, 1]}[border]
    assert torch.equal(whole[:, :, 0, 1, 2], expected)
    mirrored = crop(volume, torch.zeros(2, 3).long(), mirrored=torch.tensor([[True, False, True]] * 2))
    assert torch.equal(mirrored, volume.flip(2, 4))
    assert torch.equal(crop(volume[..., 0, 0], torch.tensor([[1]] * 2), (2,), border), volume[:, :, 1:3, 0, 0])


def test_random_rotations_are_uniform() -> None:
    uniform = torch.rand(20_000, 3, dtype=torch.float64)
    found = rotations(uniform, 3)
    eye = torch.eye(3, dtype=torch.float64)
    assert_close(found @ found.mT, eye.expand_as(found), "orthogonal")
    assert found.mean(0).abs().max() < 0.02, "no direction is preferred"
    assert torch.einsum("nii->n", found).square().mean().item() == pytest.approx(1, abs=0.05), "E tr^2 = 1 on SO(3)"
    small = rotations(uniform, 3, 0.3)
    angles = ((torch.einsum("nii->n", small) - 1) / 2).clamp(-1, 1).acos()
    assert angles.max() <= 0.3 + 1e-6
    assert (angles < 0.15).double().mean().item() == pytest.approx(1 / 8, abs=0.01), "as a ball is filled"
    assert torch.equal(rotations(uniform[:, :1], 1), torch.ones(20_000, 1, 1, dtype=torch.float64))


def test_turns_are_about_the_diagonal() -> None:
    turned = turns(torch.tensor([2 * pi / 3, 1.0], dtype=torch.float64), 3)
    assert_close(turned @ torch.ones(3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64), "axis")
    assert SO3().lattice_exact(SO3().grid(24)).all()
    assert_close(turned[0].abs().sum(0), torch.ones(3, dtype=torch.float64), "a third of a turn exchanges the axes")


@pytest.mark.parametrize("d", [1, 3])
def test_canvases(d: int) -> None:
    images = torch.randint(256, (3, 1, *(9,) * d), dtype=torch.uint8)
    padded = fit(images, (12,) * d)
    assert torch.equal(padded[(..., *[slice(1, 10)] * d)], images)
    assert padded.sum() == images.sum()
    smaller = fit(images, (5,) * d)
    assert smaller.shape == (3, 1, *(5,) * d)
    assert smaller.double().mean().item() == pytest.approx(images.double().mean().item(), rel=0.2)
    shrunk = pose(images, magnifications(torch.full((3, 1), -0.6931471805599453, dtype=torch.float64), d), (9,) * d)
    assert shrunk.sum().item() == pytest.approx(images.sum().item() / 2**d, rel=0.2), "half as long each way"


def test_augmentation_of_sequences_and_volumes() -> None:
    everything = Augmentation(rotate=180, scale=[0.8, 1.25], crop=2, flip=True, flip_y=True, cutout=3)
    table = everything.table(50, (8, 8, 8), 0)
    assert [len(part[0]) for part in table] == [3, 3, 3, 3]
    assert not table.mirrored[:, 0].any(), "only the last two axes are flipped"
    volumes = torch.rand(50, 1, 8, 8, 8)
    assert everything(volumes, table, torch.zeros(1, 1, 1, 1)).shape == volumes.shape
    hole = Augmentation(cutout=3)(volumes, Parameters(holes=torch.full((50, 3), 4)), torch.full((1, 1, 1, 1), 9.0))
    assert (hole == 9).sum() == 50 * 27
    lines = torch.rand(50, 2, 8)
    alone = Augmentation(crop=2, flip=True).table(50, (8,), 0)
    assert Augmentation(crop=2, flip=True)(lines, alone, torch.zeros(2, 1)).shape == lines.shape
    with pytest.raises(ValueError, match=r"`augment\.rotate` must be off for sequences"):
        Augmentation(rotate=90).check(1)
    with pytest.raises(ValueError, match=r"`augment\.mode` must be bilinear for volumes"):
        Augmentation(rotate=90, mode="bicubic").check(3)


# -------------------------------------------------------------------------------------------------------- data


def test_solid_digits() -> None:
    upright = Digits3d(rotate=False, size=12).splits().train
    turned = Digits3d(rotate={"train": True}, size=12).splits().train
    assert upright.images.shape == (1197, 1, 12, 12, 12)
    front, back = upright.images[:, 0].double().mean((0, 2, 3))[[5, 7]]
    assert front > 1.3 * back > 0, "a mirror image is another solid"
    assert torch.equal(upright.labels, turned.labels)
    assert not torch.equal(upright.images, turned.images)
    mass = turned.images.double().flatten(1).sum(1) / upright.images.double().flatten(1).sum(1)
    assert mass.min() > 0.9, "digits stay on the canvas under every rotation"
    assert mass.max() < 1.1
    with pytest.raises(ValueError, match=r"a number of pixels or a triple \[z, y, x\], each at least 10"):
        Digits3d(size=[12, 12])


def test_solid_digits_hold_nothing_that_voxels_cannot() -> None:
    source = Digits3d(rotate=False, size=17)
    flat = Digits().pools().learn.images.double()
    raw = nn.functional.pad(flat[:, :, None].expand(-1, -1, 4, -1, -1), (0, 0, 0, 0, 2, 2))[:100]
    matrices = (2 * source.magnification * torch.eye(3, dtype=torch.float64)).expand(100, 3, 3)
    assert fine_share(source.splits().train.images) < 0.005
    assert fine_share(warp(raw, matrices, size=(17, 17, 17))) > 0.02, "straight lines between pixels do"


def fine_share(volumes: Tensor) -> float:
    """The share of the energy at over 0.3 waves a voxel along any axis."""
    energy = torch.fft.fftn(volumes.double(), dim=(2, 3, 4)).abs().square().mean((0, 1))
    fast = torch.fft.fftfreq(volumes.shape[-1]).abs() > 0.3
    fine = fast[:, None, None] | fast[:, None] | fast
    return (energy[fine].sum() / energy.sum()).item()


def test_sequences_of_pixels() -> None:
    plain, permuted = (PixelSequences(images=Digits, side=8, permuted=own).splits() for own in (False, True))
    images = Digits().pools().learn.images
    assert torch.equal(plain.train.images, images[plain.train.ids].flatten(2))
    source = PixelSequences(images=Digits, side=8, permuted=True)
    order = source._lines(torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)).flatten().long()
    assert order.tolist() != list(range(64))
    assert sorted(order.tolist()) == list(range(64))
    for name in ("train", "test"):
        expected = getattr(plain, name).images[..., order]
        assert torch.equal(getattr(permuted, name).images, expected), "one order for all"
    with pytest.raises(ValueError, match=r"`dataset.size` must be 64, the pixels of 8 x 8, but got \[784\]"):
        PixelSequences(images=Digits, side=8, size=784)
    with pytest.raises(ValueError, match="`rotate` must be false for sequences"):
        PixelSequences(images=Digits, side=8, rotate=True)


# ---------------------------------------------------------------------------------------------------- measuring


@pytest.mark.parametrize("group", ["flip_1d", "r1xrplus", "tetrahedral", "sim3", "r3", "r1"])
def test_equivariance_is_measured_in_every_space(group: str) -> None:
    net = make(group).double().eval()
    d = net.group.space
    found = measure(net, noise(d), torch.arange(4) % 5, samples=2, elements=1, curve_samples=4, angles=4)
    if "lattice" in found.errors:
        trivial = not net.group.dim
        worst = max(found.errors["lattice"].values())
        assert worst > 1e-3 if trivial else worst < 1e-9, "quarter turns and flips are exact, save of a plain CNN"
    assert LOGITS in next(iter(found.errors.values()))
    assert set(found.lie) == ({"scale"} if d == 1 else {"rotation", "scale"})
    assert len(found.rotation.at) == (1 if d == 1 else 4)
    assert all(torch.isfinite(torch.tensor(number)) for number in found.numbers().values())


def test_a_flaw_in_space_is_found() -> None:
    net = make("e3").double().eval()
    net.stages[0][0].conv1.register_forward_hook(
        lambda _conv, _args, field: Field(field.values.roll(1, 3), field.elements)
    )
    found = measure(net, noise(3), torch.arange(4) % 5, samples=2, elements=1, curve_samples=4, angles=4)
    assert found.flaw is not None
    assert found.flaw.layer == "stages.0.0.conv1"


@pytest.mark.parametrize("group", [name for name in (*LINE, *VOLUME) if ALL_GROUPS[name][0].dim])
def test_kernels_are_looked_at_in_every_space(group: str) -> None:
    conv = make(group).stages[0][0].conv1
    found = spectra(conv)
    assert found["all"].forced, "a separable kernel is of rank 1"
    assert found["all"].first == pytest.approx(1, abs=1e-5)
    assert draw_filters(conv).axes
    full = GConv(2, 3, 3, group=conv.group, elements=conv.elements, implementation="nonseparable")
    assert spectra(full)["all"].first < 0.999


@pytest.mark.parametrize(
    "words",
    [
        ["dataset=sdigits", "group=r1", "conv.kernel_size=5", "augment=none"],
        ["dataset=digits3d", "dataset.size=12", "group=se3", "group.elements=[4]", "conv.kernel_size=3"],
    ],
    ids=["sequences", "volumes"],
)
def test_a_run_with_all_observers(words: list[str], tmp_path: Path) -> None:
    """Trained, measured, drawn and tested, as any other."""
    quiet()
    small = ["net.hidden_sizes=[2,2,3]", "dataset.limit_train=32", "dataset.limit_val=16", "dataset.limit_test=16"]
    small += ["train.epochs=1", "train.batch_size=16", "observers=default", f"paths.logs={tmp_path}", "net.exact=off"]
    cfg = load_recipe("quickstart", [*words, *small]).cfg
    result = train(cfg, Request())
    assert 0 <= result.metrics["test/acc"] <= 1
    assert any(tag.startswith("equivariance/") for tag in scalars(read(result.folder)))


def test_a_group_of_another_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"acts on R\^3, so on volumes; choose group=se2"):
        load_recipe("quickstart", ["group=se3"])


class Ramp(Source):
    """Volumes of three channels that grow along an axis, in a file of the user's."""

    name, labels, channels, native = "ramp", ("a", "b"), 3, (4, 5, 6)

    def pools(self) -> Pools:
        ramp = torch.arange(6).to(torch.uint8).expand(40, 3, 4, 5, 6).clone()
        return Pools(Pool(ramp, torch.arange(40) % 2))


def test_a_source_of_volumes_in_the_data_module() -> None:
    module = ImageDataModule(reader=Ramp, batch_size=8, augment={"rotate": 180, "flip": True})
    images, labels = next(iter(module.train_dataloader()))
    assert images.shape == (8, 3, 4, 5, 6)
    assert labels.shape == (8,)
    plain = module.val_dataloader().dataset
    images, _ = next(iter(module.val_dataloader()))
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert plain.denormalise(images)[0, 0, 0, 0].mul(255).round().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", [Npz, H5])
@pytest.mark.parametrize(
    ("space", "shape", "expected"),
    [
        (1, (30, 12), (1, 12)),
        (1, (30, 3, 12), (3, 12)),
        (3, (30, 4, 5, 6), (1, 4, 5, 6)),
        (3, (30, 4, 5, 6, 3), (3, 4, 5, 6)),
        (3, (30, 2, 4, 5, 6), (2, 4, 5, 6)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_arrays_of_ones_own(
    kind: type[Npz] | type[H5],
    space: int,
    shape: tuple[int, ...],
    expected: tuple[int, ...],
    dtype: type,
    tmp_path: Path,
) -> None:
    arrays = {"images": (200 * np.random.default_rng(0).random(shape)).astype(dtype), "labels": np.arange(30) % 3}
    path = tmp_path / f"own.{kind.name}"
    if kind is Npz:
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    module = ImageDataModule(reader=kind, batch_size=24, path=path, space=space, cache=tmp_path)
    images, labels = next(iter(module.train_dataloader()))
    assert images.shape == (24, *expected)
    assert images.flatten(2).mean((0, 2)).abs().max() < 1e-4
    assert images.flatten(2).transpose(0, 1).flatten(1).std(1, correction=0).sub(1).abs().max() < 1e-3
    assert labels.max() == 2
    row = int(module.datasets["train"].split.ids[0])
    first = torch.from_numpy(arrays["images"][row]).float()
    split = module.datasets["train"].split.images[0].float()
    assert torch.equal(split, first.movedim(-1, 0) if shape[-1] == 3 else first.view(expected))
    if dtype is np.float64:
        with pytest.raises(ValueError, match=r"must be null for images of torch\.float32"):
            ImageDataModule(reader=kind, batch_size=24, path=path, space=space, size=20).setup()


def test_arrays_of_another_dimension_are_explained(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=np.zeros((30, 4, 5, 6), np.uint8), labels=np.arange(30) % 3)
    with pytest.raises(ValueError, match=r"images must be uint8 of the shape .* set dataset\.space to 1 or 3"):
        Npz(path=tmp_path / "own.npz")
    with pytest.raises(ValueError, match=r"`dataset\.space` must be one of 1, 2, 3"):
        Npz(path=tmp_path / "own.npz", space=4)
