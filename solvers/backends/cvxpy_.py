"""The program as written, handed to CVXPY: Clarabel by default, SCS or any conic solver that is installed. The slow oracle.

Diamond and Boyd, "CVXPY" (2016). X and Y are constants, never Parameters: canonicalizing large Parameters does not end.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np

from solvers.errors import SolverError
from solvers.problem import LayerProblem
from solvers.solution import Answer, Judge

REQUIRES = ("cvxpy",)
INSTALL = "'nettrim[cvxpy]'"
TAKES_START = False

# Bytes a conic solver is taken to need for each entry of the constraint matrix, its factor included. A guess for the
# guard below, not a measurement.
BYTES_PER_ENTRY = 150.0


def refuses(
    problem: LayerProblem,
    solver: str = "CLARABEL",
    solver_options: dict[str, Any] | None = None,
    zero_below: float = 1e-6,
    memory_limit: float = 8e9,
) -> str | None:
    """Say why this backend will not take a problem.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    solver, solver_options, zero_below, memory_limit : optional
        As in ``solve``.

    Returns
    -------
    str or None
        The reason, None if there is none.
    """
    import cvxpy as cp

    if solver.upper() not in cp.installed_solvers():
        return f"CVXPY finds no solver {solver!r}; installed: {', '.join(cp.installed_solvers())}"
    need = BYTES_PER_ENTRY * problem.N * problem.M * problem.P
    if need > memory_limit:
        return (
            f"{problem.N} x {problem.M} weights under {problem.M} x {problem.P} constraints would need about "
            f"{need / 1e9:.0f} GB, over memory_limit={memory_limit / 1e9:.0f} GB. Use backend='admm', fewer samples or "
            "fewer neurons, or raise memory_limit"
        )
    return None


def warm_up() -> None:
    """Import CVXPY, which takes a second."""
    importlib.import_module("cvxpy")


def solve(
    problem: LayerProblem,
    *,
    judge: Judge,
    max_iter: int | None,
    start: Any,
    solver: str = "CLARABEL",
    solver_options: dict[str, Any] | None = None,
    zero_below: float = 1e-6,
    memory_limit: float = 8e9,
) -> Answer:
    """State the program in CVXPY, in units that make data and responses of size 1, and hand it on.

    At epsilon 0, data in float32 miss their own equations by rounding, which a conic solver calls infeasible: ball and
    ceiling are then loosened by that rounding. The certificate judges the answer on the program as it was given.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    judge : Judge
        Gives the tolerance; a conic solver has no iterates to show.
    max_iter : int or None
        Passed on to Clarabel and SCS; for others use ``solver_options``.
    start : None
        Not used: a warm start through CVXPY is not reliable.
    solver : str, optional
        Name of an installed conic solver.
    solver_options : dict, optional
        Passed to the solver, over our own settings.
    zero_below : float, optional
        Weights below this fraction of the largest become exactly 0: interior points never are. Judged afterwards.
    memory_limit : float, optional
        Bytes that the solve may be estimated to need.

    Returns
    -------
    Answer
        Weights, the constraints' dual values, and CVXPY's status as the message.

    Raises
    ------
    SolverError
        If the solver gives up without weights.
    """
    import cvxpy as cp

    on, off = np.nonzero(problem.active), np.nonzero(~problem.active)
    penalty = np.broadcast_to(problem.penalty, (problem.N, problem.M))
    forced = np.nonzero(penalty == np.inf)
    U = cp.Variable((problem.N, problem.M))
    c0 = float(np.sqrt(np.square(problem.X, dtype=np.float64).sum(axis=1).max())) or 1.0
    unit = problem.norm or problem.violation_unit or 1.0
    Z = U.T @ (problem.X.astype(np.float64) / c0)
    loose = max(np.finfo(problem.X.dtype).eps, np.finfo(problem.Y.dtype).eps)  # by which rounded data may miss each other
    slack = 4 * np.sqrt(problem.N) * loose * unit if loose > 1e-10 and problem.epsilon == 0 else 0.0
    radius = max(problem.epsilon, slack) / unit
    residual = cp.Variable(len(on[0]))
    ball = Z[on] - problem.Y[on].astype(np.float64) / unit - residual == 0  # its dual is L_active, at epsilon = 0 too
    constraints = [ball, cp.norm(residual) <= radius if radius > 0 else residual == 0]
    ceiling = Z[off] <= (problem.V[off].astype(np.float64) + slack / np.sqrt(problem.Y.size)) / unit if len(off[0]) else None
    constraints += [ceiling] if ceiling is not None else []
    constraints += [U[forced] == 0] if len(forced[0]) else []
    prices = np.where(penalty == np.inf, 0.0, penalty)
    program = cp.Problem(cp.Minimize(cp.sum(cp.multiply(prices, cp.abs(U)))), constraints)
    settings = _settings(solver.upper(), judge.tol, max_iter) | (solver_options or {})
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")  # the certificate is the judge of that
            program.solve(solver=solver.upper(), **settings)
    except cp.SolverError as error:
        raise SolverError(f"{solver} through CVXPY failed: {error}") from error
    if U.value is None and program.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        word = f"{solver}: {program.status}"  # a word only: whether it is so is proved elsewhere, or not
        return Answer(np.zeros(penalty.shape), None, program.solver_stats.num_iters or 0, word)
    if U.value is None:
        raise SolverError(f"{solver} through CVXPY returned no weights; its status is {program.status!r}")
    W = np.where(np.abs(U.value) < zero_below * np.abs(U.value).max(), 0.0, U.value) * (unit / c0)
    dual = np.zeros((problem.M, problem.P))
    if ball.dual_value is not None:
        dual[on] = ball.dual_value / c0
        if ceiling is not None:
            dual[off] = ceiling.dual_value / c0
    return Answer(W, dual, program.solver_stats.num_iters or 0, f"{solver}: {program.status}")


def _settings(solver: str, tol: float, max_iter: int | None) -> dict[str, Any]:
    """Return the tolerances and the limit in the solver's own words.

    Ours are relative to the objective and to epsilon, theirs to the data: so they are asked for a good deal more.
    """
    fine = min(1e-8, tol * 1e-3)
    settings: dict[str, dict[str, Any]] = {
        "CLARABEL": {"tol_gap_abs": fine, "tol_gap_rel": fine, "tol_feas": fine},
        "SCS": {"eps_abs": tol * 1e-3, "eps_rel": tol * 1e-3, "max_iters": max_iter or 100_000},
    }
    limits = {"CLARABEL": {"max_iter": max_iter}} if max_iter is not None else {}
    return settings.get(solver, {}) | limits.get(solver, {})
