"""Solves in threads of one process take turns where BLAS has threads of its own: see "Thread safety" of threadpoolctl.

The finish limits BLAS to one thread, for the whole process. A solve beside it would be slower for that and, as OpenBLAS sums
in another order then, would differ in its last bits; and whoever restores the limit last decides it for good.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

_turn = threading.RLock()  # a callback of the judge may solve another problem


def in_turn(solve: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that has BLAS to itself while it runs, unless BLAS has one thread only.

    Parameters
    ----------
    solve : callable
        Any function.

    Returns
    -------
    callable
        The same function, with the same signature.
    """

    @functools.wraps(solve)
    def wait(*args: object, **options: object) -> Result:
        from threadpoolctl import threadpool_info

        with _turn:  # asked in here, where nobody's limit is in force
            if any(library["user_api"] == "blas" and library["num_threads"] > 1 for library in threadpool_info()):
                return solve(*args, **options)
        return solve(*args, **options)

    return wait
