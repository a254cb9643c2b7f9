"""CP of a convolution's kernel by alternating least squares, with a small penalty that keeps components from diverging.

Lebedev, Ganin, Rakhuba, Oseledets, Lempitsky, "Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition"
(ICLR 2015): K(t, s, i, j) = sum over r of lambda_r T(t, r) S(s, r) H(i, r) V(j, r).

A best approximation of a given CP rank need not exist: the infimum may only be approached by components that grow without
bound and cancel (De Silva, Lim, "Tensor Rank and the Ill-Posedness of the Best Low-Rank Approximation Problem", SIAM Journal
on Matrix Analysis and Applications 30, 2008). So what is minimized here, over factors A_k of a tensor scaled to norm 1, is

    ||K - [[A_1, ..., A_4]]||^2 + ridge (||A_1||^2 + ... + ||A_4||^2),

which has a minimizer for ridge > 0. A sweep solves for each factor in turn, all others held, and then gives the columns of a
component one length, which leaves the product as it is and makes the penalty least: the objective never grows. It is not
convex; the best of some starts is kept, and no claim is made that it is the best there is.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nettrim.baselines import _door
from nettrim.baselines.low_rank._tucker import unfolded
from nettrim.errors import SettingError

Array = NDArray[np.float64]


class CP(NamedTuple):
    """A tensor as a sum of rank-one tensors.

    Attributes
    ----------
    weights : numpy.ndarray
        lambda ``(R,)``, at least 0.
    factors : tuple of numpy.ndarray
        One ``(n_k, R)`` a mode, with columns of length 1.
    error : float
        ||K - K_approximate|| / ||K||.
    objective : tuple of float
        What is minimized, after each sweep of the start that was kept.
    """

    weights: Array
    factors: tuple[Array, ...]
    error: float
    objective: tuple[float, ...]

    def kernel(self) -> Array:
        """Return the tensor that these components make.

        Returns
        -------
        numpy.ndarray
            Of the shape of what was decomposed.
        """
        shape = [len(factor) for factor in self.factors]
        return (self.factors[0] * self.weights @ _khatri_rao(self.factors[1:]).T).reshape(shape)


def cp(
    kernel: ArrayLike,
    rank: int,
    *,
    ridge: float = 1e-6,
    sweeps: int = 1000,
    tol: float = 1e-8,
    starts: int = 2,
    seed: int = 0,
) -> CP:
    """Decompose a tensor into a sum of rank-one tensors.

    Parameters
    ----------
    kernel : array_like
        A tensor of at least two axes; of a convolution ``(T, S, height, width)``.
    rank : int
        How many components.
    ridge : float, optional
        Weight of the penalty; 0 is plain alternating least squares, which may diverge.
    sweeps : int, optional
        At most, from each start.
    tol : float, optional
        A start ends when a sweep lowers the objective by no more; that of the tensor 0 is 1.
    starts : int, optional
        The first is from the leading singular vectors of the unfoldings, all others from normal draws.
    seed : int, optional
        Of the draws.

    Returns
    -------
    CP
        From the start with the least objective.

    Raises
    ------
    SettingError
        If the tensor is not finite, is empty or has fewer than two axes, rank, sweeps or starts is below 1, or ridge or tol
        below 0.
    """
    K = np.asarray(kernel, dtype=np.float64)
    if K.ndim < 2 or K.size == 0 or not np.isfinite(K).all():
        raise SettingError(f"cp takes a finite tensor of two axes or more, none empty; got {K.shape}, or NaN or Inf in it")
    rank, sweeps, starts = (
        _door.whole(name, value) for name, value in (("rank", rank), ("sweeps", sweeps), ("starts", starts))
    )
    ridge, tol = (_door.positive(name, value, zero=True) for name, value in (("ridge", ridge), ("tol", tol)))
    seed = _door.whole("seed", seed, 0)
    norm = np.linalg.norm(K)
    scaled, rng = K / (norm or 1.0), np.random.default_rng(seed)
    runs = [_als(scaled, _start(scaled, rank, rng, leading=k == 0), ridge, sweeps, tol) for k in range(starts)]
    factors, objective = min(runs, key=lambda run: run[1][-1])
    lengths = [np.linalg.norm(A, axis=0) for A in factors]
    units = tuple(_unit(A, n) for A, n in zip(factors, lengths, strict=True))
    found = CP(norm * np.prod(lengths, axis=0), units, 0.0, tuple(objective))
    return found._replace(error=float(np.linalg.norm(K - found.kernel()) / norm) if norm else 0.0)


def _als(K: Array, factors: list[Array], ridge: float, sweeps: int, tol: float) -> tuple[list[Array], list[float]]:
    """Sweep over the modes until the objective stands still."""
    sides, objective = [unfolded(K, mode) for mode in range(K.ndim)], []
    grams = [A.T @ A for A in factors]
    for _ in range(sweeps):
        for mode, side in enumerate(sides):
            others = [A for k, A in enumerate(factors) if k != mode]
            right = side @ _khatri_rao(others)
            inner = reduce(np.multiply, [G for k, G in enumerate(grams) if k != mode])
            factors[mode] = _solved(inner + ridge * np.eye(len(inner)), right)
            grams[mode] = factors[mode].T @ factors[mode]
        # <K, K'> and ||K'||^2 by the last mode, whose other factors are those of ``right`` and ``inner``
        fit = np.vdot(K, K) - 2 * np.vdot(right, factors[-1]) + np.vdot(inner, grams[-1])
        factors = _balanced(factors)
        grams = [A.T @ A for A in factors]
        objective.append(float(fit + ridge * sum(np.trace(G) for G in grams)))
        if len(objective) > 1 and objective[-2] - objective[-1] <= tol:
            break
    return factors, objective


def _start(K: Array, rank: int, rng: np.random.Generator, leading: bool) -> list[Array]:
    """Return factors to begin with; where a mode has fewer singular vectors than components, the others are drawn."""
    factors = []
    for mode, size in enumerate(K.shape):
        drawn = rng.standard_normal((size, rank)) / np.sqrt(size)
        if leading:
            U = np.linalg.svd(unfolded(K, mode), full_matrices=False)[0][:, :rank]
            drawn[:, : U.shape[1]] = U
        factors.append(drawn)
    return factors


def _solved(inner: Array, right: Array) -> Array:
    """Return right inner^{-1}; least squares where components have become alike, which without a ridge they may."""
    try:
        found = np.linalg.solve(inner, right.T).T
        if np.isfinite(found).all():
            return found
    except np.linalg.LinAlgError:
        pass
    return np.linalg.lstsq(inner, right.T, rcond=None)[0].T


def _balanced(factors: list[Array]) -> list[Array]:
    """Give the columns of each component one length."""
    lengths = np.array([np.linalg.norm(A, axis=0) for A in factors])
    same = np.exp(np.mean(np.log(np.where(lengths > 0, lengths, 1.0)), axis=0))
    alive = (lengths > 0).all(axis=0)  # a component that the penalty has switched off stays off
    return [A * np.where(alive, same / np.where(n > 0, n, 1.0), 0.0) for A, n in zip(factors, lengths, strict=True)]


def _unit(A: Array, lengths: Array) -> Array:
    first = np.eye(len(A))[:, :1]
    return np.where(lengths > 0, A / np.where(lengths > 0, lengths, 1.0), first)


def _khatri_rao(factors: list[Array] | tuple[Array, ...]) -> Array:
    """Return the products of the columns, the index of the last factor running fastest."""
    return reduce(lambda A, B: (A[:, None, :] * B[None, :, :]).reshape(-1, A.shape[1]), factors)
