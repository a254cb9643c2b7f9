"""A linear layer and a convolution that drop some of their smallest weights, or units, in every step of training.

Gomez, Zhang, Kamalakara, Madaan, Swersky, Gal, Hinton, "Learning Sparse Networks Using Targeted Dropout" (2019),
arXiv:1905.13678.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.baselines._door import fraction
from nettrim.baselines.targeted_dropout._targeting import candidates
from nettrim.errors import SettingError


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
