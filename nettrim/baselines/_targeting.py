"""Which weights targeted dropout aims at, the layers that drop some of them in every step, and how the rates rise.

Gomez, Zhang, Kamalakara, Madaan, Swersky, Gal, Hinton, "Learning Sparse Networks Using Targeted Dropout" (2019),
arXiv:1905.13678.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.baselines._door import fraction
from nettrim.errors import ModelError, SettingError
from nettrim.masks import LAYERS, Masks


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


class _Targeted:
    """What the targeted layers have in common; ``weight`` and ``training`` are those of the layer."""

    weight: Tensor
    training: bool
    gamma: float
    alpha: float
    units: bool
    whole: bool
    rescale: bool

    def dropped(self) -> Tensor:
        """Draw which weights are dropped, from torch's global generator.

        Returns
        -------
        torch.Tensor
            Bools of the shape of the weight: each candidate, or each unit of candidates, with probability ``alpha``.
        """
        return self._draw(candidates(self.weight, self.gamma, units=self.units))

    def thinned(self) -> Tensor:
        """Return the weight that a forward pass uses: in training some of it is 0, and has no gradient.

        Returns
        -------
        torch.Tensor
            Of the shape of the weight; the weight itself in evaluation mode.
        """
        if not self.training or self.alpha == 0 or self.gamma == 0:
            return self.weight
        aimed = candidates(self.weight, self.gamma, units=self.units)
        left = self.weight.masked_fill(self._draw(aimed), 0.0)
        return torch.where(aimed, left / (1 - self.alpha), left) if self.rescale else left

    def _draw(self, aimed: Tensor) -> Tensor:
        shape = (len(aimed), *[1] * (aimed.ndim - 1)) if self.units and self.whole else aimed.shape
        return aimed & (torch.rand(shape, device=aimed.device) < self.alpha)

    def extra_repr(self) -> str:
        """Return the settings as text.

        Returns
        -------
        str
            After those of the plain layer.
        """
        kind = ("whole units" if self.whole else "weights of units") if self.units else "weights"
        return f"{super().extra_repr()}, gamma={self.gamma:.4g}, alpha={self.alpha:.4g}, {kind}"  # type: ignore[misc]

    def _aim(self, gamma: float, alpha: float, units: bool, whole: bool, rescale: bool) -> None:
        self.gamma, self.alpha = fraction("gamma", gamma, closed=True), fraction("alpha", alpha, closed=True)
        self.units, self.whole, self.rescale = units, whole, rescale
        if rescale and alpha == 1:
            raise SettingError("alpha must be below 1 where what is left is rescaled by 1 / (1 - alpha)")


class TargetedLinear(_Targeted, nn.Linear):
    """A linear layer with targeted dropout of its weights or units while training; ``nn.Linear`` otherwise.

    Parameters
    ----------
    in_features, out_features : int
        As in ``nn.Linear``.
    *args
        The further arguments of ``nn.Linear``.
    gamma : float, optional
        Fraction that is targeted (``candidates``).
    alpha : float, optional
        Probability with which a candidate is dropped in a step; nothing else is rescaled for it.
    units : bool, optional
        Whether units are targeted, or else weights.
    whole : bool, optional
        Whether a targeted unit is dropped whole, as the paper says, or weight by weight, as the authors' code does.
    rescale : bool, optional
        Whether candidates that are left are divided by ``1 - alpha``, as in ordinary dropout; the paper's are not.
    **kwargs
        Likewise.

    Raises
    ------
    SettingError
        If a rate is outside [0, 1].
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *args: Any,
        gamma: float = 0.5,
        alpha: float = 0.5,
        units: bool = False,
        whole: bool = True,
        rescale: bool = False,
        **kwargs: Any,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, *args, **kwargs)
        self._aim(gamma, alpha, units, whole, rescale)

    def forward(self, input: Tensor) -> Tensor:
        """Return the responses.

        Parameters
        ----------
        input : torch.Tensor
            ``(..., n_in)``.

        Returns
        -------
        torch.Tensor
            ``(..., n_out)``.
        """
        return F.linear(input, self.thinned(), self.bias)


class TargetedConv2d(_Targeted, nn.Conv2d):
    """A convolution with targeted dropout of its weights or filters while training; ``nn.Conv2d`` otherwise.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : int
        As in ``nn.Conv2d``.
    *args
        The further arguments of ``nn.Conv2d``.
    gamma, alpha, units, whole, rescale
        As in ``TargetedLinear``.
    **kwargs
        Likewise.

    Raises
    ------
    SettingError
        If a rate is outside [0, 1].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *args: Any,
        gamma: float = 0.5,
        alpha: float = 0.5,
        units: bool = False,
        whole: bool = True,
        rescale: bool = False,
        **kwargs: Any,
    ) -> None:
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, *args, **kwargs)
        self._aim(gamma, alpha, units, whole, rescale)

    def forward(self, input: Tensor) -> Tensor:
        """Return the responses.

        Parameters
        ----------
        input : torch.Tensor
            ``(n, n_in, height, width)``.

        Returns
        -------
        torch.Tensor
            ``(n, n_out, ...)``.
        """
        return self._conv_forward(input, self.thinned(), self.bias)


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
