"""What a theorem promises beside what was measured: a row that can fail, never a bare yes or no."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from solvers.errors import ProblemError


@dataclass(frozen=True)
class Check:
    """One statement of the theory, held against one experiment.

    Attributes
    ----------
    name : str
        What is compared, in words.
    source : str
        Paper and statement.
    measured, promised : float
        The quantity, and its upper bound.
    slack : float
        Fraction of the promise that solver tolerance and rounding may add to it.

    Raises
    ------
    ProblemError
        If the promise or the slack is negative or not a number.
    """

    name: str
    source: str
    measured: float
    promised: float
    slack: float = 0.0

    def __post_init__(self) -> None:
        for what in ("promised", "slack"):
            if not getattr(self, what) >= 0:
                raise ProblemError(f"{what} must be 0 or more; got {getattr(self, what)} ({self.name})")

    @property
    def holds(self) -> bool:
        """Whether the measured value is within the promise and its slack; what is not a number never holds."""
        return bool(self.measured <= self.promised * (1 + self.slack))

    @property
    def tightness(self) -> float:
        """Measured over promised: 1 where the bound is attained; 0 over 0 is 1, and nan where the promise is infinite."""
        if self.promised == 0:
            return 1.0 if self.measured == 0 else math.inf
        return self.measured / self.promised if math.isfinite(self.promised) else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return the row in JSON's types.

        Returns
        -------
        dict
            The fields, ``holds`` and ``tightness``.
        """
        return {**asdict(self), "holds": self.holds, "tightness": self.tightness}
