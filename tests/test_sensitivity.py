"""The optimum against the radius: slopes from the dual, tangents from below, and what a ball a neuron costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import LayerProblem, ProblemError, certify, solve
from theory import bound_at, shares, slope, split

TOL = 1e-6


def layer(seed, epsilon=0.2, linear=False, N=12, M=4, P=90, **how):
    rng = np.random.default_rng(seed)
    state = LayerProblem.linear if linear else LayerProblem.parallel
    return state(rng.normal(size=(N, P)), rng.normal(size=(N, M)), epsilon, **how)


def solved(problem):
    solution = solve(problem, tol=TOL)
    assert solution.certificate.meets(TOL)
    return solution.certificate


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("epsilon", [0.05, 0.2, 0.6])
@pytest.mark.parametrize("linear", [False, True])
def test_the_slope_is_what_finite_differences_say(seed, epsilon, linear):
    problem = layer(seed, epsilon, linear)
    h = 0.02 * problem.epsilon
    before, here, after = (solved(problem.replace(epsilon=problem.epsilon + step)) for step in (-h, 0.0, h))
    backward, forward = (here.objective - before.objective) / h, (after.objective - here.objective) / h
    # A convex function: its slope is between the two. Each objective may be off by TOL of itself, the slope by some more.
    slack = 4 * TOL * before.objective / h
    assert backward - slack <= slope(here) <= forward + slack
    assert forward - backward < 0.1 * abs(slope(here))  # a bracket that says something


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.booleans(), st.floats(0.1, 10))
def test_the_optimum_falls_with_the_radius_and_is_convex(seed, one, two, linear, factor):
    problem = layer(seed, one, linear, N=5, M=2, P=30)
    there = problem.replace(epsilon=two / one * problem.epsilon)
    here, other = solved(problem), solved(there)
    slack = 4 * TOL * max(here.objective, other.objective)
    # Each tangent is under the other optimum, and slopes rise: of two radii the wider has the flatter one.
    assert bound_at(problem, here, there.epsilon) <= other.objective + slack
    assert bound_at(there, other, problem.epsilon) <= here.objective + slack
    wide, narrow = (other, here) if two >= one else (here, other)
    assert wide.objective <= narrow.objective + slack
    assert slope(narrow) <= 0 and slope(wide) <= 0
    # Both sides in other units: the optimum is homogeneous, its slope is a number without a unit.
    scaled = problem.replace(Y=factor * problem.Y, epsilon=factor * problem.epsilon)
    assert bound_at(scaled, solved(scaled), factor * there.epsilon) == pytest.approx(
        factor * bound_at(problem, here, there.epsilon), abs=factor * slack * max(1.0, two / one)
    )


@pytest.mark.parametrize("seed", range(3))
def test_no_optimum_is_under_a_tangent(seed):
    problem = layer(seed)
    here = solved(problem)
    for factor in (0.0, 0.5, 0.9, 1.0, 1.1, 2.0, 100.0):
        epsilon = factor * problem.epsilon
        there = solved(problem.replace(epsilon=epsilon))
        assert 0 <= bound_at(problem, here, epsilon) <= there.objective * (1 + 2 * TOL)
    assert bound_at(problem, here, 1.1 * problem.epsilon) > 0.9 * here.objective  # and it is near, nearby
    assert bound_at(problem, here, problem.epsilon) == here.bound
    assert bound_at(problem, here, 1e9) == 0


def test_units():
    problem, factor = layer(0), 7.0
    scaled = problem.replace(Y=factor * problem.Y, epsilon=factor * problem.epsilon)
    assert slope(solved(scaled)) == pytest.approx(slope(solved(problem)), rel=1e-4)
    assert slope(solved(problem.replace(penalty=factor))) == pytest.approx(factor * slope(solved(problem)), rel=1e-4)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["relative", "equal"]), st.floats(0, 0.9))
def test_shares_of_a_radius(seed, rule, epsilon):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(3, 20))
    W = rng.normal(size=(3, 5))
    problem = LayerProblem.parallel(np.abs(X), np.where(np.arange(5) == 2, -np.abs(W), W), epsilon)
    radii = shares(problem, rule)
    assert np.linalg.norm(radii) == pytest.approx(problem.epsilon)
    assert radii[2] == 0  # a neuron that is never active
    order = rng.permutation(5)
    moved = problem.replace(Y=problem.Y[order], active=problem.active[order])
    np.testing.assert_allclose(shares(moved, rule), radii[order])
    on = problem.active.any(axis=1)
    if rule == "equal":
        np.testing.assert_allclose(radii[on], problem.epsilon / np.sqrt(on.sum()))
    else:
        np.testing.assert_allclose(radii, epsilon * np.linalg.norm(problem.Y, axis=1))
    split(problem, radii)  # which are never too many together


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("penalty", [1.0, np.ones((12, 1)), np.linspace(0.5, 2, 48).reshape(12, 4)])
def test_a_ball_for_all_is_no_dearer_than_a_ball_each(seed, penalty):
    problem = layer(seed, penalty=penalty)
    joint = solve(problem, tol=TOL)
    optimum = joint.certificate.objective
    for rule in ("relative", "equal"):
        parts = split(problem, shares(problem, rule))
        answers = [solve(part, tol=TOL) for part in parts]
        assert all(answer.certificate.meets(TOL) for answer in answers)
        apart = sum(answer.certificate.objective for answer in answers)
        assert apart > optimum * 1.0005  # Gaussian neurons differ, so there is something to lose
        W = np.hstack([answer.W for answer in answers])
        assert np.linalg.norm((W.T @ problem.X - problem.Y)[problem.active]) <= problem.epsilon * (1 + TOL)
    reached = np.linalg.norm(np.where(problem.active, joint.W.T @ problem.X - problem.Y, 0), axis=1)
    best = split(problem, reached * min(1.0, problem.epsilon / np.linalg.norm(reached)))
    apart = sum(solved(part).objective for part in best)
    assert apart == pytest.approx(optimum, rel=10 * TOL)


def test_a_neuron_keeps_its_own_ceilings():
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(6, 40)), rng.normal(size=(6, 3))
    problem = LayerProblem.cascade(X + 0.1 * rng.normal(size=X.shape), X, W, 1.2)
    for j, part in enumerate(split(problem, shares(problem))):
        assert part.M == 1
        for field in ("Y", "V", "active"):
            np.testing.assert_array_equal(getattr(part, field)[0], getattr(problem, field)[j])


PROBLEM = layer(0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bound_at(PROBLEM, solve(PROBLEM).certificate, -1.0), "0 or more; got -1"),
        (lambda: bound_at(PROBLEM, solve(PROBLEM).certificate, float("inf")), "finite"),
        (lambda: slope(certify(PROBLEM, np.ones((12, 4)))), "no dual point"),
        (lambda: shares(PROBLEM, "same"), "'relative' or 'equal'; got 'same'"),
        (lambda: split(PROBLEM, [0.1]), "radii must be 4 finite numbers"),
        (lambda: split(PROBLEM, [0.1, 0.1, -0.1, 0.1]), "0 or more"),
        (lambda: split(PROBLEM, [0.1, 0.1, float("nan"), 0.1]), "finite numbers"),
        (lambda: split(PROBLEM, [PROBLEM.epsilon] * 4), "leave the joint ball"),
    ],
)
def test_bad_radii_are_refused(call, words):
    with pytest.raises(ProblemError, match=words):
        call()
