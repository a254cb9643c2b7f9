"""Random layers, problems of every kind and the one law that compares answers, shared by all test files; small data too.

Every seed is passed by hand to ``np.random.default_rng``; hypothesis is derandomized, so a run repeats itself. The fixtures
are functions of session scope because hypothesis refuses fixtures that are made anew for each example.
"""

import numpy as np
import pytest
import torch
from hypothesis import settings

from nettrim.data import Data
from solvers import Certificate, LayerProblem

settings.register_profile("nettrim", deadline=None, derandomize=True, max_examples=25, database=None)
settings.load_profile("nettrim")

KINDS = ("parallel", "linear", "cascade", "free bias", "reweighted", "fixed support")


def _layer(seed, N, M, P, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, P)).astype(dtype), rng.standard_normal((N, M)).astype(dtype)


def _problem(kind, seed, N=8, M=5, P=23, epsilon=0.2):
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((N, P)), rng.standard_normal((N, M))
    if kind == "parallel":
        return LayerProblem.parallel(X, W, epsilon), W
    if kind == "linear":
        return LayerProblem.linear(X, W, epsilon), W
    if kind == "cascade":
        return LayerProblem.cascade(X + 0.3 * rng.standard_normal((N, P)), X, W, 1.1), W
    if kind == "free bias":
        problem = LayerProblem.from_activations(X[:-1].T, W[:-1].T, W[-1], epsilon, penalize_bias=False)
        return problem, W
    if kind == "reweighted":
        return LayerProblem.parallel(X, W, epsilon, penalty=np.exp(rng.standard_normal((N, M)))), W
    if kind == "fixed support":
        mask = rng.random((N, M)) < 0.6
        W = np.where(mask, W, 0.0)  # responses that this support can give, so that the program is feasible
        return LayerProblem.parallel(X, W, epsilon).restricted(mask), W
    raise ValueError(f"no kind of problem is called {kind!r}")


def _consistent(a: Certificate, b: Certificate) -> bool:
    def holds(weights: Certificate, dual: Certificate) -> bool:
        paid = weights.objective
        paid += weights.ball_violation * dual.ball_multiplier + weights.ceiling_violation * dual.ceiling_multiplier
        return paid >= dual.bound * (1 - 1e-9)  # sums of some thousand float64 terms are good to 1e-12

    return holds(a, a) and holds(a, b) and holds(b, a) and holds(b, b)


@pytest.fixture
def seeded():
    """Let a test draw from torch's global generator and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def random_layer():
    """Return ``make(seed, N, M, P, dtype) -> X (N, P), W (N, M)``, standard normal."""
    return _layer


@pytest.fixture(scope="session", params=KINDS)
def kind(request):
    """Return the name of each kind of program in turn."""
    return request.param


@pytest.fixture(scope="session")
def random_problem():
    """Return ``make(kind, seed, N, M, P, epsilon) -> problem, feasible weights``."""
    return _problem


@pytest.fixture(scope="session")
def consistent():
    """Return the exact law of weak duality between two certificates of one program, as a yes or no.

    For the weights of one and the dual point of the other, objective + violations * multipliers >= bound. There is no
    tolerance of a solver in it: it holds for the worst iterate as for the best.
    """
    return _consistent


@pytest.fixture(scope="module")
def blobs():
    """Return four noisy classes in twelve dimensions, 80 samples to train and 40 to test."""
    generator = torch.Generator().manual_seed(5)
    y = torch.arange(120) % 4
    x = torch.randn(4, 12, generator=generator)[y] + torch.randn(120, 12, generator=generator)
    return Data("blobs", x[:80], y[:80], x[80:], y[80:])
