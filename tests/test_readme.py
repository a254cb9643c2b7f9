"""The README tells the truth: its examples run, its commands are the ones CI runs, its numbers are in committed files."""

import csv
import json
import re
import statistics
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

import nettrim
import theory

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_example_has_at_most_twelve_lines_and_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 12
    scope = {}
    exec(BLOCKS[0], scope)
    assert "kept" in capsys.readouterr().out
    assert scope["result"].solved
    assert scope["result"].kept < 0.5
    pairs = zip(scope["again"].model.parameters(), scope["result"].model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_examples_of_targets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = {"conv": nn.Conv2d(2, 6, 3), "relu": nn.ReLU(), "flat": nn.Flatten(), "head": nn.Linear(24, 3)}
        model = nn.Sequential(OrderedDict(layers))
        x = torch.randn(90, 2, 4, 4)
    made, real = [], nettrim.trim
    monkeypatch.setattr(nettrim, "trim", lambda *args, **options: made.append(real(*args, **options)))
    labels = torch.zeros(30, dtype=torch.long)
    exec(BLOCKS[1], {"nettrim": nettrim, "model": model, "inputs": x[:60], "x_test": x[60:], "y_test": labels})
    assert [row.epsilon for row in made[0].layers] == pytest.approx([0.05, 0.1])
    assert all(result.solved for result in made)
    assert made[4].layers[1].status == "DENSE"
    assert (tmp_path / "run").is_dir()
    assert len(made) == 5


def test_the_layer_example_runs():
    generator = torch.Generator().manual_seed(0)
    scope = {"inputs": torch.randn(50, 6, generator=generator), "weight": torch.randn(4, 6, generator=generator)}
    scope["bias"] = torch.randn(4, generator=generator)
    exec(BLOCKS[2], scope)
    exec(BLOCKS[3], scope)
    assert scope["solution"].W.shape == (7, 4)
    assert scope["solution"].status.name == "SOLVED"


def test_the_program_in_the_readme_is_the_one_in_the_code():
    from solvers import LayerProblem

    squeeze = re.compile(r"\s+")
    program = "|| (U'X - Y)_active ||_F <= epsilon"
    assert squeeze.sub(" ", program) in squeeze.sub(" ", README)
    assert squeeze.sub(" ", program) in squeeze.sub(" ", LayerProblem.__doc__)


def rows_of(heading):
    """The cells of the first table under a heading, without its header."""
    section = README.split(heading, 1)[1]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    table = lines[: next((i for i, line in enumerate(lines[2:], 2) if set(line) <= set("|-: ")), len(lines) + 1) - 1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_results_are_those_of_the_committed_report():
    report = json.loads((ROOT / "notebooks" / "results" / "demo_mnist.json").read_text())
    assert f"{report['accuracy']:.2%}" in README
    shown = rows_of("### LeNet-300-100")
    assert len(shown) == len(report["rows"])
    for cells, row in zip(shown, report["rows"], strict=True):
        assert cells == [
            f"{row['epsilon']:g}",
            f"{row['kept']:.2%}",
            f"{row['compression']:.2f}x",
            f"{row['accuracy']:.2%}",
            f"{100 * (row['accuracy'] - report['accuracy']):+.2f}",
            f"{row['worst_gap']:.1e}",
            f"{row['worst_violation']:.1e}",
            f"{row['seconds']:.0f}",
        ]


def test_the_rows_of_lenet5_are_those_of_the_committed_report():
    report = json.loads((ROOT / "benchmarks" / "results" / "lenet5_epsilon.json").read_text())
    section = README.split("### LeNet-5", 1)[1]
    assert f"{report['rows'][0]['accuracy_dense']:.2%} before trimming" in section
    shown = rows_of("### LeNet-5")
    assert len(shown) == len(report["rows"])
    for cells, row in zip(shown, report["rows"], strict=True):
        layers = row["layers"]
        assert {layer["status"] for layer in layers} == {"SOLVED"}
        assert cells == [
            row["scheme"],
            f"{row['epsilon']:g}",
            f"{row['kept']:.2%}",
            ", ".join(f"{layer['weights_kept'] / layer['weights']:.1%}" for layer in layers),
            f"{row['accuracy']:.2%}",
            f"{100 * (row['accuracy'] - row['accuracy_dense']):+.2f}",
            f"{max(abs(layer['gap']) for layer in layers):.1e}",
            f"{max(max(layer['ball_violation'], layer['ceiling_violation']) for layer in layers):.1e}",
            f"{row['total_seconds']:.0f}",
            f"{row['memory'] / 1e9:.1f}",
        ]


def test_the_rows_of_cifar_are_those_of_the_committed_reports():
    shown = rows_of("### CIFAR-10")
    for name in ("resnet20", "separable"):
        report = json.loads((ROOT / "benchmarks" / "results" / f"cifar_{name}.json").read_text())
        training, section = report["training"], README.split("### CIFAR-10", 1)[1]
        assert f"`{name}` {report['rows'][0]['accuracy_dense']:.2%} after {training['epochs']} epochs" in section
        for row in report["rows"]:
            assert {layer["status"] for layer in row["layers"]} == {"SOLVED"}
            assert shown.pop(0) == [
                f"`{name}`",
                f"{row['epsilon']:g}",
                f"{row['kept']:.1%}",
                f"{row['accuracy']:.2%}",
                f"{100 * (row['accuracy'] - row['accuracy_dense']):+.2f}",
                f"{row['output_error']:.3f}",
                f"{row['worst_gap']:.1e}",
                f"{row['worst_violation']:.1e}",
            ]
    assert not shown


def test_the_rows_of_the_transformer_are_those_of_the_committed_report():
    report = json.loads((ROOT / "benchmarks" / "results" / "transformer.json").read_text())
    shown = rows_of("### A transformer encoder")
    assert len(shown) == len(report["rows"])
    for cells, row in zip(shown, report["rows"], strict=True):
        assert row["solved"]
        assert cells == [
            f"{row['settings']['epsilon']:g}",
            f"{row['kept']:.1%}",
            f"{row['accuracy']:.2%}",
            f"{100 * (row['accuracy'] - row['accuracy_dense']):+.2f}",
            f"{row['output_error'] / row['output_norm']:.3f}",
            f"{row['holdout_error']:.3f}",
        ]


def test_the_rows_at_the_same_size_are_those_of_the_committed_reports():
    shown = rows_of("### At the same size")
    for name in ("lenet300_sparsity", "lenet5_sparsity", "lenet5_budget"):
        report = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
        for scheme in dict.fromkeys(row["scheme"] for row in report["rows"]):
            rows = sorted((row for row in report["rows"] if row["scheme"] == scheme), key=lambda row: row["seed"])
            assert shown.pop(0) == [
                rows[0]["network"],
                "`sparsity=0.9`" if "sparsity" in name else "`budget=0.1`",
                scheme,
                ", ".join(str(row["seed"]) for row in rows),
                ", ".join(f"{row['kept']:.2%}" for row in rows),
                ", ".join(f"{100 * (row['accuracy_dense'] - row['accuracy']):.2f}" for row in rows),
            ]
    assert not shown


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


CITED = ["admm_vs_reference", "conic_curve", "linear_vs_skglm", "scaling", "high_accuracy", "memory", "agreement"]


@pytest.mark.parametrize("name", CITED)
def test_the_benchmarks_that_the_readme_cites_are_committed_and_quoted(name):
    report = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    within = report["limited"]["within"] if name == "scaling" else {}
    quoted = {
        "admm_vs_reference": lambda: f"{report['ratio']:.0f}x",
        "conic_curve": lambda: f"{report['ratio']:.0f}x as fast | `python -m benchmarks.conic_curve`",
        "linear_vs_skglm": lambda: (
            f"{report['ratios']['skglm, Lasso']:.0f}x as fast | `python -m benchmarks.linear_vs_skglm` |"
            f"|{report['ratios']['skglm']:.1f}x and {report['ratios']['scikit-learn']:.1f}x"
        ),
        "scaling": lambda: (
            f"all 60,000 images, certified 1e-3 | {report['rows']['P'][-1]['median']:.0f} s |"
            f"|| {within['anonymous'] / 1e6:.0f} of {within['limit'] / 1e6:.0f} MB |"
            f"|{report['exponents']['P']['seconds']:.2f} and {report['exponents']['M']['seconds']:.2f}"
        ),
        "high_accuracy": lambda: f"{report['difference']:.0e} relative",
        "memory": lambda: f"{report['total']:.1f} arrays",
        "agreement": lambda: f"{report['spread']:.0e}",
    }[name]()
    assert f"python -m benchmarks.{name}" in README
    assert all(part in README for part in quoted.split("||"))


def test_the_rows_of_reweighting_are_those_of_the_committed_report():
    report = json.loads((ROOT / "benchmarks" / "results" / "reweighting.json").read_text())
    assert f"{report['dense']:.2f}%" in README
    shown = rows_of("### Reweighting and refit")
    assert len(shown) == len(report["rows"])
    for cells, row in zip(shown, report["rows"], strict=True):
        l1, rounds = row["l1"], row["reweighted"]
        assert cells == [
            f"{row['epsilon']:g}",
            f"{l1['kept']:.1f}%",
            f"{l1['lost']:.2f}",
            f"{rounds['kept']:.1f}%",
            f"{rounds['lost']:.2f}",
            f"{row['refit']['lost']:.2f}",
            f"{row['cascade']['kept']:.1f}%",
            f"{row['cascade']['lost']:.2f}",
            f"{row['magnitude']['lost']:.2f}",
        ]


def test_the_sentence_on_another_seed_is_that_of_its_committed_report():
    report = json.loads((ROOT / "benchmarks" / "results" / "reweighting_seed1.json").read_text())
    rows = [row["cascade"] for row in sorted(report["rows"], key=lambda row: row["epsilon"])]
    kept, lost = ([f"{row['kept']:.1f}%" for row in rows], [f"{row['lost']:.2f}" for row in rows])
    said = "kept {} and {} at 0.15, 0.28 and 0.4, for {} and {} points"
    said = said.format(", ".join(kept[:2]), kept[2], ", ".join(lost[:2]), lost[2])
    assert said in " ".join(README.split())


def test_ci_runs_the_readmes_own_test_command():
    assert "grep -m1 'python -m pytest' README.md" in (ROOT / ".ci" / "run").read_text()
    assert len(re.findall(r"^python3 -m venv .*pytest$", README, flags=re.MULTILINE)) == 1
    assert len(re.findall(r"^python3 -m venv .*nettrim demo$", README, flags=re.MULTILINE)) == 1
