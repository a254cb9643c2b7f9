"""A budget for the whole network, spent where it buys most: a knapsack with one choice a layer.

Each layer is solved at several radii once, which tells what it keeps and what that costs in response error. The sum of
squared relative errors is then minimized under the budget on the lower convex hulls of these curves (Everett, "Generalized
Lagrange Multiplier Method", Operations Research 1963); what is chosen is asked as a sparsity.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nettrim.layers import Layer, find, read
from nettrim.plan import Plan
from nettrim.progress import track
from nettrim.request import Request, parsed
from nettrim.retrain import profile
from nettrim.schemes import inputs
from solvers import ProblemError

EPSILONS = (0.7, 0.5, 0.35, 0.25, 0.18, 0.13, 0.09, 0.06, 0.03)
INDEX = 4  # bytes of a column index or a row pointer, in compressed sparse rows


def allocated(plan: Plan, request: Request) -> Plan:
    """Spread a budget over the layers of a plan.

    Parameters
    ----------
    plan : Plan
        What is to be trimmed.
    request : Request
        With a budget.

    Returns
    -------
    Plan
        The same, each job with the sparsity that is its share, and the radius to begin the search at.

    Raises
    ------
    ProblemError
        If the budget is below what the layers keep at the largest radius, or below the fixed bytes.
    """
    layers = [find(plan.model, job.use) for job in plan.jobs]
    affordable = _weights(request.budget, layers)
    curves = []
    for (job, X), layer in track(
        zip(inputs(plan.model, plan.jobs, plan.samples), layers, strict=True), "measuring", len(layers)
    ):
        points = profile(read(layer), X, layer.storage, job.asked, EPSILONS)
        curves.append(_curve(points, layer.weight.numel()))
    kept = allocate([curve[:, :2] for curve in curves], affordable)
    new = []
    for job, layer, curve, count in zip(plan.jobs, layers, curves, kept, strict=True):
        start = float(np.exp(np.interp(count, curve[:, 0], np.log(curve[:, 2]))))
        share = dataclasses.replace(job.asked, sparsity=1 - count / layer.weight.numel(), epsilon=start)
        new.append(dataclasses.replace(job, asked=share))
    return dataclasses.replace(plan, jobs=tuple(new))


def allocate(curves: Sequence[NDArray[np.float64]], budget: float) -> list[float]:
    """Choose what each layer keeps.

    Parameters
    ----------
    curves : sequence of ndarray, shape (n_points, 2)
        For each layer the weights kept, ascending, and the error that is left.
    budget : float
        Weights that all layers may keep together.

    Returns
    -------
    list of float
        The weights that each keeps, between points of its curve: their sum is the budget, or what all of them have.

    Raises
    ------
    ProblemError
        If the budget is below the sum of the first points.
    """
    hulls = [_hull(curve) for curve in curves]
    least = sum(hull[0, 0] for hull in hulls)
    if budget < least:
        raise ProblemError(
            f"budget of {budget:.0f} weights is less than the {least:.0f} that are kept at the largest radius"
        )
    # On a hull each further weight buys less than the one before, so taking steps by their price is optimal.
    steps = sorted(
        ((hull[k, 1] - hull[k + 1, 1]) / (hull[k + 1, 0] - hull[k, 0]), layer, k)
        for layer, hull in enumerate(hulls)
        for k in range(len(hull) - 1)
    )
    kept = [float(hull[0, 0]) for hull in hulls]
    left = budget - least
    for _, layer, k in reversed(steps):
        taken = min(left, float(hulls[layer][k + 1, 0] - hulls[layer][k, 0]))
        kept[layer] += taken
        left -= taken
    return kept


def _curve(points: Sequence[tuple[int, float]], weights: int) -> NDArray[np.float64]:
    """Return weights kept, squared relative error and radius, ascending in the first, ends included."""
    rows = [(float(kept), error**2, epsilon) for (kept, error), epsilon in zip(points, EPSILONS, strict=True)]
    rows = [(0.0, 1.0, 1.0), *rows, (float(weights), 0.0, EPSILONS[-1] / 10)]
    kept: dict[float, tuple[float, float, float]] = {}
    for row in rows:  # of two radii that keep as many, the smaller error counts
        if row[0] not in kept or row[1] < kept[row[0]][1]:
            kept[row[0]] = row
    return np.array([kept[count] for count in sorted(kept)])


def _hull(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lower convex hull of points (kept, error), left to right and falling."""
    hull: list[NDArray[np.float64]] = []
    for point in curve:
        if hull and point[1] >= hull[-1][1]:
            continue
        while len(hull) > 1 and _turns_up(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return np.array(hull)


def _turns_up(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> bool:
    """Tell whether b lies on or above the line from a to c."""
    return bool((b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0]))


def _weights(budget: float | str | None, layers: list[Layer]) -> float:
    """Return how many weights a budget allows."""
    assert budget is not None  # the caller has looked
    amount, unit = parsed(budget)
    total = sum(layer.weight.numel() for layer in layers)
    if unit == "bytes":
        sizes = {layer.weight.element_size() for layer in layers}
        fixed = sum(INDEX * (len(layer.weight) + 1) for layer in layers)
        allowed = (amount - fixed) / (max(sizes) + INDEX)
        if allowed < 0:
            raise ProblemError(f"budget of {amount:.0f} bytes is less than the {fixed} of the row pointers alone")
        return min(allowed, total)
    return amount * total if unit == "fraction" else min(amount, total)
