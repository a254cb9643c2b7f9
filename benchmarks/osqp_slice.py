"""Does ``osqp`` certify a slice of a real layer, and how far behind ``admm`` is it there?

The slice is that of ``benchmarks.agreement``, larger. Clock: ``Solution.seconds``, checks included; the median of the runs.
What must not be timed (compiling numba's kernels, importing OSQP) is done first, and its seconds are printed apart.

    python -m benchmarks.osqp_slice --data mnist
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.agreement import slice_of_first_layer
from solvers import LayerProblem, solve


def measure(
    problem: LayerProblem, backend: str, tol: float, repeats: int, *, slow: float = float("inf"), **options: Any
) -> dict[str, Any]:
    """Solve as often as asked for, once where that takes more than ``slow`` seconds; return the row of one contender."""
    module = importlib.import_module(f"solvers.backends.{backend}" if backend == "admm" else f"solvers.backends.{backend}_")
    begin = time.perf_counter()
    module.warm_up()
    warm_up = time.perf_counter() - begin
    runs = [solve(problem, backend, tol=tol, throw=False, **options)]
    while len(runs) < repeats and runs[0].seconds <= slow:
        runs.append(solve(problem, backend, tol=tol, throw=False, **options))
    c = runs[-1].certificate
    return {
        "backend": backend,
        "options": options,
        "status": runs[-1].status.name,
        "warm_up": warm_up,
        "seconds": [run.seconds for run in runs],
        "median": statistics.median(run.seconds for run in runs),
        "iterations": runs[-1].iterations,
        "objective": c.objective,
        "bound": c.bound,
        "gap": c.gap,
        "violation": c.violation,
        "message": runs[-1].message,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--neurons", type=int, default=50)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--repeats", type=int, default=3, help="runs of admm")
    parser.add_argument("--osqp-repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="threads of osqp")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/osqp_slice.json"))
    args = parser.parse_args()

    problem = slice_of_first_layer(args.data, args.inputs, args.neurons, args.samples)
    print(
        f"{problem.N} inputs, {problem.M} neurons, {problem.P} samples, {problem.active.mean():.0%} active, tol {args.tol:g}"
    )
    header = ("backend", "status", "median", "warm-up", "steps", "objective", "gap", "violation")
    print("{:8s} {:7s} {:>9s} {:>9s} {:>6s} {:>12s} {:>9s} {:>9s}".format(*header))
    rows = []
    contenders: list[tuple[str, int, dict[str, Any]]] = [
        ("admm", args.repeats, {}),
        ("osqp", args.osqp_repeats, {"n_jobs": args.jobs}),
    ]
    for backend, repeats, options in contenders:
        row = measure(problem, backend, args.tol, repeats, **options)
        rows.append(row)
        print(
            f"{backend:8s} {row['status']:7s} {row['median']:7.2f} s {row['warm_up']:7.2f} s {row['iterations']:6d} "
            f"{row['objective']:12.6f} {row['gap']:9.1e} {row['violation']:9.1e}",
            flush=True,
        )
    ratio = rows[1]["median"] / rows[0]["median"]
    print(f"osqp takes {ratio:.1f} times as long as admm")
    versions = {name: version(name) for name in ("numpy", "numba", "osqp", "scipy")} | {"python": platform.python_version()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"arguments": {**vars(args), "out": None}, "versions": versions, "rows": rows, "ratio": ratio}
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
