"""Reweighted l1, the choice of a refit, and cascades: closed forms, laws, and what their certificates say."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import LayerProblem, ProblemError, Status, cascaded, certify, refine, refit, reweighted, solve

seeds = st.integers(0, 2**32 - 1)


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
