"""Reweighting and refit: closed forms, laws, and what their certificates say."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import LayerProblem, ProblemError, Status, cascaded, certify, refine, refit, reweighted, solve

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


# --- reweighting


def test_round_zero_is_the_program_as_given(random_problem):
    problem, _ = random_problem("parallel", 0)
    (only,) = reweighted(problem, rounds=0, tol=1e-6)
    assert only.problem is problem
    assert np.array_equal(only.solution.W, solve(problem, tol=1e-6).W)


@pytest.mark.parametrize("backend", ["admm", "reference"])
def test_every_round_is_certified_for_its_own_program(random_problem, kind, backend):
    problem, _ = random_problem(kind, 1)
    done = reweighted(problem, rounds=2, backend=backend, tol=1e-4, max_iter=20_000)
    assert len(done) == 3
    for (_, before), (program, solution) in itertools.pairwise(done):
        W = np.abs(before.W.astype(float))
        base = np.broadcast_to(problem.penalty, W.shape)
        priced = (base > 0) & (base < np.inf)
        alive = priced & (W > 0)
        expected = base[priced] / (W[priced] + 0.1 * np.median(W[alive]))
        ratio = program.penalty[priced] / expected
        assert ratio == pytest.approx(ratio[0]) and program.penalty[alive].mean() == pytest.approx(1)
        assert np.array_equal(program.penalty[~priced], base[~priced])  # free stays free, forbidden forbidden
        assert np.shares_memory(program.X, problem.X)
        assert solution.status is Status.SOLVED
        assert certify(program, solution.W, solution.dual) == solution.certificate
        kept = solution.W != 0
        assert solution.certificate.objective == pytest.approx(np.sum(program.penalty[kept] * np.abs(solution.W[kept])))
    assert not np.any(done[-1].solution.W[np.broadcast_to(problem.penalty, W.shape) == np.inf])


def test_on_a_diagonal_layer_the_smaller_weight_goes_first():
    # X = I: min p1 u1 + p2 u2 over (u1 - 3)^2 + (u2 - 1)^2 <= eps^2. At equal prices both shrink by eps / sqrt(2); priced by
    # their inverses the small one shrinks more, until it is gone and the large one has all but what it costs.
    problem = LayerProblem(np.eye(2), np.array([[3.0, 1.0]]), 1.1)
    first, *_, last = (solution.W[:, 0] for _, solution in reweighted(problem, rounds=3, tol=1e-8))
    assert first == pytest.approx(np.array([3, 1]) - 1.1 / np.sqrt(2), abs=1e-6)
    assert last == pytest.approx([3 - np.sqrt(1.1**2 - 1), 0], abs=1e-6)


def test_delta_sets_how_far_apart_the_prices_are(random_problem):
    problem, _ = random_problem("parallel", 2)
    (_, first), (even, _) = reweighted(problem, rounds=1, delta=1e9)
    assert even.penalty == pytest.approx(np.ones_like(first.W), abs=1e-6)  # |U| is a millionth of a millionth of delta
    _, (uneven, _) = reweighted(problem, rounds=1, delta=1e-3)
    W = np.abs(first.W.astype(float))
    assert uneven.penalty * (W + 1e-3) == pytest.approx(uneven.penalty.flat[0] * (W.flat[0] + 1e-3))


def test_it_prunes_further_at_the_same_radius(random_layer):
    X, W = random_layer(3, 30, 10, 400)
    problem = LayerProblem.parallel(X, W, 0.4)
    first, *_, last = [solution for _, solution in reweighted(problem)]
    assert np.count_nonzero(last.W) < 0.9 * np.count_nonzero(first.W)
    assert last.certificate.violation <= 1e-3  # the constraints are those of the program as given


def test_it_ends_where_nothing_is_left_to_price(random_problem):
    problem, _ = random_problem("parallel", 4)
    (only,) = reweighted(problem.replace(epsilon=problem.epsilon_max))
    assert not only.solution.W.any()


def test_a_round_begins_where_the_one_before_ended_if_the_backend_can(random_problem, monkeypatch):
    from solvers.backends import reference

    problem, _ = random_problem("parallel", 5)
    options = {"backend": "reference", "max_iter": 20_000}
    (_, first), (program, warm) = reweighted(problem, rounds=1, **options)
    assert np.array_equal(warm.W, solve(program, start=first, **options).W)
    monkeypatch.setattr(reference, "TAKES_START", False)
    _, (program, cold) = reweighted(problem, rounds=1, **options)
    assert np.array_equal(cold.W, solve(program, **options).W) and not np.array_equal(cold.W, warm.W)


def test_without_throw_a_missed_round_says_so(random_problem):
    problem, _ = random_problem("parallel", 6)
    done = reweighted(problem, rounds=1, backend="reference", tol=1e-9, max_iter=3, throw=False)
    assert [solution.status for _, solution in done] == [Status.UNMET, Status.UNMET]


# --- refit


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


# --- the choice


@pytest.mark.parametrize("activation", ["parallel", "linear"])
def test_a_refit_is_judged_by_the_program_given(random_layer, activation):
    X, W = random_layer(13, 12, 6, 200)
    problem = getattr(LayerProblem, activation)(X, W, 0.3)
    solution = solve(problem)
    program, better = refine(problem, solution)
    assert program is problem
    assert better.certificate == certify(problem, better.W, solution.dual)
    assert not np.any(better.W[solution.W == 0])
    assert better.certificate.response_error < solution.certificate.response_error
    assert better.certificate.ball_violation == 0
    assert better.certificate.ceiling_violation <= problem.epsilon
    assert better.certificate.objective > solution.certificate.objective  # debiased weights are larger ...
    assert better.status is Status.UNMET and better.certificate.gap > solution.tol  # ... and the certificate says so


def test_what_is_not_better_is_not_returned(random_problem):
    problem, W = random_problem("parallel", 14)
    solution = solve(problem)
    exact = dataclasses.replace(solution, W=W, certificate=certify(problem, W, solution.dual))
    assert refine(problem, exact).solution is exact


def test_within_keeps_ball_and_ceiling(random_layer):
    X, W = random_layer(15, 30, 10, 400)
    problem = LayerProblem.parallel(X, W, 0.4)
    priced, solution = reweighted(problem, rounds=1)[-1]
    inside, again = refine(priced, solution, within=True)
    assert again.status is Status.SOLVED and again.certificate == certify(inside, again.W, again.dual)
    assert again.certificate.violation <= solution.tol and not np.any(again.W[solution.W == 0])
    assert set(np.unique(inside.penalty)) == {1.0, np.inf}
    size = np.abs(solution.W).sum(dtype=float)
    assert again.certificate.objective <= size * (1 + 2e-3)  # the l1-smallest of the support, to tol on either side


def test_within_leaves_free_weights_free(random_problem):
    problem, _ = random_problem("free bias", 16)
    inside, _ = refine(problem, solve(problem), within=True)
    assert np.all(inside.penalty[-1] == 0)


def test_within_gives_back_what_it_cannot_better(random_problem):
    problem, _ = random_problem("parallel", 17)
    solution = dataclasses.replace(solve(problem), tol=1e-16)  # no certificate in float64 is that good
    program, same = refine(problem, solution, within=True)
    assert program is problem and same is solution


# --- the cascade


def moved_inputs(problem, seed, size=0.3):
    """Return inputs as an imperfect layer before would give them."""
    return problem.X + size * np.random.default_rng(seed).standard_normal(problem.X.shape)


@given(seeds)
def test_the_refitted_trained_weights_are_feasible_on_the_new_inputs(random_problem, kind, seed):
    problem, W = random_problem(kind, seed)
    X_hat = moved_inputs(problem, seed)
    S = refit(problem.replace(X=X_hat), W)
    ball = certify(problem.replace(X=X_hat), S).ball
    for radius in (0.5 * ball, 2 * ball):
        program = cascaded(problem.replace(epsilon=radius), X_hat, W)
        assert program.epsilon == max(radius, ball)
        judged = certify(program, S)
        assert np.isfinite(judged.objective) and judged.ball_violation == 0 and judged.ceiling_violation <= 1e-12 * ball
        off = ~program.active
        assert np.array_equal(program.V[off], np.maximum(problem.V, S.T @ X_hat)[off])
        assert np.array_equal(program.X, X_hat) and np.array_equal(program.active, problem.active)
        assert np.shares_memory(program.Y, problem.Y) and np.array_equal(program.penalty, problem.penalty)
        assert program.activation == problem.activation


@given(seeds)
def test_its_radius_grows_less_than_that_of_the_trained_weights(random_problem, seed):
    problem, W = random_problem("linear", seed)  # least squares: the refit is below W in the ball itself
    X_hat = moved_inputs(problem, seed)
    assert cascaded(problem.replace(epsilon=0.0), X_hat, W).epsilon < certify(problem.replace(X=X_hat), W).ball


def test_on_the_original_inputs_it_is_the_program_given(random_problem):
    problem, W = random_problem("parallel", 18)
    same = cascaded(problem, problem.X, W)
    assert same.epsilon == problem.epsilon and not same.V[~same.active].any()


def test_a_cascade_solves_and_its_refit_makes_up_for_the_layer_before(random_layer):
    X, W = random_layer(19, 12, 6, 200)
    problem = LayerProblem.parallel(X, W, 0.3)
    X_hat = moved_inputs(problem, 19, 0.1)
    alone = solve(problem).W
    program = cascaded(problem, X_hat, W)
    solution = solve(program)
    assert solution.status is Status.SOLVED and np.count_nonzero(solution.W) < W.size
    target = problem.replace(X=X_hat)  # the original ceilings
    better = refit(target, solution.W)
    errors = [certify(target, w).response_error for w in (better, solution.W)]
    assert errors[0] < errors[1] < problem.norm
    assert certify(target, refit(target, alone)).response_error < certify(target, alone).response_error


def test_a_cascade_keeps_float32(random_layer):
    X, W = random_layer(20, 12, 6, 200, np.float32)
    problem = LayerProblem.parallel(X, W, 0.3)
    program = cascaded(problem, moved_inputs(problem, 20).astype(np.float32), W.astype(float))
    assert program.X.dtype == program.V.dtype == program.Y.dtype == np.float32


# --- bad input


@pytest.mark.parametrize("bad", [-1, 1.5, float("nan")])
def test_bad_rounds(random_problem, bad):
    with pytest.raises(ProblemError, match=r"rounds must be a whole number, 0 or more; got"):
        reweighted(random_problem("parallel", 0)[0], rounds=bad)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_delta(random_problem, bad):
    with pytest.raises(ProblemError, match="delta must be a positive number, or None"):
        reweighted(random_problem("parallel", 0)[0], delta=bad)


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


def test_what_is_no_program_or_no_solution(random_problem):
    problem, W = random_problem("parallel", 0)
    with pytest.raises(ProblemError, match="takes a LayerProblem; got list"):
        reweighted([1, 2])
    with pytest.raises(ProblemError, match="takes a LayerProblem; got list"):
        refit([1, 2], W)
    with pytest.raises(ProblemError, match="refine takes a Solution; got ndarray"):
        refine(problem, W)
    other, _ = random_problem("parallel", 0, N=9)
    for within in (False, True):
        with pytest.raises(ProblemError, match=r"\(9, 5\)"):
            refine(other, solve(problem), within=within)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": [1, 2]}, "cascaded takes a LayerProblem; got list"),
        ({"X_hat": np.zeros((7, 23))}, r"X_hat is \(7, 23\) and the problem's X is \(8, 23\): the same samples"),
        ({"X_hat": np.full((8, 23), np.inf)}, "184 entries that are NaN or Inf"),
        ({"W": np.zeros((5, 8))}, r"W must be \(N, M\) = \(8, 5\); got \(5, 8\)"),
    ],
)
def test_bad_cascades(random_problem, change, message):
    problem, W = random_problem("parallel", 0)
    with pytest.raises(ProblemError, match=message):
        cascaded(**{"problem": problem, "X_hat": problem.X, "W": W, **change})
