"""The only judge of any answer: objective, dual bound and violations, recomputed in float64 from the data.

Weak duality of the Net-Trim program. For any L (M, P) with L_inactive >= 0 and |X L'|_ij <= penalty_ij,

    bound(L) = - <L_active, Y_active> - epsilon ||L_active||_F - <L_inactive, V_inactive>  <=  optimum,

so a dual guess, made feasible, proves how far a W is from the best possible one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.arrays import Array, blocks
from solvers.errors import ProblemError
from solvers.problem import LayerProblem

ROOM = 2 << 20  # bytes for a block of samples in float64, about


@dataclass(frozen=True)
class Certificate:
    """What is proved about a W, in float64.

    Attributes
    ----------
    objective : float
        ``sum_ij penalty_ij |W_ij|``; inf where a weight that is priced inf differs from zero.
    bound : float
        A lower bound on the optimum, from the dual guess after it was made feasible.
    gap : float
        ``(objective - bound) / max(objective, |bound|)``, 0 where both are 0. Negative where the violations below buy
        an objective under the optimum.
    ball : float
        ``||(W'X - Y)_active||_F``.
    ball_violation : float
        How far ``ball`` is above epsilon, 0 if it is not.
    ceiling_violation : float
        Frobenius norm of the positive part of ``(W'X - V)_inactive``.
    response_error : float
        ``||ReLU(W'X) - Y||_F`` over all pairs; ``||W'X - Y||_F`` of a linear layer. At most epsilon where nothing is
        violated and where the neuron is off Y is 0 and no ceiling above 0 (Proposition 1).
    ball_multiplier, ceiling_multiplier : float
        ``||L_active||_F`` and ``||L_inactive||_F`` of the feasible dual point. A unit of violation of either kind can
        lower the objective by no more than its multiplier; minus the first is the slope of the optimum in epsilon.
    violation_unit : float
        What violations are compared with: epsilon, or ``||Y_active||_F`` where epsilon is 0.
    """

    objective: float
    bound: float
    gap: float
    ball: float
    ball_violation: float
    ceiling_violation: float
    response_error: float
    ball_multiplier: float
    ceiling_multiplier: float
    violation_unit: float

    @property
    def violation(self) -> float:
        """The larger violation as a fraction of its unit; 0 where nothing is violated."""
        worst = float(np.maximum(self.ball_violation, self.ceiling_violation))  # unlike max, it keeps what is not a number
        if worst == 0:
            return 0.0
        return worst / self.violation_unit if self.violation_unit > 0 else float("inf")

    def meets(self, tol: float) -> bool:
        """Tell whether the gap and both violations are within the tolerance.

        Parameters
        ----------
        tol : float
            The one tolerance of this package: ``|gap| <= tol`` and violations at most ``tol * violation_unit``.

        Returns
        -------
        bool
            False too where any of them is not a number.
        """
        return bool(abs(self.gap) <= tol and self.violation <= tol)


def certify(problem: LayerProblem, W: Any, dual: Any | None = None) -> Certificate:
    """Judge weights, and a guess at the dual solution, against the data of a problem.

    The guess is clipped (L_inactive >= 0), projected where a weight is free (penalty 0 needs an equality), and scaled
    neuron by neuron by the factors that prove the most: any guess gives a valid bound, a bad one a weak bound.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    W : array_like, shape (N, M)
        Weights to judge: a solver's, a baseline's, anyone's.
    dual : array_like, shape (M, P), optional
        Guess L at the multipliers of the ball (active pairs) and of the ceiling (inactive pairs). Without one the bound
        is 0, which holds for every problem.

    Returns
    -------
    Certificate
        All of it recomputed in float64, in blocks of samples.

    Raises
    ------
    ProblemError
        If W or dual has the wrong shape.
    """
    W = np.asarray(W)
    if W.shape != (problem.N, problem.M):
        raise ProblemError(f"W must be (N, M) = {(problem.N, problem.M)}; got {W.shape}")
    with np.errstate(all="ignore"):  # weights and guesses may hold anything; what is not finite is judged, not warned of
        objective, ball, ceiling, error = _primal(problem, W)
        bound, on, off = _dual(problem, dual) if dual is not None else (0.0, 0.0, 0.0)
    largest = max(objective, abs(bound))
    return Certificate(
        objective=objective,
        bound=bound,
        gap=(objective - bound) / largest if 0 < largest < np.inf else (0.0 if largest == 0 else float("inf")),
        ball=ball,
        ball_violation=max(ball - problem.epsilon, 0.0) if np.isfinite(ball) else float("inf"),
        ceiling_violation=ceiling if np.isfinite(ceiling) else float("inf"),
        response_error=error,
        ball_multiplier=on,
        ceiling_multiplier=off,
        violation_unit=problem.violation_unit,
    )


def _primal(problem: LayerProblem, W: Array) -> tuple[float, float, float, float]:
    """Return the objective, ``||(W'X - Y)_on||``, ``||(W'X - V)_off^+||`` and the response error."""
    W = W.astype(np.float64)
    priced = np.abs(W)
    with np.errstate(invalid="ignore"):
        priced *= problem.penalty
    priced[W == 0] = 0.0  # a weight that is 0 costs 0, at a price of inf too
    objective = float(priced.sum())
    del priced  # as large as W, and the products below need the room
    squares = np.zeros(3)
    relu = problem.activation == "relu"
    for part in blocks(problem.P, _width(problem)):
        Z = W.T @ problem.X[:, part].astype(np.float64)  # (M, block)
        Y, on = problem.Y[:, part], problem.active[:, part]
        work = Z - Y
        if relu:
            work *= on
            squares[0] += np.vdot(work, work)
            np.maximum(np.subtract(Z, problem.V[:, part], out=work), 0.0, out=work)
            work *= ~on
            squares[1] += np.vdot(work, work)
            np.subtract(np.maximum(Z, 0.0, out=Z), Y, out=work)
            squares[2] += np.vdot(work, work)
        else:
            squares[[0, 2]] += np.vdot(work, work)
    ball, ceiling, error = np.sqrt(squares)
    return objective, float(ball), float(ceiling), float(error)


def _dual(problem: LayerProblem, dual: Any) -> tuple[float, float, float]:
    """Return the bound of the feasible point made from a guess, and the norms of its two parts."""
    L = np.asarray(dual)
    if L.shape != (problem.M, problem.P):
        raise ProblemError(f"dual must be (M, P) = {(problem.M, problem.P)}; got {L.shape}")
    # Only the direction of a row counts, so it is given the size 1: its squares can neither overflow nor vanish.
    peak = np.zeros((problem.M, 1))
    for part in blocks(problem.P, _width(problem)):
        sizes = np.where(problem.active[:, part], np.abs(L[:, part]), L[:, part])  # below 0 where clipped: never the peak
        peak = np.fmax(peak, np.fmax.reduce(sizes, axis=1, keepdims=True))
    peak = np.where((peak > 0) & np.isfinite(peak), peak, 1.0)
    penalty = np.broadcast_to(problem.penalty, (problem.N, problem.M))
    free = penalty == 0
    shift = _shift_onto_free(problem, L, free, peak) if free.any() else None
    XL, product = np.zeros((problem.N, problem.M)), np.empty((problem.N, problem.M))
    gain, norm_on, norm_off = np.zeros(problem.M), np.zeros(problem.M), np.zeros(problem.M)
    for part in blocks(problem.P, _width(problem)):
        X = problem.X[:, part].astype(np.float64)
        on = problem.active[:, part]
        block = _clip(L[:, part], on)
        block /= peak
        if shift is not None:
            block -= np.where(on, shift.T @ X, 0.0)
        XL += np.matmul(X, block.T, out=product)
        gain -= np.einsum("mp,mp->m", block, np.where(on, problem.Y[:, part], problem.V[:, part]))
        held = block * on
        norm_on += np.einsum("mp,mp->m", held, held)
        block -= held
        norm_off += np.einsum("mp,mp->m", block, block)
    del product
    sizes = np.abs(XL, out=XL)
    # An equality that the shift could not reach (no active sample, say) leaves only the zero row, which is feasible.
    largest = max(float(problem.X.max()), -float(problem.X.min()))
    unmet = np.max(sizes, axis=0, where=free, initial=0.0) > 1e-10 * largest * np.sqrt(norm_on + norm_off)
    priced = ~free & (penalty < np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(sizes, penalty, out=sizes, where=priced).max(axis=0, where=priced, initial=0.0)
        limit = np.where(ratio > 0, 1.0 / ratio, np.inf)
    usable = np.isfinite(gain) & np.isfinite(ratio) & ~unmet
    limit, gain = np.where(usable, limit, 0.0), np.where(usable, gain, 0.0)
    norm_on, norm_off = np.where(usable, norm_on, 0.0), np.where(usable, norm_off, 0.0)
    scale = _best_scale(gain, np.sqrt(norm_on), limit, problem.epsilon)
    on_norm = float(np.linalg.norm(scale * np.sqrt(norm_on)))
    off_norm = float(np.linalg.norm(scale * np.sqrt(norm_off)))
    return float(scale @ gain) - problem.epsilon * on_norm, on_norm, off_norm


def _width(problem: LayerProblem) -> int:
    """Return how many samples at a time keep the work of a block within some megabytes, and the products long enough."""
    return int(np.clip(ROOM // (8 * (problem.N + 3 * problem.M)), 64, 1024))


def _clip(L: Array, on: Any) -> Array:
    """Return a float64 copy of a block of the guess with its inactive part made nonnegative."""
    block = L.astype(np.float64)
    return np.where(on, block, np.fmax(block, 0.0))


def _shift_onto_free(problem: LayerProblem, L: Array, free: Any, peak: Array) -> Array:
    """Return the shift (N, M), zero off the free weights, for which L - (shift'X)_on has X_free L' = 0.

    Moving the active part alone keeps the sign of the inactive part; least squares makes the move the smallest one.
    """
    shift = np.zeros((problem.N, problem.M))
    for j in np.flatnonzero(free.any(axis=0)):
        rows = free[:, j]
        X = problem.X[rows].astype(np.float64)  # (n_free, P)
        on = problem.active[j]
        row = _clip(L[j], on) / peak[j]
        if np.isfinite(row).all():
            X_on = X[:, on]
            shift[rows, j] = np.linalg.lstsq(X_on @ X_on.T, X @ row, rcond=None)[0]
    return shift


def _best_scale(gain: Array, norm: Array, limit: Array, epsilon: float) -> Array:
    """Return s in [0, limit] that maximizes ``gain's - epsilon ||norm * s||_2``, the bound as a function of the scales.

    Stationarity gives ``s_j = min(limit_j, t gain_j / (epsilon norm_j^2))`` with ``t = ||norm * s||``; t is found by
    bisection. Any s in the box gives a valid bound, so the accuracy of t does not matter to its truth.
    """
    useful = gain > 0
    # A row without active part costs nothing, so it goes to its limit; one that no constraint limits proves nothing.
    limit = np.where(np.isfinite(limit), limit, 0.0)
    costly = useful & (norm > 0) & (epsilon > 0)
    scale = np.where(useful & ~costly, limit, 0.0)
    if not costly.any():
        return scale
    slope = gain[costly] / (epsilon * norm[costly] ** 2)
    top, size = limit[costly], norm[costly]

    def part(t: float) -> Array:
        return np.minimum(top, t * slope)

    if np.sum((slope * size) ** 2) <= 1.0:
        return scale  # every scaling of these rows costs more than it gains
    low, high = 0.0, float(np.linalg.norm(top * size))
    for _ in range(100):
        t = 0.5 * (low + high)
        low, high = (t, high) if np.linalg.norm(part(t) * size) > t else (low, t)
    scale[costly] = part(high)
    return scale
