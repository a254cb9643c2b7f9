"""The contract of every backend that lies in ``solvers/backends``: certificates, closed forms, symmetries, refusals.

Answers are compared by weak duality (the fixture ``consistent``), which holds exactly for any two of them, met or not.
"""

import importlib.util
import itertools
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import solvers.backends
from solvers import LayerProblem, ProblemError, Solution, SolverError, Status, available, certify, missing, solve
from solvers.backends._checkpoints import checkpoints
from solvers.prox import project_ball, project_ceiling

BACKENDS = available()
STARTING = [name for name in BACKENDS if name != "cvxpy"]
OPTIONS = {
    "admm": ["rho", "relaxation", "dtype", "memory_limit"],
    "cvxpy": ["solver", "solver_options", "zero_below", "memory_limit"],
    "osqp": ["n_jobs", "regularization", "memory_limit"],
    "reference": ["rho"],
    "torch": ["device", "rho", "relaxation", "dtype"],
}
every_backend = pytest.mark.parametrize("backend", BACKENDS)
# CVXPY's word on a hard instance; what it is worth is in the certificate. That it comes through at all is tested once.
inaccurate = pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")


def met(certificate, tol):
    """Tell whether a tolerance is met by a certificate made of rounded copies: one part in a million of it is let go."""
    return certificate.meets(tol * (1 + 1e-6))


def brackets(certificate, optimum):
    """Tell whether the certified interval, widened by what its violations can buy, holds a number known on paper."""
    paid = certificate.ball_violation * certificate.ball_multiplier
    paid += certificate.ceiling_violation * certificate.ceiling_multiplier
    # Weak duality is exact; what is left is the rounding of float64 sums.
    return certificate.bound * (1 - 1e-9) <= optimum <= (certificate.objective + paid) * (1 + 1e-9)


# --- the contract


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


# --- truth made first


def diagonal_solution(d, w, epsilon):
    """Return the optimal weights of one neuron on X = diag(d).

    Sample p sees only weight p. Where d_p w_p <= 0 the neuron is off, u_p = 0 respects the ceiling, and it costs least. Else
    put a_p = |d_p|, y_p = d_p w_p > 0 and z_p = d_p u_p. What remains is min sum z_p / a_p over ||z - y|| <= epsilon, z >= 0
    (a negative z_p costs more than 0, and is farther). With the multiplier 1/t of the ball, stationarity reads
    z_p = max(y_p - t / a_p, 0), so the residual is min(y_p, t / a_p), and t solves sum_p min(y_p, t / a_p)^2 = epsilon^2.
    The left side grows with t, by a quadratic between the breakpoints y_p a_p, so t is found by looking at each piece.
    """
    y, a = np.maximum(d * w, 0), np.abs(d)
    on = y > 0
    breaks = np.sort((y * a)[on])
    for low, high in itertools.pairwise([0.0, *breaks]):
        gone = on & (y * a <= low)  # already at 0
        t = np.sqrt(max(epsilon**2 - np.sum(y[gone] ** 2), 0) / np.sum(1 / a[on & ~gone] ** 2))
        if t <= high:
            break
    z = np.where(on, np.maximum(y - t / a, 0), 0)
    return z / d


@every_backend
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.8, 0.98])
def test_diagonal_inputs(backend, fraction):
    rng = np.random.default_rng(0)
    d, w = rng.uniform(0.5, 3, 9) * rng.choice([-1, 1], 9), rng.standard_normal(9)
    assert 0 < np.sum(d * w > 0) < 9  # both kinds of samples are there
    problem = LayerProblem.parallel(np.diag(d), w[:, None], fraction)
    expected = diagonal_solution(d, w, problem.epsilon)
    residual = (d * (expected - w))[d * w > 0]
    assert np.linalg.norm(residual) == pytest.approx(problem.epsilon, rel=1e-12)  # the paper's answer is on the ball
    solution = solve(problem, backend, tol=1e-5)
    assert brackets(solution.certificate, np.abs(expected).sum())
    # On a sphere, an objective within tol leaves the weights free to move by its square root.
    np.testing.assert_allclose(solution.W[:, 0], expected, rtol=0, atol=5 * np.sqrt(1e-5) * np.abs(w).max())


@every_backend
@pytest.mark.parametrize("make", [LayerProblem.parallel, LayerProblem.linear])
@pytest.mark.parametrize("w", [2.0, -0.3])
def test_one_neuron_with_one_input(backend, make, w):
    # On Omega the residual is |u - w| ||x_on||, and ||Y|| = |w| ||x_on||: so u = (1 - fraction) w, and the sign stays.
    x = np.random.default_rng(1).standard_normal((1, 8))
    solution = solve(make(x, np.array([[w]]), 0.3), backend, tol=1e-5)
    assert brackets(solution.certificate, 0.7 * abs(w))
    # violations of 1e-5 epsilon and a gap of 1e-5 both move the only weight by about 1e-5 of itself
    assert solution.W[0, 0] == pytest.approx(0.7 * w, rel=3e-5)


@every_backend
def test_one_sample(backend):
    # One neuron and one sample: the cheapest way to keep a response is through the largest input alone.
    x, w = np.array([[1.0], [-4.0], [2.0]]), np.array([[3.0], [-1.0], [0.5]])
    y = float(w[:, 0] @ x[:, 0])
    solution = solve(LayerProblem.parallel(x, w, 0.25), backend, tol=1e-5)
    assert brackets(solution.certificate, 0.75 * y / 4)
    np.testing.assert_allclose(solution.W[:, 0], [0, -0.75 * y / 4, 0], rtol=0, atol=1e-4 * y)  # a vertex: linear in tol
    assert np.all(solution.W[[0, 2]] == 0)


@every_backend
def test_from_epsilon_max_on_zero_is_the_answer(random_layer, backend):
    X, W = random_layer(0, 6, 4, 15)
    for make in (LayerProblem.parallel, LayerProblem.linear):
        problem = make(X, W, 1.5)
        for radius in (problem.epsilon_max, problem.epsilon):
            solution = solve(problem.replace(epsilon=radius), backend)
            assert solution.status is Status.SOLVED and solution.iterations == 0
            assert solution.W.tobytes() == np.zeros((6, 4)).tobytes()  # exactly 0, and not -0
    assert solve(problem.replace(epsilon=0.9 * problem.epsilon_max), backend).W.any()


@every_backend
def test_a_dead_input_gives_a_row_of_zeros(random_layer, backend):
    X, W = random_layer(1, 6, 4, 15)
    X[2] = 0
    solution = solve(LayerProblem.parallel(X, W, 0.1), backend)
    assert solution.W[2].tobytes() == np.zeros(4, solution.W.dtype).tobytes() and solution.W[1].any()


@every_backend
def test_a_neuron_that_is_never_on_gives_a_column_of_zeros(random_layer, backend):
    X, W = random_layer(1, 6, 4, 15)
    X, W[:, 2] = np.abs(X), -np.abs(W[:, 2])
    problem = LayerProblem.parallel(X, W, 0.1)
    assert not problem.active[2].any() and problem.active[1].any()
    W = solve(problem, backend).W
    assert W[:, 2].tobytes() == np.zeros(6, W.dtype).tobytes() and W.any()


@every_backend
def test_zeros_have_no_sign(random_problem, backend, kind):
    W = solve(random_problem(kind, 0)[0], backend).W
    assert not np.signbit(W[W == 0]).any()


@every_backend
def test_prices_of_inf_are_kept(random_problem, backend):
    problem, _ = random_problem("fixed support", 2)
    W = solve(problem, backend).W
    assert np.all(W[problem.penalty == np.inf] == 0) and W.any()


@every_backend
def test_free_weights_cost_nothing(random_layer, backend):
    X, W = random_layer(2, 6, 4, 15)
    certificate = solve(LayerProblem.parallel(X, W, 0.1, penalty=0.0), backend).certificate
    assert certificate.objective == certificate.bound == certificate.gap == 0


@every_backend
def test_a_layer_that_is_never_on(random_layer, backend):
    X, W = random_layer(2, 6, 4, 15)
    solution = solve(LayerProblem.parallel(np.abs(X), -np.abs(W), 0.1), backend)
    assert solution.status is Status.SOLVED and not solution.W.any()


@every_backend
def test_a_cascade_layer_that_is_never_on(random_layer, backend):
    # Nothing is active and 0 breaks the ceilings, so the radius and ||Y_active|| are 0: violations need some other unit.
    X, W = (np.abs(a) for a in random_layer(2, 6, 4, 15))
    problem = LayerProblem.cascade(1.1 * X, X, -W, 1.0)
    assert problem.epsilon == problem.norm == 0 and problem.epsilon_max == np.inf
    assert certify(problem, -W).meets(1.0)  # the trained weights are feasible; a gap of 1 is a bound of 0
    assert solve(problem, backend).status is Status.SOLVED


@every_backend
def test_inputs_that_are_all_zero(random_layer, backend):
    X, W = random_layer(3, 6, 4, 15)
    for problem in (
        LayerProblem.parallel(np.zeros_like(X), W, 0.1),
        LayerProblem.cascade(np.zeros_like(X), X, W, 1.0),  # nothing comes through the trimmed layers
    ):
        solution = solve(problem, backend)
        assert solution.status is Status.SOLVED and not solution.W.any()


@every_backend
def test_more_inputs_than_samples(random_problem, backend, kind):
    problem, _ = random_problem(kind, 1, N=20, M=4, P=9)
    solution = solve(problem, backend)
    assert solution.certificate.meets(1e-3)
    assert np.sum(solution.W != 0) < 4 * 20  # interpolation needs no more than P weights a neuron


# --- symmetries: the answer of the changed program, changed back, must satisfy the certificate of the first


def permuted_inputs(rng, X, W):
    order = rng.permutation(len(X))
    return X[order], W[order], lambda U, L: (U[np.argsort(order)], L)


def permuted_neurons(rng, X, W):
    order = rng.permutation(W.shape[1])
    return X, W[:, order], lambda U, L: (U[:, np.argsort(order)], L[np.argsort(order)])


def permuted_samples(rng, X, W):
    order = rng.permutation(X.shape[1])
    return X[:, order], W, lambda U, L: (U, L[:, np.argsort(order)])


def flipped_inputs(rng, X, W):
    signs = rng.choice([-1.0, 1.0], (len(X), 1))
    return signs * X, signs * W, lambda U, L: (signs * U, L)


def scaled_responses(rng, X, W):
    return X, 8 * W, lambda U, L: (U / 8, L)


def scaled_inputs(rng, X, W):
    return 255 * X, W, lambda U, L: (U, 255 * L)  # pixels from 0 to 255 instead of 0 to 1: Y grows, U does not


SYMMETRIES = [permuted_inputs, permuted_neurons, permuted_samples, flipped_inputs, scaled_responses, scaled_inputs]


@every_backend
@pytest.mark.parametrize("change", SYMMETRIES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("make", [LayerProblem.parallel, LayerProblem.linear])
def test_symmetry(random_layer, consistent, backend, change, make):
    X, W = random_layer(5, 8, 5, 21)
    first = make(X, W, 0.2)
    changed_X, changed_W, back = change(np.random.default_rng(5), X, W)
    plain, changed = solve(first, backend), solve(make(changed_X, changed_W, 0.2), backend)
    returned = certify(first, *back(changed.W.astype(np.float64), changed.dual.astype(np.float64)))
    assert met(returned, 1e-3) and consistent(returned, plain.certificate)
    unit = {"scaled_responses": 8}.get(change.__name__, 1)
    # The same point of the same program, so the same objective; 1e-6 is the rounding of weights kept in float32.
    assert changed.certificate.objective / unit == pytest.approx(returned.objective, rel=1e-6)
    # Both are within tol of the one optimum, from above by the gap and from below by what violations buy.
    slack = 1e-3 * max(plain.certificate.objective, returned.objective) + 1e-3 * first.epsilon * (
        plain.certificate.ball_multiplier + plain.certificate.ceiling_multiplier
    )
    assert abs(plain.certificate.objective - returned.objective) <= 2 * slack


@every_backend
@pytest.mark.parametrize("size", [1e-4, 1e-2, 1e2, 1e4])
def test_units_do_not_matter(random_layer, backend, size):
    X, W = random_layer(6, 8, 5, 21)
    options = {"rho": 1 / size} if backend == "reference" else {}  # a fixed rho has the unit 1 / W
    solution = solve(LayerProblem.parallel(size * X, size * W, 0.2), backend, **options)
    assert solution.status is Status.SOLVED


@every_backend
def test_optimum_does_not_grow_with_epsilon(random_layer, backend):
    X, W = random_layer(7, 8, 5, 21)
    found = [solve(LayerProblem.parallel(X, W, epsilon), backend) for epsilon in (0.02, 0.1, 0.3, 0.6, 0.9)]
    for tight, loose in itertools.pairwise(s.certificate for s in found):
        # Weights of the smaller ball are in the larger one, so weak duality applies to them there.
        paid = tight.ball_violation * loose.ball_multiplier + tight.ceiling_violation * loose.ceiling_multiplier
        assert loose.bound * (1 - 1e-9) <= tight.objective + paid  # rounding of sums
        assert loose.objective < tight.objective  # these radii are far apart, and 1e-3 is what is not known


@every_backend
def test_one_more_sample_at_radius_zero_cannot_lower_the_optimum(random_layer, backend):
    X, W = random_layer(8, 8, 3, 6)
    few, more = (LayerProblem.linear(X[:, :P], W, 0.0) for P in (5, 6))
    fewer, longer = solve(few, backend), solve(more, backend)
    seen = certify(few, longer.W)  # weights that fit all samples, judged on the first ones
    paid = seen.ball_violation * fewer.certificate.ball_multiplier
    paid += seen.ceiling_violation * fewer.certificate.ceiling_multiplier
    assert seen.objective + paid >= fewer.certificate.bound * (1 - 1e-9)  # rounding of sums
    assert seen.objective > 1.01 * fewer.certificate.objective  # here it raises it by more than the tolerances hide


# --- warm starts


def test_who_takes_a_start():
    assert {name for name in BACKENDS if importlib.import_module(_module_of(name)).TAKES_START} == set(STARTING)


def _module_of(backend):
    """Return the module name of a backend; a file may carry an underscore to stay off its library's name."""
    plain = f"solvers.backends.{backend}"
    return plain if importlib.util.find_spec(plain) else f"{plain}_"


@pytest.mark.parametrize("backend", STARTING)
def test_warm_start_from_a_solution(random_problem, consistent, backend, kind):
    problem, _ = random_problem(kind, 3)
    cold = solve(problem, backend, tol=1e-4)
    again = solve(problem, backend, tol=1e-4, start=cold)
    assert again.iterations <= cold.iterations
    # Optimal weights and dual are a fixed point of the iteration: from a hundred times nearer, the first look is enough.
    fine = solve(problem, backend, tol=1e-6)
    warm = solve(problem, backend, tol=1e-4, start=fine)
    assert warm.iterations <= cold.checks[0].iteration and warm.iterations < cold.iterations
    for solution in (again, warm):
        assert met(solution.certificate, 1e-4) and consistent(solution.certificate, cold.certificate)


@pytest.mark.parametrize("backend", STARTING)
def test_warm_start_from_a_neighbor(random_layer, consistent, backend):
    X, W = random_layer(9, 12, 5, 40)
    problem, neighbor = LayerProblem.parallel(X, W, 0.1), LayerProblem.parallel(X, W, 0.101)
    cold = solve(problem, backend, tol=1e-5)
    warm = solve(problem, backend, tol=1e-5, start=solve(neighbor, backend, tol=1e-5))
    assert warm.iterations < cold.iterations  # a radius 1 % away: not a law, but what a path of radii is built on
    assert consistent(warm.certificate, cold.certificate)


@pytest.mark.parametrize("backend", STARTING)
def test_warm_start_from_other_samples_and_from_weights(random_layer, consistent, backend):
    X, W = random_layer(9, 12, 5, 40)
    problem = LayerProblem.parallel(X, W, 0.1)
    cold = solve(problem, backend)
    elsewhere = solve(LayerProblem.parallel(X[:, :30], W, 0.1), backend)  # its dual does not fit and is left behind
    for start in (elsewhere, W, W.tolist(), np.asfortranarray(W)):
        warm = solve(problem, backend, start=start)
        begun = [solve(problem, backend, max_iter=1, start=s, throw=False).certificate for s in (start, None)]
        assert begun[0] != begun[1]  # it did start elsewhere
        assert met(warm.certificate, 1e-3) and consistent(warm.certificate, cold.certificate)
    zero = solve(problem, backend, start=np.zeros_like(W))  # which is where a cold start begins
    assert zero.W.tobytes() == cold.W.tobytes() and zero.iterations == cold.iterations


@pytest.mark.parametrize("backend", STARTING)
def test_start_is_left_alone(random_problem, backend):
    problem, W = random_problem("parallel", 0)
    cold = solve(problem, backend)
    before = W.tobytes(), cold.W.tobytes(), cold.dual.tobytes()
    solve(problem, backend, start=cold)
    solve(problem, backend, start=W)
    assert before == (W.tobytes(), cold.W.tobytes(), cold.dual.tobytes())


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in STARTING])
def test_start_is_refused(random_problem, backend):
    problem, W = random_problem("parallel", 0)
    with pytest.raises(SolverError, match=f"backend '{backend}' takes no warm start; leave start out, or use 'admm'"):
        solve(problem, backend, start=W)


# --- refusals


def test_unknown_backend(random_problem):
    with pytest.raises(SolverError, match=f"no backend is called 'nonesuch'; there are {', '.join(BACKENDS)}"):
        solve(random_problem("parallel", 0)[0], "nonesuch")


@every_backend
def test_missing_library(random_problem, monkeypatch, backend):
    module = importlib.import_module(_module_of(backend))
    real = importlib.util.find_spec
    hidden = module.REQUIRES[0]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == hidden else real(name, *rest))
    advice = f"needs {hidden}: pip install {module.INSTALL}"
    assert missing()[backend] == advice and backend not in available()
    with pytest.raises(SolverError, match=re.escape(f"backend '{backend}' {advice}. Usable now: {', '.join(available())}")):
        solve(random_problem("parallel", 0)[0], backend)


def test_nothing_is_missing_or_both_present_and_missing():
    assert not set(available()) & set(missing())
    assert {"admm", "cvxpy", "reference"} <= set(available()) | set(missing())


@every_backend
def test_unknown_option(random_problem, backend):
    known = ", ".join(OPTIONS[backend]) if backend in OPTIONS else ".*"
    with pytest.raises(SolverError, match=f"backend '{backend}' has no option 'nonsense'; its options are {known}$"):
        solve(random_problem("parallel", 0)[0], backend, nonsense=1)


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        ("admm", {"rho": 0.0}, "rho must be positive; got 0"),
        ("admm", {"rho": -1.0}, "rho must be positive; got -1"),
        ("admm", {"rho": np.nan}, "rho must be positive; got nan"),
        ("admm", {"rho": np.inf}, "rho must be .*; got inf"),
        ("admm", {"relaxation": 0.0}, "relaxation must be between 0 and 2, both excluded; got 0"),
        ("admm", {"relaxation": 2.0}, "relaxation must be between 0 and 2, both excluded; got 2"),
        ("admm", {"relaxation": np.nan}, "relaxation must be between 0 and 2"),
        ("admm", {"dtype": "float16"}, "dtype must be 'float32' or 'float64'; got 'float16'"),
        ("reference", {"rho": 0.0}, "rho must be positive; got 0"),
        ("reference", {"rho": np.nan}, "rho must be positive; got nan"),
        ("reference", {"rho": np.inf}, "rho must be .*; got inf"),
        ("osqp", {"n_jobs": 0}, "n_jobs must be a whole number, at least 1; got 0"),
        ("osqp", {"n_jobs": 1.5}, "n_jobs must be a whole number, at least 1; got 1.5"),
        ("osqp", {"regularization": 0.0}, "regularization, the lambda of 2017, must be positive; got 0"),
        ("osqp", {"regularization": np.nan}, "regularization, the lambda of 2017, must be positive; got nan"),
        ("osqp", {"memory_limit": 1.0}, ".* over memory_limit=.* Use backend='admm', fewer samples or"),
        ("cvxpy", {"solver": "nonesuch"}, "CVXPY finds no solver 'nonesuch'; installed: .*CLARABEL"),
        ("cvxpy", {"memory_limit": 1.0}, ".* over memory_limit=.* Use backend='admm', fewer samples or"),
    ],
)
def test_refused_with_a_reason(random_problem, backend, options, message):
    if backend not in BACKENDS:
        pytest.skip(missing()[backend])
    with pytest.raises(SolverError, match=f"backend '{backend}' refuses this problem: {message}"):
        solve(random_problem("parallel", 0)[0], backend, **options)


@every_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tol": 0.0}, "tol must be a positive number; got 0"),
        ({"tol": -1e-3}, "tol must be a positive number; got -0.001"),
        ({"tol": np.nan}, "tol must be a positive number; got nan"),
        ({"tol": np.inf}, "tol must be a positive number; got inf"),
        ({"max_iter": 0}, "max_iter must be a whole number, at least 1; got 0"),
        ({"max_iter": -5}, "max_iter must be a whole number, at least 1; got -5"),
        ({"max_iter": 2.5}, "max_iter must be"),
        ({"max_iter": np.nan}, "max_iter must be"),
        ({"start": np.zeros((5, 8))}, r"start must be \(N, M\) = \(8, 5\), or a Solution of that shape; got \(5, 8\)"),
        ({"start": np.full((8, 5), np.nan)}, "start has 40 entries that are NaN or Inf"),
    ],
)
def test_arguments_that_make_no_sense(random_problem, backend, arguments, message):
    with pytest.raises(ProblemError, match=message):
        solve(random_problem("parallel", 0)[0], backend, **arguments)


def test_only_a_problem_is_solved(random_layer):
    with pytest.raises(
        ProblemError, match=r"solve takes a LayerProblem; got ndarray\. LayerProblem\.from_activations makes"
    ):
        solve(random_layer(0, 4, 3, 5)[0])


@every_backend
def test_one_iteration_is_not_enough(random_problem, backend):
    problem, _ = random_problem("parallel", 0)
    solution = solve(problem, backend, max_iter=1, throw=False)
    assert solution.status is Status.UNMET and solution.iterations == 1 and not solution.certificate.meets(1e-3)
    number = r"-?[0-9.]+e[+-][0-9]+"
    with pytest.raises(
        SolverError,
        match=f"backend '{backend}' did not meet tol 0.001 in 1 iterations: gap {number}, ball violation {number} and "
        rf"ceiling violation {number} \(allowed: {number}\).*raise max_iter.*throw=False returns the answer",
    ):
        solve(problem, backend, max_iter=1)


@every_backend
def test_a_program_without_solution_is_never_solved(backend):
    # Inputs that are all 0 can give no response but 0.
    problem = LayerProblem(np.zeros((3, 5)), np.ones((2, 5)), 0.1)
    with pytest.raises(SolverError, match=r"cannot solve this problem, nor can any other: .* at least 3\.16228 for any"):
        solve(problem, backend, max_iter=100)


# --- what is special to one backend


def test_solver_of_cvxpy_can_be_chosen(random_problem, consistent, kind):
    pytest.importorskip("cvxpy")
    pytest.importorskip("scs")
    problem, _ = random_problem(kind, 4)
    clarabel, scs = solve(problem, "cvxpy", tol=1e-4), solve(problem, "cvxpy", tol=1e-4, solver="SCS")
    assert consistent(clarabel.certificate, scs.certificate)
    assert clarabel.message.startswith("CLARABEL: optimal") and scs.message.startswith("SCS: optimal")
    assert clarabel.iterations != scs.iterations  # they are two solvers


def test_options_of_the_conic_solver_are_passed_on(random_problem):
    pytest.importorskip("cvxpy")
    problem, _ = random_problem("parallel", 4)
    rough = {"tol_gap_abs": 1e-2, "tol_gap_rel": 1e-2, "tol_feas": 1e-2}
    loose = solve(problem, "cvxpy", throw=False, solver_options=rough)
    assert loose.iterations < solve(problem, "cvxpy").iterations


def test_cvxpy_guards_the_memory_before_it_works():
    pytest.importorskip("cvxpy")
    from solvers.backends import cvxpy_

    # LeNet-300-100's first layer on 5,000 images, as arrays that take no memory. Asked, not solved: were the guard broken,
    # a solve would take the machine down with it.
    problem = LayerProblem(np.broadcast_to(1.0, (785, 5000)), np.broadcast_to(1.0, (300, 5000)), 0.1)
    reason = cvxpy_.refuses(problem)
    assert re.search(r"would need about \d{3} GB, over memory_limit=8 GB\. Use backend='admm', fewer samples or", reason)
    assert cvxpy_.refuses(problem, memory_limit=1e12) is None


@pytest.mark.skipif("admm" not in BACKENDS, reason="admm needs numba and scipy")
def test_admm_reaches_a_fine_tolerance_in_float64(random_problem):
    for kind in ("parallel", "linear", "cascade", "free bias"):
        problem, _ = random_problem(kind, 5)
        solution = solve(problem, "admm", tol=1e-6)
        assert solution.certificate.meets(1e-6) and solution.W.dtype == np.float64


@pytest.mark.skipif("admm" not in BACKENDS, reason="admm needs numba and scipy")
def test_admm_chooses_its_precision_by_the_tolerance(random_problem):
    problem, _ = random_problem("parallel", 5)
    assert solve(problem, "admm", tol=1e-3).W.dtype == np.float32
    assert solve(problem, "admm", tol=1e-5).W.dtype == np.float64
    assert solve(problem, "admm", tol=1e-3, dtype="float64").W.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_admm_kernels_are_the_proximal_maps(dtype):
    pytest.importorskip("numba")
    from solvers.backends import _kernels

    rng = np.random.default_rng(0)
    g, s, Y, V = rng.standard_normal((4, 5, 11)).astype(dtype)
    on, epsilon = rng.random((5, 11)) < 0.5, 0.7
    Z, T = 2 * g - s, np.where(on, Y, V)
    p = project_ceiling(project_ball(Z, Y, on, epsilon), V, on)
    close = {"rtol": 0, "atol": 50 * np.finfo(dtype).eps}  # numbers of size 10, a few operations each
    squares = np.empty(5)
    _kernels.ball_squares(g, s, T, on, squares)
    distance = np.sqrt(squares.sum())
    assert distance == pytest.approx(np.linalg.norm((Z - Y)[on]), rel=1e-5 if dtype == np.float32 else 1e-13)  # its ulp
    shrink = dtype(epsilon / distance)
    dual = g.copy()
    _kernels.multipliers(dual, s, T, on, shrink, dtype(3))
    np.testing.assert_allclose(dual, 3 * (Z - p), **close)
    state, gap = s.copy(), g.copy()
    _kernels.step(gap, state, T, on, shrink, dtype(1.5))
    np.testing.assert_allclose(state, s + dtype(1.5) * (p - g), **close)
    np.testing.assert_allclose(gap, state - g, **close)


def test_checkpoints_grow_so_that_judging_stays_cheap():
    series = list(itertools.islice(checkpoints(20, 1.15, 5), 60))
    assert series[0] == 20 and all(b - a >= 5 for a, b in itertools.pairwise(series))
    assert all(b <= max(a + 5, 1.15 * a) for a, b in itertools.pairwise(series))
    assert series[-1] > 10_000  # so a run of 10,000 iterations is judged fewer than 60 times


# --- the record


@pytest.mark.parametrize("backend", STARTING)
def test_record_of_the_judge(random_problem, backend):
    problem, _ = random_problem("parallel", 6, epsilon=0.0)  # where every backend needs more than one look
    seen = []
    solution = solve(problem, backend, tol=1e-5, callback=seen.append)
    assert tuple(seen) == solution.checks and len(seen) > 1
    iterations, seconds = [c.iteration for c in seen], [c.seconds for c in seen]
    assert iterations == sorted(set(iterations)) and iterations[-1] == solution.iterations
    assert seconds == sorted(seconds) and seconds[-1] <= solution.seconds
    assert [c.certificate.meets(1e-5) for c in seen] == [False] * (len(seen) - 1) + [True]  # stops at the first that does


@pytest.mark.parametrize("backend", STARTING)
def test_a_callback_can_end_the_solve(random_problem, backend):
    class EnoughError(Exception):
        pass

    def stop(check):
        raise EnoughError(check.iteration)

    problem, _ = random_problem("parallel", 6)
    first = solve(problem, backend, tol=1e-5).checks[0].iteration
    with pytest.raises(EnoughError, match=f"^{first}$"):
        solve(problem, backend, tol=1e-5, callback=stop)


def test_solution_is_frozen_and_says_what_matters(random_problem):
    solution = solve(random_problem("parallel", 6)[0], "reference")
    assert isinstance(solution, Solution)
    with pytest.raises(AttributeError, match="cannot assign"):
        solution.status = Status.UNMET
    assert re.fullmatch(
        r"Solution\(SOLVED, reference: kept [\d.]+%, objective [\d.]+, gap \S+, violation \S+, \d+ iterations, [\d.]+ s\)",
        repr(solution),
    )


# --- registration


@pytest.fixture
def drop_in(monkeypatch, tmp_path):
    """Return ``drop(file name, text)``, which adds a file to the package of backends for one test."""
    monkeypatch.setattr(solvers.backends, "__path__", [*solvers.backends.__path__, str(tmp_path)])
    dropped = []

    def drop(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        dropped.append(name)

    yield drop
    for name in dropped:
        sys.modules.pop(f"solvers.backends.{name}", None)
        vars(solvers.backends).pop(name, None)


BACKEND = """
from solvers.backends import reference
from solvers.solution import Answer

REQUIRES = {requires}
INSTALL = "nothing"
TAKES_START = False


def refuses(problem):
    return None if problem.P < 100 else "more than 99 samples"


def warm_up():
    pass


def solve(problem, *, judge, max_iter, start):
    {body}
"""
DELEGATES = "return reference.solve(problem, judge=judge, max_iter=max_iter, start=None)"
LIES = "return Answer(problem.X[:, : problem.M] * 0.0, None, 1, 'optimal')"


def test_dropping_a_file_in_registers_it(random_problem, drop_in):
    drop_in("tiny", BACKEND.format(requires="()", body=DELEGATES))
    drop_in("_helper", "raise RuntimeError('a helper is nobody backend')")
    assert available() == sorted([*BACKENDS, "tiny"])
    problem, _ = random_problem("parallel", 0)
    solution, same = solve(problem, "tiny"), solve(problem, "reference")
    assert solution.backend == "tiny" and solution.status is Status.SOLVED
    assert solution.W.tobytes() == same.W.tobytes() and solution.certificate == same.certificate
    with pytest.raises(SolverError, match="has no option 'rho'; its options are none"):
        solve(problem, "tiny", rho=1.0)
    with pytest.raises(SolverError, match="backend 'tiny' refuses this problem: more than 99 samples"):
        solve(random_problem("parallel", 0, P=100)[0], "tiny")


def test_a_trailing_underscore_is_dropped_and_missing_libraries_are_named(drop_in):
    drop_in("nonesuch_", BACKEND.format(requires="('nonesuch', 'numpy')", body=DELEGATES))
    assert missing()["nonesuch"] == "needs nonesuch: pip install nothing"
    assert "nonesuch" not in available()


def test_a_backend_that_says_optimal_is_not_believed(random_problem, drop_in):
    drop_in("liar", BACKEND.format(requires="()", body=LIES))
    problem, _ = random_problem("parallel", 0)
    solution = solve(problem, "liar", throw=False)
    assert solution.status is Status.UNMET and solution.message == "optimal"
    with pytest.raises(SolverError, match=r"backend 'liar' did not meet tol 0\.001"):
        solve(problem, "liar")


def test_what_is_known_to_be_zero_is_made_zero(random_layer, drop_in):
    drop_in("rounding", BACKEND.format(requires="()", body="return Answer(problem.X[:, : problem.M] * 0.0 - 1e-9, None, 1)"))
    X, W = random_layer(1, 6, 4, 15)
    X[2], X, W[:, 3] = 0, np.abs(X), -np.abs(W[:, 3])
    X[2] = 0
    mask = np.ones((6, 4), bool)
    mask[4, 0] = False
    solution = solve(LayerProblem.parallel(X, W, 0.1).restricted(mask), "rounding", throw=False)
    expected = np.full((6, 4), -1e-9)
    expected[2], expected[:, 3], expected[4, 0] = 0, 0, 0
    np.testing.assert_array_equal(solution.W, expected)
