"""Warm starts: who takes them, what they save, and that they are left as they were."""

import importlib.util

import numpy as np
import pytest

from solvers import LayerProblem, SolverError, solve
from tests.backends import BACKENDS, STARTING, met, module_of


def test_who_takes_a_start():
    assert {name for name in BACKENDS if importlib.import_module(module_of(name)).TAKES_START} == set(STARTING)


@pytest.mark.parametrize("backend", STARTING)
def test_warm_start_from_a_solution(random_problem, consistent, backend, kind):
    problem, _ = random_problem(kind, 3)
    cold = solve(problem, backend, tol=1e-4)
    again = solve(problem, backend, tol=1e-4, start=cold)
    assert again.iterations <= cold.iterations
    # Optimal weights and dual are a fixed point of the iteration: from a hundred times nearer, the first look is enough.
    fine = solve(problem, backend, tol=1e-6)
    warm = solve(problem, backend, tol=1e-4, start=fine)
    assert warm.iterations <= cold.checks[0].iteration and warm.iterations < cold.iterations
    for solution in (again, warm):
        assert met(solution.certificate, 1e-4) and consistent(solution.certificate, cold.certificate)


@pytest.mark.parametrize("backend", STARTING)
def test_warm_start_from_a_neighbor(random_layer, consistent, backend):
    X, W = random_layer(9, 12, 5, 40)
    problem, neighbor = LayerProblem.parallel(X, W, 0.1), LayerProblem.parallel(X, W, 0.101)
    cold = solve(problem, backend, tol=1e-5)
    warm = solve(problem, backend, tol=1e-5, start=solve(neighbor, backend, tol=1e-5))
    assert warm.iterations < cold.iterations  # a radius 1 % away: not a law, but what a path of radii is built on
    assert consistent(warm.certificate, cold.certificate)


@pytest.mark.parametrize("backend", STARTING)
def test_warm_start_from_other_samples_and_from_weights(random_layer, consistent, backend):
    X, W = random_layer(9, 12, 5, 40)
    problem = LayerProblem.parallel(X, W, 0.1)
    cold = solve(problem, backend)
    elsewhere = solve(LayerProblem.parallel(X[:, :30], W, 0.1), backend)  # its dual does not fit and is left behind
    for start in (elsewhere, W, W.tolist(), np.asfortranarray(W)):
        warm = solve(problem, backend, start=start)
        begun = [solve(problem, backend, max_iter=1, start=s, throw=False).certificate for s in (start, None)]
        assert begun[0] != begun[1]  # it did start elsewhere
        assert met(warm.certificate, 1e-3) and consistent(warm.certificate, cold.certificate)
    zero = solve(problem, backend, start=np.zeros_like(W))  # which is where a cold start begins
    assert zero.W.tobytes() == cold.W.tobytes() and zero.iterations == cold.iterations


@pytest.mark.parametrize("backend", STARTING)
def test_start_is_left_alone(random_problem, backend):
    problem, W = random_problem("parallel", 0)
    cold = solve(problem, backend)
    before = W.tobytes(), cold.W.tobytes(), cold.dual.tobytes()
    solve(problem, backend, start=cold)
    solve(problem, backend, start=W)
    assert before == (W.tobytes(), cold.W.tobytes(), cold.dual.tobytes())


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in STARTING])
def test_start_is_refused(random_problem, backend):
    problem, W = random_problem("parallel", 0)
    with pytest.raises(SolverError, match=f"backend '{backend}' takes no warm start; leave start out, or use 'admm'"):
        solve(problem, backend, start=W)
