"""Which weights, or units, targeted dropout aims at, and how its rates rise.

Gomez, Zhang, Kamalakara, Madaan, Swersky, Gal, Hinton, "Learning Sparse Networks Using Targeted Dropout" (2019),
arXiv:1905.13678.
"""

from __future__ import annotations

import torch
from torch import Tensor


def candidates(weight: Tensor, gamma: float, *, units: bool = False) -> Tensor:
    """Return which weights are targeted: the smallest fraction of each unit's, or those of the smallest units.

    Parameters
    ----------
    weight : torch.Tensor
        Of a linear layer ``(n_out, n_in)`` or a convolution ``(n_out, n_in, height, width)``: a unit, or filter, is
        ``weight[o]``, a column in the paper.
    gamma : float
        Fraction, in [0, 1]: ``floor(gamma * fan_in)`` weights in each unit, or ``floor(gamma * n_out)`` whole units.
    units : bool, optional
        Whether units are targeted, by their l2 norm, or else weights, by their magnitude.

    Returns
    -------
    torch.Tensor
        Bools of the shape of the weight, True where it is targeted. Of equal ones the last in memory are.
    """
    rows = weight.detach().flatten(1)
    if units:
        aimed = _smallest(torch.linalg.vector_norm(rows, dim=1)[None], gamma)[0, :, None].expand_as(rows)
    else:
        aimed = _smallest(rows.abs(), gamma)
    return aimed.reshape(weight.shape)


def _smallest(size: Tensor, gamma: float) -> Tensor:
    """Mark the smallest of each row, ``floor(gamma * n)`` of them."""
    n = size.shape[1]
    count = int(gamma * n + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if count in (0, n):
        return torch.full_like(size, count > 0, dtype=torch.bool)
    # The first that is not marked is a threshold for each row; found from the nearer end, in a tenth of a sort's time.
    near = count + 1 <= n - count
    limit = size.topk(count + 1 if near else n - count, dim=1, largest=not near, sorted=False).values
    marked = size < (limit.amax(1, keepdim=True) if near else limit.amin(1, keepdim=True))
    tied = marked.sum(1) < count
    if tied.any():  # a threshold alone marks too few then
        order = size[tied].argsort(dim=1, descending=True, stable=True)[:, n - count :]
        marked[tied] = torch.zeros_like(size[tied], dtype=torch.bool).scatter_(1, order, True)
    return marked


def ramp(part: float, gamma: float, alpha: float, until: float) -> tuple[float, float]:
    r"""Return the rates of ramping targeted dropout, which are 0 at first.

    With :math:`s = part / until`, the part of the ramp that is done,

    .. math:: \gamma_s = 0.95\,\gamma \min(1, 2s) + 0.05\,\gamma \min(1, \max(0, 2s - 1)), \qquad
              \alpha_s = \alpha \min(1, s).

    Parameters
    ----------
    part : float
        Of the training that is done, in [0, 1].
    gamma, alpha : float
        The rates in the end.
    until : float
        Part of the training after which they are reached; 0 for constant rates.

    Returns
    -------
    float, float
        gamma and alpha now.
    """
    if until == 0:
        return gamma, alpha
    s = part / until
    return 0.95 * gamma * min(1.0, 2 * s) + 0.05 * gamma * min(1.0, max(0.0, 2 * s - 1)), alpha * min(1.0, s)
