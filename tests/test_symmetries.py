"""Every backend under changes that leave the program the same: the answer, changed back, satisfies the first certificate."""

import itertools

import numpy as np
import pytest

from solvers import LayerProblem, Status, certify, solve
from tests.backends import every_backend, met


def permuted_inputs(rng, X, W):
    order = rng.permutation(len(X))
    return X[order], W[order], lambda U, L: (U[np.argsort(order)], L)


def permuted_neurons(rng, X, W):
    order = rng.permutation(W.shape[1])
    return X, W[:, order], lambda U, L: (U[:, np.argsort(order)], L[np.argsort(order)])


def permuted_samples(rng, X, W):
    order = rng.permutation(X.shape[1])
    return X[:, order], W, lambda U, L: (U, L[:, np.argsort(order)])


def flipped_inputs(rng, X, W):
    signs = rng.choice([-1.0, 1.0], (len(X), 1))
    return signs * X, signs * W, lambda U, L: (signs * U, L)


def scaled_responses(rng, X, W):
    return X, 8 * W, lambda U, L: (U / 8, L)


def scaled_inputs(rng, X, W):
    return 255 * X, W, lambda U, L: (U, 255 * L)  # pixels from 0 to 255 instead of 0 to 1: Y grows, U does not


SYMMETRIES = [permuted_inputs, permuted_neurons, permuted_samples, flipped_inputs, scaled_responses, scaled_inputs]


@every_backend
@pytest.mark.parametrize("change", SYMMETRIES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("make", [LayerProblem.parallel, LayerProblem.linear])
def test_symmetry(random_layer, consistent, backend, change, make):
    X, W = random_layer(5, 8, 5, 21)
    first = make(X, W, 0.2)
    changed_X, changed_W, back = change(np.random.default_rng(5), X, W)
    plain, changed = solve(first, backend), solve(make(changed_X, changed_W, 0.2), backend)
    returned = certify(first, *back(changed.W.astype(np.float64), changed.dual.astype(np.float64)))
    assert met(returned, 1e-3) and consistent(returned, plain.certificate)
    unit = {"scaled_responses": 8}.get(change.__name__, 1)
    # The same point of the same program, so the same objective; 1e-6 is the rounding of weights kept in float32.
    assert changed.certificate.objective / unit == pytest.approx(returned.objective, rel=1e-6)
    # Both are within tol of the one optimum, from above by the gap and from below by what violations buy.
    slack = 1e-3 * max(plain.certificate.objective, returned.objective) + 1e-3 * first.epsilon * (
        plain.certificate.ball_multiplier + plain.certificate.ceiling_multiplier
    )
    assert abs(plain.certificate.objective - returned.objective) <= 2 * slack


@every_backend
@pytest.mark.parametrize("size", [1e-4, 1e-2, 1e2, 1e4])
def test_units_do_not_matter(random_layer, backend, size):
    X, W = random_layer(6, 8, 5, 21)
    options = {"rho": 1 / size} if backend == "reference" else {}  # a fixed rho has the unit 1 / W
    solution = solve(LayerProblem.parallel(size * X, size * W, 0.2), backend, **options)
    assert solution.status is Status.SOLVED


@every_backend
def test_optimum_does_not_grow_with_epsilon(random_layer, backend):
    X, W = random_layer(7, 8, 5, 21)
    found = [solve(LayerProblem.parallel(X, W, epsilon), backend) for epsilon in (0.02, 0.1, 0.3, 0.6, 0.9)]
    for tight, loose in itertools.pairwise(s.certificate for s in found):
        # Weights of the smaller ball are in the larger one, so weak duality applies to them there.
        paid = tight.ball_violation * loose.ball_multiplier + tight.ceiling_violation * loose.ceiling_multiplier
        assert loose.bound * (1 - 1e-9) <= tight.objective + paid  # rounding of sums
        assert loose.objective < tight.objective  # these radii are far apart, and 1e-3 is what is not known


@every_backend
def test_one_more_sample_at_radius_zero_cannot_lower_the_optimum(random_layer, backend):
    X, W = random_layer(8, 8, 3, 6)
    few, more = (LayerProblem.linear(X[:, :P], W, 0.0) for P in (5, 6))
    fewer, longer = solve(few, backend), solve(more, backend)
    seen = certify(few, longer.W)  # weights that fit all samples, judged on the first ones
    paid = seen.ball_violation * fewer.certificate.ball_multiplier
    paid += seen.ceiling_violation * fewer.certificate.ceiling_multiplier
    assert seen.objective + paid >= fewer.certificate.bound * (1 - 1e-9)  # rounding of sums
    assert seen.objective > 1.01 * fewer.certificate.objective  # here it raises it by more than the tolerances hide
