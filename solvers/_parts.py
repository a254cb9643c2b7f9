"""The parts of a layer's program, each checked at the door in the user's words before ``LayerProblem`` takes it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from solvers.arrays import Array, Mask, frobenius, to_array
from solvers.errors import ProblemError

Activation = Literal["relu", "linear"]


def check_gamma(gamma: float) -> None:
    """Refuse an inflation rate below 1: the trained weights would not be feasible."""
    if not (np.isfinite(gamma) and gamma >= 1):
        raise ProblemError(f"gamma, the inflation rate, must be a finite number, 1 or more; got {gamma}")


def check_same_samples(X_hat: Array, X: Array) -> None:
    """Refuse inputs of the trimmed network that cannot be of the same samples as the original ones."""
    if X_hat.shape != X.shape:
        raise ProblemError(f"X_hat is {X_hat.shape} and X is {X.shape}: the same samples must go through both")


def responses(X: Any, W: Any, name: str = "X") -> tuple[Array, Array]:
    """Return X as an array and W'X, shape (M, P), in the wider of the two dtypes."""
    X, W = to_array(X, name), to_array(W, "W")
    if X.ndim != 2 or W.ndim != 2 or X.shape[0] != W.shape[0] or 0 in X.shape or 0 in W.shape:
        raise ProblemError(
            f"{name} must be (N, P) and W (N, M), with the same number N of inputs and no axis of length 0; "
            f"got {X.shape} and {W.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by name when the problem is made
        return X, W.T @ X


def radius(epsilon: float, Y: Array, on: Mask, relative: bool) -> float:
    """Return the absolute radius; a bad epsilon passes through to be refused by the class in its own words."""
    return float(epsilon) * frobenius((Y,), lambda y, on: y[on], on) if relative else float(epsilon)


def spread(V: Any, name: str, shape: tuple[int, int]) -> Array:
    """Return V spread to (M, P); a scalar takes no memory."""
    array = to_array(V, name)
    if array.shape not in ((), shape):
        raise ProblemError(f"{name} must be a number or of Y's shape {shape}; got shape {array.shape}")
    return np.broadcast_to(array, shape)


def omega(active: Any, Y: Array, activation: Activation) -> Mask:
    """Return Omega, decided here once and for all."""
    if activation == "linear":
        if active is not None and not np.all(active):
            raise ProblemError("a linear layer is active everywhere: leave active out")
        return np.broadcast_to(np.True_, Y.shape)
    if active is None:
        return Y > 0
    mask = np.asarray(active)
    if mask.dtype != bool or mask.shape != Y.shape:
        raise ProblemError(f"active must be bool of Y's shape {Y.shape}; got {mask.dtype} of shape {mask.shape}")
    return mask


def prices(penalty: Any, N: int, M: int) -> Array:
    """Return the prices as float64, shape (), (N, 1) or (N, M)."""
    prices = np.asarray(penalty)
    if prices.dtype.kind not in "fiub":
        raise ProblemError(f"penalty must hold real numbers; got {prices.dtype}")
    prices = prices.astype(np.float64, copy=False)
    if prices.shape not in ((), (N, 1), (N, M)):
        raise ProblemError(f"penalty must be a number, ({N}, 1) or ({N}, {M}); got shape {prices.shape}")
    if np.isnan(prices).any() or (prices < 0).any():
        raise ProblemError(f"penalty must be 0 or more, inf allowed; got {prices[~(prices >= 0)].flat[0]}")
    return prices
