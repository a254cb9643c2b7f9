"""Low-rank factorization: the exact laws of each decomposition, the modules made of them, and the method from end to end."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks.baselines import low_rank as study
from nettrim.baselines import low_rank
from nettrim.baselines.low_rank import _ranks
from nettrim.baselines.low_rank._cost import multiply_adds, parameters
from nettrim.baselines.low_rank._cp import cp
from nettrim.baselines.low_rank._factored import cp_convolutions, linear_pair, replaced, tucker_convolutions
from nettrim.baselines.low_rank._truncated import spectrum, truncated
from nettrim.baselines.low_rank._tucker import tucker2, unfolded
from nettrim.baselines.low_rank._vbmf import evbmf, free_energy, threshold
from nettrim.data import Data
from nettrim.errors import ModelError, SettingError
from nettrim.models import lenet5, lenet300, separable
from tests.networks import Odd, Tied


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def decaying(shape, seed=0, power=1.0):
    """A random tensor whose unfoldings have falling spectra, as trained kernels have."""
    K = normal(*shape, seed=seed)
    for axis, n in enumerate(shape):
        falling = np.diag(1.0 / np.arange(1, n + 1) ** power)
        K = np.moveaxis(np.tensordot(falling @ np.linalg.qr(normal(n, n, seed=seed + axis + 1))[0], K, (1, axis)), 0, axis)
    return K


def off(a, b):
    return float((a - b).detach().abs().max())


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
    for rank in (0, 4):
        with pytest.raises(SettingError, match="no truncation of rank"):
            truncated(normal(3, 5), rank)
    for gram in (np.eye(4), np.triu(np.ones((5, 5)))):
        with pytest.raises(SettingError, match=r"is symmetric \(5, 5\)"):
            truncated(normal(3, 5), 1, gram)


# --- EVBMF


def by_hand(gamma, sigma2, L, M, steps=20000):
    """Return a b and twice the free energy of one component of the model, by coordinate descent from a large start.

    Each line is where the free energy is stationary in one of its arguments; none of the closed forms is used.
    """
    a = b = math.sqrt(gamma)
    var_a, var_b = 1e-3 * gamma / M, 1e-3 * gamma / L
    for _ in range(steps):
        prior_a, prior_b = a * a / M + var_a, b * b / L + var_b
        var_a = 1 / ((b * b + L * var_b) / sigma2 + 1 / prior_a)
        a = gamma * b * var_a / sigma2
        var_b = 1 / ((a * a + M * var_a) / sigma2 + 1 / prior_b)
        b = gamma * a * var_b / sigma2
    prior_a, prior_b = a * a / M + var_a, b * b / L + var_b
    energy = M * math.log(prior_a / var_a) + L * math.log(prior_b / var_b)
    energy += (a * a + M * var_a) / prior_a + (b * b + L * var_b) / prior_b - (L + M)
    return a * b, energy + (-2 * a * b * gamma + (a * a + M * var_a) * (b * b + L * var_b)) / sigma2


@pytest.mark.parametrize(("L", "M", "sigma2"), [(5, 20, 0.3), (30, 40, 1.0), (8, 8, 2.0)])
def test_shrinkage_and_free_energy_are_those_of_a_numeric_minimization(L, M, sigma2):
    Y, edge = np.zeros((L, M)), math.sqrt(M * sigma2 * threshold(L / M))
    for factor in (1.05, 1.5, 4.0):
        gamma = factor * edge
        Y[0, 0] = gamma
        found = evbmf(Y, sigma2)
        product, energy = by_hand(gamma, sigma2, L, M)
        assert found.rank == 1 and found.values[0] == pytest.approx(product, rel=1e-6)  # descent converges on a line
        assert energy < 0  # below that of no component, which is what keeping it means
        # Omega times M is that energy, but for what does not depend on the component
        s = np.array([gamma] + [0.0] * (L - 1))
        rest = gamma**2 / sigma2 + M * L * math.log(sigma2)
        assert M * free_energy(sigma2, s, L, M) - rest == pytest.approx(energy, rel=1e-6)
    # 3% below the threshold a component costs more than it is worth (the paper's constant is good to four digits)
    assert by_hand(0.97 * edge, sigma2, L, M)[1] > 0
    Y[0, 0] = 0.97 * edge
    assert evbmf(Y, sigma2).rank == 0


@pytest.mark.parametrize(("shape", "rank", "noise"), [((60, 90), 5, 1.0), ((200, 40), 3, 0.1), ((50, 50), 7, 0.5)])
def test_a_planted_rank_and_its_noise_are_found(shape, rank, noise):
    rng = np.random.default_rng(4)
    U, V = (np.linalg.qr(rng.standard_normal((n, rank)))[0] for n in shape)
    strength = 3 * noise * (math.sqrt(shape[0]) + math.sqrt(shape[1]))  # thrice the largest singular value of the noise
    Y = strength * U @ V.T + noise * rng.standard_normal(shape)
    found, turned = evbmf(Y), evbmf(Y.T)
    assert found.rank == turned.rank == rank
    # the variance of n m normal draws is known to sqrt(2 / (n m)), here up to 3%; five of these
    assert found.sigma2 == pytest.approx(noise**2, rel=5 * math.sqrt(2 / Y.size))
    # a least value is located to the root of the rounding, 1e-8
    assert found.sigma2 == pytest.approx(turned.sigma2, rel=1e-6)
    assert (found.values < np.linalg.svd(Y, compute_uv=False)[:rank]).all()
    assert evbmf(1e-3 * Y).rank == rank and evbmf(1e-3 * Y).sigma2 == pytest.approx(1e-6 * found.sigma2, rel=1e-6)


def test_the_estimated_noise_is_where_the_free_energy_is_least():
    Y = decaying((20, 30), power=0.7) + 0.01 * normal(20, 30, seed=9)
    s, found = np.linalg.svd(Y, compute_uv=False), evbmf(Y)
    first = math.ceil(20 / (1 + 20 / 30)) - 1
    lower = max(s[first] ** 2 / (30 * threshold(20 / 30)), (s[first:] ** 2).mean() / 30)
    dense = [free_energy(x, s, 20, 30) for x in np.geomspace(lower, (s**2).sum() / 600, 20001)]
    assert free_energy(found.sigma2, s, 20, 30) <= min(dense) + 1e-12


def test_pure_noise_has_no_rank_and_no_noise_keeps_all_of_it():
    assert evbmf(normal(40, 70)).rank == 0
    assert evbmf(normal(1, 25)).rank == 0
    clean = normal(30, 4) @ normal(4, 20, seed=1)
    found = evbmf(clean)
    assert (found.rank, found.sigma2) == (4, 0.0)
    assert np.allclose(found.values, np.linalg.svd(clean, compute_uv=False)[:4])
    assert evbmf(np.zeros((3, 5))).rank == 0
    assert _ranks._chosen(normal(40, 70), "evbmf", None) == 1  # a layer of rank 0 would be none
    for wrong, sigma2 in ((np.zeros(3), None), (np.full((2, 2), np.nan), None), (np.eye(3), 0.0)):
        with pytest.raises(SettingError, match=r"finite matrix|must be positive"):
            evbmf(wrong, sigma2)


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
    for kernel, ranks in ((normal(3, 4), (1, 1)), (np.full((2, 2, 1, 1), np.inf), (1, 1))):
        with pytest.raises(SettingError, match="a kernel is finite"):
            tucker2(kernel, ranks)
    for ranks in ((0, 1), (5, 1), (1, 0), (1, 4)):
        with pytest.raises(SettingError, match="no Tucker ranks"):
            tucker2(normal(3, 4, 2, 2), ranks)


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
    for wrong in ({"rank": 0}, {"sweeps": 0}, {"starts": 0}, {"ridge": -1.0}, {"tol": -1.0}):
        with pytest.raises(SettingError, match="cp needs rank, sweeps and starts"):
            cp(K, **({"rank": 1} | wrong))
    with pytest.raises(SettingError, match="finite tensor"):
        cp(np.full((2, 2), np.nan), 1)


# --- modules


CONVOLUTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "bias": False},
    {"padding": (1, 2), "padding_mode": "circular"},
    {"padding": 2, "padding_mode": "reflect"},
]


def convolution(dtype, kernel=(3, 4), **how):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Conv2d(4, 6, kernel, dtype=dtype, **how), torch.randn(2, 4, 11, 12, dtype=dtype)


# float32 rounds at 6e-8, and the sums here have some hundred terms of size 1
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("how", CONVOLUTIONS, ids=str)
def test_convolutions_at_full_rank_are_the_convolution(how, dtype, limit):
    layer, images = convolution(dtype, **how)
    K = layer.weight.detach().double().numpy()
    found = tucker2(K, (4, 6))
    whole = tucker_convolutions(layer, found.core, found.inputs, found.outputs)
    absorbed = tucker_convolutions(layer, *found.absorbed())
    # every entry is a component of its own: an exact CP without a fit
    t, s, i, j = (index.ravel() for index in np.indices(K.shape))
    ones = tuple(np.eye(n)[:, index] for n, index in zip(K.shape, (t, s, i, j), strict=True))
    signs = (ones[0] * np.sign(K.ravel()), *ones[1:])
    every = cp_convolutions(layer, np.abs(K.ravel()), signs)
    for made, parts in ((whole, 3), (absorbed, 1), (every, 4)):
        assert len(made) == parts and all(p.dtype == dtype for p in made.parameters())
        assert off(made(images), layer(images)) < limit
        assert [module.bias is None for module in made] == [True] * (parts - 1) + [layer.bias is None]


def test_convolutions_of_low_rank_are_convolutions_with_the_kernel_they_make():
    layer, images = convolution(torch.float64, stride=2, padding=1)
    K = layer.weight.detach().numpy()
    for found, made in (
        (two := tucker2(K, (2, 3)), tucker_convolutions(layer, two.core, two.inputs, two.outputs)),
        (four := cp(K, 3, sweeps=30), cp_convolutions(layer, four.weights, four.factors)),
    ):
        assert found.kernel().shape == K.shape and np.abs(found.kernel() - K).max() > 0.01
        expected = nn.functional.conv2d(images, torch.from_numpy(found.kernel()), layer.bias, stride=2, padding=1)
        assert off(made(images), expected) < 1e-12
    assert [tuple(m.kernel_size) for m in made] == [(1, 1), (3, 1), (1, 4), (1, 1)]
    assert [m.groups for m in made] == [1, 3, 3, 1]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(9, 5), (5, 9), (7, 7)])
def test_linear_layers_at_full_rank_are_the_layer(shape, dtype, limit):
    n_in, n_out = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer, x = nn.Linear(n_in, n_out, dtype=dtype), torch.randn(3, 4, n_in, dtype=dtype)
    X = x.reshape(-1, n_in).double().numpy().T
    for gram in (None, X @ X.T, np.diag([0.0, *[1.0] * (n_in - 1)])):
        pair = truncated(layer.weight.detach().numpy(), min(shape), gram)
        made = linear_pair(layer, pair.left, pair.right)
        assert off(made(x), layer(x)) < limit and made[0].bias is None
    assert made.training and not linear_pair(layer.eval(), pair.left, pair.right).training
    made[1].bias.data.fill_(0.0)
    assert layer.bias.any()  # what was given is left alone


def test_counts_are_the_formulas():
    layer, images = convolution(torch.float32, kernel=(3, 3), padding=1, stride=2)
    h, w = layer(images).shape[2:]
    S, T, d, R3, R4, R, H, W = 4, 6, 3, 2, 3, 5, 11, 12
    tucker = tucker_convolutions(layer, np.zeros((R4, R3, d, d)), np.zeros((S, R3)), np.zeros((T, R4)))
    assert parameters(tucker) - T == S * R3 + d * d * R3 * R4 + T * R4 == _ranks.size("tucker", (T, S, d, d), (R3, R4))
    assert multiply_adds(tucker, images[:1]) == S * R3 * H * W + d * d * R3 * R4 * h * w + T * R4 * h * w
    alone = tucker_convolutions(layer, np.zeros((R4, S, d, d)), None, np.zeros((T, R4)))
    assert parameters(alone) - T == d * d * S * R4 + T * R4 == _ranks.size("tucker", (T, S, d, d), (S, R4))
    four = cp_convolutions(layer, np.zeros(R), tuple(np.zeros((n, R)) for n in (T, S, d, d)))
    assert parameters(four) - T == R * (S + 2 * d + T) == _ranks.size("cp", (T, S, d, d), (R,))
    assert multiply_adds(four, images[:1]) == R * (S * H * W + d * h * W + d * h * w + T * h * w)
    linear = nn.Linear(7, 4, device="meta")
    assert _ranks.size("svd", linear.weight.shape, (2,)) == 2 * (7 + 4)
    assert multiply_adds(lenet300(), torch.zeros(1, 1, 28, 28)) == 266_200
    # 24^2 and 8^2 positions of the convolutions of LeNet-5
    assert multiply_adds(lenet5(), torch.zeros(1, 1, 28, 28)) == 500 * 576 + 25_000 * 64 + 400_000 + 5_000


# --- ranks


def test_the_rules_choose_what_they_say():
    W = np.diag([3.0, 2.0, 1.0, 0.0])  # squares 9, 4, 1 of 14
    rank = _ranks._chosen
    assert [rank(W, "energy", e) for e in (0.5, 9 / 14, 0.65, 13 / 14, 0.95, 1.0)] == [1, 1, 2, 2, 3, 3]
    for seed in range(20):  # a share that is reached exactly is reached, whichever way its product rounds
        s = np.sort(np.abs(normal(9, seed=seed)) + 0.1)[::-1]
        power = np.cumsum(s**2)
        assert [rank(np.diag(s), "energy", share) for share in power / power[-1]] == list(range(1, 10))
    assert rank(W, "energy", 0.5, np.diag([0.0, 1.0, 4.0, 0.0])) == 1  # responses have 4 and 4 of 8
    assert rank(W, "energy", 0.51, np.diag([0.0, 1.0, 4.0, 0.0])) == 2
    assert [rank(W, "ratio", r) for r in (0.01, 0.5, 1.0)] == [1, 2, 4]
    assert [rank(W, "number", n) for n in (1, 3, 9)] == [1, 3, 4]
    K = normal(6, 4, 3, 3)
    assert _ranks._tucker_ranks(K, "ratio", 0.5) == (2, 3)
    assert _ranks._tucker_ranks(K[:, :, :1, :1], "ratio", 0.5) == (4, 2)  # a matrix: one rank
    # 1.4 channels of 10 are 1 and 2.8 outputs of 20 are 3, but a core over one channel and two positions carries two
    assert _ranks._tucker_ranks(normal(60, 10, 2, 1), "ratio", 0.14) == (1, 2)
    assert _ranks._cp_rank(K, "number", 7) == 7
    budget = _ranks.size("tucker", K.shape, (2, 3))
    assert _ranks._cp_rank(K, "ratio", 0.5) == budget // (6 + 4 + 3 + 3)


# --- the method


def blobs(n=120, size=(2, 8, 8), seed=0):
    """Three classes of noisy patterns, with two pixels that are always 0."""
    rng = np.random.default_rng(seed)
    centers, y = rng.standard_normal((3, *size)), rng.integers(0, 3, 2 * n)
    x = (centers[y] + rng.standard_normal((2 * n, *size))).astype(np.float32)
    x[:, 0, 0, :2] = 0.0
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    return Data("blobs", x[:n], y[:n], x[n:], y[n:])


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8, 20),
            nn.ReLU(),
            nn.Linear(20, 3),
        ).eval()


def same(a, b):
    return a.rows == b.rows and all(
        torch.equal(x, y) for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("how", [{}, {"linear": "plain", "convolution": "cp"}], ids=["tucker", "cp"])
def test_the_whole_method_goes_on_where_it_was_and_gives_the_same_bytes(how, tmp_path, monkeypatch):
    data, model = blobs(), network()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.random.get_rng_state()
    call = {"rule": "ratio", "amount": 0.4, "epochs": 2, "batch_size": 40} | how
    whole = low_rank.run(model, data, **call)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert same(whole, low_rank.run(model, data, **call))
    for broken in ("_tuned", "_factored"):
        with monkeypatch.context() as patch:
            patch.setattr(low_rank, broken, lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                low_rank.run(model, data, **call, folder=tmp_path / broken)
        assert same(whole, low_rank.run(model, data, **call, folder=tmp_path / broken))
        with monkeypatch.context() as patch:
            for name in ("_tuned", "_factored"):
                patch.setattr(low_rank, name, lambda *_, **__: 1 / 0)
            patch.setattr(_ranks, "planned", lambda *_, **__: 1 / 0)
            assert same(whole, low_rank.run(model, data, **call, folder=tmp_path / broken))  # nothing is done twice
    with pytest.raises(ModelError, match="stages of another"):
        low_rank.run(model, data, **(call | {"amount": 0.5}), folder=tmp_path / "_tuned")
    assert not same(whole, low_rank.run(model, data, **call, seed=1))


def test_rows_tell_every_layer_and_the_network_is_what_they_say(tmp_path):
    data, model = blobs(), network()
    result = low_rank.run(model, data, rule="ratio", amount=0.4, epochs=1)
    assert len({tuple(row) for row in result.rows}) == 1
    steps = [(row["step"], row["layer"], row["rank"]) for row in result.rows]
    assert steps == [
        ("dense", "", ""),
        ("factored", "0", "1 2"),
        ("factored", "2", "2 3"),
        ("left alone", "4", ""),
        ("factored", "8", "3"),
        ("left alone", "10", ""),
        ("all factored", "", ""),
        ("fine-tuned", "", ""),
    ]
    how = {row["layer"]: row["how"] for row in result.rows}
    assert how["4"] == "left alone: Conv2d of 2 groups" and how["10"] == "left alone: it gives the logits"
    assert how["0"] == how["2"] == "tucker" and how["8"] == "svd"
    assert result.kept == 1.0 and result.masks == {}
    assert result.rows[-1]["n_parameters"] == parameters(result.model)
    assert result.rows[-1]["parameters"] == parameters(result.model) / parameters(model)
    sizes = [row["n_parameters"] for row in result.rows]
    # layer by layer: S R3 + d^2 R3 R4 + T R4 for S T d^2, r (m + n) for m n
    assert sizes[0] - sizes[1] == 2 * 6 * 9 - (2 * 1 + 9 * 1 * 2 + 6 * 2)
    assert sizes[1] - sizes[2] == 6 * 8 * 9 - (6 * 2 + 9 * 2 * 3 + 8 * 3)
    assert sizes[3] - sizes[4] == 8 * 20 - 3 * (8 + 20)
    assert isinstance(result.model[7], nn.Dropout) and not any(module.training for module in result.model.modules())
    assert result.rows[-1]["loss"] < result.rows[-2]["loss"]  # an untrained network, and an epoch with the labels
    result.save(tmp_path)


def test_full_rank_equals_the_network():
    data, model = blobs(), network()
    for how in ("data", "plain"):
        result = low_rank.run(model, data, linear=how, rule="ratio", amount=1.0, smaller_only=False, epochs=0)
        assert off(result.model(data.x_test), model(data.x_test)) < 1e-5  # float32, sums of some hundred terms
        assert len(result.model[8]) == 2 and result.rows[0]["errors"] == result.rows[-1]["errors"]
    model, data = model.double(), Data("blobs", data.x_train.double(), data.y_train, data.x_test.double(), data.y_test)
    result = low_rank.run(model, data, rule="energy", amount=1.0, smaller_only=False, epochs=0)
    assert off(result.model(data.x_test), model(data.x_test)) < 1e-12
    alone = low_rank.run(model, data, rule="ratio", amount=1.0, epochs=0)
    assert [row["step"] for row in alone.rows] == ["dense", *["left alone"] * 5, "all factored"]
    assert "20 weights at rank" not in alone.rows[1]["how"] and "no fewer than 108" in alone.rows[1]["how"]


def test_responses_are_nearer_where_they_are_what_is_approximated():
    data, model = blobs(), network()
    call = {"ranks": {"8": 3}, "layers": [], "epochs": 0}
    aware, plain = (low_rank.run(model, data, linear=how, **call) for how in ("data", "plain"))
    lost = [
        (result.model[:9](data.x_train) - model[:9](data.x_train)).norm().item() for result in (aware, plain)
    ]  # on all training samples, which are those that the Gram matrix is of
    assert lost[0] < 0.95 * lost[1]
    whole = (model[8](model[:8](data.x_train)) - model[8].bias).norm().item()
    error = next(row["error"] for row in aware.rows if row["layer"] == "8")
    assert error == pytest.approx(lost[0] / whole, rel=1e-3)  # float32 against float64


def test_told_layers_and_ranks_are_obeyed(monkeypatch):
    data, model = blobs(), network()
    result = low_rank.run(model, data, layers=["2"], ranks={"2": [3, 4], "10": 2}, epochs=0)
    found = {row["layer"]: (row["how"], row["rank"]) for row in result.rows if row["layer"]}
    assert found["2"] == ("tucker", "3 4") and found["10"] == ("svd", "2")
    assert {found[name][0] for name in ("0", "4", "8")} == {"left alone: not asked for"}
    assert result.model[2][1].weight.shape == (4, 3, 3, 3)
    seeds = []
    monkeypatch.setattr(low_rank, "cp", lambda *args, seed: seeds.append(seed) or cp(*args, seed=seed))
    low_rank.run(model, data, convolution="cp", layers=[], ranks={"2": 3}, epochs=0, seed=5)
    assert seeds == [5]
    none = low_rank.run(model, data, linear="none", convolution="none", epochs=0)
    assert all(row["step"] != "factored" for row in none.rows) and none.rows[-1]["parameters"] == 1.0


def test_layers_that_cannot_be_replaced_are_left_alone():
    x = torch.zeros(1, 12)
    how = _ranks.kinds(Tied(), x, "plain", "tucker", None, ())
    assert how["a"] == how["b"] == "left alone: its weight is in several places" and "logits" in how["c"]
    assert _ranks.kinds(Odd(), x, "plain", "tucker", None, ())["twice"] == "svd"  # in one place, however often it is called
    inside = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(24, 2))
    how = _ranks.kinds(inside, torch.zeros(1, 3, 8), "plain", "tucker", None, ())
    assert "NonDynamicallyQuantizableLinear" in how["0.self_attn.out_proj"] and how["0.linear1"] == "svd"
    how = _ranks.kinds(separable(width=4), torch.zeros(1, 3, 32, 32), "plain", "tucker", None, ())
    assert sum(text == "tucker" for text in how.values()) == 7 and sum("groups" in text for text in how.values()) == 6


def test_a_model_that_is_one_layer_is_replaced_itself():
    layer = nn.Linear(12, 5)
    made = linear_pair(layer, np.zeros((5, 2)), np.zeros((2, 12)))
    assert isinstance(replaced(layer, {"": made}), nn.Sequential) and isinstance(replaced(layer, {}), nn.Linear)
    layer.weight.requires_grad_(False)
    assert not any(module.weight.requires_grad for module in linear_pair(layer, np.zeros((5, 2)), np.zeros((2, 12))))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"linear": "both"}, "linear must be one of"),
        ({"convolution": "svd"}, "convolution must be one of"),
        ({"rule": "guess"}, "rule must be one of"),
        ({"amount": 0.5}, "not with evbmf"),
        ({"rule": "energy"}, "amount must be a positive number"),
        ({"rule": "ratio", "amount": 1.5}, r"amount must be a number in \[0, 1\]"),
        ({"rule": "ratio", "amount": 0}, "amount must be a positive number"),
        ({"rule": "number", "amount": 2.5}, "amount must be a whole number"),
        ({"layers": "2"}, "layers is a list of names"),
        ({"layers": ["99"]}, "no layer is called 99"),
        ({"ranks": [3]}, "ranks maps names"),
        ({"ranks": {"99": 3}}, "there is no such layer"),
        ({"ranks": {"4": 3}}, "Conv2d of 2 groups"),
        ({"ranks": {"8": 21}}, "whole numbers from 1 to"),
        ({"ranks": {"2": 3}}, "whole numbers from 1 to"),
        ({"ranks": {"8": True}}, "whole numbers from 1 to"),
        ({"smaller_only": 1}, "smaller_only is true or false"),
        ({"samples": 0}, "samples must be a whole number"),
        ({"epochs": -1}, "epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be a positive number"),
        ({"weight_decay": -1}, "weight_decay must be a number from 0 on"),
        ({"label_smoothing": 2}, "label_smoothing must be a number"),
    ],
)
def test_settings_that_are_none_are_refused_before_any_work(wrong, message, monkeypatch, tmp_path):
    monkeypatch.setattr(low_rank, "_factored", lambda *_: 1 / 0)
    with pytest.raises(SettingError, match=message):
        low_rank.run(network(), blobs(), **wrong)


def test_a_layer_without_signal_is_left_alone_unless_it_is_named():
    data, model = blobs(), network()
    with torch.no_grad():
        model[8].weight.copy_(torch.randn(20, 8, generator=torch.Generator().manual_seed(0)))
    found = {row["layer"]: row for row in low_rank.run(model, data, epochs=0).rows}
    assert found["8"]["how"] == "left alone: EVBMF finds nothing but noise in it"
    named = {row["layer"]: row for row in low_rank.run(model, data, epochs=0, layers=["8"]).rows}
    assert (named["8"]["how"], named["8"]["rank"]) == ("svd", "1")


# --- the study


def test_the_study_goes_on_from_its_rows(tmp_path, capsys, monkeypatch):
    few = blobs(80, size=(1, 28, 28))
    monkeypatch.setattr(study, "load", lambda name: Data(name, few.x_train, few.y_train, few.x_test, few.y_test))
    out = tmp_path / "rows.csv"
    call = ["--data", "mnist5k", "--network", "lenet300", "--seeds", "0", "--epochs", "1", "--dense-epochs", "1"]
    call += ["--networks", str(tmp_path), "--out", str(out), "--points"]
    study.main([*call, "1"])
    first = out.read_bytes()
    study.main([*call, "1"])
    assert out.read_bytes() == first
    study.main([*call, "2"])
    assert out.read_bytes().startswith(first) and len(out.read_text().splitlines()) == 3
    assert "lenet300 plain ratio 0.02" in capsys.readouterr().out
    for network in ("lenet300", "lenet5"):
        assert len({str(point) for point in study.points(network)}) == len(list(study.points(network))) > 10


def test_reconstructions_of_the_study_agree_with_tensorly():
    pytest.importorskip("tensorly")
    layer = nn.Sequential(nn.Conv2d(8, 10, 5))
    layer[0].weight.data = torch.from_numpy(decaying((10, 8, 5, 5), power=0.5)).float()
    found = study.against_tensorly(layer, "0", (0.3, 0.6))
    assert [row["form"] for row in found] == ["tucker"] * 2 + ["cp"] * 3
    # Tucker ends when a sweep gains 1e-8, CP after 1000 sweeps that gain as little: see the tests of each above
    assert all(row["ours"] <= row["tensorly"] + (1e-6 if row["form"] == "tucker" else 1e-4) for row in found)
