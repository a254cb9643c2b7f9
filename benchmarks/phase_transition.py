"""From how many samples on are sparse weights the only optimum at radius 0, beside what Theorem 3 promises?

One neuron with s weights other than 0 (their places and standard normal values drawn), inputs drawn sample by sample. A
trial is one number, the least P at which the certificate of Proposition 2 proves that w is the only optimum: more samples
only take other weights away, so that the trials say of every P how often w is recovered. What is not proved counts as not
recovered. ``inf``: not within Theorem 3's P for mu = 2, where a trial ends.

Five files in ``--out``: the trials; the success at Theorem 3's P beside its promise, which is for Gaussian inputs alone; the
50 % and 95 % lines; the constant of ``P = c s log(N/s)``; the error behind noise of the size of the radius. A cell of trials
is written when all of it is there, and a run that was cut off goes on where it was; ``phase_transition.json`` says what ran
and how long.

    python -m benchmarks.phase_transition --n-jobs 2
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from benchmarks.rows import append, read
from benchmarks.setting import setting
from solvers import solve
from theory import (
    Ensemble,
    bernoulli,
    clopper_pearson,
    correlated,
    draw_trial,
    fit_constant,
    gaussian,
    noisy_problem,
    quantile,
    recovery_check,
    recovery_probability,
    recovery_samples,
    recovery_trial,
    relu_filtered,
    uniform,
)

PLAIN: dict[str, Ensemble] = {
    "gaussian": gaussian,
    "bernoulli": bernoulli,
    "uniform": uniform,
    "relu_filtered": relu_filtered,
}
ENSEMBLES = (*PLAIN, "correlated")  # their places are part of the seeds
SPARSITIES = {
    100: (1, 2, 3, 5, 8, 12, 18, 25),
    200: (1, 2, 5, 10, 16, 25, 35, 50),
    400: (1, 2, 5, 10, 20, 35, 60, 100),
}
MUS = (1.1, 1.5, 2.0)
SHARES = (0.5, 0.95)
RADII = (1e-3, 1e-2, 0.03, 0.1, 0.3)
NOISY = (100, 5)  # N and s of the noisy programs
TOL = 1e-5  # of their solutions


class Cell(NamedTuple):
    """What the trials of one point of a phase map have in common; condition is of the covariance where that is asked for."""

    ensemble: str
    condition: int
    N: int
    s: int


def drawn(cell: Cell, seed: int, trial: int) -> tuple[Ensemble, int, int, list[int]]:
    """Return the distribution, N, s and the key of a trial."""
    draw = PLAIN[cell.ensemble] if cell.ensemble in PLAIN else correlated(cell.condition)
    return draw, cell.N, cell.s, [seed, ENSEMBLES.index(cell.ensemble), cell.condition, cell.N, cell.s, trial]


def run_trial(cell: Cell, seed: int, trial: int) -> float:
    """Return the least number of samples of a trial, or inf."""
    draw, N, s, key = drawn(cell, seed, trial)
    with threadpool_limits(1):  # whatever --n-jobs: the same sums, the same bytes
        return recovery_trial(draw, N, s, recovery_samples(N, s, max(MUS)), key)


def cell_of(row: dict[str, Any]) -> Cell:
    return Cell(row["ensemble"], int(row["condition"]), int(row["N"]), int(row["s"]))


def grouped(rows: Iterable[dict[str, Any]]) -> dict[Cell, list[float]]:
    """Return the least numbers of samples of each cell's trials."""
    cells: dict[Cell, list[float]] = {}
    for row in rows:
        cells.setdefault(cell_of(row), []).append(float(row["P_star"]))
    return cells


def run_trials(cells: Sequence[Cell], trials: int, seed: int, n_jobs: int, out: Path) -> None:
    """Run the trials that the file of trials lacks, cell by cell, and note the seconds of each cell."""
    path, sidecar = out / "phase_transition.csv", out / "phase_transition.json"
    rows = read(path)
    if any(int(row["seed"]) != seed for row in rows):
        raise SystemExit(f"{path} holds trials of another seed than {seed}: choose another --out")
    report = json.loads(sidecar.read_text()) if sidecar.exists() else {"cells": []}
    for cell in cells:
        there = {int(row["trial"]) for row in rows if cell_of(row) == cell}
        missing = [trial for trial in range(trials) if trial not in there]
        if not missing:
            continue
        started = time.perf_counter()
        found = Parallel(n_jobs=n_jobs)(delayed(run_trial)(cell, seed, trial) for trial in missing)
        seconds = time.perf_counter() - started
        new = [
            {**cell._asdict(), "seed": seed, "trial": trial, "P_star": value}
            for trial, value in zip(missing, found, strict=True)
        ]
        append(path, new)
        report["cells"].append({**cell._asdict(), "trials": len(missing), "n_jobs": n_jobs, "seconds": seconds})
        note(sidecar, report)
        middle = quantile(found, 0.5)
        print(f"{cell}: median {middle.value:g} ({middle.low:g} to {middle.high:g}), {seconds:.0f} s", flush=True)


def note(sidecar: Path, report: dict[str, Any]) -> None:
    """Write what ran, and the seconds of all of it: of the clock, and of that times the processes."""
    parts = [*report["cells"], *report.get("noise", [])]
    report["seconds"] = sum(part["seconds"] for part in parts)
    report["process_seconds"] = sum(part["seconds"] * part["n_jobs"] for part in parts)
    report["setting"] = setting("numpy", "scipy", "numba", "joblib")
    sidecar.write_text(json.dumps(report, indent=2) + "\n")


def theorem_rows(cells: dict[Cell, list[float]]) -> list[dict[str, Any]]:
    """Count the trials that recover w at Theorem 3's P; the promise is for Gaussian inputs."""
    rows = []
    for cell, values in cells.items():
        for mu in MUS:
            P = recovery_samples(cell.N, cell.s, mu)
            recovered, promised = sum(value <= P for value in values), recovery_probability(cell.N, mu)
            rate, gauss = clopper_pearson(recovered, len(values)), cell.ensemble == "gaussian"
            rows.append(
                {**cell._asdict(), "mu": mu, "P": P, "trials": len(values), "recovered": recovered}
                | {"rate_low": rate.low, "rate_high": rate.high, "promised": promised if gauss else ""}
                | {"consistent": recovery_check(cell.N, mu, recovered, len(values)).holds if gauss else ""}
            )
    return rows


def line_rows(cells: dict[Cell, list[float]]) -> list[dict[str, Any]]:
    """Give the samples that a share of the trials needs."""
    rows = []
    for cell, values in cells.items():
        for share in SHARES:
            line = quantile(values, share)
            per = line.value / (cell.s * math.log(cell.N / cell.s))
            rows.append(
                {**cell._asdict(), "share": share, "trials": len(values), "P": line.value, "P_low": line.low}
                | {"P_high": line.high, "P_per_s_log": per}
            )
    return rows


def constant_rows(cells: dict[Cell, list[float]], seed: int) -> list[dict[str, Any]]:
    """Fit the constant to the lines of each ensemble, for each N and for all of them."""
    rows = []
    for ensemble, condition in dict.fromkeys((cell.ensemble, cell.condition) for cell in cells):
        own = {(cell.N, cell.s): values for cell, values in cells.items() if cell[:2] == (ensemble, condition)}
        for N in [*sorted({N for N, _ in own}), "all"]:
            for share in SHARES:
                asked = {pair: values for pair, values in own.items() if N in (pair[0], "all")}
                # A neuron that is never on is never recovered: a line that the trials do not reach has no P.
                reached = {pair: values for pair, values in asked.items() if quantile(values, share).value < math.inf}
                if reached:
                    c, misfit = fit_constant(reached, share, seed=seed)
                    rows.append(
                        {"ensemble": ensemble, "condition": condition, "N": N, "share": share, "cells": len(reached)}
                        | {"left_out": len(asked) - len(reached), "c": c.value, "c_low": c.low, "c_high": c.high}
                        | {"misfit": misfit}
                    )
    return rows


def noise_row(name: str, P: int, epsilon: float, trials: int, seed: int, n_jobs: int) -> dict[str, Any]:
    """Solve noisy programs: means of what ``noisy_trial`` returns and a median, with intervals (Student's t for errors)."""
    from scipy.stats import t

    cell = Cell("gaussian", 1, *NOISY)
    found = np.array(Parallel(n_jobs=n_jobs)(delayed(noisy_trial)(cell, P, epsilon, seed, trial) for trial in range(trials)))
    row: dict[str, Any] = {"N": cell.N, "s": cell.s, "samples": name, "P": P, "epsilon": epsilon, "trials": trials}
    for label, values in zip(("error_over_epsilon", "relative_error_over_epsilon"), found.T, strict=False):
        half = t.ppf(0.975, trials - 1) * values.std(ddof=1) / math.sqrt(trials)
        row |= {label: values.mean(), f"{label}_low": values.mean() - half, f"{label}_high": values.mean() + half}
    # Where w is not recovered without noise, the error does not shrink with epsilon: a few such trials rule the mean.
    middle = quantile(found[:, 1], 0.5)
    row |= {"relative_median": middle.value, "relative_median_low": middle.low, "relative_median_high": middle.high}
    share = clopper_pearson(int(found[:, 2].sum()), trials)
    return row | {"support_found": share.value, "support_found_low": share.low, "support_found_high": share.high}


def noisy_trial(cell: Cell, P: int, epsilon: float, seed: int, trial: int) -> tuple[float, float, bool]:
    """Return ``||w_hat - w|| / epsilon``, the same relative to ``||w||`` and ``||Y||``, and whether w has the largest s."""
    with threadpool_limits(1):
        draw, N, s, key = drawn(cell, seed, trial)
        X, w = draw_trial(draw, N, s, P, key)
        problem = noisy_problem(X, w, epsilon, np.random.default_rng([seed, len(ENSEMBLES), trial]))
        w_hat = solve(problem, tol=TOL).W[:, 0]
    error = float(np.linalg.norm(w_hat - w))
    largest = np.argsort(-np.abs(w_hat))[: cell.s]
    return error / problem.epsilon, error / np.linalg.norm(w) / epsilon, set(largest) == set(np.flatnonzero(w))


def run_noise(cells: dict[Cell, list[float]], trials: int, seed: int, n_jobs: int, out: Path) -> None:
    """Measure the error behind noise at the 95 % line, at twice as many samples and at Theorem 3's."""
    N, s = NOISY
    path, sidecar = out / "recovery_noise.csv", out / "phase_transition.json"
    line = int(quantile(cells[Cell("gaussian", 1, N, s)], max(SHARES)).value)
    report, rows = json.loads(sidecar.read_text()), read(path)
    sizes = {"95 % line": line, "twice the 95 % line": 2 * line}
    sizes |= {f"Theorem 3, mu = {mu:g}": recovery_samples(N, s, mu) for mu in (min(MUS), max(MUS))}
    asked = {(name, P, epsilon, trials) for name, P in sizes.items() for epsilon in RADII}
    there = {(row["samples"], int(row["P"]), float(row["epsilon"]), int(row["trials"])) for row in rows}
    if not there <= asked:  # of other trials, which may have given another line
        path.unlink()
        there = set()
    for name, P in sizes.items():
        for epsilon in RADII:
            if (name, P, epsilon, trials) in there:
                continue
            started = time.perf_counter()
            row = noise_row(name, P, epsilon, trials, seed, n_jobs)
            append(path, [row])
            part = {"P": P, "epsilon": epsilon, "n_jobs": n_jobs, "seconds": time.perf_counter() - started}
            report.setdefault("noise", []).append(part)
            note(sidecar, report)
            print(f"{name}, P = {P}, epsilon {epsilon:g}: {row['relative_median']:.2f}", flush=True)


def summarize(out: Path, seed: int) -> dict[Cell, list[float]]:
    """Write what the trials so far say."""
    cells = grouped(read(out / "phase_transition.csv"))
    for name, rows in (
        ("theorem3", theorem_rows(cells)),
        ("lines", line_rows(cells)),
        ("constant", constant_rows(cells, seed)),
    ):
        path = out / f"recovery_{name}.csv"
        path.unlink(missing_ok=True)
        append(path, rows)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ensembles", nargs="+", default=ENSEMBLES, choices=ENSEMBLES)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SPARSITIES), choices=list(SPARSITIES), help="N")
    parser.add_argument("--conditions", type=int, nargs="+", default=[10, 100], help="of correlated inputs")
    parser.add_argument("--trials", type=int, default=200, help="a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=1, help="processes, of one BLAS thread each")
    parser.add_argument("--out", type=Path, default=Path("notebooks/results"))
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    cells = [
        Cell(ensemble, condition, N, s)
        for N in args.sizes
        for ensemble in args.ensembles
        for condition in (args.conditions if ensemble == "correlated" else [1])
        for s in SPARSITIES[N]
    ]
    run_trials(cells, args.trials, args.seed, args.n_jobs, args.out)
    found = summarize(args.out, args.seed)
    if Cell("gaussian", 1, *NOISY) in found:
        run_noise(found, args.trials, args.seed, args.n_jobs, args.out)
    print(f"rows in {args.out}, {json.loads((args.out / 'phase_transition.json').read_text())['seconds']:.0f} s in all")


if __name__ == "__main__":
    main()
