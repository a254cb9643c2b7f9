"""The least error: a bound that no weights get below and least squares reach, and what follows where it is above epsilon."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nettrim import retrain, trim
from solvers import (
    LayerProblem,
    ProblemError,
    SolverError,
    Status,
    available,
    certify,
    feasibility,
    least_error,
    reweighted,
    solve,
)
from solvers.feasibility import out_of_reach
from solvers.refine import refine

every_backend = pytest.mark.parametrize("backend", available())
seeds = st.integers(0, 10_000)


def ball(problem, U):
    return certify(problem, U).ball


def by_numpy(problem):
    """Return the least-squares value neuron by neuron, from an SVD of all samples at once."""
    allowed = np.broadcast_to(problem.penalty < np.inf, (problem.N, problem.M))
    total = 0.0
    for j in range(problem.M):
        on = problem.active[j]
        A, y = problem.X[allowed[:, j]][:, on].T.astype(float), problem.Y[j, on].astype(float)
        total += np.sum((y - A @ np.linalg.lstsq(A, y, rcond=None)[0]) ** 2) if A.size else np.sum(y**2)
    return np.sqrt(total)


def noisy(seed, activation, N=7, M=4, P=60, dtype=np.float64):
    """Return a program whose responses no weights give; some weights are priced inf, an input is 0, two are the same."""
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((N, P)), rng.standard_normal((M, P))
    X[1], X[2] = 0, 3 * X[3]
    Y = Y if activation == "linear" else np.maximum(Y, 0)
    penalty = np.where(rng.random((N, M)) < 0.2, np.inf, 1.0)
    return LayerProblem(X.astype(dtype), Y.astype(dtype), 0.1, penalty=penalty, activation=activation)


@pytest.mark.parametrize("activation", ["relu", "linear"])
@given(seed=seeds, size=st.floats(-3, 3))
def test_no_weights_get_below_it(activation, seed, size):
    problem = noisy(seed, activation)
    U = 10**size * np.random.default_rng(seed + 1).standard_normal((problem.N, problem.M))
    assert least_error(problem) <= ball(problem, np.where(problem.penalty == np.inf, 0.0, U))


def exactly(X, y):
    """Return the least-squares value of one neuron in rational arithmetic."""
    X, y = [[Fraction(float(x)) for x in row] for row in X], [Fraction(float(v)) for v in y]
    rows = [[dot(a, b) for b in X] + [dot(a, y)] for a in X]
    for i, pivot in enumerate(rows):
        for row in rows:
            if row is not pivot:
                factor = row[i] / pivot[i]
                row[:] = [a - factor * b for a, b in zip(row, pivot, strict=True)]
    weights = [row[-1] / row[i] for i, row in enumerate(rows)]
    return float(dot(y, y) - sum(w * dot(a, y) for w, a in zip(weights, X, strict=True))) ** 0.5


def dot(a, b):
    return sum(p * q for p, q in zip(a, b, strict=True))


@given(seed=seeds, power=st.floats(-12, 0))
def test_rounding_never_lifts_it_over_the_truth(seed, power):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((3, 6)), rng.standard_normal((1, 6))
    X[1] = X[0] + 10**power * rng.standard_normal(6)  # two inputs that are nearly the same
    least, truth = least_error(LayerProblem(X, y, 0.1, activation="linear")), exactly(X, y[0])
    assert (0.9 * truth if power > -10 else 0) <= least <= truth


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("P", [3, 60, 5000])  # fewer samples than inputs, one block, several
def test_least_squares_reach_it(activation, dtype, P):
    problem = noisy(P, activation, P=P, dtype=dtype)
    least = by_numpy(problem)
    # It gives away the rounding, 4 N eps = 6e-15 of ||Y|| and of the weights, which are of size 1 but where two inputs are
    # the same: in float32 they differ by 6e-8, so that weights of 1e8 make use of it.
    assert least * (1 - (1e-12 if dtype == np.float64 else 1e-6)) - 1e-12 * problem.norm <= least_error(problem)
    assert least_error(problem) <= least * (1 + 1e-12)


@given(seed=seeds, power=st.floats(-15, 15), which=st.integers(0, 6))
def test_units_of_responses_and_of_an_input_do_not_matter(seed, power, which):
    problem, scale = noisy(seed, "relu"), 10**power
    X = problem.X.copy()
    X[which] *= scale
    assert least_error(problem.replace(X=X)) == pytest.approx(least_error(problem), rel=1e-9)
    assert least_error(problem.replace(Y=problem.Y * scale)) == pytest.approx(scale * least_error(problem), rel=1e-9)


@given(seed=seeds)
def test_feasible_programs_are_never_called_infeasible(random_problem, kind, seed):
    problem, W = random_problem(kind, seed)
    nearest = problem.replace(epsilon=ball(problem, W))  # 0 but for rounding in most of them
    assert out_of_reach(nearest) is None and out_of_reach(nearest, W) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("condition", [1e3, 1e7, 1e12, 1e15])
def test_ill_conditioned_inputs_are_no_reason_to_claim(dtype, condition):
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((20, 300)), 2, axis=0)
    X[1::2] += rng.standard_normal((20, 300)) / condition
    W = rng.standard_normal((40, 6))
    for make in (LayerProblem.parallel, LayerProblem.linear):
        assert out_of_reach(make(X.astype(dtype), W.astype(dtype), 0.0)) is None


@pytest.mark.parametrize("forbidden", [True, False])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_weights_that_are_known_change_no_answer(activation, forbidden):
    problem = noisy(5, activation)
    problem = problem if forbidden else problem.replace(penalty=1.0)
    least = least_error(problem)
    for U in (np.zeros((7, 4)), np.full((7, 4), 1e200), np.random.default_rng(0).standard_normal((7, 4))):
        U = np.where(problem.penalty == np.inf, 0.0, U)
        assert out_of_reach(problem.replace(epsilon=least * 0.99), U) == pytest.approx(least, rel=1e-12)
        assert out_of_reach(problem.replace(epsilon=least * 1.01), U) is None


def test_a_few_steps_for_all_neurons_spare_a_factorization_for_each(random_problem, monkeypatch):
    problem, _ = random_problem("parallel", 1)
    monkeypatch.setattr(feasibility, "_neurons", None)
    solution = solve(problem, "reference", max_iter=3, throw=False)
    assert solution.certificate.ball > problem.epsilon
    assert solution.status is Status.UNMET and solution.least_error is None


@given(seed=seeds, size=st.floats(-1, 1))
def test_those_steps_lead_nowhere_where_nothing_is(seed, size):
    problem = noisy(seed, "relu").replace(penalty=1.0)
    problem = problem.replace(epsilon=0.999 * least_error(problem))
    U = 10**size * np.random.default_rng(seed + 1).standard_normal((problem.N, problem.M))
    assert not feasibility._mended(problem, U, feasibility._squared_errors(problem, U), problem.epsilon)
    assert feasibility._mended(problem, U, feasibility._squared_errors(problem, U), ball(problem, U) / 1.01)


@pytest.mark.parametrize("unit", [1e-160, 1e160])
def test_units_whose_squares_are_not_finite_end_the_steps_without_a_warning(unit):
    problem = noisy(1, "relu").replace(penalty=1.0)
    problem = problem.replace(X=problem.X * unit, epsilon=0.5 * least_error(problem))
    U = np.random.default_rng(0).standard_normal((problem.N, problem.M)) / unit
    assert not feasibility._mended(problem, U, feasibility._squared_errors(problem, U), problem.epsilon)


def test_no_neuron_is_looked_at_that_cannot_matter(random_problem, monkeypatch):
    problem, W = random_problem("parallel", 1)
    monkeypatch.setattr(feasibility, "_mended", lambda *arguments: False)
    looked = []
    real = feasibility._neurons
    monkeypatch.setattr(feasibility, "_neurons", lambda *arguments: looked.append(arguments[2]) or real(*arguments))
    U = W.copy()
    U[:, 2] *= 1 + 2 * problem.epsilon / problem.norm  # the others keep their responses
    U[:, 3] *= 2
    assert ball(problem, U) > problem.epsilon
    assert out_of_reach(problem, U) is None and looked == [[3]]
    assert out_of_reach(problem.replace(epsilon=0.0), U) is None and len(looked) == 1 + 2


def test_a_neuron_that_is_never_on_or_may_have_no_weight():
    X, Y = np.ones((2, 3)), np.array([[0.0, 0, 0], [1, 2, 2]])
    problem = LayerProblem(X, Y, 0.1)
    assert least_error(problem) == pytest.approx(np.sqrt(2 / 3), rel=1e-12)  # from the mean, 5 / 3
    assert least_error(problem.restricted(np.zeros((2, 2), bool))) == pytest.approx(3, rel=1e-12)


# --- what the solvers say


@every_backend
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_every_backend_names_a_program_without_solution(backend, activation):
    problem = noisy(1, activation)
    least = least_error(problem)
    problem = problem.replace(epsilon=0.9 * least)
    solution = solve(problem, backend, max_iter=30, throw=False)
    assert solution.status is Status.INFEASIBLE and solution.least_error == pytest.approx(least, rel=1e-12)
    assert "INFEASIBLE" in repr(solution)
    with pytest.raises(SolverError, match=rf"is at least {least:.6g} for any weights U, and epsilon is .* Raise epsilon"):
        solve(problem, backend, max_iter=30)


@every_backend
def test_ceilings_that_cannot_be_kept_are_unmet_for_all_that_is_proved(backend):
    # u >= 0.9 for the ball, u <= -1 for the ceiling.
    problem = LayerProblem(np.ones((1, 2)), np.array([[1.0, 0]]), 0.1, V=np.array([[0.0, -1]]))
    solution = solve(problem, backend, max_iter=30, throw=False)
    assert solution.status is Status.UNMET and solution.least_error is None
    assert backend != "cvxpy" or solution.message == "CLARABEL: infeasible"


def test_just_above_the_least_error_there_is_a_solution():
    problem = noisy(2, "linear")
    problem = problem.replace(epsilon=1.001 * least_error(problem))
    assert solve(problem, "admm").status is Status.SOLVED


def test_one_that_missed_by_too_few_iterations_is_not_called_infeasible(random_problem, kind):
    problem, _ = random_problem(kind, 3)
    for backend in available():
        solution = solve(problem, backend, max_iter=1, throw=False)
        assert solution.status is not Status.INFEASIBLE and solution.least_error is None


def test_what_is_infeasible_stays_so_when_reweighted_or_refitted():
    problem = noisy(3, "linear")
    problem = problem.replace(epsilon=0.5 * least_error(problem))
    (only,) = reweighted(problem, max_iter=30, throw=False)
    assert only.solution.status is Status.INFEASIBLE
    _, refitted = refine(problem, only.solution)
    assert refitted.message == "refitted on its support" and refitted.status is Status.INFEASIBLE


def test_trim_keeps_such_a_layer_dense_and_says_why(monkeypatch):
    # A parallel layer has its own weights for a solution, so that the statement must be replaced to have none.
    problem = noisy(4, "linear", N=5, M=3)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3, bias=False))
    before = model[0].weight.detach().clone()
    monkeypatch.setattr(retrain, "programs", lambda *_: [problem.replace(epsilon=0.5 * least_error(problem))])
    result = trim(model, torch.ones(60, 5), max_iter=30)
    (row,) = result.layers
    assert row.status == "INFEASIBLE" and row.error == 0 and torch.equal(result.model[0].weight, before)
    assert row.note.startswith(f"kept dense: no weights come nearer than {least_error(problem) / problem.norm:.4g}")


# --- cascade of the last layer


def last_layer(seed, N=6, M=3, P=50, noise=0.3):
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((N, P)), rng.standard_normal((N, M))
    return X + noise * rng.standard_normal((N, P)), X, W


@given(seed=seeds, gamma=st.floats(1, 2), kappa=st.floats(0.01, 1))
def test_the_radius_is_that_of_the_paper(seed, gamma, kappa):
    X_hat, X, W = last_layer(seed)
    trained = np.linalg.norm(W.T @ X_hat - W.T @ X)
    widest = np.sqrt(gamma) * trained
    least = by_numpy(LayerProblem(X_hat, W.T @ X, widest, activation="linear"))
    if kappa * widest >= least:
        problem = LayerProblem.cascade_linear(X_hat, X, W, gamma, kappa=kappa)
        assert problem.epsilon == pytest.approx(kappa * widest, rel=1e-12)
        assert problem.activation == "linear" and problem.X is not X_hat and np.array_equal(problem.X, X_hat)
        np.testing.assert_allclose(problem.Y, W.T @ X, rtol=1e-12)
    elif kappa * widest * (1 + 1e-5) < least:
        with pytest.raises(ProblemError, match=rf"no weights on these inputs come nearer than {least:.6g}: kappa must be"):
            LayerProblem.cascade_linear(X_hat, X, W, gamma, kappa=kappa)


@given(seed=seeds)
def test_the_kappa_that_is_named_is_feasible_and_the_next_lower_one_is_not(seed):
    X_hat, X, W = last_layer(seed)
    with pytest.raises(ProblemError, match="kappa must be at least") as caught:
        LayerProblem.cascade_linear(X_hat, X, W, 1.1, kappa=0.01)
    kappa = float(str(caught.value).split()[-1])
    LayerProblem.cascade_linear(X_hat, X, W, 1.1, kappa=kappa)
    with pytest.raises(ProblemError, match=f"kappa must be at least {kappa:.4f}"):
        LayerProblem.cascade_linear(X_hat, X, W, 1.1, kappa=kappa - 1e-4)


@every_backend
def test_a_cascade_with_kappa_is_solved(backend):
    X_hat, X, W = last_layer(0)
    problem = LayerProblem.cascade_linear(X_hat, X, W, 1.1, kappa=0.95)
    assert ball(problem, W) > problem.epsilon  # the trained weights are not feasible any more
    assert solve(problem, backend).status is Status.SOLVED


def test_inputs_that_are_always_0_do_not_hide_that_it_is_infeasible():
    # As many inputs as samples, most of them dead, as the border pixels of MNIST are.
    X_hat, X, W = last_layer(1, N=60, P=50)
    X_hat[6:], X[6:] = 0, 0
    with pytest.raises(ProblemError, match="kappa must be at least"):
        LayerProblem.cascade_linear(X_hat, X, W, 1.0, kappa=0.2)


def test_prices_of_inf_count():
    X_hat, X, W = last_layer(2)
    penalty = np.ones((6, 1))
    penalty[0] = np.inf
    for inputs in (X_hat, X):  # on the original ones the radius is 0
        with pytest.raises(ProblemError, match="no kappa up to 1 will do; raise gamma, or price fewer weights inf"):
            LayerProblem.cascade_linear(inputs, X, W, 1.0, penalty=penalty)


@pytest.mark.parametrize("kappa", [0, -0.5, 1.5, np.nan, np.inf])
def test_kappa_out_of_its_range(kappa):
    with pytest.raises(ProblemError, match=r"kappa, the risk coefficient, must be over 0 and at most 1; got"):
        LayerProblem.cascade_linear(*last_layer(0), 1.1, kappa=kappa)


def test_gamma_and_shapes_are_checked_as_in_a_cascade():
    X_hat, X, W = last_layer(0)
    with pytest.raises(ProblemError, match=r"gamma, the inflation rate, .* got 0\.5"):
        LayerProblem.cascade_linear(X_hat, X, W, 0.5)
    with pytest.raises(ProblemError, match="the same samples must go through both"):
        LayerProblem.cascade_linear(X_hat[:, 1:], X, W, 1.1)
