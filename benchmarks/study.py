"""What would another iteration of ``admm`` bring? Each variant is one change against the default (``benchmarks.variants``).

Alone: the iteration without the finish, rho balanced at the driver's checkpoints, certified every 5 iterations, from 100 on
every 10; counted are the iterations to a certified 1e-2 and 1e-3. Whole: ``admm`` with the variant to a certified 1e-3;
counted are its iterations, the rounds of the finish among them, and its seconds of CPU. What is not certified at the limit
is a miss, and enters at the limit. Yardstick: the default on the same program; median and worst ratio over the programs.

    python -m benchmarks.study --data mnist
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchmarks.real_layers import LAYERS, layer_problem, network
from benchmarks.variants import DEFAULT, VARIANTS, CountedFinish, Variant, applied, with_unit_rows
from nettrim.data import load
from nettrim.layers import plain, read
from solvers import LayerProblem, reweighted, solve
from solvers.backends import admm
from solvers.backends._checkpoints import checkpoints
from solvers.backends._memory import plan
from solvers.certificate import certify
from solvers.solution import start_point

TOLERANCES = {"alone to 1e-2": 1e-2, "alone to 1e-3": 1e-3}
MEASURES = (*TOLERANCES, "whole", "seconds")
GAIN = 0.95  # of the default, which one median must come down to where no ratio of any measure but seconds is above 1


def alone(problem: LayerProblem, variant: Variant, start: Any, limit: int) -> dict[str, int | None]:
    """Count the iterations to each tolerance without a finish; None where the limit comes first."""
    steps, _ = admm._relu(problem, np.float32, None, plan(problem, np.float32, None, gram=False))
    W, L = start_point(start, problem)
    if W is not None:
        steps.begin(W, L)
    found: dict[str, int | None] = dict.fromkeys(TOLERANCES)
    balance, due = admm.Balance(), checkpoints()
    balanced = next(due)
    for iteration in range(1, limit + 1):
        steps.prox()
        change = 1.0
        if iteration % (5 if iteration <= 100 else 10) == 0 or iteration in (1, balanced):
            certificate = certify(problem, steps.q, steps.dual())
            steps.restore()
            for name, tol in TOLERANCES.items():
                if found[name] is None and certificate.meets(tol):
                    found[name] = iteration
            if None not in found.values():
                break
            if iteration == balanced:
                balanced, change = next(due), balance.change(certificate)
        steps.step(variant.relaxation, change)
    return found


def measure(problem: LayerProblem, variant: Variant, start: Any, limit: int) -> dict[str, Any]:
    """Return the counts of one variant on one program, and the seconds of the whole ``admm``."""
    if variant.unit_rows:
        problem = with_unit_rows(problem)
    tol = min(TOLERANCES.values())
    with applied(variant):
        CountedFinish.rounds, begin = 0, time.process_time()
        found = solve(problem, tol=tol, max_iter=limit, start=start, throw=False, relaxation=variant.relaxation)
        row = {"rounds": CountedFinish.rounds, "seconds": time.process_time() - begin}
        counts = alone(problem, variant, start, limit) if variant.alone else {}
    return {**counts, "whole": found.iterations if found.certificate.meets(tol) else None, **row}


def programs(problem: LayerProblem, trained: Any, reweight: bool) -> Iterator[tuple[str, LayerProblem, dict[str, Any]]]:
    """Yield the program as published and, if asked for, reweighted, each with its kind and the starts that it can have."""
    half = solve(problem.replace(epsilon=problem.epsilon / 2), tol=1e-3, throw=False)
    yield "as published", problem, {"": None, "trained weights": trained, "half the radius": half}
    if reweight:
        first, second = reweighted(problem, rounds=1, tol=1e-3, throw=False)
        starts = {"": None, "trained weights": trained, "round before": first.solution}
        yield "reweighted", second.problem, starts


def summary(variant: Variant, rows: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """Compare a variant with the default on the programs that it was run on."""
    base = {row["program"]: row for row in rows if row["variant"] == DEFAULT.name}
    mine = [row for row in rows if row["variant"] == variant.name]
    found: dict[str, Any] = {"variant": variant.name, "programs": len(mine)}
    for name in MEASURES:
        if name in mine[0]:
            ratios = {row["program"]: (row[name] or limit) / (base[row["program"]][name] or limit) for row in mine}
            worst = max(ratios, key=lambda program: ratios[program])
            found[name] = {"median": statistics.median(ratios.values()), "worst": ratios[worst], "worst_at": worst}
            missed = [sum(row[name] is None for row in of) for of in (mine, [base[row["program"]] for row in mine])]
            found[name] |= dict(zip(("misses", "misses_of_default"), missed, strict=True))
    counts = [found[name] for name in MEASURES[:-1] if name in found]
    better = min(of["median"] for of in counts) <= GAIN and all(of["worst"] <= 1 for of in counts)
    found["better"], found["kept"] = better and found["seconds"]["median"] <= 1, variant.kept
    return found


def table(summaries: list[dict[str, Any]], rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Return the study in Markdown: the default's counts, and every variant against them."""
    lines = [
        "# Variants of the iteration of `admm`",
        "",
        f"Written by `python -m benchmarks.study`: {args.samples:,} samples, limit {args.limit} iterations; rows in",
        "`study.json`, what each variant is in `benchmarks/variants.py`. Iterations of the default:",
        "",
        "| program | alone to 1e-2 | alone to 1e-3 | whole (rounds of the finish among them) |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if row["variant"] == DEFAULT.name:
            cells = [str(row[name] or f">{args.limit}") for name in MEASURES[:-1]]
            lines.append(f"| {row['program']} | {' | '.join(cells)} ({row['rounds']}) |")
    lines += [
        "",
        "Each change alone, in multiples of the default, median / worst over the programs; in brackets the misses of the",
        "variant, where it has any, a miss entering at the limit. Seconds are of CPU, for the whole; their noise shows",
        "without balance, where the work is the default's up to the first finish.",
        f"To be taken up: no ratio of iterations above 1, one median at most {GAIN:g}, the median of seconds at most 1.",
        "",
        f"| change | programs | {' | '.join(MEASURES)} | kept? |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in summaries:
        cells = []
        for name in MEASURES:
            of = found.get(name)
            missed = f" ({of['misses']})" if of and of["misses"] else ""
            cells.append(f"{of['median']:.2f} / {of['worst']:.2f}{missed}" if of else "as default")
        verdict = found["kept"] or ("no, to be taken up" if found["better"] else "no")
        lines.append(f"| {found['variant']} | {found['programs']} | {' | '.join(cells)} | {verdict} |")
    lines += [
        "",
        "Samples cannot be scaled as rows can: over scaled responses the ball is an ellipsoid, and its nearest point takes",
        "a search for a multiplier in every iteration, where that of the ball takes one factor.",
    ]
    return "\n".join(lines) + "\n"


def write(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Write both files."""
    names = {row["variant"] for row in rows}
    summaries = [summary(variant, rows, args.limit) for variant in VARIANTS if variant.name in names]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"arguments": {**vars(args), "out": None}, "rows": rows, "variants": summaries}
    args.out.write_text(json.dumps(report, indent=2) + "\n")
    args.out.with_suffix(".md").write_text(table(summaries, rows, args))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.02, 0.1, 0.5])
    parser.add_argument(
        "--reweighted", nargs="*", default=[f"{name}:0.1" for name in LAYERS], help="layer:epsilon, these too"
    )
    parser.add_argument("--skip", nargs="*", default=[], help="layer:epsilon, not these")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/study.json"))
    args = parser.parse_args()

    images = load(args.data)
    models = {net: network(net, images) for net in dict.fromkeys(LAYERS[name][0] for name in args.layers)}
    rows: list[dict[str, Any]] = []
    for layer in args.layers:
        net, place = LAYERS[layer]
        (trained,) = read(plain([module for module in models[net].modules() if isinstance(module, nn.Linear)][place]))
        for epsilon in args.epsilons:
            name = f"{layer}:{epsilon:g}"
            if name in args.skip:
                continue
            problem = layer_problem(models[net], layer, images, args.samples, epsilon)
            for kind, program, starts in programs(problem, np.ascontiguousarray(trained), name in args.reweighted):
                for variant in (DEFAULT, *VARIANTS):
                    if variant.start in starts:
                        row = measure(program, variant, starts[variant.start], args.limit)
                        rows.append({"program": f"{layer}, {epsilon:g}, {kind}", "variant": variant.name, **row})
                        print(*rows[-1].values(), flush=True)
                write(rows, args)  # so that a run that is stopped leaves what it has


if __name__ == "__main__":
    main()
