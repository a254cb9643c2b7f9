"""Layers of real networks with real activations: LeNet-300-100 and LeNet-5 on MNIST, the same for every benchmark."""

from __future__ import annotations

import torch
from torch import nn

from nettrim.activations import layer_inputs
from nettrim.data import Data, load
from nettrim.demo import trained
from nettrim.layers import state
from nettrim.models import lenet5
from nettrim.train import train
from solvers import LayerProblem

# Layer name: network, place among its Linear layers, what follows.
LAYERS = {
    "lenet300-1": ("lenet300", 0, "relu"),
    "lenet300-2": ("lenet300", 1, "relu"),
    "lenet300-3": ("lenet300", 2, "linear"),
    "lenet5-fc1": ("lenet5", 0, "relu"),
    "lenet5-fc2": ("lenet5", 1, "linear"),
}


def network(name: str, images: Data, *, seed: int = 0) -> nn.Module:
    """Train LeNet-300-100 by the recipe of the demonstration, or LeNet-5 for two epochs."""
    if name == "lenet300":
        return trained(images, seed=seed)
    return train(lenet5(seed=seed), images.x_train, images.y_train, epochs=2, batch_size=200, seed=seed)


def layer_problem(model: nn.Module, layer: str, images: Data, n_samples: int, epsilon: float) -> LayerProblem:
    """State the program of one layer of a trained network on the first ``n_samples`` training images."""
    _, place, kind = LAYERS[layer]
    name, module = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)][place]
    samples = images.x_train[:n_samples]
    with torch.no_grad():
        return state(module, layer_inputs(model, name, samples), epsilon, kind, penalize_bias=True)


def layers(names: list[str], data: str, n_samples: int, epsilon: float, *, seed: int = 0) -> dict[str, LayerProblem]:
    """Train what is needed and state the programs of the layers named."""
    images = load(data)
    models = {net: network(net, images, seed=seed) for net in dict.fromkeys(LAYERS[name][0] for name in names)}
    return {name: layer_problem(models[LAYERS[name][0]], name, images, n_samples, epsilon) for name in names}
