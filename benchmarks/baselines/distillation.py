"""Does a student gain by soft targets? The paper's experiments on MNIST: layers of 800, a digit left out, and temperatures.

One teacher of 1200 and 1200 units for all. The student of 800 and 800 units without any regularization is trained on labels
and on soft targets, at the paper's T = 20 and at 4, the same epochs and seeds; then at 20 without the threes, whose bias is
raised afterwards; and one of 30 and 30 units, for which the paper finds low temperatures better, over temperatures.

    python -m benchmarks.baselines.distillation --networks FOLDER

goes on from the rows that are there, in about 45 minutes of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks import rows
from benchmarks.baselines._tables import Rows, Table, grouped, mean, numbers, show
from nettrim.baselines import distillation as method
from nettrim.data import Data, load
from nettrim.models import mlp

STUDENT, SMALL = (784, 800, 800, 10), (784, 30, 30, 10)
MISSING = 3
KEY = ("student", "temperature", "without", "epochs", "seed")


def teacher_of(data: Data, epochs: int, folder: Path | None) -> nn.Module:
    """Return the teacher, from the folder if it is there."""
    path = None if folder is None else folder / f"teacher-{data.name}-{epochs}.safetensors"
    if path is not None and path.exists():
        model = mlp((784, *method.TEACHER, 10), dropout=method.DROPOUT)
        model.load_state_dict(load_file(path))
        return model.eval()
    model = method.train_teacher(data, 10, epochs=epochs)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        save_file(model.state_dict(), part)
        part.replace(path)
    return model


def distilled(
    data: Data, teacher: nn.Module, sizes: tuple[int, ...], T: float, epochs: int, seed: int, **more: Any
) -> list[dict[str, Any]]:
    """Return the rows of a run: one for the teacher and for each student."""
    result = method.run(mlp(sizes, seed=seed), data, teacher, temperature=T, epochs=epochs, seed=seed, **more)
    key = (named(sizes), T, more.get("without", ""), epochs, seed)
    told = ("step", "parameters", "accuracy", "errors", "loss")
    return [
        dict(zip(KEY, key, strict=True))
        | {name: row[name] for name in told}
        | {name: row.get(name, "") for name in ("class_errors", "shift")}
        for row in result.rows
    ]


def named(sizes: tuple[int, ...]) -> str:
    """Return the name of a student."""
    return "-".join(map(str, sizes))


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="0 chose the settings")
    parser.add_argument("--few-seeds", type=int, default=3, help="how many of them without a digit, and over temperatures")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--teacher-epochs", type=int, default=20)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[20.0, 4.0], help="the first without a digit too")
    parser.add_argument("--small-temperatures", type=float, nargs="+", default=[2.5, 8.0, 20.0])
    parser.add_argument("--networks", type=Path, help="folder to keep the teacher in")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results/baseline_distillation.csv"))
    args = parser.parse_args(given)
    data, few = load(args.data), args.seeds[: args.few_seeds]
    large, small = args.temperatures, args.small_temperatures
    jobs = [(STUDENT, T, seed, {"control": large[0] == T}) for seed in args.seeds for T in large]
    jobs += [(STUDENT, large[0], seed, {"without": MISSING, "control": False}) for seed in few]
    jobs += [(SMALL, T, seed, {"control": small[0] == T}) for seed in few for T in small]
    teacher = None
    for sizes, T, seed, more in jobs:
        key = (named(sizes), T, more.get("without", ""), args.epochs, seed)
        if tuple(map(rows.shown, key)) in rows.done(args.out, *KEY):
            continue
        teacher = teacher or teacher_of(data, args.teacher_epochs, args.networks)
        rows.append(args.out, distilled(data, teacher, sizes, T, args.epochs, seed, **more))
        print(f"{' '.join(map(str, key))} done", flush=True)
    show(tables(args.out))


def tables(out: Path) -> dict[str, Table]:
    """Return the test errors of each network, also on the digit left out; means over seeds with their standard errors."""
    whole: list[list[str]] = [["student", "parameters", "trained on", "T", "seeds", "errors of 10,000"]]
    part: list[list[str]] = [
        ["student", "trained on", "T", "seeds", "errors of 10,000", "errors on threes", "bias raised by"]
    ]
    for (student, T, without, step), cases in grouped(out, "student", "temperature", "without", "step").items():
        seeds, errors = str(len(cases)), mean(numbers(cases, "errors"), 1)
        if without:
            part.append([student, step, T, seeds, errors, *(_mean_of(cases, field) for field in ("class_errors", "shift"))])
        elif step != "teacher":
            temperature = "-" if step == "labels" else T
            whole.append([student, f"{int(cases[0]['parameters']):,}", step, temperature, seeds, errors])
    return {"Distillation": whole, "Distillation without the threes": part}


def _mean_of(cases: Rows, field: str) -> str:
    values = numbers([case for case in cases if case[field]], field)
    return mean(values, 1) if values else "-"


if __name__ == "__main__":
    main()
