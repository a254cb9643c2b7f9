"""Sparsity and budgets: what is asked is what comes out, and reweighting and refit do what they are for."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nettrim import ProblemError, trim
from nettrim.budget import INDEX, allocate
from nettrim.models import mlp
from nettrim.request import parsed
from nettrim.search import SPARSITY_TOLERANCE


@pytest.fixture(scope="module")
def network():
    """Return a network with as many weights as a tolerance of a quarter point needs, and inputs of low rank."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=random) @ torch.randn(6, 25, generator=random)
    return mlp((25, 32, 25, 20), seed=0), torch.relu(x + 0.3 * torch.randn(200, 25, generator=random))


def kept(result):
    return [row.weights_kept / row.weights for row in result.layers]


@pytest.mark.parametrize("scheme", ["parallel", "cascade"])
@pytest.mark.parametrize("options", [{}, {"rounds": 1, "refit": True}], ids=["plain", "reweighted"])
def test_a_sparsity_is_hit(network, scheme, options):
    model, x = network
    result = trim(model, x, sparsity={"1": 0.6, "*": 0.8}, scheme=scheme, **options)
    assert result.solved
    assert kept(result)[0] == pytest.approx(0.4, abs=SPARSITY_TOLERANCE + 1e-9)
    assert kept(result)[1] == pytest.approx(0.2, abs=SPARSITY_TOLERANCE + 1e-9)
    assert kept(result)[2] == pytest.approx(0.2, abs=2 * SPARSITY_TOLERANCE + 1e-9)
    assert not any(row.note for row in result.layers)
    assert all(row.solves % (1 + options.get("rounds", 0)) == 0 for row in result.layers)


def test_a_sparsity_that_no_radius_gives_is_said_not_hidden():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    result = trim(model, x, sparsity=0.55)
    note = result.layers[1].note
    nearest = 1 - kept(result)[1]
    assert note == f"sparsity 0.55 was asked, {nearest:.4g} is the nearest"
    assert abs(nearest - 0.55) > 2 * SPARSITY_TOLERANCE


@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_the_ends_of_sparsity(network, sparsity):
    model, x = network
    result = trim(model, x, sparsity=sparsity)
    assert result.kept == pytest.approx(1 - sparsity, abs=0.05)


@pytest.mark.parametrize("budget", [400, "5 kB"])
def test_a_budget_is_spent_and_not_overdrawn_by_more_than_the_tolerance(network, budget):
    model, x = network
    result = trim(model, x, budget=budget)
    total = sum(row.weights for row in result.layers)
    amount, unit = parsed(budget)
    if unit == "bytes":
        amount = (amount - INDEX * sum(row.shape[0] + 1 for row in result.layers)) / (4 + INDEX)
    asked = amount / total if unit != "fraction" else amount
    assert result.solved
    assert result.kept == pytest.approx(asked, abs=0.005)
    assert result.settings["budget"] == budget


def test_a_budget_goes_where_it_is_needed(network):
    model, x = copy.deepcopy(network[0]), network[1]
    with torch.no_grad():  # a last layer that needs a tenth of its weights
        model[5].weight[:, torch.arange(25) % 10 != 0] = 0.0
    spread, same = trim(model, x, budget=0.3), trim(model, x, sparsity=0.7)
    squares = [sum(row.achieved**2 for row in result.layers) for result in (spread, same)]
    assert spread.kept == pytest.approx(0.3, abs=0.005)
    assert kept(spread)[2] < 0.2 < 0.3 < kept(spread)[0]
    assert squares[0] < 0.8 * squares[1]


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_an_allocation_is_optimal_among_all_choices_of_points(seed, share):
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(3):
        counts = np.concatenate([[0], np.sort(rng.choice(np.arange(1, 40), 4, replace=False))]).astype(float)
        curves.append(np.column_stack([counts, np.sort(rng.random(5))[::-1]]))
    budget = share * sum(curve[-1, 0] for curve in curves)
    found = allocate(curves, budget)
    assert sum(found) <= budget * (1 + 1e-12)

    def error(curve, count):  # on the lower hull, which a mixture of two points reaches
        pairs = itertools.combinations_with_replacement(range(5), 2)
        best = np.inf
        for i, j in pairs:
            low, high = curve[i, 0], curve[j, 0]
            if low <= count <= high:
                t = 0.0 if high == low else (count - low) / (high - low)
                best = min(best, (1 - t) * curve[i, 1] + t * curve[j, 1])
        return best

    reached = sum(error(curve, count) for curve, count in zip(curves, found, strict=True))
    for choice in itertools.product(range(5), repeat=3):
        if sum(curve[k, 0] for curve, k in zip(curves, choice, strict=True)) <= budget:
            assert reached <= sum(curve[k, 1] for curve, k in zip(curves, choice, strict=True)) + 1e-12


def test_a_budget_that_is_too_small_or_more_than_there_is():
    curve = np.array([[3.0, 1.0], [10.0, 0.0]])
    with pytest.raises(ProblemError, match="budget of 5 weights is less than the 6 that are kept at the largest radius"):
        allocate([curve, curve], 5)
    assert allocate([curve, curve], 99) == [10, 10]


def test_units_of_budgets():
    assert parsed(0.5) == (0.5, "fraction")
    assert parsed(500) == (500.0, "weights")
    assert parsed("1.5 MB") == (1.5e6, "bytes")
    assert parsed("20b") == (20.0, "bytes")
    for bad in ("1.5 pounds", "MB", float("nan"), "1,5 kB"):
        with pytest.raises(ProblemError, match="budget must be"):
            parsed(bad)


def test_reweighting_keeps_less_at_the_same_radius_and_a_refit_errs_less(network):
    model, x = network
    plain = trim(model, x, 0.1)
    reweighted = trim(model, x, 0.1, rounds=2)
    refitted = trim(model, x, 0.1, rounds=2, refit=True)
    assert reweighted.solved
    assert reweighted.kept < 0.95 * plain.kept
    assert all(row.achieved <= 0.1 * (1 + 2e-3) for row in reweighted.layers)
    assert [row.weights_kept for row in refitted.layers] == [row.weights_kept for row in reweighted.layers]
    for before, after in zip(reweighted.layers, refitted.layers, strict=True):
        assert after.achieved < before.achieved
        assert after.gap == before.gap  # of the program, whose answer the refit starts from
    assert refitted.output_error < reweighted.output_error
    assert refitted.output_error <= refitted.bound
