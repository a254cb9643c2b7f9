"""The dual point of the largest margin: the interior-point method says yes and no where the simplex method does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory._margin import interior, simplex


def program(seed, n, k, pairs, single, size):
    """Return ``|A x| <= 1 - t``, ``x_i <= -t / 4`` for the first few i, and k equalities of a given size."""
    rng = np.random.default_rng(seed)
    A, B, one = rng.standard_normal((pairs, n)), rng.standard_normal((k, n)), np.eye(n)[:single]
    margins = np.concatenate([np.ones(2 * pairs), np.full(len(one), 0.25)])
    limits = np.concatenate([np.ones(2 * pairs), np.zeros(len(one))])
    return np.vstack([A, -A, one]), margins, limits, B, size * rng.choice([-1.0, 1.0], k)


def margin(x, rows, margins, limits, equal, target):
    """Return the largest t that x leaves, once the equalities are seen to hold: they are solved directly."""
    assert np.abs(equal @ x - target).max(initial=0) < 1e-9
    return min(np.min((limits - rows @ x) / margins), 1.0)


@settings(max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 25),
    st.integers(0, 5),
    st.integers(1, 30),
    st.integers(0, 4),
    st.sampled_from([0.3, 1.0, 3.0]),
)
def test_the_two_methods_agree(seed, n, k, pairs, single, size):
    asked = program(seed, n, k, pairs, single, size)
    x, clear = interior(*asked)
    best = simplex(*asked)
    if x is not None:
        largest = margin(best, *asked)
        assert clear and margin(x, *asked) >= 0.5 * largest - 1e-8 and largest > 0
    elif clear:
        assert best is None
    else:  # doubt is for where there is no choice left, or no room between yes and no
        assert k >= n or best is None or margin(best, *asked) < 1e-5


def test_both_answers_and_both_doubts():
    # x_1 = 1/2 and |x_1 + x_2| <= 1 - t, |x_2| <= 1 - t: at best x_2 = -1/4 and t = 3/4.
    A, one = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
    rows, ones = np.vstack([A, -A]), np.ones(4)
    x, clear = interior(rows, ones, ones, one, np.array([0.5]))
    assert clear and x[0] == pytest.approx(0.5) and -0.625 <= x[1] <= 0.125
    assert simplex(rows, ones, ones, one, np.array([0.5])) == pytest.approx([0.5, -0.25])
    for method, none in ((interior, (None, True)), (simplex, None)):
        assert method(rows, ones, ones, one, np.array([2.1])) == none  # one of the two exceeds 1
        assert method(rows, ones, ones, np.vstack([one, one]), np.array([0.5, 0.6])) == none  # equalities that contradict
    x, clear = interior(rows, ones, ones, one, np.array([1.99]))  # t = 1/200 at best, at (1.99, -0.995)
    assert clear and x == pytest.approx([1.99, -0.995], abs=0.0025)
    # Exactly no margin, and equalities that say the same twice: the simplex method's part.
    assert interior(rows, ones, ones, one, np.array([2.0])) == (None, False)
    assert simplex(rows, ones, ones, one, np.array([2.0])) == pytest.approx([2.0, -1.0])
    wide, twice = np.column_stack([rows, rows[:, :1]]), np.array([[1.0, 0.0, 0.0]] * 2)
    assert interior(wide, ones, ones, twice, np.array([0.5, 0.5])) == (None, False)
