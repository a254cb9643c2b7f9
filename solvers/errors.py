"""What this package raises: one tree, so that a caller can catch all of it or one branch."""


class NetTrimError(Exception):
    """Anything that this project refuses or fails at."""


class ProblemError(NetTrimError, ValueError):
    """The data do not state a layer program: wrong shapes, missing numbers, a negative radius."""


class SolverError(NetTrimError, RuntimeError):
    """A backend cannot be had, refuses the problem, or did not meet its certificate."""
