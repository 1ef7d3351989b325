"""Download, verify, generate and describe a data set: python scripts/data.py dataset=NAME [key=value ...]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from src.config.instantiate import ConfigError
from src.data import ImageDataModule, Source
from src.data.io.fetch import DownloadError
from src.data.sets.published import Published
from src.training.commands import Data, fail, load_data

_UNBROKEN = 160
"""Columns where the output is no terminal, so that sums and most paths stay on one line."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the data set and print what is known of it; user errors print as one line."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as in training; dataset=NAME is needed")
    overrides = parser.parse_args(arguments).overrides
    try:
        data = load_data(overrides)
        tables = [_summary(data), *_files(data.module.source), _classes(data.module)]
    except (ConfigError, ValueError, OSError, DownloadError) as error:
        fail(error)
    # Names of classes and files are no markup.
    console = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _UNBROKEN)
    for table in tables:
        console.print(table)


def _summary(data: Data) -> Table:
    """What the data set is, whose it is, and what of it is used."""
    result = Table(show_header=False, title=data.name)
    result.add_column(no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in (*_origin(data.module.source), *_content(data.module), *_derived(data.module.source)):
        result.add_row(name, value)
    return result


def _origin(source: Source) -> Iterator[tuple[str, str]]:
    """From the card, or where data of one's own are."""
    if source.card is not None:
        for name in ("title", "homepage", "licence", "citation"):
            yield name, getattr(source.card, name)
    if hasattr(source, "path"):
        yield "path", str(source.path)


def _content(datamodule: ImageDataModule) -> Iterator[tuple[str, str]]:
    """Shape, statistics and name of the splits."""
    train = datamodule.datasets["train"]
    yield "size", "{} x {} pixels".format(*datamodule.size)
    yield "channels", str(datamodule.channels)
    yield "mean of train", _numbers(train.mean)
    yield "deviation of train", _numbers(train.std)
    yield "split", datamodule.fingerprint


def _derived(source: Source) -> Iterator[tuple[str, str]]:
    """Where it is kept."""
    yield "derived files in", "nowhere" if source.cache is None else str(source.cache)
    if source.file is not None:
        yield "generated images", source.file.name


def _files(source: Source) -> Iterator[Table]:
    """The original files, verified; nothing for data of one's own."""
    if not isinstance(source, Published):
        return
    result = Table(title="original files")
    for name, justify in {"file": "left", "bytes": "right", "sum": "left", "found in": "left"}.items():
        result.add_column(name, justify=justify, overflow="fold")
    found = source.locate()
    for file in source.originals:
        path = found[file.name]
        result.add_row(file.name, f"{path.stat().st_size:,}", file.sum, str(path.parent))
    yield result


def _classes(datamodule: ImageDataModule) -> Table:
    """How many images every class has in every split."""
    names = [*datamodule.source.labels, "all"]
    result = Table("class", title="images")
    counts = []
    for name, dataset in datamodule.datasets.items():
        result.add_column(name, justify="right")
        each = torch.bincount(dataset.split.labels, minlength=datamodule.classes)
        counts.append([*each.tolist(), len(dataset)])
    for row, (name, *own) in enumerate(zip(names, *counts, strict=True)):
        result.add_row(name, *(f"{n:,}" for n in own), end_section=row == datamodule.classes - 1)
    return result


def _numbers(values: Tensor) -> str:
    """(c, 1, 1), of images in [0, 1]."""
    return ", ".join(f"{value:.4f}" for value in values.flatten().tolist())


if __name__ == "__main__":
    main()
