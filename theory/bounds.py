"""How the errors of trimmed layers add up at the network's output.

Aghasi, Abdi, Nguyen, Romberg (NIPS 2017), supplement: Proposition 1 (one layer), Theorem 1 (parallel), Theorem 2 (cascade)
and Proposition S.1 (a linear last layer). Layers are numbered from the input; ReLU and the identity are 1-Lipschitz, and so
are dropout in evaluation mode, flattening and max pooling over disjoint windows. A row of ones carries no error, so bias
rows are left out of the weights, but where it is said otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from solvers.arrays import to_array
from solvers.errors import ProblemError
from solvers.problem import LayerProblem

Norm = Literal["spectral", "frobenius"]
NORMS = {"spectral": 2, "frobenius": "fro"}
ROUNDING = 1e-5  # by which the l1 norm of a layer may miss 1 and still be 1 in float32, summed over millions of weights


def layer_bound(problem: LayerProblem) -> float:
    """Bound the response error of one layer, for any weights that are feasible: Proposition 1.

    ``||max(U'X, 0) - Y||_F <= epsilon``. Where the neuron is off both responses are 0; where it is on and ``U'x <= 0``,
    ``y^2 <= (y - U'x)^2``.

    Parameters
    ----------
    problem : LayerProblem
        Its program. With a linear layer the constraint says it itself.

    Returns
    -------
    float
        The radius of the ball.

    Raises
    ------
    ProblemError
        If a ceiling is above 0 or a response is not 0 where the neuron is off.
    """
    if problem.activation == "relu" and bool((problem.V > 0).any(where=~problem.active)):
        raise ProblemError(
            "Proposition 1 needs ceilings of 0 or less where the neuron is off; this program has some above 0, as that of a "
            "cascade may have. certify(problem, W).response_error is the error itself"
        )
    if problem.activation == "relu" and bool((problem.Y != 0).any(where=~problem.active)):
        raise ProblemError("Proposition 1 needs responses of 0 where the neuron is off; this program has others there")
    return problem.epsilon


def parallel_bound(weights: Sequence[NDArray[Any]], epsilons: Sequence[float], *, link_normalised: bool = False) -> float:
    """Bound the output error before trimming apart: Theorem 1, and Proposition S.1 (a) for a linear last layer.

    ``||Yhat_L - Y_L||_F <= sum_j eps_j`` for a link-normalized network; else ``sum_j eps_j prod_{k>j} ||W_k||_1`` by the
    same proof, with the entrywise l1 norm. Since trimming never raises that norm, the original weights will do.

    Parameters
    ----------
    weights : sequence of ndarray, shape (N_l, M_l)
        Original weights, from the first layer to the last; with its bias row where the program prices that too, since what
        trimming does not raise is the norm of all that is priced.
    epsilons : sequence of float
        Absolute radius of each layer's program, every weight at the price 1.
    link_normalised : bool, optional
        Whether the theorem is to be taken at its word; its hypothesis is then checked.

    Returns
    -------
    float
        Bound on the Frobenius norm over the calibration samples.

    Raises
    ------
    ProblemError
        If the two differ in length, a radius is negative or not finite, weights hold NaN or Inf or do not follow each
        other, or the network is not link-normalized where it should be.
    """
    norms = [float(np.abs(W).sum(dtype=np.float64)) for W in _checked(weights)]
    if link_normalised:
        _check_normalised("Theorem 1", norms)
    return _accumulate(epsilons, norms)


def cascade_bound(
    weights: Sequence[NDArray[Any]],
    epsilon: float,
    gammas: Sequence[float],
    *,
    kappa: float = 1.0,
    norm: Norm = "spectral",
    link_normalised: bool = False,
) -> float:
    """Bound the output error before trimming in a cascade: Theorem 2, and Proposition S.1 (b) for a linear last layer.

    ``||Yhat_L - Y_L||_F <= kappa eps_1 prod_{j=2}^L gamma_j^{1/2}`` for a link-normalized network; else with the norms of
    the original W_j as further factors, since ``||W_j'Xhat - W_j'X||_F <= ||W_j|| ||Xhat - X||_F``. Only the trained
    weights enter: the radius of a layer is what they would miss by.

    Parameters
    ----------
    weights : sequence of ndarray, shape (N_l, M_l)
        Original weights, from the first layer to the last.
    epsilon : float
        Absolute radius of the first layer's program.
    gammas : sequence of float
        Inflation rate of each later layer, 1 or more.
    kappa : float, optional
        Risk coefficient of a linear last layer, over 0 and at most 1; it multiplies the radius of the last program.
    norm : {"spectral", "frobenius"}, optional
        Of the factors; the proof's is Frobenius, the spectral norm is no larger.
    link_normalised : bool, optional
        Whether the theorem is to be taken at its word; its hypothesis is then checked.

    Returns
    -------
    float
        Bound on the Frobenius norm over the calibration samples.

    Raises
    ------
    ProblemError
        If the lengths do not fit, a number is out of its range, weights hold NaN or Inf or do not follow each other, or
        the network is not link-normalized where it should be.
    """
    weights = _checked(weights)
    if len(gammas) != len(weights) - 1:
        raise ProblemError(f"Theorem 2 takes a gamma for each layer after the first: {len(weights) - 1}; got {len(gammas)}")
    for gamma in gammas:
        if not (np.isfinite(gamma) and gamma >= 1):
            raise ProblemError(f"Theorem 2 needs inflation rates gamma_l >= 1; got {gamma}")
    if not 0 < kappa <= 1:
        raise ProblemError(f"Proposition S.1 needs a risk coefficient kappa over 0 and at most 1; got {kappa}")
    if kappa < 1 and len(weights) == 1:
        raise ProblemError(f"kappa={kappa} is of a last layer behind trimmed ones; there is one layer only")
    if link_normalised:
        sizes = [float(np.abs(W).sum()) for W in weights]
        _check_normalised("Theorem 2", sizes)
        norms = sizes[1:]  # 1 up to rounding, and no less than the spectral or the Frobenius norm
    else:
        norms = [_norm(W, norm) for W in weights[1:]]
    return kappa * _accumulate([epsilon], [1.0]) * float(np.prod(np.sqrt(gammas))) * float(np.prod(norms))


def posterior_bound(weights_hat: Sequence[NDArray[Any]], errors: Sequence[float], *, norm: Norm = "spectral") -> float:
    """Bound the output error after trimming apart, from what was reached: the recursion in the proof of Theorem 1.

    ``||Yhat_L - Y_L||_F <= sum_j e_j prod_{k>j} ||W_hat_k||``, where e_j is the response error of layer j alone, on the
    original inputs. Sharper than the theorem's form: the spectral norm is at most the Frobenius norm, and that at most the
    l1 norm.

    Parameters
    ----------
    weights_hat : sequence of ndarray, shape (N_l, M_l)
        Trimmed weights, from the first layer to the last.
    errors : sequence of float
        ``||ReLU(W_hat_l'X_l) - Y_l||_F`` of each layer, as its certificate gives it.
    norm : {"spectral", "frobenius"}, optional
        Of the factors.

    Returns
    -------
    float
        Bound on the Frobenius norm over the calibration samples.

    Raises
    ------
    ProblemError
        If the two differ in length, an error is negative or not finite, or weights hold NaN or Inf or do not follow each
        other.
    """
    return _accumulate(errors, [_norm(W, norm) for W in _checked(weights_hat)])


def link_normalise(weights: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """Scale every layer to the entrywise l1 norm 1, the hypothesis of Theorems 1 and 2.

    A ReLU network without biases then gives its outputs divided by the product of the norms, for ``max(c z, 0)`` is
    ``c max(z, 0)`` where c is positive.

    Parameters
    ----------
    weights : sequence of ndarray, shape (N_l, M_l)
        Of each layer.

    Returns
    -------
    list of ndarray
        The same, scaled, in float64.

    Raises
    ------
    ProblemError
        If weights hold NaN or Inf, or a layer is 0.
    """
    scaled = []
    for number, W in enumerate(_checked(weights), 1):
        size = np.abs(W).sum()
        if size == 0:
            raise ProblemError(f"layer {number} is all zero: no factor gives it the norm 1")
        scaled.append(W / size)
    return scaled


def _checked(weights: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """Return weights in float64, each a matrix whose inputs are the outputs of the one before, and perhaps a bias."""
    checked = [to_array(W, f"the weights of layer {number}").astype(np.float64) for number, W in enumerate(weights, 1)]
    if not checked:
        raise ProblemError("weights of at least one layer are needed; got none")
    for number, W in enumerate(checked, 1):
        if W.ndim != 2 or 0 in W.shape:
            raise ProblemError(f"weights must be (N, M) arrays; layer {number} is not: shape {W.shape}")
    for number, (before, after) in enumerate(itertools.pairwise(checked), 2):
        if after.shape[0] - before.shape[1] not in (0, 1):
            raise ProblemError(
                f"layer {number} must take the outputs of layer {number - 1}, and may have a bias row: it has "
                f"{after.shape[0]} inputs for {before.shape[1]} outputs. Transposed? Weights are (inputs, outputs)"
            )
    return checked


def _check_normalised(theorem: str, norms: Sequence[float]) -> None:
    for number, size in enumerate(norms, 1):
        if abs(size - 1) > ROUNDING:
            raise ProblemError(
                f"{theorem} is for link-normalized networks, ||W_l||_1 = 1 in every layer; layer {number} has {size:.6g}. "
                "link_normalise(weights) scales them; without link_normalised=True the bound is that of the general network"
            )


def _norm(W: NDArray[np.float64], norm: Norm) -> float:
    if norm not in NORMS:
        raise ProblemError(f"norm must be 'spectral' or 'frobenius'; got {norm!r}")
    with np.errstate(over="ignore"):  # the bound is looked at for it
        return float(np.linalg.norm(W, NORMS[norm]))  # type: ignore[call-overload]


def _accumulate(errors: Sequence[float], norms: Sequence[float]) -> float:
    """Return ``sum_j errors_j prod_{k>j} norms_k``."""
    if len(errors) != len(norms):
        raise ProblemError(f"one error a layer is needed; got {len(errors)} errors and {len(norms)} layers")
    total = 0.0
    for error, norm in zip(errors, norms, strict=True):
        if not 0 <= error < np.inf:
            raise ProblemError(f"errors and radii must be finite numbers, 0 or more; got {error}")
        total = error + norm * total
    if not np.isfinite(total):
        raise ProblemError("the bound overflows: errors or norms are too large for float64")
    return total
