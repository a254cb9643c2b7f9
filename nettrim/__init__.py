"""Net-Trim for PyTorch: prune a trained network layer by layer with convex programs, each answer with a certificate."""

from importlib.metadata import version

from nettrim.errors import DataError, ModelError
from nettrim.operator import solve_operator
from nettrim.program import layer_problems
from nettrim.report import LayerRow, TrimResult
from nettrim.store import load
from nettrim.trim import trim
from solvers import (
    Certificate,
    LayerProblem,
    NetTrimError,
    ProblemError,
    Round,
    Solution,
    SolverError,
    Status,
    available,
    cascaded,
    certify,
    least_error,
    missing,
    refine,
    refit,
    reweighted,
    solve,
    warm_up,
)

__version__ = version("nettrim")
__all__ = [
    "Certificate",
    "DataError",
    "LayerProblem",
    "LayerRow",
    "ModelError",
    "NetTrimError",
    "ProblemError",
    "Round",
    "Solution",
    "SolverError",
    "Status",
    "TrimResult",
    "available",
    "cascaded",
    "certify",
    "layer_problems",
    "least_error",
    "load",
    "missing",
    "refine",
    "refit",
    "reweighted",
    "solve",
    "solve_operator",
    "trim",
    "warm_up",
]
