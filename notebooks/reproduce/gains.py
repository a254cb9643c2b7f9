"""The fully connected network 784-300-1000-100-10 on MNIST at twelve gains: discrepancy and accuracy of both ways.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the settings of its authors' scripts (``reproduce.networks``): of a
network trained with dropout and l2 every layer is trimmed apart, with one gain: epsilon relative to the norm of its
responses. HPTD keeps as many of the largest weights in each layer. Both are fine-tuned alike.

Weights left are told as a part of all entries, and so are those over 1e-6 before, among which the scripts count.

Departures: programs have 5,000 samples, not all 55,000, and are solved to their certificates, not for 2,000 iterations; of
the networks the first is fine-tuned for 15,000 steps, the others for 5,000.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reproduce.compare import WHOLE, both_ways, compared, counted, left
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import TRAININGS, data_of, trained

GAINS = [0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
Row = dict[str, Any]


def cases(settings: Settings) -> Iterator[Case]:
    """Yield the networks of all seeds as they were trained, then each gain, with all seeds before the next gain."""
    for gain, seed in itertools.product([WHOLE, *settings["gains"]], settings["seeds"]):
        yield {"seed": seed, "gain": gain}


def gain_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim: what is left, the discrepancy on the training images, and accuracies of both ways."""
    data, seed = data_of(settings), case["seed"]
    model = trained("fc", settings["training"], data, seed, networks)
    result, ways = both_ways(model, data, case["gain"], settings["samples"], seed)
    until = None if seed == settings["seeds"][0] else settings["tuned"][0]
    when = {str(steps): steps for steps in settings["tuned"]}
    return [{"before": counted(model), **left(model, result, data), **compared(ways, data, when, seed, until=until)}]


GAINED = Figure(
    name="mnist_gains",
    source="SIAM J. Math. Data Sci. 2020, the authors' scripts: 784-300-1000-100-10 at 12 gains",
    settings={
        "data": "mnist",
        "training": TRAININGS["dropout and l2"],
        "gains": GAINS,
        "samples": 5000,
        "tuned": [5000, 10000, 15000],
        "seeds": [0, 1, 2],
    },
    quick={
        "data": "mnist5k",
        "training": TRAININGS["dropout and l2"] | {"steps": 100},
        "gains": [0.4],
        "samples": 200,
        "tuned": [10, 20],
        "seeds": [0],
    },
    cases=cases,
    measured=gain_rows,
    minutes=45,
)
FIGURES = (GAINED,)
