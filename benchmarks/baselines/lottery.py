"""Are the tickets winners? LeNet-300-100 on whole MNIST: when tickets should stop, how good they are, and their controls.

15 rounds for each seed, down to 3.6 % of the weights. At 51, 21, 7 and 3.6 % the ticket stands beside three networks of its
masks and other weights, one of its weights in other places, and one of as many weights that was pruned in one shot. The
first seed has its rounds with global pruning too, without controls. A row a training; a control's draws are averaged first.
An early stop near the last iteration is a lower bound: the validation loss still falls there.

    python -m benchmarks.baselines.lottery

goes on from the rows that are there, with ``--networks FOLDER`` from the trainings that are finished too. 124 trainings of
at most 27 seconds of a busy core: within 60 minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks import rows
from benchmarks.baselines._tables import Table, mean, show
from nettrim.baselines import lottery
from nettrim.data import load
from nettrim.models import lenet300

AT = (3, 7, 12, 15)  # rounds that leave 51, 21, 7 and 3.6 %
SHOWN = ("early_stop", "early_accuracy", "accuracy", "validation_loss")
GROUP = ("data", "iterations", "scope", "round", "network")
NAMES = {"ticket": "ticket", "reinit": "re-initialized", "random": "random masks", "oneshot": "one-shot"}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(3)))
    parser.add_argument("--rounds", type=int, default=max(AT))
    parser.add_argument("--iterations", type=int, default=6000)
    parser.add_argument("--reinits", type=int, default=3)
    parser.add_argument("--networks", type=Path, help="folder to keep the networks of finished trainings in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/baseline_lottery.csv"))
    args = parser.parse_args(given)
    data = load(args.data)
    for seed, scope in [(seed, "layer") for seed in args.seeds] + [(args.seeds[0], "global")]:
        key = {"data": data.name, "iterations": args.iterations, "scope": scope, "seed": seed}
        if tuple(map(str, key.values())) in rows.done(args.out, *key):
            continue
        beside = {"reinits": args.reinits, "shuffles": 1, "oneshot": True} if scope == "layer" else {}
        found = lottery.run(
            lenet300(),
            data,
            rounds=args.rounds,
            scope=scope,
            iterations=args.iterations,
            at=[number for number in AT if number <= args.rounds],
            seed=seed,
            folder=args.networks and args.networks / f"lottery-{data.name}-{scope}-{seed}-{args.iterations}",
            **beside,
        )
        rows.append(args.out, [key | row for row in found.rows])
        print(
            f"seed {seed}, {scope}: dense {found.rows[0]['accuracy']:.2%}, last {found.rows[-1]['accuracy']:.2%}", flush=True
        )
    show(tables(args.out))


def by_seed(path: Path) -> dict[tuple[str, ...], dict[str, list[float]]]:
    """Return data, iterations, scope, round and kind of network to a number a seed for each field: the mean of the draws."""
    draws = defaultdict(list)
    for row in rows.read(path):
        draws[(*(row[field] for field in (*GROUP, "seed")),)].append(row)
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for key, same in draws.items():
        for field in ("kept", *SHOWN):
            found[key[:-1]][field].append(statistics.fmean(float(row[field]) for row in same))
    return found


def tables(out: Path) -> dict[str, Table]:
    """Return when each kind of network should stop and how good it is, at the rounds that have controls."""
    table = [["pruned by", "kept", "network", "early stop", "accuracy there", "at the end"]]
    for (*_, scope, number, network), values in by_seed(
        out
    ).items():  # in the order of the file: a ticket before its controls
        there, end = (f"{mean([100 * value for value in values[field]])} %" for field in ("early_accuracy", "accuracy"))
        name = "dense" if number == "0" else NAMES[network]
        table.append([scope, f"{values['kept'][0]:.1%}", name, mean(values["early_stop"], 0), there, end])
    return {"Lottery tickets": table}


if __name__ == "__main__":
    main()
