"""Factors of matrices and kernels: optimal truncations, Tucker-2 and CP, each no worse than an independent one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim.baselines.low_rank._cp import cp
from nettrim.baselines.low_rank._truncated import spectrum, truncated
from nettrim.baselines.low_rank._tucker import tucker2, unfolded
from nettrim.errors import SettingError
from tests.toys import decaying, normal

# --- singular values


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_a_truncation_is_off_by_the_singular_values_that_it_cuts(seed, m, n):
    W = normal(m, n, seed=seed)
    s = np.linalg.svd(W, compute_uv=False)
    for rank in range(1, min(m, n) + 1):
        pair = truncated(W, rank)
        assert pair.left.shape == (m, rank) and pair.right.shape == (rank, n)
        expected = math.sqrt((s[rank:] ** 2).sum())
        # both to the rounding of some hundred float64 sums
        assert np.linalg.norm(W - pair.left @ pair.right) == pytest.approx(expected, abs=1e-12 * s[0])
        assert pair.error == pytest.approx(expected / np.linalg.norm(W), abs=1e-12)
        # halves of equal size: left'left = right right' = S_r
        assert np.allclose(pair.left.T @ pair.left, np.diag(s[:rank]), atol=1e-11 * s[0])
        assert np.allclose(pair.right @ pair.right.T, np.diag(s[:rank]), atol=1e-11 * s[0])


def test_the_data_aware_truncation_is_the_formula_where_there_is_an_inverse():
    W, X = normal(6, 9), normal(9, 50, seed=1) * np.linspace(0.2, 3, 9)[:, None]
    L = np.linalg.cholesky(X @ X.T)
    U, s, V = np.linalg.svd(W @ L, full_matrices=False)
    for rank in (1, 3, 6):
        pair = truncated(W, rank, X @ X.T)
        assert np.allclose(pair.left @ pair.right, (U[:, :rank] * s[:rank]) @ V[:rank] @ np.linalg.inv(L), atol=1e-10)
        assert pair.error == pytest.approx(math.sqrt((s[rank:] ** 2).sum() / (s**2).sum()), abs=1e-12)
    assert np.allclose(spectrum(W, X @ X.T), s) and np.allclose(spectrum(W), np.linalg.svd(W, compute_uv=False))


@pytest.mark.parametrize("dead", [0, 3])
def test_no_other_matrix_of_the_rank_has_nearer_responses(dead):
    rng = np.random.default_rng(2)
    W, X = rng.standard_normal((7, 10)), rng.standard_normal((10, 10)) @ rng.standard_normal((10, 40))
    X[:dead] = 0.0
    pair = truncated(W, 3, X @ X.T)
    best = np.linalg.norm((W - pair.left @ pair.right) @ X)
    assert pair.error == pytest.approx(best / np.linalg.norm(W @ X), rel=1e-9)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(50):
            left, right = (A + size * rng.standard_normal(A.shape) for A in (pair.left, pair.right))
            assert np.linalg.norm((W - left @ right) @ X) >= best
    plain = truncated(W, 3)
    assert np.linalg.norm((W - plain.left @ plain.right) @ X) > 1.01 * best  # X is far from white, so that the two differ


def test_inputs_that_are_always_zero_do_no_harm():
    """As MNIST's rim: G is singular, and a Cholesky factor of it does not exist."""
    W, X = normal(8, 12), normal(12, 30, seed=1)
    X[[0, 5, 11]] = 0.0
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(X @ X.T)
    for rank in range(1, 9):
        pair = truncated(W, rank, X @ X.T)
        assert np.isfinite(pair.left).all() and np.isfinite(pair.right).all()
        s = np.linalg.svd(W @ X, compute_uv=False)
        assert np.linalg.norm((W - pair.left @ pair.right) @ X) == pytest.approx(
            math.sqrt((s[rank:] ** 2).sum()), abs=1e-10 * s[0]
        )
    # at full rank dead inputs keep their weights, also where the matrix is tall and its responses have a lower rank
    for A in (W, normal(20, 12, seed=3)):
        pair = truncated(A, min(A.shape), X @ X.T)
        assert np.allclose(pair.left @ pair.right, A, atol=1e-10)
    # and where all inputs are dead, nothing is known but the weights
    blind, plain = truncated(W, 3, np.zeros((12, 12))), truncated(W, 3)
    assert np.allclose(blind.left @ blind.right, plain.left @ plain.right, atol=1e-10) and blind.error == 0.0


def test_truncations_that_are_none_are_refused():
    for rank in (0, 4, 1.5, "2"):
        with pytest.raises(SettingError, match="rank must be a whole number, at least 1 and at most 3; got"):
            truncated(normal(3, 5), rank)
    for wrong in (np.full((3, 3), np.nan), np.ones(3), np.ones((3, 0))):
        for of in (lambda W: truncated(W, 1), spectrum):
            with pytest.raises(SettingError, match=r"a truncation takes a finite matrix \(n_out, n_in\); got shape"):
                of(wrong)
    for gram in (np.eye(4), np.triu(np.ones((5, 5)))):
        with pytest.raises(SettingError, match=r"is symmetric \(5, 5\)"):
            truncated(normal(3, 5), 1, gram)


# --- Tucker-2


def test_tucker_has_orthonormal_factors_and_its_error_falls_from_hosvd_on():
    K = decaying((12, 9, 3, 4))
    found, first = tucker2(K, (4, 5), tol=0.0, sweeps=30), tucker2(K, (4, 5), sweeps=0)
    assert found.core.shape == (5, 4, 3, 4) and found.inputs.shape == (9, 4) and found.outputs.shape == (12, 5)
    assert np.allclose(found.inputs.T @ found.inputs, np.eye(4)) and np.allclose(found.outputs.T @ found.outputs, np.eye(5))
    assert len(first.errors) == 1 and first.errors[0] == found.errors[0]
    assert all(later <= earlier + 1e-14 for earlier, later in itertools.pairwise(found.errors))
    assert found.errors[-1] < found.errors[0] - 1e-6  # HOOI is of use here
    assert found.errors[-1] == pytest.approx(np.linalg.norm(K - found.kernel()) / np.linalg.norm(K), rel=1e-12)
    # ||K||^2 - ||C||^2 is the squared error for orthonormal factors
    squared = 1 - np.linalg.norm(found.core) ** 2 / np.linalg.norm(K) ** 2
    assert found.errors[-1] ** 2 == pytest.approx(squared, abs=1e-13)
    # no better than what one side alone must lose, no worse than both of them: HOSVD's bounds
    lost = [(np.linalg.svd(unfolded(K, mode), compute_uv=False)[r:] ** 2).sum() for mode, r in ((1, 4), (0, 5))]
    assert max(lost) <= (found.errors[-1] * np.linalg.norm(K)) ** 2 <= sum(lost)


def test_tucker_finds_a_kernel_of_low_rank_and_is_exact_at_full_rank():
    low = np.einsum("abij,ta,sb->tsij", normal(3, 2, 5, 5), normal(10, 3, seed=1), normal(7, 2, seed=2))
    assert tucker2(low, (2, 3)).errors[-1] < 1e-14
    K = normal(6, 4, 3, 3)
    found = tucker2(K, (4, 6))
    assert np.allclose(found.kernel(), K, atol=1e-13)
    core, inputs, outputs = found.absorbed()
    assert inputs is None and outputs is None and np.allclose(core, K, atol=1e-13)
    assert tucker2(np.zeros((3, 2, 2, 2)), (1, 1)).errors[-1] == 0.0
    wide = tucker2(normal(2, 9, 1, 1), (9, 2))  # more channels in than the kernel can tell apart
    assert wide.inputs.shape == (9, 9) and np.allclose(wide.kernel(), normal(2, 9, 1, 1), atol=1e-13)


def test_tucker_is_no_worse_than_tensorly():
    pytest.importorskip("tensorly")
    from tensorly import tucker_to_tensor
    from tensorly.decomposition import partial_tucker

    for seed, ranks in ((0, (4, 5)), (1, (2, 7)), (2, (8, 2))):
        K = decaying((12, 9, 3, 4), seed=seed, power=0.5)
        ours = tucker2(K, ranks, tol=1e-12, sweeps=500)
        (core, (outputs, inputs)), _ = partial_tucker(K, (ranks[1], ranks[0]), modes=[0, 1], n_iter_max=500, tol=1e-12)
        theirs = tucker_to_tensor((core, [outputs, inputs, np.eye(3), np.eye(4)]))
        error = np.linalg.norm(K - theirs) / np.linalg.norm(K)
        # both are HOOI from HOSVD, stopped when a sweep gains 1e-12: at a rate of 0.99 they are within 1e-10 of the limit
        assert ours.errors[-1] == pytest.approx(error, abs=1e-9)


def test_kernels_and_ranks_that_are_none_are_refused():
    for kernel in (normal(3, 4), np.full((2, 2, 1, 1), np.inf), np.ones((3, 0, 1, 1))):
        with pytest.raises(SettingError, match="a kernel is finite"):
            tucker2(kernel, (1, 1))
    K = normal(3, 4, 2, 2)
    for ranks, says in (
        ((0, 1), "R3.* at most 4; got 0"),
        ((5, 1), "R3.* at most 4; got 5"),
        ((1.5, 1), "R3"),
        ((1, 0), "R4"),
    ):
        with pytest.raises(SettingError, match=says):
            tucker2(K, ranks)
    with pytest.raises(SettingError, match=r"R4, the rank of the outputs, must be a whole number, .* at most 3; got 4"):
        tucker2(K, (1, 4))
    for ranks in (2, (1, 2, 3), "12"):
        with pytest.raises(SettingError, match="ranks must be two"):
            tucker2(K, ranks)
    for more in ({"sweeps": -1}, {"tol": -1.0}):
        with pytest.raises(SettingError, match=next(iter(more))):
            tucker2(K, (1, 1), **more)


def test_ranks_that_come_as_floats_are_as_good():
    K = normal(4, 3, 2, 2)
    assert tucker2(K, (2.0, 3.0)).errors == tucker2(K, (2, 3)).errors
    assert truncated(K[:, :, 0, 0], 2.0).error == truncated(K[:, :, 0, 0], 2).error
    assert cp(K, 2.0, sweeps=5.0).error == cp(K, 2, sweeps=5).error


# --- CP


def planted(shape, rank, seed=0):
    return np.einsum("tr,sr,ir,jr->tsij", *(normal(n, rank, seed=seed + k) for k, n in enumerate(shape)))


def test_cp_finds_planted_components():
    K = planted((8, 6, 4, 5), 3)
    found = cp(K, 3, ridge=0.0, tol=0.0, sweeps=500)
    assert found.error < 1e-7  # a squared error is known to 1e-16, an error to its root
    assert found.error == pytest.approx(np.linalg.norm(K - found.kernel()) / np.linalg.norm(K), rel=1e-6)
    assert all(np.allclose(np.linalg.norm(A, axis=0), 1.0) for A in found.factors) and (found.weights >= 0).all()
    again = np.einsum("r,tr,sr,ir,jr->tsij", found.weights, *found.factors)
    assert np.allclose(found.kernel(), again, atol=1e-12)
    # the components are unique up to order and signs (Kruskal): each planted one is there
    true = [A / np.linalg.norm(A, axis=0) for A in (normal(n, 3, seed=k) for k, n in enumerate((8, 6, 4, 5)))]
    likeness = np.prod([np.abs(A.T @ B) for A, B in zip(true, found.factors, strict=True)], axis=0)
    assert np.allclose(np.sort(likeness.max(axis=1)), 1.0, atol=1e-6)


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 1e-2])
def test_the_objective_of_cp_never_grows_and_is_what_it_says(ridge):
    K = decaying((7, 6, 3, 3))
    found = cp(K, 5, ridge=ridge, tol=0.0, sweeps=40, starts=1)
    assert all(later <= earlier + 1e-13 for earlier, later in itertools.pairwise(found.objective))
    scaled = (found.weights / np.linalg.norm(K)) ** 0.25  # the length of each column of the four factors
    penalty = ridge * 4 * (scaled**2).sum()
    assert found.objective[-1] == pytest.approx(found.error**2 + penalty, abs=1e-13)


def test_the_penalty_bounds_components_that_would_diverge():
    """A tensor of rank three in the closure of rank two: x x y + x y x + y x x (De Silva, Lim)."""
    x, y = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    K = sum(np.einsum("a,b,c->abc", *v) for v in ((x, x, y), (x, y, x), (y, x, x)))
    early, late = (cp(K, 2, ridge=0.0, sweeps=sweeps, tol=0.0) for sweeps in (100, 2000))
    assert late.error < early.error < 0.1 and late.weights.max() > 1.5 * early.weights.max()  # there is no end to it
    tame, longer = (cp(K, 2, ridge=1e-3, sweeps=sweeps, tol=0.0) for sweeps in (1000, 2000))
    assert tame.weights.max() == pytest.approx(longer.weights.max(), rel=1e-6)  # it has arrived
    assert tame.weights.max() < 0.5 * late.weights.max()
    # ridge times the squares of all factors is at most the objective of the tensor 0, which is 1
    assert 1e-3 * 3 * ((tame.weights / np.linalg.norm(K)) ** (2 / 3)).sum() <= 1.0


def test_cp_is_no_worse_than_tensorly():
    pytest.importorskip("tensorly")
    from tensorly import cp_to_tensor
    from tensorly.decomposition import parafac

    for seed, rank in ((0, 3), (1, 5)):
        K = decaying((10, 8, 5, 5), seed=seed, power=0.5)
        ours = cp(K, rank)
        theirs = cp_to_tensor(parafac(K, rank, n_iter_max=300, init="svd", tol=1e-8))
        error = np.linalg.norm(K - theirs) / np.linalg.norm(K)
        # what the penalty can cost: ridge times the squares of the factors; and a tail of 1000 sweeps that gain 1e-8 each
        slack = (1e-6 * 4 * ((ours.weights / np.linalg.norm(K)) ** 0.5).sum() + 1e-5) / (2 * error)
        assert ours.error <= error + slack


def test_cp_comes_from_its_seed_and_refuses_what_is_none():
    K = decaying((5, 4, 3, 3))
    a, b, other = (cp(K, 6, sweeps=20, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(a.kernel(), b.kernel()) and not np.array_equal(a.kernel(), other.kernel())
    assert cp(np.zeros((2, 3, 2, 2)), 2).error == 0.0
    for wrong in ({"rank": 0}, {"rank": 1.5}, {"sweeps": 0}, {"starts": 0}, {"ridge": -1.0}, {"tol": -1.0}, {"seed": -1}):
        with pytest.raises(SettingError, match=f"^{next(iter(wrong))} must be"):
            cp(K, **({"rank": 1} | wrong))
    for none in (np.full((2, 2), np.nan), np.ones(3), np.ones((3, 0))):
        with pytest.raises(SettingError, match="cp takes a finite tensor of two axes or more, none empty"):
            cp(none, 1)
