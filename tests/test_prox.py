"""The three proximal maps by their laws: optimality, the Moreau identity, nearest points, what must not be touched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from solvers.prox import project_ball, project_ceiling, soft_threshold

SHAPE = (3, 4)
MATRICES = arrays(np.float64, SHAPE, elements=st.floats(-100, 100))
MASKS = arrays(np.bool_, SHAPE)
RADII = st.floats(0, 300)
PRICES = arrays(np.float64, SHAPE, elements=st.one_of(st.floats(0, 100), st.just(np.inf)))
ROUNDING = 1e-9  # 12 products of entries up to 1e2, each good to 1e-16 * 1e4, with a wide margin


def in_ball(seed, Y, active, epsilon):
    """Return a point of the constraint set: anything off Omega, a point of the ball on it."""
    rng = np.random.default_rng(seed)
    step = np.where(active, rng.standard_normal(SHAPE), 0.0)
    length = np.linalg.norm(step)
    step *= epsilon * rng.random() / length if length > 0 else 0.0
    return np.where(active, Y + step, 100 * rng.standard_normal(SHAPE))


@given(Z=MATRICES, price=PRICES)
def test_soft_threshold_is_optimal(Z, price):
    A = soft_threshold(Z, price)
    kept = A != 0
    assert np.all(np.abs(Z)[~kept] <= price[~kept])  # 0 is in the subdifferential at 0, without any tolerance
    np.testing.assert_allclose((Z - A)[kept], price[kept] * np.sign(A[kept]), rtol=0, atol=1e-13)  # an ulp of 100
    assert np.all(A * Z >= 0)


@given(Z=MATRICES, price=PRICES)
def test_soft_threshold_moreau(Z, price):
    # The conjugate of price |.| is the indicator of [-price, price], whose prox is the projection: clipping.
    np.testing.assert_allclose(soft_threshold(Z, price) + np.clip(Z, -price, price), Z, rtol=0, atol=1e-13)  # an ulp


@given(Z=MATRICES, other=MATRICES, price=st.floats(0, 100))
def test_soft_threshold_beats_competitors(Z, other, price):
    def cost(A):
        return price * np.abs(A).sum() + 0.5 * np.sum((A - Z) ** 2)

    assert cost(soft_threshold(Z, price)) <= cost(other) * (1 + 1e-12) + ROUNDING


@given(Z=MATRICES, other=MATRICES, price=PRICES)
def test_soft_threshold_is_nonexpansive(Z, other, price):
    apart = np.linalg.norm(soft_threshold(Z, price) - soft_threshold(other, price))
    assert apart <= np.linalg.norm(Z - other) + ROUNDING


@given(Z=MATRICES)
def test_soft_threshold_at_its_ends(Z):
    np.testing.assert_array_equal(soft_threshold(Z, 0.0), Z)
    np.testing.assert_array_equal(soft_threshold(Z, np.inf), np.zeros(SHAPE))  # no NaN from inf times 0


def test_soft_threshold_broadcasts_prices_of_rows():
    Z = np.array([[3.0, -3.0], [3.0, -3.0], [3.0, -3.0]])
    np.testing.assert_array_equal(soft_threshold(Z, np.array([[0.0], [1.0], [np.inf]])), [[3, -3], [2, -2], [0, 0]])


@given(Z=MATRICES, Y=MATRICES, active=MASKS, epsilon=RADII)
def test_ball_projection_is_feasible_idempotent_and_local(Z, Y, active, epsilon):
    A = project_ball(Z, Y, active, epsilon)
    assert np.linalg.norm((A - Y)[active]) <= epsilon + ROUNDING
    np.testing.assert_array_equal(A[~active], Z[~active])
    np.testing.assert_allclose(project_ball(A, Y, active, epsilon), A, rtol=0, atol=ROUNDING)
    if np.linalg.norm((Z - Y)[active]) <= epsilon * (1 - 1e-12):  # clearly inside: nothing may move
        np.testing.assert_array_equal(A, Z)
    elif np.linalg.norm((Z - Y)[active]) > epsilon:  # outside: to the boundary, no farther
        assert np.linalg.norm((A - Y)[active]) >= epsilon - ROUNDING
    assert not np.shares_memory(A, Z)


@given(Z=MATRICES, Y=MATRICES, active=MASKS, epsilon=RADII, seed=st.integers(0, 99))
def test_ball_projection_is_nearest(Z, Y, active, epsilon, seed):
    A, B = project_ball(Z, Y, active, epsilon), in_ball(seed, Y, active, epsilon)
    # The variational inequality of a projection, stronger than being nearer than B. B has entries up to 1e2 or so.
    assert np.sum((Z - A) * (B - A)) <= ROUNDING * 100


@given(Z=MATRICES, other=MATRICES, Y=MATRICES, active=MASKS, epsilon=RADII)
def test_ball_projection_is_nonexpansive(Z, other, Y, active, epsilon):
    apart = np.linalg.norm(project_ball(Z, Y, active, epsilon) - project_ball(other, Y, active, epsilon))
    assert apart <= np.linalg.norm(Z - other) + ROUNDING


@given(Z=MATRICES, Y=MATRICES, active=MASKS)
def test_ball_of_radius_zero_is_its_center(Z, Y, active):
    np.testing.assert_allclose(project_ball(Z, Y, active, 0.0)[active], Y[active], rtol=0, atol=1e-13)  # an ulp of 200


def test_ball_projection_against_a_grid():
    Z, Y, on, epsilon = np.array([[3.0, -2.0, 9.0]]), np.array([[1.0, 1.0, 0.0]]), np.array([[True, True, False]]), 1.5
    steps = np.linspace(-epsilon, epsilon, 301)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, axis=1) <= epsilon] + Y[0, :2]
    A = project_ball(Z, Y, on, epsilon)
    distances = np.linalg.norm(grid - Z[0, :2], axis=1)
    assert np.linalg.norm(A - Z) <= distances.min() + 1e-12  # no point of the grid is nearer (rounding)
    assert np.linalg.norm(A - Z) >= distances.min() - 0.02  # and one is about as near: twice the spacing of the grid


@given(Z=MATRICES, V=MATRICES, active=MASKS)
def test_ceiling_projection_is_feasible_idempotent_and_local(Z, V, active):
    A = project_ceiling(Z, V, active)
    assert np.all(A[~active] <= V[~active])
    np.testing.assert_array_equal(A[active], Z[active])
    np.testing.assert_array_equal(project_ceiling(A, V, active), A)


@given(Z=MATRICES, V=MATRICES, active=MASKS, below=MATRICES)
def test_ceiling_projection_is_nearest(Z, V, active, below):
    A, B = project_ceiling(Z, V, active), np.where(active, below, V - np.abs(below))
    assert np.sum((Z - A) * (B - A)) <= 0  # each product is (what was cut off) * (what is below the ceiling), exactly


@given(Z=MATRICES, other=MATRICES, V=MATRICES, active=MASKS)
def test_ceiling_projection_is_nonexpansive(Z, other, V, active):
    apart = np.abs(project_ceiling(Z, V, active) - project_ceiling(other, V, active))
    assert np.all(apart <= np.abs(Z - other))  # entry by entry


@given(Z=MATRICES, active=MASKS)
def test_ceiling_zero_moreau(Z, active):
    # A cone: what the projection takes away is the projection on its polar, the nonnegative inactive matrices.
    np.testing.assert_array_equal(Z - project_ceiling(Z, 0.0, active), np.where(active, 0.0, np.maximum(Z, 0.0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_maps_keep_the_dtype(dtype):
    Z, active = np.array([[1.0, -2.0]], dtype), np.array([[True, False]])
    assert soft_threshold(Z, 0.5).dtype == dtype
    assert project_ball(Z, np.zeros_like(Z), active, 0.5).dtype == dtype
    assert project_ceiling(Z, np.zeros_like(Z), active).dtype == dtype
