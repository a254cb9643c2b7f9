"""Penalized QPs, one a neuron, handed to OSQP; the multiplier of the ball that they share is found by a safeguarded secant.

Stellato, Banjac, Goulart, Bemporad, Boyd, "OSQP: An Operator Splitting Solver for Quadratic Programs", Math. Prog. Comp.
12(4), 2020; the QPs are those of Aghasi, Abdi, Nguyen, Romberg, "Net-Trim" (NIPS 2017). OSQP takes no second-order cone,
hence the search.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any, NamedTuple

import numpy as np

from solvers.arrays import Array
from solvers.backends._penalized import PenalizedNeuron
from solvers.backends._threads import each
from solvers.problem import LayerProblem
from solvers.solution import Answer, Judge, start_point

REQUIRES = ("osqp", "scipy")
INSTALL = "'nettrim[osqp]'"
TAKES_START = True

# For the guard alone, and guesses from one slice: what share of the inputs and of the ceilings enters a working set, and the
# bytes that OSQP and its wrapper keep for each entry of the triangle of the Gram matrix and of the ceilings' rows.
COLUMNS, ROWS, BYTES_PER_ENTRY = 0.8, 0.2, 60.0
# Of the tau that leaves no weight; by hand on a slice of LeNet-300-100's first layer, no study stands behind it.
FIRST_SHARE, FIRST_POWER = 0.2, 1.75
EXACT = 0.1  # what the first tau takes for the relative radius where that is 0
FIRST_SLOPE, SMALLEST_SLOPE = 0.75, 1e-3  # of log radius in log tau: before two points tell, and where they tell nothing
FARTHEST, MOST = float(np.log(10.0)), 700.0  # in log tau: one step of the search, and all that a float64 holds


class Search:
    """Finds the tau at which the joint residual is epsilon; it grows with tau.

    A secant in log tau and log radius, kept inside the bracket; where a step does not halve the miss, the bracket is halved.

    Parameters
    ----------
    epsilon : float
        The radius wanted. At 0 it is the method of multipliers that finds it, and tau need only be small enough for its
        pace; once it has arrived, a larger tau makes for finer multipliers.
    enough : float
        The radius at which it has arrived, where epsilon is 0.
    """

    def __init__(self, epsilon: float, enough: float) -> None:
        self.epsilon, self.enough, self.arrived = epsilon, enough, False
        self.low, self.high = -np.inf, np.inf
        self.last: tuple[float, float] | None = None

    def next(self, tau: float, radius: float) -> float | None:
        """Return where to look next.

        Parameters
        ----------
        tau : float
            Where the last look was.
        radius : float
            The joint residual ``||(W'X - Y)_active||_F`` there.

        Returns
        -------
        float or None
            None where there is nothing left to find.
        """
        if not np.isfinite(radius):
            return None
        at = float(np.log(tau))
        if self.epsilon == 0:
            before, self.last = self.last, (at, radius)
            self.arrived = self.arrived or radius <= self.enough
            if radius <= self.enough:
                return tau * 10
            return tau if self.arrived or before is None or radius <= 0.1 * before[1] else tau / 10
        with np.errstate(divide="ignore"):  # log 0 is -inf, which the clip below makes a longest step
            miss = float(np.clip(np.log(radius) - np.log(self.epsilon), -MOST, MOST)) if radius != self.epsilon else 0.0
        slope, slow = FIRST_SLOPE, False
        if self.last is not None and at != self.last[0]:
            slope = max((miss - self.last[1]) / (at - self.last[0]), SMALLEST_SLOPE)
            slow = abs(miss) > 0.5 * abs(self.last[1])
        self.last = (at, miss)
        self.low, self.high = (self.low, at) if miss > 0 else (at, self.high)
        there = at + float(np.clip(-miss / slope, -FARTHEST, FARTHEST))
        if np.isfinite(self.high - self.low) and (slow or not self.low < there < self.high):
            there = 0.5 * (self.low + self.high)
        if there in (self.low, self.high) or abs(there) > MOST:
            return None
        return float(np.exp(there))


def refuses(
    problem: LayerProblem, n_jobs: int = 1, regularization: float | None = None, memory_limit: float = 8e9
) -> str | None:
    """Say why this backend will not take a problem.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    n_jobs, regularization, memory_limit : optional
        As in ``solve``.

    Returns
    -------
    str or None
        The reason, None if there is none.
    """
    if not (n_jobs >= 1 and n_jobs % 1 == 0):
        return f"n_jobs must be a whole number, at least 1; got {n_jobs}"
    if regularization is not None and not 0 < regularization < float("inf"):
        return f"regularization, the lambda of 2017, must be positive; got {regularization}"
    k, ceilings = COLUMNS * problem.N, ROWS * float(np.count_nonzero(~problem.active))
    need = BYTES_PER_ENTRY * (problem.M * k * k / 2 + k * ceilings) + 8.0 * (problem.N + 3 * problem.M) * problem.P
    if need > memory_limit:
        return (
            f"{problem.M} QPs over {problem.N} inputs and {problem.P} samples would need about {need / 1e9:.2g} GB, over "
            f"memory_limit={memory_limit / 1e9:.2g} GB. Use backend='admm', fewer samples or fewer neurons, or raise "
            "memory_limit"
        )
    return None


def warm_up() -> None:
    """Import OSQP."""
    importlib.import_module("osqp")


def solve(
    problem: LayerProblem,
    *,
    judge: Judge,
    max_iter: int | None,
    start: Any,
    n_jobs: int = 1,
    regularization: float | None = None,
    memory_limit: float = 8e9,
) -> Answer:
    """Solve ``min tau sum penalty |U| + 1/2 ||(U'X - Y)_active||^2`` under the ceilings, for the tau that fills the ball.

    For a given tau the neurons are independent. Where the ball never binds, tau grows until the certificate of the program
    as it was given is met; at epsilon 0 the method of multipliers goes on until it is.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    judge : Judge
        Certifies the answer for each tau.
    max_iter : int or None
        Values of tau at most; None means 100.
    start : Solution, ndarray or None
        Warm start: its supports are the first working sets, its multipliers give the first tau.
    n_jobs : int, optional
        Neurons solved at once, each in a thread; the answer is the same to the last bit. OSQP lets go of the GIL while it
        iterates and holds it while it factorizes, so threads gain less than their number.
    regularization : float, optional
        The lambda of the regularized program of 2017, ``min lambda ||u||_1 + ||(u'X - y)_active||^2`` under the ceilings:
        its solution is returned, for this one value (tau is half of it) and without a search. It is certified on the
        program with epsilon all the same, so its status is UNMET (pass ``throw=False``) unless lambda happens to fit; it
        solves ``problem.replace(epsilon=solution.certificate.ball)``. Where epsilon is so large that 0 is the answer,
        nothing is solved.
    memory_limit : float, optional
        Bytes that the solve may be estimated to need.

    Returns
    -------
    Answer
        Weights, residuals over tau and OSQP's multipliers of the ceilings, and how many values of tau were tried.
    """
    W, L = start_point(start, problem)
    L = L if L is not None and np.isfinite(L).all() else None
    units = _units(problem)
    exact = problem.epsilon == 0 and regularization is None
    neurons = _neurons(problem, units, exact, judge.tol, W, L)
    tau = _first_tau(problem, W, L) if regularization is None else regularization / 2
    search, iteration = Search(problem.epsilon, 0.01 * judge.tol * problem.violation_unit), 0
    while True:
        weights = tau * units.price / (units.X * units.target)

        def work(j: int, stop: threading.Event, weights: Array = weights) -> None:
            neurons[j].minimize(float(weights[j]), stop)

        each(work, range(problem.M), n_jobs)
        iteration += 1
        W = np.column_stack([neuron.u for neuron in neurons]) * (units.target / units.X)
        L = np.vstack([neuron.multipliers for neuron in neurons]) * (units.price / units.X)[:, None]
        radius = float(np.sqrt(units.target**2 @ [neuron.square for neuron in neurons]))
        met = judge(W, L, iteration).meets(judge.tol)
        following = search.next(tau, radius)
        if met or iteration == (max_iter or 100) or regularization is not None or following is None:
            return Answer(W, L, iteration, f"tau {tau:.3g}, {sum(neuron.setups for neuron in neurons)} factorizations")
        tau = following


class Units(NamedTuple):
    """Units in which every neuron's QP has data of size 1: of X (all neurons), of y and v (M,), and of the prices (M,)."""

    X: float
    target: Array
    price: Array


def _units(problem: LayerProblem) -> Units:
    """Return them: the largest row norm, the norm of the responses (or of the ceilings), the median price."""
    X = max(float(np.linalg.norm(row.astype(np.float64))) for row in problem.X) or 1.0
    target, prices = np.ones(problem.M), np.ones(problem.M)
    for j, on in enumerate(problem.active):
        Y, V = problem.Y[j].astype(np.float64), problem.V[j].astype(np.float64)
        target[j] = float(np.linalg.norm(Y[on]) or np.linalg.norm(V[~on])) or 1.0
        price = np.broadcast_to(problem.penalty, (problem.N, problem.M))[:, j]
        priced = (price > 0) & (price < np.inf)
        prices[j] = float(np.median(price[priced])) if priced.any() else 1.0
    return Units(X, target, prices)


def _neurons(
    problem: LayerProblem, units: Units, exact: bool, tol: float, W: Array | None, L: Array | None
) -> list[PenalizedNeuron]:
    """Return the neurons' QPs in their units, begun at the warm start."""
    X = problem.X.astype(np.float64)
    X /= units.X
    binding = problem.epsilon * problem.norm > 0
    accuracy = 0.01 * tol * (min(problem.epsilon / problem.norm, 1.0) if binding else 1.0)
    neurons = []
    for j, on in enumerate(problem.active):
        target = np.where(on, problem.Y[j], problem.V[j]).astype(np.float64) / units.target[j]
        price = np.broadcast_to(problem.penalty, (problem.N, problem.M))[:, j] / units.price[j]
        neuron = PenalizedNeuron(X, on, target, price, exact, accuracy)
        if W is not None:
            neuron.start(W[:, j] * (units.X / units.target[j]), None if L is None else L[j] * (units.X / units.price[j]))
        neurons.append(neuron)
    return neurons


def _first_tau(problem: LayerProblem, W: Array | None, L: Array | None) -> float:
    """Return where the search begins: from the start's multipliers or weights, else from where the first weight enters.

    At the solution ``tau ||L_active|| = epsilon``; were L parallel to Y, ``sum |W|`` would be ``||L|| (||Y|| - epsilon)``.
    """
    unit = problem.norm or 1.0
    radius = problem.epsilon or EXACT * unit
    slope = float(np.linalg.norm(np.where(problem.active, L, 0.0))) if L is not None else 0.0
    if slope > 0:
        return radius / slope
    price = np.broadcast_to(problem.penalty, (problem.N, problem.M))
    priced = (price > 0) & (price < np.inf)
    mass = float((np.abs(W[priced]) * price[priced]).sum()) if W is not None else 0.0
    if mass > 0 and radius < unit:
        return radius * (unit - radius) / mass
    pull = np.abs(problem.X @ np.where(problem.active, problem.Y, 0.0).T)  # (N, M)
    first = float((pull[priced] / price[priced]).max()) if priced.any() else 0.0
    return (first or 1.0) * FIRST_SHARE * float(min(radius / unit, 1.0) ** FIRST_POWER)
