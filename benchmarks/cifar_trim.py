"""What do the two CIFAR-10 networks lose when they are trimmed, at five radii, every layer of them?

Networks that ``benchmarks.cifar_networks`` trained, calibrated on unlabelled training images and looked at on test images
(JPEGs, which are lossy). Kept counts the weights of layers that can be trimmed, biases and normalizations apart. Rows are
written radius by radius; with ``--checkpoint`` a run that was cut off goes on where it was.

    python -m benchmarks.cifar_trim --network networks/resnet20 --out benchmarks/results/cifar_resnet20.json
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.cifar_networks import saved
from benchmarks.setting import setting
from nettrim import TrimResult, store, trim
from nettrim.cifar import cifar10


def row(result: TrimResult, epsilon: float, wall: float) -> dict[str, Any]:
    """Lay out what came of one radius, in JSON's types; errors are relative to the norm of the outputs."""
    report = store.to_json(result)
    return {
        "epsilon": epsilon,
        "kept": report["kept"],
        "accuracy_dense": report["accuracy_dense"],
        "accuracy": report["accuracy"],
        "output_error": result.output_error / (result.output_norm or 1.0),
        "holdout_error": report["holdout_error"],
        "solved": report["solved"],
        "worst_gap": result.worst_gap,
        "worst_violation": result.worst_violation,
        "seconds": result.seconds,
        "wall": wall,
        "layers": report["layers"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, required=True, help="folder that benchmarks.cifar_networks wrote")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.05, 0.1, 0.15, 0.2, 0.3])
    parser.add_argument("--scheme", default="parallel", choices=["parallel", "cascade"])
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--refit", action="store_true")
    parser.add_argument("--samples", type=int, default=5000, help="calibration images, and samples of a layer's program")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--backend", default="admm")
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--seed", type=int, default=0, help="seed of the samples drawn")
    parser.add_argument("--checkpoint", type=Path, help="folder for finished layers, a folder in it for each radius")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    model, training = saved(args.network)
    data = cifar10()
    report: dict[str, Any] = {
        "training": training,
        "arguments": {name: value for name, value in vars(args).items() if not isinstance(value, Path)},
        "setting": setting("nettrim", "torch", "numpy", "numba"),
        "rows": [],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for epsilon in args.epsilons:
        started = time.perf_counter()
        result = trim(
            model,
            data.x_train,
            epsilon,
            scheme=args.scheme,
            rounds=args.rounds,
            refit=args.refit,
            holdout=(data.x_test[: args.test_images], data.y_test[: args.test_images]),
            backend=args.backend,
            tol=args.tol,
            n_samples=args.samples,
            seed=args.seed,
            checkpoint=args.checkpoint and args.checkpoint / f"epsilon-{epsilon:g}",
        )
        found = row(result, epsilon, time.perf_counter() - started)
        report["rows"].append(found)
        store.write_json(report, args.out)
        missed = [layer.name for layer in result.layers if layer.status != "SOLVED"]
        print(
            f"epsilon {epsilon:<5g} kept {found['kept']:.2%}, accuracy {found['accuracy_dense']:.2%} -> "
            f"{found['accuracy']:.2%}, output error {found['output_error']:.3f}, {found['wall']:.0f} s, "
            f"{f'NOT trimmed: {missed}' if missed else f'all {len(result.layers)} layers certified'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
