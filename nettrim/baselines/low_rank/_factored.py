"""Layers in factors as torch modules: two Linear for one, three convolutions (Tucker-2) or four (CP) for one.

Stride, padding and dilation go to the convolution that has the extent: a 1 x 1 convolution without a bias acts on each
pixel by itself and leaves zeros, so padding may come after it, whatever its mode. The bias goes to the last factor. Weights
are laid in as they are, without an initialization that would draw from torch's global generator.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nettrim.baselines import _door

Array = NDArray[np.float64]


def linear_pair(layer: nn.Linear, left: Array, right: Array) -> nn.Sequential:
    """Return two linear layers whose product is ``left right``.

    Parameters
    ----------
    layer : torch.nn.Linear
        Whose bias, dtype, device and mode they take; left unchanged.
    left : numpy.ndarray
        ``(n_out, rank)``, the second of them.
    right : numpy.ndarray
        ``(rank, n_in)``, the first, which has no bias.

    Returns
    -------
    torch.nn.Sequential
        ``(n, ..., n_in)`` to ``(n, ..., n_out)``.
    """
    parts = []
    for weight, bias in ((right, None), (left, layer.bias)):
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        parts.append(_filled(module, weight, bias, layer))
    return nn.Sequential(*parts).train(layer.training)


def tucker_convolutions(layer: nn.Conv2d, core: Array, inputs: Array | None, outputs: Array | None) -> nn.Sequential:
    """Return a 1 x 1 convolution, one with the core, and another 1 x 1.

    Parameters
    ----------
    layer : torch.nn.Conv2d
        Without groups; whose bias, stride, padding, dilation, dtype, device and mode they take; left unchanged.
    core : numpy.ndarray
        ``(R4, R3, height, width)``.
    inputs : numpy.ndarray or None
        U3 ``(S, R3)``; None where the core takes the inputs themselves.
    outputs : numpy.ndarray or None
        U4 ``(T, R4)``; None where the core gives the outputs themselves.

    Returns
    -------
    torch.nn.Sequential
        Images ``(n, S, ...)`` to ``(n, T, ...)``.
    """
    how = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "padding_mode": layer.padding_mode}
    parts = [] if inputs is None else [_convolution(inputs.T[:, :, None, None], None, layer)]
    parts.append(_convolution(core, layer.bias if outputs is None else None, layer, **how))
    parts += [] if outputs is None else [_convolution(outputs[:, :, None, None], layer.bias, layer)]
    return nn.Sequential(*parts).train(layer.training)


def cp_convolutions(layer: nn.Conv2d, weights: Array, factors: tuple[Array, ...]) -> nn.Sequential:
    """Return a 1 x 1 convolution, two depthwise ones along the height and the width, and another 1 x 1.

    Parameters
    ----------
    layer : torch.nn.Conv2d
        Without groups; whose bias, stride, padding, dilation, dtype, device and mode they take; left unchanged.
    weights : numpy.ndarray
        lambda ``(R,)``, at least 0; its fourth root goes to each factor, so that all learn at one pace.
    factors : tuple of numpy.ndarray
        ``(T, R)``, ``(S, R)``, ``(height, R)`` and ``(width, R)``.

    Returns
    -------
    torch.nn.Sequential
        Images ``(n, S, ...)`` to ``(n, T, ...)``.
    """
    T, S, H, V = (factor * weights**0.25 for factor in factors)
    R = len(weights)
    down, across = ({"groups": R, "padding_mode": layer.padding_mode} | _along(layer, axis) for axis in (0, 1))
    return nn.Sequential(
        _convolution(S.T[:, :, None, None], None, layer),
        _convolution(H.T[:, None, :, None], None, layer, **down),
        _convolution(V.T[:, None, None, :], None, layer, **across),
        _convolution(T[:, :, None, None], layer.bias, layer),
    ).train(layer.training)


def replaced(model: nn.Module, layers: dict[str, nn.Module]) -> nn.Module:
    """Return a copy of a model with other layers in some places.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    layers : dict
        Name, as in ``model.named_modules()``, to what is put there; copied too.

    Returns
    -------
    torch.nn.Module
        The copy.

    Raises
    ------
    ModelError
        If a layer that goes has hooks.
    """
    for name in layers:
        _door.unhooked(name, model.get_submodule(name))
    if "" in layers:
        return copy.deepcopy(layers[""])
    model = copy.deepcopy(model)
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, copy.deepcopy(layer))
    return model


def _along(layer: nn.Conv2d, axis: int) -> dict[str, Any]:
    """Return what of stride, padding and dilation is along one axis; "same" and "valid" are so along each."""
    padding = layer.padding if isinstance(layer.padding, str) else _only(layer.padding[axis], axis, 0)
    return {
        "stride": _only(layer.stride[axis], axis, 1),
        "padding": padding,
        "dilation": _only(layer.dilation[axis], axis, 1),
    }


def _only(value: int, axis: int, other: int) -> tuple[int, int]:
    return (value, other) if axis == 0 else (other, value)


def _convolution(weight: Array, bias: Tensor | None, like: nn.Conv2d, groups: int = 1, **how: Any) -> nn.Module:
    n_out, n_in, *size = weight.shape
    where = {"bias": bias is not None, "groups": groups, "device": "meta"}
    return _filled(nn.Conv2d(n_in * groups, n_out, tuple(size), **where, **how), weight, bias, like)


def _filled(module: nn.Module, weight: Array, bias: Tensor | None, like: nn.Module) -> nn.Module:
    """Give a module without memory its weights, as trainable as those that they stand for."""
    made = torch.from_numpy(np.ascontiguousarray(weight)).to(like.weight)
    module.weight = nn.Parameter(made.clone(), requires_grad=like.weight.requires_grad)
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().clone(), requires_grad=bias.requires_grad)
    return module
