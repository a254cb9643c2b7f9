"""What the ``osqp`` backend has alone: the search for the ball, the form of 2017, working sets, threads."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from solvers import LayerProblem, Status, certify, solve

osqp = pytest.importorskip("osqp")

from solvers.backends import osqp_  # noqa: E402
from solvers.backends._penalized import PenalizedNeuron  # noqa: E402
from solvers.backends._threads import each  # noqa: E402

NEVER = threading.Event()


# --- the search


@pytest.mark.parametrize(
    "radius",
    [
        lambda tau: tau,
        lambda tau: 3 * tau**0.2,
        lambda tau: min(1 + 1e-3 * tau, 50),  # nearly flat where it crosses, then flat
        lambda tau: max(0.0, tau - 5),  # 0, whose logarithm is not finite
        lambda tau: 1 + np.exp(40 * (np.log(tau) - 3)) if tau < 25 else 1e9,  # a cliff
        lambda tau: 2 * np.exp(np.cbrt(np.log(tau) - 1)),  # Newton's method and the bare secant run away from this root
    ],
)
def test_search_finds_the_radius(radius):
    for first in (1e-4, 1.0, 1e4):
        search, tau, steps = osqp_.Search(2.0, 0.0), first, 0
        while abs(radius(tau) - 2.0) > 1e-4 and steps < 200:
            tau, steps = search.next(tau, radius(tau)), steps + 1
        assert radius(tau) == pytest.approx(2.0, abs=1e-4) and steps < 60


def test_search_takes_few_steps_on_a_power():
    search, tau, steps = osqp_.Search(1.0, 0.0), 1e-2, 0
    while abs(tau**0.6 - 1) > 1e-9:
        tau, steps = search.next(tau, tau**0.6), steps + 1
    assert steps <= 4  # in logarithms a power is a line: a step clipped to a factor of ten, a first slope, then the secant


def test_search_gives_up_where_there_is_nothing_to_find():
    for radius in (3.0, 1.0, np.nan):  # always too far, always inside, nonsense
        search, tau, steps = osqp_.Search(2.0, 0.0), 1.0, 0
        while tau is not None and steps < 2000:
            tau, steps = search.next(tau, radius), steps + 1
        assert tau is None


def test_answer_lies_on_the_ball(random_layer):
    problem = LayerProblem.parallel(*random_layer(0, 15, 6, 60), 0.1)
    for tol in (1e-3, 1e-6):
        solution = solve(problem, "osqp", tol=tol)
        # Off by a fraction d of epsilon, the gap is d epsilon ||L_active|| / objective: see the docstring of certify.
        share = problem.epsilon * solution.certificate.ball_multiplier / solution.certificate.objective
        assert abs(solution.certificate.ball / problem.epsilon - 1) <= max(tol, tol / share) * (1 + 1e-6)
        assert solution.iterations < 12


# --- the certificate at the corners


@pytest.mark.parametrize("kind", ["parallel", "linear", "free bias", "reweighted", "fixed support"])
def test_fine_tolerance_at_radius_zero(random_problem, kind):
    for seed in range(4):
        problem, _ = random_problem(kind, seed, 20, 4, 40, 0.0)
        assert solve(problem, "osqp", tol=1e-6).status is Status.SOLVED


def test_a_free_bias_alone_can_be_within_the_ball(random_problem):
    problem, _ = random_problem("free bias", 686886, 5, 10, 21, 0.95)
    certificate = solve(problem, "osqp").certificate
    assert certificate.objective == certificate.gap == 0  # exactly: polished zeros of 1e-22 would be a gap of 1


def test_a_ball_that_does_not_bind(random_layer):
    # The ceilings alone keep the weights up: at the optimum under them the residual is inside the ball.
    X, W = random_layer(3, 8, 4, 20)
    tight = LayerProblem.cascade(X + 0.1 * random_layer(4, 8, 4, 20)[0], X, W, 1.0)
    problem = tight.replace(epsilon=3 * tight.norm)
    solution = solve(problem, "osqp", tol=1e-5)
    assert solution.certificate.ball < problem.epsilon and solution.certificate.objective > 0


def test_osqp_prints_nothing(random_problem, random_layer, kind, capfd):
    solve(random_problem(kind, 0)[0], "osqp", tol=1e-5)
    solve(LayerProblem.parallel(*random_layer(2, 6, 4, 15), 0.1, penalty=0.0), "osqp")
    assert capfd.readouterr() == ("", "")


# --- the regularized form of 2017


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("lam", [0.1, 4.0, 40.0])
def test_regularized_form_meets_its_own_optimality_conditions(random_layer, lam, epsilon):
    # min lambda ||u||_1 + sum_on (x'u - y)^2 under x'u <= 0 off, a neuron at a time.
    X, W = random_layer(1, 12, 5, 40)
    problem = LayerProblem.parallel(X, W, epsilon)
    solution = solve(problem, "osqp", regularization=lam, throw=False)
    assert solution.iterations == 1
    U, on = solution.W, problem.active
    Z = U.T @ X
    eta = np.where(on, 0.0, lam * solution.dual)
    pull = X @ (np.where(on, 2 * (Z - problem.Y), 0.0) + eta).T  # the gradient of all but the l1 norm
    close = 1e-6 * lam  # the accuracy asked of OSQP at tol 1e-3 is below it
    np.testing.assert_allclose(pull[U != 0], -lam * np.sign(U[U != 0]), rtol=0, atol=close)
    assert np.all(np.abs(pull) <= lam + close)
    assert np.all(eta >= 0) and np.all(np.where(on, 0.0, Z) <= 1e-6) and np.abs(eta * Z).max() <= 1e-6 * lam
    assert np.any(U == 0) or lam < 1


def test_regularized_form_solves_the_program_of_its_own_radius(random_layer):
    problem = LayerProblem.parallel(*random_layer(1, 12, 5, 40), 0.1)
    solution = solve(problem, "osqp", regularization=40.0, throw=False)
    assert solution.status is Status.UNMET  # no one has asked this lambda to give that radius
    fitting = problem.replace(epsilon=solution.certificate.ball)
    assert certify(fitting, solution.W, solution.dual).meets(1e-6)
    assert abs(solve(fitting, "osqp", tol=1e-6).certificate.objective / solution.certificate.objective - 1) < 1e-5


# --- working sets and the factor


def one_neuron(random_layer, seed=2):
    X, W = random_layer(seed, 40, 1, 120)
    X /= np.linalg.norm(X, axis=1).max()
    target = np.maximum(W.T @ X, 0)[0]
    on = target > 0
    return PenalizedNeuron(X, on, target / np.linalg.norm(target), np.ones(40), False, 1e-8)


def test_weight_changes_keep_the_factor(random_layer):
    neuron = one_neuron(random_layer)
    neuron.minimize(0.01, NEVER)
    setups, solver = neuron.setups, neuron._solver
    for weight in (0.00999, 0.00995, 0.01):
        neuron.minimize(weight, NEVER)
        assert neuron.setups == setups and neuron._solver is solver
    fresh = one_neuron(random_layer)
    fresh.minimize(0.01, NEVER)
    np.testing.assert_allclose(neuron.u, fresh.u, rtol=0, atol=1e-7)  # accuracy is 1e-8 of unit data


def test_what_is_left_out_of_the_working_sets_does_not_matter(random_layer):
    neuron = one_neuron(random_layer)
    neuron.minimize(0.1, NEVER)
    assert 0 < neuron.columns.sum() < 40 and neuron.rows.sum() < (~neuron.on).sum()
    full = one_neuron(random_layer)
    full.columns[:], full.rows[:] = True, ~full.on
    full.minimize(0.1, NEVER)
    assert full.setups == 1
    np.testing.assert_allclose(neuron.u, full.u, rtol=0, atol=1e-7)


# --- the guard


def test_memory_is_guarded_before_any_work():
    # Arrays that take no memory: asked, not solved.
    problem = LayerProblem(np.broadcast_to(1.0, (2000, 1000)), np.broadcast_to(1.0, (500, 1000)), 0.1)
    reason = osqp_.refuses(problem)
    assert reason is not None and reason.startswith("500 QPs over 2000 inputs and 1000 samples would need about ")
    assert reason.endswith(
        " GB, over memory_limit=8 GB. Use backend='admm', fewer samples or fewer neurons, or raise memory_limit"
    )
    assert osqp_.refuses(problem, memory_limit=1e12) is None
    assert osqp_.refuses(problem.replace(X=problem.X[:200])) is None


# --- threads


def test_same_bytes_for_any_number_of_threads(random_layer):
    problem = LayerProblem.parallel(*random_layer(5, 30, 7, 90), 0.1)
    alone, *others = (solve(problem, "osqp", tol=1e-4, n_jobs=n_jobs) for n_jobs in (1, 2, 3))
    for other in others:
        assert other.W.tobytes() == alone.W.tobytes() and other.dual.tobytes() == alone.dual.tobytes()
        assert other.iterations == alone.iterations


def test_threads_overlap_and_every_item_is_done():
    meeting, done = threading.Barrier(2, timeout=20), []

    def work(item, stop):
        meeting.wait()  # two must be here at once
        done.append(item)

    each(work, range(6), 2)
    assert sorted(done) == list(range(6))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_ends_the_other_threads(n_jobs):
    def work(item, stop):
        if item == 0:
            raise ValueError("no")
        stop.wait(20)

    begin = time.perf_counter()
    with pytest.raises(ValueError, match="no"):
        each(work, range(8), n_jobs)
    assert time.perf_counter() - begin < 10 and not workers()


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("nettrim")]


def interrupt_after(seconds):
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_ends_the_threads(n_jobs):
    timer, begin = interrupt_after(0.2), time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        each(lambda item, stop: stop.wait(20) and None, range(4), n_jobs)
    timer.join()
    assert time.perf_counter() - begin < 10 and not workers()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_is_pythons_again_after_a_solve(random_layer, n_jobs):
    # Solves of OSQP that overlap leave its own handler behind, under which a Ctrl-C would be lost.
    solve(LayerProblem.parallel(*random_layer(5, 30, 7, 90), 0.1), "osqp", n_jobs=n_jobs)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def test_an_interrupted_osqp_is_a_keyboard_interrupt(random_layer, monkeypatch):
    real = osqp.OSQP.solve

    def interrupted(self, **settings):
        result = real(self, **settings)
        result.info.status_val = osqp.SolverStatus.OSQP_SIGINT
        return result

    monkeypatch.setattr(osqp.OSQP, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        solve(LayerProblem.parallel(*random_layer(5, 10, 3, 30), 0.1), "osqp", n_jobs=2)
    assert not workers()
