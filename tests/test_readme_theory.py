"""What the README says of the theorems is in the committed rows: bounds, held-out images, the radius, samples needed."""

import csv
import json
import re
import statistics

import theory
from tests.test_readme import README, ROOT, rows_of


def csv_rows(name):
    with (ROOT / "notebooks" / "results" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


INPUTS = {
    "Gaussian": ("gaussian", "1"),
    "1 or -1": ("bernoulli", "1"),
    "uniform": ("uniform", "1"),
    "Gaussian, condition number 10": ("correlated", "10"),
    "Gaussian, condition number 100": ("correlated", "100"),
}


def test_the_constants_of_recovery_are_those_of_the_committed_rows():
    pooled = [row for row in csv_rows("recovery_constant") if row["N"] == "all"]
    rows = {(row["ensemble"], row["condition"], row["share"]): row for row in pooled}
    shown = rows_of("### How many samples")
    assert [cells[0] for cells in shown] == list(INPUTS)
    for cells in shown:
        halves, most = (rows[*INPUTS[cells[0]], share] for share in ("0.5", "0.95"))
        assert {halves["cells"], most["cells"]} == {"24"}  # no line is left out
        assert cells[1:] == [
            text
            for row in (halves, most)
            for text in (
                f"{float(row['c']):.2f} ({float(row['c_low']):.2f} to {float(row['c_high']):.2f})",
                f"{float(row['misfit']):.0%}",
            )
        ]


def test_what_is_said_of_theorem_3_is_in_the_committed_rows():
    rows = [row for row in csv_rows("recovery_theorem3") if row["ensemble"] == "gaussian"]
    assert {row["consistent"] for row in rows} == {"True"} and {row["N"] for row in rows} == {"100", "200", "400"}
    least = [row for row in rows if row["mu"] == "1.1"]
    trials, recovered = (sum(int(row[name]) for row in least) for name in ("trials", "recovered"))
    section = " ".join(README.split("### How many samples", 1)[1].split())
    assert f"{recovered:,} of {trials:,} Gaussian trials" in section
    promised = sorted(float(row["promised"]) for row in least)
    assert f"where {promised[0]:.0%} to {promised[-1]:.0%} are promised" in section
    study = json.loads((ROOT / "notebooks" / "results" / "phase_transition.json").read_text())
    assert f"{study['process_seconds'] / 60:.0f} minutes on one core" in section
    assert f"{least[0]['trials']} trials" in section and {row["trials"] for row in rows} == {least[0]["trials"]}
    said = "at N = 400 and s = 100 half of the trials need {} samples and 95 % of them {}, against {} and {}"
    lines = {(row["ensemble"], row["N"], row["s"], row["share"]): row["P"] for row in csv_rows("recovery_lines")}
    found = [lines[name, "400", "100", share] for name in ("relu_filtered", "gaussian") for share in ("0.5", "0.95")]
    assert said.format(*(f"{float(P):,.0f}" for P in found)) in section
    single = [row for row in csv_rows("recovery_theorem3") if row["ensemble"] == "relu_filtered" and row["s"] == "1"]
    assert all(0.4 < int(row["recovered"]) / int(row["trials"]) < 0.6 for row in single)  # "about half"
    noise = {(row["samples"], row["epsilon"]): float(row["relative_median"]) for row in csv_rows("recovery_noise")}
    said = "{:.2f} times epsilon at the 95 % line, {:.2f} at twice as many samples and {:.2f} at Theorem 3's for mu = 2"
    names = ("95 % line", "twice the 95 % line", "Theorem 3, mu = 2")
    assert said.format(*(noise[name, "0.1"] for name in names)) in section


BOUNDS = [
    "Theorem 1, l1 norms",
    "Theorem 1, from the errors reached, Frobenius norms",
    "Theorem 1, from the errors reached, spectral norms",
    "Theorem 2, Frobenius norms",
    "Theorem 2, spectral norms",
]
NETWORKS = {"2-200-200-2": "spirals", "LeNet-300-100": "lenet300"}


def test_the_bounds_are_those_of_the_committed_rows_and_hold_but_the_wrong_ones():
    rows = csv_rows("tightness")
    trims = {(row["network"], row["weights"], row["seed"], row["epsilon"], row["scheme"]) for row in rows}
    assert len(trims) == 2 * 2 * 5 * 3 * 2 and {row["solved"] for row in rows} == {"True"}
    right = [row for row in rows if "WRONG" not in row["source"]]
    assert {row["holds"] for row in right} == {"True"}
    section = " ".join(README.split("### The bounds, held", 1)[1].split("### ")[0].split())
    assert f"{len(right)} of {len(right)} statements about {len(trims)} trims hold" in section
    caught = [
        [
            row["network"] + row["weights"]
            for row in rows
            if row["source"].startswith(f"WRONG: {name}") and row["holds"] == "False"
        ]
        for name in ("Theorem 1", "Theorem 2")
    ]
    assert set(caught[0]) == set(caught[1]) == {"spiralstrained"}
    assert f"{len(caught[0])} and {len(caught[1])} times of 15" in section
    for cells in rows_of("### The bounds, held"):
        name, weights = cells[0].split(", ")
        key = NETWORKS[name], "random" if weights == "as born" else weights
        ratios = [
            statistics.median(
                float(row["tightness"]) for row in rows if (row["network"], row["weights"], row["source"]) == (*key, source)
            )
            for source in BOUNDS
        ]
        assert cells[1:] == [f"{ratio:.1e}" if ratio < 1e-3 else f"{ratio:.3f}" for ratio in ratios]


def test_what_is_said_of_held_out_images_and_of_the_radius_is_in_the_committed_rows():
    section = " ".join(README.split("### The bounds, held", 1)[1].split("### ")[0].split())
    draws = [row for row in csv_rows("heldout_coverage") if row["held"] == "1000"]
    met = sum(float(row["within_share_bound"]) >= 0.95 for row in draws)
    rate = sum(float(row["rate"]) <= float(row["rate_bound"]) for row in draws)
    one = statistics.mean(float(row["within_new_sample_bound"]) for row in draws)
    assert (
        f"drawn {len(draws)} times" in section and f"held {met} and {rate} times" in section and f"with {one:.2%}" in section
    )
    costs = {
        rule: [float(row["objective"]) - 1 for row in csv_rows("radius_split") if row["rule"] == rule]
        for rule in ("equal", "relative")
    }
    for cost in costs.values():
        assert f"{min(cost):.1%} to {max(cost):.1%}" in section
    off = max(abs(float(row["slope"]) / float(row["central"]) - 1) for row in csv_rows("radius_slope"))
    assert f"to {off:.0e}" in section


def test_the_theorems_are_functions_of_theory():
    named = {name for cells in rows_of("## The theorems") for name in re.findall("`([a-z_]+)`", cells[1])}
    assert len(named) == 16 and named <= set(theory.__all__)
