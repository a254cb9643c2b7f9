"""Linear quantization to k bits with the straight-through estimator: the numbers and their scales.

Bengio, Leonard, Courville (arXiv:1308.3432, 2013) for the estimator; Hubara, Courbariaux, Soudry, El-Yaniv, Bengio,
"Quantized Neural Networks" (arXiv:1609.07061, JMLR 2018) for networks trained with weights and activations of k bits.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nettrim.baselines import _door

PER, RULES = ("channel", "tensor"), ("mse", "max")
FRACTIONS = 50  # of the largest magnitude, among which the "mse" rule looks for the end of the range


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
        codes = torch.round(x / scale)
        ctx.inside = (codes >= low) & (codes <= high)
        return codes.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return gradient * ctx.inside, None, None, None


def fake_quantize(x: Tensor, scale: Tensor | float, low: int, high: int) -> Tensor:
    """Return ``scale * clip(round(x / scale), low, high)``; halves go to the even number.

    The gradient of the result passes to ``x`` where ``low <= round(x / scale) <= high`` and is 0 elsewhere (the
    straight-through estimator); none passes to ``scale``.

    Parameters
    ----------
    x : torch.Tensor
        Any shape.
    scale : torch.Tensor or float
        Positive; broadcast against ``x``.
    low, high : int
        The least and the greatest code.

    Returns
    -------
    torch.Tensor
        In the shape and dtype of ``x``.
    """
    return _FakeQuantize.apply(x, torch.as_tensor(scale, dtype=x.dtype), low, high)  # type: ignore[no-any-return]


def signed_codes(bits: int) -> int:
    """Return the greatest code of weights of k bits, ``2^(k-1) - 1``; the least is its negative.

    Parameters
    ----------
    bits : int
        k, from 2 on.

    Returns
    -------
    int
        1 for 2 bits, 7 for 4, 127 for 8.
    """
    return int(2 ** (bits - 1) - 1)


def range_scale(values: Tensor, low: int, high: int, rule: str = "mse") -> Tensor:
    """Return a scale for each row of values.

    Parameters
    ----------
    values : torch.Tensor, shape (rows, n)
        What is to be quantized.
    low, high : int
        The least and the greatest code.
    rule : {"mse", "max"}, optional
        ``"max"``: the largest magnitude becomes the greatest code. ``"mse"``: the end of the range is that one of 50 equally
        spaced fractions of the largest magnitude that gives the least squared error; what is beyond is clipped.

    Returns
    -------
    torch.Tensor, shape (rows,)
        Positive; 1 for a row of zeros, which any scale represents.
    """
    most = values.detach().abs().amax(1)
    most = torch.where(most > 0, most, torch.ones_like(most) * high)
    if _door.choice("scale", rule, RULES) == "max":
        return most / high
    best, least = most / high, torch.full_like(most, math.inf)
    for step in range(FRACTIONS, 0, -1):  # from "max" downwards, so that of equal errors the widest range is taken
        scale = most * (step / FRACTIONS) / high
        error = (fake_quantize(values.detach(), scale[:, None], low, high) - values.detach()).square().sum(1)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best


def weight_scale(weight: Tensor, bits: int, *, per: str = "channel", rule: str = "mse") -> Tensor:
    """Return the scale of weights of k bits: by ``"max"`` it is ``max |w| / (2^(k-1) - 1)``.

    Parameters
    ----------
    weight : torch.Tensor, shape (n_out, ...)
        Weights of a layer.
    bits : int
        k, 2 to 16.
    per : {"channel", "tensor"}, optional
        Whether every output has its own scale.
    rule : {"mse", "max"}, optional
        As in ``range_scale``.

    Returns
    -------
    torch.Tensor, shape (n_out, 1, ...) or (1, 1, ...)
        Positive.

    Raises
    ------
    SettingError
        If a setting is not one of those.
    """
    _door.choice("per", per, PER)
    most = signed_codes(_door.whole("bits", bits, 2, 16))
    rows = weight.flatten(1) if per == "channel" else weight.reshape(1, -1)
    return range_scale(rows, -most, most, rule).reshape(-1, *[1] * (weight.ndim - 1))
