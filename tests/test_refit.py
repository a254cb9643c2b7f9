"""The refit on a support: closed forms, and laws that hold for any weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import LayerProblem, ProblemError, certify, refit

seeds = st.integers(0, 2**32 - 1)


def thinned(W, seed, share=0.5):
    """Return W with about that share of its weights left, and halved, so that there is something to undo."""
    return np.where(np.random.default_rng(seed).random(W.shape) < share, 0.5 * W, 0.0)


def parts(problem, W, j):
    """Return F of neuron j, half its gradient (N,) and its response error, as their definitions read."""
    z, y, on = W[:, j].astype(float) @ problem.X, problem.Y[j], problem.active[j]
    r = np.where(on, z - y, np.maximum(z - problem.V[j], 0))
    out = z if problem.activation == "linear" else np.maximum(z, 0)
    return r @ r, problem.X @ r, np.linalg.norm(out - y)


def test_one_weight_by_brute_force():
    # Inputs 1, 2, -1, 0.5; on at the first two with responses 2 and 3; off at the others. Minimize over a fine grid.
    X, Y = np.array([[1.0, 2.0, -1.0, 0.5]]), np.array([[2.0, 3.0, 0.0, 0.0]])
    problem = LayerProblem(X, Y, 0.1)
    grid = np.linspace(-3, 3, 600_001)
    F = (grid - 2) ** 2 + (2 * grid - 3) ** 2 + np.maximum(-grid, 0) ** 2 + np.maximum(0.5 * grid, 0) ** 2
    for begin in (-2.0, 0.1, 5.0):
        (found,) = refit(problem, np.array([[begin]])).ravel()
        assert found == pytest.approx(grid[F.argmin()], abs=1e-5)  # the grid's step
        assert found == pytest.approx(8 / 5.25)  # (1 * 2 + 2 * 3) / (1 + 4 + 0.25)


def test_a_full_newton_step_may_overshoot():
    # No sample is on and the ceilings are at -1, so the samples that count change with w: full steps alone end at F = 5.4.
    X = np.array([[-3.0, 3.0, -3.0, -2.0], [-3.0, 1.0, -3.0, 0.0]])
    problem = LayerProblem(X, np.zeros((1, 4)), 0.1, V=np.full((1, 4), -1.0))
    value, gradient, _ = parts(problem, refit(problem, np.array([[-2.0], [2.0]])), 0)
    assert value == pytest.approx(98 / 37)
    assert gradient == pytest.approx(0, abs=1e-6)


@given(seeds)
def test_a_linear_layer_is_least_squares_on_the_support(random_problem, seed):
    problem, W = random_problem("linear", seed)
    W = thinned(W, seed)
    found = refit(problem, W)
    for j in range(problem.M):
        rows = W[:, j] != 0
        expected = np.linalg.lstsq(problem.X[rows].T, problem.Y[j], rcond=None)[0]
        # N = 8 inputs over P = 23 samples: condition numbers of some tens, so the ridge of 1e-10 moves nothing seen here.
        assert found[rows, j] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(seeds)
def test_laws(random_problem, kind, seed):
    problem, W = random_problem(kind, seed)
    W = thinned(W, seed)
    found = refit(problem, W)
    assert found.dtype == W.dtype and not np.any(found[W == 0])
    for j in range(problem.M):
        F, _, error = parts(problem, W, j)
        F_new, gradient, error_new = parts(problem, found, j)
        assert F_new <= F * (1 + 1e-12) and error_new <= error * (1 + 1e-12)  # sums of 23 terms in another order
        rows = np.flatnonzero(W[:, j])
        # Stationary to the documented tolerance, unless the refit was refused for the sake of the response error.
        if not np.array_equal(found[:, j], W[:, j]):
            goal = 1e-6 * np.linalg.norm(problem.X[rows], axis=1) * np.sqrt(F)
            assert np.all(np.abs(gradient[rows]) <= 1.001 * goal)
    before, after = certify(problem, W), certify(problem, found)
    assert after.response_error <= before.response_error * (1 + 1e-12)
    assert after.ball**2 + after.ceiling_violation**2 <= (before.ball**2 + before.ceiling_violation**2) * (1 + 1e-12)


@given(seeds)
def test_where_the_support_holds_the_trained_weights_nothing_is_left(random_problem, seed):
    problem, W = random_problem("parallel", seed)
    found = refit(problem, 0.5 * W)  # F is convex, and 0 at W: there is no other place to end
    assert certify(problem, found).response_error <= 1e-5 * problem.norm  # tol 1e-6 on gradients, times a condition number


def test_a_ceiling_above_zero_does_not_raise_the_response_error():
    # Off with ceiling 5: F is blind below it. On at sample 0 with response 4, off at sample 1: F wants w = 4, and the
    # response there would be 4 where it was 0.
    problem = LayerProblem(np.array([[1.0, 1.0]]), np.array([[4.0, 0.0]]), 0.1, V=np.full((1, 2), 5.0))
    W = np.array([[2.0]])
    assert np.array_equal(refit(problem, W), W)


def test_neurons_are_refitted_apart(random_problem):
    problem, W = random_problem("cascade", 7)
    W = thinned(W, 7)
    found = refit(problem, W)
    for j in range(problem.M):
        alone = LayerProblem(problem.X, problem.Y[j : j + 1], 0.1, V=problem.V[j : j + 1], active=problem.active[j : j + 1])
        assert refit(alone, W[:, j : j + 1])[:, 0] == pytest.approx(found[:, j], rel=1e-12)


def test_inputs_that_say_the_same_or_nothing(random_layer):
    X, W = random_layer(8, 6, 4, 40)
    X[1], X[2] = X[0], 0.0  # a twin, and an input that is always 0: the Gram matrix is singular in both ways
    problem = LayerProblem.parallel(X, W, 0.1)
    found = refit(problem, 0.5 * W)
    assert certify(problem, found).response_error <= 1e-6 * problem.norm  # W itself reaches 0
    assert np.array_equal(found[2], 0.5 * W[2])


@given(seeds)
def test_dead_inputs_keep_their_weights_and_change_no_other(random_problem, kind, seed):
    problem, W = random_problem(kind, seed)
    W, dead = thinned(W, seed), np.array([1, 4, 6])
    X = problem.X.copy()
    X[dead], X[2, 1:] = 0, 0  # and one that only the first sample sees
    found, alive = refit(problem.replace(X=X), W), np.delete(np.arange(problem.N), dead)
    smaller = LayerProblem(X[alive], problem.Y, 0.1, V=problem.V, active=problem.active, activation=problem.activation)
    assert np.array_equal(found[dead], W[dead])
    assert found[alive] == pytest.approx(refit(smaller, W[alive]), rel=1e-8, abs=1e-10)  # rounding times condition numbers


def test_more_weights_than_samples(random_layer):
    X, W = random_layer(9, 30, 3, 12)
    problem = LayerProblem.linear(X, W, 0.1)
    assert certify(problem, refit(problem, 0.5 * W)).response_error <= 1e-6 * problem.norm


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_matter(random_layer, scale):
    X, W = random_layer(10, 8, 3, 60)
    W[:, 0] = 0.0  # a neuron without weights
    units = np.where(np.arange(8) % 2, scale, 1.0)[:, None]  # every other input in another unit
    plain, scaled = LayerProblem.parallel(X, W, 0.1), LayerProblem.parallel(units * X, W / units, 0.1)
    thin = thinned(W, 10)
    assert units * refit(scaled, thin / units) == pytest.approx(refit(plain, thin), rel=1e-5, abs=1e-7)


def test_float32_stays_and_never_gets_worse(random_layer):
    X, W = random_layer(11, 8, 3, 60, np.float32)
    problem = LayerProblem.parallel(X, W, 0.1)
    once = refit(problem, thinned(W, 11).astype(np.float32))
    twice = refit(problem, once)
    assert once.dtype == twice.dtype == np.float32
    errors = [certify(problem, w).response_error for w in (once, twice)]
    assert errors[1] <= errors[0] * (1 + 1e-12)


def test_one_step_is_used_when_no_more_are_allowed(random_problem):
    problem, W = random_problem("parallel", 12)
    W = thinned(W, 12)
    errors = [certify(problem, w).response_error for w in (W, refit(problem, W, max_iter=1), refit(problem, W))]
    assert errors[0] > errors[1] >= errors[2] * (1 - 1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": np.zeros((5, 8))}, r"W must be \(N, M\) = \(8, 5\); got \(5, 8\)"),
        ({"W": np.full((8, 5), np.nan)}, "W has 40 entries that are NaN or Inf"),
        ({"W": [["a"]]}, "W must hold real numbers"),
        ({"tol": 0.0}, "tol must be a positive number; got 0"),
        ({"tol": float("nan")}, "tol must be a positive number; got nan"),
        ({"max_iter": 0}, "max_iter must be a whole number, at least 1; got 0"),
    ],
)
def test_bad_refits(random_problem, change, message):
    problem, W = random_problem("parallel", 0)
    with pytest.raises(ProblemError, match=message):
        refit(problem, **{"W": W, **change})
