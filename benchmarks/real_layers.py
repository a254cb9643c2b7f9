"""Layers of real networks with real activations: LeNet-300-100 and LeNet-5 on MNIST, the same for every benchmark."""

from __future__ import annotations

from torch import nn

from nettrim.data import Data, load
from nettrim.models import lenet5
from nettrim.program import layer_problems
from nettrim.recipes import trained
from nettrim.train import train
from solvers import LayerProblem

# Layer name: network, place among its Linear layers.
LAYERS = {
    "lenet300-1": ("lenet300", 0),
    "lenet300-2": ("lenet300", 1),
    "lenet300-3": ("lenet300", 2),
    "lenet5-fc1": ("lenet5", 0),
    "lenet5-fc2": ("lenet5", 1),
}


def network(name: str, images: Data, *, seed: int = 0) -> nn.Module:
    """Train LeNet-300-100 by the recipe of the demonstration, or LeNet-5 for two epochs."""
    if name == "lenet300":
        return trained(name, images, seed=seed)
    return train(lenet5(seed=seed), images.x_train, images.y_train, epochs=2, batch_size=200, seed=seed)


def layer_problem(model: nn.Module, layer: str, images: Data, n_samples: int, epsilon: float) -> LayerProblem:
    """State the program of one layer of a trained network on the first ``n_samples`` training images."""
    name = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][LAYERS[layer][1]]
    (problem,) = layer_problems(model, name, images.x_train[:n_samples], epsilon, n_samples=n_samples)
    return problem


def layers(names: list[str], data: str, n_samples: int, epsilon: float, *, seed: int = 0) -> dict[str, LayerProblem]:
    """Train what is needed and state the programs of the layers named."""
    images = load(data)
    models = {net: network(net, images, seed=seed) for net in dict.fromkeys(LAYERS[name][0] for name in names)}
    return {name: layer_problem(models[LAYERS[name][0]], name, images, n_samples, epsilon) for name in names}
