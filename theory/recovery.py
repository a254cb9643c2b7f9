"""How many samples make the weights the only optimum at radius 0: the promise, and the least number of them in a trial.

Theorem 3 of the supplement of Aghasi, Abdi, Nguyen, Romberg, "Net-Trim: Convex Pruning of Deep Neural Networks with
Performance Guarantee" (NIPS 2017). One neuron, ``y = max(X'w, 0)``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers.arrays import to_array
from solvers.errors import ProblemError
from solvers.problem import LayerProblem
from theory.checks import Check
from theory.estimates import clopper_pearson
from theory.uniqueness import Verdict, uniqueness

THEOREM = "Theorem 3"
STEP = 1.2  # of the search for a number of samples on the other side of the least one


def recovery_samples(N: int, s: int, mu: float) -> int:
    """Return how many samples are enough for Gaussian inputs: Theorem 3.

    With ``P = (11 s + 7) mu log N`` samples of independent N(0, 1) entries, an s-sparse w is the only optimum of its program
    at radius 0 with probability at least ``recovery_probability(N, mu)``. For Gaussian inputs, and them alone, it is proved.

    Parameters
    ----------
    N : int
        Inputs, 2 or more.
    s : int
        Weights other than 0, from 1 to N.
    mu : float
        Over 1: the more, the surer.

    Returns
    -------
    int
        P, rounded up.

    Raises
    ------
    ProblemError
        If a number is out of its range.
    """
    _check(N, mu)
    _check_sparsity(N, s)
    return math.ceil((11 * s + 7) * mu * math.log(N))


def recovery_probability(N: int, mu: float, *, neurons: int = 1) -> float:
    """Return the probability that Theorem 3 promises: ``1 - N^(1 - mu)``.

    Parameters
    ----------
    N : int
        Inputs, 2 or more.
    mu : float
        Over 1.
    neurons : int, optional
        Of all neurons of a layer at once, each s-sparse: ``1 - M N^(1 - mu)``, since probabilities of failure add up at
        most (the union bound); 0 where that is less.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ProblemError
        If a number is out of its range.
    """
    _check(N, mu)
    if neurons < 1:
        raise ProblemError(f"a layer has at least one neuron; got {neurons}")
    return max(0.0, -math.expm1(math.log(neurons) + (1 - mu) * math.log(N)))


def recovery_check(N: int, mu: float, recovered: int, trials: int, *, confidence: float = 0.95) -> Check:
    """Hold failures in independent trials at Theorem 3's P against its promise ``N^(1 - mu)``.

    Measured is the lower end of the interval of Clopper and Pearson for the probability of failure: if that is over the
    promise, the trials speak against the theorem. If not, they are consistent with it, which for few trials is little.

    Parameters
    ----------
    N : int
        Inputs, 2 or more.
    mu : float
        Over 1.
    recovered, trials : int
        In how many of how many trials w was the only optimum.
    confidence : float, optional
        Of the interval.

    Returns
    -------
    Check
        The promise beside what was measured.

    Raises
    ------
    ProblemError
        If a number is out of its range.
    """
    promised = 1 - recovery_probability(N, mu)
    failures = clopper_pearson(trials - recovered, trials, confidence)
    name = f"probability of failure: lower end of the {confidence:.0%} interval, {trials - recovered} of {trials} failed"
    return Check(name, THEOREM, failures.low, promised)


def recovers(X: Any, w: Any) -> bool:
    """Tell whether w is proved to be the only optimum of its program at radius 0, by ``uniqueness``.

    What is not proved counts as not recovered; by Goldman and Tucker nothing is missed but what rounding hides.

    Parameters
    ----------
    X : array_like, shape (N, P)
        Inputs.
    w : array_like, shape (N,)
        Weights of one neuron.

    Returns
    -------
    bool
        Whether every solver finds w, its support and its values, from X and ``max(X'w, 0)``.

    Raises
    ------
    ProblemError
        If X and w do not fit each other, or hold NaN or Inf.
    """
    W = to_array(w, "w")
    if W.ndim != 1:
        raise ProblemError(f"w must be (N,), the weights of one neuron; got shape {W.shape}")
    W = W[:, None]
    return uniqueness(LayerProblem.parallel(X, W, 0.0), W).verdicts[0] is Verdict.UNIQUE


def least_samples(X: Any, w: Any, *, guess: int | None = None) -> float:
    """Return the least P such that w is the only optimum given the first P columns of X, and so given more of them.

    At radius 0 w is feasible whatever P is, and a further sample only takes other weights away: once w is the only optimum,
    it stays so. One number says thereby of every P whether w is recovered. It is found by bisection, with some ten
    decisions by ``recovers``.

    Parameters
    ----------
    X : array_like, shape (N, P)
        Inputs, in the order in which they are to be used.
    w : array_like, shape (N,)
        Weights of one neuron, not all 0.
    guess : int, optional
        Where to look first, which changes nothing but the time it takes. Default: ``2 s log(N/s) + 5 s/4 + 1``.

    Returns
    -------
    float
        The number of samples; inf where all columns of X are not enough.

    Raises
    ------
    ProblemError
        If X and w do not fit each other, hold NaN or Inf, w is all 0 or the guess is less than 1.
    """
    X, w = to_array(X, "X"), to_array(w, "w")
    s = int(np.count_nonzero(w))
    if X.ndim != 2 or w.shape != X.shape[:1]:
        raise ProblemError(f"X must be (N, P) and w (N,), the weights of one neuron; got {X.shape} and {w.shape}")
    if not s:
        raise ProblemError("w is all 0, the only optimum without any sample")
    if guess is None:
        guess = math.ceil(2 * s * math.log(len(w) / s) + 1.25 * s + 1)
    if guess < 1:
        raise ProblemError(f"guess must be a number of samples, at least 1; got {guess}")
    most, enough = X.shape[1], math.inf
    # Too few samples to recover w: as long as the neuron is never on, 0 is feasible and costs less.
    few = none = int(np.argmax(np.append(w @ X > 0, True)))
    at = min(max(guess, few + 1), most)
    while few < most and enough - few > 1:
        if recovers(X[:, :at], w):
            enough = at
        else:
            few = at
        if enough == math.inf:
            at = min(math.ceil(STEP * few), most)
        elif few == none:
            at = max(int(enough / STEP), few + 1)
        else:
            at = (few + int(enough)) // 2
    return enough


def _check(N: int, mu: float) -> None:
    if N < 2:
        raise ProblemError(f"Theorem 3 needs N >= 2 inputs, so that log N is positive; got N={N}")
    if not (math.isfinite(mu) and mu > 1):
        raise ProblemError(f"Theorem 3 needs mu > 1, for its probability is 1 - N^(1 - mu); got mu={mu}")


def _check_sparsity(N: int, s: int) -> None:
    if not 1 <= s <= N:
        raise ProblemError(f"Theorem 3 is about s-sparse weights of N inputs, 1 <= s <= N; got s={s}, N={N}")
