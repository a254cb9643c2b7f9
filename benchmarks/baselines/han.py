"""Does magnitude pruning with retraining do what Han et al. 2015 say, and where does Net-Trim stand beside it?

On whole MNIST, over seeds:

* ``rates``: LeNet-300-100 pruned 12 and 30 times, in one round and in several with as many epochs in all, and 12 times with
  L1 in place of L2 from the start, and with the paper's tenth of the learning rate and the penalty as it was; the same
  network trained and retrained plainly, without dropout and label smoothing, 12 times with L2 and with L1, of the strength
  in training and of three times that (which is the default of L2); LeNet-5 pruned 12 times, local retraining; all beside
  their dense networks;
* ``penalties``: LeNet-300-100 trained with L1 and with L2 from scratch, pruned once, before and after retraining with each;
* ``scan``: the accuracy of each layer pruned alone;
* ``hptd``: Net-Trim, and magnitude pruning to its counts, without and with the same fine-tuning.

    python -m benchmarks.baselines.han --networks FOLDER

goes on from the rows that are there, in about 125 minutes of one core where the networks of the recipes lie in the folder:
97 for the rates, 28 for the others. Two processes of one thread share the runs of a study, and any other number of them
(``--jobs``) makes the same rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from torch import nn

from benchmarks import rows
from benchmarks.baselines._tables import TITLES, Table, grouped, mean, numbers, percent, show
from nettrim.baselines import han, hptd
from nettrim.baselines._stages import Stage, Stages
from nettrim.data import Data, load
from nettrim.models import lenet300
from nettrim.recipes import NETWORKS, born, trained
from solvers import warm_up

ONE_SHOT, ITERATIVE = {"rounds": 1, "epochs": 80}, {"rounds": 4, "epochs": 20}
LOCAL = {"rounds": 3, "epochs": 5, "local": True}
PLAIN = {"label_smoothing": 0.0}
L1, L2 = 1e-5, 1e-4  # with this L1 LeNet-300-100 is about as good as with the L2 of its recipe
WITH_L1 = {"penalty": "l1", "strength": L1}
TENTH = {"learning_rate": 2e-4, "strength": 1e-4}
RATES = {
    "lenet300": [
        (12, "one-shot", ONE_SHOT),
        (12, "iterative", ITERATIVE),
        (12, "iterative, L1", ITERATIVE | WITH_L1),
        (12, "iterative, a tenth of the rate", ITERATIVE | TENTH),
        (30, "one-shot", ONE_SHOT),
        (30, "iterative", ITERATIVE),
    ],
    "plain": [
        (12, "iterative", ITERATIVE | PLAIN),
        (12, "iterative, L2 as in training", ITERATIVE | PLAIN | {"strength": L2}),
        (12, "iterative, L1", ITERATIVE | PLAIN | WITH_L1),
        (12, "iterative, L1 three times that", ITERATIVE | PLAIN | WITH_L1 | {"strength": 3 * L1}),
    ],
    "lenet5": [(12, "iterative, local", LOCAL)],
}
SEEDS = {"lenet300": [3, 4, 5], "plain": [3, 4, 5], "lenet5": [1, 2, 3]}  # others chose the settings
PENALTIES = (("l1", "l1"), ("l1", "l2"), ("l2", "l1"), ("l2", "l2"))
PENALTY_RATES = (8, 12)
PENALTY_EPOCHS = 10


class Run(NamedTuple):
    """A run of a study: its name and seed, the dense network that it begins with, and what makes its rows."""

    case: str
    seed: int
    network: str
    made: Callable[[], Any]
    penalty: str = "l2"


FINE_TUNINGS = {"plain gradient steps": {}, "Adam": {"learning_rate": 2e-4, "momentum": None, "batch_size": 200}}


def dense(network: str, data: Data, seed: int, args: argparse.Namespace, penalty: str = "l2") -> nn.Module:
    """Return the network of the recipe, which has L2; with L1 in its place; or without dropout and label smoothing."""
    if network != "plain" and penalty == "l2":
        return trained(network, data, seed=seed, epochs=args.epochs, folder=args.networks)
    start = lenet300(seed=seed) if network == "plain" else born(network, seed=seed)
    epochs = args.epochs or NETWORKS["lenet300"].epochs[data.name]
    how: dict[str, Any] = {"penalty": penalty, "strength": L1 if penalty == "l1" else L2, "epochs": epochs, "seed": seed}
    how |= {"learning_rate": 2e-3, "batch_size": 200} | (PLAIN if network == "plain" else {})
    place = args.networks and args.networks / f"{network}-{data.name}-{seed}-{epochs}-{penalty}"
    stages = Stages(place, start, data, {"method": "dense"} | how)
    return stages.run("dense", lambda: Stage(han.fit(start, data, label="dense training", **how)), start).model


def networks(seed: int, args: argparse.Namespace) -> list[str]:
    """Return the networks that are looked at with a seed."""
    return [name for name in args.network if args.seeds or seed in SEEDS[name]]


def rates(data: Data, seed: int, args: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs of a seed."""
    for network in networks(seed, args):
        for rate, name, settings in RATES[network]:
            how = settings | ({} if args.retraining is None else {"epochs": args.retraining})

            def run(network: str = network, rate: int = rate, how: dict[str, Any] = how) -> Any:
                model = dense(network, data, seed, args, how.get("penalty", "l2"))
                return han.run(model, data, keep=1 / rate, seed=seed, **how).rows

            yield Run(f"{network}, {rate}x, {name}", seed, network, run, how.get("penalty", "l2"))


def penalties(data: Data, seed: int, args: argparse.Namespace) -> Iterator[Run]:
    """Likewise; one round each, so that the rows are: dense, pruned, retrained."""
    for rate in PENALTY_RATES if "lenet300" in networks(seed, args) else ():
        for before, after in PENALTIES:

            def run(rate: int = rate, before: str = before, after: str = after) -> Any:
                model = dense("lenet300", data, seed, args, before)
                epochs = PENALTY_EPOCHS if args.retraining is None else args.retraining
                how = {"rounds": 1, "epochs": epochs, "penalty": after, "strength": L1 if after == "l1" else L2}
                return han.run(model, data, keep=1 / rate, seed=seed, **how).rows

            yield Run(f"lenet300, {rate}x, trained with {before}, retrained with {after}", seed, "lenet300", run, before)


def scan(data: Data, seed: int, args: argparse.Namespace) -> Iterator[Run]:
    """Likewise; on the test samples, which choose nothing here."""
    for network in (name for name in networks(seed, args) if name != "plain"):

        def run(network: str = network) -> Any:
            model = dense(network, data, seed, args)
            return han.sensitivity(model, data.x_test[: args.samples], data.y_test[: args.samples])

        yield Run(network, seed, network, run)


def against_net_trim(data: Data, seed: int, args: argparse.Namespace) -> Iterator[Run]:
    """Likewise: Net-Trim and HPTD with the same counts, fine-tuned as its authors do and with Adam."""
    for epsilon in args.epsilon if "lenet300" in networks(seed, args) else ():
        for name, how in FINE_TUNINGS.items():
            more = {} if args.retraining is None else {"epochs": args.retraining}

            def run(epsilon: float = epsilon, how: dict[str, Any] = how | more) -> Any:
                model = dense("lenet300", data, seed, args)
                return hptd.run(model, data, epsilon=epsilon, n_samples=args.samples, seed=seed, **how).rows

            yield Run(f"lenet300, epsilon {epsilon}, {name}", seed, "lenet300", run)


STUDIES = {"rates": rates, "penalties": penalties, "scan": scan, "hptd": against_net_trim}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=STUDIES, nargs="+", default=list(STUDIES))
    parser.add_argument(
        "--network",
        choices=RATES,
        nargs="+",
        default=list(RATES),
        help="those that are looked at; penalties and hptd are of lenet300",
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", help=f"of all networks; else {SEEDS}")
    parser.add_argument("--epochs", type=int, help="of dense networks; else those of their recipes")
    parser.add_argument("--retraining", type=int, help="epochs of every retraining, in place of those above")
    parser.add_argument("--samples", type=int, default=5000, help="of the scan and of Net-Trim")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.1, 0.2])
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--networks", type=Path, help="folder to keep trained networks in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/baseline_han.csv"), help="others are beside it")
    args = parser.parse_args(argv)
    data = load(args.data)
    warm_up()
    for study in args.study:
        path = args.out if study == "rates" else beside(args.out, study)
        seeds = args.seeds or sorted({seed for of in SEEDS.values() for seed in of})
        there = rows.done(path, "case", "seed")
        todo = [run for seed in seeds for run in STUDIES[study](data, seed, args) if (run.case, str(run.seed)) not in there]
        if args.networks:  # each dense network once, before runs that share it
            begun = dict.fromkeys((run.network, run.seed, run.penalty) for run in todo)
            Parallel(args.jobs)(delayed(alone)(partial(dense, name, data, seed, args, by)) for name, seed, by in begun)
        made = Parallel(args.jobs, return_as="generator")(delayed(alone)(run.made) for run in todo)
        for run, (found, seconds) in zip(todo, made, strict=True):
            rows.append(path, [{"case": run.case, "seed": run.seed} | row | {"seconds": seconds} for row in found])
            print(f"{study}: {run.case}, seed {run.seed}: {found[-1]['accuracy']:.2%}, {seconds:.0f} s", flush=True)
    show(tables(args.out))


def alone(run: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a run finds, on one thread, and its seconds."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        begun = time.perf_counter()
        return run(), time.perf_counter() - begun


def tables(out: Path) -> dict[str, Table]:
    """Return what was found: means over seeds with their standard errors."""
    return {
        "Magnitude pruning with retraining": rates_table(out),
        "L1 and L2": penalties_table(beside(out, "penalties")),
        "Layers pruned alone": scan_table(beside(out, "scan")),
        "Net-Trim, and magnitude pruning to its counts": hptd_table(beside(out, "hptd")),
    }


def beside(out: Path, study: str) -> Path:
    """Return the file of a study other than the rates."""
    return out.with_name(f"{out.stem}_{study}.csv")


def rates_table(path: Path) -> Table:
    """Return errors after the last retraining, and seed by seed the difference to the dense network."""
    table = [["network", "pruned", "schedule", "left", "error", "dense", "difference"]]
    cases = grouped(path, "case")
    for network, rate, schedule in [(name, f"{rate}x", how) for name, every in RATES.items() for rate, how, _ in every]:
        found = cases.get((f"{network}, {rate}, {schedule}",))
        if not found:
            continue
        first = [row for row in found if row["step"] == "dense"]
        last = list({row["seed"]: row for row in found}.values())  # the last row of each seed
        both = [numbers(group, "accuracy", -100) for group in (last, first)]
        apart = mean([a - b for a, b in zip(*both, strict=True)], 3)
        errors = [f"{mean([100 + value for value in values])} %" for values in both]
        table.append([TITLES[network], rate, schedule, percent(last, "kept"), *errors, apart])
    return table


def penalties_table(path: Path) -> Table:
    """Return errors before and after retraining, for each penalty of training and of retraining."""
    table = [["pruned", "penalty in training", "in retraining", "error dense", "pruned", "retrained"]]
    for (case,), found in grouped(path, "case").items():
        _, rate, before, after = case.split(", ")
        steps = ([row for row in found if row["step"].endswith(step)] for step in ("dense", "pruned", "retrained"))
        errors = [f"{mean([100 - value for value in numbers(step, 'accuracy', 100)])} %" for step in steps]
        table.append([rate, before.split()[-1].upper(), after.split()[-1].upper(), *errors])
    return table


def scan_table(path: Path) -> Table:
    """Return accuracies of each layer pruned alone to some fractions."""
    fractions = sorted({float(row["kept"]) for row in rows.read(path)}, reverse=True)
    table = [["network", "layer", *(f"{fraction:.0%} kept" for fraction in fractions)]]
    for (network, layer), found in grouped(path, "case", "layer").items():
        of = {fraction: [row for row in found if float(row["kept"]) == fraction] for fraction in fractions}
        table.append([TITLES[network], layer, *(percent(group, digits=1) for group in of.values())])
    return table


def hptd_table(path: Path) -> Table:
    """Return what is left, and errors of both before and after the same fine-tuning."""
    steps = {
        "Net-Trim": "net-trim",
        "HPTD": "hptd",
        "Net-Trim, tuned": "net-trim fine-tuned",
        "HPTD, tuned": "hptd fine-tuned",
    }
    table = [["epsilon", "fine-tuning", "left", *steps]]
    for (case,), found in grouped(path, "case").items():
        _, epsilon, tuning = case.split(", ")
        of = [[row for row in found if row["step"] == step] for step in steps.values()]
        errors = [f"{mean([100 - value for value in numbers(step, 'accuracy', 100)])} %" for step in of]
        table.append([epsilon.split()[-1], tuning, percent(of[0], "kept"), *errors])
    return table


if __name__ == "__main__":
    main()
