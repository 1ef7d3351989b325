"""Train a G-CNN and a CNN on upright images and test them on turned ones: python scripts/demo.py [key=value ...]."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from src.analysis.drawing import COLOURS, figure, png
from src.data import ImageDataModule
from src.data.io.files import replacing
from src.data.warp import Border, warp
from src.runs.process import keep_freed_memory, quiet
from src.runs.tables import console, rich_table
from src.training.commands import parser, user_errors
from src.training.demo import ANGLES, Demonstration, Outcome, demonstrate, turns

_SHOWN = tuple(range(0, 361, 45))
"""Angles in degrees at which the picture has a test image."""
_THUMBNAIL = 44
"""The height of that image, in points."""
_SCORE = "accuracy"
"""What `_percent` writes a share of."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a picture and its numbers, and print a table; user errors print as one line."""
    words = parser(__doc__, "of both runs, such as train.epochs=2")
    words.add_argument("--output", type=Path, metavar="FILE", help="write the picture here as well, a PNG")
    options = words.parse_intermixed_args(arguments)
    quiet()
    keep_freed_memory()
    with user_errors(OSError):
        found = demonstrate(options.overrides)
        picture = found.folder / "demo.png"
        numbers = json.dumps(found.numbers(), indent=2) + "\n"
        files = {picture: png(_draw(found)), found.folder / "demo.json": numbers.encode()}
        if options.output:
            files[options.output] = files[picture]
        for path, content in files.items():
            with replacing(path) as file:
                file.write(content)
    rows = [[name, *cells] for name, cells in _rows(list(found.outcomes.values())).items()]
    out, nets = console(), list(found.outcomes)
    out.print(rich_table(("", *nets), rows, right=nets, title=_title(found)))
    out.print(f"picture: {options.output or picture}", soft_wrap=True)


def _rows(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    """What the table says of each net."""
    return {
        f"{_SCORE}, upright": [_percent(own.accuracies[0]) for own in outcomes],
        "mean over all angles": [_percent(own.mean) for own in outcomes],
        "worst angle": [f"{_percent(own.worst[0])} at {own.worst[1]}°" for own in outcomes],
        "parameters": [f"{own.parameters:,}" for own in outcomes],
        "training time": [f"{own.seconds:.0f} s" for own in outcomes],
    }


def _percent(share: float) -> str:
    """To one place."""
    return f"{100 * share:.1f} %"


def _title(found: Demonstration) -> str:
    """What is trained and tested on."""
    return f"Trained on {'upright' if found.upright else 'turned'} {found.data.source.name}, tested at every angle"


def _draw(found: Demonstration) -> Figure:
    """Accuracy by angle of both nets, and above it a test image as it is turned."""
    drawn = figure(8.0, 4.9)
    drawn.suptitle(_title(found), fontsize=15)
    axes = drawn.subplots()
    for (net, own), colour, marker in zip(found.outcomes.items(), COLOURS, "os", strict=False):
        label = f"{net}: {_percent(own.mean)} on average, {own.parameters:,} parameters"
        closed = [*own.accuracies, own.accuracies[0]]
        axes.plot([*ANGLES, 360], closed, f"{marker}-", color=colour, label=label, linewidth=2, markersize=4)
    axes.axhline(chance := 1 / found.data.classes, color="0.4", linestyle="--")
    axes.text(0, chance - 0.01, "chance", color="0.4", fontsize=11, ha="center", va="top")
    axes.set(xlim=(-20, 380), ylim=(0, 1.02))
    axes.set_xticks(_SHOWN, [f"{angle}°" for angle in _SHOWN])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("rotation of the test images", fontsize=12)
    axes.set_ylabel(f"test {_SCORE}", fontsize=12)
    axes.tick_params(labelsize=12)
    axes.grid(alpha=0.3)
    _add_thumbnails(axes, _example(found.data), found.data.source.border)
    drawn.legend(loc="outside lower center", ncols=1, fontsize=12, frameon=False)
    return drawn


def _example(data: ImageDataModule) -> Tensor:
    """A test image, (1, c, y, x) in uint8: of digits a 2, since a 6 would turn into a 9."""
    test = data.datasets["test"].split
    return test.images[test.labels.sub(2).abs().argmin()[None]]


def _add_thumbnails(axes: Axes, image: Tensor, border: Border) -> None:
    """Put an image, (1, c, y, x) in uint8, above each angle of `_SHOWN`, turned by it."""
    turned = warp(image.float().expand(len(_SHOWN), -1, -1, -1), turns(_SHOWN), border=border) / 255
    for angle, picture in zip(_SHOWN, turned.movedim(1, -1).squeeze(-1).numpy(), strict=True):
        thumbnail = OffsetImage(picture, zoom=_THUMBNAIL / len(picture), cmap="gray", norm=Normalize(0, 1))
        above = {"xycoords": axes.get_xaxis_transform(), "box_alignment": (0.5, -0.06)}
        axes.add_artist(AnnotationBbox(thumbnail, (angle, 1), frameon=False, **above))


if __name__ == "__main__":
    main()
