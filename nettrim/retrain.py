"""The sparse retraining of one layer: arrays in, weights as the model will hold them and what is certified of them out.

Inputs and weights are arguments of their own, never inside an object, so that a layer can be sent to another process.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nettrim.asked import Asked, at_radius, count, programs, rows_of
from nettrim.graph import Activation
from nettrim.memory import Peak
from nettrim.search import Answer, answer, paired, search
from nettrim.storage import Storage, Weights
from solvers import Certificate, Solution, Status, certify, refit


class Outcome(NamedTuple):
    """What came of it; numbers are over all groups of the layer, for the weights as the model will hold them.

    Attributes
    ----------
    W : list of ndarray
        New weights of each group, as they are when read back from the model.
    status : Status
        SOLVED where the certificate of every group is met after the cast.
    note : str
        What there is to say.
    epsilon, achieved : float
        Radius and response error, relative to ``||Y||_F``; absolute where Y is 0.
    error, norm : float
        Response error, absolute, and ``||Y||_F``.
    gap, ball_violation, ceiling_violation : float
        Of the worst group, before a refit; violations relative to its epsilon.
    samples : int
        That each program saw.
    iterations, solves : int
        Of the longest solve of the answer, and how many programs were solved in all.
    seconds : float
        In the solvers.
    memory : int or None
        Largest resident set of the process meanwhile, in bytes; None where the system does not tell.
    """

    W: Weights
    status: Status
    note: str
    epsilon: float
    achieved: float
    error: float
    norm: float
    gap: float
    ball_violation: float
    ceiling_violation: float
    samples: int
    iterations: int
    solves: int
    seconds: float
    memory: int | None


def retrain(W: Weights, X: NDArray[Any], X_hat: NDArray[Any] | None, storage: Storage, asked: Asked) -> Outcome:
    """Retrain one layer.

    Parameters
    ----------
    W : list of ndarray, shape (N, M)
        Trained weights, one a group.
    X : ndarray, shape (N', P)
        Inputs of all groups in the original network, a row of ones at the end where there is a bias.
    X_hat : ndarray, shape (N', P), or None
        Inputs in the trimmed network, where they differ.
    storage : Storage
        How the weights will lie in the model.
    asked : Asked
        What is asked.

    Returns
    -------
    Outcome
        The new weights, and what is certified of them.

    Raises
    ------
    ProblemError
        If inputs or weights hold NaN or Inf, or no weights are within kappa times the radius.
    SolverError
        If the backend refuses a program.
    """
    peak = Peak()
    problems = programs(W, X, X_hat, storage, asked)
    if asked.sparsity is None:
        answers, solves, note = [answer(problem, asked) for problem in problems], 1, ""
    else:
        answers, solves, note = search(problems, storage, asked)
    done = _judge(answers, storage, asked, note)
    return done._replace(solves=solves * (1 + asked.rounds) * len(problems), memory=peak.size)


def profile(
    W: Weights, X: NDArray[Any], storage: Storage, asked: Asked, epsilons: Sequence[float]
) -> list[tuple[int, float]]:
    """Retrain a layer at several radii, warm from one to the next.

    Parameters
    ----------
    W, X, storage, asked
        As in ``retrain``; the epsilon of ``asked`` is not used.
    epsilons : sequence of float
        Relative radii, from the largest to the smallest.

    Returns
    -------
    list of (int, float)
        For each radius the weights kept, and the response error relative to ``||Y||_F``.
    """
    problems = programs(W, X, None, storage, dataclasses.replace(asked, sparsity=None, epsilon=0.0))
    rows: list[tuple[int, float]] = []
    warm: list[Solution] | None = None
    for epsilon in epsilons:
        answers = [answer(at_radius(problem, epsilon), asked, start) for problem, start in paired(problems, warm)]
        done = _judge(answers, storage, asked)
        rows.append((count(done.W, storage.bias), done.achieved))
        warm = [each.first for each in answers]
    return rows


def response_error(
    old: Weights, new: Weights, X: NDArray[Any], X_hat: NDArray[Any], bias: bool, activation: Activation
) -> float:
    """Return how far the responses of new weights are from those of the old ones, relative to the latter.

    Parameters
    ----------
    old, new : list of ndarray, shape (N, M)
        Weights of each group.
    X, X_hat : ndarray, shape (N', P)
        Inputs of all groups, of the old weights and of the new ones.
    bias : bool
        Whether the last row of X is the one of ones.
    activation : {"relu", "linear"}
        What follows.

    Returns
    -------
    float
        ``||f(new'X_hat) - f(old'X)||_F / ||f(old'X)||_F``; absolute where that is 0.
    """
    squares = np.zeros(2)
    for g, (before, after) in enumerate(zip(old, new, strict=True)):
        Y, Y_hat = before.T @ rows_of(X, g, len(old), bias), after.T @ rows_of(X_hat, g, len(old), bias)
        if activation == "relu":
            Y, Y_hat = np.maximum(Y, 0), np.maximum(Y_hat, 0)
        squares += np.vdot(Y_hat - Y, Y_hat - Y), np.vdot(Y, Y)
    error, norm = np.sqrt(squares)
    return float(error / (norm or 1.0))


def _judge(answers: list[Answer], storage: Storage, asked: Asked, note: str = "") -> Outcome:
    """Certify the weights as the model will hold them, refit them where asked, and put the groups together."""
    lasts = [each.last for each in answers]
    W = storage.stored([solution.W for _, solution in lasts])
    judged = [certify(problem, w, solution.dual) for (problem, solution), w in zip(lasts, W, strict=True)]
    errors = np.array([c.response_error for c in judged])
    met = all(c.meets(asked.tol) for c in judged)
    if asked.refit and met:
        # A ceiling above 0, as a cascade may have, lets responses be wrong: the refit aims at those of the original network.
        aims = [problem if asked.activation == "linear" else problem.replace(V=0.0) for problem, _ in lasts]
        fitted = storage.stored([refit(aim, w) for aim, w in zip(aims, W, strict=True)])
        after = np.array([certify(problem, w).response_error for (problem, _), w in zip(lasts, fitted, strict=True)])
        W = [new if better else old for old, new, better in zip(W, fitted, after < errors, strict=True)]
        errors = np.minimum(errors, after)
    least = [solution.least_error for _, solution in lasts if solution.least_error is not None]
    norm = math.hypot(*(problem.norm for problem, _ in lasts))
    radius = math.hypot(*(problem.epsilon for problem, _ in lasts))
    unit, error = norm or 1.0, float(np.linalg.norm(errors))
    iterations = max(solution.iterations for _, solution in lasts)
    if not met:
        note = f"kept dense: gap or violation above {asked.tol:g} after {iterations} iterations"
        if least:
            note = f"kept dense: no weights come nearer than {least[0] / unit:.4g}, so epsilon must be larger"
    return Outcome(
        W=W,
        status=Status.SOLVED if met else Status.INFEASIBLE if least else Status.UNMET,
        note=note,
        epsilon=radius / unit,
        achieved=error / unit,
        error=error,
        norm=norm,
        gap=max((c.gap for c in judged), key=abs),
        ball_violation=max(_relative(c.ball_violation, c) for c in judged),
        ceiling_violation=max(_relative(c.ceiling_violation, c) for c in judged),
        samples=lasts[0][0].P,
        iterations=iterations,
        solves=len(answers),
        seconds=sum(each.seconds for each in answers),
        memory=None,
    )


def _relative(violation: float, certificate: Certificate) -> float:
    """Return a violation as a fraction of its unit; 0 where nothing is violated."""
    if violation == 0:
        return 0.0
    return violation / certificate.violation_unit if certificate.violation_unit > 0 else math.inf
