"""Bounds from held-out samples: exact in ranks, whatever the distribution, and no wider than they must be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from solvers import ProblemError
from theory import new_sample_bound, rate_bound, share_bound

ERRORS = st.lists(st.floats(0, 1e6), min_size=1, max_size=60)
CONFIDENCE = st.floats(0.05, 0.99)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), CONFIDENCE)
def test_of_n_and_1_samples_each_left_out_enough_are_covered(errors, confidence):
    # The proof of split conformal prediction without chance: the new sample is each of them in turn. Ties are allowed.
    covered = [error <= new_sample_bound(errors[:i] + errors[i + 1 :], confidence) for i, error in enumerate(errors)]
    assert sum(covered) >= len(errors) * confidence - 1e-6
    if len(set(errors)) == len(errors):  # and no more than that
        assert sum(covered) == math.ceil(len(errors) * confidence - 1e-9)


@given(ERRORS, CONFIDENCE, st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_laws_of_the_order_statistics(errors, confidence, factor, random):
    moved = list(errors)
    random.shuffle(moved)
    for bound in (new_sample_bound, share_bound):
        value = bound(errors, confidence)
        assert bound(moved, confidence) == value
        assert bound([factor * e for e in errors], confidence) == (factor * value if value < np.inf else np.inf)
        assert bound([e + 1 for e in errors], confidence) >= value
        assert bound(errors, min(confidence + 0.05, 0.999)) >= value
        assert value == np.inf or value in errors
    assert share_bound(errors, 0.9, confidence) <= share_bound(errors, 0.9, min(confidence + 0.05, 0.999))


@pytest.mark.parametrize("n", [59, 60, 200, 1000])
@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_the_tolerance_limit_is_the_least_order_statistic_that_will_do(n, share, confidence):
    # The distribution function at the k-th of n order statistics is Beta(k, n + 1 - k), whatever the distribution.
    place = share_bound(np.arange(1, n + 1), share, confidence)
    if place < np.inf:
        assert beta.sf(share, place, n + 1 - place) >= confidence
    last = n if place == np.inf else place - 1
    assert beta.sf(share, last, n + 1 - last) < confidence


def test_too_few_samples_bound_nothing():
    assert new_sample_bound(np.ones(18)) == np.inf and new_sample_bound(np.ones(19)) == 1
    assert share_bound(np.ones(58)) == np.inf and share_bound(np.ones(59)) == 1


@given(st.integers(1, 2000), st.data(), CONFIDENCE)
def test_the_rate_is_where_so_few_events_become_unlikely(n, data, confidence):
    count = data.draw(st.integers(0, n))
    rate = rate_bound(count, n, confidence)
    assert rate >= count / n or confidence < 0.5
    if count == n:
        assert rate == 1
    else:
        assert binom.cdf(count, n, rate) == pytest.approx(1 - confidence, rel=1e-6)
        assert rate_bound(count + 1, n, confidence) > rate


@pytest.mark.parametrize("draw", ["cauchy", "lognormal", "ties"])
def test_coverage_over_200_splits(draw):
    rng, n, splits, confidence = np.random.default_rng(7), 400, 200, 0.9
    pool = {
        "cauchy": lambda size: np.abs(rng.standard_cauchy(size)),
        "lognormal": lambda size: rng.lognormal(0, 3, size),
        "ties": lambda size: rng.integers(0, 40, size).astype(float),
    }[draw](4000)
    one, share, rate, threshold = [], [], [], np.quantile(pool, 0.97)
    for _ in range(splits):
        order = rng.permutation(len(pool))
        held, new = pool[order[:n]], pool[order[n:]]
        one.append(np.mean(new <= new_sample_bound(held, confidence)))
        share.append(np.mean(pool <= share_bound(held, confidence, confidence)) >= confidence)
        rate.append(np.mean(pool > threshold) <= rate_bound(int(np.sum(held > threshold)), n, confidence))
    # Means of 200: the coverage of a split has a deviation of 0.015, sqrt(0.9 0.1 / 400); a yes or no one of 0.3.
    assert np.mean(one) >= confidence - 3 * 0.015 / np.sqrt(splits)
    assert draw == "ties" or np.mean(one) <= confidence + 1 / n + 3 * 0.015 / np.sqrt(splits)
    assert min(np.mean(share), np.mean(rate)) >= confidence - 3 * 0.3 / np.sqrt(splits)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: new_sample_bound([]), "at least one"),
        (lambda: new_sample_bound([0.1, -0.1]), "0 or more"),
        (lambda: share_bound([0.1, float("nan")]), "must be numbers"),
        (lambda: share_bound(np.ones((2, 2))), r"shape \(2, 2\)"),
        (lambda: new_sample_bound([0.1], 1.0), "confidence must be over 0 and below 1; got 1"),
        (lambda: share_bound([0.1], 0.0), "share must be over 0"),
        (lambda: share_bound([0.1], 0.5, 0.0), "confidence must be over 0"),
        (lambda: rate_bound(3, 2), "got 3 of 2"),
        (lambda: rate_bound(0, 0), "n at least 1"),
        (lambda: rate_bound(0, 1, float("nan")), "got nan"),
    ],
)
def test_bad_numbers_are_refused(call, words):
    with pytest.raises(ProblemError, match=words):
        call()
