"""The convolutional network of the authors' CIFAR-10 scripts, its fully connected layers trimmed at several gains.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the settings of its scripts, which print no results: images cut to
24 x 24, flipped, each channel of each standardized; 64 and 64 filters of 5 x 5, max pooling by 3 over 2, local response
normalization, 384, 192 and 10 units. Programs have 5,000 samples; fine-tuning is by plain gradient steps from 0.005. The
same network stands for the claim about SVHN, of which no script is known.

Departures, for two cores: 10 epochs of training in place of 500, by a cosine in place of 2 % less every 500 steps, with
dropout of 0.5 and neither the l2 that the scripts have with it nor noise on the inputs; 500 steps of fine-tuning in place of
50 epochs, on the middles of the images; fewer gains; images that went through JPEG; PyTorch's first biases; the usual
constants of the normalization, which are not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nettrim.data import Data
from nettrim.train import train
from reproduce.compare import WHOLE, both_ways, compared, left
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import loaded, remembered

SIDE = 24
Row = dict[str, Any]


class Standardized(nn.Module):
    """Gives each channel of each image the mean 0 and the deviation 1; a constant one becomes 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images ``(n, channels, height, width)`` so standardized."""
        centered = x - x.mean((2, 3), keepdim=True)
        return centered / centered.pow(2).mean((2, 3), keepdim=True).sqrt().clamp_min(1 / SIDE)


def network(channels: int, dropout: float, seed: int) -> nn.Sequential:
    """Return the network as it is initialized."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = nn.Sequential(
            Standardized(),
            *(nn.Conv2d(channels, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.LocalResponseNorm(9, 1e-3)),
            *(nn.Conv2d(64, 64, 5, padding=2), nn.ReLU(), nn.LocalResponseNorm(9, 1e-3), nn.MaxPool2d(3, 2, 1)),
            *(nn.Flatten(), nn.Dropout(dropout), nn.Linear(2304, 384), nn.ReLU()),
            *(nn.Dropout(dropout), nn.Linear(384, 192), nn.ReLU(), nn.Dropout(dropout), nn.Linear(192, 10)),
        )
        deviations = iter((0.05, 0.05, 0.04, 0.04, 1 / 192))
        for layer in model:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                deviation = next(deviations)
                nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    return model


def cut(images: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Return a part of each image, at a place drawn for it; half of them flipped, on demand."""
    room = torch.tensor([size - SIDE + 1 for size in images.shape[2:]])
    places = (torch.rand(len(images), 2, generator=generator) * room).long().tolist()
    parts = [image[:, y : y + SIDE, x : x + SIDE] for image, (y, x) in zip(images, places, strict=True)]
    flipped = (torch.rand(len(images), generator=generator) < 0.5) & flip
    return torch.stack([part.flip(2) if turn else part for part, turn in zip(parts, flipped.tolist(), strict=True)])


def middle(data: Data) -> Data:
    """Return the middles of all images, which are what the network is looked at and trimmed with."""
    down, right = ((size - SIDE) // 2 for size in data.x_train.shape[2:])
    x_train, x_test = (x[:, :, down : down + SIDE, right : right + SIDE].contiguous() for x in (data.x_train, data.x_test))
    return Data(data.name, x_train, data.y_train, x_test, data.y_test)


def trained(settings: Settings, folder: Path | None) -> nn.Module:
    """Return the trained network, from the folder if it is there."""
    data, seed, how = loaded(settings["data"]), settings["seed"], settings["trained"]
    start = network(data.x_train.shape[1], settings["dropout"], seed)
    told = {"seed": seed, "dropout": settings["dropout"], "flip": settings["flip"], **how}

    def make() -> nn.Module:
        augment = partial(cut, flip=settings["flip"])
        return train(start, data.x_train, data.y_train, augment=augment, label="training convnet", seed=seed, **how)

    return remembered("convnet", start, data, told, make, folder)


def gains(settings: Settings) -> Iterator[Case]:
    """Yield each gain, and before them what stands for the network as it was trained."""
    for gain in [WHOLE, *settings["gains"]]:
        yield {"gain": gain}


def gain_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim: what is left of the fully connected layers, the discrepancy, and accuracies of both ways."""
    data, seed = middle(loaded(settings["data"])), settings["seed"]
    model = trained(settings, networks)
    result, ways = both_ways(model, data, case["gain"], settings["samples"], seed, targets=["Linear"])
    row: Row = left(model, result, data) | {"layers": ""}
    if result is not None:
        layers = [layer for layer in result.layers if layer.kind == "Linear"]
        row["kept"] = sum(layer.weights_kept for layer in layers) / sum(layer.weights for layer in layers)
        row["layers"] = " ".join(f"{layer.weights_kept}/{layer.weights}" for layer in layers)
    return [row | compared(ways, data, {"tuned": settings["tuned"]}, seed, learning_rate=0.005)]


def described(name: str, data: str, flip: bool, source: str) -> Figure:
    """Return the figure of a data set."""
    return Figure(
        name=name,
        source=source,
        settings={
            "data": data,
            "flip": flip,
            "dropout": 0.5,
            "gains": [0.02, 0.05, 0.1, 0.2],
            "samples": 5000,
            "tuned": 500,
            "seed": 0,
            "trained": {"epochs": 10, "batch_size": 200, "learning_rate": 1e-3},
        },
        quick={
            "data": "mnist5k",
            "gains": [0.2],
            "samples": 60,
            "tuned": 3,
            "trained": {"steps": 5, "batch_size": 50, "learning_rate": 1e-3},
        },
        cases=gains,
        measured=gain_rows,
        minutes=50,
    )


CIFAR = described("cifar_gains", "cifar10", True, "SIAM J. Math. Data Sci. 2020, the authors' scripts: CIFAR-10, in small")
SVHN = described("svhn_gains", "svhn", False, "the authors' group on Net-Trim, 2017: 90 % of SVHN's weights")
FIGURES = (CIFAR, SVHN)
