"""The README tells the truth: its examples run, its commands are the ones CI runs, its numbers are in committed files."""

import json
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

import nettrim

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


def test_the_seconds_of_a_gpu_are_those_of_the_committed_report():
    report = json.loads((ROOT / "benchmarks" / "results" / "torch_backend.json").read_text())
    shape, iteration = report["shape"], next(row for row in report["iterations"] if row["dtype"] == "float32")
    torched, admm = report["certificates"]
    assert iteration["device"].startswith("NVIDIA") and torched["contender"] == f"torch, {iteration['device']}"
    assert admm["contender"] == "admm, 16 threads" and {torched["status"], admm["status"]} == {"SOLVED"}
    passed = torched["iterations"] * iteration["iteration"]
    told = (
        f"an {iteration['device']} an iteration of `torch` takes {1e3 * iteration['iteration']:.2f} ms on a layer of "
        f"{shape['N']} x {shape['M']} with {shape['P']:,} samples, {iteration['ratio']:.1f} times its two bare products; a "
        f"certified 1e-3 takes it {torched['seconds']:.1f} s, of which its {torched['iterations']} iterations would be "
        f"{passed:.1f} s at that pace, and `admm` on the 16 cores beside it {admm['seconds']:.1f} s (`python -m "
        f"benchmarks.torch_backend --contenders {' '.join(report['arguments']['contenders'])}`)"
    )
    assert told in " ".join(README.split())


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
