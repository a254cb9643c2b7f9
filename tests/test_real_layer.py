"""A slice of a real layer: LeNet-300-100 trained on real MNIST images, where all backends must agree and prove it."""

import itertools

import numpy as np
import pytest
import torch

from nettrim.data import mnist5k
from nettrim.evaluate import accuracy
from nettrim.models import lenet300
from nettrim.train import train
from solvers import LayerProblem, Status, available, certify, solve

TOL = 1e-5


@pytest.fixture(scope="module")
def layer():
    """Return inputs (500, 100), weight (10, 100) and bias (10,) of the first layer, cut to the pixels that vary most."""
    data = mnist5k()
    model = train(lenet300(), data.x_train[:1000], data.y_train[:1000], epochs=2, batch_size=50, learning_rate=2e-3)
    assert accuracy(model, data.x_test, data.y_test) > 0.6  # ten classes: the weights have learned, they are not noise
    pixels = data.x_train[:500].flatten(1)
    varied = pixels.var(dim=0).argsort(descending=True)[:100]
    first = model[1]
    return pixels[:, varied], first.weight[:10, varied], first.bias[:10]


@pytest.fixture(scope="module")
def problem(layer):
    return LayerProblem.from_activations(*layer, epsilon=0.1)


@pytest.fixture(scope="module")
def solutions(problem):
    # A fixed rho of 1 takes the published iteration some 10,000 steps to 1e-5 here; 30 is of the order of 1 / weights.
    options = {"reference": {"rho": 30.0}}
    return {backend: solve(problem, backend, tol=TOL, **options.get(backend, {})) for backend in available()}


def test_the_slice_is_a_real_one(problem):
    assert (problem.N, problem.M, problem.P) == (101, 10, 500)
    assert problem.X.dtype == problem.Y.dtype == np.float32 and np.all(problem.X[-1] == 1)
    assert 0.05 < problem.active.mean() < 0.95  # there are balls and ceilings


def test_every_backend_meets_its_certificate(problem, solutions):
    for solution in solutions.values():
        c = solution.certificate
        assert solution.status is Status.SOLVED and c.meets(TOL)
        assert certify(problem, solution.W, solution.dual) == c
        # Proposition 1, for a point that is feasible up to tol: both violations add at most tol * epsilon.
        assert c.response_error <= problem.epsilon * (1 + 2 * TOL)


def test_the_certificates_prove_that_the_backends_agree(solutions, consistent):
    for a, b in itertools.combinations([solution.certificate for solution in solutions.values()], 2):
        assert consistent(a, b)
        assert abs(a.objective - b.objective) <= 1e-4 * a.objective
        # And this is no accident: each objective is near the optimum by its own proof, the gap and what violations buy.
        for c in (a, b):
            paid = c.ball_violation * c.ball_multiplier + c.ceiling_violation * c.ceiling_multiplier
            assert c.objective + paid - c.bound <= 0.5e-4 * c.objective


def test_something_is_gained(layer, problem, solutions):
    trained = certify(problem, np.vstack([layer[1].detach().numpy().T, layer[2].detach().numpy()]))
    assert trained.ball_violation == 0 and trained.ceiling_violation <= 1e-5 * problem.norm  # rounding of float32 products
    for solution in solutions.values():
        assert solution.certificate.objective < 0.8 * trained.objective
        assert np.mean(solution.W != 0) < 0.6  # the trained weights are all different from 0


def test_a_warm_start_from_one_backend_serves_another(problem, solutions, consistent):
    warm = solve(problem, "admm", tol=TOL, start=solutions["cvxpy"])
    assert warm.iterations <= solutions["admm"].iterations
    assert consistent(warm.certificate, solutions["reference"].certificate)


@pytest.mark.parametrize("epsilon", [0.005, 0.01])
def test_responses_that_hardly_differ_are_told_apart(epsilon):
    # The last layer of an untrained network: its inputs are nearly collinear, so that the dual of a small ball is large, and
    # of what cancels in its product with the inputs float32 leaves too little.
    model, images = lenet300(), mnist5k().x_train[:500]
    with torch.no_grad():
        inputs = model[:5](images)
    problem = LayerProblem.from_activations(inputs, model[5].weight, model[5].bias, epsilon, activation="linear")
    assert problem.X.dtype == np.float32
    assert solve(problem, tol=1e-3, max_iter=100).certificate.meets(1e-3)
