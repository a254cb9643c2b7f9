"""Net-Trim's layer program: arrays in, weights and a certificate out. Knows no network and no file.

Everything public is here; importing it loads NumPy alone, each backend's library waits for its first use.
"""

from solvers.certificate import Certificate, certify
from solvers.errors import NetTrimError, ProblemError, SolverError
from solvers.feasibility import least_error
from solvers.problem import LayerProblem
from solvers.refine import Round, cascaded, refine, reweighted
from solvers.refit import refit
from solvers.registry import available, kernel_cache, missing, solve, takes_start, warm_up
from solvers.solution import Answer, Check, Solution, Status

__all__ = [
    "Answer",
    "Certificate",
    "Check",
    "LayerProblem",
    "NetTrimError",
    "ProblemError",
    "Round",
    "Solution",
    "SolverError",
    "Status",
    "available",
    "cascaded",
    "certify",
    "kernel_cache",
    "least_error",
    "missing",
    "refine",
    "refit",
    "reweighted",
    "solve",
    "takes_start",
    "warm_up",
]
