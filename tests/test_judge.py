"""The judge of a solve: what it has certified last it does not certify again, and nothing else passes for that."""

import numpy as np
import pytest

from solvers import LayerProblem, certify, solve
from solvers.solution import Judge


@pytest.fixture
def judged(random_layer):
    problem = LayerProblem.parallel(*random_layer(0, 8, 5, 40), 0.2)
    solution = solve(problem)
    judge = Judge(problem, 1e-3)
    judge(solution.W, solution.dual, 1)
    return judge, solution


def test_the_last_judgement_is_the_verdict_on_the_same_bytes(judged):
    judge, solution = judged
    assert judge.verdict(solution.W.copy(), solution.dual.copy()) is judge.checks[-1].certificate
    assert solution.certificate is solution.checks[-1].certificate


def test_a_zero_of_either_sign_is_the_same_weight(judged):
    judge, solution = judged
    negated = np.where(solution.W == 0, -0.0, solution.W).astype(solution.W.dtype)
    assert judge.verdict(negated, solution.dual) is judge.checks[-1].certificate


@pytest.mark.parametrize("what", ["a weight", "a multiplier", "no dual", "the dtype"])
def test_other_bytes_are_certified_anew(judged, what):
    judge, solution = judged
    W, dual = solution.W.copy(), solution.dual.copy()
    if what == "a weight":
        W.flat[np.flatnonzero(W)[-1]] *= 1.5
    elif what == "a multiplier":
        dual[-1, -1] += 1.0
    elif what == "the dtype":
        W = W.astype(np.float64)
    else:
        dual = None
    verdict = judge.verdict(W, dual)
    assert verdict is not judge.checks[-1].certificate
    assert verdict == certify(judge.problem, W, dual)


def test_a_verdict_before_any_judgement_is_a_certificate(judged):
    judge, solution = judged
    fresh = Judge(judge.problem, 1e-3)
    assert fresh.verdict(solution.W, solution.dual) == certify(judge.problem, solution.W, solution.dual)
    assert not fresh.checks
