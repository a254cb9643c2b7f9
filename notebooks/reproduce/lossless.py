"""How far 784-300-1000-100-10 on MNIST can be pruned without loss, as Net-Trim leaves it and fine-tuned once.

Of the claim of the authors' group that more than 95 % of MNIST's weights are removed without loss no settings are known.
Here are Net-Trim as published, in a cascade, and in a cascade that is reweighted and refitted, of networks trained with l1;
of six trainings (``reproduce.trainings``) it left the fewest weights without loss, fine-tuned and by the test images of one
network. Magnitude pruning keeps as many of the largest weights in each layer. The images that the scripts set aside for
validation choose scheme and radius, no training and no program sees them, and the test images judge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reproduce.compare import WHOLE, both_ways, compared, counted, left
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import TRAININGS, data_of, trained, validation_of

UNPRUNED = "unpruned"
WAYS: dict[str, dict[str, Any] | None] = {
    UNPRUNED: None,
    "parallel, as published": {},
    "cascade": {"scheme": "cascade"},
    "cascade, reweighted and refitted": {"scheme": "cascade", "rounds": 3, "refit": True},
}
Row = dict[str, Any]


def cases(settings: Settings) -> Iterator[Case]:
    """Yield the networks of all seeds as they were trained, then each way and radius, with all seeds before the next."""
    for way, how in settings["ways"].items():
        for epsilon, seed in itertools.product([WHOLE] if how is None else settings["epsilon"], settings["seeds"]):
            yield {"seed": seed, "way": way, "epsilon": epsilon}


def lossless_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim and of magnitude pruning to its counts, with accuracies on the validation images."""
    data, seed, how = data_of(settings), case["seed"], settings["ways"][case["way"]] or {}
    model = trained("fc", settings["training"], data, seed, networks)
    result, pruned = both_ways(model, data, case["epsilon"], settings["samples"], seed, **how)
    scores = compared(pruned, data, {"tuned": settings["tuned"]}, seed, validation=validation_of(settings))
    return [{"before": counted(model), **left(model, result, data), **scores}]


LOSSLESS = Figure(
    name="mnist_lossless",
    source="the authors' group on Net-Trim, 2017: more than 95 % of MNIST's weights without loss, 784-300-1000-100-10",
    settings={
        "data": "mnist",
        "training": TRAININGS["l1"],
        "ways": WAYS,
        "epsilon": [0.01, 0.02, 0.05, 0.1],
        "samples": 5000,
        "tuned": 5000,
        "seeds": [0, 1, 2],
    },
    quick={
        "data": "mnist5k",
        "training": TRAININGS["l1"] | {"steps": 100},
        "epsilon": [0.3],
        "samples": 200,
        "tuned": 10,
        "seeds": [0],
    },
    cases=cases,
    measured=lossless_rows,
    minutes=45,
)
FIGURES = (LOSSLESS,)
