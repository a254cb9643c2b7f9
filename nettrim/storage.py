"""How the weights of a program lie in a model, and what rounding and folding make of them on the way there and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Weights = list[NDArray[np.float64]]  # W (N, M) of each group


@dataclass(frozen=True)
class Storage:
    """How the weights of a program lie in a model: in which dtype, and before which batch normalization.

    Attributes
    ----------
    dtype : torch.dtype
        Of the parameters.
    bias : bool
        Whether the last row of W is a bias.
    scale, offset : ndarray of shape (n_out,), or None
        Of a folded batch normalization: a parameter w stands for ``w * scale``, and one b for ``b - offset``. A neuron whose
        weights are all 0 has the running mean 0, so its b stands for itself: a bias that is to be 0 is 0, not its rounding.
    """

    dtype: torch.dtype
    bias: bool
    scale: NDArray[np.float64] | None = None
    offset: NDArray[np.float64] | None = None

    def stored(self, W: Weights) -> Weights:
        """Return what weights become when they are put into the model and read back.

        Parameters
        ----------
        W : list of ndarray, shape (N, M)
            Weights of each group.

        Returns
        -------
        list of ndarray
            Of the same shapes, in float64.
        """
        split = np.cumsum([w.shape[1] for w in W])[:-1]
        none: list[Any] = [None] * len(W)
        scales = none if self.scale is None else np.split(self.scale, split)
        offsets = none if self.offset is None else np.split(self.offset, split)
        return [self._stored(*each) for each in zip(W, scales, offsets, strict=True)]

    def parameters(self, W: NDArray[Any], scale: Any, offset: Any) -> NDArray[np.float64]:
        """Return the numbers that the model's own arrays are to hold, rounded to its dtype.

        Parameters
        ----------
        W : ndarray, shape (N, M)
            Weights of a group, or of all of them.
        scale, offset : ndarray of shape (M,), or None
            The parts of the folded normalization that belong to them.

        Returns
        -------
        ndarray, shape (N, M)
            In float64.
        """
        values = np.array(W, dtype=np.float64)
        rows = len(values) - self.bias
        if scale is not None:
            values[:rows] = np.divide(values[:rows], scale, out=np.zeros_like(values[:rows]), where=scale != 0)
            values[rows:] += np.where(self._silent(values), 0.0, offset)
        return torch.from_numpy(values).to(self.dtype).double().numpy()

    def _stored(self, W: NDArray[Any], scale: Any, offset: Any) -> NDArray[np.float64]:
        values = self.parameters(W, scale, offset)
        if scale is not None:
            rows = len(values) - self.bias
            values[:rows] *= scale
            values[rows:] -= np.where(self._silent(values), 0.0, offset)
        return values

    def _silent(self, values: NDArray[np.float64]) -> Any:
        """Return which neurons have no weight but 0 once they are rounded."""
        weights = torch.from_numpy(values[: len(values) - self.bias]).to(self.dtype)
        return ~weights.bool().any(dim=0).numpy()
