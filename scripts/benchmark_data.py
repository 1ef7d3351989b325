"""Measure augmentation of whole batches beside pipelines that go sample by sample, in one run.

What is measured, and how, is said by `_HEADER`. The pipelines draw from the same noise images, with the same parameters
for a sample; that they give the same is checked before anything is timed, of Pillow, which rounds to bytes after every
step, that it is near. Workers stay from epoch to epoch; what is drawn at random is drawn beforehand and costs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import count, islice, product
from pathlib import Path
from platform import python_version

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from scripts.benchmark import hardware, in_turn, shown
from src.data import Augmentation, Split, Statistics
from src.data.augment import Parameters, columns
from src.data.loader import Batches, ImageBatches, Loader
from src.data.tables import uniform_table
from src.runs.checkpoints import write_text
from src.runs.process import keep_freed_memory
from src.runs.tables import markdown_table

_SHAPES = {"MNIST": (1, 28, 28), "CIFAR": (3, 32, 32)}
_AUGMENTATIONS = {
    "crop, flip": Augmentation(crop=4, flip=True),
    "rotation": Augmentation(rotate=180),
    "crop, flip, rotation, scaling, cutout": Augmentation(rotate=180, scale=[0.8, 1.25], crop=4, flip=True, cutout=8),
}
_HEAD = ("images", "augmentation", "batch", "whole batches", "sample by sample", "ratio", "Pillow", "ratio")
_WORKERS = (0, 2)
_SEED = 0
_CHECKED = 2
"""Batches that are compared before anything is timed."""
_Sample = tuple[Tensor, Tensor]
_OURS = ("ours", 0)
_Pipelines = dict[tuple[str, int], DataLoader[_Sample]]
"""All that are compared, by name and number of workers: ours on whole epochs, the others on the start of epoch 0."""


class _Samples(Dataset[_Sample]):
    """A split, one sample at a time, as epoch 0 of training has it."""

    def __init__(self, batches: ImageBatches) -> None:
        self.images, self.labels, _ = batches.split
        self.augmentation, self.mean, self.std = batches.augmentation, batches.mean, batches.std
        self.size = self.images.shape[-2:]
        self.uniform = uniform_table(len(batches), "augment", _SEED, 0, columns=sum(columns(2)))
        self.parameters = self.augmentation.parameters(self.uniform, self.size)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> _Sample:
        image = self.images[index].to(torch.float32) / 255
        own = self.augmentation.parameters(self.uniform[index : index + 1], self.size)
        return (self.augmentation(image[None], own, self.mean)[0] - self.mean) / self.std, self.labels[index]


class _PillowSamples(_Samples):
    """The same with Pillow."""

    def __init__(self, batches: ImageBatches) -> None:
        super().__init__(batches)
        self.arrays = self.images.movedim(1, -1).numpy()
        self.colour = tuple((255 * self.mean.flatten()).round().int().tolist())

    def __getitem__(self, index: int) -> _Sample:
        array = self.arrays[index]
        picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        own = Parameters(*(None if values is None else values[index] for values in self.parameters))
        picture = self._crop(self._affine(picture, own), own)
        if own.holes is not None:
            y, x = (own.holes - self.augmentation.cutout // 2).tolist()
            side = self.augmentation.cutout
            picture.paste(self.colour if len(self.colour) > 1 else self.colour[0], (x, y, x + side, y + side))
        image = torch.from_numpy(np.array(picture)).reshape(array.shape).permute(2, 0, 1).to(torch.float32) / 255
        return (image - self.mean) / self.std, self.labels[index]

    def _affine(self, picture: Image.Image, own: Parameters) -> Image.Image:
        """Rotation and scaling, about the centre."""
        if own.matrices is None:
            return picture
        (a, b), (c, d) = own.matrices.tolist()
        determinant = a * d - b * c
        # The inverse, on (x, y): Pillow asks where a pixel of the result comes from.
        xx, xy, yx, yy = a / determinant, -c / determinant, -b / determinant, d / determinant
        x, y = picture.width / 2, picture.height / 2
        place = (xx, xy, x - xx * x - xy * y, yx, yy, y - yx * x - yy * y)
        return picture.transform(picture.size, Image.Transform.AFFINE, place, Image.Resampling.BILINEAR)

    def _crop(self, picture: Image.Image, own: Parameters) -> Image.Image:
        """Crop of the padded picture, and flip."""
        if own.shifts is not None:
            pad = self.augmentation.crop
            y, x = (own.shifts + pad).tolist()
            picture = ImageOps.expand(picture, pad).crop((x, y, x + picture.width, y + picture.height))
        if own.mirrored is not None and own.mirrored[1]:
            picture = ImageOps.mirror(picture)
        return picture


def _noise(shape: Sequence[int], n: int, augmentation: Augmentation) -> ImageBatches:
    """A split of n images of noise."""
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.randint(256, (n, *shape), dtype=torch.uint8, generator=generator)
    half = torch.full((shape[0],), 0.5)
    split = Split(images, torch.arange(n) % 10, torch.arange(n))
    return ImageBatches(split, Statistics(half, half / 2), augmentation, _SEED)


def _build(batches: ImageBatches, batch_size: int, share: int = 12) -> _Pipelines:
    """Those of one split; what goes sample by sample is given one in `share` of its batches."""
    order = Batches(len(batches), batch_size, _SEED)
    first = torch.cat([indices for _, indices in islice(order, max(_CHECKED, len(order) // share))]).tolist()
    datasets = {"samples": _Samples(batches), "Pillow": _PillowSamples(batches)}
    pipelines: _Pipelines = {_OURS: Loader(batches, order)}
    for name, n in product(datasets, _WORKERS):
        workers = {"num_workers": n, "persistent_workers": n > 0}
        pipelines[name, n] = DataLoader(datasets[name], batch_size, sampler=first, **workers)
    return pipelines


def _check_same(pipelines: _Pipelines) -> None:
    """Raises RuntimeError if the pipelines do not give the same samples of epoch 0."""
    loaders = (pipelines[name, 0] for name in ("ours", "samples", "Pillow"))
    for ours, samples, pillow in islice(zip(*loaders, strict=False), _CHECKED):
        error = max((mine - its).abs().max().item() for mine, its in zip(ours, samples, strict=True))
        if error > 1e-4:
            raise RuntimeError(f"sample by sample differs from whole batches by {error:.1e}; nothing was timed.")
        # Rounding to bytes; at the rims of images, which few pixels are at, Pillow interpolates otherwise.
        error = (ours[0] - pillow[0]).abs().median().item()
        if error > 4 / 255 or not torch.equal(ours[1], pillow[1]):
            raise RuntimeError(f"Pillow differs from whole batches by {error:.1e}; nothing was timed.")


def _measure(pipelines: _Pipelines, repeats: int) -> list[str]:
    """Samples per second of ours; and of the others with the better number of workers, with ratios."""
    epochs, sizes = count(), {}

    def deliver(key: tuple[str, int]) -> None:
        if key == _OURS:
            pipelines[key].batches.set_epoch(next(epochs))
        sizes[key] = sum(len(labels) for _, labels in pipelines[key])

    times = in_turn(deliver, pipelines, repeats, "cpu")
    rates = {key: 1e3 * sizes[key] / milliseconds for key, milliseconds in times.items()}
    ours, cells = rates[_OURS], []
    for name in ("samples", "Pillow"):
        rate, workers = max((rate, workers) for (pipeline, workers), rate in rates.items() if pipeline == name)
        cells += [f"{rate:,.0f} ({workers})", f"{ours / rate:.1f}"]
    return [f"{ours:,.0f}", *cells]


def _rows(sizes: Sequence[str], batch_sizes: Sequence[int], samples: int, repeats: int) -> Iterator[list[str]]:
    """All cases, as cells of a table."""
    for size, (name, augmentation), batch_size in product(sizes, _AUGMENTATIONS.items(), batch_sizes):
        pipelines = _build(_noise(_SHAPES[size], samples, augmentation), batch_size)
        _check_same(pipelines)
        yield [" x ".join(map(str, _SHAPES[size])), name, str(batch_size), *_measure(pipelines, repeats)]


def _machine() -> str:
    """What the figures were measured on, and what else it had to do."""
    load = f"; load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"{hardware('cpu')}; PyTorch {torch.__version__}, Pillow {PIL.__version__}, Python {python_version()}{load}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000, help="images in an epoch")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=5, help="timed epochs of each pipeline")
    parser.add_argument("--sizes", nargs="+", default=list(_SHAPES), choices=list(_SHAPES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of whole batches")
    parser.add_argument("--output", type=Path, help="a Markdown file")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print(where := _machine())
    rows = shown(_rows(options.sizes, options.batch_size, options.samples, options.repeats))
    print(table := markdown_table(_HEAD, rows, _HEAD[2:]))
    if options.output is not None:
        write_text(options.output, _HEADER.format(machine=where, samples=options.samples) + table)
        print(f"written to {options.output}")


_HEADER = """# Data benchmark

Written by `make bench-data` (`scripts/benchmark_data.py`) on: {machine}.

Samples per second of augmented and normalised batches, on {samples:,} images of noise; medians of epochs in which the
pipelines take turns. **Ratios are whole batches / the other: above 1, whole batches are faster.** Whole batches are
what training uses. Sample by sample is an ordinary data set that applies the same functions with the same parameters to
one image at a time, and a DataLoader that collates; both give the same images, which is checked first. Pillow is the
same with Pillow's operations. These two run without workers and with two; the better counts, and is given in
parentheses.

"""

if __name__ == "__main__":
    main()
