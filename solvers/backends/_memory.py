"""How much memory a solve takes, and what of it goes to temporary files where that exceeds a limit.

The iteration needs one scalar of all neurons together, the distance from the ball; so it can take them a few at a time, with
its (M, P) arrays in files: one more product an iteration. Files are unlinked at birth, and their pages are the system's to
take back.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arrays import blocks
from solvers.certificate import ROOM
from solvers.problem import LayerProblem

ROWS = 64  # neurons at a time in products; more do not make them faster
SLACK = 10 << 20  # bytes for allocators and BLAS, and as many again for each thread of the finish
FEW = 8  # neurons at a time below which the finish rather does with one thread


@dataclass(frozen=True)
class Plan:
    """Where the arrays of a solve go.

    Attributes
    ----------
    rows : int
        Neurons at a time; M where all of it is in memory.
    memory : int
        Bytes beyond the problem's own, about.
    disk : int
        Bytes in temporary files; 0 where none are needed.
    least : int
        Bytes that the smallest plan, one neuron at a time, would take.
    threads : int
        Of the finish.
    targets : bool
        Whether Y itself is what the kernels call the targets.
    """

    rows: int
    memory: int
    disk: int
    least: int
    threads: int
    targets: bool

    def array(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return zeros of a large shape: in memory, or in a file where the plan has files."""
        return zeros(shape, dtype, on_disk=self.disk > 0)

    def __str__(self) -> str:
        """Return it as a message to the user."""
        files = f", {_size(self.disk)} in temporary files in {tempfile.gettempdir()}, {self.rows} neurons at a time"
        return f"needs about {_size(self.memory)} of memory beyond the problem{files if self.disk else ''}"


def plan(problem: LayerProblem, dtype: Any, limit: float | None, *, gram: bool, threads: int = 2) -> Plan:
    """Decide what goes where.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    dtype : dtype
        Working precision.
    limit : float or None
        Bytes of memory that the solve may take beyond the problem; None for no limit.
    gram : bool
        Whether the iteration is on the Gram matrix, with no (M, P) array but the dual.
    threads : int, optional
        That the finish may have.

    Returns
    -------
    Plan
        Its memory exceeds the limit where not even one neuron fits.
    """
    N, M, P, size = problem.N, problem.M, problem.P, np.dtype(dtype).itemsize
    copies = 0 if gram or as_is(problem.X, dtype) else N * P * size
    targets = not gram and targets_as_is(problem, dtype)
    if not gram:
        copies += 0 if as_is(problem.active, np.bool_) else M * P
        copies += 0 if targets else M * P * size
    weights = N * M
    # By phase, for they give up what the next one does not need. The state is two (M, P) arrays in the first, one later.
    iteration = 12 * N * N + 7 * size * weights  # Gram matrix and inverse; weights, their state and what moves them
    judging = (32 + size) * weights + 2 * ROOM
    state, states = M * P * size, 1 if gram else 2
    if gram:
        iteration += 7 * 8 * weights  # all of it in float64, and kept

    def parts(threads: int) -> tuple[int, int]:
        """Return what the iteration and what comes later take without the state: faces and, a thread, a neuron's work."""
        finish = (32 + 2 * size) * weights + threads * (60 * P + 15 * N * N)  # vectors, and half of the inputs squared
        kept, slack = iteration if gram else 0, SLACK * (1 + threads)
        return iteration + slack, max(finish, judging) + kept + slack

    def small(threads: int) -> int:
        return max(parts(threads))

    first, later = parts(threads)
    whole = copies + max(first + states * state, later + state)
    if limit is None or whole <= limit:
        return Plan(M, whole, 0, whole, threads, targets)
    row = 0 if gram else P * size
    threads = threads if small(threads) + min(FEW, M) * row <= limit else 1
    rows = M if gram else min(max(int(limit - small(threads)) // row, 1), ROWS, M)
    return Plan(rows, small(threads) + rows * row, copies + states * state, small(1) + row, threads, targets)


def as_is(array: NDArray[Any], dtype: Any) -> bool:
    """Tell whether an array is what BLAS and the kernels take, so that no copy of it is needed."""
    return bool(array.dtype == dtype and array.flags.c_contiguous)


def targets_as_is(problem: LayerProblem, dtype: Any) -> bool:
    """Tell whether Y itself is what the kernels call the targets: Y where active, V elsewhere."""
    Y, V, on = problem.Y, problem.V, problem.active
    return as_is(Y, dtype) and all(
        np.array_equal(Y[:, part][~on[:, part]], V[:, part][~on[:, part]]) for part in blocks(problem.P)
    )


def copied(array: NDArray[Any], dtype: Any, plan: Plan) -> NDArray[Any]:
    """Return an array as BLAS and the kernels take it; where a copy is needed, it goes where the plan says."""
    if as_is(array, dtype):
        return array
    copy = plan.array(array.shape, dtype)
    copy[...] = array
    return copy


def zeros(shape: tuple[int, ...], dtype: Any, *, on_disk: bool) -> NDArray[Any]:
    """Return zeros on pages of their own, which go back to the system with them; a freed block of malloc's may stay.

    Raises
    ------
    OSError
        If the disk has no room: better than a signal when the pages are written.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not on_disk:
        return np.frombuffer(mmap.mmap(-1, size), dtype=dtype).reshape(shape)
    with tempfile.TemporaryFile(prefix="nettrim-") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).reshape(shape)


def give_back() -> None:
    """Have the allocator return what is free to the system, where it is glibc's: each thread's share else stays with it."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def _size(size: float) -> str:
    """Return bytes as a person reads them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
