"""How much of LeNet-300-100 can be pruned without retraining, after training with targeted dropout and without it?

Whole MNIST; no regularization, ordinary dropout (of activations; and, as in the authors' code, of weights or units), the l1
penalty, and targeted dropout with constant and ramping rates. Each network is pruned of its smallest weights, and of its
smallest units, by 50 to 99 percent, all layers but the last. A row a network, a kind of pruning and a fraction: accuracy on
the 10,000 test images. "0.66 of 0.75" is alpha of gamma.

    python -m benchmarks.baselines.targeted_dropout

goes on from the rows that are there, in about 40 minutes of one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.baselines._tables import Table, grouped, percent, show
from nettrim.baselines.targeted_dropout import run
from nettrim.data import load
from nettrim.recipes import born

LEVELS = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
OFF: dict[str, Any] = {"alpha": 0.0}
UNITS: dict[str, Any] = {"targets": "units"}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": OFF,
    "dropout 0.25": OFF | {"dropout": 0.25},
    "dropout 0.5": OFF | {"dropout": 0.5},
    "l1 1e-5": OFF | {"l1": 1e-5},
    "l1 1e-4": OFF | {"l1": 1e-4},
    "l1 3e-4": OFF | {"l1": 3e-4},
    "l1 1e-3": OFF | {"l1": 1e-3},
    "weights, untargeted 0.25": {"gamma": 1.0, "alpha": 0.25, "rescale": True, "ramp_until": 0.0},
    "weights, 0.5 of 0.5": {"gamma": 0.5, "alpha": 0.5, "ramp_until": 0.0},
    "weights, 0.33 of 0.75": {"gamma": 0.75, "alpha": 0.33, "ramp_until": 0.0},
    "weights, 0.66 of 0.75": {"gamma": 0.75, "alpha": 0.66, "ramp_until": 0.0},
    "weights, ramping 0.99 of 0.95": {"gamma": 0.95, "alpha": 0.99},
    "weights, ramping 0.99 of 0.99": {"gamma": 0.99, "alpha": 0.99},
    "units, untargeted 0.25": UNITS | {"gamma": 1.0, "alpha": 0.25, "rescale": True, "ramp_until": 0.0},
    "units, 0.5 of 0.5": UNITS | {"gamma": 0.5, "alpha": 0.5, "ramp_until": 0.0},
    "units, 0.66 of 0.75": UNITS | {"gamma": 0.75, "alpha": 0.66, "ramp_until": 0.0},
    "units, ramping 0.99 of 0.9": UNITS | {"gamma": 0.9, "alpha": 0.99},
    "units, ramping 0.99 of 0.95": UNITS | {"gamma": 0.95, "alpha": 0.99},
    "units, ramping 0.99 of 0.95, weight by weight": UNITS | {"gamma": 0.95, "alpha": 0.99, "whole_units": False},
}


def measured(name: str, seed: int, data: Any, epochs: int, folder: Path | None) -> list[dict[str, Any]]:
    """Return the rows of one network: what it was trained with, and its accuracy after each pruning."""
    begun = time.perf_counter()
    kept_in = (
        None
        if folder is None
        else folder / f"targeted {data.name} {name}, {seed}, {epochs}".replace(", ", "-").replace(" ", "-")
    )
    result = run(
        born("lenet300", seed=seed), data, **SETTINGS[name], levels=LEVELS, epochs=epochs, seed=seed, folder=kept_in
    )
    whole, *pruned = result.rows[:-1]
    print(f"{name}, seed {seed}: {time.perf_counter() - begun:.0f} s, accuracy {whole['accuracy']:.2%}", flush=True)
    fields = ("by", "pruned", "kept_here", "kept", "units", "accuracy", "loss")
    both = [whole | {"by": by} for by in ("weights", "units")] + pruned
    known = {"training": name, "seed": seed, "epochs": epochs}
    return [known | {field: row[field] for field in fields} for row in both]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="0 chose the settings")
    parser.add_argument("--data", default="mnist", help="mnist, or mnist5k for a quick look")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--networks", type=Path, help="folder to keep trained networks in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/baseline_targeted_dropout.csv"))
    args = parser.parse_args(argv)
    data = load(args.data)
    for seed in args.seeds:
        for name in SETTINGS:
            if (name, str(seed), str(args.epochs)) not in rows.done(args.out, "training", "seed", "epochs"):
                rows.append(args.out, measured(name, seed, data, args.epochs, args.networks))
    show(tables(args.out))


def tables(out: Path) -> dict[str, Table]:
    """Return accuracies, means over the seeds with their standard errors, for each training and fraction."""
    made = {}
    found = grouped(out, "by", "training")
    for by in ("weights", "units"):
        levels = list(dict.fromkeys(float(row["pruned"]) for row in rows.read(out) if row["by"] == by))
        table = [["training", *("whole" if level == 0 else f"{level:.0%} pruned" for level in levels)]]
        for (_, training), cases in ((key, cases) for key, cases in found.items() if key[0] == by):
            of = ([row for row in cases if float(row["pruned"]) == level] for level in levels)
            table.append([training, *(percent(group, digits=1) for group in of)])
        made[f"Targeted dropout, {by} pruned"] = table
    return made


if __name__ == "__main__":
    main()
