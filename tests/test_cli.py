"""The command line, run as a user runs it: a fresh process, a temporary folder, and the exit codes that are promised."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import solvers
from nettrim import load
from solvers.backends import _kernels, _lapack, _sets
from tests.networks import samples, small

ROOT = Path(solvers.__file__).parent.parent
SOLVES = """
import numpy as np
from solvers import LayerProblem, solve
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    X, H, W = (rng.standard_normal(shape).astype(dtype) for shape in ((9, 60), (9, 60), (9, 5)))
    for make, args in ((LayerProblem.parallel, (X, W, 0.2)), (LayerProblem.linear, (X, W, 0.2)),
                       (LayerProblem.parallel, (X, W, 0.0)), (LayerProblem.cascade, (X + H / 5, X, W, 1.1))):
        for tol in (1e-3, 1e-6):
            solve(make(*args), tol=tol, throw=False, max_iter=300)
"""
KERNELS = {
    f"{module.__name__.split('.')[-1]}.{name}"
    for module in (_kernels, _lapack, _sets)
    for name, thing in vars(module).items()
    if hasattr(thing, "py_func")
}
FACTORY = "from tests.networks import small\ndef number():\n    return 7\n"


def nettrim(*arguments, cwd, env=None):
    command = [sys.executable, "-m", "nettrim.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def folder(tmp_path, request):
    """A folder with a factory module, weights and calibration samples."""
    text = f"import sys\nsys.path.insert(0, {str(request.config.rootpath)!r})\n{FACTORY}"
    (tmp_path / "mine.py").write_text(text)
    save_file(small().state_dict(), tmp_path / "w.safetensors")
    np.save(tmp_path / "x.npy", samples().numpy())
    return tmp_path


def request(model="mine:small", weights="w.safetensors", calibration="x.npy"):
    return ["trim", "--model", model, "--weights", weights, "--calibration", calibration, "--out", "out"]


def test_trim_end_to_end(folder):
    done = nettrim(*request(), "--epsilon", "0.2", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["solved"] is True
    assert report["settings"]["epsilon"] == 0.2
    assert "wrote" in done.stderr
    back = load(folder / "out", small())
    assert [row.name for row in back.layers] == ["1", "4", "6"]
    assert 0 < back.kept < 1
    weights = load_file(folder / "out" / "model.safetensors")
    assert sum(int((value != 0).sum()) for value in weights.values()) == back.parameters_kept


def test_every_option_of_a_trim_reaches_it(folder):
    options = ["--sparsity", "0.5", "--scheme", "cascade", "--gamma", "1.3", "--kappa", "0.9", "--rounds", "1", "--refit"]
    options += [
        "--target",
        "re:^[14]",
        "--ignore",
        "4",
        "--holdout",
        "x.npy",
        "--checkpoint",
        "kept",
        "--n-jobs",
        "1",
        "--confidence",
        "0.8",
    ]
    done = nettrim(*request(), *options, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    asked = {"sparsity": 0.5, "scheme": "cascade", "gamma": 1.3, "kappa": 0.9, "rounds": 1, "refit": True}
    asked |= {"targets": ["re:^[14]"], "ignore": ["4"]}
    assert {name: report["settings"][name] for name in asked} == asked
    assert [layer["status"] for layer in report["layers"]] == ["SOLVED", "DENSE", "DENSE"]
    assert report["layers"][0]["holdout"] == pytest.approx(report["layers"][0]["achieved"], rel=1e-4)
    assert report["unseen"]["confidence"] == 0.8
    assert (folder / "kept" / "1.npz").exists()


@pytest.mark.parametrize(("budget", "asked"), [("0.4", 0.4), ("90", 90.0), ("1.2 kB", "1.2 kB")])
def test_a_budget_is_a_number_or_has_a_unit(folder, budget, asked):
    done = nettrim(*request(), "--budget", budget, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["settings"]["budget"] == asked


def test_a_table_without_json(folder):
    done = nettrim(*request(), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout
    assert "SOLVED" in done.stdout


def test_a_missed_certificate_is_exit_code_3_and_the_output_is_written(folder):
    done = nettrim(*request(), "--max-iter", "1", "--json", cwd=folder)
    assert done.returncode == 3
    assert "missed its certificate" in done.stderr
    assert json.loads(done.stdout)["solved"] is False
    assert load(folder / "out", small()).kept == 1.0


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"model": "mine"}, 2, "module:factory"),
        ({"model": "mine:absent"}, 2, "cannot be imported"),
        ({"model": "mine:number"}, 1, "made a int"),
        ({"weights": "absent.safetensors"}, 2, "does not exist"),
        ({"weights": "x.npy"}, 1, "not a safetensors file"),
        ({"calibration": "w.safetensors"}, 1, "not an .npy file"),
        ({"calibration": "bad.npy"}, 1, "do not fit the model"),
        ({"epsilon": "-1"}, 1, "epsilon must be"),
        ({"backend": "simplex"}, 1, "no backend is called 'simplex'"),
        ({"epsilon": "much"}, 2, "unable to parse"),
    ],
)
def test_refusals_are_one_line_with_their_code_and_write_nothing(folder, change, code, message):
    np.save(folder / "bad.npy", np.zeros((3, 5), np.float32))
    files = {key: change[key] for key in ("model", "weights", "calibration") if key in change}
    options = [part for key in ("epsilon", "backend") if key in change for part in (f"--{key}", change[key])]
    done = nettrim(*request(**files), *options, cwd=folder)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (folder / "out").exists()


def test_solvers_and_version(tmp_path):
    done = nettrim("solvers", "--json", cwd=tmp_path)
    assert done.returncode == 0
    listed = json.loads(done.stdout)
    assert listed["admm"] == {"available": True, "reason": None}
    assert {"admm", "cvxpy", "reference"} <= set(listed)
    assert "reference" in nettrim("solvers", cwd=tmp_path).stdout
    assert nettrim("--version", cwd=tmp_path).stdout.strip()
    assert nettrim("prune", cwd=tmp_path).returncode == 2


def test_warmup_fills_the_cache_that_it_names(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = nettrim("warmup", "--json", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert list(first["seconds"]) == solvers.available() and min(first["seconds"].values()) >= 0
    folder = Path(first["cache"])
    assert folder.is_relative_to(tmp_path / "cache")
    files = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert {name.split("-")[0] for name in files} == KERNELS
    again = nettrim("warmup", cwd=tmp_path, env=environment)
    assert again.returncode == 0, again.stderr
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == files  # loaded, not compiled
    assert all(name in again.stdout for name in solvers.available())
    assert str(tmp_path) in again.stdout.replace("\n", "")
    done = subprocess.run(
        [sys.executable, "-c", SOLVES], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == files  # nothing was left to compile


def test_demo_writes_its_report_and_its_picture(tmp_path):
    arguments = ["demo", "--epochs", "2", "--samples", "300", "--epsilon", "0.3", "--epsilon", "0.6", "--json", "--out", "d"]
    done = nettrim(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "d" / "report.json").read_text())
    assert [row["epsilon"] for row in report["rows"]] == [0.3, 0.6]
    assert all(row["solved"] and row["worst_gap"] <= 1e-3 and row["worst_violation"] <= 1e-3 for row in report["rows"])
    assert report["rows"][0]["kept"] > report["rows"][1]["kept"] > 0
    assert (tmp_path / "d" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    assert nettrim("demo", "--data", "svhn", cwd=tmp_path).returncode == 1
