"""The random inputs: nested in P, with the moments that they are drawn for, and a condition number that is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import ProblemError
from theory import bernoulli, correlated, gaussian, mixing, relu_filtered, uniform

ALL = {
    "gaussian": gaussian,
    "bernoulli": bernoulli,
    "uniform": uniform,
    "correlated": correlated(7.0),
    "relu_filtered": relu_filtered,
}
KURTOSIS = {"gaussian": 3.0, "bernoulli": 1.0, "uniform": 1.8}  # E x^4 where E x^2 = 1
SIGMAS = 6  # a correct draw is farther off once in 5e8
seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from(list(ALL)), st.integers(1, 20), st.integers(1, 20))
def test_more_samples_add_columns(seed, name, few, more):
    N = 9
    short, long = (ALL[name](np.random.default_rng(seed), N, P) for P in (few, few + more))
    assert short.shape == (N, few) and long.shape == (N, few + more)
    # A product of matrices may round otherwise in another shape: 9 terms of size 1.
    assert np.allclose(short, long[:, :few], rtol=0, atol=0 if name in KURTOSIS else 1e-13)
    assert not np.array_equal(short, ALL[name](np.random.default_rng(seed + 1), N, few)) or name == "bernoulli"


@pytest.mark.parametrize("name", list(KURTOSIS))
def test_independent_entries_have_mean_0_and_variance_1(name):
    X = ALL[name](np.random.default_rng(3), 20, 5000)
    n = X.size
    assert abs(X.mean()) < SIGMAS / np.sqrt(n)
    assert abs((X**2).mean() - 1) <= SIGMAS * np.sqrt((KURTOSIS[name] - 1) / n)
    assert abs((X**4).mean() - KURTOSIS[name]) <= SIGMAS * np.sqrt(96 / n)  # Var x^4 is 96 for the Gaussian, the largest
    between = X @ X.T / X.shape[1] - np.eye(20)
    assert np.abs(between[~np.eye(20, dtype=bool)]).max() < SIGMAS / np.sqrt(X.shape[1])


def test_the_values_are_those_of_the_distributions():
    rng = np.random.default_rng(0)
    assert set(np.unique(bernoulli(rng, 5, 50))) == {-1.0, 1.0}
    X = uniform(rng, 5, 5000)
    assert np.abs(X).max() < np.sqrt(3) and np.abs(X).max() > 1.73


@given(seeds, st.integers(2, 12), st.floats(1, 1e6))
def test_the_covariance_has_exactly_its_condition_number(seed, N, condition):
    A = mixing(np.random.default_rng(seed), N, condition)
    eigenvalues = np.linalg.eigvalsh(A @ A.T)
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(
        condition, rel=1e-9
    )  # eigenvalues are good to 1e-16 of the largest
    assert eigenvalues.sum() == pytest.approx(N, rel=1e-12)
    assert np.ptp(np.diff(np.log(eigenvalues))) < 1e-8
    rng = np.random.default_rng(seed)
    assert np.allclose(
        mixing(rng, N, condition) @ gaussian(rng, N, 4), correlated(condition)(np.random.default_rng(seed), N, 4)
    )


def test_the_basis_prefers_no_direction():
    # Entries of a uniform orthogonal matrix have mean 0; QR without its signs leaves the first row of one sign.
    rng = np.random.default_rng(1)
    first = [mixing(rng, 3, 100.0)[:, 2] / np.sqrt(3 * 100 / 111) for _ in range(2000)]
    assert np.abs(np.mean(first, axis=0)).max() < SIGMAS * np.sqrt(1 / 3 / 2000)


def test_a_relu_layer_gives_the_moments_of_its_weights():
    N, P = 6, 40_000
    X = relu_filtered(np.random.default_rng(5), N, P)
    G = np.sqrt(2 / N) * np.random.default_rng(5).standard_normal((N, N))
    norms = np.linalg.norm(G, axis=0)
    assert X.min() == 0
    assert np.abs((X > 0).mean(axis=1) - 0.5).max() < SIGMAS * 0.5 / np.sqrt(P)
    # A half of a Gaussian: E x = |g| / sqrt(2 pi), E x^2 = |g|^2 / 2, E x^4 = 3 |g|^4 / 2.
    assert np.abs(X.mean(axis=1) / norms - 1 / np.sqrt(2 * np.pi)).max() < SIGMAS * np.sqrt(0.5 / P)
    cosine = np.clip(G.T @ G / np.outer(norms, norms), -1, 1)
    angle = np.arccos(cosine)
    # Cho and Saul (2009): E x_i x_j = |g_i| |g_j| (sin a + (pi - a) cos a) / (2 pi).
    expected = (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
    assert np.abs(X @ X.T / P / np.outer(norms, norms) - expected).max() < SIGMAS * np.sqrt(1.5 / P)


@pytest.mark.parametrize("name", list(KURTOSIS))
def test_the_rows_that_a_relu_lets_through_have_half_the_covariance_and_are_not_centered(name):
    # The proof of Theorem 3 rests on E phi phi' = I/2, phi = x 1{w'x > 0}: x and -x are as likely, one passes.
    N, P = 5, 40_000
    rng = np.random.default_rng(11)
    X, w = ALL[name](rng, N, P), rng.standard_normal(N)
    rows = X * (w @ X > 0)
    assert np.abs(rows @ rows.T / P - np.eye(N) / 2).max() < SIGMAS * np.sqrt(1.5 / P)
    if name == "gaussian":
        assert np.abs(rows.mean(axis=1) - w / np.linalg.norm(w) / np.sqrt(2 * np.pi)).max() < SIGMAS * np.sqrt(0.5 / P)
    assert w @ rows.mean(axis=1) > 0.3 * np.linalg.norm(w)


def test_condition_numbers_that_are_none_are_refused():
    for condition in (0.99, -1.0, np.nan, np.inf):
        with pytest.raises(ProblemError, match="a finite number, 1 or more"):
            correlated(condition)
        with pytest.raises(ProblemError, match="a finite number, 1 or more"):
            mixing(np.random.default_rng(0), 3, condition)
    with pytest.raises(ProblemError, match="one input is a number"):
        correlated(2.0)(np.random.default_rng(0), 1, 5)
    assert correlated(1.0)(np.random.default_rng(0), 1, 5).shape == (1, 5)
