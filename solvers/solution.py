"""What a backend may say (``Answer``), who judges it (``Judge``) and what the caller gets (``Solution``)."""

from __future__ import annotations

import enum
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from solvers.arrays import Array, blocks, to_array
from solvers.certificate import Certificate, certify
from solvers.errors import ProblemError
from solvers.problem import LayerProblem


class Status(enum.Enum):
    """The verdict, decided by what is proved and by nothing else; the values are sentences for the user."""

    SOLVED = "The duality gap and both violations are within the tolerance."
    UNMET = "The gap or a violation exceeds the tolerance: raise max_iter, loosen tol, or try another backend."
    INFEASIBLE = "No weights come within epsilon of the responses, by any backend: raise epsilon, or kappa of a cascade."


@dataclass(frozen=True, eq=False)
class Answer:
    """What a backend returns. It does not say that it succeeded.

    Attributes
    ----------
    W : ndarray, shape (N, M)
        Weights.
    dual : ndarray, shape (M, P), or None
        Guess at the multipliers of ball and ceiling, in the sign and units of ``certify``.
    iterations : int
        How many iterations it took, in the backend's own sense.
    message : str
        The backend's own word, for the record only.
    """

    W: Array
    dual: Array | None
    iterations: int
    message: str = ""


class Check(NamedTuple):
    """One look of the judge at an iterate: after how many iterations and seconds of work (judging apart), what it saw."""

    iteration: int
    seconds: float
    certificate: Certificate


@dataclass
class Judge:
    """Certifies iterates while a backend works, and keeps the record.

    Attributes
    ----------
    problem : LayerProblem
        The program.
    tol : float
        The tolerance that the caller asked for.
    callback : callable, optional
        Called with each ``Check``; whatever it raises ends the solve.
    checks : list of Check
        The record so far.
    overhead : float
        Seconds spent judging.
    began : float
        When the solve began, by ``time.perf_counter``.
    """

    problem: LayerProblem
    tol: float
    callback: Callable[[Check], None] | None = None
    checks: list[Check] = field(default_factory=list)
    overhead: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    _last: bytes = b""

    def __call__(self, W: Array, dual: Array | None, iteration: int) -> Certificate:
        """Certify an iterate and record it.

        Parameters
        ----------
        W : ndarray, shape (N, M)
            Weights.
        dual : ndarray, shape (M, P), or None
            Guess at the multipliers.
        iteration : int
            How many iterations led here.

        Returns
        -------
        Certificate
            A backend may stop when it ``meets(judge.tol)``, and may tune itself by it.
        """
        begin = time.perf_counter()
        certificate = certify(self.problem, W, dual)
        self._last = _digest(W, dual)
        self.checks.append(Check(iteration, begin - self.began - self.overhead, certificate))
        if self.callback is not None:
            self.callback(self.checks[-1])
        self.overhead += time.perf_counter() - begin
        return certificate

    def verdict(self, W: Array, dual: Array | None) -> Certificate:
        """Certify an answer: the last certificate where that was given for these very bytes, else a new one.

        Parameters
        ----------
        W : ndarray, shape (N, M)
            Weights.
        dual : ndarray, shape (M, P), or None
            Guess at the multipliers.

        Returns
        -------
        Certificate
            Not in the record.
        """
        if self.checks and self._last == _digest(W, dual):
            return self.checks[-1].certificate
        return certify(self.problem, W, dual)


def _digest(W: Array, dual: Array | None) -> bytes:
    """Return a hash of both, -0.0 taken as 0.0 in W: a fraction of what the products of a certificate cost."""
    made = hashlib.blake2b(digest_size=32)
    for array in (W + 0,) if dual is None else (W + 0, dual):
        made.update(f"{array.shape} {array.dtype}".encode())
        for rows in blocks(len(array)):
            made.update(np.ascontiguousarray(array[rows]).data)
    return made.digest()


@dataclass(frozen=True, eq=False)
class Solution:
    """The judged answer to one layer program.

    Attributes
    ----------
    W : ndarray, shape (N, M)
        Weights, exactly sparse.
    dual : ndarray, shape (M, P), or None
        The backend's guess at the multipliers: ``certify(problem, W, dual)`` gives the certificate again.
    status : Status
        Whether the certificate meets ``tol`` and, if not, whether any could.
    certificate : Certificate
        Gap and violations in float64, recomputed from the data.
    tol : float
        The tolerance that was asked for.
    backend : str
        Who answered.
    iterations : int
        In the backend's own sense.
    seconds : float
        Wall time of the backend, checks included, compilation not.
    checks : tuple of Check
        The certificates seen on the way, with iterations and seconds.
    message : str
        The backend's own word, for the record only.
    least_error : float or None
        Where the status is INFEASIBLE, what no weights get below (``solvers.least_error``).
    """

    W: Array
    dual: Array | None
    status: Status
    certificate: Certificate
    tol: float
    backend: str
    iterations: int
    seconds: float
    checks: tuple[Check, ...] = ()
    message: str = ""
    least_error: float | None = None

    def __repr__(self) -> str:
        """Return one line with what matters."""
        c = self.certificate
        kept = float((self.W != 0).mean())
        return (
            f"Solution({self.status.name}, {self.backend}: kept {kept:.1%}, objective {c.objective:.6g}, "
            f"gap {c.gap:.1e}, violation {c.violation:.1e}, {self.iterations} iterations, {self.seconds:.2f} s)"
        )


def start_point(start: Any, problem: LayerProblem) -> tuple[Array | None, Array | None]:
    """Return the (W, dual) of a warm start, checked against the problem.

    Parameters
    ----------
    start : Solution, array_like of shape (N, M), or None
        Where to begin.
    problem : LayerProblem
        The program.

    Returns
    -------
    tuple
        W (N, M) and dual (M, P), each None where not given.

    Raises
    ------
    ProblemError
        If the shapes do not fit the problem, or numbers are missing.
    """
    if start is None:
        return None, None
    W = to_array(start.W if isinstance(start, Solution) else start, "start")
    if W.shape != (problem.N, problem.M):
        raise ProblemError(f"start must be (N, M) = {(problem.N, problem.M)}, or a Solution of that shape; got {W.shape}")
    dual = start.dual if isinstance(start, Solution) else None
    return W, dual if dual is not None and dual.shape == problem.Y.shape else None
