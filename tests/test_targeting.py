"""Who is a candidate of targeted dropout, how the rates rise, and what is dropped."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nettrim.baselines.targeted_dropout import TargetedConv2d, TargetedLinear, candidates, ramp
from nettrim.data import Data, mnist5k
from tests.toys import drawn

pytestmark = pytest.mark.usefixtures("seeded")


# --- who is a candidate


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 40), st.floats(0, 0.999), st.integers(0, 99))
def test_candidates_are_those_below_the_threshold_of_their_column(n_out, n_in, gamma, seed):
    # The authors' rule, W (fan_in, n_out): |W| < sort(|W|, 0)[int(gamma fan_in)], and likewise for norms.
    weight = drawn((n_out, n_in), seed)
    W = weight.numpy().T.astype(np.float64)
    limit = np.sort(np.abs(W), axis=0)[math.floor(gamma * n_in)]
    assert np.array_equal(candidates(weight, gamma).numpy().T, np.abs(W) < limit)
    norms = np.sqrt((W**2).sum(0))
    found = candidates(weight, gamma, units=True).numpy().T
    assert np.array_equal(found, np.broadcast_to(norms < np.sort(norms)[math.floor(gamma * n_out)], W.shape))


def test_candidates_of_a_filter_are_counted_within_it():
    weight = drawn((4, 3, 5, 5)) * torch.tensor([1.0, 10, 100, 1000])[:, None, None, None]
    assert candidates(weight, 0.4).flatten(1).sum(1).tolist() == [30] * 4
    assert candidates(weight, 0.5, units=True).flatten(1).sum(1).tolist() == [75, 75, 0, 0]


def test_candidates_by_hand_ties_and_all():
    weight = torch.tensor([[3.0, -1, 2, 0], [0, 0, 0, 5], [1, -1, 1, -1]])
    assert candidates(weight, 0.5).tolist() == [
        [False, True, False, True],
        [False, True, True, False],  # of equal ones the last are taken
        [False, False, True, True],
    ]
    assert candidates(weight, 0.25).int().argmax(1).tolist() == [3, 2, 3]  # from the other end
    assert candidates(weight, 0.34, units=True).any(1).tolist() == [False, False, True]  # norms 3.7, 5 and 2
    assert not candidates(weight, 0.0).any() and candidates(weight, 1.0).all()


@pytest.mark.parametrize("percent", range(100))
def test_a_fraction_of_a_hundred_is_what_it_says(percent):
    # 0.29 * 100 is 28.999999999999996: rounded down as it is, one too few would be taken.
    assert int(candidates(drawn((1, 100)), percent / 100).sum()) == percent
    assert int(candidates(drawn((100, 1)), percent / 100, units=True).sum()) == percent


# --- how the rates rise


def test_the_ramp_is_that_of_the_authors_code():
    for t in range(0, 100_001, 2500):  # their steps: gamma is at 0.95 of its end after 20,000, at its end after 40,000
        gamma = 0.95 * 0.9 * min(1, t / 20_000) + 0.05 * 0.9 * max(0, min(1, (t - 20_000) / 20_000))
        assert ramp(t / 100_000, 0.9, 0.99, 0.4) == pytest.approx((gamma, 0.99 * min(1, t / 40_000)), rel=1e-12)
    assert ramp(0.0, 0.8, 0.6, 1.0) == (0, 0)
    assert ramp(0.5, 0.8, 0.6, 1.0) == pytest.approx((0.76, 0.3))
    assert ramp(0.75, 0.8, 0.6, 1.0) == pytest.approx((0.78, 0.45))
    assert ramp(0.0, 0.8, 0.6, 0.0) == (0.8, 0.6)


# --- what is dropped


def layer(n_in, n_out, **rates):
    made = TargetedLinear(n_in, n_out, **rates)
    with torch.no_grad():
        made.weight.copy_(drawn((n_out, n_in)))
    return made


def test_only_candidates_are_dropped_and_the_rest_is_not_rescaled():
    made = layer(400, 250, gamma=0.75, alpha=0.66)
    thin, aimed = made.thinned(), candidates(made.weight, 0.75)
    gone = thin == 0
    assert not (gone & ~aimed).any() and torch.equal(thin[~gone], made.weight[~gone])
    # Expected to be left: (1 - gamma alpha) of 100,000. Within 5 deviations of 75,000 draws.
    assert abs(int((~gone).sum()) - (1 - 0.75 * 0.66) * 100_000) < 5 * math.sqrt(75_000 * 0.66 * 0.34)
    assert not torch.equal(made.thinned() == 0, gone)  # drawn anew for every step


def test_what_is_dropped_has_no_gradient_and_the_rest_its_own():
    made, x = layer(30, 20, gamma=0.5, alpha=0.5), drawn((7, 30), 1)
    state = torch.random.get_rng_state()
    made(x).square().sum().backward()
    torch.random.set_rng_state(state)
    gone = made.dropped()
    assert 0 < int(gone.sum()) < 300
    weight = made.weight.detach().masked_fill(gone, 0).requires_grad_()
    (x @ weight.T + made.bias).square().sum().backward()
    assert torch.equal(made.weight.grad[gone], torch.zeros(int(gone.sum())))
    # Two float32 ways to the same sums of 7 and of 30 terms.
    assert torch.allclose(made.weight.grad, weight.grad.masked_fill(gone, 0), rtol=1e-4, atol=1e-4)


def test_a_unit_is_dropped_whole_unless_asked_to_do_as_the_code():
    aimed = candidates(layer(50, 400).weight, 0.5, units=True)
    whole = layer(50, 400, gamma=0.5, alpha=0.5, units=True).dropped()
    by_weight = layer(50, 400, gamma=0.5, alpha=0.5, units=True, whole=False).dropped()
    assert torch.equal(whole.any(1), whole.all(1)) and not (whole & ~aimed).any()
    assert abs(int(whole.any(1).sum()) - 100) < 5 * math.sqrt(200 / 4)  # 5 deviations
    parts = by_weight[aimed.any(1)].double().mean(1)
    assert not (by_weight & ~aimed).any() and parts.min() > 0 and parts.max() < 1  # all or nothing: 400 times 2^-50
    filters = TargetedConv2d(2, 60, 3, gamma=0.5, alpha=0.5, units=True).dropped().flatten(1)
    assert torch.equal(filters.any(1), filters.all(1)) and 0 < int(filters.any(1).sum()) < 30


def test_ordinary_dropout_of_weights_is_all_of_them_rescaled():
    made = layer(400, 250, gamma=1.0, alpha=0.25, rescale=True)
    thin = made.thinned()
    gone = thin == 0
    assert abs(int(gone.sum()) - 25_000) < 5 * math.sqrt(100_000 * 0.25 * 0.75)
    assert torch.allclose(thin[~gone], made.weight[~gone] / 0.75, rtol=1e-6)
    part = layer(400, 250, gamma=0.5, alpha=0.5, rescale=True)
    aimed = candidates(part.weight, 0.5)
    assert torch.equal(part.thinned()[~aimed], part.weight[~aimed])


DATA = mnist5k()


@pytest.fixture(scope="module")
def few():
    return Data("few", DATA.x_train[:100], DATA.y_train[:100], DATA.x_test[:50], DATA.y_test[:50])
