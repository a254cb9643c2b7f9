"""How near any weights can come to the responses: where that is beyond epsilon, the program has no solution.

Least squares by QR factorizations in blocks of samples: Golub, "Numerical methods for solving linear least squares problems"
(Numer. Math. 1965). A Gram matrix would lose half the digits of a small residual. A few steps for all neurons at once come
before, as they may show that some weights are near enough; in them responses that do not count are taken for met: Healy,
Westmacott, "Missing values in experiments analysed on automatic computers" (Applied Statistics 1956).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from solvers.arrays import Array, Mask, blocks

if TYPE_CHECKING:
    from solvers.problem import LayerProblem

MARGIN = 1e-6  # of epsilon, by which the least error must be above it before anything is claimed
RESOLUTION = 1e-10  # of ||Y_active||_F: less is not told from 0
STEPS = 30  # toward least squares of all neurons, which cost as much as so many iterations of the ADMM
CHUNK = 2048  # samples at a time in them


def least_error(problem: LayerProblem) -> float:
    """Return a lower bound on ``||(U'X - Y)_active||_F`` over all U (N, M) that are 0 where they are priced inf.

    It is the least-squares value, less what rounding may have added. The ceilings are left out, so that a program may have
    no solution though ``least_error(problem) <= epsilon``; where it exceeds epsilon there is none. Combinations of inputs
    that float64 cannot tell from 0 count as 0: weights that make use of them would have to be some 1e12 times too large.

    Cost: a QR factorization of the active samples and an SVD of size N for each neuron, a quarter of a second for 785 inputs
    and 2,000 such samples; once for all neurons of a linear layer. Memory: a block of samples in float64.

    Parameters
    ----------
    problem : LayerProblem
        The program; its epsilon, its ceilings and its finite prices are not used.

    Returns
    -------
    float
        The bound, in the units of Y.
    """
    return float(np.sqrt(sum(float(_neurons(problem, *group).sum()) for group in _groups(problem))))


def out_of_reach(problem: LayerProblem, W: Array | None = None) -> float | None:
    """Return the least error where it proves that the program has no solution, rounding of the data allowed for.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    W : ndarray, shape (N, M), optional
        Weights that come near, if there are any. A few steps from them may show at once that the program has a solution;
        else, once those of the neurons looked at so far could be mended enough, the rest need not be looked at.

    Returns
    -------
    float or None
        ``least_error(problem)``; None where it proves nothing.
    """
    digits = max(np.finfo(problem.X.dtype).eps, np.finfo(problem.Y.dtype).eps)
    rounding = max(4 * np.sqrt(problem.N) * digits, RESOLUTION)  # responses computed in that precision miss by so much
    reach = problem.epsilon * (1 + MARGIN) + rounding * problem.norm
    known = np.full(problem.M, np.inf) if W is None else _squared_errors(problem, W)
    if W is not None and _mended(problem, W, known, reach):
        return None
    least = known.copy()
    for rows, neurons in sorted(_groups(problem), key=lambda group: -float(known[group[1]].sum())):
        least[neurons] = _neurons(problem, rows, neurons)
        if least.sum() <= reach**2:
            return None
    return float(np.sqrt(least.sum()))


def _mended(problem: LayerProblem, W: Array, known: Array, reach: float) -> bool:
    """Tell whether some steps from W, whose squared errors are known, lead all neurons within reach.

    A step is U + (X X')^-1 X R' with the residuals R of the active samples: least squares, as if the others had been met. It
    raises no error, for X X' is at least the sum over the active samples; one matrix serves all neurons, and needs no more
    digits than help. Left out are linear layers, where one factorization serves all anyway, and weights priced inf.
    """
    if problem.activation != "relu" or not (problem.penalty < np.inf).all() or not np.isfinite(known).all():
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return _within(problem, W.astype(np.float64), float(known.sum()), reach)


def _within(problem: LayerProblem, U: Array, error: float, reach: float) -> bool:
    """Take the steps of ``_mended`` from U, whose squared error is given."""
    G = sum(problem.X[:, part].astype(np.float64) @ problem.X[:, part].T for part in blocks(problem.P, CHUNK))
    inverse = np.linalg.inv(G + np.eye(problem.N) * (1e-10 * np.trace(G) + np.finfo(np.float64).tiny))
    for left in range(STEPS, 0, -1):
        U += inverse @ _pull(problem, U)
        before, error = error, float(_squared_errors(problem, U).sum())
        if error <= reach**2:
            return True
        if not error - reach**2 <= left * (before - error):
            return False  # steps get shorter; or units are such that nothing finite came of them
    return False


def _pull(problem: LayerProblem, U: Array) -> Array:
    """Return ``X R'``, shape (N, M), R being what the active responses of U still miss."""
    pull = np.zeros((problem.N, problem.M))
    for part in blocks(problem.P, CHUNK):
        X = problem.X[:, part].astype(np.float64)
        pull += X @ np.where(problem.active[:, part], problem.Y[:, part] - U.T @ X, 0.0).T
    return pull


def _squared_errors(problem: LayerProblem, W: Array) -> Array:
    """Return ``||(w'X - y)_active||^2`` of each neuron, shape (M,)."""
    squares = np.zeros(problem.M)
    with np.errstate(over="ignore", invalid="ignore"):  # weights may be anything; what is not finite is known not to be near
        for part in blocks(problem.P):
            residual = W.T.astype(np.float64) @ problem.X[:, part] - problem.Y[:, part]
            squares += np.square(np.where(problem.active[:, part], residual, 0.0)).sum(axis=1)
    return squares


def _groups(problem: LayerProblem) -> Iterator[tuple[Mask, Any]]:
    """Yield the neurons that have samples and weights in common, with the mask (N,) of those weights."""
    allowed = np.broadcast_to(problem.penalty < np.inf, (problem.N, problem.M))
    if problem.activation == "relu":
        yield from ((allowed[:, j], [j]) for j in range(problem.M))
        return
    masks, which = np.unique(allowed, axis=1, return_inverse=True)
    yield from ((masks[:, k], np.flatnonzero(which.ravel() == k)) for k in range(masks.shape[1]))


def _neurons(problem: LayerProblem, rows: Mask, neurons: Any) -> Array:
    """Return the squared bounds, shape (k,), of k neurons that are active on the same samples."""
    samples = np.flatnonzero(problem.active[neurons[0]])
    seen = np.flatnonzero(rows & problem.X[:, samples].any(axis=1))
    n, k = len(seen), len(neurons)
    R = np.zeros((0, n + k))  # of the QR factorization of [X' Y'], which stands for the samples so far
    for part in blocks(len(samples), max(1024, 4 * (n + k))):
        chosen = samples[part]
        X, Y = problem.X[np.ix_(seen, chosen)], problem.Y[np.ix_(neurons, chosen)]
        R = np.asarray(np.linalg.qr(np.vstack([R, np.vstack([X, Y], dtype=np.float64).T]), mode="r"))
    return _squared_residuals(R[:, :n], R[:, n:])


def _squared_residuals(A: Array, B: Array) -> Array:
    """Return lower bounds on ``min_u ||A u - b||^2`` for the columns b of B, shape (k,); no column of A is 0."""
    largest = np.linalg.norm(B, axis=0)
    if not A.size:
        return np.asarray(largest**2)
    A = A / np.linalg.norm(A, axis=0)
    accuracy = A.shape[1] * float(np.finfo(np.float64).eps)
    basis, values, turned = np.linalg.svd(A, full_matrices=False)
    kept = values > 10 * accuracy * values[0]  # the others are the rounding of a singular value that is 0
    basis, values, turned = basis[:, kept], values[kept], turned[kept]
    c = basis.T @ B
    r = B - basis @ c
    u = turned.T @ (c / values[:, None])
    # To be a bound it must not count what rounding added, which is plain as the columns of A have norm 1. It is much where
    # weights must be large because inputs are nearly the same; little is claimed then.
    return np.asarray(np.maximum(np.linalg.norm(r, axis=0) - 4 * accuracy * (largest + np.abs(u).sum(axis=0)), 0.0) ** 2)
