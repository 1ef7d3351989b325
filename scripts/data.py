"""Download, verify, generate and describe a data set: python scripts/data.py dataset=NAME [key=value ...]."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from rich.table import Table
from torch import Tensor

from src.data import ImageDataModule, Source
from src.data.io.fetch import DownloadError
from src.data.sets.published import Published
from src.runs.tables import console, fact_table, rich_table
from src.training.commands import load_data, parser, user_errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the data set and print what is known of it; user errors print as one line."""
    overrides = parser(__doc__, "as in training; dataset=NAME is needed").parse_args(arguments).overrides
    with user_errors(ValueError, OSError, DownloadError):
        data = load_data(overrides)
        tables = [fact_table(data.name, dict(_facts(data.module))), *_files(data.module.source), _classes(data.module)]
    out = console()
    for table in tables:
        out.print(table)


def _facts(module: ImageDataModule) -> Iterator[tuple[str, str]]:
    """The card, or where data of one's own are; shape, statistics and name of the splits; and where they are kept."""
    source, train = module.source, module.datasets["train"]
    if source.card is not None:
        for name in ("title", "homepage", "licence", "citation"):
            yield name, getattr(source.card, name)
    if hasattr(source, "path"):
        yield "path", str(source.path)
    yield "size", "{} x {} pixels".format(*module.size)
    yield "channels", str(module.channels)
    yield "mean of train", _numbers(train.mean)
    yield "deviation of train", _numbers(train.std)
    yield "split", module.fingerprint
    yield "derived files in", "nowhere" if source.cache is None else str(source.cache)
    if source.file is not None:
        yield "generated images", source.file.name


def _files(source: Source) -> Iterator[Table]:
    """The original files, verified; nothing for data of one's own."""
    if isinstance(source, Published):
        paths = source.locate()
        places = [(file, paths[file.name]) for file in source.originals]
        rows = [[file.name, f"{path.stat().st_size:,}", file.sum, str(path.parent)] for file, path in places]
        yield rich_table(("file", "bytes", "sum", "found in"), rows, right=("bytes",), title="original files")


def _classes(datamodule: ImageDataModule) -> Table:
    """How many images every class has in every split; or pixels, where these have classes."""
    splits = datamodule.datasets
    each = (torch.bincount(dataset.split.labels.flatten(), minlength=datamodule.classes) for dataset in splits.values())
    counts = [[f"{n:,}" for n in (*own.tolist(), own.sum())] for own in each]
    rows = zip((*datamodule.source.labels, "all"), *counts, strict=True)
    result = rich_table(
        ("class", *splits), rows, right=splits, title="pixels" if datamodule.targets == "pixels" else "images"
    )
    result.rows[-2].end_section = True
    return result


def _numbers(values: Tensor) -> str:
    """(c, 1, 1), of images in [0, 1]."""
    return ", ".join(f"{value:.4f}" for value in values.flatten().tolist())


if __name__ == "__main__":
    main()
