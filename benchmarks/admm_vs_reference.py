"""How much faster is ``admm`` than the published ADMM on real layers?

Yardstick: ``reference`` (float64 NumPy, fixed rho) at rho 1 and at rho 100, its better one counts, in the same run. Clock:
seconds of work until the objective is within 1e-3 of the optimum and both violations are below 1e-3 epsilon, the checks that
find this out not counted for either; compilation is apart (``warm_up``). The optimum is first certified to 1e-5. Every
contender that arrives is run several times, and the median counts. ``admm`` stops when its certificate says 1e-3, which is
more than is asked.

    python -m benchmarks.admm_vs_reference --data mnist --layers lenet300-1 lenet300-2 lenet300-3 lenet5-fc1 lenet5-fc2
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.real_layers import LAYERS, layers
from solvers import Check, LayerProblem, solve

ACCURACY = 1e-3
NEVER = ACCURACY * 1e-3  # a tolerance that the reference does not reach before the watcher stops it
CONTENDERS: list[tuple[str, str, float, dict[str, Any]]] = [
    ("admm", "admm", ACCURACY, {}),
    ("reference, rho 1", "reference", NEVER, {"rho": 1.0}),
    ("reference, rho 100", "reference", NEVER, {"rho": 100.0}),
]


class Reached(Exception):  # noqa: N818 (news, not an error)
    """The iterate is good enough; carries the check that says so."""


class OutOfTime(Exception):  # noqa: N818
    """The contender has had its seconds; carries its last check."""


def race(
    problem: LayerProblem, optimum: float, backend: str, tol: float, limit: float, **options: Any
) -> tuple[bool, Check]:
    """Run one contender until it is within ACCURACY, or out of time; return whether it made it, and its last check."""

    def watch(check: Check) -> None:
        c = check.certificate
        if abs(c.objective - optimum) <= ACCURACY * optimum and c.violation < ACCURACY:
            raise Reached(check)
        if check.seconds > limit:
            raise OutOfTime(check)

    try:
        solve(problem, backend, tol=tol, max_iter=10**6, throw=False, callback=watch, **options)
    except Reached as news:
        return True, news.args[0]
    except OutOfTime as news:
        return False, news.args[0]
    raise AssertionError("the watcher ends every run")


def compare(problem: LayerProblem, limit: float, repeats: int) -> dict[str, Any]:
    """Run all contenders on one layer."""
    certified = solve(problem, tol=1e-5).certificate
    optimum = 0.5 * (certified.objective + certified.bound)
    print(f"{problem.N} x {problem.M}, {problem.P} samples, {problem.activation}, optimum {optimum:.3f}", flush=True)
    rows = []
    for name, backend, tol, options in CONTENDERS:
        runs = [race(problem, optimum, backend, tol, limit, **options)]
        while runs[0][0] and len(runs) < repeats:  # who runs out of time once is not asked again
            runs.append(race(problem, optimum, backend, tol, limit, **options))
        made_it, last = runs[-1]
        seconds = statistics.median(check.seconds for _, check in runs)
        rows.append(
            {"contender": name, "reached": made_it, "iterations": last.iteration, "seconds": seconds, "runs": len(runs)}
        )
        verdict = "reached" if made_it else f"NOT reached (objective {last.certificate.objective:.2f})"
        print(f"  {name:20s} {last.iteration:6d} iterations {seconds:9.3f} s  {verdict}", flush=True)
    finished = [row["seconds"] for row in rows[1:] if row["reached"]]
    ratio = min(finished, default=limit) / rows[0]["seconds"]
    print(f"  admm is {'' if finished else 'more than '}{ratio:.1f}x as fast as the better reference", flush=True)
    return {"N": problem.N, "M": problem.M, "P": problem.P, "optimum": optimum, "rows": rows, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--layers", nargs="+", default=["lenet300-1"], choices=list(LAYERS))
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for one run of the reference")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/admm_vs_reference.json"))
    args = parser.parse_args()

    problems = layers(args.layers, args.data, args.samples, args.epsilon)
    found = {name: compare(problem, args.limit, args.repeats) for name, problem in problems.items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "arguments": {**vars(args), "out": None},
        "layers": found,
        "ratio": min(row["ratio"] for row in found.values()),
    }
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
