"""Tables of results, written once: for the console, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.console import Console
from rich.table import Column, Table

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
    styles: Iterable[str | None] = (),
) -> Table:
    """A table for the console; what is too long for its column goes on in the next line.

    Args:
        head: names of the columns.
        rows: cells, as many as there are columns.
        right: names of the columns that are aligned to the right.
        title: above the table.
        styles: of the rows; None, or none, is the console's own.
    """
    columns = [Column(name, justify="right" if name in right else "left", overflow="fold") for name in head]
    result = Table(*columns, title=title)
    for row, style in zip_longest(rows, styles):
        result.add_row(*row, style=style)
    return result


def fact_table(title: str, facts: Mapping[str, str], bold: Collection[str] = ()) -> Table:
    """Names and what is known of each, without a head."""
    result = Table(Column(no_wrap=True), Column(overflow="fold"), title=title, show_header=False)
    for name, value in facts.items():
        result.add_row(name, value, style="bold" if name in bold else None)
    return result


def state_counts(states: Iterable[str], order: Sequence[str]) -> str:
    """How many there are of each state, in an order; those that do not occur are left out.

    >>> state_counts(["failed", "complete", "failed"], order=["running", "complete", "failed"])
    '1 complete, 2 failed'
    """
    counts = Counter(states)
    return ", ".join(f"{counts[state]} {state}" for state in order if counts[state])


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """The content of a CSV file; the head is the first row, and None is an empty cell.

    >>> print(csv_text([["lr", "std", "seeds"], [0.1, None, "0, 1"]]), end="")
    lr,std,seeds
    0.1,,"0, 1"
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
