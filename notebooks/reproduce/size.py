"""A model of 100 MB trimmed: bytes before and after, as they lie on a disk.

Of Net-Trim the authors' group says that it takes models from 100 MB to 5 MB without loss of accuracy, with no settings. Here
784-3000-5000-1500-10, 24.9 million float32 weights, is trained on MNIST with an l1 penalty, trimmed as published, every
layer apart, on unlabelled images, and fine-tuned once by Adam; so are, beside it, the trained network and magnitude pruning
to its counts. A cascade, which first refits each of 5,000 neurons, is left out. Bytes are those of files: the dense one in
safetensors, the same zipped, and SciPy's compressed sparse rows of every weight, with indices and float32 values, in one
compressed npz.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from safetensors.torch import save_file
from torch import nn

from nettrim.data import Data
from nettrim.masks import everything, weights
from nettrim.models import mlp
from nettrim.train import train
from reproduce.compare import discrepancy, pruned, score
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import data_of, penalized, remembered

Row = dict[str, Any]


def radii(settings: Settings) -> Iterator[Case]:
    """Yield each radius."""
    for epsilon in settings["epsilon"]:
        yield {"epsilon": epsilon}


def write(model: nn.Module, folder: Path) -> None:
    """Write a model in three ways; the zipped and the sparse file hold all that the dense one does."""
    dense = folder / "model.safetensors"
    save_file(model.state_dict(), dense)
    with zipfile.ZipFile(folder / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(dense, dense.name)
    arrays: dict[str, Any] = {}
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 2:
            rows = scipy.sparse.csr_array(tensor.numpy())
            arrays |= {f"{name}.{part}": getattr(rows, part) for part in ("data", "indices", "indptr")}
            arrays[f"{name}.shape"] = np.array(rows.shape)
        else:
            arrays[name] = tensor.numpy()
    np.savez_compressed(folder / "model.npz", **arrays)


def sizes(model: nn.Module) -> dict[str, int]:
    """Return the bytes of a model's files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(model, folder)
        endings = {"dense": "safetensors", "zipped": "zip", "sparse": "npz"}
        return {way: (folder / f"model.{ending}").stat().st_size for way, ending in endings.items()}


def trained(settings: Settings, data: Data, folder: Path | None) -> nn.Module:
    """Return the trained network, from the folder if it is there."""
    start, seed = mlp(settings["sizes"], seed=settings["seed"]), settings["seed"]
    how = {name: settings[name] for name in ("epochs", "batch_size", "learning_rate")}

    def make() -> nn.Module:
        return train(start, data.x_train, data.y_train, loss=penalized(settings["l1"], 0.0), seed=seed, **how)

    return remembered("size", start, data, {"seed": seed, "l1": settings["l1"], **how}, make, folder)


def size_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return a row a model: the trained one, the trimmed one, magnitude pruning to its counts, and each fine-tuned."""
    data, seed = data_of(settings), settings["seed"]
    model = trained(settings, data, networks)
    result, masks, rival, largest = pruned(model, data, case["epsilon"], settings["samples"], seed)
    of = {"trained": (model, everything(model)), "Net-Trim": (result.model, masks), "magnitude": (rival, largest)}
    models = {name: start for name, (start, _) in of.items()}
    how = {"batch_size": settings["batch_size"], "seed": seed, **settings["tuned"]}
    for name, (start, held) in of.items():
        models[f"{name}, fine-tuned"] = train(start, data.x_train, data.y_train, masks=held, label="fine-tuning", **how)
    return [
        {
            "model": name,
            "weights": sum(int(weight.count_nonzero()) for weight in weights(each).values()),
            **sizes(each),
            "accuracy": score(each, data),
            "discrepancy": discrepancy(model, each, data),
            "solved": result.solved,
            "minutes": round(result.seconds / 60, 1),
        }
        for name, each in models.items()
    ]


SIZE = Figure(
    name="size",
    source="the authors' group on Net-Trim, 2017: a model of 100 MB becomes one of 5 MB",
    settings={
        "data": "mnist",
        "sizes": [784, 3000, 5000, 1500, 10],
        "l1": 1e-4,
        "epochs": 4,
        "batch_size": 200,
        "learning_rate": 1e-3,
        "epsilon": [0.01, 0.02, 0.05],
        "samples": 5000,
        "tuned": {"epochs": 1, "learning_rate": 2e-4},
        "seed": 0,
    },
    quick={"data": "mnist5k", "sizes": [784, 60, 80, 10], "epochs": 2, "epsilon": [0.2], "samples": 200},
    cases=radii,
    measured=size_rows,
    minutes=55,
)
FIGURES = (SIZE,)
