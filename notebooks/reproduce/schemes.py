"""Cascade against parallel on MNIST, two figures: weights left at the discrepancy of the outputs, of MLPs and of a LeNet.

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

FC = {"steps": 10001, "batch_size": 200, "learning_rate": 1e-3, "decay": 0.97, "l2": 0.0}
LENET = {"steps": 2001, "batch_size": 200, "learning_rate": 1e-3, "decay": DECAY, "l2": 0.0}
GAMMA = 1.1
Row = dict[str, Any]


def both(settings: Settings) -> Iterator[Case]:
    """Yield each scheme with each gain, with all networks before the next gain."""
    trims = [{"scheme": scheme, "gain": gain} for scheme, gains in settings["gains"].items() for gain in gains]
    for trim, seed, (l1, dropout) in itertools.product(trims, settings["seeds"], settings["l1 and dropout"]):
        yield {**trim, "seed": seed, "l1": l1, "dropout": dropout}


def scheme_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim: what is left of the layers, the discrepancy and accuracies."""
    data, seed = data_of(settings), case["seed"]
    how = settings["trained"] | {name: case[name] for name in ("l1", "dropout")}
    model = trained(settings["network"], how, data, seed, networks)
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
    source="SIAM J. Math. Data Sci. 2020, the authors' scripts: cascade and parallel, fully connected network",
    settings={
        "data": "mnist",
        "network": "fc",
        "l1 and dropout": [[0.0, 0.0], [1e-4, 0.0], [1e-4, 0.5]],
        "gains": {"parallel": [0.01, 0.03, 0.04], "cascade": [0.005, 0.01, 0.03, 0.07]},
        "cascade": {"gamma": GAMMA, "loose": True},
        "samples": 5000,
        "seeds": [0, 1, 2],
        "trained": FC,
    },
    quick={
        "data": "mnist5k",
        "l1 and dropout": [[1e-4, 0.5]],
        "gains": {"parallel": [0.04], "cascade": [0.03]},
        "samples": 200,
        "seeds": [0],
        "trained": FC | {"steps": 20},
    },
    cases=both,
    measured=scheme_rows,
    minutes=40,
)
LENET_SCHEMES = Figure(
    name="lenet_schemes",
    source="SIAM J. Math. Data Sci. 2020, the authors' scripts: cascade and parallel, LeNet",
    settings={
        "data": "mnist",
        "network": "lenet",
        "l1 and dropout": [[0.0, 0.25]],
        "gains": {"parallel": [0.03, 0.04], "cascade": [0.03, 0.07, 0.1]},
        "cascade": {"gamma": GAMMA, "loose": True},
        "samples": 5000,
        "seeds": [0, 1, 2],
        "trained": LENET,
    },
    quick={
        "data": "mnist5k",
        "gains": {"parallel": [0.04], "cascade": [0.1]},
        "samples": 100,
        "seeds": [0],
        "trained": LENET | {"steps": 20},
    },
    cases=both,
    measured=scheme_rows,
    minutes=60,
)
FIGURES = (SCHEMES, LENET_SCHEMES)
