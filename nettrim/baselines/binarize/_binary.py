"""Signs with the straight-through estimator, and layers whose weights they are.

Courbariaux, Hubara, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks: Training Deep Neural Networks with Weights and
Activations Constrained to +1 or -1" (arXiv:1602.02830, 2016); Hubara et al. (NIPS 2016). Details are those of the authors'
code (MatthieuCourbariaux/BinaryNet, ``Train-time``). The scale of a filter: Rastegari, Ordonez, Redmon, Farhadi, "XNOR-Net"
(ECCV 2016).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.baselines import _door
from nettrim.baselines._bits import pack, unpack

WEIGHTS = ("sign", "stochastic", "scaled", "real")


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float | None, width: float | None) -> Tensor:
        ctx.inside = None if limit is None else x.abs() <= limit
        up = x >= 0 if width is None else torch.rand_like(x) < ((x / width + 1.0) / 2.0).clamp(0.0, 1.0)
        return up.to(x.dtype).mul_(2.0).sub_(1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return gradient if ctx.inside is None else gradient * ctx.inside, None, None


def sign_ste(x: Tensor, *, limit: float | None = 1.0, width: float | None = None) -> Tensor:
    """Return the signs, +1 at 0, with the gradient of ``clip(x, -limit, limit)``, its ends included.

    Parameters
    ----------
    x : torch.Tensor
        Any shape.
    limit : float or None, optional
        Behind which no gradient passes; None lets all of it through, as for weights, which are clipped themselves.
    width : float, optional
        If given, +1 is drawn with the probability ``clip((x / width + 1) / 2, 0, 1)`` from torch's global generator.

    Returns
    -------
    torch.Tensor
        +1 and -1 in the shape and dtype of ``x``.
    """
    return _Sign.apply(x, limit, width)  # type: ignore[no-any-return]


class Sign(nn.Module):
    """The sign as an activation; a stochastic one draws in training and is the plain sign in evaluation mode.

    Parameters
    ----------
    stochastic : bool, optional
        Whether to draw in training.
    gate : bool, optional
        Whether the gradient is stopped where the input is outside of [-1, 1].
    """

    def __init__(self, *, stochastic: bool = False, gate: bool = True) -> None:
        super().__init__()
        self.stochastic, self.gate = stochastic, gate

    def forward(self, x: Tensor) -> Tensor:
        """Return the signs.

        Parameters
        ----------
        x : torch.Tensor
            Any shape.

        Returns
        -------
        torch.Tensor
            Likewise.
        """
        return sign_ste(x, limit=1.0 if self.gate else None, width=1.0 if self.stochastic and self.training else None)

    def extra_repr(self) -> str:
        """Return the settings.

        Returns
        -------
        str
            For ``print``.
        """
        return f"stochastic={self.stochastic}, gate={self.gate}"


class Signed(nn.Module):
    """Takes pixels from [0, 1] to [-1, 1], which is where the first layer of the paper's networks has its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``2 x - 1``.

        Parameters
        ----------
        x : torch.Tensor
            Any shape.

        Returns
        -------
        torch.Tensor
            Likewise.
        """
        return 2.0 * x - 1.0


class _Binary:
    """What a binary linear layer and a binary convolution share: how weights are binarized, clipped and stored."""

    weight: nn.Parameter
    training: bool

    def _become(self, layer: nn.Linear | nn.Conv2d, kind: str) -> None:
        self.kind = _door.choice("weights", kind, WEIGHTS)
        # (n_in + n_out) of Glorot and Bengio; the authors' code counts a convolution's window on both sides.
        out, into, *window = layer.weight.shape
        self.bound = math.sqrt(1.5 / ((into + out) * math.prod(window)))
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.clip()

    def clip(self) -> None:
        """Clip the real weights behind the signs to ``[-bound, bound]``, in place; real weights stay."""
        if self.kind != "real":
            with torch.no_grad():
                self.weight.clamp_(-self.bound, self.bound)

    def scale(self) -> Tensor:
        """Return mean |w| of each output's weights, which is the alpha of least ``||w - alpha sign(w)||``.

        Returns
        -------
        torch.Tensor, shape (n_out, 1, ...)
            Not negative.
        """
        return self.weight.abs().flatten(1).mean(1).reshape(-1, *[1] * (self.weight.ndim - 1))

    def binary(self) -> Tensor:
        """Return the weights that the layer computes with.

        Returns
        -------
        torch.Tensor
            +1 and -1, for ``"scaled"`` times the scale of the output, for ``"real"`` the weights themselves.
        """
        if self.kind == "real":
            return self.weight
        drawn = self.kind == "stochastic" and self.training
        signs = sign_ste(self.weight, limit=None, width=self.bound if drawn else None)
        return self.scale() * signs if self.kind == "scaled" else signs

    def packed(self) -> dict[str, Tensor]:
        """Return what must be stored of the layer.

        Returns
        -------
        dict
            A bit a weight, and the scales; a real layer its weights.
        """
        weight = self.weight.detach()
        if self.kind == "real":
            return {"weight": weight.clone()}
        bits = {"weight": pack((weight >= 0).to(torch.int64), 1)}
        return bits | ({"scale": self.scale().detach().flatten()} if self.kind == "scaled" else {})

    def meaning(self) -> dict[str, Any]:
        """Return how the stored numbers are read.

        Returns
        -------
        dict
            The kind of the weights.
        """
        return {"weights": self.kind}

    def unpacked(self, stored: dict[str, Tensor]) -> None:
        """Take over what ``packed`` gave; the real weights behind the signs are gone, and become ``+-scale``.

        Parameters
        ----------
        stored : dict
            Of a layer like this one.
        """
        if self.kind == "real":
            values = stored["weight"]
        else:
            signs = unpack(stored["weight"], 1, self.weight.numel()).reshape(self.weight.shape) * 2 - 1
            size = stored["scale"].reshape(self.scale().shape) if self.kind == "scaled" else self.bound
            values = signs.to(self.weight.dtype) * size
        with torch.no_grad():
            self.weight.copy_(values)

    def extra_repr(self) -> str:
        """Return the settings.

        Returns
        -------
        str
            For ``print``.
        """
        return f"{super().extra_repr()}, kind={self.kind!r}"  # type: ignore[misc]


class BinaryLinear(_Binary, nn.Linear):
    """A linear layer of binary weights, without a bias: the batch normalization behind it has one.

    Parameters
    ----------
    layer : torch.nn.Linear
        Whose weights are the first real weights, clipped; left unchanged.
    kind : {"sign", "stochastic", "scaled", "real"}, optional
        How weights are binarized: by their sign; drawn in training, and by their sign in evaluation mode; by their sign
        times mean |w| of the output; or not at all.
    """

    def __init__(self, layer: nn.Linear, kind: str = "sign") -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self._become(layer, kind)

    def forward(self, x: Tensor) -> Tensor:
        """Return the products.

        Parameters
        ----------
        x : torch.Tensor, shape (..., n_in)
            Inputs.

        Returns
        -------
        torch.Tensor, shape (..., n_out)
            Responses.
        """
        return F.linear(x, self.binary())


class BinaryConv2d(_Binary, nn.Conv2d):
    """A convolution of binary weights, without a bias. What it pads with is 0, as in the authors' code.

    Parameters
    ----------
    layer : torch.nn.Conv2d
        Whose weights are the first real weights, clipped; left unchanged.
    kind : {"sign", "stochastic", "scaled", "real"}, optional
        As in ``BinaryLinear``.
    """

    def __init__(self, layer: nn.Conv2d, kind: str = "sign") -> None:
        given: dict[str, Any] = {
            name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")
        }
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel_size, bias=False, device="meta", **given)  # type: ignore[arg-type]
        self._become(layer, kind)

    def forward(self, x: Tensor) -> Tensor:
        """Return the responses.

        Parameters
        ----------
        x : torch.Tensor, shape (n, channels, height, width)
            Inputs.

        Returns
        -------
        torch.Tensor
            Responses.
        """
        return self._conv_forward(x, self.binary(), None)
