"""Modules of a network replaced by others, in all of their places."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn


def swapped(model: nn.Module, make: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Return a copy of a network with other modules in the place of some.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    make : callable
        Returns what stands in the place of a module of the copy, or None if that stays.

    Returns
    -------
    torch.nn.Module
        The copy, or what stands in its place; a module that has two places has two places afterwards.
    """
    model = copy.deepcopy(model)
    whole = make(model)
    if whole is not None:
        return whole
    made: dict[int, nn.Module | None] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children() passes over the second place of a module
            if child is not None:
                if id(child) not in made:
                    made[id(child)] = make(child)
                other = made[id(child)]
                if other is not None:
                    setattr(parent, name, other)
    return model
