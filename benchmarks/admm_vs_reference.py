"""How much faster is ``admm`` than the published ADMM on a real layer?

Yardstick: ``reference`` (float64 NumPy, fixed rho) at rho 1 and at rho 100, its better one counts, in the same run. Clock:
seconds of iterating until the objective is within 1e-3 of the optimum and both violations are below 1e-3 epsilon, the
checks that find this out not counted for either; compilation is apart (``warm_up``). The optimum is first certified to 1e-4.

    python -m benchmarks.admm_vs_reference --data mnist
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.real_layers import lenet300_layers
from solvers import Check, LayerProblem, solve

ACCURACY = 1e-3


class Reached(Exception):  # noqa: N818 (news, not an error)
    """The iterate is good enough; carries the check that says so."""


class OutOfTime(Exception):  # noqa: N818
    """The contender has had its seconds; carries its last check."""


def race(problem: LayerProblem, optimum: float, backend: str, limit: float, **options: Any) -> tuple[bool, Check]:
    """Run one contender until it is within ACCURACY, or out of time; return whether it made it, and its last check."""

    def watch(check: Check) -> None:
        c = check.certificate
        if abs(c.objective - optimum) <= ACCURACY * optimum and c.violation < ACCURACY:
            raise Reached(check)
        if check.seconds > limit:
            raise OutOfTime(check)

    try:
        # A tolerance that is never met, so that the contender runs until the watcher stops it.
        solve(problem, backend, tol=ACCURACY * 1e-3, max_iter=10**6, throw=False, callback=watch, **options)
    except Reached as news:
        return True, news.args[0]
    except OutOfTime as news:
        return False, news.args[0]
    raise AssertionError("the watcher ends every run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist5k"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--layer", type=int, default=1, choices=[1, 2, 3])
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for one run of the reference")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/admm_vs_reference.json"))
    args = parser.parse_args()

    problem = lenet300_layers(args.data, args.samples, args.epsilon)[args.layer - 1]
    judged = solve(problem, tol=1e-4).certificate
    optimum = 0.5 * (judged.objective + judged.bound)
    print(f"layer {problem.N} x {problem.M}, {problem.P} samples, epsilon {args.epsilon:g} ||Y||, optimum {optimum:.2f}")
    contenders: list[tuple[str, str, dict[str, Any]]] = [
        ("admm", "admm", {"dtype": "float32"}),
        ("reference, rho 1", "reference", {"rho": 1.0}),
        ("reference, rho 100", "reference", {"rho": 100.0}),
    ]
    rows = []
    for name, backend, options in contenders:
        runs = [race(problem, optimum, backend, args.limit, **options)]
        while runs[0][0] and len(runs) < args.repeats:  # who runs out of time once is not asked again
            runs.append(race(problem, optimum, backend, args.limit, **options))
        made_it, last = runs[-1]
        seconds = statistics.median(check.seconds for _, check in runs)
        rows.append({"contender": name, "reached": made_it, "iterations": last.iteration, "seconds": seconds})
        verdict = "reached" if made_it else f"NOT reached (objective {last.certificate.objective:.2f})"
        print(f"{name:20s} {last.iteration:6d} iterations {seconds:9.2f} s  {verdict}", flush=True)
    ours = rows[0]["seconds"]
    finished = [row["seconds"] for row in rows[1:] if row["reached"]]
    ratio = min(finished, default=args.limit) / ours
    print(f"admm is {'' if finished else 'more than '}{ratio:.1f}x as fast as the better reference")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        json.dumps({"arguments": {**vars(args), "out": None}, "rows": rows, "ratio": ratio}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
