"""Refit: the smallest response error on a given support, which undoes the shrinkage of an l1 norm and adds no weight.

For the lasso this is Belloni, Chernozhukov, "Least squares after model selection" (Bernoulli 2013); here for a ReLU layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers.arrays import Array, Mask, to_array
from solvers.errors import ProblemError
from solvers.problem import LayerProblem

RIDGE = 1e-10  # of each diagonal entry of a Gram matrix: over its rounding, far under what a Newton step must resolve
DESCENT = 1e-4  # Armijo's share of the predicted decrease
SHORTEST = 1e-10  # step below which a line search gives up: what is left is rounding


def refit(problem: LayerProblem, W: Any, *, tol: float = 1e-6, max_iter: int = 50) -> Array:
    """Minimize the response error on the support of W: the l1 norm's pull towards zero is undone, no weight is added.

    For each neuron j, over the w that are 0 where ``W[:, j]`` is,

        F(w) = sum_active (w'x - y)^2 + sum_inactive max(w'x - v, 0)^2,

    convex and piecewise quadratic, by a semismooth Newton method with a line search, in float64. Summed over the neurons F
    is ``ball^2 + ceiling_violation^2`` of the certificate; where no ceiling is above 0, the response error is at most its
    root (Proposition 1). In a linear layer a neuron is one least-squares problem. A neuron keeps the weights it has unless
    F falls and its response error does not rise, new weights taken in the dtype of W.

    Inputs that are 0 on all samples keep the weights they have. Memory: the other inputs of one support in float64, and what
    it selects of their samples, for one neuron at a time.

    Parameters
    ----------
    problem : LayerProblem
        The layer; its epsilon and penalty are not used.
    W : array_like, shape (N, M)
        Weights, a solver's or any method's; what is 0 stays 0.
    tol : float, optional
        A neuron is done when ``|dF/dw_i| / 2 <= tol ||x_i||_2 sqrt(F)`` for each of its inputs, with F of the W given.
    max_iter : int, optional
        Newton steps a neuron at most. Each lowers F, so what has been reached by then is used.

    Returns
    -------
    ndarray, shape (N, M)
        New weights, in the dtype of W (half precision becomes float32, integers float64).

    Raises
    ------
    ProblemError
        If W does not fit the problem or holds NaN or Inf, or ``tol`` or ``max_iter`` is out of its range.
    """
    if not isinstance(problem, LayerProblem):
        raise ProblemError(f"refit takes a LayerProblem; got {type(problem).__name__}")
    if not (np.isfinite(tol) and tol > 0):
        raise ProblemError(f"tol must be a positive number; got {tol}")
    if not (max_iter >= 1 and max_iter % 1 == 0):
        raise ProblemError(f"max_iter must be a whole number, at least 1; got {max_iter}")
    W = to_array(W, "W")
    if W.shape != (problem.N, problem.M):
        raise ProblemError(f"W must be (N, M) = {(problem.N, problem.M)}; got {W.shape}")
    found: Array = W.copy()
    linear = problem.activation == "linear"
    seen = problem.X.any(axis=1)  # after a trimmed layer most inputs may be dead: their weights have no part in F
    for j in range(problem.M):
        rows = np.flatnonzero((W[:, j] != 0) & seen)
        A, on = problem.X[rows].astype(np.float64), problem.active[j]  # (support, P), (P,)
        y = problem.Y[j].astype(np.float64)
        target = np.where(on, y, problem.V[j])
        w = _newton(A, target, on, W[rows, j].astype(np.float64), tol, int(max_iter)).astype(W.dtype)
        old, new = (_errors(v.astype(np.float64) @ A, y, target, on, linear) for v in (W[rows, j], w))
        if new[0] < old[0] and new[1] <= old[1]:
            found[rows, j] = w
    return found


def _errors(z: Array, y: Array, target: Array, on: Mask, linear: bool) -> tuple[float, float]:
    """Return F and the squared response error of pre-activations z (P,)."""
    return _squares(_residual(z, target, on)), _squares((z if linear else np.maximum(z, 0.0)) - y)


def _squares(r: Array) -> float:
    return float(r @ r)


def _residual(z: Array, target: Array, on: Mask) -> Array:
    """Return ``z - y`` on active samples and ``max(z - v, 0)`` on the others, shape (P,)."""
    r = z - target
    return np.where(on | (r > 0), r, 0.0)


def _newton(A: Array, target: Array, on: Mask, w: Array, tol: float, max_iter: int) -> Array:
    """Minimize ``||residual(A'w)||^2`` from w, for A (n, P): active samples always count, inactive ones while violated."""
    r = _residual(w @ A, target, on)
    squares = _squares(r)
    if squares == 0:  # as of a neuron that is never on and was not turned on
        return w
    B = A[:, on]
    held = B @ B.T
    goal = tol * np.sqrt(np.einsum("ip,ip->i", A, A) * squares)
    for _ in range(max_iter):
        gradient = A @ r
        if np.all(np.abs(gradient) <= goal):
            break
        B = A[:, ~on & (r > 0)]
        H = held + B @ B.T
        diagonal = np.einsum("ii->i", H)  # a view
        diagonal[:] = np.where(diagonal > 0, diagonal * (1 + RIDGE), 1.0)  # an input that no counted sample sees stays put
        step = np.linalg.solve(H, -gradient)
        slope, length = float(gradient @ step), 1.0
        while length >= SHORTEST:
            r = _residual((w + length * step) @ A, target, on)
            if _squares(r) <= squares + 2 * DESCENT * length * slope:
                break
            length /= 2
        if length < SHORTEST or not _squares(r) < squares:
            break
        w, squares = w + length * step, _squares(r)
    return w
