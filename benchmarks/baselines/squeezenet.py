"""How small can a network be from birth? Fire modules on MNIST beside LeNet-5 and a plain network, and the squeeze ratio.

The small SqueezeNet and LeNet-5, each by the recipe it has here, over seeds; at the first seed also the plain network, with
a 3 x 3 convolution in the place of each module. Then the squeeze ratio of the modules, in fewer epochs.

    python -m benchmarks.baselines.squeezenet --networks FOLDER

goes on from the rows that are there, in about 25 minutes of one core (LeNet-5 is not trained where FOLDER has it).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.baselines._tables import Table, grouped, percent, show
from nettrim.baselines import squeezenet as method
from nettrim.data import Data, load
from nettrim.evaluate import evaluate
from nettrim.recipes import NETWORKS, trained
from nettrim.squeezenet import squeezenet_small

USUAL = 0.25  # squeeze ratio of squeezenet_small
NAMES = {"squeezenet_small": "SqueezeNet in small", "plain": "3 x 3 in place of its modules", "lenet5": "LeNet-5"}
KEY = ("network", "squeeze_ratio", "epochs", "seed")


def small(data: Data, ratio: float, epochs: int, seed: int, beside: bool) -> list[dict[str, Any]]:
    """Return the rows of a network of Fire modules, and of the plain one beside it."""
    result = method.run(squeezenet_small(squeeze_ratio=ratio, seed=seed), data, epochs=epochs, beside=beside, seed=seed)
    names = {"squeezenet": ("squeezenet_small", ratio), "plain": ("plain", "")}
    return [described(*names[row["step"]], epochs, seed, row) for row in result.rows]


def lenet5(data: Data, epochs: int, seed: int, folder: Path | None) -> list[dict[str, Any]]:
    """Return the row of LeNet-5."""
    model = trained("lenet5", data, epochs=epochs, seed=seed, folder=folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    score = evaluate(model, data.x_test, data.y_test)._asdict()
    return [described("lenet5", "", epochs, seed, score | {"parameters": parameters, "bytes": 4 * parameters})]


def described(network: str, ratio: float | str, epochs: int, seed: int, found: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the file."""
    told = ("parameters", "bytes", "accuracy", "errors", "loss")
    return dict(zip(KEY, (network, ratio, epochs, seed), strict=True)) | {name: found[name] for name in told}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="0 chose the recipe")
    parser.add_argument("--epochs", type=int, default=NETWORKS["squeezenet_small"].epochs["mnist"])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.125, 0.25, 0.5, 0.75])
    parser.add_argument("--sweep-epochs", type=int, default=3)
    parser.add_argument("--sweep-seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--networks", type=Path, help="folder to keep LeNet-5 in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/baseline_squeezenet.csv"))
    args = parser.parse_args(given)
    data = load(args.data)

    usual = NETWORKS["lenet5"].epochs.get(data.name, args.epochs)

    def missing(*key: Any) -> bool:
        return tuple(map(rows.shown, key)) not in rows.done(args.out, *KEY)

    for seed in args.seeds:
        if missing("squeezenet_small", USUAL, args.epochs, seed):
            rows.append(args.out, small(data, USUAL, args.epochs, seed, seed == args.seeds[0]))
        if missing("lenet5", "", usual, seed):
            rows.append(args.out, lenet5(data, usual, seed, args.networks))
        print(f"seed {seed} done", flush=True)
    for seed in args.sweep_seeds:
        for ratio in args.ratios:
            if missing("squeezenet_small", ratio, args.sweep_epochs, seed):
                rows.append(args.out, small(data, ratio, args.sweep_epochs, seed, False))
                print(f"squeeze ratio {ratio}, seed {seed} done", flush=True)
    show(tables(args.out))


def tables(out: Path) -> dict[str, Table]:
    """Return each network's size, and mean accuracies over seeds with their standard errors."""
    table = [["network", "squeeze ratio", "epochs", "seeds", "parameters", "bytes", "accuracy"]]
    for (network, ratio, epochs), cases in grouped(out, "network", "squeeze_ratio", "epochs").items():
        sizes = [f"{int(cases[0][field]):,}" for field in ("parameters", "bytes")]
        table.append([NAMES[network], ratio, epochs, str(len(cases)), *sizes, percent(cases)])
    return {"SqueezeNet in small": table}


if __name__ == "__main__":
    main()
