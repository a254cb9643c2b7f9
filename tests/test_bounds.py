"""The bounds of the papers: exact on one layer, true on trimmed networks, and able to fail."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import LayerProblem, ProblemError, solve
from theory import Check, cascade_bound, layer_bound, link_normalise, parallel_bound, posterior_bound

SEEDS = st.integers(0, 2**32 - 1)


def network(seed, sizes=(6, 9, 8, 5)):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=pair) for pair in itertools.pairwise(sizes)]


def responses(weights, X, last_linear=False):
    """Activations of a ReLU network: the inputs, then each layer's responses."""
    found = [X]
    for place, W in enumerate(weights, 1):
        Z = W.T @ found[-1]
        found.append(Z if last_linear and place == len(weights) else np.maximum(Z, 0))
    return found


def cascaded(weights, X, epsilon, gamma, kappa=1.0, last_linear=False):
    """Trim in a cascade as published; return the trimmed weights and the radius of the first layer."""
    before, X_hat, trimmed = responses(weights, X, last_linear), X, []
    for place, W in enumerate(weights):
        if place == 0:
            problem = LayerProblem.parallel(X, W, epsilon)
            first = problem.epsilon
        elif last_linear and place == len(weights) - 1:
            problem = LayerProblem.cascade_linear(X_hat, before[place], W, gamma, kappa=kappa)
        else:
            problem = LayerProblem.cascade(X_hat, before[place], W, gamma, loose=True)
        trimmed.append(solve(problem, tol=1e-3).W)
        X_hat = np.maximum(trimmed[-1].T @ X_hat, 0)
    return trimmed, first


@given(SEEDS, st.lists(st.floats(0, 1e3), min_size=3, max_size=3), st.floats(0, 10))
def test_laws_of_the_sums(seed, errors, factor):
    weights = network(seed)
    for bound in (parallel_bound, posterior_bound):
        value = bound(weights, errors)
        assert value >= errors[-1]
        assert bound(weights, [factor * e for e in errors]) == pytest.approx(factor * value)  # homogeneous
        assert bound(weights, [e + 1 for e in errors]) > value  # monotone
        assert bound(weights[:1], errors[:1]) == errors[0]  # exact on one layer
    spectral, frobenius = (posterior_bound(weights, errors, norm=norm) for norm in ("spectral", "frobenius"))
    rounding = 1 + 1e-12
    assert spectral <= frobenius * rounding <= parallel_bound(weights, errors) * rounding**2


@given(SEEDS, st.floats(0, 1e3), st.lists(st.floats(1, 4), min_size=2, max_size=2), st.floats(0.1, 1), st.floats(0.1, 10))
def test_laws_of_the_product(seed, epsilon, gammas, kappa, factor):
    weights = network(seed)
    value = cascade_bound(weights, epsilon, gammas, kappa=kappa)
    assert cascade_bound(weights, factor * epsilon, gammas, kappa=kappa) == pytest.approx(factor * value)
    assert value == pytest.approx(kappa * cascade_bound(weights, epsilon, gammas))
    assert cascade_bound(weights, epsilon, [gamma + 1 for gamma in gammas], kappa=kappa) >= value
    assert value <= cascade_bound(weights, epsilon, gammas, kappa=kappa, norm="frobenius") * (1 + 1e-12)
    assert cascade_bound(weights[:1], epsilon, []) == epsilon  # exact on one layer
    # The first layer's size is in its radius already; a later one's counts once.
    assert cascade_bound([factor * weights[0], *weights[1:]], epsilon, gammas, kappa=kappa) == pytest.approx(value)
    scaled = cascade_bound([weights[0], factor * weights[1], weights[2]], epsilon, gammas, kappa=kappa)
    assert scaled == pytest.approx(factor * value)


@given(SEEDS, st.randoms(use_true_random=False))
def test_neurons_have_no_order(seed, random):
    weights, errors, gammas = network(seed), [0.3, 0.2, 0.1], [1.1, 1.2]
    moved = [W.copy() for W in weights]
    for place in range(2):
        order = list(range(weights[place].shape[1]))
        random.shuffle(order)
        moved[place], moved[place + 1] = moved[place][:, order], moved[place + 1][order]
    for bound, what in ((parallel_bound, (errors,)), (posterior_bound, (errors,)), (cascade_bound, (0.3, gammas))):
        assert bound(moved, *what) == pytest.approx(bound(weights, *what))


@given(SEEDS)
def test_a_link_normalized_network_is_the_network_scaled(seed):
    weights = network(seed)
    scaled = link_normalise(weights)
    X = np.random.default_rng(seed).normal(size=(6, 20))
    size = np.prod([np.abs(W).sum() for W in weights])
    np.testing.assert_allclose(responses(scaled, X)[-1] * size, responses(weights, X)[-1], rtol=1e-9, atol=1e-9)
    assert parallel_bound(scaled, [0.5, 0.25, 2.0], link_normalised=True) == pytest.approx(2.75, rel=1e-14)
    assert parallel_bound(scaled, [0.5, 0.25, 2.0]) == pytest.approx(2.75)
    assert cascade_bound(scaled, 0.5, [1.21, 1.44], link_normalised=True) == pytest.approx(0.5 * 1.1 * 1.2)


@pytest.mark.parametrize("seed", range(3))
def test_theorem_1_holds_on_trimmed_networks_and_a_wrong_one_does_not(seed):
    weights = network(seed)
    X = np.random.default_rng(100 + seed).normal(size=(6, 120))
    before = responses(weights, X)
    problems = [LayerProblem.parallel(x, W, 0.1) for x, W in zip(before, weights, strict=False)]
    solutions = [solve(problem, tol=1e-3) for problem in problems]
    trimmed = [solution.W for solution in solutions]
    measured = float(np.linalg.norm(responses(trimmed, X)[-1] - before[-1]))
    errors = [solution.certificate.response_error for solution in solutions]
    for problem, error in zip(problems, errors, strict=True):
        assert Check("layer", "Proposition 1", error, layer_bound(problem), slack=2e-3).holds
    assert measured <= posterior_bound(trimmed, errors)
    # Each radius may be violated by the tolerance, at the ball and at the ceiling.
    radii = [problem.epsilon for problem in problems]
    assert Check("output", "Theorem 1", measured, parallel_bound(weights, radii), slack=2e-3).holds
    # Trim the first layer alone and let the later ones amplify its error: a bound that dropped their norms would be caught.
    loud = [10 * W for W in weights[1:]]
    after, before = (responses([first, *loud], X)[-1] for first in (trimmed[0], weights[0]))
    measured = float(np.linalg.norm(after - before))
    assert measured <= posterior_bound([trimmed[0], *loud], [errors[0], 0.0, 0.0])
    assert not Check("output", "Theorem 1 without its norms", measured, sum([errors[0], 0.0, 0.0])).holds


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("last_linear", "kappa"), [(False, 1.0), (True, 1.0), (True, 0.99)])
def test_theorem_2_holds_on_trimmed_networks_and_a_wrong_one_does_not(seed, last_linear, kappa):
    gamma, slack = 1.2, (1 + 2e-3) ** 3 - 1  # each of the three programs may miss by the tolerance
    X = np.random.default_rng(100 + seed).normal(size=(6, 120))
    weights = [3 * W for W in network(seed)]  # which amplify
    trimmed, first = cascaded(weights, X, 0.1, gamma, kappa, last_linear)
    measured = float(np.linalg.norm(responses(trimmed, X, last_linear)[-1] - responses(weights, X, last_linear)[-1]))
    for norm in ("spectral", "frobenius"):
        promised = cascade_bound(weights, first, [gamma, gamma], kappa=kappa, norm=norm)
        assert Check("output", "Theorem 2", measured, promised, slack).holds
    assert not Check("output", "Theorem 2 without its norms", measured, kappa * gamma * first, slack).holds
    # One direction, amplified and never rectified: here the spectral norm is attained, and a smaller one would be caught.
    W, x = 3 * np.eye(1), np.ones((1, 1))
    assert np.linalg.norm(W.T @ (x + 0.5) - W.T @ x) == pytest.approx(cascade_bound([np.eye(1), W], 0.5, [1.0]))


def test_a_check_is_a_row_that_can_fail():
    row = Check("output", "Theorem 1", 3.0, 4.0, 0.1)
    assert row.to_json() == {
        "name": "output",
        "source": "Theorem 1",
        "measured": 3.0,
        "promised": 4.0,
        "slack": 0.1,
        "holds": True,
        "tightness": 0.75,
    }
    assert not Check("output", "", 4.5, 4.0, 0.1).holds
    assert Check("output", "", 4.3, 4.0, 0.1).holds
    assert not Check("output", "", float("nan"), 4.0, 0.1).holds
    assert Check("", "", 0.0, 0.0).holds
    assert Check("", "", 0.0, 0.0).tightness == 1
    assert Check("", "", 1e-9, 0.0).tightness == float("inf")
    assert np.isnan(Check("", "", 1.0, float("inf")).tightness)


WEIGHTS, NORMAL = network(0), link_normalise(network(0))
RAISED = LayerProblem.parallel(np.eye(3), np.ones((3, 2)), 0.1).replace(active=np.zeros((2, 3), bool), V=0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: parallel_bound(WEIGHTS, [0.1]), "one error a layer"),
        (lambda: parallel_bound([], []), "at least one layer"),
        (lambda: posterior_bound(WEIGHTS, [0.1, -1, 0.1]), "0 or more; got -1"),
        (lambda: posterior_bound(WEIGHTS, [0.1, float("nan"), 0.1]), "0 or more; got nan"),
        (lambda: posterior_bound(WEIGHTS, [0.1] * 3, norm="l1"), "'spectral' or 'frobenius'; got 'l1'"),
        (lambda: posterior_bound([*WEIGHTS[:2], np.full((8, 5), np.inf)], [0.1] * 3), "weights of layer 3 has 40 entries"),
        (lambda: posterior_bound(WEIGHTS, [0.1, float("inf"), 0.1]), "finite numbers, 0 or more; got inf"),
        (lambda: posterior_bound([np.eye(2), 1e200 * np.eye(2)], [0, 1], norm="frobenius"), "overflows"),
        (lambda: posterior_bound([W.T for W in WEIGHTS], [0.1] * 3), "layer 2 must take the outputs .* Transposed?"),
        (lambda: posterior_bound([np.ones((6, 9)), np.ones((11, 2))], [0.1] * 2), "11 inputs for 9 outputs"),
        (lambda: parallel_bound([np.ones(3)], [0.1]), r"layer 1 is not: shape \(3,\)"),
        (
            lambda: parallel_bound(WEIGHTS, [0.1] * 3, link_normalised=True),
            "Theorem 1 is for link-normalized .* layer 1 has",
        ),
        (lambda: parallel_bound([1.0001 * NORMAL[0]], [0.1], link_normalised=True), "layer 1 has 1.0001"),
        (lambda: cascade_bound(WEIGHTS, 0.1, [1.1] * 2, link_normalised=True), "Theorem 2 is for link-normalized networks"),
        (lambda: cascade_bound(WEIGHTS, 0.1, [1.1]), "a gamma for each layer after the first: 2; got 1"),
        (lambda: cascade_bound(WEIGHTS, 0.1, [1.1, 0.99]), "needs inflation rates gamma_l >= 1; got 0.99"),
        (lambda: cascade_bound(WEIGHTS, 0.1, [1.1, float("nan")]), "gamma_l >= 1; got nan"),
        (lambda: cascade_bound(WEIGHTS, 0.1, [1.1] * 2, kappa=0), "kappa over 0 and at most 1; got 0"),
        (lambda: cascade_bound(WEIGHTS, 0.1, [1.1] * 2, kappa=1.5), "kappa over 0 and at most 1; got 1.5"),
        (lambda: cascade_bound(WEIGHTS[:1], 0.1, [], kappa=0.5), "there is one layer only"),
        (lambda: cascade_bound(WEIGHTS, -0.1, [1.1] * 2), "0 or more; got -0.1"),
        (lambda: link_normalise([np.zeros((2, 2))]), "layer 1 is all zero"),
        (lambda: layer_bound(RAISED), "Proposition 1 needs ceilings of 0 or less"),
        (lambda: layer_bound(RAISED.replace(V=0.0)), "Proposition 1 needs responses of 0 where the neuron is off"),
        (lambda: Check("output", "", 1.0, float("nan")), "promised must be 0 or more; got nan"),
        (lambda: Check("output", "", 1.0, 1.0, -1.0), "slack must be 0 or more; got -1"),
    ],
)
def test_a_hypothesis_that_fails_is_named(call, words):
    with pytest.raises(ProblemError, match=words):
        call()
