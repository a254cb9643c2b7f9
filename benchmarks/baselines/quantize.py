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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.baselines._tables import TITLES, Table, grouped, percent, show
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


def tables(out: Path) -> dict[str, Table]:
    """Return the mean accuracy of each case over its seeds with its standard error, and its bytes."""
    ways = [("after training", scale, per) for scale in ("mse", "max") for per in ("channel", "tensor")]
    ways.append(("in training", "mse", "channel"))
    names = {"mse": "least squares", "max": "largest", "channel": "an output", "tensor": "a layer"}
    head = [*(f"after training, {names[scale]}, {names[per]}" for _, scale, per in ways[:-1]), "in training"]
    table = [["network", "bits of weights", "of activations", *head, "bytes"]]
    every = grouped(out, "network", "bits", "activation_bits", "step", "scale", "per")
    for network, bits, activations in grouped(out, "network", "bits", "activation_bits"):
        if bits == "dense":
            (cases,) = (cases for key, cases in every.items() if key[:2] == (network, bits))
            table.append(
                [TITLES[network], "dense", "", percent(cases), *[""] * len(ways[1:]), f"{int(cases[0]['bytes']):,}"]
            )
            continue
        cells = [percent(every.get((network, bits, activations, *way), [])) for way in ways]
        size = int(every[network, bits, activations, *ways[0]][0]["bytes"])
        table.append([TITLES[network], bits, "float32" if activations == "None" else activations, *cells, f"{size:,}"])
    return {"Quantization": table}


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
    show(tables(args.out))


if __name__ == "__main__":
    main()
