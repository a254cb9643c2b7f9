"""What becomes of a whole network: accuracy against kept, by scheme, radius, sparsity or budget, over seeds.

LeNet-300-100 or LeNet-5 trained on MNIST (``nettrim.recipes``), trimmed on unlabelled training images by each scheme at
each radius, per-layer sparsity and budget that is asked; accuracy on the test images, errors held out there. Every row says
how long all of it took, the recording of inputs included, and the largest resident set while its layers were retrained.

    python -m benchmarks.whole_networks --network lenet5 --scheme parallel cascade --epsilon 0.05 0.1 0.2 --rounds 3 --refit
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.setting import setting
from nettrim import TrimResult, trim
from nettrim.data import Data, load
from nettrim.recipes import NETWORKS, trained
from nettrim.store import to_json
from solvers import warm_up


def row(model: nn.Module, images: Data, asked: dict[str, Any], n_samples: int) -> dict[str, Any]:
    """Trim a network and return what came of it."""
    began = time.perf_counter()
    result = trim(model, images.x_train, holdout=(images.x_test, images.y_test), n_samples=n_samples, **asked)
    return {**asked, "total_seconds": time.perf_counter() - began, "memory": memory(result), **to_json(result)}


def memory(result: TrimResult) -> int | None:
    """Return the largest resident set while layers were retrained, in bytes."""
    sizes = [layer.memory for layer in result.layers if layer.memory is not None]
    return max(sizes, default=None)


def show(name: str, seed: int, found: dict[str, Any]) -> None:
    what = next(f"{key} {found[key]}" for key in ("epsilon", "sparsity", "budget") if key in found)
    layers = " ".join(f"{layer['weights_kept'] / layer['weights']:.1%}" for layer in found["layers"] if layer["activation"])
    lost = 100 * (found["accuracy_dense"] - found["accuracy"])
    print(
        f"{name} seed {seed} {found['scheme']:8s} {what:14s}: kept {found['kept']:.2%} ({layers}), accuracy "
        f"{found['accuracy']:.2%} ({-lost:+.2f}), {found['total_seconds']:.0f} s, "
        f"{'certified' if found['solved'] else 'NOT certified'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--network", default="lenet5", choices=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--scheme", nargs="+", default=["parallel"], choices=["parallel", "cascade"])
    parser.add_argument("--epsilon", type=float, nargs="*", default=[])
    parser.add_argument("--sparsity", type=float, nargs="*", default=[])
    parser.add_argument("--budget", type=float, nargs="*", default=[], help="fraction of the weights, or their number")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--refit", action="store_true")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--networks", type=Path, help="folder to keep trained networks in")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    images = load(args.data)
    warm_up()
    targets = [{kind: value} for kind in ("epsilon", "sparsity", "budget") for value in getattr(args, kind)]
    how = {"rounds": args.rounds, "refit": args.refit, "tol": args.tol}
    rows = []
    report = {"arguments": {**vars(args), "out": None, "networks": None}, **setting("numba", "numpy", "torch"), "rows": rows}
    for seed in args.seeds:
        model = trained(args.network, images, seed=seed, folder=args.networks)
        for target, scheme in itertools.product(targets, args.scheme):
            found = row(model, images, {**target, "scheme": scheme, **how, "seed": seed}, args.samples)
            rows.append({"network": args.network, **found})
            show(args.network, seed, found)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(report, indent=2) + "\n")  # so that a run that is stopped leaves what it has


if __name__ == "__main__":
    main()
