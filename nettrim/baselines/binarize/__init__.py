"""Weights and activations of +1 and -1, trained with the straight-through estimator.

Courbariaux, Hubara, Soudry, El-Yaniv, Bengio, "Binarized Neural Networks: Training Deep Neural Networks with Weights and
Activations Constrained to +1 or -1" (arXiv:1602.02830, 2016); Hubara et al. (NIPS 2016).

Forward, a hidden layer is ``sign(BN(W_b a))`` with ``W_b = sign(W)`` of real weights W and sign(0) = +1. The first layer
has real inputs in [-1, 1]; the last gives ``BN(W_b a)`` to the squared hinge loss, the mean of ``max(0, 1 - t z)^2`` with
targets t of +1 and -1. Backward, the gradient at an activation passes where ``|x| <= 1`` and is 0 elsewhere; that at W_b
goes to W as it is, and after each step of Adam W is clipped to [-1, 1]. Stochastic ones draw +1 with the probability
``clip((x + 1) / 2, 0, 1)`` in training.

The authors' code (MatthieuCourbariaux/BinaryNet) multiplies the steps of W by 1/H, ``H = sqrt(1.5 / (n_in + n_out))`` of the
layer. We keep H W instead, clipped to [-H, H], and take plain steps: the signs are the same, because Adam does not see the
scale of a gradient.

Departures: training is short and its step size falls by a cosine to 0 (the code: 1000 epochs, 3 layers of 4096, batches of
100, dropout of inputs and units, a step size that falls exponentially by 10^4); it is on all training samples, without a
validation set; real weights begin as the given network's, clipped; in evaluation mode a network with stochastic weights
takes signs, where the code falls back on real weights. Variants beyond the paper: ``weights="scaled"`` is sign(W) times mean
|W| of each output, the least-squares fit of "XNOR-Net" (Rastegari et al., ECCV 2016), differentiated as it stands;
``"real"`` with ``"relu"`` is the float twin; ``clip`` and ``gate`` off are controls.
"""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from nettrim.baselines import _door
from nettrim.baselines._bits import load_packed, packed, save_packed, size
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines.binarize._binarized import ACTIVATIONS, binarized, binary_mlp, clip_real, squared_hinge
from nettrim.baselines.binarize._binary import WEIGHTS, BinaryConv2d, BinaryLinear, Sign, Signed, sign_ste
from nettrim.baselines.binarize._xnor import XnorNetwork, dots
from nettrim.data import Data
from nettrim.errors import DataError, SettingError
from nettrim.masks import weights as weights_of
from nettrim.train import train

__all__ = [
    "BinaryConv2d",
    "BinaryLinear",
    "Sign",
    "Signed",
    "XnorNetwork",
    "binarized",
    "binary_mlp",
    "clip_real",
    "dots",
    "load_packed",
    "packed",
    "run",
    "save_packed",
    "sign_ste",
    "size",
    "squared_hinge",
    "weight_bits",
]

BEGINS = "born"
NETWORK = "mlp512"


def run(
    model: nn.Module,
    data: Data,
    *,
    weights: str = "sign",
    activations: str = "sign",
    clip: bool = True,
    gate: bool = True,
    epochs: int = 20,
    batch_size: int = 200,
    learning_rate: float = 3e-3,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Baseline:
    """Train the binary network of a plain one's shape.

    Parameters
    ----------
    model : torch.nn.Sequential
        Of Linear, Conv2d, ReLU, MaxPool2d, Flatten and Dropout, with its initial weights; left unchanged.
    data : Data
        Samples in [0, 1].
    weights : {"sign", "stochastic", "scaled", "real"}, optional
        How weights are binarized.
    activations : {"sign", "stochastic", "relu"}, optional
        Signs, signs drawn in training, or real ones.
    clip : bool, optional
        Whether the real weights behind signs are clipped after each step.
    gate : bool, optional
        Whether the gradient stops at an activation whose input is outside of [-1, 1].
    epochs : int, optional
        Passes over the training samples.
    batch_size : int, optional
        Samples a step, 2 at least; nor is the last batch of an epoch to be a single sample, which cannot be normalized.
    learning_rate : float, optional
        Adam's first step size; a cosine takes it to 0.
    seed : int, optional
        Seed of all that is drawn.
    folder : path-like, optional
        Keeps the trained network.

    Returns
    -------
    Baseline
        Rows ``born`` and ``trained``; ``bytes`` is all that must be stored, packed, and ``weight_bits`` what the weights
        have of it.

    Raises
    ------
    SettingError
        If a setting is outside of what it may be.
    ModelError
        If the model is not of this kind, or does not fit the data.
    DataError
        If the data cannot be used, or are not within [0, 1].
    """
    settings = _checked(settings_of(locals()), len(data.x_train))
    _door.fits(model, data)
    if min(data.x_train.min(), data.x_test.min()) < 0 or max(data.x_train.max(), data.x_test.max()) > 1:
        raise DataError(f"binarizing takes samples in [0, 1], which it maps to [-1, 1]; those of {data.name!r} are not")
    born = binarized(model, weights=weights, activations=activations, gate=gate)
    stages = Stages(folder, model, data, {"method": "binarize"} | settings)

    def trained() -> Stage:
        return Stage(
            train(
                born,
                data.x_train,
                data.y_train,
                loss=squared_hinge,
                after_step=(lambda step, network: clip_real(network)) if clip else None,
                label=f"training with {weights} weights and {activations} activations",
                **{name: settings[name] for name in ("epochs", "batch_size", "learning_rate", "seed")},
            )
        )

    final = stages.run("trained", trained, born).model
    rows = tuple(
        row(step, each, {}, data, weight_bits=weight_bits(each), bytes=size(each))
        for step, each in (("born", born), ("trained", final))
    )
    return Baseline("binarize", final, {}, rows, settings)


def weight_bits(model: nn.Module) -> int:
    """Return how many bits the weights of layers take, without scales and normalizations.

    Parameters
    ----------
    model : torch.nn.Module
        Binary or not.

    Returns
    -------
    int
        1 a binary weight, those of its dtype any other.
    """
    layers = [module for module in model.modules() if isinstance(module, BinaryLinear | BinaryConv2d)]
    one = {id(module.weight) for module in layers if module.kind != "real"}
    found = weights_of(model).values()
    return sum(weight.numel() * (1 if id(weight) in one else 8 * weight.element_size()) for weight in found)


def _checked(settings: dict[str, Any], n: int) -> dict[str, Any]:
    """Return the settings as numbers of their kind, or refuse them by name; n is the number of training samples."""
    _door.choice("weights", settings["weights"], WEIGHTS)
    _door.choice("activations", settings["activations"], ACTIVATIONS)
    for name in ("clip", "gate"):
        _door.choice(name, settings[name], (True, False))
    found: dict[str, Any] = {name: _door.whole(name, settings[name]) for name in ("epochs", "batch_size")}
    found["seed"] = _door.whole("seed", settings["seed"], 0)
    found["learning_rate"] = _door.positive("learning_rate", settings["learning_rate"])
    if found["batch_size"] == 1 or n % found["batch_size"] == 1:
        raise SettingError(
            f"batch_size must leave no batch of one sample, which batch normalization cannot take; of {n} training samples "
            f"batches of {found['batch_size']} leave one: choose another size"
        )
    return settings | found
