"""After the convex program: reweighted l1 prunes further, a refit undoes the shrinkage, a cascade goes on to the next layer.

Reweighting: Candes, Wakin, Boyd, "Enhancing Sparsity by Reweighted l1 Minimization" (J. Fourier Anal. Appl. 2008). The l1
norm taxes large weights most; to price each by its inverse taxes all that survive alike, as a count would. The refit is what
follows the lasso in Belloni, Chernozhukov, "Least squares after model selection" (Bernoulli 2013), here for a ReLU layer.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import numpy as np

from solvers.arrays import Array, Mask, to_array
from solvers.certificate import certify
from solvers.errors import ProblemError
from solvers.problem import LayerProblem
from solvers.registry import solve, takes_start
from solvers.solution import Solution, Status

RIDGE = 1e-10  # of each diagonal entry of a Gram matrix: over its rounding, far under what a Newton step must resolve
DESCENT = 1e-4  # Armijo's share of the predicted decrease
SHORTEST = 1e-10  # step below which a line search gives up: what is left is rounding


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


def refit(problem: LayerProblem, W: Any, *, tol: float = 1e-6, max_iter: int = 50) -> Array:
    """Minimize the response error on the support of W: the l1 norm's pull towards zero is undone, no weight is added.

    For each neuron j, over the w that are 0 where ``W[:, j]`` is,

        F(w) = sum_active (w'x - y)^2 + sum_inactive max(w'x - v, 0)^2,

    convex and piecewise quadratic, by a semismooth Newton method with a line search, in float64. Summed over the neurons F
    is ``ball^2 + ceiling_violation^2`` of the certificate; where no ceiling is above 0, the response error is at most its
    root (Proposition 1). In a linear layer a neuron is one least-squares problem. A neuron keeps the weights it has unless
    F falls and its response error does not rise, new weights taken in the dtype of W.

    Memory: the inputs of one support in float64, and what it selects of their samples, for one neuron at a time.

    Parameters
    ----------
    problem : LayerProblem
        The layer; its epsilon and penalty are not used.
    W : array_like, shape (N, M)
        Weights, a solver's or any method's; what is 0 stays 0.
    tol : float, optional
        A neuron is done when ``|dF/dw_i| / 2 <= tol ||x_i||_2 sqrt(F)`` for each of its inputs, with F of the W given.
    max_iter : int, optional
        Newton steps a neuron at most. Each lowers F, so what has been reached by then is used.

    Returns
    -------
    ndarray, shape (N, M)
        New weights, in the dtype of W (half precision becomes float32, integers float64).

    Raises
    ------
    ProblemError
        If W does not fit the problem or holds NaN or Inf, or ``tol`` or ``max_iter`` is out of its range.
    """
    if not isinstance(problem, LayerProblem):
        raise ProblemError(f"refit takes a LayerProblem; got {type(problem).__name__}")
    if not (np.isfinite(tol) and tol > 0):
        raise ProblemError(f"tol must be a positive number; got {tol}")
    if not (max_iter >= 1 and max_iter % 1 == 0):
        raise ProblemError(f"max_iter must be a whole number, at least 1; got {max_iter}")
    W = to_array(W, "W")
    if W.shape != (problem.N, problem.M):
        raise ProblemError(f"W must be (N, M) = {(problem.N, problem.M)}; got {W.shape}")
    found: Array = W.copy()
    linear = problem.activation == "linear"
    for j in range(problem.M):
        rows = np.flatnonzero(W[:, j])
        A, on = problem.X[rows].astype(np.float64), problem.active[j]  # (support, P), (P,)
        y = problem.Y[j].astype(np.float64)
        target = np.where(on, y, problem.V[j])
        w = _newton(A, target, on, W[rows, j].astype(np.float64), tol, int(max_iter)).astype(W.dtype)
        old, new = (_errors(v.astype(np.float64) @ A, y, target, on, linear) for v in (W[rows, j], w))
        if new[0] < old[0] and new[1] <= old[1]:
            found[rows, j] = w
    return found


def _errors(z: Array, y: Array, target: Array, on: Mask, linear: bool) -> tuple[float, float]:
    """Return F and the squared response error of pre-activations z (P,)."""
    return _squares(_residual(z, target, on)), _squares((z if linear else np.maximum(z, 0.0)) - y)


def _squares(r: Array) -> float:
    return float(r @ r)


def _residual(z: Array, target: Array, on: Mask) -> Array:
    """Return ``z - y`` on active samples and ``max(z - v, 0)`` on the others, shape (P,)."""
    r = z - target
    return np.where(on | (r > 0), r, 0.0)


def _newton(A: Array, target: Array, on: Mask, w: Array, tol: float, max_iter: int) -> Array:
    """Minimize ``||residual(A'w)||^2`` from w, for A (n, P): active samples always count, inactive ones while violated."""
    B = A[:, on]
    held = B @ B.T
    r = _residual(w @ A, target, on)
    squares = _squares(r)
    goal = tol * np.sqrt(np.einsum("ip,ip->i", A, A) * squares)
    for _ in range(max_iter):
        gradient = A @ r
        if np.all(np.abs(gradient) <= goal):
            break
        B = A[:, ~on & (r > 0)]
        H = held + B @ B.T
        diagonal = np.einsum("ii->i", H)  # a view
        diagonal[:] = np.where(diagonal > 0, diagonal * (1 + RIDGE), 1.0)  # an input that no counted sample sees stays put
        step = np.linalg.solve(H, -gradient)
        slope, length = float(gradient @ step), 1.0
        while length >= SHORTEST:
            r = _residual((w + length * step) @ A, target, on)
            if _squares(r) <= squares + 2 * DESCENT * length * slope:
                break
            length /= 2
        if length < SHORTEST or not _squares(r) < squares:
            break
        w, squares = w + length * step, _squares(r)
    return w


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
