"""How ``admm`` finishes: kernels against NumPy, a neuron against its optimality conditions, the layer against the judge."""

import itertools
import threading

import numpy as np
import pytest

from solvers import LayerProblem, Status, certify, solve

pytest.importorskip("numba")

from numba.core.errors import TypingError

from solvers.backends import _finish, _kernels, _lapack, _reduced, admm
from solvers.backends._iteration import OnGram, OnSamples, gram
from solvers.backends._memory import plan
from solvers.backends._neuron import LinearNeuron, Neuron


def parts(problem, m):
    """Return a neuron's inputs, mask, targets and prices."""
    price = np.broadcast_to(problem.penalty, (problem.N, problem.M))
    T = np.where(problem.active, problem.Y, problem.V)
    return np.ascontiguousarray(problem.X), problem.active[m], T[m], np.ascontiguousarray(price[:, m])


def neuron_of(problem, m, allowed=1e-9):
    X, on, target, price = parts(problem, m)
    if problem.activation == "linear":
        return LinearNeuron(X @ X.T, X @ target, float(target @ target), price)
    return Neuron(X, on, target, price, allowed)


def face_of(problem, m, tau):
    """Solve one neuron from nothing: no weights, and the dual that goes with them."""
    X, on, target, _ = parts(problem, m)
    L = np.where(on, -target / tau, 0.0)
    return neuron_of(problem, m).solve(tau, np.zeros(problem.N), L, X @ L, None, 1e-9)


def assert_optimal(problem, m, face, tau):
    """Hold a neuron's solution against the conditions that make it optimal at tau, to the rounding of float64 sums."""
    X, on, target, price = parts(problem, m)
    u, lam = np.zeros(problem.N), np.zeros(problem.P)
    u[face.rows], lam[face.cols] = face.weights(tau), face.multipliers(tau)
    z = u @ X
    residual = np.where(on, z - target, 0.0)
    gradient = X @ (residual + lam)
    unit = np.abs(X @ target).max() + tau
    assert np.all(u[price == np.inf] == 0)
    inner, held = u == 0, u != 0
    np.testing.assert_allclose(gradient[held], -tau * np.sign(u[held]) * price[held], rtol=0, atol=1e-8 * unit)
    assert np.all(np.abs(gradient[inner & (price < np.inf)]) <= tau * price[inner & (price < np.inf)] + 1e-8 * unit)
    assert np.all(lam >= 0) and np.all(lam[on] == 0)
    above = (z - target)[~on]
    assert above.max(initial=0.0) <= 1e-8 * np.abs(target).max() + 1e-9
    assert np.abs(above * lam[~on]).max(initial=0.0) <= 1e-8 * unit**2
    assert residual @ residual == pytest.approx(face.fixed + tau**2 * face.slope, rel=1e-8, abs=1e-10 * unit)


@pytest.mark.parametrize("seed", range(4))
def test_a_neuron_meets_its_optimality_conditions(random_problem, kind, seed):
    problem, W = random_problem(kind, seed, N=9, M=4, P=60)
    if kind == "cascade":  # of the parallel program above, with slack in the ceilings, so that its ball binds
        parallel, W = random_problem("parallel", seed, N=9, M=4, P=60)
        problem = parallel.replace(V=np.abs(W.T @ parallel.X) * 0.1)
    multiplier = solve(problem, "admm").certificate.ball_multiplier
    exact = 0
    for m in range(problem.M):
        for tau in np.array([0.5, 1.0, 2.0]) * problem.epsilon / multiplier:
            face = face_of(problem, m, tau)
            if face is not None and face.exact:
                exact += 1
                assert_optimal(problem, m, face, tau)
    assert exact >= problem.M  # tau may leave a neuron without weights, but the method must not live from giving up


def test_a_face_is_affine_in_tau(random_problem):
    problem, _ = random_problem("parallel", 0, N=9, M=4, P=60)
    near = [(face_of(problem, m, 1.0), face_of(problem, m, 1.0 + 1e-6)) for m in range(problem.M)]
    same = [(a, b) for a, b in near if a.exact and b.exact and np.array_equal(np.sort(a.rows), np.sort(b.rows))]
    assert same  # a step of 1e-6 crosses no border in general
    for here, there in same:
        order, other = np.argsort(here.rows), np.argsort(there.rows)
        np.testing.assert_allclose(here.weights(1.0 + 1e-6)[order], there.weights(1.0 + 1e-6)[other], rtol=1e-8, atol=1e-10)


def test_sets_that_do_not_settle_give_a_point_that_says_so(random_problem, monkeypatch):
    monkeypatch.setattr(_reduced, "ACTIVE_SET_STEPS", 0)
    problem, _ = random_problem("parallel", 0, N=9, M=4, P=60)
    face = face_of(problem, 0, 1.0)
    assert not face.exact and face.slope == 0 and not face.b.any() and not face.d.any()
    X, on, target, _ = parts(problem, 0)
    residual = face.a @ X[face.rows][:, on] - target[on]
    assert residual @ residual == pytest.approx(face.fixed, rel=1e-9)


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_the_iteration_does_without_the_finish(random_problem, kind, tol, monkeypatch):
    problem, _ = random_problem(kind, 1)
    finished = solve(problem, "admm", tol=tol)
    monkeypatch.setattr(_finish.Finish, "run", lambda self, judge, pull, L, iteration, limit: (iteration, None))
    alone = solve(problem, "admm", tol=tol)
    assert alone.status is Status.SOLVED and alone.certificate != finished.certificate
    assert finished.iterations <= alone.iterations


def test_a_finish_without_exact_faces_is_still_judged(random_problem, kind, monkeypatch):
    monkeypatch.setattr(_reduced, "ACTIVE_SET_STEPS", 0)
    problem, _ = random_problem(kind, 2)
    assert solve(problem, "admm").status is Status.SOLVED


@pytest.mark.parametrize("epsilon", [0.02, 0.3, 0.7])
def test_the_finish_ends_where_the_iteration_would(random_problem, kind, epsilon, consistent):
    problem, _ = random_problem(kind, 3, N=12, M=6, P=80, epsilon=epsilon)
    solution = solve(problem, "admm", tol=1e-6)
    oracle = solve(problem, "reference", tol=1e-4, throw=False)
    assert consistent(solution.certificate, oracle.certificate)
    assert solution.certificate.meets(1e-6)


def test_a_linear_layer_iterates_the_same_on_its_gram_matrix(random_layer):
    X, W = random_layer(0, 7, 4, 30)
    problem = LayerProblem.linear(X, W, 0.2)
    G, C = _kernels.mirror(gram(X).T), X @ problem.Y.T
    np.testing.assert_allclose(G, X @ X.T, rtol=1e-12)
    on, room = np.ones(problem.Y.shape, bool), plan(problem, np.float64, None, gram=True)
    samples = OnSamples(X, problem.Y, on, problem.epsilon, problem.penalty, 3.0, room)
    matrix = OnGram(X, problem.Y, G, C, float(np.sum(problem.Y**2)), problem.epsilon, problem.penalty, 3.0, room)
    for steps in (samples, matrix):
        steps.begin(0.5 * W, None)
    for k in range(25):
        for steps in (samples, matrix):
            steps.prox()
        # the same arithmetic in another order, float64; errors grow slowly over the steps
        np.testing.assert_allclose(matrix.q, samples.q, rtol=0, atol=1e-10)
        assert matrix.tau() == pytest.approx(samples.tau(), rel=1e-8)
        for steps in (samples, matrix):
            steps.step(1.7, 2.0 if k == 10 else 1.0)
    for steps in (samples, matrix):
        steps.prox()
    dual, of_matrix = samples.dual().copy(), matrix.dual()
    np.testing.assert_allclose(of_matrix, dual, rtol=0, atol=1e-9)
    np.testing.assert_allclose(matrix.pull(of_matrix), X @ dual.T, rtol=0, atol=1e-8)
    for steps in (samples, matrix):  # a start with a dual of the form it has at a solution
        steps.begin(0.5 * W, (0.5 * W.T @ X - problem.Y) * (problem.epsilon / np.linalg.norm(0.5 * W.T @ X - problem.Y)))
        steps.prox()
    assert samples.tau() == pytest.approx(matrix.tau(), rel=0.5)  # both read the same dual, at another point of the ball


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_of_a_neuron(dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((7, 23)).astype(dtype)
    rows, cols = np.array([1, 4, 5, 6, 0]), np.array([3, 7, 20])
    u = rng.standard_normal(5)
    exact = {"rtol": 0, "atol": 1e-12}  # float64 sums of some ten numbers of size 1
    np.testing.assert_array_equal(_kernels.take(X, rows, cols), X[np.ix_(rows, cols)].astype(np.float64))
    np.testing.assert_allclose(_kernels.respond(X, rows, u), u @ X[rows].astype(np.float64), **exact)
    z = rng.standard_normal(23)
    np.testing.assert_allclose(_kernels.project(X, rows, z), X[rows].astype(np.float64) @ z, **exact)
    off, target = rng.random(23) < 0.5, rng.standard_normal(23)
    residual, above = _kernels.offsets(X, rows, u, target, off)
    offset = u @ X[rows].astype(np.float64) - target
    np.testing.assert_allclose(residual, np.where(off, 0.0, offset), **exact)
    np.testing.assert_allclose(above, np.where(off, np.maximum(offset, 0.0), 0.0), **exact)
    g, T = rng.standard_normal((2, 4, 23)).astype(dtype)
    on, sums, tau = rng.random((4, 23)) < 0.5, np.empty((4, 3)), dtype(0.5)
    L = g.copy()
    _kernels.responses_to_dual(L, T, on, tau, sums)
    np.testing.assert_allclose(L, np.where(on, (g - T) / tau, 0), rtol=0, atol=50 * np.finfo(dtype).eps)
    expected = np.where(on, g - T, 0), np.where(on, 0, np.maximum(g - T, 0))
    loose = {"rtol": 100 * np.finfo(dtype).eps}
    np.testing.assert_allclose(sums[:, 0], (expected[0] ** 2).sum(axis=1), **loose)
    np.testing.assert_allclose(sums[:, 1], (expected[1] ** 2).sum(axis=1), **loose)
    np.testing.assert_allclose(sums[:, 2], -(L * T).sum(axis=1), rtol=0, atol=1e4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("samples", [1, 5, 256, 600])
def test_gram_matrices_in_blocks(samples):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((7, 700)).astype(np.float32)
    rows, more, on = np.array([1, 4, 5, 0]), np.array([2, 6]), np.sort(rng.permutation(700)[:samples]).astype(np.uint32)
    y, whole = rng.standard_normal(samples), X.astype(np.float64)[:, on]
    exact = {"rtol": 0, "atol": 1e-11}  # float64 sums of some hundred numbers of size 1
    H, h = _kernels.grams(X, rows, on, y)
    np.testing.assert_allclose(H, whole[rows] @ whole[rows].T, **exact)
    np.testing.assert_allclose(h, whole[rows] @ y, **exact)
    cross, h = _kernels.cross_grams(X, rows, more, on, y)
    np.testing.assert_allclose(cross, whole[more] @ whole[rows].T, **exact)
    np.testing.assert_allclose(h, whole[more] @ y, **exact)


def test_lapack_in_compiled_code():
    rng = np.random.default_rng(0)
    half = rng.standard_normal((5, 8))
    A, rows = half @ half.T, rng.standard_normal((3, 5))
    factor, whole, lower, upper = A.copy(), rows.copy(), rows.copy(), rows.copy()
    assert _lapack.cholesky(factor) and _lapack.solve(factor, whole)
    _lapack.solve_half(factor, lower, False)
    _lapack.solve_half(factor, upper, True)
    L = np.linalg.cholesky(A)
    exact = {"rtol": 1e-9, "atol": 1e-12}  # the condition of A is some tens
    np.testing.assert_allclose(np.triu(factor), L.T, **exact)
    np.testing.assert_allclose(whole, np.linalg.solve(A, rows.T).T, **exact)
    np.testing.assert_allclose(lower, np.linalg.solve(L, rows.T).T, **exact)
    np.testing.assert_allclose(upper, np.linalg.solve(L.T, rows.T).T, **exact)
    assert _lapack.invert(factor)
    np.testing.assert_allclose(_kernels.mirror(factor), np.linalg.inv(A), **exact)
    assert not _lapack.cholesky(-np.eye(3))
    outer, inner = np.ones((5, 5)), np.ones((8, 8))
    _lapack.add_square(half, 2.0, outer)
    _lapack.add_inner_square(half, 2.0, inner)
    np.testing.assert_allclose(np.triu(outer), np.triu(1 + 2 * A), **exact)
    np.testing.assert_allclose(np.triu(inner), np.triu(1 + 2 * half.T @ half), **exact)
    for bad in (np.eye(3, dtype=np.float32), np.asfortranarray(half @ half.T)[:, ::-1]):
        with pytest.raises(TypingError, match="C-contiguous float64"):
            _lapack.cholesky(bad)


def test_threads_keep_the_order_and_the_bytes(random_layer):
    from threadpoolctl import threadpool_limits

    assert list(_finish.over_threads(lambda k: k * k, range(100))) == [k * k for k in range(100)]
    X, W = random_layer(0, 20, 40, 200)
    problem = LayerProblem.parallel(X, W, 0.2)
    plain = solve(problem)
    with threadpool_limits(1, user_api="blas"):
        alone = solve(problem)
    assert plain.W.tobytes() == alone.W.tobytes() and plain.certificate == alone.certificate


def test_few_neurons_are_solved_before_tau_is_known(random_layer, monkeypatch):
    admm.warm_up()
    solved, solve_neurons = [], _finish.Finish._solve_neurons

    def record(self, which, *arguments):
        solved.append((which.copy(), self.tau))
        solve_neurons(self, which, *arguments)

    monkeypatch.setattr(_finish.Finish, "_solve_neurons", record)
    X, W = random_layer(0, 20, 64, 400)
    assert solve(LayerProblem.parallel(X, W, 0.2)).status is Status.SOLVED
    (first, second, third), taus = (which for which, _ in solved[:3]), {tau for _, tau in solved[:3]}
    assert (first.sum(), second.sum(), third.sum()) == (4, 12, 48) and (first | second | third).all()
    assert len(taus) == 3  # each on what the ones before it say


def test_an_interrupt_ends_promptly_and_leaves_no_thread():
    before, done = threading.active_count(), []

    def call(k):
        if k == 3:
            raise KeyboardInterrupt
        done.append(k)

    with pytest.raises(KeyboardInterrupt):
        list(_finish.over_threads(call, range(10_000)))
    assert threading.active_count() == before and len(done) < 10_000


@pytest.mark.parametrize("max_iter", [1, 39, 40, 41, 42, 43, 44, 45, 90])
def test_the_limit_is_kept_with_the_finish_at_work(random_problem, kind, max_iter, monkeypatch):
    problem, _ = random_problem(kind, 0)
    misses = itertools.count()  # ever nearer, so that every round is followed by another, and never near enough to be judged
    monkeypatch.setattr(_finish.Finish, "_look", lambda self, pull, sums, tol: 1e9 * 0.5 ** (next(misses) % 8))
    solution = solve(problem, "admm", tol=1e-12, max_iter=max_iter, throw=False)
    assert solution.iterations == max_iter or (solution.status is Status.SOLVED and solution.iterations < max_iter)


def test_a_finish_without_room_is_not_begun(random_problem, kind, monkeypatch):
    problem, _ = random_problem(kind, 0, epsilon=0.05)
    tight = solve(problem, "admm", tol=1e-12, max_iter=admm.FIRST_FINISH + 1, throw=False)
    monkeypatch.setattr(admm, "_finish", lambda problem, steps, layer, judge, iteration, limit: (None, iteration))
    alone = solve(problem, "admm", tol=1e-12, max_iter=admm.FIRST_FINISH + 1, throw=False)
    assert tight.W.tobytes() == alone.W.tobytes()  # the state of 40 iterations was not given up for nothing


def test_a_warm_start_with_a_dual_is_finished_at_once(random_layer):
    X, W = random_layer(0, 20, 8, 200)
    first = solve(LayerProblem.parallel(X, W, 0.2), tol=1e-5)
    nearby = LayerProblem.parallel(X, W, 0.21)
    warm = solve(nearby, tol=1e-5, start=first)
    assert warm.iterations < admm.FIRST_FINISH <= first.iterations
    assert certify(nearby, warm.W, warm.dual).meets(1e-5)


def test_a_neuron_of_a_free_bias_alone_is_solved():
    # 40 ceilings at 0, all the same column of ones, while the 10 responses pull the bias to 0.2: the answer is 0. No price
    # tells the size of a step here, only the energies do.
    ones = np.ones((1, 40))
    program = _reduced.Reduced(
        np.array([0]), np.arange(40), np.array([[10.0]]), np.array([2.0]), ones, np.zeros(40), np.zeros(1), 0.5, 1.0, 1e-6
    )
    face = program.enter(np.array([0.2]), np.zeros(40))
    assert abs(face.weights(1.0)).max(initial=0.0) <= 0.2e-3  # within a step of 150 that contract by more than a percent
    assert face.multipliers(1.0).sum() == pytest.approx(2.0, rel=1e-2)  # stationarity: H 0 - h + sum of multipliers = 0


def test_a_neuron_whose_slackness_is_broken_is_not_settled(random_layer):
    # A dual that stays below the prices of weights that are not 0: no price, sign or ceiling is exceeded.
    problem = LayerProblem.linear(*random_layer(0, 7, 4, 40), 0.2)
    solution = solve(problem, tol=1e-9)
    layer = admm._linear(problem, None, plan(problem, np.float64, None, gram=True))[1]
    tau = problem.epsilon / solution.certificate.ball_multiplier
    finish = _finish.Finish(layer, np.ones((7, 4)), problem.epsilon, solution.W, tau, np.ones(4, bool))
    pull = problem.X @ solution.dual.T
    sums = np.stack([np.full(4, 1.0), np.zeros(4), -np.einsum("mp,mp->m", solution.dual, problem.Y)], axis=1)
    sums[:, 0] = tau**2 * np.einsum("mp,mp->m", solution.dual, solution.dual)
    finish.faces = [
        finish.layer.neuron(m, 1e-9).solve(tau, solution.W[:, m], solution.dual[m], pull[:, m], None, 1e-9) for m in range(4)
    ]
    finish._look(pull, sums, 1e-6)
    assert not finish.dirty.any()
    finish._look(pull * np.array([1, 1, 0.9, 1]), sums, 1e-6)
    assert finish.dirty.tolist() == [False, False, True, False]


# --- one neuron on few samples, as in a depthwise convolution


def patches_of_one_channel(seed, N=9, P=500):
    """Return a neuron's program on inputs as a channel of a network gives them: at least 0, alike, and a row of ones."""
    rng = np.random.default_rng(seed)
    X = np.abs(0.35 * rng.standard_normal((N, P)) + 0.6 * rng.standard_normal((1, P)) + 0.5) * (rng.random((N, P)) < 0.8)
    return LayerProblem.parallel(np.vstack([X, np.ones(P)]), rng.standard_normal((N + 1, 1)), 0.1)


# On fewer samples than weights the Gram matrix is singular (0 to 121), and faces may send tau to and fro (69).
@pytest.mark.parametrize("seed", [0, 3, 5, 21, 23, 24, 31, 40, 42, 69, 72, 73, 104, 121])
def test_a_neuron_that_is_seldom_on_is_finished(seed, consistent):
    problem = patches_of_one_channel(seed)
    solution = solve(problem, throw=False, max_iter=120)
    assert solution.status is Status.SOLVED
    assert consistent(solution.certificate, solve(problem, "cvxpy", throw=False).certificate)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_quarter_of_the_neurons_tells_what_tau_all_of_them_need(random_layer, linear, seed):
    state = LayerProblem.linear if linear else LayerProblem.parallel
    problem = state(*random_layer(seed, 12, 48, 200), 0.2)
    solution = solve(problem, tol=1e-8)
    tau, room = problem.epsilon / solution.certificate.ball_multiplier, plan(problem, np.float64, None, gram=linear)
    layer = admm._linear(problem, None, room)[1] if linear else admm._relu(problem, np.float64, None, room)[1]
    price = np.ones((12, 48))
    for wrong in (0.8, 1.3):  # a tau that is off, with the dual that goes with it
        finish = _finish.Finish(layer, price, problem.epsilon, solution.W, wrong * tau, problem.active.any(axis=1))
        L = solution.dual / wrong
        left = finish._learn_tau(problem.X @ L.T, L, 1e-3)
        assert left.sum() == 36 and all((face is None) == other for face, other in zip(finish.faces, left, strict=True))
        assert finish.tau == pytest.approx(tau, rel=0.05)  # 12 of 48 neurons: where they stand for all, exactly


def test_a_neuron_that_is_best_at_zero_has_no_weights_of_rounding():
    # Seldom on, and its ceilings of 0 bind at 0: more of them than weights, so that no active set tells the multipliers.
    rng = np.random.default_rng(0)
    X = np.maximum(rng.standard_normal((25, 6)) @ rng.standard_normal((6, 200)) + 0.3 * rng.standard_normal((25, 200)), 0)
    problem = LayerProblem.parallel(X, rng.uniform(-0.2, 0.2, (25, 32)), 0.29)
    found, exact = (solve(problem, "admm", tol=tol).W for tol in (1e-3, 1e-7))
    silent = (np.abs(exact) < 1e-9).all(axis=0)
    assert silent.any() and (found[:, silent] == 0).all()
    assert np.abs(found[found != 0]).min() > 1e-6
