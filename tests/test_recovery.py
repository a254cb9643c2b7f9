"""Theorem 3 as numbers, and the least number of samples against a primal program that knows no certificate."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from solvers import LayerProblem, ProblemError, certify, solve
from theory import (
    bernoulli,
    correlated,
    draw_trial,
    gaussian,
    least_samples,
    noisy_problem,
    recovers,
    recovery_check,
    recovery_probability,
    recovery_samples,
    recovery_trial,
    relu_filtered,
    uniform,
)

ENSEMBLES = {
    "gaussian": gaussian,
    "bernoulli": bernoulli,
    "uniform": uniform,
    "correlated": correlated(10.0),
    "relu_filtered": relu_filtered,
}
seeds = st.integers(0, 2**32 - 1)


def trial(seed, N=12, s=2, P=120, draw=gaussian):
    rng = np.random.default_rng(seed)
    w = np.zeros(N)
    w[rng.choice(N, s, replace=False)] = rng.standard_normal(s)
    return draw(rng, N, P), w


# --- the promise


@pytest.mark.parametrize(("s", "P"), [(1, 240), (5, 827), (10, 1560), (50, 7425)])
def test_the_samples_of_an_mnist_layer(s, P):
    assert recovery_samples(784, s, 2.0) == P


@given(st.integers(2, 10**6), st.integers(1, 10**6), st.floats(1.001, 50))
def test_laws_of_the_promise(N, s, mu):
    s = min(s, N)
    P, probability = recovery_samples(N, s, mu), recovery_probability(N, mu)
    formula = (11 * s + 7) * mu * np.log(N)
    assert -1e-12 * formula <= P - formula < 1 + 1e-12 * formula
    assert 0 < probability <= 1
    assert 1 - probability == pytest.approx(float(N) ** (1 - mu), abs=1e-15)
    assert recovery_samples(N + 1, s, mu) >= P and recovery_samples(N, s, mu + 1) > P
    assert recovery_probability(N + 1, mu) >= probability <= recovery_probability(N, mu + 1)
    if s < N:
        assert recovery_samples(N, s + 1, mu) > P
    assert recovery_probability(N, mu, neurons=1) == probability
    several = recovery_probability(N, mu, neurons=7)
    assert several == pytest.approx(max(0.0, 1 - 7 * (1 - probability)), abs=1e-14)


@pytest.mark.parametrize(
    ("N", "s", "mu", "message"),
    [
        (1, 1, 2.0, "N >= 2 inputs, so that log N is positive; got N=1"),
        (0, 1, 2.0, "N >= 2"),
        (10, 0, 2.0, "1 <= s <= N; got s=0, N=10"),
        (10, 11, 2.0, "1 <= s <= N; got s=11"),
        (10, 1, 1.0, r"mu > 1, for its probability is 1 - N\^\(1 - mu\); got mu=1.0"),
        (10, 1, 0.5, "mu > 1"),
        (10, 1, math.nan, "mu > 1"),
        (10, 1, math.inf, "mu > 1"),
    ],
)
def test_hypotheses_that_do_not_hold_are_refused(N, s, mu, message):
    with pytest.raises(ProblemError, match=f"Theorem 3 .*{message}"):
        recovery_samples(N, s, mu)
    if "<= s <=" not in message:
        with pytest.raises(ProblemError, match=f"Theorem 3 .*{message}"):
            recovery_probability(N, mu)


def test_neurons_are_counted():
    with pytest.raises(ProblemError, match="at least one neuron; got 0"):
        recovery_probability(10, 2.0, neurons=0)


def test_failures_are_held_against_the_promise():
    for recovered in (100, 99, 97):  # promised: 1 failure of 100
        assert recovery_check(100, 2.0, recovered, 100).holds
    assert not recovery_check(100, 2.0, 94, 100).holds
    assert recovery_check(100, 2.0, 100, 100).measured == 0
    assert recovery_check(100, 2.0, 0, 100).promised == pytest.approx(0.01)
    assert recovery_check(100, 1.1, 50, 100).holds and not recovery_check(100, 1.1, 20, 100).holds
    assert not recovery_check(100, 2.0, 97, 100, confidence=0.5).holds  # a narrower interval speaks earlier


@pytest.mark.parametrize("mu", [1.1, 2.0])
def test_gaussian_inputs_keep_the_promise(mu):
    N, s, trials = 12, 2, 30
    P = recovery_samples(N, s, mu)
    recovered = sum(recovers(*trial(seed, N, s, P)) for seed in range(trials))
    assert recovery_check(N, mu, recovered, trials).holds


# --- the least number of samples


def solution(X, w):
    """Solve the program at radius 0 as a linear program in u = p - q, all ceilings in it; HiGHS, no dual in sight."""
    Z = w @ X
    on, split = Z > 0, np.hstack([X.T, -X.T])
    found = linprog(
        np.ones(2 * len(w)),
        A_ub=split[~on],
        b_ub=np.zeros((~on).sum()),
        A_eq=split[on],
        b_eq=Z[on],
        bounds=(0, None),
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    ).x
    return found[: len(w)] - found[len(w) :]


@pytest.mark.parametrize("name", ["gaussian", "uniform", "correlated", "relu_filtered"])
@pytest.mark.parametrize("seed", range(4))
def test_the_least_number_is_that_from_which_on_the_primal_program_finds_w(name, seed):
    X, w = trial(seed, s=1 + seed, P=80, draw=ENSEMBLES[name])
    w = np.abs(w) if name == "relu_filtered" else w  # else it may never be on
    least = least_samples(X, w)
    assert 1 < least < 80
    for P in range(1, 81):
        # Where another answer is as good or better, it is another one by far: vertices differ.
        assert (np.abs(solution(X[:, :P], w) - w).max() < 1e-6) == (least <= P)


@pytest.mark.parametrize("name", list(ENSEMBLES))
@pytest.mark.parametrize("seed", range(3))
def test_once_recovered_is_recovered_and_the_guess_changes_nothing(name, seed):
    X, w = trial(seed, s=2 + seed, P=60, draw=ENSEMBLES[name])
    least = least_samples(X, w)
    assert [recovers(X[:, :P], w) for P in range(1, 61)] == [least <= P for P in range(1, 61)]
    for guess in (1, 7, 30, 59, 60, 10_000):
        assert least_samples(X, w, guess=guess) == least
    for P in (20, 45):
        assert least_samples(X[:, :P], w) == (least if least <= P else math.inf)


@given(seeds, st.integers(1, 4))
def test_symmetries(seed, s):
    X, w = trial(seed, s=s)
    least, rng = least_samples(X, w), np.random.default_rng(seed)
    order, flip = rng.permutation(12), rng.choice([-1.0, 1.0], 12)
    assert least_samples(X[order], w[order]) == least
    assert least_samples(flip[:, None] * X, flip * w) == least
    assert least_samples(8.0 * X, 0.25 * w) == least
    assert s <= least < 120
    # Another input gives the program more to choose from.
    assert least_samples(np.vstack([X, rng.standard_normal(120)]), np.append(w, 0.0)) >= least


@given(seeds)
def test_only_samples_where_the_neuron_is_on_count(seed):
    X, w = trial(seed)
    on = np.flatnonzero(w @ X > 0)
    assert on[int(least_samples(X[:, on], w)) - 1] + 1 == least_samples(X, w)


def test_what_a_twin_could_have_done_is_not_recovered():
    for seed in range(5):
        X, w = trial(seed)
        twin = np.vstack([X, X[np.flatnonzero(w)[0]]])
        assert least_samples(X, w) < math.inf
        assert least_samples(twin, np.append(w, 0.0)) == math.inf


def test_a_neuron_that_is_never_on_is_not_recovered():
    X, w = trial(0)
    assert least_samples(np.abs(X), -np.abs(w)) == math.inf
    # On at one sample only, the last: one weight, if its input is the largest there.
    one = -np.ones((3, 9))
    one[:, -1] = (2.0, 1.0, 0.0)
    assert least_samples(one, [1.0, 0.0, 0.0]) == 9
    assert least_samples(one[:, :8], [1.0, 0.0, 0.0]) == math.inf
    assert least_samples(one, [0.0, 1.0, 0.0]) == math.inf


def test_bad_input_is_refused():
    X, w = trial(0)
    with pytest.raises(ProblemError, match=r"got \(12, 120\) and \(11,\)"):
        least_samples(X, w[:-1])
    with pytest.raises(ProblemError, match=r"got \(12, 120\) and \(12, 1\)"):
        least_samples(X, w[:, None])
    with pytest.raises(ProblemError, match="w is all 0"):
        least_samples(X, 0 * w)
    with pytest.raises(ProblemError, match="guess must be a number of samples, at least 1; got 0"):
        least_samples(X, w, guess=0)
    with pytest.raises(ProblemError, match=r"w must be \(N,\).*got shape \(12, 1\)"):
        recovers(X, w[:, None])
    with pytest.raises(ProblemError, match="NaN or Inf"):
        recovers(X, np.where(w == 0, np.nan, w))
    for s in (0, 13):
        with pytest.raises(ProblemError, match=f"1 <= s <= N; got s={s}, N=12"):
            draw_trial(gaussian, 12, s, 5, (0,))
    with pytest.raises(ProblemError, match="no responses to put noise on"):
        noisy_problem(np.abs(X), -np.abs(w), 0.1, np.random.default_rng(0))


@pytest.mark.parametrize("name", list(ENSEMBLES))
def test_a_trial_depends_on_its_key_alone(name):
    draw = ENSEMBLES[name]
    X, w = draw_trial(draw, 12, 3, 90, (4, 2))
    assert X.shape == (12, 90) and np.count_nonzero(w) == 3
    assert draw_trial(draw, 12, 12, 1, (4, 2))[1].all()
    for P in (5, 60):
        fewer, same = draw_trial(draw, 12, 3, P, (4, 2))
        assert np.array_equal(same, w) and np.allclose(fewer, X[:, :P], rtol=0, atol=1e-13)
    others = [draw_trial(draw, 12, 3, 90, key) for key in ((4, 3), (5, 2))]
    assert not any(np.array_equal(X, other) or np.array_equal(w, weights) for other, weights in others)
    least = least_samples(X, w)
    for most in (8, 20, 90):
        assert recovery_trial(draw, 12, 3, most, (4, 2)) == (least if least <= most else math.inf)


# --- noise


@given(seeds, st.sampled_from([1e-6, 0.01, 0.3, 1.0]))
def test_noise_has_the_size_of_the_radius_and_leaves_w_feasible(seed, epsilon):
    X, w = trial(seed)
    clean, noisy = LayerProblem.parallel(X, w[:, None], 0.0), noisy_problem(X, w, epsilon, np.random.default_rng(seed))
    assert noisy.epsilon == pytest.approx(epsilon * clean.norm, rel=1e-12)
    assert np.linalg.norm(noisy.Y - clean.Y) == pytest.approx(noisy.epsilon, rel=1e-9)  # the difference cancels digits
    assert np.array_equal(noisy.active, clean.active) and not noisy.Y[~noisy.active].any()
    found = certify(noisy, w[:, None])
    assert found.ball_violation < 1e-9 * noisy.epsilon and found.ceiling_violation == 0
    again = noisy_problem(X, w, epsilon, np.random.default_rng(seed))
    assert np.array_equal(again.Y, noisy.Y)
    other = noisy_problem(X, w, epsilon, np.random.default_rng(seed + 1))
    assert not np.array_equal(other.Y, noisy.Y)


@pytest.mark.parametrize("seed", range(3))
def test_the_error_shrinks_with_the_noise(seed):
    X, w = trial(seed, P=150)
    errors = []
    for epsilon in (1e-3, 1e-2, 1e-1):
        problem = noisy_problem(X, w, epsilon, np.random.default_rng(seed))
        W = solve(problem, tol=1e-6).W
        assert np.abs(W).sum() <= np.abs(w).sum() * (1 + 1e-5)
        errors.append(np.linalg.norm(W[:, 0] - w))
    assert all(4 < large / small < 25 for small, large in itertools.pairwise(errors))  # in proportion, but for sign changes
    assert noisy_problem(X, w, 0.0, np.random.default_rng(0)).epsilon == 0
