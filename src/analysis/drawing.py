"""What all pictures share: one look, no windows, no global state."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by everyone, and in print: the palette of Okabe and Ito, https://jfly.uni-koeln.de/color/."""


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches; axes are added by `figure.subplots`."""
    result = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(result)
    return result


def pixels(drawn: Figure) -> np.ndarray:
    """A figure as an image (y, x, 3) of uint8."""
    drawn.canvas.draw()
    return np.asarray(drawn.canvas.buffer_rgba())[..., :3].copy()


def png(drawn: Figure) -> bytes:
    """A figure as the content of a PNG file; `savefig` writes the same, but arranges everything twice."""
    file = BytesIO()
    drawn.canvas.print_png(file)
    return file.getvalue()
