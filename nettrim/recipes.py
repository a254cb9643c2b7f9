"""Named networks and how each is trained on MNIST: the dense networks that all methods and studies begin with.

Dropout and label smoothing leave margins that survive a relative error of some percent in the responses; the radius of a
trim is relative to a norm that the easy images dominate, and without such margins the hard ones are lost first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from nettrim.data import Data
from nettrim.errors import ModelError
from nettrim.fingerprint import fingerprint
from nettrim.models import lenet5, lenet300, mlp
from nettrim.squeezenet import squeezenet_small
from nettrim.train import train


@dataclass(frozen=True)
class Recipe:
    """A network and how long it is trained.

    Attributes
    ----------
    build : callable
        Makes the network from a seed, with its initial weights.
    epochs : mapping
        Passes over the training images, by the name of the data set.
    """

    build: Callable[[int], nn.Module]
    epochs: Mapping[str, int]


HOW = {"batch_size": 200, "learning_rate": 2e-3, "weight_decay": 1e-4, "label_smoothing": 0.1}
NETWORKS = {
    "lenet300": Recipe(lambda seed: lenet300(dropout=0.1, seed=seed), {"mnist": 20, "mnist5k": 60}),
    "lenet5": Recipe(lambda seed: lenet5(seed=seed), {"mnist": 8, "mnist5k": 30}),
    "mlp800": Recipe(lambda seed: mlp((784, 800, 800, 10), seed=seed), {"mnist": 20, "mnist5k": 60}),
    "squeezenet_small": Recipe(lambda seed: squeezenet_small(seed=seed), {"mnist": 12, "mnist5k": 60}),
    "mlp512": Recipe(lambda seed: mlp((784, 512, 512, 10), seed=seed), {"mnist": 20, "mnist5k": 60}),
}


def born(name: str, *, seed: int = 0) -> nn.Module:
    """Return a network with its initial weights.

    Parameters
    ----------
    name : str
        One of ``NETWORKS``.
    seed : int, optional
        Seed of the weights.

    Returns
    -------
    torch.nn.Module
        The network.

    Raises
    ------
    ModelError
        If no network is called so.
    """
    return _recipe(name).build(seed)


def trained(
    name: str,
    data: Data,
    *,
    model: nn.Module | None = None,
    epochs: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
) -> nn.Module:
    """Return a network trained by its recipe: Adam from 2e-3 by a cosine to 0, label smoothing, a little l2, batches of 200.

    Parameters
    ----------
    name : str
        One of ``NETWORKS``; of a ``model`` of your own, any.
    data : Data
        MNIST, whole or in part; for a ``model`` of your own, what it takes.
    model : torch.nn.Module, optional
        A network of your own with its initial weights, left unchanged.
    epochs : int, optional
        Passes over the training images, in place of the recipe's; of a ``model`` of your own there is none.
    seed : int, optional
        Seed of weights and training.
    folder : pathlib.Path, optional
        Where the network is read from if it is there, and else put.

    Returns
    -------
    torch.nn.Module
        The trained network, in evaluation mode.

    Raises
    ------
    ModelError
        If no network is called so, its recipe does not know the data set and no epochs are given, or the folder holds a
        network of this name that was trained otherwise.
    """
    if epochs is not None and epochs < 1:
        raise ModelError(f"a network is trained for at least one epoch; got epochs={epochs}")
    usual = _recipe(name).epochs if model is None or name in NETWORKS else {}
    passes = epochs or usual.get(data.name)
    if passes is None:
        raise ModelError(f"there is no recipe for {name} on {data.name!r}: say how many epochs it is to be trained")
    model = born(name, seed=seed) if model is None else copy.deepcopy(model)
    extra = "" if passes == usual.get(data.name) else f"-{passes}"
    path = None if folder is None else folder / f"{name}-{data.name}-{seed}{extra}.safetensors".replace(":", "-")
    key = "" if path is None else fingerprint({"epochs": passes, "seed": seed} | HOW, model, [data.x_train, data.y_train])
    if path is not None and path.exists():
        return _kept(path, key, model)
    model = train(
        model,
        data.x_train,
        data.y_train,
        epochs=passes,
        **HOW,
        label=f"training {name}",
        seed=seed,
    )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: value.detach().clone() for name, value in model.state_dict().items()}  # tied weights share memory
        part = path.with_name(path.name + ".part")
        save_file(state, part, {"trained": key})
        part.replace(path)
    return model


def _kept(path: Path, key: str, model: nn.Module) -> nn.Module:
    """Return a network that was trained before, in evaluation mode; one of another start or other data is refused."""
    try:
        with safe_open(path, "pt") as file:
            found = (file.metadata() or {}).get("trained")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping, though it has keys)
    except SafetensorError as error:
        raise ModelError(f"{path} cannot be read ({error}): remove it, and the network is trained again") from error
    if found != key:
        raise ModelError(
            f"{path} holds a network of another start, other data or another recipe: remove it, or name another folder"
        )
    model.load_state_dict(state)
    return model.eval()


def _recipe(name: str) -> Recipe:
    if name not in NETWORKS:
        raise ModelError(f"no network is called {name!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[name]
