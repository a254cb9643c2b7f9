"""The worked example of the authors' manual: the two fully connected layers of a LeNet, trimmed at a gain of 0.15.

Aghasi, Abdi, Romberg (SIAM J. Math. Data Sci. 2020), by the manual of its code: 2,001 steps of Adam in batches of 200,
dropout of 0.25 before both layers, no penalty; all 55,000 images in the programs; then 2,001 plain gradient steps in
batches of 200. The manual prints 108,967 and 493 of 1,605,621 and 5,120 weights left, 6.8 %, and accuracies of 99.21 %
before, 98.48 % after, which is of its 5,000 validation images, and 98.92 % after the fine-tuning; its first layer stops at
an error of 0.161, after 300 iterations. Here the programs are solved in two ways: to their certificates, and by the
published iteration stopped after as many.

Departure, for two cores: programs of 10,000 images.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nettrim import layer_problems, trim
from nettrim.data import Data
from nettrim.evaluate import accuracy
from reproduce.compare import discrepancy, present, rival_of, score, tuned
from reproduce.figure import Case, Figure, Settings
from reproduce.networks import DECAY, data_of, trained, validation_of
from solvers import solve

TRAINED = {"steps": 2001, "batch_size": 200, "learning_rate": 1e-3, "decay": DECAY, "dropout": 0.25, "l1": 0.0, "l2": 0.0}
CERTIFIED, STOPPED = "certified", "as published"
WAYS = {CERTIFIED: {}, STOPPED: {"backend": "reference", "rho": 1.0, "max_iter": 300}}
Row = dict[str, Any]


def cases(settings: Settings) -> Iterator[Case]:
    """Yield each way to solve the programs, with all seeds before the next way."""
    for way, seed in itertools.product(settings["ways"], settings["seeds"]):
        yield {"seed": seed, "way": way}


def certified(model: nn.Module, data: Data, settings: Settings, seed: int) -> tuple[nn.Module, list[Row]]:
    """Return the network that ``trim`` gives, and a row a layer."""
    how = {"n_samples": settings["samples"], "seed": seed, "targets": ["Linear"], "tol": settings["tol"]}
    result = trim(model, data.x_train, settings["gain"], **how)
    return result.model, [
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
        }
        for layer in result.layers
        if layer.kind == "Linear"
    ]


def stopped(model: nn.Module, data: Data, settings: Settings, seed: int, how: dict[str, Any]) -> tuple[nn.Module, list[Row]]:
    """Return the network with the weights that a solver has when it is stopped, met or not, and a row a layer."""
    answer, found = copy.deepcopy(model), []
    for name, layer in answer.named_modules():
        if isinstance(layer, nn.Linear):
            draw = {"n_samples": settings["samples"], "seed": seed}
            (problem,) = layer_problems(model, name, data.x_train, settings["gain"], **draw)
            solution = solve(problem, tol=settings["tol"], throw=False, **how)
            W = torch.from_numpy(solution.W).to(layer.weight)
            with torch.no_grad():
                layer.weight.copy_(W[:-1].T)
                layer.bias.copy_(W[-1])
            found.append(
                {
                    "layer": name,
                    "weights": layer.weight.numel(),
                    "kept": int(layer.weight.count_nonzero()),
                    "status": solution.status.name,
                    "reached": solution.certificate.response_error / problem.norm,
                    "gap": solution.certificate.gap,
                    "violation": solution.certificate.violation,
                    "iterations": solution.iterations,
                    "minutes": round(solution.seconds / 60, 1),
                }
            )
    return answer, found


def example_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return a row a layer, what is of the whole network in each."""
    data, seed, how = data_of(settings), case["seed"], settings["ways"][case["way"]]
    model = trained("lenet", {name: settings[name] for name in TRAINED}, data, seed, networks)
    answer, layers = stopped(model, data, settings, seed, how) if how else certified(model, data, settings, seed)
    masks = present(answer)
    rival, largest = rival_of(model, masks)
    found: Row = {
        "accuracy": score(model, data),
        "nettrim": score(answer, data),
        "nettrim_validation": accuracy(answer, *validation_of(settings)),
        "hptd": score(rival, data),
        "discrepancy": discrepancy(model, answer, data),
    }
    for name, start, held in (("nettrim", answer, masks), ("hptd", rival, largest)):
        (after,) = tuned(start, held, data, [settings["tuned"]], seed, settings["batch_size"])
        found[f"{name}_tuned"] = score(after, data)
    return [layer | found for layer in layers]


EXAMPLE = Figure(
    name="lenet_example",
    source="SIAM J. Math. Data Sci. 2020, the manual of its code: LeNet at a gain of 0.15",
    settings={
        "data": "mnist",
        "gain": 0.15,
        "samples": 10_000,
        "tol": 1e-3,
        "ways": WAYS,
        "tuned": 2001,
        "seeds": [0, 1, 2],
        **TRAINED,
    },
    quick={
        "data": "mnist5k",
        "samples": 200,
        "ways": WAYS | {STOPPED: WAYS[STOPPED] | {"rho": 100.0, "max_iter": 20}},
        "tuned": 10,
        "seeds": [0],
        "steps": 20,
    },
    cases=cases,
    measured=example_rows,
    minutes=75,
)
FIGURES = (EXAMPLE,)
