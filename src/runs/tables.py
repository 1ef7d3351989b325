"""Tables of results, written once: for the console, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_UNBROKEN = 160
"""Columns where the output is no terminal, so that a row stays on one line."""


def console() -> Console:
    """A console that prints texts as they are, and is 160 columns wide where the output is no terminal."""
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _UNBROKEN)


def rich_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Collection[str] = (),
    title: str | None = None,
    styles: Iterable[str | None] | None = None,
) -> Table:
    """A table for the console; what is too long for its column goes on in the next line.

    Args:
        head: names of the columns.
        rows: cells, as many as there are columns.
        right: names of the columns that are aligned to the right.
        title: above the table.
        styles: one for each row; None is the console's own.
    """
    rows = list(rows)
    result = Table(title=title)
    for name in head:
        result.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row, style in zip(rows, [None] * len(rows) if styles is None else styles, strict=True):
        result.add_row(*row, style=style)
    return result


def fact_table(title: str, facts: Mapping[str, str], bold: Collection[str] = ()) -> Table:
    """Names and what is known of each, without a head."""
    result = Table(title=title, show_header=False)
    result.add_column(no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in facts.items():
        result.add_row(name, value, style="bold" if name in bold else None)
    return result


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """The content of a CSV file; the head is the first row.

    >>> print(csv_text([["lr", "seeds"], [0.1, "0, 1"]]), end="")
    lr,seeds
    0.1,"0, 1"
    """
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()) -> str:
    """A table in Markdown, with a line break at its end.

    Args:
        head: names of the columns.
        rows: cells, as many as there are columns.
        right: names of the columns that are aligned to the right.

    >>> print(markdown_table(["lr", "mean"], [["a|b", "0.9"]], right=["mean"]), end="")
    | lr | mean |
    | --- | ---: |
    | a\\|b | 0.9 |
    """
    lines = [head, ["---:" if name in right else "---" for name in head], *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n" for cells in lines)
