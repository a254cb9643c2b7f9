"""k-means of numbers: Lloyd's two steps on sorted values, where every cluster is an interval, so that each step is exact.

Three starts, as in Han, Mao, Dally, "Deep Compression" (ICLR 2016), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim.errors import SettingError

Floats = NDArray[np.float64]
STARTS = ("linear", "density", "forgy")


def starts(values: Any, k: int, how: str = "linear", *, seed: int | Sequence[int] = 0) -> Floats:
    """Return the centroids that k-means begins with.

    Parameters
    ----------
    values : array-like
        Shape ``(n,)``, finite.
    k : int
        How many centroids; at least 1, and for ``"forgy"`` at most n.
    how : {"linear", "density", "forgy"}, optional
        k points equally far apart from the least to the largest value; the values at the k levels ``(i + 1/2) / k`` of their
        cumulative distribution; or k of the values at random, each taken at most once.
    seed : int or sequence of int, optional
        Of ``"forgy"``, as ``numpy.random.default_rng`` takes it.

    Returns
    -------
    numpy.ndarray
        Shape ``(k,)``, float64, ascending.

    Raises
    ------
    SettingError
        If there is no such start, or k or the values are not of this kind.
    """
    ordered = _ordered(values)
    if how not in STARTS:
        raise SettingError(f"the start of k-means must be one of {', '.join(map(repr, STARTS))}; got {how!r}")
    if k < 1 or (how == "forgy" and k > len(ordered)):
        raise SettingError(f"k-means needs at least 1 centroid and no more than values ({len(ordered)}); got {k}")
    if how == "linear":
        return np.linspace(ordered[0], ordered[-1], k)
    if how == "density":
        return ordered[((np.arange(k) + 0.5) / k * len(ordered)).astype(np.int64)]
    return np.sort(np.random.default_rng(seed).choice(ordered, k, replace=False))


def kmeans(values: Any, k: int, start: str = "linear", *, seed: int | Sequence[int] = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Return centroids of which no step of Lloyd's lowers the sum of squared distances, and the cluster of each value.

    A cluster that loses all its values begins again at the value that is farthest from its own centroid, which lowers the
    sum too; the paper does not say what becomes of such clusters. The outcome is a local minimum and depends on the start.

    Parameters
    ----------
    values : array-like
        Shape ``(n,)``, finite; in any order.
    k : int
        How many clusters; where there are no more distinct values than that, each is its own centroid.
    start : {"linear", "density", "forgy"}, optional
        See ``starts``.
    seed : int or sequence of int, optional
        Of ``"forgy"``, as ``numpy.random.default_rng`` takes it.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        Centroids ``(k,)`` or fewer, float64, ascending, none without values; and index ``(n,)``, int64.

    Raises
    ------
    SettingError
        As ``starts``.
    """
    ordered, distinct = _ordered(values), np.unique(values).astype(np.float64)
    centroids = starts(ordered, min(k, len(ordered)), start, seed=seed)
    if len(distinct) <= k:
        return distinct, np.searchsorted(distinct, np.asarray(values, dtype=np.float64))
    cost = np.inf
    while True:  # ends: the sum falls at every step, and there are finitely many ways to cut the values
        centroids = _refilled(ordered, centroids)
        edges = _edges(ordered, centroids)
        centroids = np.add.reduceat(ordered, edges[:-1]) / np.diff(edges)
        left = float(np.square(ordered - np.repeat(centroids, np.diff(edges))).sum())
        if left >= cost:
            break
        cost = left
    return centroids, nearest(values, centroids)


def nearest(values: Any, centroids: Any) -> NDArray[np.int64]:
    """Return which centroid each value is nearest to, of two the lower.

    Parameters
    ----------
    values : array-like
        Any shape.
    centroids : array-like
        Shape ``(k,)``, ascending.

    Returns
    -------
    numpy.ndarray
        Of the shape of the values, int64.
    """
    c = np.asarray(centroids, dtype=np.float64)
    return np.searchsorted((c[1:] + c[:-1]) / 2, np.asarray(values, dtype=np.float64), side="left").astype(np.int64)


def _edges(ordered: Floats, centroids: Floats) -> NDArray[np.int64]:
    """Return where each cluster begins in the sorted values, and the end ``(k + 1,)``: what ``nearest`` says, in k steps."""
    inner = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2, side="right")
    return np.concatenate([[0], inner, [len(ordered)]])


def _refilled(ordered: Floats, centroids: Floats) -> Floats:
    """Return the centroids, those without values moved to the values that are farthest from theirs."""
    for _ in range(10 * len(centroids)):  # a move may empty a neighbor, and of values one rounding apart none helps
        centroids = np.sort(centroids)
        sizes = np.diff(_edges(ordered, centroids))
        empty = np.flatnonzero(sizes == 0)
        if not len(empty):
            return centroids
        far = np.abs(ordered - np.repeat(centroids, sizes)).argmax()
        centroids[empty[0]] = ordered[far]
    centroids = np.sort(centroids)
    return centroids[np.diff(_edges(ordered, centroids)) > 0]


def _ordered(values: Any) -> Floats:
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if not len(ordered) or not np.isfinite(ordered).all():
        raise SettingError(f"k-means needs values, all finite; got {len(ordered)} of them")
    return ordered
