"""Contact sheets: every sample is where it should be, and nothing is cut off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor

from src.data.sheet import LINE, MARGIN, PAPER, ROWS, arrange, contact_sheet

NAMES = ("cat", "dog", "edge-on disk, rounded bulge")
LABELS = torch.tensor([2, 0, 1, 0, 2])


def pixels(sheet: Image.Image) -> Tensor:
    """(y, x, 3)."""
    width, height = sheet.size
    return torch.frombuffer(bytearray(sheet.tobytes()), dtype=torch.uint8).view(height, width, 3)


def noise(channels: int = 3, size: Sequence[int] = (28, 28), n: int = len(LABELS)) -> Tensor:
    return torch.randint(256, (n, channels, *size), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "factor"), [((28, 28), 3), ((8, 20), 4), ((96, 96), 1), ((128, 128), 1)])
def test_every_pixel_of_every_sample_is_where_it_should_be(channels: int, size: Sequence[int], factor: int) -> None:
    columns = {"stored": noise(channels, size), "in epoch 0": noise(channels, size)}
    layout, sheet = arrange(columns, LABELS, NAMES), pixels(contact_sheet(columns, LABELS, NAMES))
    assert (layout.factor, layout.samples) == (factor, 2)
    covered = torch.zeros(sheet.shape[:2], dtype=torch.bool)
    for column, images in enumerate(columns.values()):
        for n, (row, sample) in enumerate([(2, 0), (0, 0), (1, 0), (0, 1), (2, 1)]):
            y, x = layout.corner(row, column, sample)
            cell = sheet[y : y + factor * size[0], x : x + factor * size[1]]
            expected = images[n].repeat_interleave(factor, 1).repeat_interleave(factor, 2).movedim(0, -1)
            assert torch.equal(cell, expected.expand_as(cell))
            place = covered[y : y + factor * size[0], x : x + factor * size[1]]
            assert not place.any(), "no sample lies on another"
            place[:] = True
    y, x = layout.corner(1, 0, 1)
    assert (sheet[y : y + factor * size[0], x : x + factor * size[1]] == torch.tensor(PAPER)).all(), "a dog is missing"


def test_size_and_margins() -> None:
    columns = {"stored": noise(), "in epoch 0": noise()}
    layout, sheet = arrange(columns, LABELS, NAMES), contact_sheet(columns, LABELS, NAMES)
    y, x = layout.corner(2, 1, 1)
    assert sheet.size == (x + 84 + MARGIN, y + 84 + 2 * MARGIN)
    higher = contact_sheet(columns, LABELS, NAMES, ["one line", "and another"])
    assert higher.size == (sheet.width, sheet.height + 2 * LINE)
    for picture in (sheet, higher):
        paper = (pixels(picture) == torch.tensor(PAPER)).all(-1)
        assert paper[: MARGIN // 2].all()
        assert paper[-MARGIN // 2 :].all()
        assert paper[:, : MARGIN - 2].all()
        assert paper[:, -MARGIN + 2 :].all()


def test_names_headings_and_caption_are_written() -> None:
    columns = {"stored": noise(), "in epoch 0": noise()}
    layout = arrange(columns, LABELS, NAMES)

    def written(names: Sequence[str], headings: Sequence[str]) -> Tensor:
        sheet = contact_sheet(dict(zip(headings, columns.values(), strict=True)), LABELS, names, ["caption"])
        return (pixels(sheet) != torch.tensor(PAPER)).any(-1)

    full = written(NAMES, ("stored", "in epoch 0"))
    for row in range(3):
        y, x = layout.corner(row, 0)
        assert full[y : y + 84, MARGIN - 2 : x - 2].any()
    for column in range(2):
        y, x = layout.corner(0, column)
        assert full[MARGIN - 2 : y - 2, x : x + layout.column].any()
    y, _ = layout.corner(3, 0)
    assert full[y:].any()
    # Take one away, and there is nothing in its place.
    y, x = layout.corner(0, 0)
    assert not written(("", *NAMES[1:]), ("stored", "in epoch 0"))[y : y + 84, : x - 2].any()
    assert not written(NAMES, ("", "in epoch 0"))[: y - 2, : x + layout.column].any()


def test_floating_point_is_rounded_and_clipped() -> None:
    values = torch.tensor([-0.5, 0.25, 1.5]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    sheet, layout = (f({"x": values}, torch.tensor([0]), ["a"]) for f in (contact_sheet, arrange))
    y, x = layout.corner(0, 0)
    assert sheet.getpixel((x, y)) == (0, 64, 255)


def test_many_classes() -> None:
    names, labels = [f"class {n}" for n in range(100)], torch.arange(100)
    columns = {"stored": noise(1, n=100)}
    sheet = contact_sheet(columns, labels, names, ["caption"])
    few = contact_sheet({"stored": columns["stored"][:ROWS]}, labels[:ROWS], names[:ROWS], ["caption", "line"])
    y, _ = arrange(columns, labels, names).corner(ROWS, 0)
    assert torch.equal(pixels(sheet)[:y, :150], pixels(few)[:y, :150])
    assert sheet.height > few.height - LINE, "a line more, which says so"
    assert not torch.equal(pixels(sheet)[y:, :150], pixels(few)[y : y + sheet.height - y, :150])


def test_a_class_without_samples_says_so() -> None:
    labels = torch.zeros(5, dtype=torch.int64)
    columns = {"stored": noise()}
    layout, sheet = arrange(columns, labels, NAMES[:2]), pixels(contact_sheet(columns, labels, NAMES[:2]))
    y, x = layout.corner(1, 0)
    row = sheet[y : y + 84, x:]
    ink = (row == 0).all(-1)
    assert ink.any()
    assert ink.sum() < 1000, "letters, no image"


def test_long_names_and_captions_stay_on_the_sheet() -> None:
    names = ["a name that is much longer than there is room for on any sheet of samples", "b"]
    columns = {"x": noise(1, (8, 8), 2)}
    sheet = contact_sheet(columns, torch.tensor([0, 1]), names, ["word " * 50, "w" * 90])
    paper = (pixels(sheet) == torch.tensor(PAPER)).all(-1)
    assert paper[:, -MARGIN + 2 :].all()
    assert paper[:, : MARGIN - 2].all()
    x = arrange(columns, torch.tensor([0, 1]), names).corner(0, 0)[1]
    assert x < 320


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"x": torch.zeros(5, 28, 28)},
        {"x": torch.zeros(4, 1, 28, 28)},
        {"x": torch.zeros(5, 2, 28, 28)},
        {"x": torch.zeros(5, 1, 28, 28), "y": torch.zeros(5, 1, 28, 29)},
    ],
)
def test_refuses(columns: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="`columns` must all have the shape"):
        contact_sheet(columns, LABELS, NAMES)
