"""How each backend comes to its certificate: gap and violation against iterations and seconds, on one slice of a real layer.

The certificate is recomputed in float64 from the data at every look (``solvers.certificate``), whatever the backend thinks
of itself. Backends that can be looked into give a point a look; the general solvers of CVXPY give one for each of their own
tolerances, with CVXPY's compilation in their seconds. ``admm`` ends with a finish that solves for the active set, so that
its first look is its last. One thread; medians of three runs, of Clarabel and SCS one. Seconds differ from run to run, all
else does not.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.agreement import slice_of_first_layer
from benchmarks.conic_curve import OWN
from reproduce.figure import Case, Figure, Settings
from solvers import solve, warm_up
from solvers.solution import Check

Row = dict[str, Any]


def contenders(settings: Settings) -> Iterator[Case]:
    """Yield each contender, with each of its own tolerances where it cannot be looked into."""
    for name, asked in settings["contenders"].items():
        for own in settings["ladder"] if "solver" in asked else [None]:
            yield {"contender": name, "own": own}


def looks(settings: Settings, case: Case, networks: Path | None) -> list[Row]:
    """Return a row a look."""
    warm_up()
    problem = slice_of_first_layer(settings["data"], *settings["slice"])
    how = dict(settings["contenders"][case["contender"]])
    backend = how.pop("backend")
    if case["own"] is not None:
        how["solver_options"] = dict.fromkeys(OWN[how["solver"]], case["own"])
    runs: list[list[Check]] = []
    for _ in range(settings["runs"] if case["own"] is None else 1):
        seen: list[Check] = []
        solution = solve(problem, backend, tol=settings["tol"], throw=False, callback=seen.append, **how)
        if not seen:
            seen.append(Check(solution.iterations, solution.seconds, solution.certificate))
        runs.append(seen)
    return [
        {
            "iteration": same[0].iteration,
            "seconds": statistics.median(check.seconds for check in same),
            "gap": same[0].certificate.gap,
            "violation": same[0].certificate.violation,
        }
        for same in zip(*runs, strict=True)
    ]


CONVERGENCE = Figure(
    name="convergence",
    source="ours, beside the published ADMM: gap and violation against iterations and time",
    settings={
        "data": "mnist",
        "slice": [200, 20, 1000],
        "tol": 1e-8,
        "contenders": {
            "admm": {"backend": "admm"},
            "torch": {"backend": "torch"},
            "published, rho 1": {"backend": "reference", "rho": 1.0, "max_iter": 10_000},
            "published, rho 100": {"backend": "reference", "rho": 100.0, "max_iter": 10_000},
            "OSQP": {"backend": "osqp"},
            "Clarabel": {"backend": "cvxpy", "solver": "CLARABEL"},
            "SCS": {"backend": "cvxpy", "solver": "SCS"},
        },
        "ladder": [1e-2, 1e-3, 1e-4, 1e-5, 1e-6],
        "runs": 3,
    },
    quick={"data": "mnist5k", "slice": [30, 4, 100], "ladder": [1e-3], "runs": 1},
    cases=contenders,
    measured=looks,
    minutes=5,
    jobs=1,
)
FIGURES = (CONVERGENCE,)
