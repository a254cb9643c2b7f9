"""Theorem 1 and its a-posteriori form: exact on one layer, true on trimmed networks, and able to fail."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import LayerProblem, ProblemError, solve
from theory import parallel_bound, posterior_bound


def network(seed, sizes=(6, 9, 8, 5)):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=pair) for pair in itertools.pairwise(sizes)]


def responses(weights, X):
    """Activations of a ReLU network: the inputs, then each layer's responses."""
    found = [X]
    for W in weights:
        found.append(np.maximum(W.T @ found[-1], 0))
    return found


@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0, 1e3), min_size=3, max_size=3), st.floats(0, 10))
def test_laws(seed, errors, factor):
    weights = network(seed)
    for bound in (parallel_bound, posterior_bound):
        value = bound(weights, errors)
        assert value >= errors[-1]
        assert bound(weights, [factor * e for e in errors]) == pytest.approx(factor * value)  # homogeneous
        assert bound(weights, [e + 1 for e in errors]) > value  # monotone
        assert bound(weights[:1], errors[:1]) == errors[0]  # exact on one layer
    assert posterior_bound(weights, errors) <= parallel_bound(weights, errors) * (1 + 1e-12)  # spectral <= l1 norm


def test_link_normalized_networks_add_their_radii():
    weights = [W / np.abs(W).sum() for W in network(0)]
    assert parallel_bound(weights, [0.5, 0.25, 2.0]) == pytest.approx(2.75)


@pytest.mark.parametrize("seed", range(3))
def test_both_bounds_hold_on_trimmed_networks_and_a_wrong_one_does_not(seed):
    weights = network(seed)
    X = np.random.default_rng(100 + seed).normal(size=(6, 120))
    before = responses(weights, X)
    problems = [LayerProblem.parallel(x, W, 0.1) for x, W in zip(before, weights, strict=False)]
    solutions = [solve(problem, tol=1e-3) for problem in problems]
    trimmed = [solution.W for solution in solutions]
    measured = float(np.linalg.norm(responses(trimmed, X)[-1] - before[-1]))
    errors = [solution.certificate.response_error for solution in solutions]
    assert measured <= posterior_bound(trimmed, errors)
    # Each radius may be violated by the tolerance, at the ball and at the ceiling.
    assert measured <= parallel_bound(weights, [problem.epsilon * (1 + 2e-3) for problem in problems])
    # Trim the first layer alone and let the later ones amplify its error: a bound that dropped their norms would be caught.
    loud = [10 * W for W in weights[1:]]
    after, before = (responses([first, *loud], X)[-1] for first in (trimmed[0], weights[0]))
    measured = float(np.linalg.norm(after - before))
    assert errors[0] < measured <= posterior_bound([trimmed[0], *loud], [errors[0], 0.0, 0.0])


def test_bad_input_is_refused():
    weights = network(0)
    with pytest.raises(ProblemError, match="one error a layer"):
        parallel_bound(weights, [0.1])
    with pytest.raises(ProblemError, match="0 or more; got -1"):
        posterior_bound(weights, [0.1, -1, 0.1])
    with pytest.raises(ProblemError, match="0 or more; got nan"):
        posterior_bound(weights, [0.1, float("nan"), 0.1])
