"""Trained networks for the studies of whole networks, by name and seed; kept in a folder if one is given.

LeNet-5 is trained like LeNet-300-100 in the demonstration (label smoothing, l2, cosine decay), without dropout, in 8 epochs.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from nettrim.data import Data
from nettrim.demo import trained as lenet300_trained
from nettrim.models import lenet5, lenet300
from nettrim.train import train

NETWORKS = {"lenet300": lambda seed: lenet300(dropout=0.1, seed=seed), "lenet5": lambda seed: lenet5(seed=seed)}


def trained(name: str, images: Data, *, seed: int = 0, folder: Path | None = None) -> nn.Module:
    """Return a network trained on MNIST; from the folder where it is there already, else put there."""
    path = None if folder is None else folder / f"{name}-{images.name}-{seed}.safetensors"
    if path is not None and path.exists():
        model = NETWORKS[name](seed)
        model.load_state_dict(load_file(path))
        return model.eval()
    model = lenet300_trained(images, seed=seed) if name == "lenet300" else _lenet5(images, seed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), path)
    return model


def _lenet5(images: Data, seed: int) -> nn.Module:
    return train(
        lenet5(seed=seed),
        images.x_train,
        images.y_train,
        epochs=8,
        batch_size=200,
        learning_rate=2e-3,
        weight_decay=1e-4,
        label_smoothing=0.1,
        seed=seed,
    )
