"""What held-out samples promise of new ones: bounds on the error of a trimmed model, whatever the distribution.

``theory.heldout`` says what is assumed: independent draws from the distribution of the new samples, with no part in
training, trimming or the choice of either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from theory import rate_bound, share_bound


@dataclass(frozen=True)
class Unseen:
    """Bounds for samples that nobody has seen; each has its confidence for itself, not all of them at once.

    Attributes
    ----------
    samples : int
        Held-out samples that they rest on.
    confidence : float
        With which each holds.
    error : float
        Of the distribution of samples a share as large as the confidence have outputs that move by at most this,
        ``||yhat - y||_2``; inf where there are too few samples to say (``theory.share_bound``).
    relative_error : float
        The same of ``||yhat - y||_2 / ||y||_2``.
    changed : float or None
        Share of the held-out samples whose largest output is another one than before; None where outputs are not ``(n, k)``
        with k of 2 or more.
    changed_bound : float or None
        With this confidence a new sample changes its largest output with no larger probability (``theory.rate_bound``).
    """

    samples: int
    confidence: float
    error: float
    relative_error: float
    changed: float | None = None
    changed_bound: float | None = None

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Unseen:
        """Read it back; what is not finite is null in JSON.

        Parameters
        ----------
        row : dict
            The fields by name.

        Returns
        -------
        Unseen
            The same.
        """
        return cls(**{name: math.inf if value is None and "error" in name else value for name, value in row.items()})

    def __str__(self) -> str:
        """Return a sentence."""
        said = f"held out, {self.samples} samples, {self.confidence:.0%} confidence: "
        if math.isfinite(self.error):
            said += f"{self.confidence:.0%} of new outputs move by at most {self.relative_error:.4f} of their norm"
            said += f" ({self.error:.4g})"
        else:
            said += "too few samples to bound the errors of new ones"
        if self.changed is not None:
            said += f"; {self.changed:.2%} changed class, of new ones at most {self.changed_bound:.2%}"
        return said


def unseen(outputs: Tensor, wanted: Tensor, confidence: float) -> Unseen:
    """Say what is promised of new samples.

    Parameters
    ----------
    outputs, wanted : torch.Tensor, shape (n, ...)
        Of the trimmed model and of the original one, on held-out samples.
    confidence : float
        Over 0 and below 1.

    Returns
    -------
    Unseen
        The bounds.
    """
    n = len(outputs)
    before = wanted.double().reshape(n, -1)
    errors = torch.linalg.norm(outputs.reshape(n, -1) - before, dim=1)  # in float64, which before is
    # Where an output was 0 any error is infinitely much of it, and none is none; where one overflows, so does the error.
    relative = torch.where(errors == 0, 0.0, errors / torch.linalg.norm(before, dim=1))
    errors, relative = (torch.nan_to_num(e, nan=math.inf, posinf=math.inf) for e in (errors, relative))
    changed = int((outputs.argmax(1) != wanted.argmax(1)).sum()) if wanted.ndim == 2 and wanted.shape[1] > 1 else None
    return Unseen(
        samples=n,
        confidence=confidence,
        error=share_bound(errors.cpu().numpy(), confidence, confidence),
        relative_error=share_bound(relative.cpu().numpy(), confidence, confidence),
        changed=None if changed is None else changed / n,
        changed_bound=None if changed is None else rate_bound(changed, n, confidence),
    )
