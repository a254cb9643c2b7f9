"""``solve`` and its registry: what is refused and in which words, the record of the judge, files dropped in."""

import importlib.util
import re
import sys

import numpy as np
import pytest

import solvers.backends
from solvers import LayerProblem, ProblemError, Solution, SolverError, Status, available, missing, solve
from tests.backends import BACKENDS, STARTING, every_backend, module_of

OPTIONS = {
    "admm": ["rho", "relaxation", "dtype", "memory_limit"],
    "cvxpy": ["solver", "solver_options", "zero_below", "memory_limit"],
    "osqp": ["n_jobs", "regularization", "memory_limit"],
    "reference": ["rho"],
    "torch": ["device", "rho", "relaxation", "dtype"],
}


def test_unknown_backend(random_problem):
    with pytest.raises(SolverError, match=f"no backend is called 'nonesuch'; there are {', '.join(BACKENDS)}"):
        solve(random_problem("parallel", 0)[0], "nonesuch")


@every_backend
def test_missing_library(random_problem, monkeypatch, backend):
    module = importlib.import_module(module_of(backend))
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
