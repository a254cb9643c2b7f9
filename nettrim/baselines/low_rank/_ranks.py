"""Which layers of a network are put into factors, how, and at which rank; what is left alone says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nettrim.baselines import _door
from nettrim.baselines.low_rank._truncated import spectrum
from nettrim.baselines.low_rank._tucker import unfolded
from nettrim.baselines.low_rank._vbmf import evbmf
from nettrim.errors import SettingError
from nettrim.evaluate import evaluating
from nettrim.masks import LAYERS

Array = NDArray[np.float64]
RULES = ("evbmf", "energy", "ratio", "number")


class Plan(NamedTuple):
    """What is done with a layer.

    Attributes
    ----------
    how : str
        ``"svd"``, ``"tucker"``, ``"cp"``, or why it is left alone, beginning with ``"left alone"``.
    ranks : tuple of int
        One of "svd" and "cp", R3 and R4 of "tucker", none of a layer that is left alone.
    """

    how: str
    ranks: tuple[int, ...] = ()


def kinds(
    model: nn.Module, sample: Tensor, linear: str, convolution: str, layers: Iterable[str] | None, told: Iterable[str]
) -> dict[str, str]:
    """Return how each layer could be factored, before any rank is known.

    Parameters
    ----------
    model : torch.nn.Module
        Any model.
    sample : torch.Tensor
        One sample ``(1, ...)``, which shows the layer that is called last.
    linear, convolution : str
        What is done with these; ``"none"`` leaves them alone.
    layers : iterable of str or None
        Names of those that are asked for; None asks for all but the one that is called last.
    told : iterable of str
        Names of those whose ranks are told, which asks for them too.

    Returns
    -------
    dict
        Name to ``"svd"``, ``"tucker"``, ``"cp"``, or why it is left alone.

    Raises
    ------
    SettingError
        If a layer that is asked for is not in the model.
    """
    found = {name: module for name, module in model.named_modules(remove_duplicate=False) if isinstance(module, LAYERS)}
    unknown = set(layers or ()) - set(found)
    if unknown:
        raise SettingError(f"no layer is called {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    uses = Counter(id(module.weight) for module in found.values())
    last, made = _called_last(model, sample, found.values()), {}
    for name, module in found.items():
        if layers is None and module is last and name not in told:
            made[name] = "left alone: it gives the logits"
        elif layers is not None and name not in layers and name not in told:
            made[name] = "left alone: not asked for"
        elif uses[id(module.weight)] > 1:
            made[name] = "left alone: its weight is in several places"
        elif type(module) is nn.Linear:
            made[name] = "left alone: not asked for" if linear == "none" else "svd"
        elif type(module) is nn.Conv2d and module.groups == 1:
            made[name] = "left alone: not asked for" if convolution == "none" else convolution
        else:  # a subclass may be read by what it is in, as the projection of an attention is
            groups = getattr(module, "groups", 1)
            made[name] = f"left alone: {type(module).__name__}" + (f" of {groups} groups" if groups > 1 else "")
    return made


def planned(
    layer: nn.Module,
    how: str,
    rule: str,
    amount: float | None,
    *,
    asked: Any = None,
    gram: Array | None = None,
    smaller_only: bool = True,
    floor: bool = True,
) -> Plan:
    """Return what is done with a layer.

    Parameters
    ----------
    layer : torch.nn.Module
        Linear or convolution.
    how : str
        From ``kinds``.
    rule, amount
        How its rank is chosen.
    asked : int or sequence of int, optional
        Its rank or ranks, where they are told (``told``).
    gram : numpy.ndarray, optional
        Of its inputs.
    smaller_only : bool, optional
        Whether it is left alone where the factors have as many weights as it has, or more.
    floor : bool, optional
        Whether it gets rank 1 where EVBMF finds rank 0, or is left alone.

    Returns
    -------
    Plan
        How, and with which ranks.

    Raises
    ------
    SettingError
        If ``asked`` are no ranks of it.
    """
    if how.startswith("left alone"):
        return Plan(how)
    weight = layer.weight.detach().double().cpu().numpy()
    if rule == "evbmf" and asked is None and not floor and _silent(weight):
        return Plan("left alone: EVBMF finds nothing but noise in it")
    if asked is not None:
        ranks = told(asked, how, layer)
    elif how == "svd":
        ranks = (_chosen(weight, rule, amount, gram),)
    elif how == "tucker":
        ranks = _tucker_ranks(weight, rule, amount)
    else:
        ranks = (_cp_rank(weight, rule, amount),)
    if smaller_only and size(how, weight.shape, ranks) >= weight.size:
        shown = " and ".join(map(str, ranks))
        return Plan(f"left alone: {size(how, weight.shape, ranks)} weights at rank {shown} are no fewer than {weight.size}")
    return Plan(how, ranks)


def told(asked: Any, how: str, layer: nn.Module) -> tuple[int, ...]:
    """Return the ranks that were told for a layer.

    Parameters
    ----------
    asked : int or sequence of int
        R, or R3 and R4 of "tucker".
    how : str
        ``"svd"``, ``"tucker"`` or ``"cp"``.
    layer : torch.nn.Module
        Linear or convolution.

    Returns
    -------
    tuple of int
        As in ``Plan``.

    Raises
    ------
    SettingError
        If they are no ranks of it.
    """
    n_out, n_in = layer.weight.shape[:2]
    limits = {"svd": (min(n_out, n_in),), "tucker": (n_in, n_out), "cp": (layer.weight.numel(),)}[how]
    ranks = tuple(asked) if isinstance(asked, list | tuple) else (asked,)
    try:
        return tuple(_door.whole("rank", rank, 1, limit) for rank, limit in zip(ranks, limits, strict=True))
    except ValueError as error:  # of the door, or of zip: another number of ranks
        raise SettingError(f"the ranks of {layer} are whole numbers from 1 to {limits}; got {asked!r}") from error


def size(how: str, shape: tuple[int, ...], ranks: tuple[int, ...]) -> int:
    """Return the number of weights of a layer in factors.

    Parameters
    ----------
    how : str
        ``"svd"``, ``"tucker"`` or ``"cp"``.
    shape : tuple of int
        Of its weight, outputs and inputs first.
    ranks : tuple of int
        As in ``Plan``.

    Returns
    -------
    int
        r (m + n); S R3 + d^2 R3 R4 + T R4, a side at its full rank having no factor; R (S + 2 d + T).
    """
    n_out, n_in, *extent = shape
    if how == "tucker":
        r3, r4 = ranks
        return int(np.prod(extent)) * r3 * r4 + (n_in * r3 if r3 < n_in else 0) + (n_out * r4 if r4 < n_out else 0)
    return ranks[0] * (n_out + n_in + sum(extent))


def _called_last(model: nn.Module, sample: Tensor, layers: Iterable[nn.Module]) -> nn.Module | None:
    called: list[nn.Module] = []
    handles = [layer.register_forward_hook(lambda module, *_: called.append(module)) for layer in set(layers)]
    try:
        with evaluating(model):
            model(sample)
    finally:
        for handle in handles:
            handle.remove()
    return called[-1] if called else None


def _chosen(matrix: Array, rule: str, amount: float | None, gram: Array | None = None) -> int:
    """Return the rank of a matrix by a rule, at least 1."""
    full = min(matrix.shape)
    if rule == "evbmf":
        return max(1, evbmf(matrix).rank)
    if rule == "ratio":
        return max(1, round(amount * full))
    if rule == "number":
        return min(int(amount), full)
    power = np.cumsum(spectrum(matrix, gram) ** 2)
    # to rounding: all of the energy is reached where nothing is left but rounding
    return min(full, 1 + int(np.searchsorted(power, amount * power[-1] * (1 - 1e-12))))


def _silent(weight: Array) -> bool:
    """Say whether EVBMF finds rank 0 in a weight, or in an unfolding of a kernel; one row alone has no other rank than 1."""
    sides = [unfolded(weight, mode) for mode in (0, 1)]
    return any(evbmf(side).rank == 0 for side in sides if min(side.shape) > 1)


def _tucker_ranks(weight: Array, rule: str, amount: float | None) -> tuple[int, int]:
    """Return R3 and R4 from the two unfoldings; of a 1 x 1 kernel, which is a matrix, R4 alone is chosen."""
    _, n_in, *extent = weight.shape
    area = int(np.prod(extent))
    if area == 1:
        return n_in, _chosen(unfolded(weight, 0), rule, amount)
    r3, r4 = (_chosen(unfolded(weight, mode), rule, amount) for mode in (1, 0))
    return min(r3, r4 * area), min(r4, r3 * area)  # more than that a core of the other's rank cannot carry


def _cp_rank(weight: Array, rule: str, amount: float | None) -> int:
    """Return the number itself, or the components that have as many weights as Tucker-2 by the rule: CP has no spectrum."""
    if rule == "number":
        return int(amount)
    budget = size("tucker", weight.shape, _tucker_ranks(weight, rule, amount))
    return max(1, budget // size("cp", weight.shape, (1,)))
