"""EVBMF, the rank that noise leaves: the formulas against a numeric minimization, planted ranks, and pure noise."""

import math

import numpy as np
import pytest

from nettrim.baselines.low_rank import _ranks
from nettrim.baselines.low_rank._vbmf import evbmf, free_energy, threshold
from nettrim.errors import SettingError
from tests.toys import decaying, normal


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
