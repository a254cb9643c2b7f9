"""The nested spirals: runs 1 and 2, the sweep of cascade against parallel, and Tables S.1 and S.2.

Aghasi, Abdi, Nguyen, Romberg (NIPS 2017), Figure 1 and supplement, section "Experiments". The paper does not say how its
networks were trained; here by Adam from 3e-3 by a cosine to 0, in batches of 50, with the dropout and the l1 penalty in the
settings. Weights are counted as its authors do, by a magnitude over 1e-6. A discrepancy is that of the outputs before the
softmax, ``||Z - Z_hat||_F / ||Z||_F``.

The cascade has the ceilings of the paper, ``V = W'X_hat``; the sweep shows beside it the looser ones that ``trim`` has by
default, which raise those below 0 to 0. Of run 2 the paper tells neither epsilon nor kappa: epsilon is such that the
discrepancy is about the published one. Of the sweep and the tables it tells no radii; kappa is 1 in both. Programs are
solved to a certificate of 1e-3, and biases have the price of weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim import TrimResult, trim
from nettrim.data import Data, load
from nettrim.errors import DataError, ModelError
from nettrim.evaluate import accuracy, logits
from nettrim.masks import weights
from nettrim.models import mlp
from nettrim.train import train
from reproduce.figure import Case, Figure, Settings

COUNTED = 1e-6
TRAINED = {"epochs": 1500, "batch_size": 50, "learning_rate": 3e-3}
DROPOUT, DROPOUT_AND_L1 = {"dropout": 0.2, "l1": 0.0}, {"dropout": 0.2, "l1": 1e-4}
DATA = {"data": "spirals"}
ANY_DATA = {"data": "any"}  # a quick look does with points that are drawn
PUBLISHED = {"gamma": 1.1, "loose": False}  # the cascade
Row = dict[str, Any]


def points(settings: Settings) -> Data:
    """Return the paper's points.

    Raises
    ------
    DataError
        If they are not at hand.
    """
    data = load("spirals")
    if settings["data"] not in ("any", data.name):
        raise DataError(
            f"these rows are of the paper's points, and what was found are {data.name}: "
            "let NETTRIM_DATA name a folder with spiral.csv"
        )
    return data


@lru_cache(maxsize=4)
def trained(
    hidden: int, seed: int, dropout: float, l1: float, epochs: int, batch_size: int, learning_rate: float
) -> nn.Module:
    """Return the trained network 2 - hidden - hidden - 2."""
    data = load("spirals")

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y) + l1 * sum(weight.abs().sum() for weight in weights(model).values())

    how = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    start = mlp((2, hidden, hidden, 2), dropout=dropout, seed=seed)
    return train(start, data.x_train, data.y_train, loss=loss if l1 else None, **how)


def how_trained(settings: Settings) -> dict[str, Any]:
    """Return the settings of the training."""
    return {name: settings[name] for name in TRAINED}


def counts(model: nn.Module) -> list[int]:
    """Return the weights of each layer that are counted."""
    return [int((weight.abs() > COUNTED).sum()) for weight in weights(model).values()]


def cascade(
    model: nn.Module, data: Data, epsilon: float, kappas: Sequence[float], how: Mapping[str, Any]
) -> tuple[TrimResult, float]:
    """Return the network trimmed at the first kappa for which the last program has a point at all, and that kappa.

    A risk coefficient below ``1 / sqrt(gamma)`` asks the last layer for less error than its trained weights have on the new
    inputs; no weights may have so little. At 1 the trained weights do.
    """
    for kappa in kappas:
        try:
            return trim(
                model, data.x_train, epsilon, scheme="cascade", kappa=kappa, n_samples=len(data.x_train), **how
            ), kappa
        except ModelError as error:
            if "kappa must be at least" not in str(error):
                raise
    raise AssertionError("the last kappa must be 1, which always has a point")


def discrepancy(model: nn.Module, trimmed: nn.Module, data: Data) -> float:
    """Return the relative discrepancy of the outputs."""
    Z, Z_hat = logits(model, data.x_test).double(), logits(trimmed, data.x_test).double()
    return float((Z - Z_hat).norm() / Z.norm())


def described(model: nn.Module, trimmed: nn.Module, data: Data) -> Row:
    """Return counts, accuracies and the discrepancy."""
    before, after = counts(model), counts(trimmed)
    return {
        **{f"before_{number}": count for number, count in enumerate(before, 1)},
        **{f"after_{number}": count for number, count in enumerate(after, 1)},
        "kept": sum(after) / sum(before),
        "accuracy_before": accuracy(model, data.x_test, data.y_test),
        "accuracy_after": accuracy(trimmed, data.x_test, data.y_test),
        "discrepancy": discrepancy(model, trimmed, data),
    }


# --- runs 1 and 2 ---

KAPPAS = [0.35, 0.5, 0.7, 1.0]


def runs(settings: Settings) -> Iterator[Case]:
    """Yield each run with each seed."""
    for run, seed in itertools.product(settings["runs"], settings["seeds"]):
        yield {"run": run, "seed": seed}


def run_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a network: counts, discrepancy and the kappa at which it was possible."""
    model, result, kappa = run(settings, case["run"], case["seed"])
    data = points(settings)
    bound = {"bound": result.bound / result.output_norm, "output_error": result.output_error / result.output_norm}
    return [described(model, result.model, data) | {"kappa": kappa, "solved": result.solved} | bound]


def run(settings: Settings, name: str, seed: int) -> tuple[nn.Module, TrimResult, float]:
    """Return the trained network of a run, what the cascade made of it, and its kappa."""
    told, data = settings["runs"][name], points(settings)
    model = trained(settings["hidden"], seed, told["dropout"], told["l1"], **how_trained(settings))
    return model, *cascade(model, data, told["epsilon"], told["kappas"], settings["cascade"])


RUNS = Figure(
    name="spirals_runs",
    source="NIPS 2017, Figure 1 and supplement: runs 1 and 2",
    settings={
        "hidden": 200,
        "runs": {
            "1": {"dropout": 0.0, "l1": 0.0, "epsilon": 0.01, "kappas": KAPPAS},
            "2": DROPOUT_AND_L1 | {"epsilon": 0.0025, "kappas": KAPPAS},
        },
        "cascade": PUBLISHED,
        "seeds": [0, 1, 2, 3, 4],
        **TRAINED,
        **DATA,
    },
    quick=ANY_DATA | {"hidden": 20, "seeds": [0], "epochs": 200},
    cases=runs,
    measured=run_rows,
    minutes=4,
)


# --- the pictures of one network of each run ---


def one_network(settings: Settings) -> Iterator[Case]:
    """Yield each run."""
    for name in settings["runs"]:
        yield {"run": name}


def grid_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the difference of the two outputs on a grid, before and after."""
    model, result, _ = run(settings, case["run"], settings["seed"])
    side = torch.linspace(-settings["extent"], settings["extent"], settings["points"])
    grid = torch.cartesian_prod(side, side)
    before, after = (logits(network, grid) for network in (model, result.model))
    return [
        {"x": round(x, 4), "y": round(y, 4), "before": rounded(b1 - b0), "after": rounded(a1 - a0)}
        for (x, y), (b0, b1), (a0, a1) in zip(grid.tolist(), before.tolist(), after.tolist(), strict=True)
    ]


def weight_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the weights of the layer between the hidden ones, a row an output, before and after."""
    model, result, _ = run(settings, case["run"], settings["seed"])
    every = []
    for when, network in (("before", model), ("after", result.model)):
        W = list(weights(network).values())[1].detach().double().numpy()
        every += [{"when": when, "output": i, "weights": " ".join(rounded(w) for w in row)} for i, row in enumerate(W)]
    return every


def rounded(number: float) -> str:
    """Return a number to three digits, for pictures."""
    return f"{number:.3g}" if abs(number) > COUNTED else "0"


PICTURED = {name: value for name, value in RUNS.settings.items() if name != "seeds"} | {"seed": 0}
MAP = Figure(
    name="spirals_map",
    source="NIPS 2017, Figure S.1: the classifier before and after",
    settings=PICTURED | {"extent": 1.6, "points": 81},
    quick=ANY_DATA | {"hidden": 20, "epochs": 200, "points": 9},
    cases=one_network,
    measured=grid_rows,
)
WEIGHTS = Figure(
    name="spirals_weights",
    source="NIPS 2017, Figures 1 and S.3: the weights between the hidden layers before and after",
    settings=PICTURED,
    quick=ANY_DATA | {"hidden": 20, "epochs": 200},
    cases=one_network,
    measured=weight_rows,
)


# --- the sweep: cascade against parallel ---


def sweep(settings: Settings) -> Iterator[Case]:
    """Yield each network with each scheme and radius."""
    for hidden, seed in itertools.product(settings["hidden"], settings["seeds"]):
        for scheme, epsilon in itertools.product(settings["schemes"], settings["epsilon"]):
            yield {"hidden": hidden, "seed": seed, "scheme": scheme, "epsilon": epsilon}


def sweep_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of a trim: counts and the discrepancy."""
    data = points(settings)
    model = trained(case["hidden"], case["seed"], settings["dropout"], settings["l1"], **how_trained(settings))
    how = settings["schemes"][case["scheme"]]
    result = trim(model, data.x_train, case["epsilon"], n_samples=len(data.x_train), **how)
    return [described(model, result.model, data) | {"solved": result.solved}]


READ_OFF = {  # percent left of layers 2 and 3, read off the figure: by layer, units and discrepancy, cascade and parallel
    2: {50: {0.05: (37, 38), 0.2: (24, 21)}, 75: {0.05: (27, 31), 0.2: (13, 11)}, 100: {0.05: (69, 49), 0.2: (35, 28)}},
    3: {50: {0.05: (47, 67), 0.2: (32, 52)}, 75: {0.05: (41, 60), 0.2: (23, 38)}, 100: {0.05: (31, 43), 0.2: (21, 32)}},
}
SWEEP = Figure(
    name="spirals_sweep",
    source="NIPS 2017, Figure S.2: layers' sparsity against the discrepancy, cascade and parallel, 20 trainings a point",
    settings={
        "hidden": [50, 75, 100],
        "epsilon": [0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02],
        "schemes": {
            "cascade": {"scheme": "cascade", **PUBLISHED},
            "parallel": {"scheme": "parallel"},
            "cascade, looser": {"scheme": "cascade", **PUBLISHED, "loose": True},
        },
        "dropout": 0.0,
        "l1": 0.0,
        "seeds": list(range(20)),
        **TRAINED,
        **DATA,
    },
    quick=ANY_DATA | {"hidden": [10], "epsilon": [0.02, 0.1], "seeds": [0, 1], "epochs": 200},
    cases=sweep,
    measured=sweep_rows,
    minutes=10,
)


# --- Tables S.1 and S.2 ---

PUBLISHED_CUTS = {  # percent of all weights removed, by the units of a hidden layer
    "S.1": {50: 76.9, 75: 84.2, 125: 76.2, 175: 92.9, 200: 93.8},
    "S.2": {50: 74.8, 75: 74.1, 125: 84.0, 175: 89.0, 200: 91.5},
}


def tables(settings: Settings) -> Iterator[Case]:
    """Yield each network of each table."""
    for table, hidden, seed in itertools.product(settings["tables"], settings["hidden"], settings["seeds"]):
        yield {"table": table, "hidden": hidden, "seed": seed}


def table_rows(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return the row of the largest radius, of a geometric grid, whose cascade stays under the discrepancy."""
    data, found = points(settings), None
    model = trained(case["hidden"], case["seed"], **settings["tables"][case["table"]], **how_trained(settings))
    low, high = 0, settings["steps"]  # of the grid, whose first radius is small enough: checked below
    while low < high or found is None:
        step = (low + high + 1) // 2
        epsilon = settings["least"] * settings["ratio"] ** step
        result, _ = cascade(model, data, epsilon, [1.0], settings["cascade"])
        row = described(model, result.model, data)
        if row["discrepancy"] < settings["discrepancy"]:
            low, found = step, row | {"epsilon": epsilon, "solved": result.solved}
        elif step == 0:
            raise AssertionError(f"no radius of the grid stays under a discrepancy of {settings['discrepancy']}")
        else:
            high = step - 1
    return [found]


TABLES = Figure(
    name="spirals_tables",
    source="NIPS 2017, Tables S.1 and S.2: weights before and after at a discrepancy below 0.02",
    settings={
        "tables": {"S.1": DROPOUT, "S.2": DROPOUT_AND_L1},
        "hidden": [50, 75, 125, 175, 200],
        "discrepancy": 0.02,
        "least": 0.001,
        "ratio": 1.2,
        "steps": 24,
        "cascade": PUBLISHED,
        "seeds": [0, 1, 2, 3, 4],
        **TRAINED,
        **DATA,
    },
    quick=ANY_DATA | {"hidden": [10], "seeds": [0], "epochs": 200},
    cases=tables,
    measured=table_rows,
    minutes=25,
)

FIGURES = (RUNS, MAP, WEIGHTS, SWEEP, TABLES)
