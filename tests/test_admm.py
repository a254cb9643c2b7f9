"""What is special to ``admm``: two precisions, kernels that are the proximal maps, checkpoints."""

import itertools

import numpy as np
import pytest

from solvers import solve
from solvers.backends._checkpoints import checkpoints
from solvers.prox import project_ball, project_ceiling
from tests.backends import BACKENDS


@pytest.mark.skipif("admm" not in BACKENDS, reason="admm needs numba and scipy")
def test_admm_reaches_a_fine_tolerance_in_float64(random_problem):
    for kind in ("parallel", "linear", "cascade", "free bias"):
        problem, _ = random_problem(kind, 5)
        solution = solve(problem, "admm", tol=1e-6)
        assert solution.certificate.meets(1e-6) and solution.W.dtype == np.float64


@pytest.mark.skipif("admm" not in BACKENDS, reason="admm needs numba and scipy")
def test_admm_chooses_its_precision_by_the_tolerance(random_problem):
    problem, _ = random_problem("parallel", 5)
    assert solve(problem, "admm", tol=1e-3).W.dtype == np.float32
    assert solve(problem, "admm", tol=1e-5).W.dtype == np.float64
    assert solve(problem, "admm", tol=1e-3, dtype="float64").W.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_admm_kernels_are_the_proximal_maps(dtype):
    pytest.importorskip("numba")
    from solvers.backends import _kernels

    rng = np.random.default_rng(0)
    g, s, Y, V = rng.standard_normal((4, 5, 11)).astype(dtype)
    on, epsilon = rng.random((5, 11)) < 0.5, 0.7
    Z, T = 2 * g - s, np.where(on, Y, V)
    p = project_ceiling(project_ball(Z, Y, on, epsilon), V, on)
    close = {"rtol": 0, "atol": 50 * np.finfo(dtype).eps}  # numbers of size 10, a few operations each
    squares = np.empty(5)
    _kernels.ball_squares(g, s, T, on, squares)
    distance = np.sqrt(squares.sum())
    assert distance == pytest.approx(np.linalg.norm((Z - Y)[on]), rel=1e-5 if dtype == np.float32 else 1e-13)  # its ulp
    shrink = dtype(epsilon / distance)
    dual = g.copy()
    _kernels.multipliers(dual, s, T, on, shrink, dtype(3))
    np.testing.assert_allclose(dual, 3 * (Z - p), **close)
    state, gap = s.copy(), g.copy()
    _kernels.step(gap, state, T, on, shrink, dtype(1.5))
    np.testing.assert_allclose(state, s + dtype(1.5) * (p - g), **close)
    np.testing.assert_allclose(gap, state - g, **close)


def test_checkpoints_grow_so_that_judging_stays_cheap():
    series = list(itertools.islice(checkpoints(20, 1.15, 5), 60))
    assert series[0] == 20 and all(b - a >= 5 for a, b in itertools.pairwise(series))
    assert all(b <= max(a + 5, 1.15 * a) for a, b in itertools.pairwise(series))
    assert series[-1] > 10_000  # so a run of 10,000 iterations is judged fewer than 60 times
