"""The relaxed Douglas-Rachford ADMM of ``admm`` on PyTorch tensors: on a CPU, on CUDA or on MPS.

Eckstein and Bertsekas (1992), as in ``admm``, whose constants and balance of rho these are. The iterates stay on the device
between two looks of the certificate, which is computed in float64 on the CPU, wherever the answer was found.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from solvers.backends import admm
from solvers.errors import SolverError
from solvers.problem import LayerProblem
from solvers.solution import Answer, Judge, start_point

REQUIRES = ("torch",)
INSTALL = "torch"
TAKES_START = True


def refuses(
    problem: LayerProblem,
    device: Any = None,
    rho: float | None = None,
    relaxation: float = admm.RELAXATION,
    dtype: str | None = None,
) -> str | None:
    """Say why this backend will not take a problem.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    device, rho, relaxation, dtype : optional
        As in ``solve``.

    Returns
    -------
    str or None
        The reason, None if there is none.
    """
    import torch

    reason = admm.refuses(problem, rho=rho, relaxation=relaxation, dtype=dtype)
    if reason:
        return reason
    name = str(device or "cpu")
    present = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    present += ["mps"] if torch.backends.mps.is_available() else []
    if name not in present and not (name == "cuda" and "cuda:0" in present):
        return f"device {name!r} is not here; PyTorch finds {', '.join(present)}"
    if name == "mps" and dtype == "float64":
        return "device 'mps' has no float64; use dtype='float32' or device='cpu'"
    if name.startswith("cuda"):
        free = torch.cuda.mem_get_info(name)[0] + torch.cuda.memory_reserved(name) - torch.cuda.memory_allocated(name)
        # Without a dtype the tolerance decides, which is not known here: what fits in float32 is let through.
        if bytes_needed(problem, dtype or "float32") > free:
            return f"of its memory {free / 1e9:.2f} GB are free, and {_demand(problem, name, dtype or 'float32')}"
    return None


def warm_up() -> None:
    """Import PyTorch, which takes a second."""
    importlib.import_module("solvers.backends._tensors")


def solve(
    problem: LayerProblem,
    *,
    judge: Judge,
    max_iter: int | None,
    start: Any,
    device: Any = None,
    rho: float | None = None,
    relaxation: float = admm.RELAXATION,
    dtype: str | None = None,
) -> Answer:
    """Iterate until the certificate is met.

    The iteration is that of ``admm.solve``; see there for the two proximal maps, the graph and the metric.

    Memory on the device: X, Y, the mask and three more (M, P) arrays, all in the working precision.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    judge : Judge
        Certifies the sparse weights and the multipliers at a geometric series of iterations.
    max_iter : int or None
        Iterations at most; None means 10,000.
    start : Solution, ndarray or None
        Warm start.
    device : str or torch.device, optional
        "cpu" (the default), "cuda", "cuda:1" or "mps". The data are copied there, once.
    rho : float, optional
        First penalty parameter; afterwards it follows the certificate. Default: as in ``admm``.
    relaxation : float, optional
        Over-relaxation, between 0 and 2; lowered late, as in ``admm``.
    dtype : {"float32", "float64"}, optional
        Working precision. Default: float32 where ``tol`` is 1e-4 or more, else float64.

    Returns
    -------
    Answer
        Weights, exactly sparse, and the multipliers of ball and ceiling.

    Raises
    ------
    SolverError
        If the device has not enough memory, or no float64 where ``tol`` asks for it.
    """
    from solvers.backends._tensors import Iteration, run

    dtype = dtype or ("float32" if judge.tol >= 1e-4 else "float64")
    name = str(device or "cpu")
    if name == "mps" and dtype == "float64":
        raise SolverError(f"tol {judge.tol:g} asks for float64, which 'mps' has not; use dtype='float32' or device='cpu'")
    with _working(problem, name, dtype):
        at = Iteration(problem, name, dtype, start_point(start, problem), rho)
    return run(at, judge, 10_000 if max_iter is None else max_iter, relaxation, lambda: _working(problem, name, dtype))


def bytes_needed(problem: LayerProblem, dtype: str) -> float:
    """Return about how many bytes a solve takes on its device.

    Parameters
    ----------
    problem : LayerProblem
        The program.
    dtype : {"float32", "float64"}
        Working precision.

    Returns
    -------
    float
        X, the targets, the mask and three work arrays (M, P), seven (N, M), the inverse (N, N), and what the inverse is
        made from in float64: three (N, N) and a block of X.
    """
    from solvers.backends._tensors import SAMPLES_AT_ONCE

    N, M, P = float(problem.N), problem.M, problem.P
    working = N * P + 5 * M * P + 7 * N * M + N * N
    return np.dtype(dtype).itemsize * working + 8 * (3 * N * N + N * min(P, SAMPLES_AT_ONCE))


def _demand(problem: LayerProblem, device: str, dtype: str) -> str:
    """Say what a solve needs of a device, and what to do where that is too much."""
    other = "device='cpu'" if device != "cpu" else "backend='admm', which copies less"
    return (
        f"{problem.N} x {problem.M} weights on {problem.P} samples need about {bytes_needed(problem, dtype) / 1e9:.2f} GB "
        f"on {device!r} in {dtype} (X, and five arrays of the shape of Y). Use fewer samples, or {other}"
    )


@contextmanager
def _working(problem: LayerProblem, device: str, dtype: str) -> Iterator[None]:
    """Hold PyTorch as the iteration needs it, give it back as it was, and put a lack of memory in the user's words."""
    import torch

    from solvers.backends._tensors import full_precision

    try:
        with torch.inference_mode(), full_precision():
            yield
    except RuntimeError as error:
        # CUDA and MPS say the first, CPUs the next two (the latter on Windows), cuBLAS and its kind the last.
        lacking = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
        if not any(sign in str(error) for sign in lacking):
            raise
        raise SolverError(f"out of memory: {_demand(problem, device, dtype)}") from error
