"""How the figures look: one style, colors that the color-blind and a gray printer tell apart, and the parts they share."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

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


def curve(ax: Axes, points: Iterable[tuple[float, float]], number: int, label: str, **how: Any) -> None:
    """Draw the n-th curve: the mean over points of the same x, with its standard error where there are several."""
    at = defaultdict(list)
    for x, y in points:
        at[x].append(y)
    places = sorted(at)
    means = [statistics.fmean(at[x]) for x in places]
    errors = [statistics.stdev(at[x]) / len(at[x]) ** 0.5 if len(at[x]) > 1 else 0.0 for x in places]
    ax.errorbar(places, means, errors, label=label, capsize=2, **looks(number) | how)


def logarithmic(ax: Axes, ticks: Iterable[float], labels: Iterable[str] | None = None, *, axis: str = "x") -> None:
    """Give an axis a logarithmic scale that is labeled at these places only."""
    places, of = list(ticks), {"x": ax.xaxis, "y": ax.yaxis}[axis]
    ax.set(**{f"{axis}scale": "log"})
    of.set_ticks(places, labels=[f"{tick:g}" for tick in places] if labels is None else list(labels))
    of.set_minor_formatter(NullFormatter())


def pixels(ax: Axes, kept: NDArray[Any], never: NDArray[np.bool_], most: float) -> AxesImage:
    """Draw how many weights each pixel keeps, white where none; hatched are those of pixels that are never active."""
    image = ax.imshow(np.where(kept > 0, kept, np.nan), cmap="viridis", vmin=0, vmax=most, interpolation="nearest")
    for y, x in np.argwhere(never & (kept > 0)):
        square = {"facecolor": "white", "edgecolor": "black", "hatch": "xxxxx", "linewidth": 0.4}
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **square))
    ax.set(xticks=[], yticks=[])
    ax.set_frame_on(False)
    ax.grid(False)
    return image
