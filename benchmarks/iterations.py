"""How many iterations does ``admm`` take to a certified 1e-2, and to a certified 1e-3?

Counted is ``Solution.iterations``, a round of the finish being one iteration. Each layer is solved as published, and with
the reweighted prices that follow from a certified 1e-3 answer: from nothing, and from that answer. Counts do not depend on
the machine's load, so nothing is timed.

    python -m benchmarks.iterations --data mnist
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.real_layers import LAYERS, layer_problem, network
from nettrim.data import load
from solvers import LayerProblem, reweighted, solve

TARGETS = {1e-2: (60, 60), 1e-3: (150, 80)}  # tolerance: iterations at most, iterations aimed at
LIMIT = 1000  # iterations, after which a solve has missed its target by far


def count(problem: LayerProblem) -> list[dict[str, Any]]:
    """Solve one layer at one radius as published and reweighted, to each tolerance; return what each solve took."""
    first, second = reweighted(problem, rounds=1, tol=1e-3, max_iter=LIMIT, throw=False)
    programs = {
        "as published": (problem, None, first.solution),
        "reweighted, cold": (second.problem, None, None),
        "reweighted, warm": (second.problem, first.solution, second.solution),
    }
    rows = []
    for name, (program, start, known) in programs.items():
        for tol in TARGETS:
            if known is None or known.tol != tol:
                solution = solve(program, tol=tol, start=start, max_iter=LIMIT, throw=False)
            else:
                solution = known
            row = {"program": name, "tol": tol, "iterations": solution.iterations, "status": solution.status.name}
            row |= {"gap": solution.certificate.gap, "violation": solution.certificate.violation}
            rows.append(row | {"kept": float((solution.W != 0).mean())})
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say of each tolerance and kind of program whether all of its solves met the target, and what the worst one took."""
    found = []
    for tol, (most, aim) in TARGETS.items():
        for program in dict.fromkeys(row["program"] for row in rows):
            these = [row for row in rows if (row["tol"], row["program"]) == (tol, program)]
            worst = max(these, key=lambda row: (row["status"] != "SOLVED", row["iterations"]))
            taken = worst["iterations"] if worst["status"] == "SOLVED" else float("inf")
            median = statistics.median(row["iterations"] for row in these)
            print(
                f"tol {tol:g}, {program:17s} median {median:5g}, worst {worst['iterations']:4d} ({worst['status']}, "
                f"{worst['layer']}, epsilon {worst['epsilon']:g}); at most {most}: {'met' if taken <= most else 'NOT met'}, "
                f"aim {aim}: {'met' if taken <= aim else 'not met'}",
                flush=True,
            )
            found.append(
                {"tol": tol, "program": program, "solves": len(these), "median": median, "worst": worst}
                | {"at_most": most, "met": taken <= most, "aim": aim, "aim_met": taken <= aim}
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--epsilons", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.2, 0.5])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/iterations.json"))
    args = parser.parse_args()

    images = load(args.data)
    models = {net: network(net, images) for net in dict.fromkeys(LAYERS[name][0] for name in args.layers)}
    print(f"{'as published, reweighted cold, warm':>52s}; each to {' and '.join(f'{tol:g}' for tol in TARGETS)}", flush=True)
    rows = []
    for name in args.layers:
        for epsilon in args.epsilons:
            problem = layer_problem(models[LAYERS[name][0]], name, images, args.samples, epsilon)
            found = count(problem)
            rows += [{"layer": name, "epsilon": epsilon, **row} for row in found]
            cells = [f"{row['iterations']:6d}{' ' if row['status'] == 'SOLVED' else '!'}" for row in found]
            print(f"{name:12s} epsilon {epsilon:<5g}", *cells, flush=True)
    versions = {name: version(name) for name in ("numpy", "numba", "scipy", "torch")}
    report = {
        "arguments": {**vars(args), "out": None},
        "versions": versions | {"python": platform.python_version()},
        "rows": rows,
        "targets": targets(rows),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
