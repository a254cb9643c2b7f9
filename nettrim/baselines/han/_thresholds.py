"""Thresholds ``q std(W)`` of Han et al. 2015, and the ways to come to q: by hand, by a wanted fraction, by sensitivity."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nettrim.baselines import _door
from nettrim.errors import SettingError
from nettrim.evaluate import evaluate
from nettrim.masks import Masks, impose, largest, weights
from nettrim.progress import track

FRACTIONS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7)


def sensitivity(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, fractions: Sequence[float] = FRACTIONS
) -> list[dict[str, Any]]:
    """Scan how much a network loses when one of its layers is pruned by magnitude, without retraining.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    inputs : torch.Tensor
        Samples ``(n, ...)``.
    labels : torch.Tensor
        Class numbers ``(n,)``.
    fractions : sequence of float, optional
        Of a layer's weights that are kept, in (0, 1].

    Returns
    -------
    list of dict
        A row for each layer and fraction: ``layer``, ``kept`` (after rounding to whole weights), ``quality``, the q of this
        threshold, and ``accuracy``, ``loss`` and ``errors``.

    Raises
    ------
    SettingError
        If a fraction is out of its range.
    """
    parts = [fraction("fractions", part) for part in fractions]
    copied, rows = copy.deepcopy(model), []
    for name, weight in track(list(weights(copied).items()), "scanning sensitivity"):
        whole = weight.detach().clone()
        for part in parts:
            count = max(round(part * weight.numel()), 1)
            q = qualities(model, {name: count})[name]
            impose(copied, largest(copied, {name: count}))
            score = evaluate(copied, inputs, labels)
            rows.append({"layer": name, "kept": count / weight.numel(), "quality": q} | score._asdict())
            with torch.no_grad():
                weight.copy_(whole)
    return rows


def limits(model: nn.Module, quality: Mapping[str, float], among: Masks | None = None) -> dict[str, float]:
    """Return thresholds ``t_l = q_l std(W_l)``, for ``nettrim.masks.threshold``.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged.
    quality : mapping of str to float
        q of layers, by the name of the weight.
    among : dict, optional
        Masks of the weights that are left, whose deviation it is; by default all are.

    Returns
    -------
    dict
        Name to the least magnitude that stays. Where the weights are all equal q is that magnitude itself.

    Raises
    ------
    SettingError
        If there is no such layer, or a q is negative or no number.
    """
    std = deviations(model, among)
    return {name: q * (std[name] or 1.0) for name, q in named("quality", quality, weights(model), quality_parameter).items()}


def deviations(model: nn.Module, among: Masks | None = None) -> dict[str, float]:
    """Return the standard deviation of each layer's weights that are left, about their mean; 0 of none."""
    found = {}
    for name, weight in weights(model).items():
        mask = (among or {}).get(name)
        left = weight.detach().double() if mask is None else weight.detach()[mask].double()
        found[name] = float(left.std(correction=0)) if left.numel() else 0.0
    return found


def qualities(model: nn.Module, counts: Mapping[str, int], among: Masks | None = None) -> dict[str, float]:
    """Return for each layer the least q that keeps at most as many weights as wanted, and all that q can tell apart."""
    std, found = deviations(model, among), {}
    for name, count in counts.items():
        found[name] = _least(_sizes(model, name, among) / (std[name] or 1.0), count)
    return found


def common_quality(model: nn.Module, count: int, among: Masks | None = None) -> float:
    """Return the least q that, given to every layer, keeps at most as many weights of all of them together as wanted."""
    std = deviations(model, among)
    return _least(torch.cat([_sizes(model, name, among) / (std[name] or 1.0) for name in weights(model)]), count)


def spread(rows: list[dict[str, Any]], sizes: Mapping[str, int], dense: float, count: int) -> dict[str, int]:
    """Return how many weights of each layer stay so that the accuracies that they lose, each pruned alone, sum to least.

    A price of a weight is bisected: each layer keeps the fraction at which the accuracy it loses plus the price of what it
    keeps is least, so that a sensitive layer keeps more, and so does one whose weights are few. Between scanned fractions
    the loss is a line in the logarithm of the fraction; the whole layer loses nothing, and more weights never lose more.
    """
    least = min(row["kept"] for row in rows)
    fractions = np.exp(np.linspace(math.log(least), 0, 500))
    lost = {name: _lost([row for row in rows if row["layer"] == name], dense, fractions) for name in sizes}

    def choice(price: float) -> dict[str, float]:
        return {name: size * fractions[np.argmin(lost[name] + price * size * fractions)] for name, size in sizes.items()}

    low, high = -60.0, 60.0  # logarithms of the price: free, and beyond all accuracy
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(choice(math.exp(middle)).values()) > count else (low, middle)
    wanted = choice(math.exp(high))
    scale = count / sum(wanted.values())  # the price jumps over some numbers, and the scan may not go down far enough
    return rounded({name: value * scale for name, value in wanted.items()}, sizes, count)


def rounded(wanted: Mapping[str, float], sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """Return whole numbers near those wanted that add up to ``count``, none above its size; the largest layers give way."""
    found = {name: max(min(round(value), sizes[name]), 1) for name, value in wanted.items()}
    over = sum(found.values()) - count
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        change = max(min(over, found[name] - 1), found[name] - sizes[name])
        found[name] -= change
        over -= change
    return found


def _lost(rows: list[dict[str, Any]], dense: float, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the accuracy that a layer loses at each fraction."""
    scanned = sorted((row["kept"], max(dense - row["accuracy"], 0.0)) for row in rows if row["kept"] < 1)
    kept, loss = np.array([*scanned, (1.0, 0.0)]).T
    return np.interp(np.log(fractions), np.log(kept), np.maximum.accumulate(loss[::-1])[::-1])


def _sizes(model: nn.Module, name: str, among: Masks | None) -> Tensor:
    size = weights(model)[name].detach().abs().double()
    return size.flatten() if among is None or name not in among else size[among[name]]


def _least(ratios: Tensor, count: int) -> float:
    """Return the smallest of the ratios that stay when at most ``count`` do; equal ones stay or go together."""
    if count >= len(ratios):
        return 0.0
    goes = torch.sort(ratios, descending=True).values[count]
    stay = ratios[ratios > goes]
    q = float(stay.min()) if len(stay) else 2 * float(goes) + 1
    return q * (1 - 2**-51)  # q std(W) is rounded twice on its way: on no account above the least weight that is to stay


def named(name: str, given: Mapping[str, Any], found: Mapping[str, Any], one: Any) -> dict[str, float]:
    """Return a setting with a value for each named weight, each looked at by ``one``."""
    for key in given:
        if key not in found:
            raise SettingError(f"{name} names {key!r}, which is no weight here; there are {', '.join(found)}")
    return {key: one(f"{name} of {key!r}", value) for key, value in given.items()}


def fraction(name: str, value: Any) -> float:
    """Return a fraction that is to stay, of a setting."""
    if _door.fraction(name, value, closed=True) == 0:
        raise SettingError(f"{name} must be above 0: nothing would be left")
    return float(value)


def quality_parameter(name: str, value: Any) -> float:
    """Return a q, of a setting."""
    return _door.positive(name, value, zero=True)
