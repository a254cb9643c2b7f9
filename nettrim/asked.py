"""What is asked of one layer, and the programs that say it, from arrays: a layer knows no model here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim.graph import Activation
from nettrim.storage import Storage, Weights
from solvers import LayerProblem, cascaded

ROOM = 1.02  # a radius over the smallest at which a program is known to have a solution


@dataclass(frozen=True)
class Asked:
    """What is asked of a layer.

    Attributes
    ----------
    activation : {"relu", "linear"}
        What follows it.
    epsilon : float
        Radius relative to ``||Y||_F``; with a sparsity, where the search for it begins.
    sparsity : float or None
        Fraction of the weights (biases apart) that is to be zero; the radius is then searched for.
    gamma : float or None
        Of a layer whose inputs have changed (cascade): inflation rate. None for the radius of ``epsilon`` there too, around
        weights refitted on those inputs, as with a sparsity.
    kappa : float
        Of the last layer there, where gamma is given: risk coefficient.
    loose : bool
        Whether ceilings below 0 are raised to 0 there, where gamma is given.
    penalize_bias : bool
        Whether the bias is priced like a weight.
    rounds : int
        Reweighted solves after the first.
    refit : bool
        Whether the response error is then minimized on the support.
    backend, tol, max_iter
        As in ``solvers.solve``.
    """

    activation: Activation
    epsilon: float = 0.1
    sparsity: float | None = None
    gamma: float | None = None
    kappa: float = 1.0
    loose: bool = True
    penalize_bias: bool = True
    rounds: int = 0
    refit: bool = False
    backend: str = "admm"
    tol: float = 1e-3
    max_iter: int | None = None


def programs(W: Weights, X: NDArray[Any], X_hat: NDArray[Any] | None, storage: Storage, asked: Asked) -> list[LayerProblem]:
    """State the programs of a layer, one a group.

    Parameters
    ----------
    W, X, X_hat, storage, asked
        As in ``retrain``.

    Returns
    -------
    list of LayerProblem
        At the radius of ``epsilon`` or, where X_hat and ``gamma`` are given, of ``gamma`` and ``kappa``; where X_hat alone
        is given, somewhat over that of ``solvers.cascaded`` at least. With a sparsity, at the smallest radius that is known
        to have a solution: 0, or where X_hat is given that of ``solvers.cascaded``.
    """
    dead = None if storage.scale is None else np.split(storage.scale == 0, len(W))
    stated = []
    for g, weights in enumerate(W):
        penalty = _penalty(weights.shape, storage.bias, asked.penalize_bias, None if dead is None else dead[g])
        original, changed = (None if array is None else rows_of(array, g, len(W), storage.bias) for array in (X, X_hat))
        weights = weights.astype(X.dtype)
        alone = LayerProblem.parallel if asked.activation == "relu" else LayerProblem.linear
        if changed is None or asked.sparsity is not None or asked.gamma is None:
            program = alone(original, weights, 0.0, penalty=penalty)
            program = program if changed is None else cascaded(program, changed, weights)
            program = program if asked.sparsity is not None else at_radius(program, asked.epsilon)
        elif asked.activation == "relu":
            program = LayerProblem.cascade(changed, original, weights, asked.gamma, loose=asked.loose, penalty=penalty)
        else:
            program = LayerProblem.cascade_linear(
                changed, original, weights, asked.gamma, kappa=asked.kappa, penalty=penalty
            )
        stated.append(program)
    return stated


def at_radius(problem: LayerProblem, epsilon: float) -> LayerProblem:
    """Return a program at another radius.

    Parameters
    ----------
    problem : LayerProblem
        The program, at the smallest radius that it may have.
    epsilon : float
        Radius relative to its responses.

    Returns
    -------
    LayerProblem
        At that radius, or with some room above its own where that is larger.
    """
    return problem.replace(epsilon=max(epsilon * problem.norm, ROOM * problem.epsilon))


def rows_of(X: NDArray[Any], group: int, groups: int, bias: bool) -> NDArray[Any]:
    """Return the inputs of a group, with the row of ones.

    Parameters
    ----------
    X : ndarray, shape (N', P)
        Inputs of all groups, a row of ones at the end where there is a bias.
    group, groups : int
        Which one, of how many.
    bias : bool
        Whether there is a row of ones.

    Returns
    -------
    ndarray, shape (N, P)
        X itself where there is one group.
    """
    if groups == 1:
        return X
    size = (len(X) - bias) // groups
    own = X[group * size : (group + 1) * size]
    return np.vstack([own, X[-1:]]) if bias else own


def _penalty(shape: tuple[int, ...], bias: bool, penalize_bias: bool, dead: Any) -> Any:
    """Return the prices: a free bias costs 0, and weights that a normalization multiplies by 0 are forbidden."""
    prices = np.ones((shape[0], 1))
    if bias and not penalize_bias:
        prices[-1] = 0.0
    if dead is not None and dead.any():
        prices = np.broadcast_to(prices, shape).copy()
        prices[: shape[0] - bias, dead] = np.inf
    return prices


def count(W: Weights, bias: bool) -> int:
    """Return how many weights are not zero, a last row of biases apart.

    Parameters
    ----------
    W : list of ndarray, shape (N, M)
        Weights of each group.
    bias : bool
        Whether their last row is a bias.

    Returns
    -------
    int
        The count.
    """
    return sum(int(np.count_nonzero(w[: len(w) - bias])) for w in W)
