r"""Contact sheets: a row of samples for each class, side by side as several columns show them.

Everything lies on a grid that is known beforehand, `Layout`; drawing is a function from tensors to a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

ROWS = 20
"""At most so many classes are shown."""
CELL = 96
"""Pixels of a sample on the sheet: at most so many, unless the sample itself has more."""
MARGIN, GAP, BETWEEN, LINE, TEXT = 16, 4, 28, 22, 15
"""Pixels around the sheet, between samples, between columns, from line to line of text, and of its letters."""
LONGEST = 260
"""Pixels of the name of a class; a longer one is shortened."""
PAPER, INK = (225, 225, 225), (0, 0, 0)
"""Neither black nor white, so that the rim of an image is seen."""
NOTHING = "no sample in this split"


@dataclass(frozen=True)
class Layout:
    """Where samples are on a sheet, in pixels.

    Args:
        size: (y, x) of a sample.
        samples: in a row of a column.
        names: width of the widest name of a row.
        heading: width of the widest heading of a column.
    """

    size: tuple[int, int]
    samples: int
    names: int
    heading: int

    @property
    def factor(self) -> int:
        """By which samples are magnified: whole, so that every pixel of theirs is a square of the same size."""
        return max(1, CELL // max(self.size))

    @property
    def cell(self) -> tuple[int, int]:
        """(y, x) of a magnified sample."""
        return self.factor * self.size[0], self.factor * self.size[1]

    @property
    def row(self) -> int:
        """Height of a row."""
        return max(self.cell[0], LINE)

    @property
    def column(self) -> int:
        """Width of a column."""
        return max(self.heading, self.samples * (self.cell[1] + GAP) - GAP)

    def corner(self, row: int, column: int, sample: int = 0) -> tuple[int, int]:
        """(y, x) of the upper left pixel of a sample; rows, columns and samples are counted from 0."""
        y = MARGIN + LINE + row * (self.row + GAP)
        x = MARGIN + self.names + MARGIN + column * (self.column + BETWEEN) + sample * (self.cell[1] + GAP)
        return y, x


def contact_sheet(
    columns: Mapping[str, Tensor], labels: Tensor, names: Sequence[str], caption: Sequence[str] = ()
) -> Image.Image:
    """Draw samples, class by class.

    Args:
        columns: by heading, the same samples (n, c, y, x) with one or three channels, uint8 or floating point in
            [0, 1]; what is outside is clipped.
        labels: (n,), in which row each of them is, from 0.
        names: of the rows; of more than 20 the first are shown, and the caption says so.
        caption: paragraphs below.

    Raises:
        ValueError: if shapes do not fit to each other.
    """
    _check(columns, labels)
    if len(names) > ROWS:
        caption = [*caption, f"These are the first {ROWS} of {len(names)} classes."]
    names, layout = [_shortened(name) for name in names[:ROWS]], arrange(columns, labels, names)
    foot, right = layout.corner(len(names), len(columns))
    foot += MARGIN - GAP
    width = max(right - BETWEEN, MARGIN + _width(" ".join(caption).split()))
    lines = [line for text in caption for line in _lines(text, width - MARGIN)]
    sheet = Image.new("RGB", (width + MARGIN, foot + LINE * len(lines) + MARGIN), PAPER)
    for row, name in enumerate(names):
        chosen = labels == row
        _write(sheet, name, (layout.corner(row, 0)[0] + layout.row // 2, MARGIN), "lm")
        for column, images in enumerate(columns.values()):
            for sample, image in enumerate(images[chosen]):
                y, x = layout.corner(row, column, sample)
                sheet.paste(_picture(image, layout.factor), (x, y))
        if not chosen.any():
            y, x = layout.corner(row, 0)
            _write(sheet, NOTHING, (y + layout.row // 2, x), "lm")
    for column, heading in enumerate(columns):
        _write(sheet, heading, (MARGIN, layout.corner(0, column)[1]))
    for n, line in enumerate(lines):
        _write(sheet, line, (foot + LINE * n, MARGIN))
    return sheet


def arrange(columns: Mapping[str, Tensor], labels: Tensor, names: Sequence[str]) -> Layout:
    """The layout of a sheet; the arguments are those of `contact_sheet`."""
    names = [_shortened(name) for name in names[:ROWS]]
    counts = torch.bincount(labels[labels < len(names)], minlength=len(names))
    y, x = next(iter(columns.values())).shape[-2:]
    # A row without samples says so in the first column, which must be wide enough for it.
    headings = [*columns, *([] if counts.all() else [NOTHING])]
    return Layout((y, x), max(1, int(counts.max())), _width(names), _width(headings))


def _picture(image: Tensor, factor: int) -> Image.Image:
    """(c, y, x), magnified."""
    if image.is_floating_point():
        image = image.clamp(0, 1).mul(255).round().to(torch.uint8)
    pixels = image.expand(3, -1, -1).movedim(0, -1).contiguous().numpy()
    return Image.fromarray(pixels).resize((factor * image.shape[2], factor * image.shape[1]), Image.Resampling.NEAREST)


def _write(sheet: Image.Image, text: str, corner: tuple[int, int], anchor: str = "la") -> None:
    """Write a line at (y, x), which is the left of it, at its top or in its middle."""
    ImageDraw.Draw(sheet).text(corner[::-1], text, INK, _font(), anchor)


def _lines(text: str, width: int) -> Iterator[str]:
    """Break a paragraph between words."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and _width([longer]) > width:
            yield line
            longer = word
        line = longer
    yield line


def _shortened(name: str) -> str:
    if _width([name]) <= LONGEST:
        return name
    while _width([f"{name}..."]) > LONGEST:
        name = name[:-1]
    return f"{name}..."


def _width(texts: Sequence[str]) -> int:
    """Pixels of the widest text."""
    return max((ceil(_font().getlength(text)) for text in texts), default=0)


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=TEXT)


def _check(columns: Mapping[str, Tensor], labels: Tensor) -> None:
    shapes = {tuple(images.shape) for images in columns.values()}
    shape = next(iter(shapes), ())
    if len(shapes) != 1 or len(shape) != 4 or shape[1] not in (1, 3) or shape[0] != len(labels):
        raise ValueError(
            f"`columns` must all have the shape (n, c, y, x), with n = {len(labels)} labels and c = 1 or 3, but have "
            f"{sorted(shapes)}."
        )
