"""The dual point of the largest margin: an interior-point method on dense arrays, and HiGHS where that leaves doubt.

    maximize t   subject to   rows x + t margins <= limits ,   equal x = target ,   0 <= t <= 1

Simplex methods take seconds where rows are dense and some hundreds each way; here a dozen Cholesky factors do. The method is
Mehrotra's (1992), from a point that is strictly feasible but for the sign of t: every t on the way is a lower bound of the
largest one, and multipliers that balance give an upper bound. Half of the largest margin will do, and so will an upper bound
below 0, for then there is no x. Nothing here is trusted: what x proves is for the caller to judge.
"""

from __future__ import annotations

import numpy as np

from solvers.arrays import Array

CLEAR = 1e-6  # of a price: a largest margin nearer to 0 than this is left to the simplex method
STEPS = 40  # of the interior-point method, of which it takes 5 to 15


def interior(rows: Array, margins: Array, limits: Array, equal: Array, target: Array) -> tuple[Array | None, bool]:
    """Look for an x of a margin of at least half the largest, by Mehrotra's method.

    Parameters
    ----------
    rows : ndarray, shape (m, n)
        Left sides of the inequalities.
    margins, limits : ndarray, shape (m,)
        Share of t in each, positive; right sides.
    equal, target : ndarray, shapes (k, n) and (k,)
        The equalities.

    Returns
    -------
    x : ndarray, shape (n,), or None
        One of a margin that is clearly positive, if one was found.
    clear : bool
        Whether, without x, it is clear that there is none.
    """
    k, n = equal.shape
    x0, _, rank, _ = np.linalg.lstsq(equal, target, rcond=None)
    if k and np.abs(equal @ x0 - target).max() > CLEAR * np.abs(target).max():
        return None, True
    if rank < k or k == n or not len(rows):
        return None, False
    Z = np.linalg.qr(equal.T, mode="complete")[0][:, k:]  # x = x0 + Z v: the equalities are out of the way
    G = np.vstack([np.column_stack([rows @ Z, margins]), np.eye(1, n - k + 1, n - k)])
    h = np.append(limits - rows @ x0, 1.0)
    t, v = _path(G, h)
    if v is None or t <= CLEAR:
        return None, t < -CLEAR
    return x0 + Z @ v[:-1], True


def _path(G: Array, h: Array) -> tuple[float, Array | None]:
    """Maximize the last entry of v under ``G v <= h``, G's last column positive.

    Returns its value with v, at least half the largest value; a negative upper bound of it without v; or 0 without v.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve  # here, so that `import theory` stays light

    m, n = G.shape
    v = np.zeros(n)
    v[-1] = np.min(h / G[:, -1]) - 1.0
    slack = h - G @ v
    z = 1.0 / (m * G[:, -1])
    for _ in range(STEPS):
        short = -(G.T @ z)  # how far the multipliers are from balancing
        short[-1] += 1.0
        most = float(h @ z) if np.abs(short).max() < 1e-9 else np.inf
        if v[-1] > 0 and most <= 2 * v[-1]:
            return float(v[-1]), v
        if most < -CLEAR:
            return most, None
        if slack @ z < CLEAR * 1e-3:
            break
        weights = z / slack
        H = (G.T * weights) @ G
        H[np.diag_indices(n)] += 1e-14 * H.diagonal().max()  # fewer rows than unknowns leave it singular
        try:
            factor = cho_factor(H, overwrite_a=True, check_finite=False)
        except LinAlgError:
            break
        # Newton's step towards z slack = aim, on G dv + dslack = 0 and G'dz = short: first for 0, then for Mehrotra's aim.
        aim = -z * slack
        for corrected in (False, True):
            dv = cho_solve(factor, short - G.T @ (aim / slack), check_finite=False)
            dslack = -(G @ dv)
            dz = (aim - z * dslack) / slack
            primal, dual = _length(slack, dslack), _length(z, dz)
            if not corrected:
                now = float(slack @ z)
                after = float((slack + primal * dslack) @ (z + dual * dz))
                aim = aim + (after / now) ** 3 * now / m - dslack * dz
        v, slack, z = v + primal * dv, slack + primal * dslack, z + dual * dz
    return 0.0, None


def _length(point: Array, step: Array) -> float:
    """Return how much of a step keeps a positive point positive, a little less than all the way, at most 1."""
    shrinking = step < 0
    return float(min(1.0, 0.995 * np.min(-point[shrinking] / step[shrinking], initial=np.inf)))


def simplex(rows: Array, margins: Array, limits: Array, equal: Array, target: Array) -> Array | None:
    """Return an x of the largest margin, a vertex, by HiGHS; None where it finds no x.

    Parameters
    ----------
    rows, margins, limits, equal, target : ndarray
        As for ``interior``.

    Returns
    -------
    ndarray, shape (n,), or None
        x.
    """
    from scipy.optimize import linprog  # here, so that `import theory` stays light

    answer = linprog(
        np.append(np.zeros(rows.shape[1]), -1.0),
        A_ub=np.column_stack([rows, margins]),
        b_ub=limits,
        A_eq=np.column_stack([equal, np.zeros(len(equal))]),
        b_eq=target,
        bounds=[(None, None)] * rows.shape[1] + [(0.0, 1.0)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return None if answer.x is None else np.asarray(answer.x[:-1])
