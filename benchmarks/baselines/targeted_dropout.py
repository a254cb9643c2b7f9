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
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import rows
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
    show(args.out)


def show(path: Path) -> None:
    """Print accuracy in percent, mean over the seeds and its standard error, for each training and fraction."""
    found: dict[tuple[str, str, float], list[float]] = {}
    for row in rows.read(path):
        found.setdefault((row["by"], row["training"], float(row["pruned"])), []).append(100 * float(row["accuracy"]))
    for by in ("weights", "units"):
        print(f"{by + ' pruned by':46s}" + "".join(f"{level:14.0%}" for level in (0.0, *LEVELS)))
        for name in dict.fromkeys(training for kind, training, _ in found if kind == by):
            cells = [found[by, name, level] for level in (0.0, *LEVELS)]
            print(f"{name:46s}" + "".join(f"{_mean(cell):>14s}" for cell in cells))


def _mean(values: list[float]) -> str:
    error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{error}"


if __name__ == "__main__":
    main()
