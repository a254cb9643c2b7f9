"""The bias of a class that a network was not trained on: much too low, and raised until the class is predicted often enough.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015), section 3.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from nettrim.data import Data
from nettrim.errors import DataError, ModelError
from nettrim.evaluate import logits


def bias_shift(z: Tensor, column: int, count: int) -> float:
    """Return what is to be added to the logits of a class so that it is predicted for a given number of samples.

    Parameters
    ----------
    z : torch.Tensor
        Logits, shape ``(n, n_classes)``.
    column : int
        The class.
    count : int
        For how many samples its logit is to be the largest, from 1 to n - 1.

    Returns
    -------
    float
        Midway between the least that does it and the most; negative if the class is predicted too often.

    Raises
    ------
    ValueError
        If the count is outside its range, or there is no such class.
    """
    if z.ndim != 2 or not 0 <= column < z.shape[1] or not 0 < count < len(z):
        raise ValueError(
            f"a shift takes logits (n, n_classes), one of the classes and a count from 1 to n - 1; got shape "
            f"{tuple(z.shape)}, class {column} and count {count}"
        )
    exact = z.double()
    others = exact.clone()
    others[:, column] = -math.inf
    needed = (others.amax(1) - exact[:, column]).sort().values
    return float(needed[count - 1] + needed[count]) / 2


def check_class(left_out: int, model: nn.Module, data: Data) -> None:
    """Refuse to leave out a class that is not there or the only one, or whose bias cannot be raised.

    Parameters
    ----------
    left_out : int
        The class.
    model : torch.nn.Module
        The student.
    data : Data
        Its data.

    Raises
    ------
    DataError
        If the class is missing, or there is no other.
    ModelError
        If the logits are not those of a last linear layer with biases.
    """
    there = data.y_train == left_out
    if not there.any() or there.all() or not (data.y_test == left_out).any():
        raise DataError(f"data {data.name!r} need samples of class {left_out} in both parts, and of others")
    raised = copy.deepcopy(model)
    biases = output_bias(raised)
    if left_out >= len(biases):
        raise ModelError(
            f"to raise the bias of class {left_out}, the last linear layer of the student must give its logits; it has "
            f"{len(biases)} outputs"
        )
    before = logits(model, data.x_test[:2])
    by = 1.0 + 2.0 * float(before.abs().max())  # up and down, beyond where a ReLU behind it would be off, or on
    for moved_by in (by, -by):
        with torch.no_grad():
            biases[left_out] += moved_by
        moved = logits(raised, data.x_test[:2]) - before
        moved[:, left_out] -= moved_by
        with torch.no_grad():
            biases[left_out] -= moved_by
        if moved.abs().max() > 1e-3 * by:  # rounding of logits is far below, of whatever else is done to them far above
            raise ModelError("to raise the bias of a class, the last linear layer of the student must give its logits")


def output_bias(model: nn.Module) -> nn.Parameter:
    """Return the biases of the last linear layer.

    Parameters
    ----------
    model : torch.nn.Module
        Ends with one.

    Returns
    -------
    torch.nn.Parameter
        Shape ``(n_classes,)``.

    Raises
    ------
    ModelError
        If it has none.
    """
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    if not last or last[0].bias is None:
        raise ModelError("to raise the bias of a class, the student must end with a linear layer with biases")
    return last[0].bias
