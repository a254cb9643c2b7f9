"""The judge: no guess ever proves too much, every number is the documented formula, nothing that is not a number passes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import LayerProblem, ProblemError, certify, solve
from solvers.arrays import BLOCK, blocks
from solvers.certificate import _best_scale

# What the oracle cannot do to the last digit is priced in by the laws below; its warning is tested in test_backends.
pytestmark = pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")

KINDS = ["parallel", "linear", "cascade", "free bias", "reweighted", "fixed support"]
SEEDS = st.integers(0, 10_000)
SIZES = st.tuples(st.integers(2, 7), st.integers(1, 4), st.integers(3, 12))  # N, M, P


def bound_of(problem, L):
    """Return the documented bound of a feasible L, in plain NumPy and in one piece."""
    on = problem.active
    return -np.sum((L * problem.Y)[on]) - problem.epsilon * np.sqrt(np.sum(L[on] ** 2)) - np.sum((L * problem.V)[~on])


def filled(problem, L):
    """Return a feasible point along each row of a guess: signs corrected, then scaled until a price is reached."""
    L = np.where(problem.active, L, np.maximum(L, 0))
    ratio = np.max(np.abs(problem.X @ L.T) / problem.penalty, axis=0)
    return L / np.where(ratio > 0, ratio, 1.0)[:, None]


def guesses(problem, optimal, seed, noise):
    """Return a guess at the dual: the optimal one (M, P), a spoiled one, or pure noise, its rows out of scale."""
    rng = np.random.default_rng(seed)
    random = rng.standard_normal(optimal.shape) * np.abs(optimal).max(initial=1e-3)
    mixed = optimal + noise * random if np.isfinite(noise) else random
    return mixed * 10.0 ** rng.uniform(-6, 6, (problem.M, 1))


def priced(random_layer, prices, activation, seed, N, M, P, epsilon):
    """Return a program with prices of each documented shape; 0 and inf among them where the name says so."""
    rng = np.random.default_rng(seed + 1)
    X, W = random_layer(seed, N, M, P)
    penalty = {
        "scalar": 2.5,
        "rows": rng.uniform(0.2, 3.0, (N, 1)),
        "entries": rng.uniform(0.2, 3.0, (N, M)),
        "rows with 0": np.where(np.arange(N)[:, None] == N - 1, 0.0, 1.0),
        "entries with 0 and inf": rng.choice([0.0, 0.5, 1.0, np.inf], (N, M), p=[0.15, 0.35, 0.35, 0.15]),
    }[prices]
    W = np.where(penalty == np.inf, 0.0, W)
    if activation == "cascade":
        return LayerProblem.cascade(X + 0.3 * rng.standard_normal(X.shape), X, W, 1.1, penalty=penalty)
    make = LayerProblem.linear if activation == "linear" else LayerProblem.parallel
    return make(X, W, epsilon, penalty=penalty)


@pytest.mark.parametrize("activation", ["relu", "linear", "cascade"])
@pytest.mark.parametrize("prices", ["scalar", "rows", "entries", "rows with 0", "entries with 0 and inf"])
@settings(max_examples=10)  # of 15 combinations
@given(
    seed=SEEDS, sizes=SIZES, epsilon=st.sampled_from([0.0, 0.05, 0.5]), noise=st.sampled_from([0.0, 1e-3, 0.1, 1.0, np.inf])
)
def test_no_guess_proves_more_than_the_optimum(random_layer, prices, activation, seed, sizes, epsilon, noise):
    problem = priced(random_layer, prices, activation, seed, *sizes, epsilon)
    oracle = solve(problem, "cvxpy", tol=1e-6, throw=False)
    optimal = oracle.dual if oracle.dual is not None else np.zeros((problem.M, problem.P))
    guess = certify(problem, oracle.W, guesses(problem, optimal, seed, noise))
    # Weak duality against the oracle's own weights, whatever they violate, so its tolerance does not enter.
    slack = 1e-9 * (1 + np.abs(oracle.W).sum() * guess.ball_multiplier)  # equalities of free weights are met to 1e-10
    paid = guess.ball_violation * guess.ball_multiplier + guess.ceiling_violation * guess.ceiling_multiplier
    assert 0 <= guess.bound <= guess.objective + paid + slack


@pytest.mark.parametrize("activation", ["relu", "linear", "cascade"])
@pytest.mark.parametrize("prices", ["scalar", "rows", "entries"])
@given(seed=SEEDS, sizes=SIZES)
def test_bound_is_the_formula(random_layer, prices, activation, seed, sizes):
    # One neuron, its dual row at the limit and worth its cost: no scale proves more, so the bound is the formula of L.
    N, _, P = sizes
    problem = priced(random_layer, prices, activation, seed, N, 1, P, 0.1)
    L = np.where(problem.active, problem.V - problem.Y, np.maximum(problem.V, 0))
    L = L + 0.1 * np.random.default_rng(seed).standard_normal(L.shape) if activation != "cascade" else L
    L = filled(problem, L)
    expected = bound_of(problem, L)
    certificate = certify(problem, np.zeros((N, 1)), L)
    rounding = 1e-12 * (1 + np.abs(L * problem.Y).sum() + np.abs(L * problem.V).sum())  # of 12 products, with a margin
    assert certificate.bound == pytest.approx(max(expected, 0.0), abs=rounding)
    if expected > rounding:
        on = problem.active
        assert certificate.ball_multiplier == pytest.approx(np.linalg.norm(L[on]), rel=1e-12)  # as above
        assert certificate.ceiling_multiplier == pytest.approx(np.linalg.norm(L[~on]), rel=1e-12)


@given(seed=SEEDS, sizes=SIZES, prices=st.sampled_from(["scalar", "rows", "entries"]))
def test_bound_is_the_formula_row_by_row_at_epsilon_zero(random_layer, seed, sizes, prices):
    # Without the norm the rows are independent: each goes to its limit if it gains, else to 0.
    problem = priced(random_layer, prices, "relu", seed, *sizes, 0.0)
    L = filled(problem, -problem.Y + np.random.default_rng(seed).standard_normal(problem.Y.shape))
    gains = np.array([bound_of(problem, L * (np.arange(problem.M) == m)[:, None]) for m in range(problem.M)])
    bound = certify(problem, np.zeros((problem.N, problem.M)), L).bound
    assert bound == pytest.approx(gains[gains > 0].sum(), abs=1e-12 * (1 + np.abs(L * problem.Y).sum()))  # rounding


@given(seed=SEEDS, sizes=SIZES, kind=st.sampled_from(["parallel", "linear", "cascade", "reweighted"]))
def test_bound_is_at_least_the_formula_of_a_feasible_point(random_problem, seed, sizes, kind):
    problem, W = random_problem(kind, seed, *sizes)
    L = filled(problem, -problem.Y + np.random.default_rng(seed).standard_normal(problem.Y.shape))
    rounding = 1e-12 * (1 + np.abs(L * problem.Y).sum() + np.abs(L * problem.V).sum())  # sums of at most 48 products
    assert certify(problem, W, L).bound >= bound_of(problem, L) - rounding


@given(seed=SEEDS, sizes=SIZES)
def test_free_weights_ask_for_an_equality(random_layer, seed, sizes):
    # A guess that already has X_free L' = 0 must be taken as it is. One neuron, so that the scale is known.
    N, _, P = sizes
    problem = priced(random_layer, "rows with 0", "linear", seed, N, 1, P, 0.1)
    last = problem.X[-1]
    L = -problem.Y
    L = L - np.outer(L @ last / (last @ last), last)
    L /= np.abs(problem.X[:-1] @ L.T).max()
    rounding = 1e-9 * (1 + np.abs(L * problem.Y).sum())  # its own shift of this guess is 0 up to rounding
    assert certify(problem, np.zeros((N, 1)), L).bound == pytest.approx(max(bound_of(problem, L), 0), abs=rounding)


@pytest.mark.parametrize("name", KINDS)
def test_the_optimal_dual_closes_the_gap(random_problem, name):
    problem, _ = random_problem(name, 3)
    solution = solve(problem, "cvxpy", tol=1e-6)
    assert abs(solution.certificate.gap) <= 1e-6  # the tolerance that was asked for
    # Twice the optimal dual is as good: it is infeasible, and scaled back.
    assert certify(problem, solution.W, 2 * solution.dual).bound == pytest.approx(solution.certificate.bound, rel=1e-12)


@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_the_sign_of_the_inactive_part_is_corrected(random_problem, seed, kind):
    problem, W = random_problem(kind, seed)
    L = -problem.Y + np.random.default_rng(seed).standard_normal(problem.Y.shape)
    clipped = np.where(problem.active, L, np.maximum(L, 0))
    assert certify(problem, W, L) == certify(problem, W, clipped)


@given(seed=SEEDS, kind=st.sampled_from(KINDS), powers=st.lists(st.integers(-20, 20), min_size=5, max_size=5))
def test_the_scale_of_a_row_does_not_matter(random_problem, seed, kind, powers):
    problem, W = random_problem(kind, seed)
    L = -problem.Y + np.random.default_rng(seed).standard_normal(problem.Y.shape)
    scaled = certify(problem, W, L * 2.0 ** np.array(powers)[:, None])
    assert scaled.bound == pytest.approx(certify(problem, W, L).bound, rel=1e-9, abs=1e-12)  # a least squares in between


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_no_scale_is_too_far_from_one(random_problem, size):
    problem, W = random_problem("parallel", 3)
    L = solve(problem, "cvxpy", tol=1e-6).dual
    bound = certify(problem, W, L * (size / np.abs(L).max())).bound
    assert bound == pytest.approx(certify(problem, W, L).bound, rel=1e-12)  # rescaling rounds each row once


def test_a_tiny_guess_proves_nothing_false(random_layer):
    # Inputs of 1e10 and a dual of 1e-163: the squares of the dual are 0 in float64, but epsilon ||L|| is not.
    X, W = random_layer(0, 6, 3, 20)
    problem = LayerProblem.parallel(1e10 * X, W, 0.3)
    L = -problem.Y / problem.Y.max()
    bound = certify(problem, W, L).bound
    assert bound > 0
    assert certify(problem, W, 1e-163 * L).bound <= bound * (1 + 1e-9)  # the same point after scaling, so the same proof
    hidden = np.where(problem.active, 1e-163 * L, -1.0)  # large entries of the wrong sign are clipped, so they do not count
    assert certify(problem, W, hidden).bound <= bound * (1 + 1e-9)  # as above


@given(
    gain=st.lists(st.floats(-10, 10), min_size=4, max_size=4),
    norm=st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 10)), min_size=4, max_size=4),
    limit=st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 10)), min_size=4, max_size=4),
    epsilon=st.one_of(st.just(0.0), st.floats(1e-3, 10)),
    seed=SEEDS,
)
def test_best_scale_beats_random_scales(gain, norm, limit, epsilon, seed):
    gain, norm, limit = np.array(gain), np.array(norm), np.array(limit)

    def value(s):
        return s @ gain - epsilon * np.linalg.norm(norm * s, axis=-1)

    best = _best_scale(gain, norm, limit, epsilon)
    assert np.all((best >= 0) & (best <= limit))
    rng = np.random.default_rng(seed)
    far = rng.random((200, 4)) * limit
    near = np.clip(best + 0.01 * rng.standard_normal((200, 4)) * limit, 0, limit)
    corners = rng.integers(0, 2, (50, 4)) * limit
    others = np.vstack([far, near, corners])
    assert value(best) >= value(others).max() - 1e-11  # sums of terms up to 1e3, each good to 1e-16


def test_best_scale_leaves_rows_that_nothing_limits():
    # Such a row is 0 or its program is infeasible; either way it may not make the bound infinite.
    scale = _best_scale(np.array([1.0, 1.0]), np.array([0.0, 0.0]), np.array([np.inf, 2.0]), 0.1)
    np.testing.assert_array_equal(scale, [0.0, 2.0])


@given(seed=SEEDS, sizes=SIZES, kind=st.sampled_from(KINDS))
def test_primal_numbers_are_the_formulas(random_problem, seed, sizes, kind):
    problem, _ = random_problem(kind, seed, *sizes)
    W = np.random.default_rng(seed).standard_normal((problem.N, problem.M))
    W[np.broadcast_to(problem.penalty == np.inf, W.shape)] = 0
    Z, on = W.T @ problem.X, problem.active
    c = certify(problem, W)
    prices = np.broadcast_to(problem.penalty, W.shape)
    finite = np.isfinite(prices)
    response = Z if kind == "linear" else np.maximum(Z, 0)
    same = {"rel": 1e-12, "abs": 1e-14}  # the same sums in another order
    assert c.objective == pytest.approx(np.sum(np.abs(W)[finite] * prices[finite]), **same)
    assert c.ball == pytest.approx(np.linalg.norm((Z - problem.Y)[on]), **same)
    assert c.ball_violation == pytest.approx(max(c.ball - problem.epsilon, 0), **same)
    assert c.ceiling_violation == pytest.approx(np.linalg.norm(np.maximum(Z - problem.V, 0)[~on]), **same)
    assert c.response_error == pytest.approx(np.linalg.norm(response - problem.Y), **same)
    assert c.violation_unit == problem.violation_unit
    assert c.violation == pytest.approx(max(c.ball_violation, c.ceiling_violation) / problem.violation_unit, **same)


@given(seed=SEEDS, kind=st.sampled_from(KINDS))
def test_gap_and_verdict(random_problem, seed, kind):
    problem, W = random_problem(kind, seed)
    c = certify(problem, W, -problem.Y)
    assert c.gap == (c.objective - c.bound) / max(c.objective, c.bound)
    assert c.violation <= 1e-12  # these weights are feasible up to rounding
    assert c.meets(max(abs(c.gap), 1e-12)) and not c.meets(abs(c.gap) * (1 - 1e-9))


def test_a_negative_gap_is_as_bad_as_a_positive_one(random_problem):
    # In a wide ball a little less of everything costs 2 % less and misses the radius by a good deal less than 1 %.
    problem, _ = random_problem("parallel", 3, epsilon=0.9)
    solution = solve(problem, "cvxpy", tol=1e-6)
    certificate = certify(problem, 0.98 * solution.W, solution.dual)
    assert certificate.gap < -0.015 and 0 < certificate.violation < 0.01
    assert not certificate.meets(0.01) and certificate.meets(0.03)


@pytest.mark.parametrize("field", ["gap", "ball_violation", "ceiling_violation"])
def test_what_is_not_a_number_is_not_met(random_problem, field):
    problem, W = random_problem("parallel", 0)
    certificate = certify(problem, W, -problem.Y)
    assert certificate.meets(1.0)
    assert not dataclasses.replace(certificate, **{field: np.nan}).meets(1.0)


@pytest.mark.parametrize("name", KINDS)
def test_block_size_does_not_matter(random_problem, monkeypatch, name):
    problem, W = random_problem(name, 5, N=6, M=3, P=2 * BLOCK + 17)
    W = W + 0.1
    L = -problem.Y + np.random.default_rng(5).standard_normal(problem.Y.shape)
    whole = certify(problem, W, L)
    for size in (1, 7, BLOCK + 1, 4 * BLOCK):
        monkeypatch.setattr(blocks, "__defaults__", (size,))
        parts = certify(problem, W, L)
        for field in whole.__dataclass_fields__:
            assert getattr(parts, field) == pytest.approx(getattr(whole, field), rel=1e-11)  # 529 terms, another order


def test_blocks_cover_every_sample_once():
    for length in (1, 6, 7, 8, 20):
        assert [i for part in blocks(length, 7) for i in range(length)[part]] == list(range(length))


def test_prices_of_inf_must_be_paid_with_zeros(random_problem):
    problem, W = random_problem("fixed support", 0)
    assert np.isfinite(certify(problem, W).objective)
    off = np.argwhere(problem.penalty == np.inf)[0]
    broken = W.copy()
    broken[tuple(off)] = 1e-300
    certificate = certify(problem, broken, -problem.Y)
    assert certificate.objective == certificate.gap == np.inf and not certificate.meets(1e300)


@pytest.mark.parametrize("name", KINDS)
def test_without_a_dual_the_bound_is_zero(random_problem, name):
    problem, W = random_problem(name, 0)
    certificate = certify(problem, W)
    assert (certificate.bound, certificate.ball_multiplier, certificate.ceiling_multiplier) == (0, 0, 0)
    assert certificate.gap == 1 and not certificate.meets(0.99)
    assert certify(problem, W, np.zeros((problem.M, problem.P))) == certificate


PLACES = {"one entry": (0, 0), "a neuron": (1, slice(None)), "all": (slice(None), slice(None))}  # of an (M, P) matrix


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308])
@pytest.mark.parametrize("place", PLACES)
def test_weights_that_are_no_numbers_meet_nothing(random_problem, place, value):
    for kind in KINDS:
        problem, W = random_problem(kind, 0)
        W.T[PLACES[place]] = value
        certificate = certify(problem, W, -problem.Y)
        assert not certificate.meets(1e100)  # a finite 1e308 violates by more than that


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308])
@pytest.mark.parametrize("place", PLACES)
def test_duals_that_are_no_numbers_prove_nothing_false(random_problem, consistent, place, value):
    for kind in KINDS:
        problem, _ = random_problem(kind, 0)
        solution = solve(problem, "cvxpy", tol=1e-6)
        L = solution.dual.copy()
        L[PLACES[place]] = value
        certificate = certify(problem, solution.W, L)
        assert np.isfinite(certificate.bound) and consistent(certificate, solution.certificate)
        if place == "all" and not np.isfinite(value):
            assert certificate.bound == 0 and not certificate.meets(0.99)


@pytest.mark.parametrize("shape", [(5, 8), (8,), (8, 6), (8, 5, 1), ()])
def test_weights_of_another_shape_are_refused(random_problem, shape):
    problem, _ = random_problem("parallel", 0)
    with pytest.raises(ProblemError, match=r"W must be \(N, M\) = \(8, 5\); got"):
        certify(problem, np.zeros(shape))


@pytest.mark.parametrize("shape", [(23, 5), (5,), (5, 22), (5, 23, 1), ()])
def test_duals_of_another_shape_are_refused(random_problem, shape):
    problem, W = random_problem("parallel", 0)
    with pytest.raises(ProblemError, match=r"dual must be \(M, P\) = \(5, 23\); got"):
        certify(problem, W, np.zeros(shape))


def test_arguments_are_left_alone(random_problem):
    problem, W = random_problem("free bias", 0)
    L = np.random.default_rng(0).standard_normal(problem.Y.shape)
    before = W.tobytes(), L.tobytes(), problem.X.tobytes(), problem.Y.tobytes()
    certify(problem, W, L)
    assert before == (W.tobytes(), L.tobytes(), problem.X.tobytes(), problem.Y.tobytes())


@given(seed=SEEDS, kind=st.sampled_from(KINDS), kept=st.floats(0, 1))
def test_response_error_is_bounded_by_what_is_certified(random_problem, seed, kind, kept):
    # Proposition 1 for any weights: |ReLU(z) - y| <= |z - y| on Omega, ReLU(z) <= V+ + (z - V)+ off it, and Y is 0 there.
    problem, W = random_problem(kind, seed)
    c = certify(problem, W * (np.random.default_rng(seed).random(W.shape) < kept))
    ceiling = np.linalg.norm(np.maximum(problem.V, 0)[~problem.active]) + c.ceiling_violation
    assert c.response_error <= np.hypot(c.ball, ceiling) * (1 + 1e-12)  # rounding


@given(seed=SEEDS, kind=st.sampled_from(["parallel", "linear", "reweighted"]), fraction=st.floats(0, 1))
def test_response_error_of_feasible_weights(random_problem, seed, kind, fraction):
    # Shrinking all weights by up to 20 % keeps the signs and moves the responses by up to epsilon: feasible (Proposition 1).
    problem, W = random_problem(kind, seed, epsilon=0.2)
    c = certify(problem, (1 - 0.2 * fraction) * W)
    assert c.violation <= 1e-12 and c.response_error <= problem.epsilon * (1 + 1e-12)  # rounding


def test_anybody_can_be_judged(random_problem):
    problem, W = random_problem("parallel", 1, epsilon=0.02)
    solution = solve(problem, "reference")
    pruned = W.copy()
    pruned.flat[np.argsort(np.abs(W), axis=None)[: W.size // 4]] = 0  # magnitude pruning
    for weights in (pruned, pruned.astype(np.float32), pruned.tolist()):
        certificate = certify(problem, weights, solution.dual)
        assert certificate.violation > 1 and not certificate.meets(1)
        assert certificate.bound == solution.certificate.bound


@given(seed=SEEDS, kind=st.sampled_from(["parallel", "linear", "reweighted"]), other=st.floats(0.01, 0.9))
def test_the_ball_multiplier_is_the_slope_of_the_optimum(random_problem, seed, kind, other):
    # bound - multiplier * (epsilon' - epsilon) stays below the optimum for every other radius (a supporting line).
    here, there = (random_problem(kind, seed, 5, 3, 9, epsilon)[0] for epsilon in (0.2, other))
    line, point = (solve(problem, "cvxpy", tol=1e-6, throw=False).certificate for problem in (here, there))
    tangent = line.bound - line.ball_multiplier * (there.epsilon - here.epsilon)
    paid = point.ball_violation * line.ball_multiplier + point.ceiling_violation * line.ceiling_multiplier
    assert tangent <= point.objective + paid + 1e-9 * line.bound  # rounding
