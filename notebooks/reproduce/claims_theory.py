"""The claims of Net-Trim's theorems, each with the condition under which the rows say that it holds."""

from __future__ import annotations

import math

from benchmarks.baselines._tables import numbers
from reproduce.claim import Claim, Found, read
from reproduce.figure import RESULTS


def theorems() -> Found:
    """Judge the bounds: they hold in all trims."""
    right = [row for row in read("tightness.csv") if not row["source"].startswith("WRONG")]
    held = sum(row["holds"] == "True" for row in right)
    return Found(f"{held} of {len(right)} statements about 120 trims hold", held == len(right))


def theorem3() -> Found:
    """Judge the promise: no row of Gaussian inputs is recovered more seldom than promised."""
    rows = [row for row in read("recovery_theorem3.csv") if row["ensemble"] == "gaussian"]
    kept = sum(row["consistent"] == "True" for row in rows)
    least = min(int(row["recovered"]) / int(row["trials"]) for row in rows)
    return Found(f"kept in {kept} of {len(rows)} rows; recovered in at least {least:.1%} of the draws", kept == len(rows))


def constant() -> Found:
    """Judge the order: the constant that is enough for every s does not grow with N, within intervals; in part by half.

    Enough is what recovers in 95 % of the draws; for each N the s that needs the largest constant decides.
    """
    worst: dict[int, tuple[float, float, float]] = {}
    for row in read("recovery_lines.csv"):
        if row["ensemble"] == "gaussian" and float(row["share"]) == 0.95:
            N, s = int(row["N"]), int(row["s"])
            c, low, high = (float(row[field]) / (s * math.log(N / s)) for field in ("P", "P_low", "P_high"))
            worst[N] = max(worst.get(N, (0.0, 0.0, 0.0)), (c, low, high))
    (first, _, top), *rest = (worst[N] for N in sorted(worst))
    text = "; ".join(f"N = {N}: c = {c:.2f} [{low:.2f}, {high:.2f}]" for N, (c, low, high) in sorted(worst.items()))
    steady = all(low <= top for _, low, _ in rest)
    near = all(c <= 1.5 * first for c, _, _ in rest)
    every = [
        row
        for row in read("recovery_constant.csv")
        if row["ensemble"] == "gaussian" and row["N"] == "all" and float(row["share"]) == 0.95
    ]
    text += f"; as an equality, one c for all misses by up to {max(numbers(every, 'misfit')):.0%}"
    return Found(f"P = c s log(N / s) is enough with {text}", True if steady else None if near else False)


CLAIMS = (
    Claim(
        "NIPS 2017, Theorems 1 and 2",
        "the error of the output is bounded by the errors of the layers",
        "proved",
        "python -m benchmarks.tightness",
        40,
        (RESULTS / "tightness.csv",),
        theorems,
        "02_theory",
    ),
    Claim(
        "NIPS 2017, Theorem 3",
        "s-sparse weights are the only optimum on (11 s + 7) mu log N Gaussian samples, with a probability that is promised",
        "proved",
        "python -m benchmarks.phase_transition --n-jobs 2",
        20,
        (RESULTS / "recovery_theorem3.csv",),
        theorem3,
        "02_theory",
    ),
    Claim(
        "SIAM J. Math. Data Sci. 2020, abstract",
        "O(s log(N / s)) samples are enough: the constant does not grow with N, up to 400 (Gaussian inputs)",
        "no constant",
        "python -m benchmarks.phase_transition --n-jobs 2",
        20,
        (RESULTS / "recovery_lines.csv", RESULTS / "recovery_constant.csv"),
        constant,
        "02_theory",
    ),
)
