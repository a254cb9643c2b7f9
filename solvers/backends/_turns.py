"""Solves in threads of one process take turns where BLAS has threads of its own: see "Thread safety" of threadpoolctl.

The finish limits BLAS to one thread, for the whole process. A solve beside it would be slower for that and, as OpenBLAS sums
in another order then, would differ in its last bits; and whoever restores the limit last decides it for good.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from solvers.problem import LayerProblem

SMALL = 5e7  # multiplications in the largest product, a few milliseconds: to wake and to await a thread may take longer

Result = TypeVar("Result")

_turn = threading.RLock()  # a callback of the judge may solve another problem


def in_turn(solve: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that has BLAS to itself while it runs, with one thread of it where the problem is small.

    Parameters
    ----------
    solve : callable
        Takes a LayerProblem, and more.

    Returns
    -------
    callable
        The same function, with the same signature.
    """

    @functools.wraps(solve)
    def wait(problem: LayerProblem, **options: object) -> Result:
        with _turn:  # asked in here, where nobody's limit is in force
            if blas_threads() > 1:
                small = problem.N * problem.M * max(problem.N, problem.P) < SMALL
                with libraries().limit(limits=1 if small else None, user_api="blas"):
                    return solve(problem, **options)
        return solve(problem, **options)

    return wait


def blas_threads() -> int:
    """Return how many threads BLAS may use now."""
    return max((library["num_threads"] for library in libraries().info() if library["user_api"] == "blas"), default=1)


@functools.cache
def libraries() -> Any:
    """Return threadpoolctl's view of this process, made once: NumPy's and SciPy's BLAS are loaded when a solve begins."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
