"""Which weights of a network are kept: one mask mechanism for every pruning method, and the ways to choose by magnitude.

Masks are a dict from the name of a parameter, as in ``model.named_parameters()``, to a tensor of bools of its shape, True
where the weight is kept. A layer that has no mask is whole. Biases and normalizations are never pruned.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nettrim.errors import MaskError

Masks = dict[str, Tensor]
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that may be pruned: those of linear layers and convolutions, shared ones once.

    Parameters
    ----------
    model : torch.nn.Module
        Any model.

    Returns
    -------
    dict
        Name to parameter, in the order of the model.
    """
    inside = {id(module.weight) for module in model.modules() if isinstance(module, LAYERS)}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in inside}


def everything(model: nn.Module) -> Masks:
    """Return masks that keep every weight.

    Parameters
    ----------
    model : torch.nn.Module
        Any model.

    Returns
    -------
    dict
        A mask for each of ``weights(model)``.
    """
    return {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights(model).items()}


def largest(model: nn.Module, counts: Mapping[str, int], among: Masks | None = None) -> Masks:
    """Keep the weights of largest magnitude in each layer, exactly as many as are asked for.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    counts : mapping
        Name to how many are kept. Of equal magnitudes the first in memory are kept.
    among : dict, optional
        Masks of those that are left; by default all are.

    Returns
    -------
    dict
        Masks for the names in ``counts``.

    Raises
    ------
    MaskError
        If a name is not of the model, a count is negative or above what is left, or weights are NaN.
    """
    found = weights(model)
    check(model, among or {})
    made = {}
    for name, count in counts.items():
        if name not in found:
            raise MaskError(f"{name!r} is no weight of a linear layer or convolution here; there are {', '.join(found)}")
        size = _size(found[name], (among or {}).get(name), name)
        left = int((size >= 0).sum())
        if count != int(count):
            raise MaskError(f"the weights of {name!r} to keep must be a whole number; got {count}")
        if not 0 <= count <= left:
            raise MaskError(f"{count} weights of {name!r} cannot be kept: {left} of {size.numel()} are left")
        made[name] = _top(size, int(count))
    return made


def magnitude(model: nn.Module, keep: float, *, scope: str = "layer") -> Masks:
    """Keep a fraction of the weights, those of largest magnitude.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    keep : float
        Fraction, in (0, 1]; rounded to the nearest number of weights.
    scope : {"layer", "global"}, optional
        Whether the fraction is of every layer, or of all of them together.

    Returns
    -------
    dict
        A mask for each of ``weights(model)``.

    Raises
    ------
    MaskError
        If ``keep`` is outside (0, 1], ``scope`` is neither, or weights are NaN.
    """
    if not 0 < keep <= 1:
        raise MaskError(f"keep is the fraction of the weights that stays, in (0, 1]; got {keep}")
    found = weights(model)
    if scope == "layer":
        return largest(model, {name: round(keep * weight.numel()) for name, weight in found.items()})
    if scope != "global":
        raise MaskError(f"scope is 'layer' or 'global'; got {scope!r}")
    sizes = [_size(weight, None, name).flatten() for name, weight in found.items()]
    if not sizes:
        return {}
    every = torch.cat(sizes)
    parts = _top(every, round(keep * every.numel())).split([len(size) for size in sizes])
    return {name: part.reshape(weight.shape) for (name, weight), part in zip(found.items(), parts, strict=True)}


def threshold(model: nn.Module, limits: Mapping[str, float], among: Masks | None = None) -> Masks:
    """Keep the weights of at least some magnitude.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    limits : mapping
        Name to the least magnitude that is kept.
    among : dict, optional
        Masks of those that are left; by default all are.

    Returns
    -------
    dict
        Masks for the names in ``limits``.

    Raises
    ------
    MaskError
        If a name is not of the model, or a limit is negative or no number.
    """
    found = weights(model)
    check(model, among or {})
    made = {}
    for name, limit in limits.items():
        if name not in found:
            raise MaskError(f"{name!r} is no weight of a linear layer or convolution here; there are {', '.join(found)}")
        if not limit >= 0:
            raise MaskError(f"the threshold of {name!r} must be at least 0; got {limit}")
        size = _size(found[name], (among or {}).get(name), name)
        made[name] = (size >= limit) & (size >= 0)
    return made


def shuffled(masks: Masks, generator: torch.Generator) -> Masks:
    """Return masks that keep as many weights of each layer, elsewhere.

    Parameters
    ----------
    masks : dict
        Left unchanged.
    generator : torch.Generator
        Of the draws.

    Returns
    -------
    dict
        For the same names.
    """
    return {
        name: mask.flatten()[torch.randperm(mask.numel(), generator=generator)].reshape(mask.shape)
        for name, mask in masks.items()
    }


def impose(model: nn.Module, masks: Masks) -> list[tuple[nn.Parameter, Tensor]]:
    """Set the weights that are not kept to 0, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Changed.
    masks : dict
        Which are kept.

    Returns
    -------
    list of (torch.nn.Parameter, torch.Tensor)
        The parameters that have a mask, and their masks.

    Raises
    ------
    MaskError
        If the masks do not fit the model; it is unchanged then.
    """
    check(model, masks)
    parameters = dict(model.named_parameters())
    held = [(parameters[name], mask) for name, mask in masks.items()]
    with torch.no_grad():
        for weight, mask in held:
            weight.masked_fill_(~mask, 0.0)  # a product would leave -0, and NaN of Inf
    return held


def check(model: nn.Module, masks: Masks) -> None:
    """Refuse masks that do not fit a model.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    masks : dict
        Its masks.

    Raises
    ------
    MaskError
        If a name is not of the model, or a mask is of another shape or no tensor of bools.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters:
            raise MaskError(f"there is a mask for {name!r}, which the model does not have; it has {', '.join(parameters)}")
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            came = getattr(mask, "dtype", type(mask).__name__)
            raise MaskError(f"the mask of {name!r} must be a tensor of bools; got {came}")
        shape, wanted = tuple(mask.shape), tuple(parameters[name].shape)
        if shape != wanted:
            raise MaskError(f"the mask of {name!r} has shape {shape}, its weight {wanted}")


def kept(model: nn.Module, masks: Masks) -> tuple[int, int]:
    """Count the weights that may be pruned.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    masks : dict
        Its masks; a layer without one is whole.

    Returns
    -------
    int, int
        How many are kept, and how many there are.
    """
    found = weights(model)
    left = sum(int(masks[name].sum()) if name in masks else weight.numel() for name, weight in found.items())
    return left, sum(weight.numel() for weight in found.values())


def _size(weight: Tensor, alive: Tensor | None, name: str) -> Tensor:
    """Return the magnitudes, -1 where a weight is gone already."""
    size = weight.detach().abs()
    if torch.isnan(size).any():
        raise MaskError(f"{name!r} holds NaN, which has no magnitude")
    return size if alive is None else size.masked_fill(~alive, -1.0)


def _top(size: Tensor, count: int) -> Tensor:
    """Return a mask of the largest entries, exactly ``count`` of them."""
    mask = torch.zeros(size.numel(), dtype=torch.bool, device=size.device)
    mask[torch.argsort(size.flatten(), descending=True, stable=True)[:count]] = True
    return mask.reshape(size.shape)
