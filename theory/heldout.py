"""What held-out samples say of new ones, whatever their distribution.

Nothing here is of Net-Trim's papers, whose bounds are about the calibration samples. Samples must be independent draws from
the distribution that new ones come from, with no part in training, trimming or any choice between models; nothing is assumed
of the network or of the distribution. A share or a rate is of the distribution: a batch of new samples may have another by
chance. For one new sample it is enough that all are exchangeable.

Order statistics: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World" (2005) for one new sample; Wilks,
"Determination of Sample Sizes for Setting Tolerance Limits" (Annals of Mathematical Statistics, 1941) for a share. Counts:
Clopper and Pearson, "The Use of Confidence or Fiducial Limits" (Biometrika, 1934). The mean of an error without a known
largest value has no such bound.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers.arrays import Array
from solvers.errors import ProblemError

ROUNDING = 1e-9  # by which a product such as 0.07 * 100 may miss the whole number that it is


def new_sample_bound(errors: Any, confidence: float = 0.95) -> float:
    """Bound the error of one new sample: split conformal prediction.

    The k-th smallest of n errors, ``k = ceil((n + 1) confidence)``. Each rank of the new one among n + 1 exchangeable ones
    is as likely as any other, so it is at most this with probability ``k / (n + 1)`` or more, over the draw of all n + 1.

    Parameters
    ----------
    errors : array_like, shape (n,)
        Of held-out samples, 0 or more; any function of a sample alone will do.
    confidence : float, optional
        Over 0 and below 1.

    Returns
    -------
    float
        In the unit of the errors; inf where n is below ``confidence / (1 - confidence)`` (19 at 0.95).

    Raises
    ------
    ProblemError
        If the confidence is out of its range, or errors are none, negative or not numbers.
    """
    sizes = ordered(errors)
    _check("confidence", confidence)
    place = rank((len(sizes) + 1) * confidence)
    return float(sizes[place - 1]) if place <= len(sizes) else math.inf


def share_bound(errors: Any, share: float = 0.95, confidence: float = 0.95) -> float:
    """Bound the errors of a share of all new samples: a one-sided tolerance limit.

    The k-th smallest of n errors, with the least k for which ``P(Binomial(n, share) < k) >= confidence``: the number of n
    samples below the ``share`` quantile is binomial, and fewer than k of them leave the k-th at or above it. Confidence is
    over the draw of the n; the share is of the distribution.

    Parameters
    ----------
    errors : array_like, shape (n,)
        Of held-out samples, independent, 0 or more.
    share : float, optional
        Of new samples, over 0 and below 1.
    confidence : float, optional
        Over 0 and below 1.

    Returns
    -------
    float
        In the unit of the errors; inf where n is too small (below 59 at 0.95 and 0.95).

    Raises
    ------
    ProblemError
        If a number is out of its range, or errors are none, negative or not numbers.
    """
    from scipy.stats import binom  # here, so that `import theory` stays light

    sizes = ordered(errors)
    _check("share", share)
    _check("confidence", confidence)
    place = int(binom.ppf(confidence, len(sizes), share)) + 1
    return float(sizes[place - 1]) if place <= len(sizes) else math.inf


def rate_bound(count: int, n: int, confidence: float = 0.95) -> float:
    """Bound the probability of an event on a new sample, from how often it happened: the upper limit of Clopper and Pearson.

    Parameters
    ----------
    count : int
        Of held-out samples on which it happened.
    n : int
        Of held-out samples, independent.
    confidence : float, optional
        Over 0 and below 1.

    Returns
    -------
    float
        The largest rate at which so few happen with probability ``1 - confidence``.

    Raises
    ------
    ProblemError
        If a number is out of its range.
    """
    from scipy.stats import beta

    if not (n >= 1 and 0 <= count <= n):
        raise ProblemError(f"count must be from 0 to n, and n at least 1; got {count} of {n}")
    _check("confidence", confidence)
    return 1.0 if count == n else float(beta.ppf(confidence, count + 1, n - count))


def ordered(values: Any) -> Array:
    """Return numbers that are 0 or more, inf allowed, from the least to the largest.

    Parameters
    ----------
    values : array_like, shape (n,)
        At least one.

    Returns
    -------
    ndarray, shape (n,)
        Sorted, in float64.

    Raises
    ------
    ProblemError
        If there are none, or one is negative or NaN.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or len(found) == 0 or not (found >= 0).all():
        raise ProblemError(
            f"errors, and what trials need, must be numbers, 0 or more, at least one; got an array of shape {found.shape}"
        )
    return np.sort(found)


def rank(count: float) -> int:
    """Return a number of samples rounded up; in floats 0.07 * 100 is more than 7.

    Parameters
    ----------
    count : float
        Such as a share times a number.

    Returns
    -------
    int
        The least whole number that is not below it but by rounding.
    """
    return math.ceil(count - ROUNDING)


def _check(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ProblemError(f"{name} must be over 0 and below 1; got {value}")
