"""The claims of Net-Trim's theorems, each with the condition under which the rows say that it holds."""

from __future__ import annotations

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
    """Judge the law: one constant within a tenth would be the law, within a half it is so in part."""
    rows = [row for row in read("recovery_constant.csv") if row["ensemble"] == "gaussian" and row["N"] == "all"]
    rows = rows or [row for row in read("recovery_constant.csv") if row["ensemble"] == "gaussian"]
    worst = max(numbers(rows, "misfit"))
    values = ", ".join(f"{float(row['c']):.2f} ({float(row['share']):.0%})" for row in rows)
    return Found(f"c = {values}; off by up to {worst:.0%}", True if worst <= 0.1 else None if worst <= 0.5 else False)


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
        "O(s log(N / s)) samples are enough",
        "no constant",
        "python -m benchmarks.phase_transition --n-jobs 2",
        20,
        (RESULTS / "recovery_constant.csv",),
        constant,
        "02_theory",
    ),
)
