"""After the convex program: reweighted l1 prunes further, a refit undoes the shrinkage, a cascade goes on to the next layer.

Reweighting: Candes, Wakin, Boyd, "Enhancing Sparsity by Reweighted l1 Minimization" (J. Fourier Anal. Appl. 2008). The l1
norm taxes large weights most; to price each by its inverse taxes all that survive alike, as a count would.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import numpy as np

from solvers.arrays import Array, to_array
from solvers.certificate import certify
from solvers.errors import ProblemError
from solvers.problem import LayerProblem
from solvers.refit import refit
from solvers.registry import solve, takes_start
from solvers.solution import Solution, Status


class Round(NamedTuple):
    """A program and the certified answer to it; with another price it is another program, so the two stay together."""

    problem: LayerProblem
    solution: Solution


def reweighted(
    problem: LayerProblem,
    *,
    rounds: int = 3,
    delta: float | None = None,
    backend: str = "admm",
    tol: float = 1e-3,
    start: Solution | Array | None = None,
    throw: bool = True,
    **options: Any,
) -> list[Round]:
    """Solve a program, then solve it again with each weight priced by the inverse of its size, and so on.

    Round 0 is the program as given; each further one has, from the U of the round before, the prices

        penalty_ij = c base_ij / (|U_ij| + delta),

    base being those given and c such that their mean over the priced survivors is 1: duals keep their size, so warm starts
    stay warm. Free weights (base 0) stay free, forbidden ones (inf) forbidden. Ball and ceiling are those given, and so is
    what Proposition 1 says of the responses. Certified is the program of each round; their sequence is a local method for a
    concave price, and supports need not be nested.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    rounds : int, optional
        Reweighted solves after the first; none after one that leaves no priced weight or proves that there is no solution.
    delta : float, optional
        Keeps prices finite where weights are 0; in the units of U. Default: a tenth of the median ``|U_ij|`` over the
        priced survivors, anew each round.
    backend : str, optional
        As in ``solve``. One that takes warm starts is given the round before.
    tol : float, optional
        As in ``solve``, for each round.
    start : Solution or array_like of shape (N, M), optional
        Warm start of round 0.
    throw : bool, optional
        Whether a round that misses its certificate raises; else its status says so and the next one goes on from it.
    **options
        As in ``solve``, for each round.

    Returns
    -------
    list of Round
        ``rounds + 1`` pairs (problem, solution) at most, each certificate for the problem beside it. All share X, Y, V and
        active; each holds its own prices, W and dual.

    Raises
    ------
    ProblemError
        If ``rounds`` or ``delta`` is out of its range, or as in ``solve``.
    SolverError
        As in ``solve``.
    """
    if not (rounds >= 0 and rounds % 1 == 0):
        raise ProblemError(f"rounds must be a whole number, 0 or more; got {rounds}")
    if delta is not None and not 0 < delta < float("inf"):
        raise ProblemError(f"delta must be a positive number, or None for a tenth of the median weight; got {delta}")
    first = solve(problem, backend, tol=tol, start=start, throw=throw, **options)
    warm = takes_start(backend)
    done = [Round(problem, first)]
    for _ in range(int(rounds)):
        last = done[-1].solution
        penalty = _inverse(problem.penalty, last.W, delta)
        if penalty is None or done[-1].solution.status is Status.INFEASIBLE:  # prices do not change that
            break
        priced = problem.replace(penalty=penalty)
        found = solve(priced, backend, tol=tol, start=last if warm else None, throw=throw, **options)
        done.append(Round(priced, found))
    return done


def _inverse(base: Array, W: Array, delta: float | None) -> Array | None:
    """Return the prices (N, M) of the next round; None where no priced weight survives."""
    size = np.abs(W.astype(np.float64))
    priced = np.broadcast_to((base > 0) & (base < np.inf), size.shape)
    alive = priced & (size > 0)
    if not alive.any():
        return None
    prices: Array = base / (size + (0.1 * np.median(size[alive]) if delta is None else delta))
    prices /= prices[alive].mean()
    return prices  # 0 and inf are still what they were


def cascaded(problem: LayerProblem, X_hat: Any, W: Any) -> LayerProblem:
    """State a layer's program on the inputs that reach it once the layers before are trimmed; responses stay the original.

    As cascade Net-Trim (S.4) does, but around weights S that do better on the new inputs than the trained ones, which
    ``LayerProblem.cascade`` takes as they are, and with a radius of the caller's choice:

        S = refit of W on X_hat,    V_hat = max(V, S'X_hat),    epsilon_hat = max(epsilon, ||(S'X_hat - Y)_active||_F).

    S is feasible, so the program has a solution at any radius; the radius grows only where not even S is within it. Where
    ceilings grow, Proposition 1 does not bound the response error; ``refit`` with the V of ``problem`` brings it down.

    Parameters
    ----------
    problem : LayerProblem
        The layer on its original inputs.
    X_hat : array_like, shape (N, P)
        Inputs of the layer in the trimmed network, same samples, a row of ones for the bias where ``problem`` has one.
    W : array_like, shape (N, M)
        Its trained weights; what is 0 stays 0 in S.

    Returns
    -------
    LayerProblem
        Inputs ``X_hat``; Y, active, penalty and activation those of ``problem``.

    Raises
    ------
    ProblemError
        If X_hat is not of the shape of the problem's X or holds NaN or Inf, or as in ``refit``.
    """
    if not isinstance(problem, LayerProblem):
        raise ProblemError(f"cascaded takes a LayerProblem; got {type(problem).__name__}")
    X_hat = to_array(X_hat, "X_hat")
    if X_hat.shape != problem.X.shape:
        raise ProblemError(
            f"X_hat is {X_hat.shape} and the problem's X is {problem.X.shape}: the same samples must go through the same "
            "inputs, a row of ones for the bias included"
        )
    moved = problem.replace(X=X_hat)
    S = refit(moved, W).astype(X_hat.dtype)
    V_hat = np.maximum(problem.V, S.T @ X_hat).astype(X_hat.dtype, copy=False)
    return moved.replace(V=V_hat, epsilon=max(problem.epsilon, certify(moved, S).ball))


def refine(problem: LayerProblem, solution: Solution, *, within: bool = False) -> Round:
    """Refit a solution on its support, and return the refit where the certificate says that it is better, else the solution.

    The certificate of a refit is ``certify(problem, W, solution.dual)``, of the program given. What it proves: the sum
    ``ball^2 + ceiling_violation^2`` is no larger than the solution's, nor is the response error. After a solution without
    violations the ball therefore has none and, where no ceiling is above 0, the response error is below epsilon: whatever
    rests on Proposition 1 holds on, with a smaller number. What it does not: debiased weights are larger, so the objective
    may exceed the l1 optimum, and a ceiling may be broken, by epsilon at most. So the status is UNMET unless all of it
    happens to be within ``tol``; gap and violation are then the price of the smaller error, not a failure.

    With ``within``, ball and ceiling are kept: their program, restricted to the support with every priced weight at 1, is
    solved by the solution's backend, and the certificate is of that program. Its weights are the l1-smallest of that
    support: fewer, perhaps, but as biased as any that an l1 norm pulls to the surface of the ball.

    Parameters
    ----------
    problem : LayerProblem
        The program that was solved.
    solution : Solution
        The answer to it.
    within : bool, optional
        Whether to stay inside the constraint set.

    Returns
    -------
    Round
        The answer and the program that it is certified for: the refit if its response error is below the solution's, with
        ``within`` the restricted program's if it met the tolerance; else the two that were given.

    Raises
    ------
    ProblemError
        If ``solution`` is not a Solution of the problem's shape.
    SolverError
        If the solution's backend is not installed (``within`` only).
    """
    if not isinstance(solution, Solution):
        raise ProblemError(f"refine takes a Solution; got {type(solution).__name__}. refit takes any weights")
    began = time.perf_counter()
    if within:
        base = np.where((problem.penalty > 0) & (problem.penalty < np.inf), 1.0, problem.penalty)
        inside = problem.replace(penalty=base).restricted(solution.W != 0)
        warm = takes_start(solution.backend)
        again = solve(inside, solution.backend, tol=solution.tol, start=solution if warm else None, throw=False)
        return Round(inside, again) if again.status is Status.SOLVED else Round(problem, solution)
    W = refit(problem, solution.W)
    judged = certify(problem, W, solution.dual)
    if not judged.response_error < solution.certificate.response_error:
        return Round(problem, solution)
    missed = Status.INFEASIBLE if solution.status is Status.INFEASIBLE else Status.UNMET
    found = dataclasses.replace(
        solution,
        W=W,
        certificate=judged,
        status=Status.SOLVED if judged.meets(solution.tol) else missed,
        seconds=solution.seconds + time.perf_counter() - began,
        message="refitted on its support",
    )
    return Round(problem, found)
