"""How the errors of trimmed layers add up at the network's output.

Aghasi, Abdi, Nguyen, Romberg (NIPS 2017), supplement: Theorem 1 (parallel Net-Trim) and its recursion
``||Yhat_l - Y_l||_F <= eps_l + ||W_hat_l||_F ||Yhat_{l-1} - Y_{l-1}||_F``. Layers are numbered from the input; ReLU and the
identity are 1-Lipschitz, so are dropout in evaluation mode, flattening and max pooling over disjoint windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import ProblemError


def parallel_bound(weights: Sequence[NDArray[Any]], epsilons: Sequence[float]) -> float:
    """Bound the output error before trimming: Theorem 1 without link normalization.

    ``||Yhat_L - Y_L||_F <= sum_j eps_j prod_{k>j} ||W_k||_1``, with the entrywise l1 norm. Since trimming never raises that
    norm, the original weights will do. For a link-normalized network (every norm 1) it is the theorem's ``sum_j eps_j``.

    Parameters
    ----------
    weights : sequence of ndarray, shape (N_l, M_l)
        Original weights without bias rows, from the first layer to the last.
    epsilons : sequence of float
        Absolute radius of each layer's program.

    Returns
    -------
    float
        Bound on the Frobenius norm over the calibration samples.

    Raises
    ------
    ProblemError
        If the two differ in length, or a radius is negative or not a number.
    """
    return _accumulate(epsilons, [float(np.abs(W).sum(dtype=np.float64)) for W in weights])


def posterior_bound(weights_hat: Sequence[NDArray[Any]], errors: Sequence[float]) -> float:
    """Bound the output error after trimming, from what was reached: the recursion with spectral norms.

    ``||Yhat_L - Y_L||_F <= sum_j e_j prod_{k>j} ||W_hat_k||_2``, where e_j is the response error of layer j alone, on the
    original inputs. Sharper than the theorem's form: the spectral norm is at most the Frobenius norm, and that at most the
    l1 norm.

    Parameters
    ----------
    weights_hat : sequence of ndarray, shape (N_l, M_l)
        Trimmed weights without bias rows (a row of ones carries no error), from the first layer to the last.
    errors : sequence of float
        ``||ReLU(W_hat_l'X_l) - Y_l||_F`` of each layer, as its certificate gives it.

    Returns
    -------
    float
        Bound on the Frobenius norm over the calibration samples.

    Raises
    ------
    ProblemError
        If the two differ in length, or an error is negative or not a number.
    """
    return _accumulate(errors, [float(np.linalg.norm(np.asarray(W, np.float64), 2)) for W in weights_hat])


def _accumulate(errors: Sequence[float], norms: Sequence[float]) -> float:
    """Return ``sum_j errors_j prod_{k>j} norms_k``."""
    if len(errors) != len(norms):
        raise ProblemError(f"one error a layer is needed; got {len(errors)} errors and {len(norms)} layers")
    total = 0.0
    for error, norm in zip(errors, norms, strict=True):
        if not error >= 0:
            raise ProblemError(f"errors and radii must be 0 or more; got {error}")
        total = error + norm * total
    return total
