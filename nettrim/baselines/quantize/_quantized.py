"""Layers whose weights, and once calibrated whose inputs, are numbers of k bits (see ``_quantizers``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.baselines import _door
from nettrim.baselines._bits import pack, unpack
from nettrim.baselines.quantize._quantizers import fake_quantize, range_scale, signed_codes, weight_scale

_MOST = 2**18  # inputs of a layer that the "mse" rule looks at


class _Quantized:
    """What a quantized linear layer and a quantized convolution share."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    scale: Tensor
    input_scale: Tensor
    input_range: Tensor

    def _become(self, layer: nn.Linear | nn.Conv2d, bits: int, per: str, rule: str) -> None:
        self.bits = _door.whole("bits", bits, 2, 16)
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("scale", weight_scale(layer.weight, bits, per=per, rule=rule))  # type: ignore[attr-defined]
        # Codes of the inputs; from 0 to 0 means that inputs are taken as they come.
        self.register_buffer("input_scale", layer.weight.new_ones(()))  # type: ignore[attr-defined]
        self.register_buffer("input_range", layer.weight.new_zeros(2, dtype=torch.int64))  # type: ignore[attr-defined]

    def calibrate(self, inputs: Tensor, bits: int, rule: str = "mse") -> None:
        """Choose how inputs are quantized: by unsigned codes if none is negative, as behind a ReLU, and else by signed ones.

        Parameters
        ----------
        inputs : torch.Tensor
            What the layer is given for calibration samples.
        bits : int
            Of each input, 2 to 16.
        rule : {"mse", "max"}, optional
            As in ``range_scale``.
        """
        bits = _door.whole("activation_bits", bits, 2, 16)
        signed = bool((inputs < 0).any())
        high = signed_codes(bits) if signed else 2**bits - 1
        low = -high if signed else 0
        values = inputs.detach().reshape(1, -1)
        if rule == "mse" and values.shape[1] > _MOST:  # the sample keeps the largest, from which the fractions are counted
            values = torch.cat([values[:, :: -(-values.shape[1] // _MOST)], values.abs().amax(1, keepdim=True)], 1)
        self.input_scale.copy_(range_scale(values, low, high, rule)[0])
        self.input_range.copy_(torch.tensor([low, high]))

    def quantized_weight(self) -> Tensor:
        """Return the weights that the layer computes with.

        Returns
        -------
        torch.Tensor
            Multiples of the scales.
        """
        most = signed_codes(self.bits)
        return fake_quantize(self.weight, self.scale, -most, most)

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return inputs as the layer sees them.

        Parameters
        ----------
        x : torch.Tensor
            Inputs.

        Returns
        -------
        torch.Tensor
            Multiples of the input scale, or the inputs themselves before calibration.
        """
        low, high = self.input_range.tolist()
        return fake_quantize(x, self.input_scale, low, high) if high else x

    def codes(self) -> Tensor:
        """Return the weights as whole numbers.

        Returns
        -------
        torch.Tensor
            int64, from ``-(2^(k-1) - 1)`` to ``2^(k-1) - 1``.
        """
        most = signed_codes(self.bits)
        return torch.round(self.weight.detach() / self.scale).clamp(-most, most).to(torch.int64)

    def packed(self) -> dict[str, Tensor]:
        """Return what must be stored of the layer.

        Returns
        -------
        dict
            k bits a weight, its scales, the bias, and how inputs are quantized if they are.
        """
        parts = {"weight": pack(self.codes() + signed_codes(self.bits), self.bits), "scale": self.scale.flatten()}
        parts |= {} if self.bias is None else {"bias": self.bias.detach()}
        return parts | ({"input_scale": self.input_scale} if int(self.input_range[1]) else {})

    def meaning(self) -> dict[str, Any]:
        """Return how the stored numbers are read.

        Returns
        -------
        dict
            Bits of a weight, and the least and the greatest code of an input, 0 and 0 if inputs are real.
        """
        return {"bits": self.bits, "inputs": self.input_range.tolist()}

    def unpacked(self, stored: Mapping[str, Tensor]) -> None:
        """Take over what ``packed`` gave; weights become multiples of their scales.

        Parameters
        ----------
        stored : mapping
            Of a layer like this one, calibrated if that was; without what is stored under the name of another layer.
        """
        with torch.no_grad():
            self.scale.copy_(stored["scale"].reshape(self.scale.shape))
            if "weight" in stored:
                codes = unpack(stored["weight"], self.bits, self.weight.numel()) - signed_codes(self.bits)
                self.weight.copy_(codes.reshape(self.weight.shape) * self.scale)
            if "bias" in stored:
                self.bias.copy_(stored["bias"])  # type: ignore[union-attr]
            if "input_scale" in stored:
                self.input_scale.copy_(stored["input_scale"])

    def extra_repr(self) -> str:
        """Return the settings.

        Returns
        -------
        str
            For ``print``.
        """
        return f"{super().extra_repr()}, bits={self.bits}, inputs={self.input_range.tolist()}"  # type: ignore[misc]


class QuantLinear(_Quantized, nn.Linear):
    """A linear layer whose weights, and once calibrated its inputs, are fake-quantized; the bias is real.

    Parameters
    ----------
    layer : torch.nn.Linear
        Whose parameters it shares.
    bits : int
        Of each weight, 2 to 16.
    per : {"channel", "tensor"}, optional
        Whether every output has its own scale.
    rule : {"mse", "max"}, optional
        As in ``range_scale``.
    """

    def __init__(self, layer: nn.Linear, bits: int, *, per: str = "channel", rule: str = "mse") -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self._become(layer, bits, per, rule)

    def forward(self, x: Tensor) -> Tensor:
        """Return the responses.

        Parameters
        ----------
        x : torch.Tensor, shape (..., n_in)
            Inputs.

        Returns
        -------
        torch.Tensor, shape (..., n_out)
            Responses.
        """
        return F.linear(self.quantized_input(x), self.quantized_weight(), self.bias)


class QuantConv2d(_Quantized, nn.Conv2d):
    """A convolution whose weights, and once calibrated its inputs, are fake-quantized; the bias is real.

    Parameters
    ----------
    layer : torch.nn.Conv2d
        Whose parameters it shares.
    bits : int
        Of each weight, 2 to 16.
    per : {"channel", "tensor"}, optional
        Whether every output has its own scale.
    rule : {"mse", "max"}, optional
        As in ``range_scale``.
    """

    def __init__(self, layer: nn.Conv2d, bits: int, *, per: str = "channel", rule: str = "mse") -> None:
        given: dict[str, Any] = {
            name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")
        }
        given |= {"bias": layer.bias is not None, "device": "meta"}
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel_size, **given)  # type: ignore[arg-type]
        self._become(layer, bits, per, rule)

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
        return self._conv_forward(self.quantized_input(x), self.quantized_weight(), self.bias)
