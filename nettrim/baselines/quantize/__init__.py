"""Weights and activations of k bits, quantized after training or in training with the straight-through estimator.

Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Quantized Neural Networks: Training Neural Networks with Low Precision
Weights and Activations" (arXiv:1609.07061, JMLR 18, 2018); the estimator: Bengio, Leonard, Courville (arXiv:1308.3432,
2013).

A number x is replaced by ``s clip(round(x / s), low, high)``. Weights are symmetric, ``high = 2^(k-1) - 1 = -low``, and have
a scale s an output (``per="channel"``) or a layer (``"tensor"``). Inputs of a layer are unsigned, ``low = 0`` and
``high = 2^k - 1``, where none is negative, as behind a ReLU, and else symmetric too; their scale is one a layer, from
calibration samples. ``scale="max"`` takes s as the largest magnitude over ``high``, ``"mse"`` as that of 50 ranges up to it
which has the least squared error. After training that is all. In training the same function runs forward; backward, the
gradient passes where the code is within ``[low, high]`` and is 0 elsewhere, and moves the real weights.

Departures from the paper: the scheme is the common symmetric one, not the paper's; training goes on from the trained
network; gradients and biases are real; scales stay what they were after training; the samples reach the first layer as they
are (pixels have 8 bits), and what the last layer gives is not quantized. One bit is ``nettrim.baselines.binarize``.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from torch import Tensor, nn

from nettrim.baselines import _door
from nettrim.baselines._bits import load_packed, pack, packed, save_packed, size, unpack
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines._swapped import swapped
from nettrim.baselines.quantize._quantized import QuantConv2d, QuantLinear
from nettrim.baselines.quantize._quantizers import PER, RULES, fake_quantize, range_scale, signed_codes, weight_scale
from nettrim.data import Data
from nettrim.errors import ModelError, SettingError
from nettrim.evaluate import evaluating
from nettrim.masks import LAYERS, weights
from nettrim.train import train

__all__ = [
    "QuantConv2d",
    "QuantLinear",
    "calibrated",
    "fake_quantize",
    "load_packed",
    "pack",
    "packed",
    "quantized",
    "range_scale",
    "run",
    "save_packed",
    "signed_codes",
    "size",
    "unpack",
    "weight_bits",
    "weight_scale",
]

BEGINS = "trained"
NETWORK = "lenet300"
TRAINING = ("epochs", "batch_size", "learning_rate", "label_smoothing", "seed")


def run(
    model: nn.Module,
    data: Data,
    *,
    bits: int = 4,
    activation_bits: int | None = 8,
    per: str = "channel",
    scale: str = "mse",
    samples: int = 1000,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    label_smoothing: float = 0.1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Baseline:
    """Quantize a trained network, and train it on as a quantized one.

    Parameters
    ----------
    model : torch.nn.Module
        A trained network of linear layers and two-dimensional convolutions; left unchanged.
    data : Data
        What it was trained on.
    bits : int, optional
        Of each weight, 2 to 16.
    activation_bits : int or None, optional
        Of each input of a layer but the first, 2 to 16; None leaves them real.
    per : {"channel", "tensor"}, optional
        Whether every output has its own scale, or every layer.
    scale : {"mse", "max"}, optional
        How scales are chosen.
    samples : int, optional
        Training samples, drawn with ``seed``, that the scales of inputs come from; all, if there are fewer.
    epochs : int, optional
        Passes over the training samples with quantization in them; 0 leaves it at quantizing after training.
    batch_size : int, optional
        Samples a step.
    learning_rate : float, optional
        Adam's first step size; a cosine takes it to 0.
    label_smoothing : float, optional
        Weight of the uniform distribution in the targets, as in the recipes of the dense networks.
    seed : int, optional
        Seed of all that is drawn.
    folder : path-like, optional
        Keeps finished stages.

    Returns
    -------
    Baseline
        Rows ``dense``, ``after training`` and, with epochs, ``in training``; ``bytes`` is all that must be stored, packed,
        and ``weight_bits`` what the weights have of it, without their scales.

    Raises
    ------
    SettingError
        If a setting is outside of what it may be.
    ModelError
        If the model is not of this kind, or does not fit the data.
    DataError
        If the data cannot be used.
    """
    settings = _checked(settings_of(locals()))
    _door.fits(model, data)
    plain = quantized(model, settings["bits"], per=per, scale=scale)  # what it refuses is to leave no folder behind
    stages = Stages(folder, model, data, {"method": "quantize"} | settings)

    def after() -> Stage:
        if settings["activation_bits"] is None:
            return Stage(plain)
        order = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(settings["seed"]))
        drawn = data.x_train[order[: settings["samples"]]]
        return Stage(calibrated(plain, drawn, settings["activation_bits"], scale=scale))

    def inside() -> Stage:
        return Stage(
            train(
                post.model,
                data.x_train,
                data.y_train,
                label=f"training with weights of {settings['bits']} bits",
                **{name: settings[name] for name in TRAINING},
            )
        )

    post = stages.run("after-training", after, plain)
    found = [("dense", model), ("after training", post.model)]
    if settings["epochs"]:
        found.append(("in training", stages.run("in-training", inside, plain).model))
    rows = tuple(row(step, each, {}, data, weight_bits=weight_bits(each), bytes=size(each)) for step, each in found)
    return Baseline("quantize", found[-1][1].eval(), {}, rows, settings)


def quantized(model: nn.Module, bits: int, *, per: str = "channel", scale: str = "mse") -> nn.Module:
    """Return a copy of a network whose layers have weights of k bits.

    Parameters
    ----------
    model : torch.nn.Module
        Of linear layers and two-dimensional convolutions, and whatever else has no weights of such; left unchanged.
    bits : int
        Of each weight, 2 to 16.
    per : {"channel", "tensor"}, optional
        Whether every output has its own scale, or every layer.
    scale : {"mse", "max"}, optional
        How scales are chosen.

    Returns
    -------
    torch.nn.Module
        Its layers are ``QuantLinear`` and ``QuantConv2d``; inputs of layers are real still. In evaluation mode.

    Raises
    ------
    SettingError
        If a setting is outside of what it may be.
    ModelError
        If a layer is of another kind, has hooks, or holds NaN or Inf.
    """
    kinds: dict[type, Any] = {nn.Linear: QuantLinear, nn.Conv2d: QuantConv2d}
    for name, module in model.named_modules():
        if not isinstance(module, LAYERS):
            continue
        if type(module) not in kinds:
            raise ModelError(f"layer {name!r} is {type(module).__name__}; only plain Linear and Conv2d are quantized")
        _door.unhooked(name, module)
        if not all(parameter.isfinite().all() for parameter in module.parameters()):
            raise ModelError(f"layer {name!r} holds NaN or Inf, which have no code; quantize a network without them")

    def few(module: nn.Module) -> nn.Module | None:
        return kinds[type(module)](module, bits, per=per, rule=scale) if type(module) in kinds else None

    return swapped(model, few).eval()


def calibrated(model: nn.Module, inputs: Tensor, bits: int, *, scale: str = "mse") -> nn.Module:
    """Return a copy of a quantized network that quantizes what goes into its layers too, but for the first that is called.

    Parameters
    ----------
    model : torch.nn.Module
        From ``quantized``; left unchanged.
    inputs : torch.Tensor
        Calibration samples.
    bits : int
        Of each input of a layer, 2 to 16.
    scale : {"mse", "max"}, optional
        How scales are chosen.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.

    Raises
    ------
    SettingError
        If a setting is outside of what it may be.
    ModelError
        If the model has no quantized layers, or there are no samples, or NaN or Inf in them.
    """
    if not len(inputs) or not inputs.isfinite().all():
        raise ModelError(f"calibrating takes samples, at least one, without NaN and Inf; got shape {tuple(inputs.shape)}")
    model = copy.deepcopy(model)
    layers = [module for module in model.modules() if isinstance(module, QuantLinear | QuantConv2d)]
    if not layers:
        raise ModelError("there is no quantized layer to calibrate; make some with quantized(model, bits)")
    seen: dict[nn.Module, list[Tensor]] = {}

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.setdefault(layer, []).append(given[0].flatten())

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    with evaluating(model):
        model(inputs)
    for hook in hooks:
        hook.remove()
    for layer in list(seen)[1:]:
        layer.calibrate(torch.cat(seen[layer]), bits, scale)  # type: ignore[operator]
    return model.eval()


def weight_bits(model: nn.Module) -> int:
    """Return how many bits the weights of layers take, without scales and biases.

    Parameters
    ----------
    model : torch.nn.Module
        Quantized or not.

    Returns
    -------
    int
        k a quantized weight, those of its dtype any other.
    """
    few = {id(module.weight): module.bits for module in model.modules() if isinstance(module, QuantLinear | QuantConv2d)}
    return sum(weight.numel() * few.get(id(weight), 8 * weight.element_size()) for weight in weights(model).values())


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings as numbers of their kind, or refuse them by name."""
    found: dict[str, Any] = {}
    for name in ("bits", "activation_bits"):
        value = settings[name]
        if value == 1 and not isinstance(value, bool):
            raise SettingError(f"{name} must be 2 to 16; networks of one bit have their own method, binarize")
        if name == "bits" or value is not None:
            found[name] = _door.whole(name, value, 2, 16)
    _door.choice("per", settings["per"], PER)
    _door.choice("scale", settings["scale"], RULES)
    for name, least in (("samples", 1), ("epochs", 0), ("batch_size", 1), ("seed", 0)):
        found[name] = _door.whole(name, settings[name], least)
    found["learning_rate"] = _door.positive("learning_rate", settings["learning_rate"])
    found["label_smoothing"] = _door.fraction("label_smoothing", settings["label_smoothing"], closed=True)
    return settings | found
