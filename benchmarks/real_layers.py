"""Layers of real networks with real activations, shared by the benchmarks: LeNet-300-100, LeNet-5 and one of 60 MB."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from nettrim.data import Data, load
from nettrim.models import lenet5, mlp
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
LARGE = {"wide-2": ("wide", 1)}  # 3000 x 5000, of 784-3000-5000-1500-10
PLACES = LAYERS | LARGE
BORN = {"lenet5": lenet5, "wide": partial(mlp, (784, 3000, 5000, 1500, 10))}


def network(name: str, images: Data, *, seed: int = 0) -> nn.Module:
    """Train LeNet-300-100 by the demonstration's recipe, or one of ``BORN`` for two epochs, on a GPU where there is one."""
    if name == "lenet300":
        return trained(name, images, seed=seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = images.x_train.to(device), images.y_train.to(device)
    return train(BORN[name](seed=seed).to(device), x, y, epochs=2, batch_size=200, seed=seed).cpu()


def layer_problem(model: nn.Module, layer: str, images: Data, n_samples: int, epsilon: float) -> LayerProblem:
    """State the program of one layer of a trained network on the first ``n_samples`` training images."""
    name = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][PLACES[layer][1]]
    (problem,) = layer_problems(model, name, images.x_train[:n_samples], epsilon, n_samples=n_samples)
    return problem


def layers(names: list[str], data: str, n_samples: int, epsilon: float, *, seed: int = 0) -> dict[str, LayerProblem]:
    """Train what is needed and state the programs of the layers named."""
    images = load(data)
    models = {net: network(net, images, seed=seed) for net in dict.fromkeys(PLACES[name][0] for name in names)}
    return {name: layer_problem(models[PLACES[name][0]], name, images, n_samples, epsilon) for name in names}
