"""Whether an answer at radius 0 is optimal, or even the only optimum: the dual certificate.

Aghasi, Abdi, Nguyen, Romberg, "Net-Trim: Convex Pruning of Deep Neural Networks with Performance Guarantee" (NIPS 2017),
Proposition 2 of its supplement, with prices, ceilings V and linear layers added.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.arrays import Array, LazyMatrix, Mask, to_array
from solvers.errors import ProblemError
from solvers.problem import LayerProblem
from theory._margin import interior, simplex

EPS = float(np.finfo(np.float64).eps)
RESOLUTION = 1e-10  # of a price: what OPTIMAL allows for; the rounding of a long sum of products is some 1e-13
TIE = 1e-7  # of the largest multiplier: what an LP leaves nearer to 0 than this, at a ceiling, is 0


class Verdict(enum.Enum):
    """What is proved of a neuron's weights; the values are sentences for the user."""

    UNIQUE = "Every other feasible choice of weights costs more."
    OPTIMAL = "No feasible choice of weights costs less; whether another costs as little is not decided."
    UNDECIDED = "Nothing is proved: the weights are not optimal, or rounding hides that they are."


@dataclass(frozen=True, eq=False)
class Uniqueness:
    """What is proved of a layer's weights, and the dual points that prove it.

    Attributes
    ----------
    verdicts : tuple of Verdict, length M
        One for each neuron.
    dual : ndarray, shape (M, P)
        The proof, in the sign and units of ``certify``: Lambda (N, M) is ``-X dual'`` and the xi of a neuron is minus its
        row. A row of zeros is no proof, or that of weights which cost nothing.
    """

    verdicts: tuple[Verdict, ...]
    dual: Array


def uniqueness(problem: LayerProblem, W: Any) -> Uniqueness:
    """Decide for each neuron whether its weights are the only optimum at radius 0: Proposition 2.

    A neuron's program, with prices c, is ``min sum_i c_i |u_i|`` subject to ``x_p'u = y_p`` (active p) and ``x_p'u <= v_p``
    (inactive p). Let F be the support of w and all weights priced 0; weights priced inf are 0 and left out. A xi (P,), 0
    where a ceiling is slack and at most 0 where it binds, with ``Lambda = X xi`` and

        Lambda_i = c_i sign(w_i)  for i in F ,      |Lambda_i| <= c_i  for the others ,

    proves that w is optimal. Another u is then optimal only if u_i = 0 wherever ``|Lambda_i| < c_i``, and only if it meets
    with equality each ceiling whose xi_p < 0. So w is the only optimum if

        (a) |Lambda_i| < c_i off F , and   (b) the rows F of X are independent over the samples, active or with xi_p < 0 ,

    for the difference d of two optima is 0 off F by (a), and ``X_F'd_F = 0`` on those samples makes it 0 by (b). A ceiling
    that binds with xi_p = 0 may be left by another optimum, so (b) does not count it. The paper wants xi_p < 0 at every
    ceiling that binds. By Goldman and Tucker (1956) there is such a xi, with (a) and (b), whenever w is the only optimum:
    both conditions decide the same, and in exact arithmetic neither misses anything.

    The first xi tried is the least-squares solution on the active samples; where it fails, a linear program for the largest
    margin common to (a) and the paper's condition (an interior-point method, HiGHS where that leaves doubt, both on dense
    arrays: some hundreds of inputs and samples, not many thousands), whose last digits are mended by least squares.

    The weights are judged as given: 0 is exactly 0. Y and V may be off by the rounding of ``W'X``, ``4 (N + 2)`` times the
    coarsest eps of the dtypes times ``|W|'|X| + |Y|``; a ceiling that near binds. With Y and V so moved that W fits them
    exactly, UNIQUE is proved for these prices and every X that rounds to the given one in its dtype: how far an exact xi may
    be from the one returned is bounded, and (a), (b) and the signs hold by more than that. OPTIMAL allows for 1e-10 of each
    price (of the largest one for a free weight): no u costs less than w by more than its distance from w, so priced.
    A solver's weights are seldom that near to feasible; where no ceiling binds, ``refit(problem, W, tol=1e-12)`` mends them.

    Parameters
    ----------
    problem : LayerProblem
        The layer, with ``epsilon = 0``.
    W : array_like, shape (N, M)
        Weights, feasible up to rounding.

    Returns
    -------
    Uniqueness
        A verdict and a dual point for each neuron.

    Raises
    ------
    ProblemError
        If epsilon is not 0, W does not fit the problem, holds NaN or Inf or is not feasible, or X is a ``LazyMatrix``.
    """
    if not isinstance(problem, LayerProblem):
        raise ProblemError(f"uniqueness takes a LayerProblem; got {type(problem).__name__}")
    if problem.epsilon != 0:
        raise ProblemError(f"Proposition 2 is about epsilon = 0, and it is {problem.epsilon:g}; at any radius, ask certify")
    inputs: Any = problem.X
    if isinstance(inputs, LazyMatrix):
        raise ProblemError("uniqueness needs the inputs of all samples at once: X must be an array, not a LazyMatrix")
    W = to_array(W, "W")
    if W.shape != (problem.N, problem.M):
        raise ProblemError(f"W must be (N, M) = {(problem.N, problem.M)}; got {W.shape}")
    binding = _binding(problem, W)
    # Powers of 2, which do not round, bring inputs and prices to the size 1, so that no tolerance below has units.
    size = _power_of_2(problem.X)
    X, digits = problem.X.astype(np.float64) / size, float(np.finfo(problem.X.dtype).eps)
    verdicts, dual = [], np.zeros((problem.M, problem.P))
    for j, price in enumerate(np.broadcast_to(problem.penalty, W.shape).T):
        unit = _power_of_2(price[price < np.inf])
        verdict, xi = _Neuron(X, digits, price / unit, np.sign(W[:, j]), problem.active[j], binding[j]).decide()
        verdicts.append(verdict)
        if verdict is not Verdict.UNDECIDED:
            dual[j] = 0.0 - xi * (unit / size)  # rather than -xi, which makes a 0 a -0
    return Uniqueness(tuple(verdicts), dual)


def _binding(problem: LayerProblem, W: Array) -> Mask:
    """Return which ceilings W meets up to rounding, shape (M, P), once it is known to be feasible."""
    if np.any((W != 0) & np.isposinf(problem.penalty)):
        raise ProblemError("W is not feasible: it has weights other than 0 where the penalty is inf")
    digits = max(float(np.finfo(array.dtype).eps) for array in (problem.X, problem.Y, W))
    X, W = problem.X.astype(np.float64), W.astype(np.float64)
    target = np.where(problem.active, problem.Y, problem.V).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        over = W.T @ X - target
        allowed = 4 * (problem.N + 2) * digits * (np.abs(W).T @ np.abs(X) + np.abs(target))
        missed = ~(np.where(problem.active, np.abs(over), over) <= allowed) | ~np.isfinite(allowed)
    if missed.any():
        j, p = (int(i) for i in np.argwhere(missed)[0])
        kind = "misses its response" if problem.active[j, p] else "breaks its ceiling"
        raise ProblemError(
            f"W is not feasible in {int(missed.sum())} pairs. The first, neuron {j} at sample {p}, {kind} by "
            f"{abs(over[j, p]):.3g}, of which rounding explains {allowed[j, p]:.3g}; for a solver's weights, "
            "try refit(problem, W, tol=1e-12)"
        )
    near: Mask = ~problem.active & (over >= -allowed)
    return near


def _power_of_2(array: Array) -> float:
    """Return the largest power of 2 that is at most the largest size of an entry; 1 for an array of zeros."""
    largest = max(float(array.max(initial=0.0)), -float(array.min(initial=0.0)))
    return float(2.0 ** (np.frexp(largest)[1] - 1)) if largest > 0 else 1.0


class _Neuron:
    """One neuron's program, scaled: which weights are held (F), which others have a say, and what Lambda must be on F."""

    def __init__(self, X: Array, digits: float, price: Array, sign: Array, on: Mask, binding: Mask) -> None:
        self.X, self.digits, self.price, self.on, self.binding = X, digits, price, on, binding
        self.held: Mask = (sign != 0) | (price == 0)
        self.others: Mask = ~self.held & (price < np.inf)
        self.target: Array = np.where(self.held, np.copysign(price, sign), 0.0)  # a product would make inf * 0

    def decide(self) -> tuple[Verdict, Array]:
        """Return the verdict and the xi (P,) that proves it."""
        best = self.judge(np.zeros(len(self.on)))
        if best[0] is not Verdict.UNIQUE:
            for xi in self.widest():
                found = self.judge(xi)
                if best[0] is Verdict.UNDECIDED or found[0] is Verdict.UNIQUE:
                    best = found
                if best[0] is Verdict.UNIQUE:
                    break
        return best

    def judge(self, xi: Array) -> tuple[Verdict, Array]:
        """Move xi (P,) by least squares to where its equalities hold, from 0 to the least-squares xi; say what it proves."""
        used = self.on | (self.binding & (-xi > TIE * np.abs(xi).max(initial=0.0)))
        xi = np.where(used, xi, 0.0)
        A = self.X[np.ix_(self.held, used)]
        norms = np.linalg.norm(A, axis=1)
        norms[norms == 0] = 1.0
        A /= norms[:, None]
        step, _, _, values = np.linalg.lstsq(A, (self.target - self.X @ xi)[self.held] / norms, rcond=None)
        xi[used] += step
        # From here on xi is judged as it is, whatever made it. A sum of P products rounds by P EPS of their sizes.
        Lambda, sizes, summed = self.X @ xi, np.abs(self.X) @ np.abs(xi), (len(xi) + 4) * EPS
        error = np.where(self.held, np.abs(Lambda - self.target), np.abs(Lambda) - self.price) + summed * sizes
        allowed = RESOLUTION * np.where(self.price > 0, self.price, 1.0)
        if np.any(xi[self.binding] > 0) or not np.all((error <= allowed)[self.held | self.others]):
            return Verdict.UNDECIDED, xi
        n, least = int(self.held.sum()), 1.0
        if len(values) < n:
            return Verdict.OPTIMAL, xi
        if n:  # (b): the least singular value of the rows F, less the rounding of the SVD and of X
            least = float(values[-1] - 10 * max(A.shape) * EPS * values[0] - 2 * np.sqrt(n) * self.digits)
        if not least > 0:
            return Verdict.OPTIMAL, xi
        # An exact xi is the least-squares correction away, at most `off`; (a) and the signs must survive that.
        error = error + self.digits * sizes + (summed + self.digits) * np.abs(self.target)
        off = float(np.linalg.norm(error[self.held] / norms)) / least
        reach = np.linalg.norm(self.X[:, used], axis=1)
        strict = np.all((error + 2 * reach * off < 0)[self.others])
        return (Verdict.UNIQUE if strict and np.all(-xi[used & self.binding] > off) else Verdict.OPTIMAL), xi

    def widest(self) -> Iterator[Array]:
        """Yield xi (P,) of large margins t, the second of the largest; none where no xi proves optimality.

        ``|Lambda_i| <= (1 - t) c_i`` off F, and ``xi_p <= -t / n`` at the n ceilings that bind, whose effects add up.
        """
        free, bound = np.flatnonzero(self.on), np.flatnonzero(self.binding)
        columns = np.concatenate([free, bound])
        A, c = self.X[np.ix_(self.others, columns)], self.price[self.others]
        program = (
            np.vstack([A, -A, np.eye(len(columns))[len(free) :]]),
            np.concatenate([c, c, np.full(len(bound), 1 / max(len(bound), 1))]),
            np.concatenate([c, c, np.zeros(len(bound))]),
            self.X[np.ix_(self.held, columns)],
            self.target[self.held],
        )
        x, clear = interior(*program)
        xi = np.zeros(len(self.on))
        if x is not None:
            xi[columns] = x
            yield xi.copy()
        if x is not None or not clear:
            x = simplex(*program)
            if x is not None:
                xi[columns] = x
                yield xi
