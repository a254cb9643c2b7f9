"""What held-out samples say of new ones, whatever their distribution.

Nothing here is of Net-Trim's papers, whose bounds are about the calibration samples. The bounds need samples that are
exchangeable with the new ones and that had no part in training, trimming or any choice between models; they assume nothing
of the network or of the distribution. Order statistics: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World"
(2005) for one new sample; Wilks, "Determination of Sample Sizes for Setting Tolerance Limits" (Annals of Mathematical
Statistics, 1941) for a share of them. Counts: Clopper and Pearson, "The Use of Confidence or Fiducial Limits" (Biometrika,
1934). The mean of an error without a known largest value has no such bound.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers.arrays import Array
from solvers.errors import ProblemError

ROUNDING = 1e-9  # by which a product such as 0.95 * 20 may miss the whole number that it is


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
    ordered = _ordered(errors)
    _check("confidence", confidence)
    place = math.ceil((len(ordered) + 1) * confidence - ROUNDING)
    return float(ordered[place - 1]) if place <= len(ordered) else math.inf


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

    ordered = _ordered(errors)
    _check("share", share)
    _check("confidence", confidence)
    place = int(binom.ppf(confidence, len(ordered), share)) + 1
    return float(ordered[place - 1]) if place <= len(ordered) else math.inf


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


def _ordered(errors: Any) -> Array:
    values = np.asarray(errors, np.float64)
    if values.ndim != 1 or len(values) == 0 or not (values >= 0).all():
        raise ProblemError(f"errors must be numbers, 0 or more, at least one; got an array of shape {values.shape}")
    return np.sort(values)


def _check(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ProblemError(f"{name} must be over 0 and below 1; got {value}")
