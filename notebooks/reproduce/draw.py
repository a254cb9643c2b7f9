"""How the figures look: one style, colors that the color-blind and a gray printer tell apart, and the parts they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

# Okabe and Ito's colors, dark and light in turn, so that neighbors differ in gray too; each has its own mark and line.
COLORS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
WIDTH = 6.6  # inches: a page's text
STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "image.cmap": "gray",
    "svg.hashsalt": "nettrim",
}


@contextmanager
def panels(rows: int = 1, columns: int = 1, *, height: float = 2.5, **how: Any) -> Iterator[tuple[Drawing, list[Axes]]]:
    """Give a drawing as wide as a page with rows of panels, each of a height in inches, and show it at the end."""
    with plt.rc_context(STYLE):
        drawing, axes = plt.subplots(rows, columns, figsize=(WIDTH, rows * height), squeeze=False, **how)
        yield drawing, list(axes.ravel())
        plt.show()
        plt.close(drawing)


def looks(number: int) -> dict[str, Any]:
    """Return color, mark and line of the n-th curve."""
    return {"color": COLORS[number], "marker": MARKS[number], "linestyle": LINES[number]}
