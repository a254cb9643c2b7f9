"""How few weights do reweighted l1 and the refit leave, and what does that cost in accuracy?

LeNet-300-100 by the recipe of the demonstration, first two layers, on unlabelled training images, no retraining; the last
stays dense. Yardstick: magnitude pruning of the trained layers with as many weights kept in each, biases apart. At each
radius: the program as published, after the rounds of reweighting, and after the refit on the support that they leave. Kept
counts the weights of the two layers, biases apart; lost is in points of test accuracy against the dense network.

    python -m benchmarks.reweighting --data mnist
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.real_layers import layer_problem, network
from nettrim.data import Data, load
from nettrim.layers import read, write
from nettrim.train import accuracy
from solvers import refine, reweighted

LAYERS = {"lenet300-1": 0, "lenet300-2": 1}  # name in real_layers: place among the Linear layers
TARGETS = [(14.0, 0.25), (8.5, 0.7), (6.0, 1.3)]  # kept %, at most; points of test accuracy lost, at most


def linear(model: nn.Module, place: int) -> nn.Linear:
    return [module for module in model.modules() if isinstance(module, nn.Linear)][place]


def largest(W: NDArray[Any], kept: int) -> NDArray[Any]:
    """Return W with its largest weights only, as many as asked, and its last row, the bias, as it is."""
    size = np.abs(W[:-1]).ravel()
    mask = np.zeros(size.shape, dtype=bool)
    mask[np.argsort(size)[len(size) - kept :]] = True
    return np.vstack([np.where(mask.reshape(W[:-1].shape), W[:-1], 0.0), W[-1:]])


def stages(model: nn.Module, images: Data, samples: int, epsilon: float, rounds: int, tol: float) -> dict[str, Any]:
    """Return the weights of both layers after each stage, and what the solves and the refits were."""
    found: dict[str, Any] = {"l1": [], "reweighted": [], "refit": [], "magnitude": [], "layers": []}
    for name, place in LAYERS.items():
        problem = layer_problem(model, name, images, samples, epsilon)
        done = reweighted(problem, rounds=rounds, tol=tol)
        begin = time.perf_counter()
        refitted = refine(*done[-1]).solution
        W = refitted.W
        found["l1"].append(done[0].solution.W)
        found["reweighted"].append(done[-1].solution.W)
        found["refit"].append(W)
        found["magnitude"].append(largest(read(linear(model, place)), np.count_nonzero(W[:-1])))
        found["layers"].append(
            {
                "layer": name,
                "kept": [np.count_nonzero(solution.W[:-1]) / solution.W[:-1].size for _, solution in done],
                "gap": [solution.certificate.gap for _, solution in done],
                "violation": [solution.certificate.violation for _, solution in done],
                "seconds": [solution.seconds for _, solution in done],
                "error": [s.certificate.response_error / problem.norm for s in (done[-1].solution, refitted)],
                "ceiling_of_refit": refitted.certificate.ceiling_violation / problem.norm,
                "refit_seconds": time.perf_counter() - begin,
            }
        )
    return found


def outcome(model: nn.Module, images: Data, weights: list[NDArray[Any]]) -> dict[str, float]:
    """Put weights into a copy of the network and return what it keeps, in per cent, and its test accuracy, likewise."""
    changed = copy.deepcopy(model)
    for place, W in zip(LAYERS.values(), weights, strict=True):
        write(linear(changed, place), W)
    kept = sum(np.count_nonzero(W[:-1]) for W in weights) / sum(W[:-1].size for W in weights)
    return {"kept": 100 * kept, "accuracy": 100 * accuracy(changed, images.x_test, images.y_test)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.1, 0.15, 0.2, 0.3, 0.4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reweighting.json"))
    args = parser.parse_args()

    images = load(args.data)
    model = network("lenet300", images)
    dense = 100 * accuracy(model, images.x_test, images.y_test)
    print(f"dense: {dense:.2f} %", flush=True)
    rows = []
    for epsilon in args.epsilons:
        found = stages(model, images, args.samples, epsilon, args.rounds, args.tol)
        row: dict[str, Any] = {"epsilon": epsilon, "layers": found.pop("layers")}
        for stage, weights in found.items():
            row[stage] = outcome(model, images, weights)
            row[stage]["lost"] = dense - row[stage]["accuracy"]
        rows.append(row)
        cells = [f"{stage} {row[stage]['kept']:5.2f} % kept, {row[stage]['lost']:+6.2f} lost" for stage in found]
        print(f"epsilon {epsilon:<5g}", " | ".join(cells), flush=True)
    report = {"arguments": {**vars(args), "out": None}, "dense": dense, "rows": rows, "targets": targets(rows)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say of each target which radius meets it, if one does."""
    found = []
    for kept, lost in TARGETS:
        met = [row["epsilon"] for row in rows if row["refit"]["kept"] <= kept and row["refit"]["lost"] <= lost]
        print(f"at most {kept:g} % kept and {lost:g} points lost: {f'met at {met}' if met else 'NOT met'}", flush=True)
        found.append({"kept": kept, "lost": lost, "met_at": met})
    return found


if __name__ == "__main__":
    main()
