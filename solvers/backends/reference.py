"""The published ADMM, plain NumPy in float64 with a fixed rho: to be read beside the paper, and the yardstick of speed.

Aghasi, Abdi, Romberg, "Fast Convex Pruning of Deep Neural Networks", SIAM J. Math. Data Sci. 2(1), 2020; the letters W1, W2,
W3, U1, U2 and the normalization c0 are those of the authors. Splitting: W1 = W3'X carries the constraints, W2 = W3 the norm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers.backends._checkpoints import checkpoints
from solvers.problem import LayerProblem
from solvers.prox import project_ball, project_ceiling, soft_threshold
from solvers.solution import Answer, Judge, start_point

REQUIRES = ("scipy",)
INSTALL = "scipy"
TAKES_START = True


def refuses(problem: LayerProblem, rho: float = 1.0) -> str | None:
    """Say why this backend will not take a problem.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    rho : float, optional
        As in ``solve``.

    Returns
    -------
    str or None
        The reason, None if there is none.
    """
    return None if 0 < rho < float("inf") else f"rho must be positive; got {rho}"


def warm_up() -> None:
    """Do nothing: there is nothing to compile."""


def solve(problem: LayerProblem, *, judge: Judge, max_iter: int | None, start: Any, rho: float = 1.0) -> Answer:
    """Run the published iteration until the certificate is met.

    Departures: the authors stop on the change of W3, we stop on the certificate; they take Omega again after
    normalizing, ours is the problem's.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    judge : Judge
        Certifies iterates at a geometric series of iterations.
    max_iter : int or None
        Iterations at most; None means the authors' 10,000.
    start : Solution, ndarray or None
        Warm start; the authors start at 0.
    rho : float, optional
        Penalty parameter, for data normalized by c0. The authors use 1 and 100.

    Returns
    -------
    Answer
        W2, the exactly sparse copy, and ``-rho U1 / c0`` as the dual.
    """
    from scipy.linalg import cho_factor, cho_solve

    limit = 10_000 if max_iter is None else max_iter
    X = problem.X.astype(np.float64)
    G = X @ X.T
    c0 = 0.3 * float(np.sqrt(G.max())) or 1.0  # inputs that are all 0 need no normalization
    X /= c0
    Y, V, active, epsilon = problem.Y / c0, problem.V / c0, problem.active, problem.epsilon / c0
    factor = cho_factor(G / c0**2 + np.eye(problem.N))

    W3, L = start_point(start, problem)
    W3 = np.zeros((problem.N, problem.M)) if W3 is None else W3.astype(np.float64)
    U1 = np.zeros_like(Y, dtype=np.float64) if L is None else -L * (c0 / rho)
    U2 = -X @ U1.T  # 0 from a cold start; at a solution the two duals balance
    Z3, iteration = W3.T @ X, 0
    due = checkpoints()
    check = next(due)
    while True:
        Z = Z3 - U1
        W1 = project_ceiling(project_ball(Z, Y, active, epsilon), V, active)
        W2 = soft_threshold(W3 - U2, problem.penalty / rho)
        iteration += 1
        if iteration >= check or iteration == limit:
            check = next(due)
            L = (Z - W1) * (rho / c0)  # in the normal cone of the constraints at W1, so its signs are right
            if judge(W2, L, iteration).meets(judge.tol) or iteration == limit:
                return Answer(W2, L, iteration)
        W3 = cho_solve(factor, X @ (W1 + U1).T + W2 + U2)
        Z3 = W3.T @ X
        U1 = U1 + W1 - Z3
        U2 = U2 + W2 - W3
