"""Targeted dropout in all layers of a model but the last, plain layers again, and the masks that go with it.

Gomez, Zhang, Kamalakara, Madaan, Swersky, Gal, Hinton, "Learning Sparse Networks Using Targeted Dropout" (2019),
arXiv:1905.13678.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

from torch import nn

from nettrim.baselines._door import fraction
from nettrim.baselines.targeted_dropout._layers import TargetedConv2d, TargetedLinear
from nettrim.baselines.targeted_dropout._targeting import candidates
from nettrim.errors import ModelError, SettingError
from nettrim.masks import LAYERS, Masks

_TARGETED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: TargetedLinear, nn.Conv2d: TargetedConv2d}


def aimed_at(model: nn.Module, exempt: Collection[str] | None = None) -> dict[str, nn.Module]:
    """Return the layers that are targeted, and pruned afterwards.

    Parameters
    ----------
    model : torch.nn.Module
        Any model of linear layers and convolutions in two dimensions.
    exempt : collection of str, optional
        Names of the layers that are not; by default the last one in the order of the model, which gives the logits.

    Returns
    -------
    dict
        Name to layer.

    Raises
    ------
    ModelError
        If no layer is left, or one is of a kind that cannot be targeted.
    SettingError
        If a name is no layer of the model.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    spared = list(layers)[-1:] if exempt is None else list(exempt)
    if unknown := [name for name in spared if name not in layers]:
        raise SettingError(f"exempt names {unknown[0]!r}, which is no layer of the model; there are {', '.join(layers)}")
    found = {name: layer for name, layer in layers.items() if name not in spared}
    for name, layer in found.items():
        if type(layer) not in (*_TARGETED, *_TARGETED.values()):
            raise ModelError(f"layer {name!r} is {type(layer).__name__}: only nn.Linear and nn.Conv2d can be targeted")
    if not found:
        raise ModelError(f"no layer is left to be targeted; the model has {', '.join(layers) or 'none'}, exempt or not")
    return found


def targeted(
    model: nn.Module,
    *,
    gamma: float = 0.5,
    alpha: float = 0.5,
    units: bool = False,
    whole: bool = True,
    rescale: bool = False,
    exempt: Collection[str] | None = None,
) -> nn.Module:
    """Return a copy of a model whose layers have targeted dropout; its state dict has the same keys.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    gamma, alpha, units, whole, rescale
        As in ``TargetedLinear``.
    exempt : collection of str, optional
        Names of the layers that stay as they are; by default the last one, which gives the logits.

    Returns
    -------
    torch.nn.Module
        The copy.

    Raises
    ------
    ModelError
        If no layer is left, or one is of a kind that cannot be targeted.
    SettingError
        If a rate is outside [0, 1], or a name is no layer of the model.
    """
    made = copy.deepcopy(model)
    for layer in aimed_at(made, exempt).values():
        # A new class for the copy's own layer: shared layers stay shared, and parameters, hooks and order what they are.
        layer.__class__ = _TARGETED.get(type(layer), type(layer))
        layer._aim(gamma, alpha, units, whole, rescale)  # type: ignore[operator]
    return made


def plain(model: nn.Module) -> nn.Module:
    """Return a copy of a model with plain layers in place of the targeted ones.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.

    Returns
    -------
    torch.nn.Module
        The copy, with the same weights.
    """
    made, back = copy.deepcopy(model), {there: here for here, there in _TARGETED.items()}
    for layer in made.modules():
        if type(layer) in back:
            layer.__class__ = back[type(layer)]
            for name in ("gamma", "alpha", "units", "whole", "rescale"):
                delattr(layer, name)
    return made


def bottom(model: nn.Module, prune: float, *, units: bool = False, exempt: Collection[str] | None = None) -> Masks:
    """Return masks without the weights, or units, that targeted dropout with this ``gamma`` aims at.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged, plain or targeted.
    prune : float
        Fraction of each unit's weights, or of each layer's units, that is not kept.
    units : bool, optional
        Whether it is units that are pruned. A unit without weights still gives its bias, as it does when it is dropped.
    exempt : collection of str, optional
        As in ``targeted``.

    Returns
    -------
    dict
        A mask for the weight of each layer that is not exempt.

    Raises
    ------
    ModelError
        If there is no such layer, or one is of a kind that cannot be targeted.
    SettingError
        If ``prune`` is outside [0, 1], or a name is no layer of the model.
    """
    prune = fraction("prune", prune, closed=True)
    aimed = {id(layer.weight) for layer in aimed_at(model, exempt).values()}
    return {
        name: ~candidates(weight, prune, units=units) for name, weight in model.named_parameters() if id(weight) in aimed
    }
