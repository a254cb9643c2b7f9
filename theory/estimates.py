"""What repeated trials say, with intervals: a success rate, the samples that a share of the trials needs, a constant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from solvers.errors import ProblemError
from theory.heldout import ordered, rank, rate_bound, share_bound


class Estimate(NamedTuple):
    """A value between the ends of its confidence interval."""

    value: float
    low: float
    high: float


class Fit(NamedTuple):
    """The constant c of ``P = c s log(N/s)``, and by how much it misses at worst, relative to c s log(N/s)."""

    c: Estimate
    misfit: float


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Estimate a probability from independent trials; the interval of Clopper and Pearson (1934).

    It holds the true probability at least as often as ``confidence`` says, for any number of trials.

    Parameters
    ----------
    successes, trials : int
        How many of how many succeeded.
    confidence : float, optional
        Between 0 and 1.

    Returns
    -------
    Estimate
        The share of successes and its interval.

    Raises
    ------
    ProblemError
        If there are no trials, successes are not between 0 and the trials, or the confidence is not between 0 and 1.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ProblemError(f"successes must be between 0 and the trials, at least 1; got {successes} of {trials}")
    tail = _tail(confidence)
    low, high = 1 - rate_bound(trials - successes, trials, 1 - tail), rate_bound(successes, trials, 1 - tail)
    return Estimate(successes / trials, low, high)


def quantile(values: Sequence[float], q: float, confidence: float = 0.95) -> Estimate:
    """Estimate what a share q of all trials stays within; the interval is between two of the values, sorted.

    Of n values, the number at most the true quantile is binomial (n, q) where the distribution is continuous; ties make the
    interval hold more often. Its ends may be 0 or inf, where n values say no more.

    Parameters
    ----------
    values : sequence of float
        At least one, not negative; inf for a trial that ended without success.
    q : float
        Between 0 and 1.
    confidence : float, optional
        Between 0 and 1.

    Returns
    -------
    Estimate
        The least value that a share q of the trials does not exceed, and its interval.

    Raises
    ------
    ProblemError
        If there are no values, one is negative or not a number, or q or the confidence is not between 0 and 1.
    """
    from scipy.stats import binom  # here, so that `import theory` stays light

    least, tail = ordered(values), _tail(confidence)
    n, place = len(least), _place(len(least), q)
    below = int(binom.ppf(tail, n, q))  # counted from 1
    low = float(least[below - 1]) if below else 0.0
    return Estimate(float(least[place]), low, share_bound(least, q, 1 - tail))


def fit_constant(
    cells: Mapping[tuple[int, int], Sequence[float]],
    q: float,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Fit:
    """Fit c in ``P = c s log(N/s)``, with P the samples that a share q of the trials needs.

    c is the geometric mean of ``P / (s log(N/s))``, which makes the sum of the squared ``log(P / (c s log(N/s)))`` least:
    relative errors count alike in every cell. The interval is between the quantiles of c over bootstrap resamples of the
    trials of each cell (Efron, 1979): approximate, and somewhat narrow where the samples needed are small whole
    numbers. It is about chance alone; that the form itself fits only so well is the misfit.

    Parameters
    ----------
    cells : mapping
        For each ``(N, s)``, ``1 <= s < N``, the least number of samples of each trial.
    q : float
        Between 0 and 1.
    confidence : float, optional
        Between 0 and 1.
    resamples : int, optional
        Of the bootstrap.
    seed : int, optional
        Of the bootstrap.

    Returns
    -------
    Fit
        The constant, its interval, and the largest ``|P / (c s log(N/s)) - 1|``.

    Raises
    ------
    ProblemError
        If there are no cells, s is not at least 1 and below N, a share q of a cell's trials did not succeed, or as
        ``quantile``.
    """
    tail = _tail(confidence)
    if not cells or resamples < 1:
        raise ProblemError(f"at least one cell (N, s) and one resample are needed; got {len(cells)} and {resamples}")
    rng, logs, drawn = np.random.default_rng(seed), [], []
    for (N, s), values in cells.items():
        if not 1 <= s < N:
            raise ProblemError(f"P = c s log(N/s) is about 1 <= s < N; got s={s}, N={N}")
        least = ordered(values)
        n, place = len(least), _place(len(least), q)
        if not 0 < least[0] <= least[place] < math.inf:
            raise ProblemError(f"at N={N}, s={s} a share {q:g} of the trials is not reached by a positive number of samples")
        size = math.log(s * math.log(N / s))
        logs.append(math.log(least[place]) - size)
        picked = np.sort(rng.integers(0, n, (resamples, n)), axis=1)[:, place]
        drawn.append(np.log(least[picked]) - size)
    center = float(np.mean(logs))
    spread = np.sort(np.exp(np.mean(drawn, axis=0)))
    low, high = (float(spread[_place(resamples, share)]) for share in (tail, 1 - tail))
    return Fit(Estimate(math.exp(center), low, high), max(abs(math.exp(log - center) - 1) for log in logs))


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ProblemError(f"the confidence must be between 0 and 1; got {confidence}")
    return (1 - confidence) / 2


def _place(n: int, q: float) -> int:
    """Return where the q-quantile of n sorted values is: the first with at least ``q n`` values up to it."""
    if not 0 < q < 1:
        raise ProblemError(f"a quantile is that of a share between 0 and 1; got {q}")
    return max(rank(q * n) - 1, 0)
