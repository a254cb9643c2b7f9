"""Do the bounds of the papers hold on whole networks, how tight are they, and is a wrong one caught?

The paper's 2-200-200-2 network on its spirals and LeNet-300-100 on MNIST, as they are born and trained, over seeds, radii
and both schemes as published (gamma 1.1 in the cascade). A row a statement: what was measured, what was promised, the ratio.
Two of the statements are wrong on purpose, without the norms of the layers behind; where those amplify, they fail.

    python -m benchmarks.tightness

goes on from the rows that are there, in about 40 minutes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from benchmarks import rows
from nettrim import TrimResult, trim
from nettrim.data import load
from nettrim.evaluate import accuracy
from nettrim.models import lenet300, mlp
from nettrim.recipes import trained as on_mnist
from nettrim.train import train
from solvers import warm_up
from theory import Check

SPIRALS = (2, 200, 200, 2)
GAMMA = 1.1
FIELDS = ("network", "weights", "seed", "epsilon", "scheme")


def networks(name: str, seed: int, folder: Path | None) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield a network as it is born and as it is trained, with its calibration inputs."""
    data = load("spirals" if name == "spirals" else "mnist")
    if name == "spirals":
        yield "random", mlp(SPIRALS, seed=seed), data.x_train
        model = train(mlp(SPIRALS, seed=seed), data.x_train, data.y_train, epochs=400, batch_size=50, seed=seed)
    else:
        yield "random", lenet300(seed=seed), data.x_train
        model = on_mnist("lenet300", data, seed=seed, folder=folder)
    print(f"{name}, seed {seed}: accuracy {accuracy(model, data.x_test, data.y_test):.2%}", flush=True)
    yield "trained", model, data.x_train


def matrices(model: nn.Module) -> list[Any]:
    """Return the weights of the Linear layers without biases, (n_out, n_in)."""
    return [module.weight.detach().double().numpy() for module in model.modules() if isinstance(module, nn.Linear)]


def wrong(model: nn.Module, result: TrimResult) -> Iterator[Check]:
    """Yield the bound of the scheme with its norms forgotten."""
    if result.settings["scheme"] == "parallel":
        promised = sum(row.error for row in result.layers)
        yield Check("output error", "WRONG: Theorem 1 without its norms", result.output_error, promised)
    elif result.solved:  # else Theorem 2 says nothing
        right = next(check for check in result.check_theory() if check.source == "Theorem 2, spectral norms")
        norms = float(np.prod([np.linalg.norm(W, 2) for W in matrices(model)[1:]]))
        yield Check("output error", "WRONG: Theorem 2 without its norms", result.output_error, right.promised / norms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.02, 0.1, 0.3])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--networks", type=Path, help="folder to keep trained networks in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/tightness.csv"))
    args = parser.parse_args()
    warm_up()
    for name, seed in itertools.product(("spirals", "lenet300"), args.seeds):
        asked = set(
            itertools.product([name], ["random", "trained"], [str(seed)], map(str, args.epsilon), ["parallel", "cascade"])
        )
        if asked <= rows.done(args.out, *FIELDS):
            continue
        for weights, model, inputs in networks(name, seed, args.networks):
            for epsilon, scheme in itertools.product(args.epsilon, ("parallel", "cascade")):
                key = (name, weights, str(seed), str(epsilon), scheme)
                if key in rows.done(args.out, *FIELDS):
                    continue
                rate = {"gamma": GAMMA} if scheme == "cascade" else {}
                result = trim(model, inputs, epsilon, scheme=scheme, n_samples=args.samples, seed=seed, **rate)
                checks = [*result.check_theory(), *wrong(model, result)]
                row = dict(zip(FIELDS, key, strict=True)) | {"samples": result.settings["n_samples"], "kept": result.kept}
                rows.append(args.out, [row | {"solved": result.solved} | check.to_json() for check in checks])
                print(f"{' '.join(key)}: kept {result.kept:.1%}, {result.seconds:.1f} s", flush=True)
    show(args.out)


def show(path: Path) -> None:
    """Print each statement's number of cases, how many hold, and the median and the largest of measured over promised."""
    found = defaultdict(list)
    for row in rows.read(path):
        source = row["source"] if row["name"] == "output error" else "Proposition 1 / (S.5), each layer"
        found[row["network"], row["weights"], row["scheme"], source].append(row)
    for key, cases in sorted(found.items()):
        ratios = [float(case["tightness"]) for case in cases]
        hold = sum(case["holds"] == "True" for case in cases)
        print(f"{' '.join(key):95s} {hold:3d} of {len(cases):3d} hold, {statistics.median(ratios):.3g}, {max(ratios):.3g}")


if __name__ == "__main__":
    main()
