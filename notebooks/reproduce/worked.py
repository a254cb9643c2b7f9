"""The worked example of the authors' manual: the two fully connected layers of a LeNet, trimmed at a gain of 0.15.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the manual of its code: 2,001 steps of Adam in batches of 200,
dropout of 0.25 before both layers, no penalty; all 55,000 images in the programs; then 2,001 plain gradient steps in batches
of 200. The manual prints 108,967 and 493 of 1,605,621 and 5,120 weights left, 6.8 %, and accuracies of 99.21 % before,
98.48 % after, which is of its 5,000 validation images, and 98.92 % after the fine-tuning; its first layer stops at an error
of 0.161.

Departure, for two cores: programs of 10,000 images; of all the first layer had no certificate after 19 minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nettrim.evaluate import accuracy
from reproduce.compare import discrepancy, pruned, score, tuned
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import DECAY, data_of, trained, validation_of

TRAINED = {"steps": 2001, "batch_size": 200, "learning_rate": 1e-3, "decay": DECAY, "dropout": 0.25, "l1": 0.0, "l2": 0.0}
Row = dict[str, Any]


def seeds(settings: Settings) -> Iterator[Case]:
    """Yield each network."""
    for seed in settings["seeds"]:
        yield {"seed": seed}


def example_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return a row a layer, what is of the whole network in each."""
    data, seed = data_of(settings), case["seed"]
    model = trained("lenet", {name: settings[name] for name in TRAINED}, data, seed, networks)
    how = {"targets": ["Linear"], "tol": settings["tol"]}
    result, masks, rival, largest = pruned(model, data, settings["gain"], settings["samples"], seed, **how)
    found: Row = {
        "accuracy": score(model, data),
        "nettrim": score(result.model, data),
        "nettrim_validation": accuracy(result.model, *validation_of(settings)),
        "hptd": score(rival, data),
        "discrepancy": discrepancy(model, result.model, data),
    }
    for name, start, held in (("nettrim", result.model, masks), ("hptd", rival, largest)):
        (after,) = tuned(start, held, data, [settings["tuned"]], seed, settings["batch_size"])
        found[f"{name}_tuned"] = score(after, data)
    return [
        {
            "layer": layer.name,
            "weights": layer.weights,
            "kept": layer.weights_kept,
            "status": layer.status,
            "reached": layer.achieved,
            "gap": layer.gap,
            "violation": layer.violation,
            "iterations": layer.iterations,
            "minutes": round(layer.seconds / 60, 1),
            **found,
        }
        for layer in result.layers
        if layer.kind == "Linear"
    ]


EXAMPLE = Figure(
    name="lenet_example",
    source="SIAM J. Math. Data Sci. 2020, the manual of its code: LeNet at a gain of 0.15",
    settings={"data": "mnist", "gain": 0.15, "samples": 10_000, "tol": 1e-3, "tuned": 2001, "seeds": [0], **TRAINED},
    quick={"data": "mnist5k", "samples": 200, "tuned": 10, "seeds": [0], "steps": 20},
    cases=seeds,
    measured=example_rows,
    minutes=25,
)
FIGURES = (EXAMPLE,)
