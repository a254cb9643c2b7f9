"""How far 784-300-1000-100-10 on MNIST can be pruned without loss: without labels and retraining, and with one fine-tuning.

Of the claim of the authors' group that more than 95 % of MNIST's weights are removed without loss no settings are known.
Here are Net-Trim as published, in a cascade, and in a cascade that is reweighted and refitted, of networks trained with l1
(``reproduce.trainings``). Magnitude pruning keeps as many of the largest weights in each layer. The images that the scripts
set aside for validation choose way and radius, no training and no program sees them, and the test images judge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nettrim.evaluate import accuracy
from reproduce.compare import WHOLE, both_ways, compared, left, present
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import data_of, validation_of
from reproduce.trainings import TRAINED, VARIANTS, network

UNPRUNED = "unpruned"
WAYS: dict[str, dict[str, Any] | None] = {
    UNPRUNED: None,
    "parallel, as published": {},
    "cascade": {"scheme": "cascade"},
    "cascade, reweighted and refitted": {"scheme": "cascade", "rounds": 3, "refit": True},
}
Row = dict[str, Any]


def cases(settings: Settings) -> Iterator[Case]:
    """Yield each network as it was trained, then with each way and radius."""
    for seed, (way, how) in itertools.product(settings["seeds"], settings["ways"].items()):
        for epsilon in [WHOLE] if how is None else settings["epsilon"]:
            yield {"seed": seed, "way": way, "epsilon": epsilon}


def labelless_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim and of magnitude pruning to its counts, with accuracies on the validation images."""
    data, seed, way = data_of(settings), case["seed"], case["way"]
    model = network(settings, settings["variant"], seed, networks)
    result, ways = both_ways(model, data, case["epsilon"], settings["samples"], seed, **settings["ways"][way] or {})
    validation = validation_of(settings)
    scores = compared(ways, data, {"tuned": settings["tuned"]}, seed, validation=validation)
    told = {"before": present(model), **left(model, result, data), "accuracy_validation": accuracy(model, *validation)}
    return [told | scores]


LABELLESS = Figure(
    name="mnist_labelless",
    source="the authors' group on Net-Trim, 2017: more than 95 % of MNIST's weights without loss, 784-300-1000-100-10",
    settings={
        "variants": VARIANTS,
        "variant": "l1",
        "ways": WAYS,
        "epsilon": [0.01, 0.02, 0.05, 0.1],
        "samples": 5000,
        "tuned": 5000,
        "seeds": [0, 1, 2],
        **TRAINED,
    },
    quick={"data": "mnist5k", "epsilon": [0.3], "samples": 200, "steps": 100, "tuned": 10, "seeds": [0]},
    cases=cases,
    measured=labelless_rows,
    minutes=45,
)
FIGURES = (LABELLESS,)
