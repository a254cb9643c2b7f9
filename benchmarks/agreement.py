"""Do the backends agree on a slice of a real layer, and to how many digits?

The slice: the inputs that vary most, the neurons that are on most evenly, the first samples of LeNet-300-100's first layer.

    python -m benchmarks.agreement --data mnist
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nettrim.data import load
from nettrim.layers import plain, read
from nettrim.recipes import trained
from solvers import LayerProblem, available, solve


@cache
def first_layer(data: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Train LeNet-300-100, once, and return its training images (784, n) and the weights (784, 300) of its first layer."""
    images = load(data)
    model = trained("lenet300", images)
    return images.x_train.flatten(1).numpy().T, read(plain(model.get_submodule("1")))[0][:-1]


def slice_of_first_layer(data: str, n_inputs: int, n_neurons: int, n_samples: int) -> LayerProblem:
    """State the program of a part of the trained first layer: its own weights between the kept inputs and neurons."""
    images, W = first_layer(data)
    X = images[:, :n_samples].astype(np.float64)
    inputs = np.sort(np.argsort(X.std(axis=1))[-n_inputs:])
    activity = (W[inputs].T @ X[inputs] > 0).mean(axis=1)
    neurons = np.sort(np.argsort(np.abs(activity - 0.5))[:n_neurons])
    return LayerProblem.parallel(X[inputs], W[np.ix_(inputs, neurons)], 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--inputs", type=int, default=150)
    parser.add_argument("--neurons", type=int, default=12)
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--tol", type=float, default=1e-5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/agreement.json"))
    args = parser.parse_args()

    problem = slice_of_first_layer(args.data, args.inputs, args.neurons, args.samples)
    print(f"{problem.N} inputs, {problem.M} neurons, {problem.P} samples, {problem.active.mean():.0%} active")
    rows = []
    for backend in available():
        solution = solve(problem, backend, tol=args.tol, throw=False)
        c = solution.certificate
        rows.append({"backend": backend, "objective": c.objective, "bound": c.bound, "gap": c.gap, "violation": c.violation})
        print(
            f"{backend:10s} {c.objective:.6f} (bound {c.bound:.6f}), violation {c.violation:.1e}, {solution.seconds:.1f} s"
        )
    objectives = [row["objective"] for row in rows]
    spread = (max(objectives) - min(objectives)) / min(objectives)
    print(f"relative spread of the objectives: {spread:.1e}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"rows": rows, "spread": spread}, indent=2) + "\n")


if __name__ == "__main__":
    main()
