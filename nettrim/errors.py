"""What this package raises beside ``solvers.errors``, in the same tree."""

from solvers.errors import NetTrimError


class DataError(NetTrimError, ValueError):
    """A data file is missing, or is not what its name says."""


class ModelError(NetTrimError, ValueError):
    """A model, its calibration data or a saved result cannot be used as asked."""


class MaskError(NetTrimError, ValueError):
    """Masks do not fit their model, or cannot be made as asked."""


class SettingError(NetTrimError, ValueError):
    """A setting of a baseline is outside of what it may be."""
