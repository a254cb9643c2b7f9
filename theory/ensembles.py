"""Random inputs for Theorem 3 and beyond it: how X (N, P) is drawn, one column a sample, of mean square 1 an entry.

An ensemble is a function ``(rng, N, P) -> X``. What all samples share is drawn first and the samples follow one by one, so
that the first columns are the same whatever P is: the same draw with more samples adds columns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from solvers.arrays import Array
from solvers.errors import ProblemError

Ensemble = Callable[[np.random.Generator, int, int], Array]


def gaussian(rng: np.random.Generator, N: int, P: int) -> Array:
    """Draw independent N(0, 1) entries: the inputs of Theorem 3.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from.
    N, P : int
        Inputs and samples.

    Returns
    -------
    ndarray, shape (N, P)
        Inputs.
    """
    return rng.standard_normal((P, N)).T


def bernoulli(rng: np.random.Generator, N: int, P: int) -> Array:
    """Draw independent entries that are 1 or -1, each half the time.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from.
    N, P : int
        Inputs and samples.

    Returns
    -------
    ndarray, shape (N, P)
        Inputs.
    """
    return 2.0 * rng.integers(0, 2, (P, N)).T - 1.0


def uniform(rng: np.random.Generator, N: int, P: int) -> Array:
    """Draw independent entries, uniform between ``-sqrt(3)`` and ``sqrt(3)``, so that their variance is 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from.
    N, P : int
        Inputs and samples.

    Returns
    -------
    ndarray, shape (N, P)
        Inputs.
    """
    X: Array = np.sqrt(3.0) * rng.uniform(-1.0, 1.0, (P, N)).T
    return X


def correlated(condition: float) -> Ensemble:
    """Return the ensemble of Gaussian samples whose covariance has a given condition number.

    Parameters
    ----------
    condition : float
        Largest over smallest eigenvalue of the covariance, 1 or more.

    Returns
    -------
    callable
        ``(rng, N, P) -> X``: the samples ``A z`` with z standard normal and ``A = mixing(rng, N, condition)``.

    Raises
    ------
    ProblemError
        If the condition number is below 1 or not finite; when called, as ``mixing``.
    """
    _check_condition(condition)

    def draw(rng: np.random.Generator, N: int, P: int) -> Array:
        X: Array = mixing(rng, N, condition) @ gaussian(rng, N, P)
        return X

    return draw


def mixing(rng: np.random.Generator, N: int, condition: float) -> Array:
    """Draw A such that ``A A'`` has a given condition number, trace N and a random basis.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the basis comes from, uniform over all orthogonal ones.
    N : int
        Inputs.
    condition : float
        Largest over smallest eigenvalue of ``A A'``, 1 or more; the others are spaced evenly between them in logarithm.

    Returns
    -------
    ndarray, shape (N, N)
        The matrix A.

    Raises
    ------
    ProblemError
        If the condition number is below 1 or not finite, or over 1 where there is one input only.
    """
    _check_condition(condition)
    if N == 1 and condition != 1:
        raise ProblemError(f"the covariance of one input is a number, whose condition number is 1; got {condition}")
    Q, R = np.linalg.qr(rng.standard_normal((N, N)))
    Q = Q * np.sign(np.diag(R))  # QR alone prefers some bases
    eigenvalues = np.geomspace(1.0, condition, N)
    scaled: Array = Q * np.sqrt(eigenvalues * (N / eigenvalues.sum()))
    return scaled


def relu_filtered(rng: np.random.Generator, N: int, P: int) -> Array:
    """Draw what a random ReLU layer of N inputs and N neurons gives: entries of 0 or more, dependent and not centered.

    A filter before the layer in question. What that layer's own ReLU lets through, the samples at which its neuron is on, is
    not centered either, whatever the ensemble.

    ``x = max(G'z, 0)``, z standard normal, the entries of G independent N(0, 2/N) and drawn once for all samples.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the numbers come from.
    N, P : int
        Inputs and samples.

    Returns
    -------
    ndarray, shape (N, P)
        Inputs.
    """
    G = np.sqrt(2.0 / N) * rng.standard_normal((N, N))
    X: Array = np.maximum(G.T @ gaussian(rng, N, P), 0.0)
    return X


def _check_condition(condition: float) -> None:
    if not (np.isfinite(condition) and condition >= 1):
        raise ProblemError(f"a condition number is a finite number, 1 or more; got {condition}")
