"""How far behind ``admm`` are the conic solvers of CVXPY at equal certified accuracy, as the layer grows?

Slices of a real first layer, those of ``benchmarks.agreement``; the program couples the neurons of a slice by its one
ball. Yardstick: the better of Clarabel and SCS, through ``cvxpy``. Both are given the loosest tolerance of their own, among
powers of ten, whose answer is certified to ``tol``: the tries that fail are not counted, and the search goes on from slice
to slice. Clock: ``Solution.seconds``, checks included, and CVXPY's own compilation of the program too (some percent of the
solvers'); the median of the runs, or the one run of a contender that takes more than ``--slow`` seconds. Compiling numba's
kernels and importing libraries comes first. One thread for everybody: set OMP_NUM_THREADS, OPENBLAS_NUM_THREADS and
NUMBA_NUM_THREADS to 1.

    python -m benchmarks.conic_curve --data mnist
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.agreement import slice_of_first_layer
from benchmarks.osqp_slice import measure
from benchmarks.setting import setting
from solvers import LayerProblem, SolverError

SIZES = ["50x5x200", "100x10x500", "150x15x700", "200x20x1000", "250x30x1200", "300x40x1500"]
OWN = {"CLARABEL": ("tol_gap_abs", "tol_gap_rel", "tol_feas"), "SCS": ("eps_abs", "eps_rel")}
LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def size(text: str) -> tuple[int, int, int]:
    """Read ``inputs x neurons x samples``, as in 50x5x200."""
    try:
        n_inputs, n_neurons, n_samples = map(int, text.split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a size is inputs x neurons x samples, as in 50x5x200; got {text!r}") from error
    return n_inputs, n_neurons, n_samples


def conic(
    problem: LayerProblem, solver: str, tol: float, ladder: list[float], repeats: int, slow: float
) -> dict[str, Any] | None:
    """Return the row of a solver at the first tolerance of the ladder that does, None if none does.

    Tolerances that failed are taken off the ladder: a larger slice does not try them again.
    """
    while ladder:
        own = dict.fromkeys(OWN[solver], ladder[0])
        try:
            row = measure(problem, "cvxpy", tol, repeats, slow=slow, solver=solver, solver_options=own)
        except SolverError as error:
            print(f"  {solver.lower():9s} at its own {ladder[0]:g}: {error}", flush=True)
        else:
            if row["status"] == "SOLVED":
                return row | {"own_tolerance": ladder[0]}
            print(f"  {solver.lower():9s} at its own {ladder[0]:g}: not certified, {row['median']:.2f} s", flush=True)
        del ladder[0]
    return None


def curve(
    data: str, sizes: list[tuple[int, int, int]], tol: float, repeats: int, slow: float, limit: float
) -> list[dict[str, Any]]:
    """Run all contenders on all slices; a solver that is over ``limit`` seconds is not asked for larger ones."""
    ladders = {solver: list(LADDER) for solver in OWN}
    first = slice_of_first_layer(data, *sizes[0])
    measure(first, "admm", tol, 1)
    for solver in OWN:  # each loads its own library on its first solve
        measure(first, "cvxpy", tol, 1, solver=solver)
    points = []
    for at in sizes:
        problem = slice_of_first_layer(data, *at)
        shape = "{} inputs, {} neurons, {} samples".format(*at)
        print(f"{shape}, {problem.active.mean():.0%} active", flush=True)
        rows = [measure(problem, "admm", tol, repeats) | {"contender": "admm"}]
        show(rows[0])
        for solver in list(ladders):
            row = conic(problem, solver, tol, ladders[solver], repeats, slow)
            if row is None or row["median"] > limit:
                del ladders[solver]
            if row is not None:
                rows.append(row | {"contender": solver.lower()})
                show(rows[-1])
        point: dict[str, Any] = {"inputs": at[0], "neurons": at[1], "samples": at[2], "rows": rows}
        if rows[1:]:
            best = min(rows[1:], key=lambda row: row["median"])
            point |= {"best": best["contender"], "ratio": best["median"] / rows[0]["median"]}
            print(f"  {best['contender']} takes {point['ratio']:.0f} times as long as admm", flush=True)
        points.append(point)
        if not ladders:
            break
    return points


def show(row: dict[str, Any]) -> None:
    own = f", its own {row['own_tolerance']:g}" if "own_tolerance" in row else ""
    runs = f"{len(row['seconds'])} run{'s' if len(row['seconds']) > 1 else ''}"
    print(
        f"  {row['contender']:9s} {row['status']:6s} {row['median']:9.3f} s, {row['iterations']:5d} steps, objective "
        f"{row['objective']:.6f}, gap {row['gap']:.1e}, violation {row['violation']:.1e} ({runs}{own})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--sizes", type=size, nargs="+", default=[size(text) for text in SIZES])
    parser.add_argument("--tol", type=float, default=1e-4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slow", type=float, default=30.0, help="seconds from which on a conic solver runs once")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds from which on it gets no larger slice")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/conic_curve.json"))
    args = parser.parse_args()

    points = curve(args.data, args.sizes, args.tol, args.repeats, args.slow, args.limit)
    report = {
        "arguments": {**vars(args), "out": None},
        **setting("clarabel", "cvxpy", "numba", "numpy", "scipy", "scs"),
        "points": points,
        "ratio": [point["ratio"] for point in points if "ratio" in point][-1],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
