"""Laws of the loaders: a batch is a pure function of (seed, epoch, position)."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from src.data.augment import Augmentation
from src.data.loader import Batches, ImageBatches, Loader, _Batch
from src.data.sources import Split, Statistics, statistics

N = 23
SPLIT = Split(
    torch.randint(256, (N, 2, 6, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8),
    torch.arange(N),
    torch.arange(N),
)
TURN = Augmentation(rotate=180, crop=1, flip=True)
PLAIN = Statistics(torch.zeros(2), torch.ones(2))


def loader(
    workers: int = 0, seed: int | None = 0, augment: Augmentation | None = TURN, batch_size: int = 5, **place: int
) -> Loader:
    dataset = ImageBatches(SPLIT, statistics(SPLIT.images), augment, seed or 0)
    return Loader(dataset, Batches(N, batch_size, seed, **place), workers)


def epoch(loader: Loader, number: int) -> list[_Batch]:
    loader.sampler.set_epoch(number)
    return list(loader)


def equal(a: Iterable[_Batch], b: Iterable[_Batch]) -> bool:
    return all(torch.equal(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True))


def labels(batches: Iterable[_Batch]) -> list[int]:
    return torch.cat([y for _, y in batches]).tolist()


def test_pure_function_of_seed_and_epoch() -> None:
    first = loader()
    one, two = epoch(first, 1), epoch(first, 2)
    assert equal(one, epoch(first, 1))
    assert equal(two, epoch(loader(), 2))
    assert not equal(one, two)
    assert labels(one) != labels(two)
    assert labels(one) != labels(epoch(loader(seed=1), 1))
    assert sorted(labels(one)) == sorted(labels(two)) == list(range(N))


def test_workers_make_no_difference() -> None:
    parallel, serial = loader(workers=2), loader()
    for number in (0, 1):
        batches = epoch(parallel, number)
        assert equal(batches, epoch(serial, number))
        assert all(images.dtype == torch.float32 for images, _ in batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_numbers_are_untouched(workers: int) -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = state()
    epoch(loader(workers), 0)
    assert state() == before
    list(torch.utils.data.DataLoader(SPLIT.labels))  # what a usual one does
    assert state() != before


def test_augmentation_belongs_to_the_sample() -> None:
    """Neither the order nor the batch size decides how a sample is turned; the epoch does."""

    def by_label(batches: list[_Batch]) -> torch.Tensor:
        return torch.cat([x for x, _ in batches])[torch.tensor(labels(batches)).argsort()]

    dataset = ImageBatches(SPLIT, statistics(SPLIT.images), TURN, 0)
    shuffled = by_label(list(Loader(dataset, Batches(N, 7, seed=3))))
    assert torch.equal(shuffled, by_label(list(Loader(dataset, Batches(N, 1)))))
    assert not torch.equal(shuffled, by_label(epoch(Loader(dataset, Batches(N, 5)), 1)))


def test_normalised_by_the_statistics() -> None:
    images = torch.cat([x for x, _ in loader(augment=None)])
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5, rtol=0)


def test_augmented_before_normalisation() -> None:
    """What a rotation brings in is black, not grey."""
    dataset = ImageBatches(SPLIT, statistics(SPLIT.images), Augmentation(rotate=180), 0)
    mean, std = (value[:, None, None] for value in statistics(SPLIT.images))
    images, _ = dataset.finish(dataset[0, torch.arange(N)], torch.device("cpu"))
    assert torch.equal(images.amin((0, 2, 3)), (-mean / std).flatten())
    plain = ImageBatches(SPLIT, PLAIN)
    raw, _ = plain.finish(plain[0, torch.arange(N)], torch.device("cpu"))
    torch.testing.assert_close(raw, SPLIT.images / 255)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [6, 9, 23])
@pytest.mark.parametrize("seed", [0, None])
def test_ranks_share_what_one_has(seed: int | None, batch_size: int, workers: int) -> None:
    """Batch by batch the same samples, with the same augmentation, none twice and none left out."""
    whole = epoch(loader(seed=seed, batch_size=batch_size), 3)
    shares = [epoch(loader(workers, seed, batch_size=batch_size, rank=rank, ranks=2), 3) for rank in (0, 1)]
    assert len(whole) == len(shares[0]) >= len(shares[1])
    for number, (images, names) in enumerate(whole):
        dealt = [share[number] for share in shares if number < len(share)]
        together, order = (torch.cat(columns) for columns in zip(*dealt, strict=True))
        assert sorted(order.tolist()) == sorted(names.tolist())
        assert torch.equal(together[order.argsort()], images[names.argsort()])
    assert labels(shares[0]) != labels(shares[1])


def test_a_resumed_rank_goes_on_where_it_was() -> None:
    stopped = loader(rank=1, ranks=2)
    iterator = iter(stopped)
    next(iterator)
    resumed = loader(rank=1, ranks=2)
    resumed.load_state_dict(stopped.state_dict())
    assert equal(epoch(resumed, 0), epoch(loader(rank=1, ranks=2), 0)[1:])


def test_ranks_need_two_samples_each() -> None:
    assert len(Batches(9, 4, 0, rank=0, ranks=2)) == len(Batches(9, 4, 0, rank=1, ranks=2)) == 2
    assert [len(Batches(9, 4, None, rank=rank, ranks=2)) for rank in (0, 1)] == [3, 2]
    with pytest.raises(ValueError, match="must be at least 6, two for each of 3 processes"):
        Batches(9, 5, 0, rank=0, ranks=3)


def test_held_on_a_device() -> None:
    """Where the images are held makes no difference to a batch; here both places are the CPU."""
    dataset = ImageBatches(SPLIT, statistics(SPLIT.images), TURN, 0).to(torch.device("cpu"))
    assert equal(Loader(dataset, Batches(N, 5, 0)), loader())


def test_fixed_order() -> None:
    evaluation = loader(seed=None, augment=None)
    assert labels(epoch(evaluation, 0)) == labels(epoch(evaluation, 5)) == list(range(N))
    assert equal(epoch(evaluation, 0), epoch(evaluation, 5))


@pytest.mark.parametrize(
    ("n", "batch_size", "shuffled", "fixed"),
    [
        (10, 4, [4, 4, 2], [4, 4, 2]),
        (9, 4, [4, 4], [4, 4, 1]),
        (8, 4, [4, 4], [4, 4]),
        (3, 1, [1, 1, 1], [1, 1, 1]),
        (1, 4, [1], [1]),
        (3, 8, [3], [3]),
    ],
)
def test_last_batch(n: int, batch_size: int, shuffled: list[int], fixed: list[int]) -> None:
    for seed, lengths in ((0, shuffled), (None, fixed)):
        batches = Batches(n, batch_size, seed)
        assert [len(indices) for _, indices in batches] == lengths
        assert len(batches) == len(lengths)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [0, 2, 5])
def test_resumes_between_any_two_batches(done: int, workers: int) -> None:
    stopped = loader(workers)
    stopped.sampler.set_epoch(4)
    iterator = iter(stopped)
    for _ in range(done):
        next(iterator)
    resumed = loader(workers)
    resumed.load_state_dict(stopped.state_dict())
    rest = epoch(resumed, 5 if done == 5 else 4)
    assert equal(rest, epoch(loader(), 5) if done == 5 else epoch(loader(), 4)[done:])
    assert equal(epoch(resumed, 6), epoch(loader(), 6))


def test_refuses() -> None:
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, but got 0"):
        Batches(4, 0)
    with pytest.raises(ValueError, match="`n` must be at least 1"):
        Batches(0, 4)
    with pytest.raises(TypeError, match=r"`sampler` must be Batches, .* but got SequentialSampler"):
        Loader(ImageBatches(SPLIT, PLAIN), torch.utils.data.SequentialSampler(range(3)))
