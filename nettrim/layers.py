"""Between torch's orientation and the paper's: the only file of this package that transposes.

torch stores a Linear's weight as (n_out, n_in) and feeds it rows; the paper has W (N, M) and X (N, P), a bias being the last
row of W over a row of ones in X.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from solvers import LayerProblem


def state(layer: nn.Linear, inputs: Tensor, epsilon: float, activation: Any, *, penalize_bias: bool) -> LayerProblem:
    """State the program of a layer on its inputs.

    Parameters
    ----------
    layer : torch.nn.Linear
        The trained layer.
    inputs : torch.Tensor
        What reaches it, ``(n_samples, n_in)``.
    epsilon : float
        Radius relative to ``||Y||_F``.
    activation : {"relu", "linear"}
        What follows it.
    penalize_bias : bool
        Whether the bias is priced like a weight.

    Returns
    -------
    LayerProblem
        The program, in the paper's orientation.

    Raises
    ------
    ProblemError
        If inputs or parameters hold NaN or Inf.
    """
    return LayerProblem.from_activations(
        inputs, layer.weight, layer.bias, epsilon, activation=activation, penalize_bias=penalize_bias
    )


def read(layer: nn.Linear) -> NDArray[np.float64]:
    """Return the parameters of a layer as W (N, M), in float64.

    Parameters
    ----------
    layer : torch.nn.Linear
        Any layer, any dtype and device.

    Returns
    -------
    ndarray, shape (N, M)
        Weights, and the bias as the last row where there is one.
    """
    weight = layer.weight.detach().cpu().double().numpy().T
    if layer.bias is None:
        return weight
    return np.vstack([weight, layer.bias.detach().cpu().double().numpy()])


def write(layer: nn.Linear, W: NDArray[Any]) -> None:
    """Put W (N, M) into a layer, cast to its dtype and contiguous.

    Parameters
    ----------
    layer : torch.nn.Linear
        The layer to change.
    W : ndarray, shape (N, M)
        Weights, and the bias as the last row where the layer has one.
    """
    rows = torch.from_numpy(np.ascontiguousarray(W.T))
    with torch.no_grad():
        layer.weight.copy_(rows[:, : layer.in_features])
        if layer.bias is not None:
            layer.bias.copy_(rows[:, -1])
