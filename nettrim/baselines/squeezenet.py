"""SqueezeNet: a network that is small from birth, of Fire modules, and a plain one of 3 x 3 filters beside it.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB
model size" (2016, arXiv 1602.07360). The networks are in ``nettrim.squeezenet``. Nothing is pruned: the method is the choice
of the network, and what it saves is told by the plain one, where each Fire module is one convolution of 3 x 3 filters with
as many channels in and out, trained in the same way.

Where we depart from the paper: Adam with a cosine and label smoothing in place of SGD with a step size that falls on a line,
so that a few epochs of digits are enough; the compression of the trained network is a method of its own here.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines._swapped import swapped
from nettrim.data import Data
from nettrim.errors import ModelError
from nettrim.squeezenet import Fire, started
from nettrim.train import train

BEGINS = "born"
NETWORK = "squeezenet_small"


def run(
    model: nn.Module,
    data: Data,
    *,
    epochs: int = 12,
    batch_size: int = 100,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-4,
    label_smoothing: float = 0.1,
    beside: bool = True,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Baseline:
    """Train a network of Fire modules, and a plain one beside it.

    Parameters
    ----------
    model : torch.nn.Module
        With its initial weights, as of ``nettrim.squeezenet``; left unchanged.
    data : Data
        To train it on.
    epochs : int, optional
        Passes over the training samples.
    batch_size : int, optional
        Samples a step.
    learning_rate : float, optional
        Adam's first.
    weight_decay : float, optional
        Coefficient of the l2 penalty.
    label_smoothing : float, optional
        Weight of the uniform distribution in the targets.
    beside : bool, optional
        Whether the plain network is trained too.
    seed : int, optional
        Of the training, and of the initial weights of the plain network.
    folder : path-like, optional
        Keeps the finished stages.

    Returns
    -------
    Baseline
        The trained network. Rows: it and the plain one; ``parameters`` are all of them, biases too, ``bytes`` what they
        take.

    Raises
    ------
    SettingError
        If a setting is outside its range.
    ModelError
        If the model has no Fire module, or does not fit the data.
    DataError
        If no model can be trained on the data.
    """
    settings = settings_of(locals())
    recipe: dict[str, Any] = {
        "epochs": _door.whole("epochs", epochs),
        "batch_size": _door.whole("batch_size", batch_size),
        "learning_rate": _door.positive("learning_rate", learning_rate),
        "weight_decay": _door.positive("weight_decay", weight_decay, zero=True),
        "label_smoothing": _door.fraction("label_smoothing", label_smoothing, closed=True),
        "seed": _door.whole("seed", seed, 0),
    }
    settings |= recipe
    _door.choice("beside", beside, (True, False))
    _door.fits(model, data)
    usual = plain(model, seed=recipe["seed"])
    stages = Stages(folder, model, data, {"method": "squeezenet"} | settings)

    def trained(name: str, network: nn.Module) -> nn.Module:
        label = f"training {name}"
        made = stages.run(name, lambda: Stage(train(network, data.x_train, data.y_train, label=label, **recipe)), network)
        return made.model

    small = trained("squeezenet", model)
    rows = [_row("squeezenet", small, data)]
    if beside:
        rows.append(_row("plain", trained("plain", usual), data))
    return Baseline("squeezenet", small, {}, tuple(rows), settings)


def plain(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """Return a network with one convolution of 3 x 3 filters and a ReLU in the place of each Fire module.

    Parameters
    ----------
    model : torch.nn.Module
        On one device; left unchanged.
    seed : int, optional
        Of its initial weights, drawn as those of ``squeezenet_small``, the same for every device.

    Returns
    -------
    torch.nn.Module
        A network of its own, on the device and in the dtype of the model; a Fire module that has two places is one
        convolution in both.

    Raises
    ------
    ModelError
        If there is no Fire module in the model.
    """
    found = next((module for module in model.modules() if isinstance(module, Fire)), None)
    if found is None:
        raise ModelError("the model has no Fire module: see nettrim.squeezenet for networks that do")

    def usual(module: nn.Module) -> nn.Module | None:
        if not isinstance(module, Fire):
            return None
        n_out, like = module.expand1.out_channels + module.expand3.out_channels, module.squeeze
        return nn.Sequential(nn.Conv2d(like.in_channels, n_out, 3, padding=1, dtype=like.weight.dtype), nn.ReLU())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the CPU: draws on another device would move a generator that is not put back
        made = started(swapped(model, usual).to("cpu"), 2.0)
    return made.to(found.squeeze.weight.device)


def _row(step: str, model: nn.Module, data: Data) -> dict[str, Any]:
    every = list(model.parameters())
    size = sum(parameter.numel() for parameter in every)
    return row(step, model, {}, data, parameters=size, bytes=sum(p.numel() * p.element_size() for p in every))
