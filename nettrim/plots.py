"""The trade-off picture: accuracy against what is kept, in the color-blind safe colors of Okabe and Ito."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nettrim.errors import ModelError


def tradeoff(rows: Sequence[dict[str, Any]], dense_accuracy: float, path: Path, title: str) -> None:
    """Draw accuracy against the fraction of weights kept.

    Parameters
    ----------
    rows : sequence of dict
        With ``epsilon``, ``kept`` and ``accuracy`` (fractions).
    dense_accuracy : float
        Accuracy before trimming, a fraction.
    path : pathlib.Path
        Where the picture goes; its ending says the format.
    title : str
        What is shown.

    Raises
    ------
    ModelError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ModelError("a picture needs matplotlib: pip install 'nettrim[plots]'") from error
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    kept = [100 * row["kept"] for row in rows]
    accuracy = [100 * row["accuracy"] for row in rows]
    axes.axhline(100 * dense_accuracy, color="#555555", linestyle="--", linewidth=1, label="before trimming")
    axes.plot(kept, accuracy, color="#0072B2", marker="o", label="Net-Trim, no retraining")
    for row, x, y in zip(rows, kept, accuracy, strict=True):
        axes.annotate(f"ε = {row['epsilon']:g}", (x, y), xytext=(8, -4), textcoords="offset points", fontsize=8)
    axes.set(xlabel="weights kept (%)", ylabel="test accuracy (%)", title=title)
    axes.set_xlim(0, 1.25 * max(kept))
    axes.margins(y=0.1)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
