"""The radius at which a layer has a given sparsity: regula falsi on its logarithm, each solve warm from the nearest."""

from __future__ import annotations

import math
from typing import NamedTuple

from nettrim.asked import ROOM, Asked, at_radius, count
from nettrim.storage import Storage
from solvers import LayerProblem, Round, Solution, Status, reweighted, takes_start

SPARSITY_TOLERANCE = 0.0025  # of the weights of a layer: how near to the sparsity asked the search ends
SOLVES = 14  # of a search, at most
LARGEST = 1.0  # relative radius at which a parallel program is solved by 0
SMALLEST = 1e-4


class Answer(NamedTuple):
    """The solves of a program: the first, for warm starts, and the last that met its certificate, or else the last."""

    first: Solution
    last: Round
    seconds: float


def answer(problem: LayerProblem, asked: Asked, start: Solution | None = None) -> Answer:
    """Solve a program, in rounds where asked.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    asked : Asked
        Rounds, backend, tolerance and iterations.
    start : Solution, optional
        Warm start, where the backend takes one; one that was not solved is none, for the dual of a program without feasible
        weights grows without bounds.

    Returns
    -------
    Answer
        Its solves.
    """
    warm = start is not None and start.status is Status.SOLVED and takes_start(asked.backend)
    done = reweighted(
        problem,
        rounds=asked.rounds,
        backend=asked.backend,
        tol=asked.tol,
        max_iter=asked.max_iter,
        start=start if warm else None,
        throw=False,
    )
    met = [each for each in done if each.solution.status is Status.SOLVED]
    return Answer(done[0].solution, (met or done)[-1], sum(each.solution.seconds for each in done))


def search(problems: list[LayerProblem], storage: Storage, asked: Asked) -> tuple[list[Answer], int, str]:
    """Look for the radius at which the sparsity is the one asked.

    Parameters
    ----------
    problems : list of LayerProblem
        One a group, each at the smallest radius that it may have.
    storage : Storage
        How the weights will lie in the model; what its dtype rounds to zero counts as zero.
    asked : Asked
        With a sparsity; its epsilon is where the search begins.

    Returns
    -------
    answers : list of Answer
        The nearest that was found.
    solves : int
        Radii that were tried.
    note : str
        What was reached, where it is not what was asked.
    """
    assert asked.sparsity is not None  # the caller has looked
    weights = sum(problem.M * (problem.N - storage.bias) for problem in problems)
    target = 1.0 - asked.sparsity
    smallest = max(SMALLEST, min(ROOM * problem.epsilon / (problem.norm or 1.0) for problem in problems))
    largest = max(LARGEST, 2 * smallest)
    seen: dict[float, tuple[float, list[Answer]]] = {}
    low = high = None  # radii that keep more, and less, than the target
    at = smallest if target == 1 else min(max(asked.epsilon, smallest), largest)
    while len(seen) < SOLVES and at not in seen:
        nearest = min(seen, key=lambda other: abs(math.log(other / at)), default=None)
        warm = None if nearest is None else [each.first for each in seen[nearest][1]]
        answers = [answer(at_radius(problem, at), asked, start) for problem, start in paired(problems, warm)]
        kept = count(storage.stored([each.last.solution.W for each in answers]), storage.bias) / weights
        seen[at] = kept, answers
        if abs(kept - target) <= SPARSITY_TOLERANCE:
            break
        low, high = (at, high) if kept > target else (low, at)
        if low is None:
            at = max(at / 3, smallest)
        elif high is None:
            at = min(at * 2, largest)
        else:
            above, below = seen[low][0] - target, target - seen[high][0]
            share = min(max(above / (above + below), 0.1), 0.9)
            at = low * (high / low) ** share
    best = min(seen, key=lambda at: (not _met(seen[at][1]), abs(seen[at][0] - target)))
    kept, answers = seen[best]
    note = f"sparsity {asked.sparsity:.4g} was asked, {1 - kept:.4g} is the nearest"
    return answers, len(seen), "" if abs(kept - target) <= 2 * SPARSITY_TOLERANCE else note


def _met(answers: list[Answer]) -> bool:
    return all(each.last.solution.status is Status.SOLVED for each in answers)


def paired(problems: list[LayerProblem], warm: list[Solution] | None) -> list[tuple[LayerProblem, Solution | None]]:
    """Return each program with the solution to start from.

    Parameters
    ----------
    problems : list of LayerProblem
        The programs.
    warm : list of Solution or None
        One each, or none.

    Returns
    -------
    list of pairs
        Of a program and a solution or None.
    """
    return list(zip(problems, warm or [None] * len(problems), strict=True))  # type: ignore[list-item]
