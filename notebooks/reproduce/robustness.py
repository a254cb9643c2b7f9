"""What pruning changes beyond test accuracy: the answers to noisy digits, and which pixels the first layer looks at.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the scripts and the manual of its code. To each test image comes
Gaussian noise of a norm relative to the image's, in ten draws. The first layer of the fully connected network is shown by
how many weights each pixel keeps: Net-Trim drops those of pixels that are never active, which have no part in any response.

Departures: of six trainings one, three networks of it, for the pixels two, a network of each, programs of 5,000 samples,
levels of noise in steps of 0.2 in place of 0.1, and of the LeNet, that of ``reproduce.worked``, 2,000 of the 10,000 test
images; 5,000 steps of fine-tuning, 1,000 of the LeNet. Fine-tuned networks stand beside a trained one that was not. Of the
pixels magnitude pruning is not fine-tuned.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nettrim.evaluate import logits
from nettrim.masks import weights
from reproduce.compare import pruned, tuned
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import DECAY, TRAININGS, data_of, trained

TRAINED = {
    "fc": TRAININGS["dropout and l2"],
    "lenet": {
        "steps": 2001,
        "batch_size": 200,
        "learning_rate": 1e-3,
        "decay": DECAY,
        "dropout": 0.25,
        "l1": 0.0,
        "l2": 0.0,
    },
}
Row = dict[str, Any]


# --- noise ---


def trims(settings: Settings) -> Iterator[Case]:
    """Yield each kind of network with each gain, with all seeds before the next gain."""
    for network, asked in settings["networks"].items():
        for gain, seed in itertools.product(asked["gains"], settings["seeds"]):
            yield {"network": network, "seed": seed, "gain": gain}


def noise_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return a row a model and level of noise: the accuracy, mean and deviation over draws."""
    data, seed, asked = data_of(settings), case["seed"], settings["networks"][case["network"]]
    model = trained(case["network"], settings["trained"][case["network"]], data, seed, networks)
    pair = pruned(model, data, case["gain"], settings["samples"], seed, targets=["Linear"])
    models: dict[str, nn.Module] = {"dense": model, "nettrim": pair.result.model, "hptd": pair.rival}
    for name, held in (("nettrim", pair.masks), ("hptd", pair.largest)):
        (models[f"{name} tuned"],) = tuned(models[name], held, data, [asked["tuned"]], seed)
    x, y = data.x_test[: asked["images"]], data.y_test[: asked["images"]]
    norms = x.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
    levels, draws = [step * asked["step"] for step in range(asked["steps"] + 1)], range(settings["draws"])
    found: dict[tuple[str, float], list[float]] = {(name, level): [] for name in models for level in levels}
    generator = torch.Generator().manual_seed(seed)
    for _ in draws:
        noise = torch.randn(x.shape, generator=generator)
        noise *= norms / noise.flatten(1).norm(dim=1).view(norms.shape)
        for level in levels:
            for name, each in models.items():
                right = logits(each, x + level * noise).argmax(1) == y
                found[name, level].append(float(right.double().mean()))
    return [
        {
            "model": name,
            "level": round(level, 3),
            "kept": 1.0 if name == "dense" else pair.result.kept,
            "accuracy": torch.tensor(values).mean().item(),
            "deviation": torch.tensor(values).std().item() if len(values) > 1 else 0.0,
        }
        for (name, level), values in found.items()
    ]


NOISE = Figure(
    name="mnist_noise",
    source="SIAM J. Math. Data Sci. 2020, the authors' scripts: accuracy on noisy digits before and after pruning",
    settings={
        "data": "mnist",
        "networks": {
            "fc": {"gains": [0.1, 0.3], "step": 0.2, "steps": 20, "images": 10_000, "tuned": 5000},
            "lenet": {"gains": [0.15], "step": 0.2, "steps": 10, "images": 2000, "tuned": 1000},
        },
        "samples": 5000,
        "draws": 10,
        "seeds": [0, 1, 2],
        "trained": TRAINED,
    },
    quick={
        "data": "mnist5k",
        "networks": {"fc": {"gains": [0.3], "step": 1.0, "steps": 2, "images": 100, "tuned": 10}},
        "trained": {"fc": TRAINED["fc"] | {"steps": 100}},
        "samples": 200,
        "draws": 2,
        "seeds": [0],
    },
    cases=trims,
    measured=noise_rows,
    minutes=40,
)


# --- pixels ---


def trainings(settings: Settings) -> Iterator[Case]:
    """Yield each network with each gain."""
    for network, gain in itertools.product(settings["networks"], settings["gains"]):
        yield {"network": network, "gain": gain}


def pixel_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return a row a pixel: in which part of the images it is active, and how many weights it keeps."""
    data, seed = data_of(settings), settings["seed"]
    model = trained("fc", settings["networks"][case["network"]], data, seed, networks)
    pair = pruned(model, data, case["gain"], settings["samples"], seed)
    first = next(iter(weights(model)))
    active = (data.x_train.flatten(1) > 0).double().mean(0)
    both = (masks[first].sum(0) for masks in (pair.masks, pair.largest))
    columns = zip(active.tolist(), *(each.tolist() for each in both), strict=True)
    return [
        {"pixel": pixel, "active": part, "nettrim": trimmed, "magnitude": cut}
        for pixel, (part, trimmed, cut) in enumerate(columns)
    ]


PIXELS = Figure(
    name="mnist_pixels",
    source="SIAM J. Math. Data Sci. 2020, the manual of its code: pixels that the first layer looks at",
    settings={
        "data": "mnist",
        "networks": {name: TRAININGS[name] for name in ("dropout and l2", "plain")},
        "gains": [0.04, 0.1],
        "samples": 5000,
        "seed": 0,
    },
    quick={"data": "mnist5k", "networks": {"plain": TRAININGS["plain"] | {"steps": 100}}, "gains": [0.3], "samples": 200},
    cases=trainings,
    measured=pixel_rows,
    minutes=5,
)
FIGURES = (NOISE, PIXELS)
