"""How the figures look: one style, colors that the color-blind and a gray printer tell apart, and the parts they share."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error, 0 of one value."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def curve(ax: Axes, rows: Iterable[Mapping[str, str]], x: str, y: str, *, number: int, label: str, **factor: float) -> None:
    """Draw the mean of y against that of x, both with standard errors, for rows of equal settings over seeds.

    ``rows`` are grouped by their field "point"; ``factor`` may have ``of_x`` and ``of_y``.
    """
    points = []
    for _, same in itertools.groupby(sorted(rows, key=lambda row: float(row["point"])), key=lambda row: float(row["point"])):
        cases = list(same)
        values = ([factor.get(f"of_{axis}", 1.0) * float(row[name]) for row in cases] for axis, name in (("x", x), ("y", y)))
        points.append([number for pair in map(mean_and_error, values) for number in pair])
    xs, x_errors, ys, y_errors = zip(*sorted(points), strict=True)
    ax.errorbar(xs, ys, xerr=x_errors, yerr=y_errors, label=label, capsize=2, elinewidth=0.8, **looks(number))
