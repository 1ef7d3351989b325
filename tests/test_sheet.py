"""Contact sheets: every sample is where it should be, and nothing is cut off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from src.analysis.drawing import pixels
from src.analysis.sheet import _PAPER, ROWS, contact_sheet

NAMES = ("cat", "dog", "edge-on disk, rounded bulge")
LABELS = torch.tensor([2, 0, 1, 0, 2])
PLACES = [(2, 0), (0, 0), (1, 0), (0, 1), (2, 1)]
"""Rows and samples of these labels."""


def noise(channels: int = 3, size: Sequence[int] = (28, 28), n: int = len(LABELS)) -> Tensor:
    return torch.randint(256, (n, channels, *size), dtype=torch.uint8)


def drawn(sheet: Figure) -> list[Tensor]:
    """The mosaics of the columns, (y, x, 3)."""
    assert all(axes.images[0].get_interpolation() == "nearest" for axes in sheet.axes)
    return [torch.from_numpy(axes.images[0].get_array().data) for axes in sheet.axes]


def cell(mosaic: Tensor, row: int, sample: int, size: Sequence[int]) -> Tensor:
    """One sample of a column, (y, x, 3)."""
    y, x = row * (size[0] + 1), sample * (size[1] + 1)
    return mosaic[y : y + size[0], x : x + size[1]]


def texts(sheet: Figure) -> list[str]:
    """All that is written."""
    sheet.canvas.draw()
    names = [label.get_text() for axes in sheet.axes for label in axes.get_yticklabels()]
    others = [text.get_text() for axes in sheet.axes for text in axes.texts]
    return [*names, *others, *(axes.get_title() for axes in sheet.axes), sheet.get_supxlabel()]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (8, 20), (96, 96), (128, 128)])
def test_every_pixel_of_every_sample_is_where_it_should_be(channels: int, size: Sequence[int]) -> None:
    columns = {"stored": noise(channels, size), "in epoch 0": noise(channels, size)}
    sheet = contact_sheet(columns, LABELS, NAMES)
    assert [axes.get_title() for axes in sheet.axes] == ["stored", "in epoch 0"]
    for mosaic, images in zip(drawn(sheet), columns.values(), strict=True):
        assert mosaic.shape == (3 * (size[0] + 1) - 1, 2 * (size[1] + 1) - 1, 3), "no sample lies on another"
        for n, place in enumerate(PLACES):
            found = cell(mosaic, *place, size)
            assert torch.equal(found, images[n].movedim(0, -1).expand_as(found))
        assert (cell(mosaic, 1, 1, size) == _PAPER).all(), "a dog is missing"


@pytest.mark.parametrize("size", [(8, 8), (96, 96), (128, 128)])
def test_samples_are_large_and_their_pixels_squares(size: Sequence[int]) -> None:
    sheet = contact_sheet({"stored": noise(1, size), "in epoch 0": noise(1, size)}, LABELS, NAMES)
    sheet.canvas.draw()
    for axes in sheet.axes:
        across, down = axes.get_window_extent().size / torch.tensor(drawn(sheet)[0].shape[1::-1]).numpy()
        assert across == pytest.approx(down, rel=1e-3)
        assert across * size[1] > 70, "pixels of a sample on the sheet"


def test_names_headings_and_caption_are_written() -> None:
    columns = {"stored": noise(), "in epoch 0": noise()}
    sheet = contact_sheet(columns, LABELS, NAMES, ["one line", "and another"])
    assert texts(sheet) == [*NAMES, "stored", "in epoch 0", "one line\nand another"]
    sheet.canvas.draw()
    image = torch.from_numpy(pixels(sheet))
    for n, label in enumerate(sheet.axes[0].get_yticklabels()):
        box, height = label.get_window_extent(), image.shape[0]
        assert (image[height - int(box.y1) : height - int(box.y0), int(box.x0) : int(box.x1)] < 128).any(), "ink"
        top, bottom = sheet.axes[0].transData.transform([(0, 29 * n), (0, 29 * n + 28)])[:, 1]
        assert bottom < (box.y0 + box.y1) / 2 < top, "beside its row"
    assert (image[:3] == _PAPER).all()
    assert (image[-3:] == _PAPER).all()
    assert (image[:, :3] == _PAPER).all()
    assert (image[:, -3:] == _PAPER).all()


def test_floating_point_is_rounded_and_clipped() -> None:
    values = torch.tensor([-0.5, 0.25, 1.5]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    (mosaic,) = drawn(contact_sheet({"x": values}, torch.tensor([0]), ["a"]))
    assert mosaic[0, 0].tolist() == [0, 64, 255]


def test_many_classes() -> None:
    names, labels = [f"class {n}" for n in range(100)], torch.arange(100)
    images = noise(1, n=100)
    sheet = contact_sheet({"stored": images}, labels, names, ["caption"])
    few = contact_sheet({"stored": images[:ROWS]}, labels[:ROWS], names[:ROWS], ["caption"])
    assert torch.equal(drawn(sheet)[0], drawn(few)[0])
    assert texts(sheet) == [*texts(few)[:-1], "caption\nThese are the first 20 of 100 classes."]
    assert sheet.get_figheight() > few.get_figheight(), "a line more, which says so"


def test_a_class_without_samples_says_so() -> None:
    labels = torch.zeros(5, dtype=torch.int64)
    sheet = contact_sheet({"stored": noise(), "in epoch 0": noise()}, labels, NAMES[:2])
    assert all((cell(mosaic, 1, sample, (28, 28)) == _PAPER).all() for mosaic in drawn(sheet) for sample in range(5))
    (text,) = sheet.axes[0].texts
    assert text.get_text() == "no sample in this split"
    assert 29 < text.get_position()[1] < 57, "in its row"
    assert not sheet.axes[1].texts


def test_long_names_and_captions_stay_on_the_sheet() -> None:
    names = ["a name that is much longer than there is room for on any sheet of samples", "b"]
    sheet = contact_sheet({"x": noise(1, (8, 8), 2)}, torch.tensor([0, 1]), names, ["word " * 50, "w" * 90])
    sheet.canvas.draw()
    for text in [*sheet.axes[0].get_yticklabels(), sheet.axes[0].title, sheet._supxlabel]:
        box = text.get_window_extent()
        assert sheet.bbox.x0 < box.x0 < box.x1 < sheet.bbox.x1, text
        assert sheet.bbox.y0 < box.y0 < box.y1 < sheet.bbox.y1, text
    assert sheet.axes[0].get_window_extent().x0 < 400


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
