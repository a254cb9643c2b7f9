"""The fully connected network 784-300-1000-100-10 on MNIST in six trainings, pruned at two gains and fine-tuned once.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the settings of its authors' scripts (``reproduce.networks``), which
have six trainings and tell one of them: dropout and l2. The others here are ours.

Departures: two gains, 5,000 samples in the programs in place of 55,000, every program to its certificate in place of 2,000
iterations, 5,000 of 15,000 steps of fine-tuning.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reproduce.compare import WHOLE, both_ways, compared, counted, left
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import TRAININGS, data_of, trained

Row = dict[str, Any]


def cases(settings: Settings) -> Iterator[Case]:
    """Yield all networks as they were trained, then each gain, with all networks before the next gain."""
    for gain, seed, training in itertools.product([WHOLE, *settings["gains"]], settings["seeds"], settings["trainings"]):
        yield {"training": training, "seed": seed, "gain": gain}


def training_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim: what is left, the discrepancy, and accuracies of both ways."""
    data, seed = data_of(settings), case["seed"]
    model = trained("fc", settings["trainings"][case["training"]], data, seed, networks)
    result, ways = both_ways(model, data, case["gain"], settings["samples"], seed)
    scores = compared(ways, data, {"tuned": settings["tuned"]}, seed)
    return [{"before": counted(model), **left(model, result, data), **scores}]


TRAINED = Figure(
    name="mnist_trainings",
    source="SIAM J. Math. Data Sci. 2020, the authors' scripts: 784-300-1000-100-10 in six trainings",
    settings={
        "data": "mnist",
        "trainings": TRAININGS,
        "gains": [0.1, 0.4],
        "samples": 5000,
        "tuned": 5000,
        "seeds": [0, 1, 2],
    },
    quick={
        "data": "mnist5k",
        "trainings": {name: TRAININGS[name] | {"steps": 100} for name in ("plain", "l1")},
        "gains": [0.2],
        "samples": 200,
        "tuned": 10,
        "seeds": [0],
    },
    cases=cases,
    measured=training_rows,
    minutes=40,
)
FIGURES = (TRAINED,)
