"""The default solver: the Net-Trim ADMM until it knows where the solution lies, then a finish that is exact.

The iteration is a relaxed Douglas-Rachford one (``_iteration``): BLAS for the products, numba for the rest. Once it tells
roughly which weights survive, which ceilings bind and what the ball's multiplier is, every neuron is solved exactly on its
working sets and the multiplier is settled (``_finish``): a few rounds, where the iteration alone would need hundreds of
steps. Should the certificate not be met by then, the iteration goes on, rho balanced by the certificate (``_balance``), and
the finish tries again.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from solvers.arrays import Array, read_only
from solvers.backends._balance import Balance
from solvers.backends._checkpoints import checkpoints
from solvers.backends._memory import Plan, copied, plan
from solvers.backends._turns import blas_threads, in_turn
from solvers.errors import SolverError
from solvers.problem import LayerProblem
from solvers.solution import Answer, Judge, start_point

if TYPE_CHECKING:
    from solvers.backends._iteration import Iteration
    from solvers.backends._layer import Layer

REQUIRES = ("numba", "scipy", "threadpoolctl")
INSTALL = "numba scipy threadpoolctl"
TAKES_START = True

_log = logging.getLogger("solvers")

# Chosen by hand on the first two layers of LeNet-300-100; benchmarks/results/study.md shows what other choices do.
RELAXATION = 1.9
LATE, LATE_RELAXATION = 500, 1.6
NEAR = 0.05  # gap or violation below which the iteration goes on from where its first finish came to
FIRST_FINISH = 40  # iterations before the finish is tried; each later try comes after twice as many
FINEST = 4e-6  # violation, relative to the responses, that float32 tells from its own rounding with room to spare
FINISH_ROOM = 3  # iterations that must be left for it


def refuses(
    problem: LayerProblem,
    rho: float | None = None,
    relaxation: float = RELAXATION,
    dtype: str | None = None,
    memory_limit: float | None = None,
) -> str | None:
    """Say why this backend will not take a problem.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    rho, relaxation, dtype, memory_limit : optional
        As in ``solve``.

    Returns
    -------
    str or None
        The reason, None if there is none.
    """
    if rho is not None and not 0 < rho < float("inf"):
        return f"rho must be positive; got {rho}"
    if not 0 < relaxation < 2:
        return f"relaxation must be between 0 and 2, both excluded; got {relaxation}"
    if dtype not in (None, "float32", "float64"):
        return f"dtype must be 'float32' or 'float64'; got {dtype!r}"
    if memory_limit is not None and not memory_limit > 0:
        return f"memory_limit must be a positive number of bytes, or None; got {memory_limit}"
    return None


@cache
def warm_up() -> None:
    """Compile the kernels, or load them from numba's cache, by solving small problems that need them all."""
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((6, 40)), rng.standard_normal((6, 3))
    for make, tol in itertools.product((LayerProblem.parallel, LayerProblem.linear), (1e-3, 1e-6)):
        problem = make(X, W, 0.3)
        solve(problem, judge=Judge(problem, tol), max_iter=None, start=None)
    from solvers.backends._kernels import cross_grams

    some = np.arange(3)
    for real in (np.float32, np.float64):  # needed where working sets grow, which small problems' need not
        cross_grams(read_only(X.astype(real)), some, some, some.astype(np.uint32), np.zeros(3))


@in_turn
def solve(
    problem: LayerProblem,
    *,
    judge: Judge,
    max_iter: int | None,
    start: Any,
    rho: float | None = None,
    relaxation: float = RELAXATION,
    dtype: str | None = None,
    memory_limit: float | None = None,
) -> Answer:
    """Iterate, and finish, until the certificate is met.

    Memory: two (M, P) arrays beside the problem's own. A copy of X is made where its dtype or its memory order is not the
    working one. What the solve will need is told to the logger ``solvers`` (level INFO) before it begins and to ``message``.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    judge : Judge
        Certifies what the finish gives and, after a finish that did not do, the iterates at a geometric series.
    max_iter : int or None
        Iterations at most, a round of the finish counted as one; None means 10,000.
    start : Solution, ndarray or None
        Warm start. With a dual, the finish is tried at once.
    rho : float, optional
        First penalty parameter; afterwards it follows the certificate. Default: 0.3 over the size of the ridge weights.
    relaxation : float, optional
        Over-relaxation, between 0 and 2; at most 1.6 from iteration 500 on.
    dtype : {"float32", "float64"}, optional
        Working precision. Default: float32 where ``tol`` is 1e-4 or more, and ``tol`` times the relative radius over 4e-6;
        else float64. On a Gram matrix it is float64 whatever is asked.
    memory_limit : float, optional
        Bytes of memory that the solve may take beyond the problem's own arrays, which may be ``numpy.memmap``; by an
        estimate, for BLAS and the allocator keep memory of their own. Where it needs more, its (M, P) arrays, the dual that
        it returns too, go to temporary files (in ``tempfile.gettempdir()``, gone with the arrays), and an iteration takes
        the neurons a few at a time, with half as much work again.

    Returns
    -------
    Answer
        Weights, exactly sparse, and the multipliers of ball and ceiling.

    Raises
    ------
    SolverError
        If not even one neuron at a time fits the memory limit.
    OSError
        If the disk has no room for the temporary files.
    """
    limit = 10_000 if max_iter is None else max_iter
    # A violation that is allowed must be well over the rounding of the responses, else float32 cannot tell; nor can it at
    # radius 0, where multipliers may grow without limit.
    rough = judge.tol >= 1e-4 and judge.tol * problem.epsilon > FINEST * problem.norm
    # At radius 0 the squares of a Gram matrix would cost half the digits of the equations that must hold.
    gram = problem.activation == "linear" and problem.epsilon > 0
    real = np.dtype("float64" if gram else dtype or ("float32" if rough else "float64")).type
    room = plan(problem, real, memory_limit, gram=gram, threads=blas_threads())
    if memory_limit is not None and room.memory > memory_limit:
        raise SolverError(
            f"memory_limit is {memory_limit:.4g} bytes, but one neuron at a time needs {room.least:.4g}: raise it to that "
            "or more, or state problems of fewer inputs or neurons"
        )
    _log.info("%d x %d layer, %d samples: %s", problem.N, problem.M, problem.P, room)
    steps, layer = _linear(problem, rho, room) if gram else _relu(problem, real, rho, room)
    W, L = start_point(start, problem)
    if W is not None:
        steps.begin(W, L)
    known = L is not None  # what comes with a dual is judged, and finished, before anything else
    first = FIRST_FINISH if problem.epsilon > 0 else 0
    finish_at = float("inf") if problem.epsilon == 0 else 1 if known else first
    due, balance, iteration = checkpoints(), Balance(), 0
    check = 1 if known else _next(due, first)
    while True:
        steps.prox()
        iteration += 1
        change = 1.0
        if iteration >= check or iteration >= limit:
            check = _next(due, max(iteration, first))
            L = steps.dual()
            certificate = judge(steps.q, L, iteration)
            if certificate.meets(judge.tol) or iteration >= limit:
                return Answer(steps.q.astype(real, copy=False), L, iteration, str(room))
            if not (known and iteration == 1):  # another program's solution says nothing of how this one balances
                change = balance.change(certificate)
            steps.restore()
        if finish_at <= iteration < limit - FINISH_ROOM:
            W, L, iteration = _finish(problem, steps, layer, judge, iteration, limit)
            if W is not None:
                return Answer(W, L, iteration, str(room))
            finish_at = max(2 * iteration, first)
            steps.prox()  # of the state that the iteration goes on from
        # Near 2 the iteration is fastest on ordinary layers and slowest on the hard ones, which are those still running.
        steps.step(relaxation if iteration < LATE else min(relaxation, LATE_RELAXATION), change)


def _next(due: Iterator[int], after: int) -> int:
    """Return the first checkpoint that comes after an iteration."""
    return next(at for at in due if at > after)


def _finish(
    problem: LayerProblem, steps: Iteration, layer: Layer, judge: Judge, iteration: int, limit: int
) -> tuple[Array | None, Array | None, int]:
    """Try to finish from where the iteration is; where that does not do, leave it where it may go on from.

    The first time few iterations are at stake, so that their state makes room for the finish, and where that comes near the
    iteration goes on from there. Later it goes on as if there had been no finish: it is the one that always converges.
    Returned are the weights and the dual, if they meet the tolerance, and the iterations so far.
    """
    from solvers.backends._finish import Finish

    tau = steps.tau()
    if not 0 < tau < float("inf"):  # the ball does not bind: nothing ties the weights to the responses yet
        return None, None, iteration
    L = steps.dual()
    early = iteration <= FIRST_FINISH
    if early:
        steps.rest()
    price = np.broadcast_to(problem.penalty, (problem.N, problem.M))
    finish = Finish(layer, price, problem.epsilon, steps.q, tau, problem.active.any(axis=1), steps.plan.threads)
    iteration, certificate = finish.run(judge, steps.pull(L), L, iteration, limit - 1)  # the last one is the iteration's
    if certificate is not None and certificate.meets(judge.tol):
        return finish.W.astype(L.dtype), L, iteration
    if not early:
        steps.restore()
    elif finish.miss < NEAR:
        steps.begin(finish.W, L)
    else:
        steps.begin(steps.q, None)
    return None, None, iteration


def _relu(problem: LayerProblem, real: Any, rho: float | None, room: Plan) -> tuple[Iteration, Layer]:
    """Return the iteration and the layer on samples: X (N, P), the targets T (M, P), the mask; copies only where needed."""
    from solvers.backends._iteration import OnSamples
    from solvers.backends._layer import SampleLayer

    X, on = copied(problem.X, real, room), copied(problem.active, np.bool_, room)
    T = problem.Y
    if not room.targets:
        T = room.array(T.shape, real)
        for m in range(problem.M):
            T[m] = np.where(on[m], problem.Y[m], problem.V[m])
    X, T, on = read_only(X), read_only(T), read_only(on)
    price = np.broadcast_to(problem.penalty, (problem.N, problem.M))
    return OnSamples(X, T, on, problem.epsilon, problem.penalty, rho, room), SampleLayer(X, T, on, price)


def _linear(problem: LayerProblem, rho: float | None, room: Plan) -> tuple[Iteration, Layer]:
    """Return the iteration and the layer on the Gram matrix of a layer that is active everywhere."""
    from solvers.backends._iteration import OnGram, moments
    from solvers.backends._kernels import mirror
    from solvers.backends._layer import GramLayer

    X, Y = problem.X, problem.Y
    lower, C, squares = moments(X, Y)
    G = mirror(lower.T)
    price = np.broadcast_to(problem.penalty, (problem.N, problem.M))
    steps = OnGram(X, Y, G, C, float(squares.sum()), problem.epsilon, problem.penalty, rho, room)
    return steps, GramLayer(X, Y, price, G, C, squares)
