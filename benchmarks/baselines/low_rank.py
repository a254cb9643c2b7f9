"""What accuracy is left at how many parameters when layers are put into factors, before and after fine-tuning?

LeNet-300-100: plain against data-aware truncation over ranks (a fraction of the full one), over energies, and at the ranks
of EVBMF, with five epochs of fine-tuning. LeNet-5: its second convolution alone by Tucker-2 and by CP with as many weights,
over ranks, before fine-tuning; both with the first linear layer at the ranks of EVBMF, and at fractions, with one epoch.
Also the reconstruction of that convolution against tensorly's, where tensorly is there. All on whole MNIST, over seeds.

    python -m benchmarks.baselines.low_rank --networks FOLDER

goes on from the rows that are there, in about 30 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchmarks import rows
from benchmarks.baselines._tables import Table, grouped, mean, numbers, percent, show
from nettrim.baselines import low_rank
from nettrim.data import Data, load
from nettrim.recipes import trained

RATIOS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
ENERGIES = (0.7, 0.8, 0.9, 0.95, 0.99)
CONVOLUTION_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
FIELDS = ("network", "seed", "settings")


def points(network: str) -> Iterator[dict[str, Any]]:
    """Yield the settings that are looked at."""
    if network == "lenet300":
        for linear in ("plain", "data"):
            yield {"linear": linear, "rule": "evbmf"}
            yield from ({"linear": linear, "rule": "ratio", "amount": ratio} for ratio in RATIOS)
            yield from ({"linear": linear, "rule": "energy", "amount": energy} for energy in ENERGIES)
        return
    for convolution in ("tucker", "cp"):
        alone = {"convolution": convolution, "linear": "none", "layers": ["3"], "epochs": 0}
        yield from (alone | {"rule": "ratio", "amount": ratio} for ratio in CONVOLUTION_RATIOS)
        yield {"convolution": convolution, "rule": "evbmf", "layers": ["3", "7"], "epochs": 1}
        both = {"convolution": convolution, "rule": "ratio", "layers": ["3", "7"], "epochs": 1}
        yield from (both | {"amount": ratio} for ratio in (0.1, 0.3))


def measured(model: nn.Module, data: Data, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the figures of one point."""
    result = low_rank.run(model, data, **settings, seed=seed)
    found = {row["step"]: row for row in result.rows}
    before, after = found["all factored"], found.get("fine-tuned")
    return {
        "ranks": " / ".join(row["rank"] for row in result.rows if row["step"] == "factored"),
        "errors_of_layers": " / ".join(f"{row['error']:.4f}" for row in result.rows if row["step"] == "factored"),
        "n_parameters": before["n_parameters"],
        "parameters": before["parameters"],
        "multiply_adds": before["multiply_adds"],
        "dense_multiply_adds": found["dense"]["multiply_adds"],
        "dense_accuracy": found["dense"]["accuracy"],
        "accuracy_before": before["accuracy"],
        "accuracy_after": after["accuracy"] if after else "",
    }


def against_tensorly(model: nn.Module, name: str, ratios: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return the relative errors of a kernel by this package and by tensorly, at the same ranks; none without tensorly."""
    try:
        from tensorly import cp_to_tensor, tucker_to_tensor
        from tensorly.decomposition import parafac, partial_tucker
    except ImportError:
        print("tensorly is not installed: no reconstructions are compared (pip install tensorly)")
        return []
    K = model.get_submodule(name).weight.detach().double().numpy()

    def lost(found: Any) -> float:
        return float(np.linalg.norm(K - found) / np.linalg.norm(K))

    made = []
    for ratio in ratios:
        r3, r4 = (max(1, round(ratio * n)) for n in (K.shape[1], K.shape[0]))
        (core, sides), _ = partial_tucker(K, (r4, r3), modes=[0, 1], n_iter_max=200, tol=1e-10)
        theirs = tucker_to_tensor((core, [*sides, *(np.eye(n) for n in K.shape[2:])]))
        ours = low_rank.tucker2(K, (r3, r4)).errors[-1]
        made.append({"form": "tucker", "rank": f"{r3} {r4}", "ours": ours, "tensorly": lost(theirs)})
    for rank in (2, 4, 5):  # above the extent of the kernel tensorly begins from random columns and warns
        theirs = cp_to_tensor(parafac(K, rank, n_iter_max=1000, init="svd", tol=1e-8))
        made.append({"form": "cp", "rank": str(rank), "ours": low_rank.cp(K, rank).error, "tensorly": lost(theirs)})
    return made


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--network", nargs="+", choices=("lenet300", "lenet5"), default=["lenet300", "lenet5"])
    parser.add_argument("--data", default="mnist", help="mnist, or mnist5k for a quick look")
    parser.add_argument("--epochs", type=int, help="of every fine-tuning, for a quick look")
    parser.add_argument("--dense-epochs", type=int, help="of training the dense network, for a quick look")
    parser.add_argument("--points", type=int, help="how many settings of a network, for a quick look")
    parser.add_argument("--networks", type=Path, help="folder to keep trained networks in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/baseline_low_rank.csv"))
    args = parser.parse_args(argv)
    data, more = load(args.data), {} if args.epochs is None else {"epochs": args.epochs}
    compared = beside(args.out)
    for network in args.network:
        for seed in args.seeds:
            model = trained(network, data, epochs=args.dense_epochs, seed=seed, folder=args.networks)
            for settings in list(points(network))[: args.points]:
                settings = settings | more
                key = (network, str(seed), json.dumps(settings))
                if key in rows.done(args.out, *FIELDS):
                    continue
                row = measured(model, data, settings, seed)
                rows.append(args.out, [dict(zip(FIELDS, key, strict=True)) | row])
                print(*key, row["accuracy_before"], row["accuracy_after"], f"{row['parameters']:.2%}", flush=True)
            if network == "lenet5" and (str(seed),) not in rows.done(compared, "seed"):
                found = against_tensorly(model, "3", CONVOLUTION_RATIOS[::3])
                rows.append(compared, [{"seed": seed} | row for row in found])
    show(tables(args.out))


def tables(out: Path) -> dict[str, Table]:
    """Return parameters, multiply-adds and accuracies of each point, means over seeds with their standard errors."""
    head = ["parameters", "multiply-adds", "accuracy dense", "in factors", "fine-tuned"]
    linear: list[list[str]] = [["factors", "ranks by", *head]]
    convolutions: list[list[str]] = [["factors", "of", "ranks by", *head]]
    for (network, told), cases in grouped(out, "network", "settings").items():
        settings = json.loads(told)
        amount = f"{settings['rule']} {settings.get('amount', '')}".strip().replace("evbmf", "EVBMF")
        adds = [int(case["multiply_adds"]) / int(case["dense_multiply_adds"]) for case in cases]
        sizes = [f"{mean(numbers(cases, 'parameters', 100), 1)} %", f"{mean([100 * share for share in adds], 1)} %"]
        cells = [*sizes, *(percent(cases, field) for field in ("dense_accuracy", "accuracy_before", "accuracy_after"))]
        if network == "lenet300":
            linear.append([f"SVD, {settings['linear']}", amount, *cells])
        else:
            layers = "convolution 2" if settings["layers"] == ["3"] else "convolution 2, linear 1"
            convolutions.append([{"tucker": "Tucker-2", "cp": "CP"}[settings["convolution"]], layers, amount, *cells])
    return {
        "Low rank, LeNet-300-100": linear,
        "Low rank, LeNet-5": convolutions,
        "Reconstructions beside tensorly's": reconstructions(beside(out)),
    }


def beside(out: Path) -> Path:
    """Return the file of the reconstructions."""
    return out.with_name(out.stem + "_tensorly.csv")


def reconstructions(path: Path) -> Table:
    """Return relative errors of reconstruction, and by how much tensorly's are larger at least on every seed."""
    table = [["factors", "rank", "relative error", "tensorly's", "least difference"]]
    for (form, rank), cases in grouped(path, "form", "rank").items():
        ours, theirs = numbers(cases, "ours"), numbers(cases, "tensorly")
        least = min(b - a for a, b in zip(ours, theirs, strict=True))
        name = {"tucker": "Tucker-2", "cp": "CP"}[form]
        table.append([name, rank.replace(" ", " and "), mean(ours, 4), mean(theirs, 4), f"{least:.0e}"])
    return table


if __name__ == "__main__":
    main()
