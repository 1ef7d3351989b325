"""The digits of scikit-learn, and what all sources share: splits, statistics, sizes."""

import pytest
import torch

from src.data import Digits, Split, statistics, stratified
from src.data.resample import fit, turn
from src.data.sources import canvas, rotations


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
    larger = turn(upright.train.images, torch.full((1197,), 0.7), canvas(size), scale=2.0)
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


@pytest.mark.parametrize("rotate", [{"training": True}, {"train": 1}])
def test_refuses_rotations(rotate: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="`rotate` must map"):
        rotations(rotate)


def test_statistics_are_those_of_the_pixels() -> None:
    images = torch.randint(256, (50, 3, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[:, 2] = 9
    mean, std = statistics(images, chunk=7)
    pixels = images.double().transpose(0, 1).flatten(1) / 255
    torch.testing.assert_close(mean.double(), pixels.mean(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(std[:2].double(), pixels.std(1, correction=0)[:2], atol=1e-6, rtol=0)
    assert std[2] == pytest.approx(1 / 255)
    assert all(map(torch.equal, statistics(images, chunk=50), (mean, std)))


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


def test_turning_does_not_depend_on_the_chunk() -> None:
    images = torch.randint(256, (50, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    angles = torch.linspace(0, 6, 50)
    results = [turn(images, angles, (28, 28), chunk=chunk) for chunk in (1, 7, 50)]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], turn(images, angles + 0.01, (28, 28)))
