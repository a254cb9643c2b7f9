"""Batch normalization in evaluation mode is an affine map; folded into the layer before it, the two are one layer.

Ioffe, Szegedy, "Batch Normalization" (ICML 2015): ``y = (z - mean) / sqrt(var + eps) * weight + bias``, channel by channel.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def folds(norm: nn.Module) -> bool:
    """Tell whether a module is a batch normalization that is an affine map once training is over.

    Parameters
    ----------
    norm : torch.nn.Module
        Any module.

    Returns
    -------
    bool
        False too without running statistics, or without a weight and a bias to write to.
    """
    return type(norm) in NORMS and norm.running_mean is not None and norm.bias is not None


def affine(norm: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the map of a batch normalization that ``folds``.

    Parameters
    ----------
    norm : torch.nn.BatchNorm1d, BatchNorm2d or BatchNorm3d
        In evaluation mode it maps z to ``scale * z + shift``.

    Returns
    -------
    scale, shift : ndarray, shape (n_channels,)
        In float64.
    """
    scale = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
    return scale, _float64(norm.bias) - _float64(norm.running_mean) * scale


def move(norm: Any, shift: NDArray[np.float64], silent: Tensor) -> None:
    """Give a batch normalization another shift, in place; its scale stays.

    Parameters
    ----------
    norm : torch.nn.BatchNorm1d, BatchNorm2d or BatchNorm3d
        One with a bias, which the shift goes into.
    shift : ndarray, shape (n_channels,)
        What a layer output of 0 is to become.
    silent : torch.Tensor of bool, shape (n_channels,)
        Channels that are always 0 now; so their running mean is 0 too, and their bias the shift itself.
    """
    with torch.no_grad():
        norm.running_mean.masked_fill_(silent, 0.0)
        scale, _ = affine(norm)
        norm.bias.copy_(torch.from_numpy(shift + _float64(norm.running_mean) * scale))


def fold(model: nn.Module, pairs: dict[str, str]) -> nn.Module:
    """Return a copy of a model with batch normalizations folded into the layers before them, in evaluation mode the same.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    pairs : dict of str to str
        Qualified names: layer to the batch normalization that alone follows it.

    Returns
    -------
    torch.nn.Module
        The layers have a bias, and an Identity stands where each normalization was.
    """
    folded = copy.deepcopy(model)
    for name, norm_name in pairs.items():
        layer, norm = folded.get_submodule(name), folded.get_submodule(norm_name)
        scale, shift = affine(norm)
        weight: Tensor = layer.weight
        bias = np.zeros(len(scale)) if layer.bias is None else _float64(layer.bias)
        values = _float64(weight) * scale.reshape(-1, *[1] * (weight.ndim - 1))
        with torch.no_grad():
            weight.copy_(torch.from_numpy(values))
            layer.bias = nn.Parameter(torch.from_numpy(bias * scale + shift).to(weight), weight.requires_grad)
        parent, _, child = norm_name.rpartition(".")
        setattr(folded.get_submodule(parent), child, nn.Identity())
    return folded


def _float64(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().double().numpy()
