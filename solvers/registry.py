"""Find a backend, ask it, time it, certify its answer: the one door to every solver.

A backend is a module in ``solvers/backends``; being there is its registration. See ``solvers.backends`` for the contract.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from solvers import backends
from solvers.arrays import Array, LazyMatrix
from solvers.errors import ProblemError, SolverError
from solvers.feasibility import out_of_reach
from solvers.problem import LayerProblem
from solvers.solution import Answer, Check, Judge, Solution, Status, start_point


def _modules() -> dict[str, ModuleType]:
    """Return the backends by name: the files here without a leading underscore, a trailing one dropped."""
    files = [info.name for info in pkgutil.iter_modules(backends.__path__) if not info.name.startswith("_")]
    return {name.rstrip("_"): importlib.import_module(f"solvers.backends.{name}") for name in sorted(files)}


def _module(name: str) -> ModuleType | None:
    """Return one backend without a look at the others, None where there is none of that name."""
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_") or name.endswith("_"):
        return None
    for file in (name, f"{name}_"):
        if importlib.util.find_spec(f"solvers.backends.{file}") is not None:
            return importlib.import_module(f"solvers.backends.{file}")
    return None


def _absent(module: ModuleType) -> str:
    """Return what a backend needs and does not find, empty where it finds all."""
    absent = [library for library in module.REQUIRES if importlib.util.find_spec(library) is None]
    return f"needs {', '.join(absent)}: pip install {module.INSTALL}" if absent else ""


def missing() -> dict[str, str]:
    """Tell which backends cannot be used here, and what would change that.

    Returns
    -------
    dict
        Name to a sentence with the pip line. Nothing is imported to find out.
    """
    reasons = {name: _absent(module) for name, module in _modules().items()}
    return {name: reason for name, reason in reasons.items() if reason}


def available() -> list[str]:
    """Return the names of the backends that can be used here.

    Returns
    -------
    list of str
        Sorted; each is a value for ``backend=`` of ``solve``.
    """
    absent = missing()
    return [name for name in _modules() if name not in absent]


def takes_start(backend: str) -> bool:
    """Tell whether a backend makes use of a warm start.

    Parameters
    ----------
    backend : str
        One of ``available()``.

    Returns
    -------
    bool
        Whether ``solve`` takes ``start`` with it.

    Raises
    ------
    SolverError
        If the backend is unknown or not installed.
    """
    return bool(_find(backend, {}).TAKES_START)


def warm_up(backend: str | None = None) -> dict[str, float]:
    """Do ahead of time what a first solve would wait for: imports, and kernels compiled or loaded from numba's cache.

    Parameters
    ----------
    backend : str, optional
        One of ``available()``; default, all of them.

    Returns
    -------
    dict
        Name to the seconds that it took; close to 0 where this process has done it before.

    Raises
    ------
    SolverError
        If the backend is unknown or not installed.
    """
    seconds = {}
    for name in available() if backend is None else [backend]:
        module, begin = _find(name, {}), time.perf_counter()
        module.warm_up()
        seconds[name] = time.perf_counter() - begin
    return seconds


def kernel_cache() -> str | None:
    """Return the folder in which numba keeps compiled kernels for other processes.

    Returns
    -------
    str or None
        Its path; None where numba is not installed, switched off, or has no folder that it can write. ``NUMBA_CACHE_DIR``
        chooses another.
    """
    if importlib.util.find_spec("numba") is None:
        return None
    from solvers.backends import _kernels

    path: str | None = getattr(getattr(_kernels.step, "stats", None), "cache_path", None)
    return path


def solve(
    problem: LayerProblem,
    backend: str = "admm",
    *,
    tol: float = 1e-3,
    max_iter: int | None = None,
    start: Solution | Array | None = None,
    throw: bool = True,
    callback: Callable[[Check], None] | None = None,
    **options: Any,
) -> Solution:
    """Solve a layer program and certify the answer.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    backend : str, optional
        One of ``available()``.
    tol : float, optional
        Asked of every backend alike: relative duality gap at most ``tol``, ball and ceiling violations at most
        ``tol * epsilon`` (``tol * ||Y_active||_F`` where epsilon is 0).
    max_iter : int, optional
        Iterations at most, in the backend's own sense; each backend has a default.
    start : Solution or array_like of shape (N, M), optional
        Warm start. A Solution of a nearby program (another epsilon, another penalty) carries its dual along.
    throw : bool, optional
        Whether to raise when the certificate is not met; else the status says so.
    callback : callable, optional
        Called with a ``Check`` whenever the backend has an iterate judged.
    **options
        The backend's own settings; see its module.

    Returns
    -------
    Solution
        Weights, status and certificate.

    Raises
    ------
    ProblemError
        If ``tol``, ``max_iter`` or ``start`` makes no sense.
    SolverError
        If the backend is unknown, not installed, refuses the problem or, with ``throw``, does not meet ``tol``. If that is
        because no weights come within epsilon, it says so: this is looked into after a solve that left the ball violated,
        at the cost of ``least_error``.
    """
    if not isinstance(problem, LayerProblem):
        raise ProblemError(
            f"solve takes a LayerProblem; got {type(problem).__name__}. LayerProblem.from_activations makes one"
        )
    held: Any = problem.X
    if isinstance(held, LazyMatrix):
        raise SolverError(
            "the inputs X of this problem are not stored, and backends read them at every iteration: solve "
            "problem.replace(X=problem.X[:, :]), or use what made the problem (nettrim.solve_operator)"
        )
    check_limits(tol, max_iter)
    module = _find(backend, options)
    start_point(start, problem)  # a start that does not fit is refused whoever will use it
    if start is not None and not module.TAKES_START:
        raise SolverError(f"backend {backend!r} takes no warm start; leave start out, or use 'admm'")
    if problem.epsilon >= problem.epsilon_max:
        nothing = Answer(np.zeros((problem.N, problem.M)), None, 0, "0 is feasible, so it is optimal")
        return _judged(Judge(problem, tol), nothing, backend, 0.0, throw)
    reason = module.refuses(problem, **options)
    if reason:
        raise SolverError(f"backend {backend!r} refuses this problem: {reason}")
    module.warm_up()
    judge = Judge(problem, tol, callback)
    answer = module.solve(problem, judge=judge, max_iter=max_iter, start=start, **options)
    seconds = time.perf_counter() - judge.began
    return _judged(judge, answer, backend, seconds, throw)


def check_limits(tol: float, max_iter: int | None) -> None:
    """Refuse a tolerance or a number of iterations that makes no sense.

    Parameters
    ----------
    tol, max_iter
        As in ``solve``.

    Raises
    ------
    ProblemError
        If the one is not positive, or the other not a whole number from 1 on.
    """
    if not (np.isfinite(tol) and tol > 0):
        raise ProblemError(f"tol must be a positive number; got {tol}")
    if max_iter is not None and not (max_iter >= 1 and max_iter % 1 == 0):
        raise ProblemError(f"max_iter must be a whole number, at least 1; got {max_iter}")


def _find(backend: str, options: dict[str, Any]) -> ModuleType:
    """Return the module of a backend that is installed and knows the options."""
    module = _module(backend)
    if module is None:
        raise SolverError(f"no backend is called {backend!r}; there are {', '.join(_modules())}")
    reason = _absent(module)
    if reason:
        raise SolverError(f"backend {backend!r} {reason}. Usable now: {', '.join(available())}")
    known = [
        name
        for name, parameter in inspect.signature(module.solve).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("judge", "max_iter", "start")
    ]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise SolverError(f"backend {backend!r} has no option {unknown[0]!r}; its options are {', '.join(known) or 'none'}")
    return module


def _judged(judge: Judge, answer: Answer, backend: str, seconds: float, throw: bool) -> Solution:
    """Zero what is known to be zero, certify, and decide the status; ask whether there is a solution where that is open."""
    problem, tol = judge.problem, judge.tol
    W = np.where(_known_zeros(problem), 0.0, answer.W).astype(answer.W.dtype) + 0  # + 0 turns -0.0 into 0.0
    certificate = judge.verdict(W, answer.dual)
    status, least = Status.SOLVED if certificate.meets(tol) else Status.UNMET, None
    if status is Status.UNMET and not certificate.ball <= problem.epsilon:
        least = out_of_reach(problem, W)
    if least is not None:
        status = Status.INFEASIBLE
        if throw:
            unit = problem.norm
            raise SolverError(
                f"backend {backend!r} cannot solve this problem, nor can any other: ||(U'X - Y)_active||_F is at least "
                f"{least:.6g} for any weights U, and epsilon is {problem.epsilon:.6g} (relative to ||Y_active||_F: "
                f"{least / unit:.6g} and {problem.epsilon / unit:.6g}). Raise epsilon, or kappa of a cascade; where weights "
                f"are priced inf, allow more of them. throw=False returns the answer. {answer.message}".rstrip()
            )
    if throw and status is Status.UNMET:
        raise SolverError(
            f"backend {backend!r} did not meet tol {tol:g} in {answer.iterations} iterations: gap {certificate.gap:.2e}, "
            f"ball violation {certificate.ball_violation:.2e} and ceiling violation {certificate.ceiling_violation:.2e} "
            f"(allowed: {tol * certificate.violation_unit:.2e}). {status.value} throw=False returns the answer. "
            f"{answer.message}".rstrip()
        )
    return Solution(
        W=W,
        dual=answer.dual,
        status=status,
        certificate=certificate,
        tol=tol,
        backend=backend,
        iterations=answer.iterations,
        seconds=seconds,
        checks=tuple(judge.checks),
        message=answer.message,
        least_error=least,
    )


def _known_zeros(problem: LayerProblem) -> Any:
    """Return the weights (N, M) that some optimum has at exactly 0, whatever a solver's rounding says.

    Rows of inputs that are always 0; columns of neurons that are never on, where 0 respects the ceiling; prices of inf.
    """
    dead = ~problem.X.any(axis=1, keepdims=True)
    # Neuron by neuron, for V >= 0 of all of them would be an array of all responses.
    off = np.array([not on.any() and (v >= 0).all() for on, v in zip(problem.active, problem.V, strict=True)])
    return dead | off | (problem.penalty == np.inf)
