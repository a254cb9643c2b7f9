"""Proposition 2: verdicts against a brute force over directions, proofs rechecked from their definition, closed forms."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from solvers import LayerProblem, ProblemError, certify, refit, solve
from solvers.arrays import LazyMatrix
from theory import Verdict, uniqueness

UNIQUE, OPTIMAL, UNDECIDED = Verdict.UNIQUE, Verdict.OPTIMAL, Verdict.UNDECIDED
seeds = st.integers(0, 2**32 - 1)


def column(*entries):
    return np.array(entries, dtype=float)[:, None]


def sparse_layer(seed, N, s, P, M=3):
    """Return Gaussian inputs (N, P) and weights (N, M) with s of a column other than 0."""
    rng = np.random.default_rng(seed)
    W = np.zeros((N, M))
    for j in range(M):
        W[rng.choice(N, s, replace=False), j] = rng.standard_normal(s)
    return rng.standard_normal((N, P)), W


def brute_force(problem, W, j):
    """Tell whether neuron j is optimal, and whether alone so: linear programs over directions d, no dual in sight.

    The cost changes along d by ``slope(d) = sum_support c sign(w) d + sum_others c |d|``, which must not be negative where d
    keeps the constraints that bind. No other optimum exists if no such d other than 0 has slope 0; one that has it is found
    almost surely by its product with a random vector. Both programs are homogeneous: an answer is 0 or far from it.
    """
    c = np.broadcast_to(problem.penalty, W.shape)[:, j]
    w, on, N = W[:, j], problem.active[j], problem.N
    binds = ~on & (np.abs(w @ problem.X - problem.V[j]) < 1e-9)
    priced = np.where(c < np.inf, c, 0.0)
    # d = p - q with p, q >= 0; on the support the cost is linear, elsewhere it is that of p + q.
    slope = np.concatenate([np.where(w != 0, np.sign(w), 1.0), np.where(w != 0, -np.sign(w), 1.0)]) * np.tile(priced, 2)
    split = np.hstack([problem.X.T, -problem.X.T])
    bounds = [(0, 1 if price < np.inf else 0) for price in np.tile(c, 2)]
    rays = {"A_eq": split[on], "b_eq": np.zeros(on.sum()), "bounds": bounds}
    lowest = linprog(slope, A_ub=split[binds], b_ub=np.zeros(binds.sum()), **rays).fun
    if lowest < -1e-6:
        return False, False
    r = np.random.default_rng(N).standard_normal(N)
    flat, zeros = np.vstack([split[binds], slope]), np.zeros(binds.sum() + 1)
    far = [-linprog(np.concatenate([-sign * r, sign * r]), A_ub=flat, b_ub=zeros, **rays).fun for sign in (1, -1)]
    return True, max(far) < 1e-5


def check_proof(problem, W, found):
    """Recheck every dual row by the definition of Proposition 2, a sample and a weight at a time where that matters."""
    c = np.broadcast_to(problem.penalty, W.shape)
    for j, verdict in enumerate(found.verdicts):
        xi = -found.dual[j]
        if verdict is UNDECIDED:
            assert not xi.any()
            continue
        counted = []
        for p in range(problem.P):
            z, v = float(W[:, j] @ problem.X[:, p]), float(problem.V[j, p])
            if problem.active[j, p]:
                counted.append(p)
            elif z < v - 1e-9 * (1 + abs(v)):
                assert xi[p] == 0  # a slack ceiling
            else:
                assert xi[p] <= 0
                if xi[p] < 0:
                    counted.append(p)
        Lambda = problem.X.astype(float) @ xi
        # OPTIMAL promises 1e-10 of a price, of the largest where it is 0; where all are 0, xi has no size but its own.
        largest = np.max(c[:, j], initial=0.0, where=c[:, j] < np.inf) or np.abs(xi).max()
        for i in range(problem.N):
            if W[i, j] != 0 or c[i, j] == 0:
                assert abs(Lambda[i] - c[i, j] * np.sign(W[i, j])) <= 1.1e-10 * (c[i, j] or largest)
            elif verdict is UNIQUE:
                assert abs(Lambda[i]) < c[i, j]
            else:
                assert abs(Lambda[i]) <= c[i, j] * (1 + 1.1e-10)
        held = (W[:, j] != 0) | (c[:, j] == 0)
        if verdict is UNIQUE and held.any():
            assert counted and np.linalg.matrix_rank(problem.X[np.ix_(held, counted)]) == held.sum()


def decide(problem, W):
    """Return the verdicts, their proofs checked."""
    found = uniqueness(problem, W)
    check_proof(problem, W, found)
    return found.verdicts


@pytest.mark.parametrize("seed", range(4))
def test_weights_recovered_from_gaussian_inputs_are_the_only_optimum(seed):
    X, W = sparse_layer(seed, N=24, s=3, P=150)
    for problem in (LayerProblem.parallel(X, W, 0.0), LayerProblem.linear(X, W, 0.0)):
        assert decide(problem, W) == (UNIQUE,) * 3
        assert all(brute_force(problem, W, j) == (True, True) for j in range(3))
        # The same vector closes the gap of the package's own judge.
        assert abs(certify(problem, W, uniqueness(problem, W).dual).gap) < 1e-12


def test_between_few_and_many_samples_the_verdict_is_that_of_the_brute_force():
    seen = set()
    for P in (8, 16, 24, 32, 48, 64):
        X, W = sparse_layer(P, N=20, s=4, P=P, M=6)
        problem = LayerProblem.parallel(X, W, 0.0)
        for j, verdict in enumerate(decide(problem, W)):
            seen.add(verdict)
            assert (verdict is UNIQUE) == brute_force(problem, W, j)[1]
    assert seen == {UNIQUE, UNDECIDED}


@settings(max_examples=300)
@given(seeds)
def test_small_integers_agree_with_the_brute_force(seed):
    # Small integers make ties, equal inputs, dependent supports and ceilings that bind with and without a multiplier.
    rng = np.random.default_rng(seed)
    N, P = rng.integers(1, 6), rng.integers(1, 9)
    X, w = rng.integers(-2, 3, (N, P)).astype(float), rng.integers(-1, 2, (N, 1)).astype(float)
    price = rng.choice([1, 1, 1, 2, 0, np.inf], (N, 1))
    price[(price == np.inf) & (w != 0)] = 1
    Z = w.T @ X
    if rng.random() < 0.2:
        problem = LayerProblem(X, Z, 0.0, penalty=price, activation="linear")
    else:
        V = np.where(Z > 0, 0.0, rng.choice([Z, np.zeros_like(Z), Z + 1]))
        problem = LayerProblem(X, np.maximum(Z, 0), 0.0, V=V, active=Z > 0, penalty=price)
    optimal, alone = brute_force(problem, w, 0)
    # Data of a few digits leave no borderline cases, so nothing may be missed either.
    assert decide(problem, w) == (UNIQUE if alone else OPTIMAL if optimal else UNDECIDED,)


def test_a_ceiling_may_make_the_optimum():
    # With y = 1 at (1, 2), the weights (0, 1/2) cost less than (1, 0): only the ceiling w'(-1, 1) <= -1 keeps them out.
    # Lambda = (xi_1 - xi_2, 2 xi_1 + xi_2) with Lambda_1 = 1 gives Lambda_2 = 2 + 3 xi_2: xi_2 is between -1 and -1/3.
    X, w = np.array([[1.0, -1.0], [2.0, 1.0]]), column(1, 0)
    problem = LayerProblem(X, [[1.0, 0.0]], 0.0, V=-np.ones((1, 2)))
    assert decide(problem, w) == (UNIQUE,)
    assert 1 / 3 < uniqueness(problem, w).dual[0, 1] < 1
    for neighbor in (-2.0, 0.0):  # the rounding of w'x does not decide whether a ceiling binds
        assert decide(problem.replace(V=np.nextafter(problem.V, neighbor)), w) == (UNIQUE,)
    assert decide(problem.replace(V=np.zeros((1, 2))), w) == (UNDECIDED,)  # slack now


def test_ceilings_count_for_independence_only_with_a_multiplier():
    # w1 + w2 = 2 leaves a segment of optima from (2, 0) to (0, 2); w1 <= w2 leaves half of it, and w2 <= w1 a point.
    X, w = np.array([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0]]), column(1, 1)
    both = LayerProblem(X, [[2.0, 0.0, 0.0]], 0.0)
    assert decide(both, w) == (UNIQUE,)
    assert (uniqueness(both, w).dual[0, 1:] > 0).all()
    assert decide(LayerProblem(X[:, :2], [[2.0, 0.0]], 0.0), w) == (OPTIMAL,)


def test_a_dual_point_is_judged_whatever_made_it():
    # One weight at a ceiling, price 1, and no sample on: Lambda = xi must be 1, and the sign of a ceiling forbids it.
    neuron = importlib.import_module("theory.uniqueness")._Neuron
    one, on, binds = np.ones(1), np.array([False]), np.array([True])
    assert neuron(np.ones((1, 1)), 2e-16, one, one, on, binds).judge(np.array([-1.0]))[0] is UNDECIDED
    assert neuron(np.ones((1, 1)), 2e-16, one, -one, on, binds).judge(np.array([-0.9]))[0] is UNIQUE


def test_prices_decide():
    # w1 + w2 = 1: the cheaper one is used, and at equal prices any mixture.
    X, w = np.ones((2, 1)), column(1, 0)
    for price, verdict in ((2, UNIQUE), (1, OPTIMAL), (0.5, UNDECIDED), (0, UNDECIDED), (np.inf, UNIQUE)):
        problem = LayerProblem(X, [[1.0]], 0.0, penalty=column(1, price))
        assert decide(problem, w) == (verdict,)
    both = LayerProblem(X, [[1.0], [1.0]], 0.0, penalty=np.array([[1, 1], [2, 0.5]]))  # neuron by neuron
    assert decide(both, np.hstack([w, w])) == (UNIQUE, UNDECIDED)


def test_a_neuron_that_is_never_on():
    X = np.random.default_rng(0).standard_normal((3, 5))
    X[-1] = 1
    Y, w = np.zeros((1, 5)), np.zeros((3, 1))
    assert decide(LayerProblem(X, Y, 0.0), w) == (UNIQUE,)
    # A free bias may be anything below 0.
    assert decide(LayerProblem(X, Y, 0.0, penalty=column(1, 1, 0)), w) == (OPTIMAL,)


@given(seeds, st.sampled_from([0.0, 1e-16, -1e-16, 3e-16]))
def test_equal_inputs_are_never_unique(seed, rounding):
    X, W = sparse_layer(seed, N=10, s=2, P=200, M=1)
    here = int(np.flatnonzero(W)[0])
    twin = np.vstack([X, X[here] * (1 + rounding)])
    once, shared = np.vstack([W, [[0.0]]]), np.vstack([W, W[here]])
    shared[[here, -1]] /= 2
    for w in (once, shared):
        problem = LayerProblem.parallel(twin, w, 0.0)
        # What the last digit of an input decides is within the rounding that OPTIMAL allows for.
        assert decide(problem, w) == (OPTIMAL,)
        single = problem.replace(X=twin.astype(np.float32))
        assert UNIQUE not in decide(single.replace(Y=single.Y.astype(np.float32)), w.astype(np.float32))


def test_single_precision_is_taken_for_what_it_is():
    X, W = (array.astype(np.float32) for array in sparse_layer(0, N=20, s=3, P=150))
    problem = LayerProblem.parallel(X, W, 0.0)
    assert problem.Y.dtype == np.float32 and decide(problem, W) == (UNIQUE,) * 3
    # Two inputs that differ by single precision's rounding: independent as float64, not told from equal ones as float32.
    rng = np.random.default_rng(1)
    X = np.repeat(rng.standard_normal((1, 60)), 2, axis=0).astype(np.float32)
    X[1] = np.nextafter(X[1], np.where(rng.random(60) < 0.5, 9, -9).astype(np.float32))
    w = column(1, 1)
    coarse, fine = (LayerProblem.linear(X.astype(dtype), w.astype(dtype), 0.0) for dtype in (np.float32, np.float64))
    assert decide(coarse, w) == (OPTIMAL,)
    assert decide(fine, w) == (UNIQUE,)


def test_a_margin_within_reach_of_an_exact_dual_point_is_none():
    # Two inputs that differ by 1e-11: what rounding leaves of Lambda on them, 1e-15, is divided by that much to find how far
    # an exact xi may be. A third input, 1e-7 under its price, is not proved strict by this xi; one of half the size is.
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(30), column(1, 1, 0)
    for size, verdict in ((1 - 1e-7, OPTIMAL), (0.5, UNIQUE)):
        X = np.vstack([x, x + 1e-11 * rng.standard_normal(30), size * x])
        assert decide(LayerProblem.linear(X, w, 0.0), w) == (verdict,)


@given(seeds)
def test_weights_that_cost_more_are_not_optimal(seed):
    # Less than N samples: a null vector of X' changes no response, and along it the cost rises one way at least.
    X, W = sparse_layer(seed, N=12, s=2, P=9, M=1)
    null = np.linalg.svd(X.T)[2][-1:].T
    costs = [np.abs(W + t * null).sum() for t in (1, -1)]
    dense = W + (1 if costs[0] > costs[1] else -1) * null
    problem = LayerProblem(X, np.maximum(W.T @ X, 0), 0.0)
    assert np.abs(dense).sum() > np.abs(W).sum()
    found = uniqueness(problem, dense)
    assert found.verdicts == (UNDECIDED,) and not found.dual.any()


def test_too_few_samples_are_never_unique():
    for P in (1, 2, 3):
        X, W = sparse_layer(P, N=10, s=4, P=P, M=8)
        assert UNIQUE not in decide(LayerProblem.linear(X, W, 0.0), W)
    # Nor is it enough that the samples are many, if the neuron is on at few and its ceilings are slack.
    X, W = sparse_layer(9, N=10, s=4, P=50)
    problem = LayerProblem.parallel(X, W, 0.0)
    few = problem.active & (problem.active.cumsum(axis=1) <= 3)
    assert UNIQUE not in decide(problem.replace(active=few, V=np.full(few.shape, 99.0)), W)


@given(seeds, st.sampled_from([1e-30, 1e-3, 3.7, 1e30]), st.sampled_from([1e-20, 0.3, 1e20]))
def test_symmetries(seed, size, price):
    rng = np.random.default_rng(seed)
    X, W = sparse_layer(seed, N=8, s=2, P=int(rng.integers(4, 24)), M=4)
    problem = LayerProblem.parallel(X, W, 0.0)
    verdicts = decide(problem, W)
    inputs, samples, neurons = (rng.permutation(n) for n in (8, problem.P, 4))
    moved = problem.replace(
        X=X[inputs][:, samples], Y=problem.Y[neurons][:, samples], active=problem.active[neurons][:, samples]
    )
    assert decide(moved, W[inputs][:, neurons]) == tuple(verdicts[j] for j in neurons)
    flip = rng.choice([-1.0, 1.0], (8, 1))
    assert decide(problem.replace(X=flip * X), flip * W) == verdicts
    assert decide(problem.replace(X=size * X, Y=size * problem.Y), W) == verdicts
    assert decide(problem.replace(Y=size * problem.Y), size * W) == verdicts
    assert decide(problem.replace(penalty=price), W) == verdicts


def test_a_solver_and_a_refit_lead_here():
    X, W = sparse_layer(0, N=20, s=3, P=100)
    problem = LayerProblem.parallel(X, W, 0.0)
    found = solve(problem, tol=1e-6).W
    with pytest.raises(ProblemError, match=r"not feasible in \d+ pairs.*misses its response.*refit"):
        uniqueness(problem, found)
    assert decide(problem, refit(problem, found, tol=1e-12)) == (UNIQUE,) * 3


class Rows(LazyMatrix):
    def __init__(self, X):
        self.X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, key):
        return self.X[key]

    def max(self):
        return float(self.X.max())

    def min(self):
        return float(self.X.min())


def test_bad_input_is_refused():
    X, W = sparse_layer(0, N=6, s=2, P=30)
    problem = LayerProblem.parallel(X, W, 0.0)
    with pytest.raises(ProblemError, match="takes a LayerProblem; got ndarray"):
        uniqueness(X, W)
    with pytest.raises(ProblemError, match=r"epsilon = 0, and it is 0\.5"):
        uniqueness(problem.replace(epsilon=0.5), W)
    with pytest.raises(ProblemError, match="not a LazyMatrix"):
        uniqueness(problem.replace(X=Rows(X)), W)
    with pytest.raises(ProblemError, match=r"W must be \(N, M\) = \(6, 3\); got \(3, 6\)"):
        uniqueness(problem, W.T)
    with pytest.raises(ProblemError, match="W has 1 entries that are NaN or Inf"):
        uniqueness(problem, np.where(np.arange(18).reshape(6, 3) == 4, np.nan, W))
    for factor in (1 + 1e-9, 1 - 1e-9):
        with pytest.raises(ProblemError, match="misses its response by"):
            uniqueness(problem, W * factor)
    with pytest.raises(ProblemError, match="breaks its ceiling by"):
        uniqueness(problem.replace(V=np.where(problem.active, 0, W.T @ X - 1e-9)), W)
    with pytest.raises(ProblemError, match="not feasible"):
        uniqueness(problem.replace(X=1e10 * X), 1e300 * W)  # the responses overflow
    with pytest.raises(ProblemError, match="where the penalty is inf"):
        uniqueness(problem.restricted(W == 0), W)
