"""How few weights do reweighted l1, the refit and the cascade leave, and what does that cost in accuracy?

LeNet-300-100 by the recipe of the demonstration, first two layers, on unlabelled training images, no retraining; the last
stays dense. At each radius of layer 1, layer 2 having a fixed share of it: the program as published, each layer on its
original inputs; the rounds of reweighting; the refit; and the cascade, layer 2 solved and refitted on the outputs of the
refitted layer 1. Yardstick: magnitude pruning of the trained layers with as many weights kept in each as the cascade keeps.
Kept counts the weights of the two layers, biases apart; lost is in points of test accuracy against the dense network. The
share of a half and the radii were chosen by looking at the network of seed 0.

    python -m benchmarks.reweighting --data mnist
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.real_layers import layer_problem, network
from nettrim.data import Data, load
from nettrim.evaluate import accuracy
from nettrim.layers import plain, read, write
from solvers import LayerProblem, Round, cascaded, certify, refit, reweighted

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


def stages(model: nn.Module, images: Data, args: argparse.Namespace, epsilon: float) -> dict[str, Any]:
    """Return the weights of both layers after each stage, and what the solves and the refits were."""
    found: dict[str, Any] = {name: [] for name in ("l1", "reweighted", "refit", "cascade", "magnitude", "layers")}
    for (name, place), radius in zip(LAYERS.items(), (epsilon, args.share * epsilon), strict=True):
        (trained,) = read(plain(linear(model, place)))
        problem = layer_problem(model, name, images, args.samples, radius)
        done = reweighted(problem, rounds=args.rounds, tol=args.tol)
        W = refit(problem, done[-1].solution.W)
        for stage, w in (("l1", done[0].solution.W), ("reweighted", done[-1].solution.W), ("refit", W)):
            found[stage].append(w)
        found["layers"].append(described(name, problem, done, W))
        if found["cascade"]:
            X_hat = layer_problem(put(model, found["cascade"]), name, images, args.samples, radius).X
            program = cascaded(problem, X_hat, trained)
            done = reweighted(program, rounds=args.rounds, tol=args.tol)
            program = program.replace(V=problem.V)  # as solved, but a refit aims at the ceilings of the original network
            W = refit(program, done[-1].solution.W)
            found["layers"].append(described(f"{name} in cascade", program, done, W))
        found["cascade"].append(W)
        found["magnitude"].append(largest(trained, np.count_nonzero(W[:-1])))
    return found


def described(name: str, problem: LayerProblem, done: list[Round], W: NDArray[Any]) -> dict[str, Any]:
    """Say what the rounds kept and proved, and the errors before and after the refit, relative to the responses."""
    solved = [solution for _, solution in done]
    before, after = (certify(problem, w) for w in (solved[-1].W, W))
    return {
        "layer": name,
        "epsilon": problem.epsilon / problem.norm,
        "kept": [np.count_nonzero(s.W[:-1]) / s.W[:-1].size for s in solved],
        "gap": [s.certificate.gap for s in solved],
        "violation": [s.certificate.violation for s in solved],
        "seconds": [s.seconds for s in solved],
        "error": [c.response_error / problem.norm for c in (before, after)],
    }


def put(model: nn.Module, weights: list[NDArray[Any]]) -> nn.Module:
    """Return a copy of the network with these weights in its first layers."""
    changed = copy.deepcopy(model)
    for place, W in zip(LAYERS.values(), weights, strict=False):  # one list for both layers, or for the first alone
        write(plain(linear(changed, place)), [W])
    return changed


def outcome(model: nn.Module, images: Data, weights: list[NDArray[Any]], dense: float) -> dict[str, float]:
    """Return what the network keeps with these weights, its test accuracy, both in per cent, and the points lost."""
    kept = sum(np.count_nonzero(W[:-1]) for W in weights) / sum(W[:-1].size for W in weights)
    reached = 100 * accuracy(put(model, weights), images.x_test, images.y_test)
    return {"kept": 100 * kept, "accuracy": reached, "lost": dense - reached}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.1, 0.15, 0.2, 0.28, 0.4])
    parser.add_argument("--share", type=float, default=0.5, help="radius of layer 2 over that of layer 1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0, help="seed of the network and its training")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reweighting.json"))
    args = parser.parse_args()

    images = load(args.data)
    model = network("lenet300", images, seed=args.seed)
    dense = 100 * accuracy(model, images.x_test, images.y_test)
    print(f"dense: {dense:.2f} %", flush=True)
    rows = []
    for epsilon in args.epsilons:
        found = stages(model, images, args, epsilon)
        row: dict[str, Any] = {"epsilon": epsilon, "layers": found.pop("layers")}
        for stage, weights in found.items():
            row[stage] = outcome(model, images, weights, dense)
        rows.append(row)
        cells = [f"{stage} {row[stage]['kept']:5.2f} % kept, {row[stage]['lost']:+6.2f} lost" for stage in found]
        print(f"epsilon {epsilon:<5g}", " | ".join(cells), flush=True)
    report = {"arguments": {**vars(args), "out": None}, "dense": dense, "rows": rows, "targets": targets(rows)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say of each target which radii meet it after the cascade, if any do."""
    found = []
    for kept, lost in TARGETS:
        met = [row["epsilon"] for row in rows if row["cascade"]["kept"] <= kept and row["cascade"]["lost"] <= lost]
        print(f"at most {kept:g} % kept and {lost:g} points lost: {f'met at {met}' if met else 'NOT met'}", flush=True)
        found.append({"kept": kept, "lost": lost, "met_at": met})
    return found


if __name__ == "__main__":
    main()
