"""The matrix of lower rank that is nearest to a layer's weights, or whose responses are: both have a closed form.

Eckart, Young, "The approximation of one matrix by another of lower rank" (Psychometrika 1, 1936): with W = U S V', the
nearest matrix of rank r is U_r S_r V_r', at a squared distance of s_{r+1}^2 + s_{r+2}^2 + ... For a layer that is applied to
inputs X, with G = X X' = L L', ||(W - W_r) X||_F = ||(W - W_r) L||_F, which [W L]_r L^{-1} minimizes.

L need not have an inverse: [W L]_r L^{-1} = U_r U_r' W, where U_r are the leading left singular vectors of W L. This is an
optimum for any G, and what it does to inputs that are always 0 (the rim of MNIST's images) is U_r U_r' of what W does to
them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nettrim.baselines import _door
from nettrim.errors import SettingError

Matrix = NDArray[np.float64]
EPS = float(np.finfo(float).eps)


class Pair(NamedTuple):
    """Two factors of a matrix of low rank.

    Attributes
    ----------
    left : numpy.ndarray
        ``(n_out, rank)``, U_r S_r^(1/2) of the product.
    right : numpy.ndarray
        ``(rank, n_in)``, S_r^(1/2) V_r'.
    error : float
        ||(W - left right) L||_F / ||W L||_F; 0 if W L is 0. L is the identity where no Gram matrix is given.
    """

    left: Matrix
    right: Matrix
    error: float


def truncated(weight: ArrayLike, rank: int, gram: ArrayLike | None = None) -> Pair:
    """Return the best approximation of a rank, as two factors of equal size.

    Parameters
    ----------
    weight : array_like
        W ``(n_out, n_in)``.
    rank : int
        From 1 to the shorter side.
    gram : array_like, optional
        G = X X' ``(n_in, n_in)`` of the inputs, singular or not: makes the responses what is approximated, and among equals
        prefers the nearer weights. Without it the weights are.

    Returns
    -------
    Pair
        Factors and relative error.

    Raises
    ------
    SettingError
        If W is no finite matrix, the rank is none of it, or W and G do not fit.
    """
    W = _matrix(weight)
    rank = _door.whole("rank", rank, 1, min(W.shape))
    root = None if gram is None else _root(gram, W)
    U = _leading(W, rank) if root is None else _leading_responses(W, W @ root, rank)
    P, d, Q = np.linalg.svd(U.T @ W, full_matrices=False)
    pair = (U @ P) * np.sqrt(d), np.sqrt(d)[:, None] * Q
    lost, whole = (np.linalg.norm(V if root is None else V @ root) for V in (W - pair[0] @ pair[1], W))
    return Pair(*pair, float(lost / whole) if whole else 0.0)


def spectrum(weight: ArrayLike, gram: ArrayLike | None = None) -> Matrix:
    """Return the singular values that a truncation cuts off: those of W, or of W L.

    Parameters
    ----------
    weight : array_like
        W ``(n_out, n_in)``.
    gram : array_like, optional
        G = L L' ``(n_in, n_in)``.

    Returns
    -------
    numpy.ndarray
        As many as the shorter side is long, falling.

    Raises
    ------
    SettingError
        If W is no finite matrix, or W and G do not fit.
    """
    W = _matrix(weight)
    return np.linalg.svd(W if gram is None else W @ _root(gram, W), compute_uv=False)


def _matrix(weight: ArrayLike) -> Matrix:
    W = np.asarray(weight, dtype=np.float64)
    if W.ndim != 2 or W.size == 0 or not np.isfinite(W).all():
        raise SettingError(f"a truncation takes a finite matrix (n_out, n_in); got shape {W.shape}, or NaN or Inf in it")
    return W


def _root(gram: ArrayLike, W: Matrix) -> Matrix:
    """Return L (n_in, n_in) with L L' = G; a Cholesky factor would ask for G to be regular."""
    G = np.asarray(gram, dtype=np.float64)
    if G.shape != (W.shape[1],) * 2 or not np.allclose(G, G.T, rtol=1e-6, atol=1e-9 * np.abs(G).max(initial=0)):
        raise SettingError(f"the Gram matrix of a weight {W.shape} is symmetric ({W.shape[1]}, {W.shape[1]}); got {G.shape}")
    values, Q = np.linalg.eigh((G + G.T) / 2)
    values[values < len(G) * EPS * values[-1]] = 0.0  # rounding, of either sign
    return Q * np.sqrt(np.maximum(values, 0.0))


def _leading(W: Matrix, rank: int) -> Matrix:
    return np.linalg.svd(W, full_matrices=False)[0][:, :rank]


def _leading_responses(W: Matrix, responses: Matrix, rank: int) -> Matrix:
    """Return U_r of the responses, filled up, where these have a lower rank, by what serves the weights best."""
    U, s, _ = np.linalg.svd(responses, full_matrices=False)
    sure = int((s > max(responses.shape) * EPS * s[0]).sum())
    if sure >= rank:
        return U[:, :rank]
    rest = W - U[:, :sure] @ (U[:, :sure].T @ W)
    return np.linalg.qr(np.hstack([U[:, :sure], _leading(rest, rank - sure)]))[0]
