"""Layers of a real network with real activations: LeNet-300-100 trained on MNIST, the same one for every benchmark."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from nettrim.activations import layer_inputs
from nettrim.data import Data, load
from nettrim.demo import trained
from nettrim.layers import state
from solvers import LayerProblem


def lenet300_layers(data: str, n_samples: int, epsilon: float, *, seed: int = 0) -> list[LayerProblem]:
    """Train LeNet-300-100 and state the programs of its three layers on the first ``n_samples`` training images."""
    images = load(data)
    return layer_problems(trained(images, seed=seed), images, n_samples, epsilon)


def layer_problems(model: nn.Module, images: Data, n_samples: int, epsilon: float) -> list[LayerProblem]:
    """State the programs of a trained network's Linear layers; the last one is linear."""
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    kinds: list[Literal["relu", "linear"]] = ["relu"] * (len(linear) - 1) + ["linear"]
    samples = images.x_train[:n_samples]
    with torch.no_grad():
        return [
            state(layer, layer_inputs(model, name, samples), epsilon, kind, penalize_bias=True)
            for (name, layer), kind in zip(linear, kinds, strict=True)
        ]
