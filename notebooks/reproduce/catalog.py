"""Every figure by its name, and the page of claims that is computed from committed rows."""

from __future__ import annotations

from benchmarks.baselines._tables import markdown
from reproduce import (
    ROOT,
    claims_baselines,
    claims_images,
    claims_mnist,
    claims_spirals,
    claims_theory,
    convergence,
    convnet,
    gains,
    lossless,
    robustness,
    schemes,
    size,
    spirals,
    trainings,
    worked,
)
from reproduce.figure import Figure

FAMILIES = (spirals, gains, trainings, lossless, worked, schemes, robustness, convnet, size, convergence)
FIGURES: dict[str, Figure] = {figure.name: figure for family in FAMILIES for figure in family.FIGURES}
NET_TRIM = (*claims_spirals.CLAIMS, *claims_mnist.CLAIMS, *claims_images.CLAIMS, *claims_theory.CLAIMS)
PAGE = ROOT / "REPRODUCTION.md"
HEAD = ["source", "claim", "published", "here", "verdict", "shown in", "made by", "minutes"]


def verdicts(notebook: str) -> str:
    """Return the table of the claims that a notebook shows."""
    claims = [claim for claim in (*NET_TRIM, *claims_baselines.CLAIMS) if claim.where == notebook]
    return markdown([HEAD[:5], *(claim.cells()[:5] for claim in claims)])


def page() -> str:
    """Return the page."""
    missing = [figure for figure in FIGURES.values() if not figure.path().exists()]
    rows = [[figure.source, f"`{figure.command}`", str(figure.minutes)] for figure in missing]
    return f"""# Reproduction

Claims of the papers, and of their authors elsewhere, beside what was found here; `python notebooks/figures.py
--claims` computes this page from the committed rows, and a test holds it to them. A verdict follows from the
condition beside its claim in `notebooks/reproduce/claims_*.py`, where it also says what is "in part"; a claim that no
accuracy is lost asks for no loss on the mean of the networks, and in part is a tenth of a point. In parentheses are
standard errors, in brackets the least and the largest, of constants the limits of 95 %. An open claim has no rows
yet. Minutes are of two cores, of the other systems but Han's of one. HPTD is magnitude pruning that keeps as many
weights in each layer.

## Net-Trim

{markdown([HEAD, *(claim.cells() for claim in NET_TRIM)])}

## Other systems

{markdown([HEAD, *(claim.cells() for claim in claims_baselines.CLAIMS)])}

## Open: figures that can be made and have no rows yet

{markdown([["source", "made by", "minutes, guessed"], *rows])}
"""
