"""How near do networks of +1 and -1 come to their float twin on MNIST, and what are clipping and the gate worth?

The network 784-512-512-10 over seeds, of one set of initial weights a seed, and all trained alike: with real weights and
ReLU; with binary weights and activations, as the paper has it; the same without clipping the real weights, and without
stopping gradients at saturated activations; and with binary weights alone, plain and scaled. The binary network is run on
bits as well (exclusive or and counting), and has to give the same scores there.

    python -m benchmarks.baselines.binarize

goes on from the rows that are there, in about 30 minutes of one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.baselines._tables import Table, grouped, mean, numbers, percent, show
from nettrim import data as datasets
from nettrim.baselines import binarize
from nettrim.evaluate import evaluating
from nettrim.models import mlp

VARIANTS: dict[str, dict[str, Any]] = {
    "float twin": {"weights": "real", "activations": "relu"},
    "binary": {},
    "binary, not clipped": {"clip": False},
    "binary, no gate": {"gate": False},
    "binary weights": {"activations": "relu"},
    "scaled binary weights": {"weights": "scaled", "activations": "relu"},
}
FIELDS = ("variant", "sizes", "seed", "epochs")


def on_bits(result: binarize.Baseline, data: datasets.Data) -> dict[str, int]:
    """Return errors and bytes of a network run on bits, after making sure that its scores are the very same."""
    network = binarize.XnorNetwork(result.model)
    errors = 0
    for x, y in zip(data.x_test.split(1000), data.y_test.split(1000), strict=True):
        scores = network(x)
        with evaluating(result.model):
            if not (scores == result.model(x)).all():
                raise AssertionError("the network on bits gives other scores than the float one")
        errors += int((scores.argmax(1) != y).sum())
    return {"bit_errors": errors, "bit_bytes": network.bytes}


def study(args: argparse.Namespace, data: datasets.Data, seed: int, variant: str) -> None:
    """Add the row of a network if it is missing."""
    key = {"variant": variant, "sizes": "-".join(map(str, args.sizes)), "seed": seed, "epochs": args.epochs}
    if tuple(map(str, key.values())) in rows.done(args.out, *FIELDS):
        return
    name = "-".join(["binarize", data.name, *map(str, key.values())]).replace(", ", "-").replace(" ", "-")
    place = args.networks and args.networks / name
    result = binarize.run(mlp(args.sizes, seed=seed), data, **VARIANTS[variant], epochs=args.epochs, seed=seed, folder=place)
    plain = VARIANTS[variant].keys() <= {"clip", "gate"}
    bits = on_bits(result, data) if plain else {"bit_errors": "", "bit_bytes": ""}
    rows.append(args.out, [key | result.rows[-1] | bits])
    print(f"{' '.join(map(str, key.values()))}: {result.rows[-1]['accuracy']:.2%}", flush=True)


def tables(out: Path) -> dict[str, Table]:
    """Return the mean accuracy of each variant over its seeds, its standard error, and its bytes."""
    table = [["network", "accuracy", "errors on bits", "bytes to store", "bytes on bits"]]
    for (variant,), cases in grouped(out, "variant").items():
        bits = mean(numbers(cases, "bit_errors"), 1) if cases[0]["bit_errors"] else "-"
        size = f"{int(cases[0]['bit_bytes']):,}" if cases[0]["bit_bytes"] else "-"
        table.append([variant, percent(cases), bits, f"{int(cases[0]['bytes']):,}", size])
    return {"Binary networks": table}


def main(told: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[784, 512, 512, 10])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--networks", type=Path, help="folder to keep the networks of finished trainings in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/baseline_binarize.csv"))
    args = parser.parse_args(told)
    data = datasets.load(args.data)
    for seed in args.seeds:
        for variant in args.variants:
            study(args, data, seed, variant)
    show(tables(args.out))


if __name__ == "__main__":
    main()
