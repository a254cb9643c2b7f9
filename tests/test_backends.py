"""The contract of every backend that lies in ``solvers/backends``: certificates, bytes, dtypes, memory layouts.

Answers are compared by weak duality (the fixture ``consistent``), which holds exactly for any two of them, met or not.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import LayerProblem, Status, certify, solve
from tests.backends import BACKENDS, every_backend, inaccurate


@every_backend
@pytest.mark.parametrize("tol", [1e-3, 1e-5])
def test_meets_its_tolerance(random_problem, backend, kind, tol):
    for seed in range(3):
        problem, _ = random_problem(kind, seed)
        solution = solve(problem, backend, tol=tol)
        c = solution.certificate
        assert solution.status is Status.SOLVED and solution.backend == backend and solution.tol == tol
        assert abs(c.gap) <= tol and max(c.ball_violation, c.ceiling_violation) <= tol * problem.epsilon
        assert solution.W.shape == (problem.N, problem.M) and solution.iterations >= 1


@every_backend
@pytest.mark.parametrize("sizes", [(20, 4, 9), (15, 3, 13), (8, 5, 23)], ids=str)
@pytest.mark.parametrize("name", ["parallel", "linear", "free bias", "reweighted", "fixed support"])
def test_meets_its_tolerance_at_radius_zero(random_problem, backend, sizes, name):
    for seed in (0, 5, 11):
        problem, _ = random_problem(name, seed, *sizes, epsilon=0.0)
        solution = solve(problem, backend)
        assert abs(solution.certificate.gap) <= 1e-3  # the default tol, which a plain call promises
        assert solution.certificate.ball_violation <= 1e-3 * problem.norm


@every_backend
def test_first_cascade_layer_in_float32(random_layer, backend):
    # Nothing is trimmed yet, so the radius is 0, and W meets ball and ceilings up to the rounding of W'X in float32 alone.
    X, W = random_layer(0, 8, 5, 41, np.float32)
    problem = LayerProblem.cascade(X, X, W, 1.0)
    assert problem.epsilon == 0 and certify(problem, W).violation < 1e-6
    assert solve(problem, backend).status is Status.SOLVED


@every_backend
def test_certificate_can_be_made_again_to_the_last_bit(random_problem, backend, kind):
    problem, _ = random_problem(kind, 0)
    solution = solve(problem, backend)
    assert certify(problem, solution.W, solution.dual) == solution.certificate
    assert solution.dual.shape == (problem.M, problem.P)


@every_backend
def test_dual_has_the_right_signs(random_problem, backend, kind):
    problem, _ = random_problem(kind, 0)
    dual = solve(problem, backend, tol=1e-5).dual
    assert np.all(dual[~problem.active] >= -1e-6 * np.abs(dual).max())  # Clarabel's own feasibility is 1e-8 of the data


@every_backend
def test_no_worse_than_the_trained_weights(random_problem, backend, kind):
    problem, W = random_problem(kind, 1)
    trained = certify(problem, W)
    assert trained.violation <= 1e-12  # they are feasible, up to rounding
    certificate = solve(problem, backend).certificate
    # objective <= bound / (1 - tol) by the gap, and bound <= the optimum <= the objective of any feasible weights.
    assert certificate.objective * (1 - 1e-3) <= trained.objective
    assert certificate.objective < 0.99 * trained.objective  # at this radius a good deal can be saved


@inaccurate
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 12), min_size=3, max_size=3, unique=True),
    epsilon=st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9]),
    name=st.sampled_from(["parallel", "linear", "cascade", "reweighted", "fixed support"]),
)
def test_no_two_backends_contradict_each_other(random_problem, consistent, seed, sizes, epsilon, name):
    problem, _ = random_problem(name, seed, *sizes, epsilon)
    found = [solve(problem, backend, max_iter=300, throw=False).certificate for backend in BACKENDS]
    for a, b in itertools.combinations_with_replacement(found, 2):
        assert consistent(a, b)


@inaccurate
@given(seed=st.integers(0, 10_000), sizes=st.tuples(st.integers(2, 12), st.integers(1, 5), st.integers(2, 12)))
def test_no_two_backends_contradict_each_other_about_a_free_bias(random_problem, consistent, seed, sizes):
    problem, _ = random_problem("free bias", seed, *sizes)
    found = [solve(problem, backend, max_iter=300, throw=False).certificate for backend in BACKENDS]
    for a, b in itertools.combinations_with_replacement(found, 2):
        assert consistent(a, b)


@every_backend
def test_inputs_stay_as_they_are(random_layer, backend):
    X, W = random_layer(2, 6, 4, 15)
    arrays = {
        "X": X,
        "Y": np.maximum(W.T @ X, 0),
        "V": np.zeros((4, 15)),
        "active": W.T @ X > 0,
        "penalty": np.ones((6, 4)),
    }
    before = {name: array.tobytes() for name, array in arrays.items()}
    problem = LayerProblem(epsilon=1.0, **arrays)
    assert all(np.shares_memory(getattr(problem, name), array) for name, array in arrays.items())
    solve(problem, backend)
    assert {name: array.tobytes() for name, array in arrays.items()} == before
    assert all(array.flags.writeable for array in arrays.values())


@every_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_call_same_bytes(random_layer, backend, dtype):
    problem = LayerProblem.parallel(*random_layer(3, 10, 6, 40, dtype), 0.1)
    first, second = solve(problem, backend), solve(problem, backend)
    assert first.W.tobytes() == second.W.tobytes() and first.dual.tobytes() == second.dual.tobytes()
    assert first.iterations == second.iterations and first.certificate == second.certificate


@every_backend
@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2]], ids=["F", "strided"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_layout_does_not_matter(random_layer, consistent, backend, layout, dtype):
    X, W = random_layer(4, 9, 5, 30, dtype)
    plain = LayerProblem.parallel(X, W, 0.1)
    other = LayerProblem(layout(X), layout(plain.Y), plain.epsilon, V=layout(plain.V), active=layout(plain.active))
    tol = 1e-3 if dtype == np.float32 else 1e-5  # so that admm works in the dtype of the data and copies nothing
    answer = solve(other, backend, tol=tol)
    assert consistent(certify(plain, answer.W, answer.dual), solve(plain, backend, tol=tol).certificate)


def test_more_samples_than_a_block(random_problem, consistent):
    problem, _ = random_problem("parallel", 0, N=6, M=3, P=700)
    found = [solve(problem, backend).certificate for backend in BACKENDS]
    for a, b in itertools.combinations(found, 2):
        assert consistent(a, b) and a.meets(1e-3) and b.meets(1e-3)
