"""The rank of a matrix under noise by empirical variational Bayes (EVBMF), in closed form but for the noise.

Nakajima, Sugiyama, Babacan, Tomioka, "Global Analytic Solution of Fully-observed Variational Bayesian Matrix Factorization"
(Journal of Machine Learning Research 14, 2013).

The model is Y = B A' + noise with independent Gaussian noise of variance sigma2, Gaussian priors on the columns of A and B,
and a posterior under which A and B are independent. For Y (L, M) with L <= M, alpha = L / M, singular values s and

    z = s^2 / (M sigma2),    t(z) = (z - (1 + alpha) + sqrt((z - (1 + alpha))^2 - 4 alpha)) / 2,

a component is kept when z > xbar = (1 + tau)(1 + alpha / tau) with tau = 2.5129 sqrt(alpha), and its singular value shrinks
to

    d = s / 2 (1 - (L + M) sigma2 / s^2 + sqrt((1 - (L + M) sigma2 / s^2)^2 - 4 L M sigma2^2 / s^4)).

sigma2 minimizes the free energy, up to constants M / 2 times

    Omega = sum z + L ln sigma2 + sum over z > xbar of (ln(t + 1) + alpha ln(t / alpha + 1) - t).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from nettrim.errors import SettingError

TAU = 2.5129  # the paper's constant, of which tau = TAU sqrt(alpha) is its approximation
GRID = 400  # values of sigma2 that are looked at before the best of them is refined: Omega may have several minima


class VBMF(NamedTuple):
    """What is signal in a matrix.

    Attributes
    ----------
    rank : int
        Components that are kept; may be 0.
    sigma2 : float
        Variance of the noise.
    values : numpy.ndarray
        Their singular values, shrunk, ``(rank,)``.
    """

    rank: int
    sigma2: float
    values: NDArray[np.float64]


def evbmf(matrix: ArrayLike, sigma2: float | None = None) -> VBMF:
    """Return rank, noise and shrunk singular values of a matrix by empirical variational Bayes.

    Parameters
    ----------
    matrix : array_like
        ``(n, m)``, in either orientation: the answer is that of the transpose.
    sigma2 : float, optional
        Variance of the noise where it is known, positive; else it is estimated.

    Returns
    -------
    VBMF
        A matrix without any noise (of deficient rank, to rounding) keeps its rank and its singular values, at sigma2 = 0.

    Raises
    ------
    SettingError
        If it is no matrix, is not finite, or sigma2 is not positive.
    """
    Y = np.asarray(matrix, dtype=np.float64)
    if Y.ndim != 2 or Y.size == 0 or not np.isfinite(Y).all():
        raise SettingError(f"evbmf takes a finite matrix; got shape {Y.shape}, or NaN or Inf in it")
    if sigma2 is not None and not 0 < sigma2 < np.inf:
        raise SettingError(f"sigma2 must be positive; got {sigma2}")
    L, M = sorted(Y.shape)
    s = np.linalg.svd(Y, compute_uv=False)
    if sigma2 is None:
        sigma2 = _noise(s, L, M)
        if sigma2 == 0:
            left = s[s > s[0] * M * np.finfo(float).eps]
            return VBMF(len(left), 0.0, left)
    kept = s[s**2 > M * sigma2 * threshold(L / M)]
    part = 1 - (L + M) * sigma2 / kept**2
    values = kept / 2 * (part + np.sqrt(part**2 - 4 * L * M * sigma2**2 / kept**4))
    return VBMF(len(kept), float(sigma2), values)


def threshold(alpha: float) -> float:
    """Return xbar, above which z = s^2 / (M sigma2) is signal.

    Parameters
    ----------
    alpha : float
        The short side over the long one, in (0, 1].

    Returns
    -------
    float
        (1 + tau)(1 + alpha / tau), tau = 2.5129 sqrt(alpha).
    """
    tau = TAU * np.sqrt(alpha)
    return float((1 + tau) * (1 + alpha / tau))


def free_energy(sigma2: float, s: NDArray[np.float64], L: int, M: int) -> float:
    """Return Omega, the free energy as a function of the noise, up to constants and the factor M / 2.

    Parameters
    ----------
    sigma2 : float
        Variance of the noise, positive.
    s : numpy.ndarray
        All L singular values.
    L, M : int
        The short and the long side.

    Returns
    -------
    float
        Omega.
    """
    alpha, z = L / M, s**2 / (M * sigma2)
    x = z[z > threshold(alpha)] - (1 + alpha)
    t = (x + np.sqrt(x**2 - 4 * alpha)) / 2
    return float(z.sum() + L * np.log(sigma2) + (np.log1p(t) + alpha * np.log1p(t / alpha) - t).sum())


def _noise(s: NDArray[np.float64], L: int, M: int) -> float:
    """Return the minimizer of Omega between the paper's bounds; 0 where the lower one is 0 to rounding."""
    first = int(np.ceil(L / (1 + L / M))) - 1  # of the values that are noise whatever sigma2 is, 0-based
    lower = max(s[first] ** 2 / (M * threshold(L / M)), np.mean(s[first:] ** 2) / M)
    upper = np.sum(s**2) / (L * M)
    if np.sqrt(lower) <= s[0] * M * np.finfo(float).eps:
        return 0.0
    if lower >= upper:  # of a vector they are one number, to rounding
        return float(upper)
    grid = np.geomspace(lower, upper, GRID)
    best = int(np.argmin([free_energy(x, s, L, M) for x in grid]))
    around = tuple(np.log(grid[[max(best - 1, 0), min(best + 1, GRID - 1)]]))
    if around[0] >= around[1]:
        return float(grid[best])
    found = minimize_scalar(lambda x: free_energy(np.exp(x), s, L, M), bounds=around, options={"xatol": 1e-12}).x
    return min((float(grid[best]), float(np.exp(found))), key=lambda x: free_energy(x, s, L, M))
