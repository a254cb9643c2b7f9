"""The fully connected network 784-300-1000-100-10 on MNIST in six trainings, pruned at two gains and fine-tuned once.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the settings of its authors' scripts (``reproduce.networks``), which
have six trainings and tell one of them: dropout and l2. The others here are ours.

Departures: two gains, 5,000 samples in the programs in place of 55,000, 5,000 of 15,000 steps of fine-tuning.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from reproduce.compare import WHOLE, both_ways, compared, left, present
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import DECAY, data_of, trained

TRAINED = {"data": "mnist", "steps": 8001, "batch_size": 100, "learning_rate": 1e-3}
VARIANTS = {
    "dropout and l2": {"dropout": 0.5, "l1": 0.0, "l2": 0.004},
    "plain": {"dropout": 0.0, "l1": 0.0, "l2": 0.0},
    "l1": {"dropout": 0.0, "l1": 1e-4, "l2": 0.0},
    "l2": {"dropout": 0.0, "l1": 0.0, "l2": 0.004},
    "dropout": {"dropout": 0.5, "l1": 0.0, "l2": 0.0},
    "dropout and l1": {"dropout": 0.5, "l1": 1e-4, "l2": 0.0},
}
Row = dict[str, Any]


def network(settings: Settings, variant: str, seed: int, folder: Path | None) -> nn.Module:
    """Return the trained network of a variant."""
    how = {name: settings[name] for name in ("steps", "batch_size", "learning_rate")} | {"decay": DECAY}
    return trained("fc", how | settings["variants"][variant], data_of(settings), seed, folder)


def cases(settings: Settings) -> Iterator[Case]:
    """Yield each network with each gain, and before these what stands for the network as it was trained."""
    for seed, variant, gain in itertools.product(settings["seeds"], settings["variants"], [WHOLE, *settings["gains"]]):
        yield {"variant": variant, "seed": seed, "gain": gain}


def training_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim: what is left, the discrepancy, and accuracies of both ways."""
    data, seed = data_of(settings), case["seed"]
    model = network(settings, case["variant"], seed, networks)
    result, ways = both_ways(model, data, case["gain"], settings["samples"], seed)
    scores = compared(ways, data, {"tuned": settings["tuned"]}, seed)
    return [{"before": present(model), **left(model, result, data), **scores}]


TRAININGS = Figure(
    name="mnist_trainings",
    source="SIAM J. Math. Data Sci. 2020, the authors' scripts: 784-300-1000-100-10 in six trainings",
    settings={
        "variants": VARIANTS,
        "gains": [0.1, 0.4],
        "samples": 5000,
        "tuned": 5000,
        "seeds": [0, 1, 2],
        **TRAINED,
    },
    quick={
        "data": "mnist5k",
        "variants": {"plain": VARIANTS["plain"], "l1": VARIANTS["l1"]},
        "gains": [0.2],
        "samples": 200,
        "steps": 100,
        "tuned": 10,
        "seeds": [0],
    },
    cases=cases,
    measured=training_rows,
    minutes=75,
)
FIGURES = (TRAININGS,)
