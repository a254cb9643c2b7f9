"""What this package raises beside ``solvers.errors``, in the same tree."""

from solvers.errors import NetTrimError


class DataError(NetTrimError, ValueError):
    """A data file is missing, or is not what its name says."""


class ModelError(NetTrimError, ValueError):
    """A model, its calibration data or a saved result cannot be used as asked."""
