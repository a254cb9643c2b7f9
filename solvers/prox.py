"""The three proximal maps of the Net-Trim ADMM, pure functions that a test holds to their laws.

Parikh and Boyd, "Proximal Algorithms" (2014), sections 6.5.2 (soft threshold) and 6.2-6.3 (projections).
"""

from __future__ import annotations

import numpy as np

from solvers.arrays import Array, Mask


def soft_threshold(Z: Array, threshold: Array | float) -> Array:
    """Return ``argmin_A  sum threshold |A| + 1/2 ||A - Z||_F^2``, that is ``sign(Z) max(|Z| - threshold, 0)``.

    Parameters
    ----------
    Z : ndarray
        Any array.
    threshold : float or ndarray
        At least 0 and broadcastable to Z; inf gives 0.

    Returns
    -------
    ndarray
        The shrunk array; entries within the threshold are exactly 0.
    """
    return np.sign(Z) * np.maximum(np.abs(Z) - threshold, 0.0)


def project_ball(Z: Array, Y: Array, active: Mask, epsilon: float) -> Array:
    """Return the point nearest to Z with ``||(A - Y)_active||_F <= epsilon``; inactive entries stay.

    Parameters
    ----------
    Z, Y : ndarray, shape (M, P)
        The point, and the center of the ball.
    active : ndarray of bool, shape (M, P)
        Omega, the entries that the ball speaks of.
    epsilon : float
        Radius, at least 0.

    Returns
    -------
    ndarray, shape (M, P)
        The projection.
    """
    residual = np.where(active, Z - Y, 0.0)
    distance = np.linalg.norm(residual)
    return Z - residual * (1.0 - epsilon / distance) if distance > epsilon else Z.copy()


def project_ceiling(Z: Array, V: Array | float, active: Mask) -> Array:
    """Return the point nearest to Z with ``A_inactive <= V_inactive``; active entries stay.

    Parameters
    ----------
    Z : ndarray, shape (M, P)
        The point.
    V : float or ndarray, shape (M, P)
        The ceiling.
    active : ndarray of bool, shape (M, P)
        Omega, the entries that the ceiling does not speak of.

    Returns
    -------
    ndarray, shape (M, P)
        The projection.
    """
    return np.where(active, Z, np.minimum(Z, V))
