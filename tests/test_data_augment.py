"""Augmentation: each does what it says, the same to a sample whatever batch it is in, and is a group action."""

from dataclasses import replace
from math import pi
from typing import Any

import pytest
import torch

from src.data.augment import Augmentation, Parameters, _cut
from src.groups import SO2, Dilation, Product, Reflection

GREY = torch.full((3, 1, 1), 0.25)
EVERYTHING = Augmentation(rotate=180, scale=[0.8, 1.25], crop=3, flip=True, flip_y=True, cutout=3)


def image(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def apply(augmentation: Augmentation, images: torch.Tensor, epoch: int = 0) -> torch.Tensor:
    table = augmentation.table(len(images), images.shape[-2:], 0, epoch)
    return augmentation(images, table, GREY)


def test_off_is_off() -> None:
    images = image(4, 3, 8, 9)
    assert not Augmentation().active
    assert Augmentation().table(4, (8, 9), 0) == Parameters()
    assert torch.equal(apply(Augmentation(), images), images)


@pytest.mark.parametrize("border", ["zeros", "edge", "reflect"])
def test_a_crop_of_the_padded_image(border: str) -> None:
    images = image(40, 3, 8, 9)
    crop = Augmentation(crop=2, border=border)
    shifts = crop.table(40, (8, 9), 0, 0).shifts
    assert shifts.unique().tolist() == [-2, -1, 0, 1, 2]
    mode = {"zeros": "constant", "edge": "replicate", "reflect": "reflect"}[border]
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode)
    for cropped, big, (down, right) in zip(apply(crop, images), padded, shifts.tolist(), strict=True):
        assert torch.equal(cropped, big[:, down + 2 : down + 10, right + 2 : right + 11])


@pytest.mark.parametrize(("name", "axis"), [("flip", -1), ("flip_y", -2)])
def test_flips_are_a_fair_coin(name: str, axis: int) -> None:
    images = image(400, 3, 4, 5)
    flipped = apply(Augmentation(**{name: True}), images)
    same = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images.flip(axis)).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 150 < same.sum() < 250


def test_cutout_is_a_square_of_the_mean_colour_anywhere() -> None:
    images = 1 + image(300, 3, 8, 9)
    holes = apply(Augmentation(cutout=4), images)
    hidden = (holes == GREY).all(1)
    assert torch.equal(holes[~hidden[:, None].expand(-1, 3, -1, -1)], images[~hidden[:, None].expand(-1, 3, -1, -1)])
    assert hidden.sum((1, 2)).max() == 16
    assert hidden.sum((1, 2)).min() == 4, "at a corner a quarter of it is inside"
    assert hidden.any(0).all()
    (centre,) = _cut(images[:1], torch.tensor([[4, 4]]), 3, GREY)
    assert (centre[:, 3:6, 3:6] == GREY).all()
    assert (centre == GREY).sum() == 27


def test_rotations_cover_the_circle_and_scales_their_range() -> None:
    table = replace(EVERYTHING, scale=None).table(2000, (8, 8), 0)
    angles = torch.atan2(table.matrices[:, 1, 0], table.matrices[:, 0, 0])
    assert torch.histc(angles.float(), 8, -pi, pi).min() > 200
    few = Augmentation(rotate=30).table(2000, (8, 8), 0).matrices
    assert torch.atan2(few[:, 1, 0], few[:, 0, 0]).abs().max() * 180 / pi == pytest.approx(30, abs=0.1)
    scales = EVERYTHING.table(2000, (8, 8), 0).matrices.det().sqrt()
    assert (scales.min(), scales.max()) == (pytest.approx(0.8, abs=1e-3), pytest.approx(1.25, abs=1e-3))
    assert (scales < 1).double().mean() == pytest.approx(0.5, abs=0.04), "as many shrink as grow"


@pytest.mark.parametrize("turns", [-2, -1, 1, 2])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_quarter_turns_are_exact(turns: int, mode: str) -> None:
    images, matrices = image(2, 3, 9, 9), SO2().matrix(torch.full((2, 1), turns * pi / 2, dtype=torch.float64))
    turned = Augmentation(rotate=180, mode=mode)(images, Parameters(matrices=matrices), GREY)
    torch.testing.assert_close(turned, torch.rot90(images, turns, (-2, -1)), atol=1e-5, rtol=0)
    assert (turned - torch.rot90(images, turns + 1, (-2, -1))).abs().max() > 0.1


def test_the_matrices_are_those_of_the_groups() -> None:
    """One definition of a rotation, a dilation and a reflection in the project."""
    similarity = Product(SO2(), Dilation())
    g = torch.tensor([[0.3, 0.2]], dtype=torch.float64)
    images = image(1, 3, 9, 9)
    augmented = EVERYTHING(images, Parameters(matrices=similarity.matrix(g)), GREY)
    alone = Augmentation(rotate=180)(images, Parameters(matrices=SO2().matrix(g[:, :1])), GREY)
    assert (augmented - alone).abs().max() > 0.05
    flipped = Augmentation(flip_y=True)(images, Parameters(mirrored=torch.tensor([[True, False]])), GREY)
    reflection = Reflection().matrix(Reflection().grid(2))[1:]
    mirrored = Augmentation(rotate=180)(images, Parameters(matrices=reflection), GREY)
    torch.testing.assert_close(mirrored, flipped, atol=1e-5, rtol=0)


def test_samples_do_not_depend_on_their_batch() -> None:
    images = image(33, 3, 13, 17)
    table = EVERYTHING.table(33, (13, 17), 0, 5)
    together = EVERYTHING(images, table, GREY)
    device = torch.device("cpu")
    rows = torch.arange(33).split(4)
    apart = torch.cat([EVERYTHING(images[part], table.at(part, device), GREY) for part in rows])
    assert torch.equal(together, apart)
    assert not torch.equal(together[0], EVERYTHING(images[:1], table.at(torch.tensor([1]), device), GREY)[0])


def test_switching_one_on_leaves_the_others() -> None:
    alone, all_on = Augmentation(rotate=180).table(50, (8, 8), 3), EVERYTHING.table(50, (8, 8), 3)
    turned, dilated = alone.matrices, all_on.matrices
    torch.testing.assert_close(dilated / dilated.det().sqrt()[:, None, None], turned)
    assert torch.equal(Augmentation(crop=3).table(50, (8, 8), 3).shifts, all_on.shifts)


def test_tables_are_functions_of_seed_and_epoch() -> None:
    images = image(20, 3, 8, 8)
    assert torch.equal(apply(EVERYTHING, images, 1), apply(EVERYTHING, images, 1))
    assert not torch.equal(apply(EVERYTHING, images, 1), apply(EVERYTHING, images, 2))


WRONG = {
    "rotate": [-1, 181, True, "all"],
    "scale": [[0, 1], [1.2, 0.8], 0.5, [1], ["a", "b"]],
    "crop": [-1, 1.5, True],
    "cutout": [-1, "8"],
    "flip": [1, "yes"],
    "flip_y": [0],
    "mode": ["nearest"],
    "border": ["wrap"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_refuses(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`(augment\.)?{name}` must be"):
        Augmentation(**{name: value})
