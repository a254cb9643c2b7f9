"""What do 8, 4 and 2 bits cost LeNet-300-100 and LeNet-5 on MNIST, quantized after training and in training?

After training: every number of bits, for weights alone and for activations too, scales a layer or an output, by the largest
magnitude or by least squares; LeNet-300-100 over seeds, LeNet-5 for one. In training: LeNet-300-100, scales an output by
least squares. Bytes are those of all that must be stored, packed.

    python -m benchmarks.baselines.quantize --networks FOLDER

goes on from the rows that are there, in about 17 minutes of one core, and one or two more for a dense network that
is not yet in the folder.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import rows
from nettrim import data as datasets
from nettrim.baselines import quantize
from nettrim.recipes import trained

FIELDS = ("network", "seed", "bits", "activation_bits", "per", "scale")


def cases(network: str, bits: Iterable[int], epochs: int) -> Iterator[dict[str, Any]]:
    """Yield the settings of each run; those that are trained have all three rows in one run."""
    for k, few, per, scale in itertools.product(bits, (True, False), ("channel", "tensor"), ("mse", "max")):
        inside = network == "lenet300" and (per, scale) == ("channel", "mse")
        yield {"bits": k, "activation_bits": k if few else None, "per": per, "scale": scale, "epochs": epochs * inside}


def study(args: argparse.Namespace, data: datasets.Data, network: str, seed: int) -> None:
    """Add the rows of a network that are missing."""
    todo = []
    for case in cases(network, args.bits, args.epochs):
        key = {"network": network, "seed": seed} | {field: case[field] for field in FIELDS[2:]}
        if tuple(map(str, key.values())) not in rows.done(args.out, *FIELDS):
            todo.append((key, case))
    if not todo:
        return
    model = trained(network, data, epochs=args.dense_epochs, seed=seed, folder=args.networks)
    for key, case in todo:
        result = quantize.run(model, data, **case, seed=seed)
        first, *later = result.rows
        dense = {"network": network, "seed": seed} | dict.fromkeys(FIELDS[2:], "dense")
        begun = tuple(map(str, dense.values())) in rows.done(args.out, *FIELDS)
        rows.append(args.out, [*([] if begun else [dense | first]), *(key | row for row in later)])
        shown = ", ".join(f"{row['step']} {row['accuracy']:.2%}" for row in result.rows)
        print(f"{' '.join(map(str, key.values()))}: {shown}", flush=True)


def show(path: Path) -> None:
    """Print the mean accuracy of each case over its seeds, its standard error, and its bytes."""
    found = defaultdict(list)
    for row in rows.read(path):
        found[tuple(row[field] for field in (*FIELDS, "step") if field != "seed")].append(row)
    print(f"{'network  bits  activations  scales  step':58s} {'accuracy':>16s}  seeds  bytes")
    for key, same in found.items():
        values = [100 * float(row["accuracy"]) for row in same]
        error = f"{statistics.stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else "-"
        print(f"{' '.join(key):58s} {statistics.mean(values):7.2f} +- {error:>5s}  {len(values):5d}  {same[0]['bytes']}")


def main(told: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="of LeNet-300-100")
    parser.add_argument("--lenet5-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 2])
    parser.add_argument("--epochs", type=int, default=10, help="of training with quantization; 0 leaves it out")
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--dense-epochs", type=int, help="of training a dense network, in place of its recipe's")
    parser.add_argument("--networks", type=Path, help="folder to keep trained dense networks in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/baseline_quantize.csv"))
    args = parser.parse_args(told)
    data = datasets.load(args.data)
    for network, seeds in (("lenet300", args.seeds), ("lenet5", args.lenet5_seeds)):
        for seed in seeds:
            study(args, data, network, seed)
    show(args.out)


if __name__ == "__main__":
    main()
