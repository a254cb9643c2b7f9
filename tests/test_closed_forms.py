"""Every backend against problems whose answer is known on paper, and against layers where little or nothing is on."""

import itertools

import numpy as np
import pytest

from solvers import LayerProblem, Status, certify, solve
from tests.backends import brackets, every_backend


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
