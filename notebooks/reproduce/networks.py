"""The networks of the authors' MNIST scripts, trained as these do and kept in a folder.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the settings of its scripts; they print no results. Weights begin
truncated normal of deviation 0.1, biases at 0.1; training is on the last 55,000 of the 60,000 images by Adam from 1e-3, 2 or
3 % less every 500 steps.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.data import Data, load
from nettrim.fingerprint import fingerprint
from nettrim.masks import weights
from nettrim.train import train
from reproduce.figure import Settings

VALIDATION = 5000  # the first images, which the scripts set aside
SIZES = (784, 300, 1000, 100, 10)
DECAY, EVERY = 0.98, 500
TRAININGS = {
    name: {"steps": 8001, "batch_size": 100, "learning_rate": 1e-3, "decay": DECAY, "dropout": dropout, "l1": l1, "l2": l2}
    for name, dropout, l1, l2 in (
        (
            "dropout and l2",
            0.5,
            0.0,
            0.004,
        ),  # of the scripts' six trainings of the fully connected network they tell this one
        ("plain", 0.0, 0.0, 0.0),
        ("l1", 0.0, 1e-4, 0.0),
        ("l2", 0.0, 0.0, 0.004),
        ("dropout", 0.5, 0.0, 0.0),
        ("dropout and l1", 0.5, 1e-4, 0.0),
    )
}


def fully_connected(dropout: float, seed: int) -> nn.Sequential:
    """Return 784-300-1000-100-10 as it is initialized: dropout is on the inputs of every layer, pixels too."""
    with _seeded(seed):
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(SIZES):
            layers += [nn.Dropout(dropout), _begun(nn.Linear(n_in, n_out)), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet(dropout: float, seed: int) -> nn.Sequential:
    """Return the scripts' LeNet as it is initialized: 32 and 64 filters of 5 x 5, 512 and 10 units, dropout before these."""
    with _seeded(seed):
        layers: list[nn.Module] = []
        for n_in, n_out in ((1, 32), (32, 64)):
            layers += [_begun(nn.Conv2d(n_in, n_out, 5, padding=2)), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Flatten(), nn.Dropout(dropout), _begun(nn.Linear(3136, 512)), nn.ReLU()]
        layers += [nn.Dropout(dropout), _begun(nn.Linear(512, 10))]
    return nn.Sequential(*layers)


NETWORKS = {"fc": fully_connected, "lenet": lenet}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a seed, and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _begun(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """Return a layer with the weights that its training begins with."""
    nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, 0.1)
    return layer


def slower(steps: int, decay: float = DECAY) -> Callable[[float], float]:
    """Return the schedule of the scripts: a little less every 500 steps."""
    return lambda part: decay ** (round(part * steps) // EVERY)


loaded = lru_cache(maxsize=1)(load)  # every case asks for it


def data_of(settings: Settings) -> Data:
    """Return the data, training images without those for validation."""
    data = loaded(settings["data"])
    aside = _aside(data)
    return Data(data.name, data.x_train[aside:], data.y_train[aside:], data.x_test, data.y_test)


def validation_of(settings: Settings) -> tuple[Tensor, Tensor]:
    """Return the images and labels for validation, which no training and no program sees."""
    data = loaded(settings["data"])
    return data.x_train[: _aside(data)], data.y_train[: _aside(data)]


def _aside(data: Data) -> int:
    """Return how many training images are for validation."""
    return min(VALIDATION, len(data.x_train) // 10)


def trained(kind: str, how: Mapping[str, Any], data: Data, seed: int, folder: Path | None) -> nn.Module:
    """Return the trained network, from the folder if it is there.

    Parameters
    ----------
    kind : str
        Of ``NETWORKS``.
    how : mapping
        ``steps``, ``batch_size``, ``learning_rate``, ``decay``, ``dropout``, and ``l1`` and ``l2``, of all weights.
    data : Data
        What it is trained on.
    seed : int
        Of all that is drawn.
    folder : pathlib.Path or None
        Where trained networks are kept.
    """
    start = NETWORKS[kind](how["dropout"], seed)

    def make() -> nn.Module:
        steps = {"steps": how["steps"], "schedule": slower(how["steps"], how["decay"])}
        more = {"batch_size": how["batch_size"], "learning_rate": how["learning_rate"], "seed": seed}
        loss = penalized(how["l1"], how["l2"])
        return train(start, data.x_train, data.y_train, loss=loss, label=f"training {kind}", **steps, **more)

    return remembered(kind, start, data, {"seed": seed, **how}, make, folder)


def penalized(l1: float, l2: float) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """Return the cross-entropy with penalties of all weights, for ``train``."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        sizes = weights(model).values()
        penalty = l1 * sum(W.abs().sum() for W in sizes) + l2 / 2 * sum((W**2).sum() for W in sizes)
        return F.cross_entropy(model(x), y) + penalty

    return loss


def remembered(
    kind: str, start: nn.Module, data: Data, told: Mapping[str, Any], make: Callable[[], nn.Module], folder: Path | None
) -> nn.Module:
    """Return a trained network, from the folder if it was made there from the same start, images and settings."""
    key = fingerprint({"kind": kind, **told}, start, (data.x_train, data.y_train))
    path = None if folder is None else folder / f"{kind}-{key[:12]}.safetensors"
    if path is not None and path.exists():
        start.load_state_dict(load_file(path))
        return start.eval()
    model = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")  # another process may make the same network
        save_file(model.state_dict(), part)
        part.replace(path)
    return model
