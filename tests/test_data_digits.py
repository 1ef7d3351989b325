"""The digits of scikit-learn, and what all sources share: splits, statistics, sizes."""

from math import pi

import pytest
import torch

from src.data import Digits, Split, statistics, stratified
from src.data.draw import canvas, scalings, switched_splits
from src.data.poses import magnifications, turns
from src.data.resample import fit, pose
from src.data.warp import warp


def poses(angles: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Rotations and magnifications, (n, 2, 2)."""
    return turns(angles.double(), 2) @ magnifications(scales.double().log()[:, None], 2)


def ink(split: Split) -> torch.Tensor:
    return split.images.double().sum((1, 2, 3))


def test_split_is_complete_disjoint_and_stratified() -> None:
    splits = Digits().splits()
    assert [len(split.labels) for split in splits] == [1197, 200, 400]
    assert all(split.images.shape[1:] == (1, 20, 20) and split.images.dtype == torch.uint8 for split in splits)
    together = torch.cat([split.images for split in splits]).flatten(1)
    assert len(together.unique(dim=0)) == 1797
    whole = torch.bincount(torch.cat([split.labels for split in splits])) / 1797
    for split in splits:
        assert (torch.bincount(split.labels) - whole * len(split.labels)).abs().max() <= 1


def test_images_have_their_own_labels() -> None:
    train, _, test = Digits().splits()
    means = torch.stack([train.images[train.labels == k].float().mean(0) for k in range(10)]).flatten(1)
    guess = torch.cdist(test.images.float().flatten(1), means).argmin(1)
    assert (guess == test.labels).float().mean() > 0.85
    assert (guess == test.labels.roll(1)).float().mean() < 0.2


def test_seed_decides_the_split_and_nothing_else_does() -> None:
    first, again, other = Digits().splits(), Digits(rotate={"train": True}).splits(), Digits(seed=1).splits()
    assert torch.equal(first.test.images, again.test.images)
    assert torch.equal(first.train.labels, again.train.labels)
    assert not torch.equal(first.train.labels, other.train.labels)


@pytest.mark.parametrize("size", [12, 20, 29, [16, 24]])
def test_digits_stay_on_the_canvas_under_rotation(size: int | list[int]) -> None:
    upright, rotated = Digits(size=size).splits(), Digits(size=size, rotate={"train": True}).splits()
    assert (ink(rotated.train) / ink(upright.train) - 1).abs().max() < 0.04
    inner = rotated.train.images[..., 1:-1, 1:-1].double().sum((1, 2, 3))
    assert (1 - inner / ink(rotated.train)).max() < 0.005
    # The check would see a digit that was too large.
    larger = pose(upright.train.images, poses(torch.full((1197,), 0.7), torch.full((1197,), 2.0)), canvas(size))
    assert (larger.double().sum((1, 2, 3)) / ink(upright.train) / 4 - 1).abs().max() > 0.04


def test_rotations_are_uniform_and_per_split() -> None:
    upright, rotated = Digits().splits(), Digits(rotate={"test": True}).splits()
    assert torch.equal(upright.train.images, rotated.train.images)
    moved = (upright.test.images.int() - rotated.test.images.int()).abs().amax((1, 2, 3))
    assert (moved > 0).float().mean() > 0.99
    again = Digits(rotate={"test": True, "train": True}).splits()
    assert torch.equal(again.test.images, rotated.test.images)


@pytest.mark.parametrize("size", [11, [20, 8], [20], "20", True, 20.0])
def test_refuses_sizes(size: object) -> None:
    with pytest.raises(ValueError, match="`size` must be a number of pixels"):
        Digits(size=size)


@pytest.mark.parametrize("rotate", [{"training": True}, {"train": 1}, "train", 1])
def test_refuses_rotations(rotate: object) -> None:
    with pytest.raises(ValueError, match="`rotate` must be true or false, or map"):
        switched_splits("rotate", rotate)


@pytest.mark.parametrize("scale", [{"training": [1, 2]}, {"train": 1}, [0, 1], [2, 1], [1], 0.5, "all", [True, 2]])
def test_refuses_scales(scale: object) -> None:
    with pytest.raises(ValueError, match="`scale` must be null or"):
        scalings(scale)


def test_by_split() -> None:
    assert switched_splits("rotate", True) == {"train": True, "val": True, "test": True}
    assert switched_splits("rotate", {"test": True}) == {"train": False, "val": False, "test": True}
    assert scalings([0.3, 1]) == {"train": (0.3, 1), "val": (0.3, 1), "test": (0.3, 1)}
    assert scalings({"test": [1, 2], "val": None}) == {"train": None, "val": None, "test": (1, 2)}


def test_statistics_are_those_of_the_pixels() -> None:
    images = torch.randint(256, (50, 3, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[:, 2] = 9
    mean, std = statistics(images, chunk=700)
    pixels = images.double().transpose(0, 1).flatten(1) / 255
    torch.testing.assert_close(mean.double(), pixels.mean(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(std[:2].double(), pixels.std(1, correction=0)[:2], atol=1e-6, rtol=0)
    assert std[2] == pytest.approx(1 / 255)
    assert all(map(torch.equal, statistics(images, chunk=1), (mean, std)))


def test_stratified_refuses_more_than_there_is() -> None:
    labels = torch.arange(10) % 2
    parts = stratified(labels, [4, 6], torch.Generator().manual_seed(0))
    assert torch.cat(parts).sort().values.tolist() == list(range(10))
    assert [torch.bincount(labels[part]).tolist() for part in parts] == [[2, 2], [3, 3]]
    with pytest.raises(ValueError, match="`counts` must be at most 10"):
        stratified(labels, [4, 7], torch.Generator())


def test_fit_pads_centrally_and_shrinks_with_antialiasing() -> None:
    images = torch.full((1, 1, 28, 28), 200, dtype=torch.uint8)
    padded = fit(images, (29, 32))
    assert padded.shape == (1, 1, 29, 32)
    assert torch.equal(padded[..., :28, 2:30], images)
    assert padded.double().sum() == images.double().sum()
    stripes = images.clone()
    stripes[..., ::2] = 0
    shrunk = fit(stripes, (30, 7))
    assert shrunk.shape == (1, 1, 30, 7)
    assert (shrunk[..., 1:29, :].double() - 100).abs().max() < 30  # grey, where every fourth column would be black
    assert fit(images, (28, 28)) is not None
    assert torch.equal(fit(images, (28, 28)), images)


def noise(n: int = 50) -> torch.Tensor:
    return torch.randint(256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_a_pose_does_not_depend_on_the_chunk() -> None:
    angles, scales = torch.linspace(0, 6, 50), torch.linspace(0.3, 1.4, 50)
    results = [pose(noise(), poses(angles, scales), (28, 28), chunk=chunk) for chunk in (1, 7, 50)]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], pose(noise(), poses(angles + 0.01, scales), (28, 28)))


@pytest.mark.parametrize("quarters", range(4))
def test_a_pose_on_the_lattice_is_exact(quarters: int) -> None:
    posed = pose(noise(), poses(torch.full((50,), quarters * pi / 2), torch.ones(50)), (28, 28))
    assert torch.equal(posed, torch.rot90(noise(), quarters, (-2, -1)))


def test_a_small_scale_is_not_aliased() -> None:
    """Stripes of one pixel become grey; sampled once a pixel, they would become other stripes."""
    stripes = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    stripes[..., ::2] = 200
    for scale in (0.3, 0.45):
        posed = pose(stripes, poses(torch.zeros(1), torch.tensor([scale])), (28, 28)).double()
        middle = posed[0, 0, 12:16, 12:16]
        assert (middle - 100).abs().max() < 35
        bare = warp(stripes.float(), scale * torch.eye(2)[None], "bicubic")[0, 0, 12:16, 12:16]
        assert (bare - 100).abs().max() > 60
        side = int(28 * scale) // 2 - 1
        assert posed[0, 0, : 14 - side - 2].max() == 0, "and the image ends where it should"
        assert (posed.sum() / stripes.sum() / scale**2) == pytest.approx(1, abs=0.1)
