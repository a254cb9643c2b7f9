"""Cascade against parallel on MNIST: weights left at the discrepancy of the outputs, for networks of several trainings.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the settings of its scripts: l1 penalties and dropout of several
strengths, Adam from 1e-3, 3 % less every 500 steps, in 10,001 batches of 200, gains of 0.01, 0.03 and 0.04 (parallel) and of
0.005, 0.01, 0.03 and 0.07 (cascade, whose gain is of the first layer, gamma 1.1). Of the LeNet only the fully connected
layers are trimmed.

Departures, for two cores: penalties of weights and not of biases, 3 of the 15 trainings, 5,000 samples in the programs. Of
the LeNet, which is that of ``reproduce.worked``, one training and fewer gains, but in the cascade 0.1 too, so that both
schemes come to the same discrepancies. For speed, ceilings of the cascade below 0 are raised to 0; spirals have both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reproduce.compare import COUNTED, discrepancy, pruned, score
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import DECAY, data_of, trained

GAINS = {
    "fc": {"parallel": [0.01, 0.03, 0.04], "cascade": [0.005, 0.01, 0.03, 0.07]},
    "lenet": {"parallel": [0.03, 0.04], "cascade": [0.03, 0.07, 0.1]},
}
TRAINED = {
    "fc": {"steps": 10001, "batch_size": 200, "learning_rate": 1e-3, "decay": 0.97, "l2": 0.0},
    "lenet": {"steps": 2001, "batch_size": 200, "learning_rate": 1e-3, "decay": DECAY, "l2": 0.0},
}
Row = dict[str, Any]


def both(settings: Settings) -> Iterator[Case]:
    """Yield each network with each scheme and gain, all of a seed before the next."""
    seeds = sorted({seed for each in settings["seeds"].values() for seed in each})
    for seed, (kind, trainings) in itertools.product(seeds, settings["l1 and dropout"].items()):
        if seed in settings["seeds"][kind]:
            trims = [{"scheme": scheme, "gain": gain} for scheme, gains in settings["gains"][kind].items() for gain in gains]
            for (l1, dropout), trim in itertools.product(trainings, trims):
                yield {"network": kind, "l1": l1, "dropout": dropout, "seed": seed, **trim}


def scheme_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim: what is left of the layers, the discrepancy and accuracies."""
    data, seed, kind = data_of(settings), case["seed"], case["network"]
    how = settings["trained"][kind] | {name: case[name] for name in ("l1", "dropout")}
    model = trained(kind, how, data, seed, networks)
    scheme = settings["cascade"] if case["scheme"] == "cascade" else {}
    asked = {"scheme": case["scheme"], "targets": ["Linear"], **scheme}
    result, _, rival, _ = pruned(model, data, case["gain"], settings["samples"], seed, **asked)
    layers = [layer for layer in result.layers if layer.kind == "Linear"]
    counts = [(int((model.get_submodule(layer.name).weight.abs() > COUNTED).sum()), layer.weights_kept) for layer in layers]
    return [
        {
            "kept": sum(after for _, after in counts) / sum(before for before, _ in counts),
            "layers": " ".join(f"{after}/{before}" for before, after in counts),
            "solved": result.solved,
            "discrepancy": discrepancy(model, result.model, data),
            "accuracy": score(model, data),
            "nettrim": score(result.model, data),
            "hptd": score(rival, data),
        }
    ]


SCHEMES = Figure(
    name="mnist_schemes",
    source="SIAM J. Math. Data Sci. 2020, the authors' scripts: cascade and parallel, fully connected network and LeNet",
    settings={
        "data": "mnist",
        "l1 and dropout": {"fc": [[0.0, 0.0], [1e-4, 0.0], [1e-4, 0.5]], "lenet": [[0.0, 0.25]]},
        "gains": GAINS,
        "cascade": {"gamma": 1.1, "loose": True},
        "samples": 5000,
        "seeds": {"fc": [0, 1, 2], "lenet": [0, 1, 2]},
        "trained": TRAINED,
    },
    quick={
        "data": "mnist5k",
        "trained": {kind: how | {"steps": 20} for kind, how in TRAINED.items()},
        "l1 and dropout": {"fc": [[1e-4, 0.5]]},
        "gains": {"fc": {"parallel": [0.04], "cascade": [0.03]}},
        "seeds": {"fc": [0]},
        "samples": 200,
    },
    cases=both,
    measured=scheme_rows,
    minutes=85,
)
FIGURES = (SCHEMES,)
