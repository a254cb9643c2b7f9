"""The default solver: the Net-Trim ADMM as a relaxed Douglas-Rachford iteration, BLAS for the products, numba for the rest.

Eckstein and Bertsekas (1992) on ADMM, Douglas-Rachford and relaxation; He, Yang and Wang (2000) on balancing rho. Ours is
what rho is balanced by: the certificate, that is, the duality gap against the violations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers.arrays import Array, blocks, read_only
from solvers.backends._checkpoints import checkpoints
from solvers.certificate import Certificate
from solvers.problem import LayerProblem
from solvers.prox import soft_threshold
from solvers.solution import Answer, Judge, start_point

REQUIRES = ("numba", "scipy")
INSTALL = "numba scipy"
TAKES_START = True

# Chosen by hand on the first two layers of LeNet-300-100 at epsilon 0.05 to 0.3; no study stands behind them yet.
RELAXATION = 1.9
LATE, LATE_RELAXATION = 500, 1.6
FIRST_RHO = 0.3  # over the typical ridge weight, which gives rho its unit
RHO_POWER, RHO_FACTOR, RHO_DAMPING = 0.5, 2.0, 0.7


class Balance:
    """Moves rho until gap and violations fall together: a larger rho helps the weights, a smaller one the dual.

    Every change of direction shortens the step in log rho, so that rho settles, as convergence demands of it.
    """

    def __init__(self) -> None:
        self.step = float(np.log(RHO_FACTOR))
        self.direction = 0.0

    def change(self, certificate: Certificate) -> float:
        """Return the factor on rho that the latest certificate asks for.

        Parameters
        ----------
        certificate : Certificate
            Of the latest iterate.

        Returns
        -------
        float
            Above 1 where violations lag behind the gap, below 1 where the gap does.
        """
        gap, violation = max(certificate.gap, 1e-12), max(certificate.violation, 1e-12)
        wanted = RHO_POWER * float(np.log(violation / gap))
        if wanted * self.direction < 0:
            self.step *= RHO_DAMPING
        self.direction = wanted
        return float(np.exp(np.clip(wanted, -self.step, self.step)))


def refuses(
    problem: LayerProblem, rho: float | None = None, relaxation: float = RELAXATION, dtype: str | None = None
) -> str | None:
    """Say why this backend will not take a problem.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    rho, relaxation, dtype : optional
        As in ``solve``.

    Returns
    -------
    str or None
        The reason, None if there is none.
    """
    if rho is not None and not 0 < rho < float("inf"):
        return f"rho must be positive; got {rho}"
    if not 0 < relaxation < 2:
        return f"relaxation must be between 0 and 2, both excluded; got {relaxation}"
    if dtype not in (None, "float32", "float64"):
        return f"dtype must be 'float32' or 'float64'; got {dtype!r}"
    return None


def warm_up() -> None:
    """Compile the kernels, or load them from numba's cache."""
    from solvers.backends import _kernels

    _kernels.warm_up()


def solve(
    problem: LayerProblem,
    *,
    judge: Judge,
    max_iter: int | None,
    start: Any,
    rho: float | None = None,
    relaxation: float = RELAXATION,
    dtype: str | None = None,
) -> Answer:
    """Iterate until the certificate is met.

    The program is ``min f1(A) + f2(U)`` over the graph ``A = U'X``, f1 the indicator of ball and ceiling, f2 the priced
    l1 norm. With s = (s1, s2) and the metric ``|A|^2 / c0^2 + |U|^2``::

        (g, W) = nearest point of the graph to s         g = W'X
        (p, q) = prox of (f1, f2 / rho) at (2g - s1, 2W - s2)
        s     += relaxation ((p, q) - (g, W))

    Memory: two (M, P) arrays beside the problem's own. A copy of X is made only where its dtype is not the working one.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    judge : Judge
        Certifies q and the multipliers at a geometric series of iterations.
    max_iter : int or None
        Iterations at most; None means 10,000.
    start : Solution, ndarray or None
        Warm start.
    rho : float, optional
        First penalty parameter; afterwards it follows the certificate. Default: 0.3 over the size of the ridge weights.
    relaxation : float, optional
        Over-relaxation, between 0 and 2; at most 1.6 from iteration 500 on.
    dtype : {"float32", "float64"}, optional
        Working precision. Default: float32 where ``tol`` is 1e-4 or more, else float64.

    Returns
    -------
    Answer
        q, exactly sparse, and the multipliers of ball and ceiling.
    """
    from solvers.backends import _kernels

    limit = 10_000 if max_iter is None else max_iter
    real = np.dtype(dtype or ("float32" if judge.tol >= 1e-4 else "float64")).type
    X, T, on = _data(problem, real)
    penalty = problem.penalty.astype(real)
    inverse, metric = _graph_inverse(X, real)  # (XX' metric + I)^-1, metric = 1 / c0^2

    rho = _first_rho(inverse @ (X @ T.T) * metric) if rho is None else rho
    W, s2, g, s1 = _first(problem, X, real, start, rho, metric)
    squares = np.empty(problem.M)
    due = checkpoints()
    iteration, check, balance = 0, next(due), Balance()
    while True:
        _kernels.ball_squares(g, s1, T, on, squares)
        distance = float(np.sqrt(squares.sum()))
        shrink = real(problem.epsilon / distance if distance > problem.epsilon else 1.0)
        q = soft_threshold(W + W - s2, penalty / real(rho)).astype(real, copy=False)
        iteration += 1
        change = 1.0
        # Near 2 the iteration is fastest on ordinary layers and slowest on the hard ones, which are those still running.
        relaxation = min(relaxation, LATE_RELAXATION) if iteration == LATE else relaxation
        if iteration >= check or iteration == limit:
            check = next(due)
            _kernels.multipliers(g, s1, T, on, shrink, real(rho * metric))
            certificate = judge(q, g, iteration)
            if certificate.meets(judge.tol) or iteration == limit:
                return Answer(q, g, iteration)
            change = balance.change(certificate)
            np.dot(W.T, X, out=g)  # half an iteration's work, for a third less memory than a dual of its own
        s2 += real(relaxation) * (q - W)
        _kernels.step(g, s1, T, on, shrink, real(relaxation))  # g now holds s1 - g
        if change != 1.0:  # a new rho for the same multipliers rho (s - g)
            s1 -= g
            g *= real(1 / change)
            s1 += g
            s2 += (s2 - W) * real(1 / change - 1)
            rho *= change
        _project_on_graph(W, s2, g, X, inverse, real(metric))
        np.dot(W.T, X, out=g)


def _data(problem: LayerProblem, real: Any) -> tuple[Array, Array, Any]:
    """Return X (N, P), the targets T (M, P): Y where active, V elsewhere, and the mask; copies only where needed."""
    X = problem.X.astype(real, copy=False)
    if not (X.flags.c_contiguous or X.flags.f_contiguous):
        X = np.ascontiguousarray(X)
    on = np.ascontiguousarray(problem.active)
    Y = problem.Y
    as_is = Y.dtype == real and Y.flags.c_contiguous
    for part in blocks(problem.P):
        as_is = as_is and np.array_equal(Y[:, part][~on[:, part]], problem.V[:, part][~on[:, part]])
    T = Y if as_is else np.where(on, Y, problem.V).astype(real)
    return X, read_only(T), read_only(on)


def _graph_inverse(X: Array, real: Any) -> tuple[Array, float]:
    """Return ``(XX' / c0^2 + I)^-1`` and ``1 / c0^2``, with the authors' c0 = 0.3 sqrt(max XX'), computed in float64."""
    from scipy.linalg import blas, lapack

    G = np.zeros((len(X), len(X)), order="F")  # the lower triangle alone, as BLAS and LAPACK have it
    for part in blocks(X.shape[1]):
        G = blas.dsyrk(1.0, X[:, part].T.astype(np.float64, order="F"), 1.0, G, trans=1, lower=1, overwrite_c=1)
    c0 = 0.3 * float(np.sqrt(G.max())) or 1.0
    G /= c0**2
    G[np.diag_indices_from(G)] += 1.0
    factor, _ = lapack.dpotrf(G, lower=1, overwrite_a=1)
    inverse = lapack.dpotri(factor, lower=1, overwrite_c=1)[0].astype(real)
    for i in range(len(inverse)):
        inverse[i, i + 1 :] = inverse[i + 1 :, i]
    return inverse, 1.0 / c0**2


def _project_on_graph(W: Array, s2: Array, g: Array, X: Array, inverse: Array, metric: Any) -> None:
    """Move W to the point of the graph nearest to s; g holds s1 - W'X.

    Written as a correction to W, so that rounding in the inverse fades as the iterates settle.
    """
    residual = X @ g.T
    residual *= metric
    residual += s2 - W
    W += inverse @ residual


def _first_rho(ridge: Array) -> float:
    """Return the first rho from the ridge weights; ``sum w^2 / sum |w|`` is their typical size, many small ones or not."""
    mass = float(np.abs(ridge).sum())
    return FIRST_RHO * mass / float(np.vdot(ridge, ridge)) if mass > 0 else 1.0


def _first(problem: LayerProblem, X: Array, real: Any, start: Any, rho: float, metric: float) -> tuple[Array, ...]:
    """Return W, s2, g, s1: zeros, or the fixed point that a warm start would be if it were the solution."""
    W, L = start_point(start, problem)
    if W is None:
        W = np.zeros((problem.N, problem.M), real)
        g = np.zeros((problem.M, problem.P), real)
        return W, W.copy(), g, g.copy()
    W = np.array(W, dtype=real)
    g = np.ascontiguousarray(W.T @ X)
    if L is None:
        return W, W.copy(), g, g.copy()
    L = L.astype(real) / real(rho)
    return W, W + X @ L.T, g, g - L / real(metric)
