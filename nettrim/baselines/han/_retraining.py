"""Retraining of what pruning has left, after Han et al. 2015: dropout for fewer connections, and the penalties."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.baselines import _door
from nettrim.data import Data
from nettrim.masks import LAYERS, Masks, weights
from nettrim.train import train

STRENGTHS = {"l1": 1e-5, "l2": 3e-4, "none": 0.0}


def dropout_ratio(ratio: float, left: int, connections: int) -> float:
    """Return the ratio of dropout for a layer with fewer connections: ``D_r = D_o sqrt(C_r / C_o)``.

    Parameters
    ----------
    ratio : float
        D_o, that of the training.
    left : int
        C_r, connections that are left.
    connections : int
        C_o, those that there were.

    Returns
    -------
    float
        D_r.
    """
    return ratio * math.sqrt(left / connections)


def with_dropout(model: nn.Module, masks: Masks, original: nn.Module | None = None) -> nn.Module:
    """Give each dropout the ratio that suits the connections left in the layer before it.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged. The layer before a dropout is the last linear layer or convolution that the model holds before it; a
        dropout that stands in two places has one ratio, that of the first.
    masks : dict
        Which of its weights are kept.
    original : torch.nn.Module, optional
        The same network with the ratios that it was trained with; by default they are those of ``model``.

    Returns
    -------
    torch.nn.Module
        A copy.
    """
    adjusted, last = copy.deepcopy(model), ""
    trained_with = dict((original or model).named_modules())
    for name, module in adjusted.named_modules():
        if isinstance(module, LAYERS):
            last = f"{name}.weight" if name else "weight"
        elif isinstance(module, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)) and last in masks:
            module.p = dropout_ratio(trained_with[name].p, int(masks[last].sum()), masks[last].numel())
    return adjusted


def fit(
    model: nn.Module,
    data: Data,
    *,
    penalty: str = "l2",
    strength: float | None = None,
    label_smoothing: float = 0.1,
    **how: Any,
) -> nn.Module:
    """Train a network with one of the penalties of the paper.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    data : Data
        Its training samples.
    penalty : {"l2", "l1", "none"}, optional
        ``strength / 2`` times the sum of squares of all parameters, as optimizers have it; ``strength`` times the sum of
        magnitudes of the weights, biases apart; or nothing.
    strength : float, optional
        By default that of ``STRENGTHS``.
    label_smoothing : float, optional
        Of the cross-entropy.
    **how
        What else ``nettrim.train.train`` takes: epochs, masks, seed and so on.

    Returns
    -------
    torch.nn.Module
        The trained copy, in evaluation mode.

    Raises
    ------
    SettingError
        If there is no such penalty, or its strength is negative.
    """
    _door.choice("penalty", penalty, STRENGTHS)
    scale = STRENGTHS[penalty] if strength is None else _door.positive("strength", strength, zero=True)
    if penalty == "l2":
        how |= {"weight_decay": scale, "label_smoothing": label_smoothing}
    elif penalty == "none" or scale == 0:
        how |= {"label_smoothing": label_smoothing}
    else:

        def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            size = sum((weight.abs().sum() for weight in weights(network).values()), torch.zeros(()))
            return F.cross_entropy(network(x), y, label_smoothing=label_smoothing) + scale * size

        how |= {"loss": loss}
    return train(model, data.x_train, data.y_train, **how)
