"""Does ``admm`` at a high accuracy meet the optimum of an interior-point method, and to how many digits?

A slice of a real first layer, that of ``benchmarks.agreement``: ``admm`` to a certified 1e-6, against Clarabel through
``cvxpy`` at the tightest tolerance of its own, among powers of ten, at which it ends with the word "optimal"; none of its
weights is rounded to zero. Both are certified. Asked for: objectives that differ by 1e-6 of themselves at most.

    python -m benchmarks.high_accuracy --data mnist
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.agreement import slice_of_first_layer
from benchmarks.conic_curve import OWN
from benchmarks.osqp_slice import measure
from benchmarks.setting import setting
from solvers import LayerProblem, SolverError

LADDER = (1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8)


def tightest(problem: LayerProblem, tol: float) -> dict[str, Any]:
    """Return Clarabel's row at the first tolerance of the ladder that it can meet."""
    for own in LADDER:
        settings = dict.fromkeys(OWN["CLARABEL"], own)
        try:
            row = measure(problem, "cvxpy", tol, 1, solver="CLARABEL", solver_options=settings, zero_below=0.0)
        except SolverError:
            continue
        if row["message"] == "CLARABEL: optimal":
            return row | {"own_tolerance": own}
    raise SystemExit(f"Clarabel meets none of its tolerances {LADDER} on this slice; take a smaller one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--inputs", type=int, default=150)
    parser.add_argument("--neurons", type=int, default=15)
    parser.add_argument("--samples", type=int, default=700)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--repeats", type=int, default=3, help="runs of admm")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/high_accuracy.json"))
    args = parser.parse_args()

    problem = slice_of_first_layer(args.data, args.inputs, args.neurons, args.samples)
    print(
        f"{problem.N} inputs, {problem.M} neurons, {problem.P} samples, {problem.active.mean():.0%} active, tol {args.tol:g}"
    )
    rows = []
    for name in ("admm", "clarabel"):
        row = measure(problem, "admm", args.tol, args.repeats) if name == "admm" else tightest(problem, args.tol)
        rows.append({"contender": name} | row)
        own = f", its own {row['own_tolerance']:g}" if "own_tolerance" in row else ""
        print(
            f"{name:9s} {row['status']:6s} {row['objective']:.9f} (bound {row['bound']:.9f}), gap {row['gap']:.1e}, "
            f"violation {row['violation']:.1e}, {row['iterations']} steps, {row['median']:.2f} s{own}",
            flush=True,
        )
    ours, theirs = (row["objective"] for row in rows)
    difference = abs(ours - theirs) / theirs
    print(f"relative difference of the objectives: {difference:.1e}")
    report = {
        "arguments": {**vars(args), "out": None},
        **setting("clarabel", "cvxpy", "numba", "numpy", "scipy"),
        "rows": rows,
        "difference": difference,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
