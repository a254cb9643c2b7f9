"""Rows of figures: frozen settings, one file each, resumed, the same for any number of processes."""

import itertools
import json
import subprocess
import sys

import figures
import pytest
from figures import main
from reproduce import catalog, spirals
from reproduce import figure as made
from reproduce.catalog import FIGURES
from reproduce.figure import RESULTS, Figure

from benchmarks import rows
from nettrim.data import load
from nettrim.errors import DataError


def cases(settings):
    for a, b in itertools.product(settings["a"], "xy"):
        yield {"a": a, "b": b}


def measured(settings, case, networks):
    return [{"value": case["a"] * settings["factor"], "name": case["b"] * 2, "part": part} for part in range(2)]


TOY = Figure("toy", "nowhere", {"a": [1, 2, 3], "factor": 0.1}, cases, measured, quick={"a": [1]})


def test_a_run_goes_on_from_its_rows(tmp_path, monkeypatch):
    path = TOY.make(folder=tmp_path)
    whole = path.read_bytes()
    assert len(TOY.read(folder=tmp_path)) == 3 * 2 * 2 and TOY.read(folder=tmp_path)[2]["value"] == "0.1"
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[: 2 + 4]))
    asked = []
    again = Figure(TOY.name, TOY.source, TOY.settings, cases, lambda s, c, n: asked.append(c) or measured(s, c, n))
    assert again.make(folder=tmp_path) == path and path.read_bytes() == whole and len(asked) == 4
    monkeypatch.setattr(rows, "append", None)
    assert again.make(folder=tmp_path).read_bytes() == whole


def test_an_interrupted_run_keeps_whole_cases(tmp_path):
    def cut(settings, case, networks):
        if (case["a"], case["b"]) == (2, "x"):
            raise KeyboardInterrupt
        return measured(settings, case, networks)

    with pytest.raises(KeyboardInterrupt):
        Figure(TOY.name, TOY.source, TOY.settings, cases, cut).make(folder=tmp_path)
    assert [row["name"] for row in TOY.read(folder=tmp_path)] == ["xx", "xx", "yy", "yy"]
    assert TOY.make(folder=tmp_path).read_text().count("\n") == 2 + 12


def test_other_settings_are_another_file(tmp_path):
    quick = TOY.frozen(quick=True)
    assert quick == {"a": [1], "factor": 0.1} and TOY.frozen(factor=0.2)["factor"] == 0.2
    assert TOY.make(quick, folder=tmp_path) != TOY.make(folder=tmp_path) != TOY.path(TOY.frozen(factor=0.2), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="toy has no setting 'b'; it has a, factor"):
        TOY.frozen(b=1)


def test_the_file_tells_how_its_rows_were_made(tmp_path, monkeypatch):
    monkeypatch.setattr(made, "_commit", lambda: "first")
    path = TOY.make(TOY.frozen(a=[1]), folder=tmp_path)
    (line,) = rows.comments(path)
    told = json.loads(line)
    assert told["settings"] == {"a": [1], "factor": 0.1} and told["commits"] == ["first"] and "numba" in told["versions"]
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    monkeypatch.setattr(made, "_commit", lambda: "second")
    TOY.make(TOY.frozen(a=[1]), folder=tmp_path)
    assert json.loads(*rows.comments(path))["commits"] == ["first", "second"]


def test_rows_that_are_missing_say_what_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run python notebooks/figures.py toy"):
        TOY.read(folder=tmp_path)


def test_the_command_lists_figures_and_refuses_what_is_none(tmp_path, capsys):
    main([])
    listed = capsys.readouterr().out
    assert all(name in listed for name in FIGURES) and "minutes" in listed
    for asked, said in (
        (["magic"], "no figure is called 'magic'; there are "),
        (["spirals_runs", "--set", "seed=1"], "spirals_runs has no setting 'seed'"),
        (["spirals_runs", "--set", "seeds"], "--set takes KEY=JSON, such as seeds=[0,1]; got 'seeds'"),
        (["spirals_runs", "--set", "seeds=[0"], "--set seeds= takes JSON"),
        (["mnist_gains", "--data", "magic", "--jobs", "1"], "no data set is called 'magic'; there are mnist5k, "),
    ):
        with pytest.raises(SystemExit):
            main([*asked, "--out", str(tmp_path)])
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_makes_a_figure_by_its_own_processes_and_keeps_networks(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Figure, "make", lambda self, settings, **how: asked.append(how))
    main(["spirals_runs", "convergence"])
    main(["convergence", "--jobs", "3", "--networks", str(tmp_path)])
    assert [how["n_jobs"] for how in asked] == [2, 1, 3]  # seconds are measured by one
    assert [how["networks"] for how in asked] == [figures.NETWORKS, figures.NETWORKS, tmp_path]


def test_the_command_takes_other_data(monkeypatch):
    asked = []
    monkeypatch.setattr(Figure, "make", lambda self, settings, **how: asked.append((self.name, settings)))
    main(["mnist_gains", "size", "--data", "mnist5k"])
    for name, settings in asked:
        assert settings == FIGURES[name].settings | {"data": "mnist5k"} != FIGURES[name].settings
    assert [name for name, _ in asked] == ["mnist_gains", "size"]


@pytest.mark.parametrize("name", FIGURES)
def test_committed_rows_are_those_of_the_settings(name):
    figure, found = FIGURES[name], list(RESULTS.glob(f"{name}-*.csv"))
    still_open = catalog.PAGE.read_text(encoding="utf-8").split("## Open", 1)[1]
    assert (f"figures.py {name}`" in still_open) == (not found)  # what was not made is said to be open
    if not found:
        return
    (path,) = found
    assert path == figure.path() and json.loads(*rows.comments(path))["settings"] == figure.settings
    wanted = [tuple(map(rows.shown, case.values())) for case in figure.cases(figure.settings)]
    assert rows.done(path, *next(figure.cases(figure.settings))) == set(wanted)


def test_the_command_runs_anywhere_with_any_number_of_processes(tmp_path):
    script = figures.__file__
    for jobs in ("1", "2"):
        asked = [sys.executable, script, "spirals_sweep", "--quick", "--set", "seeds=[0]", "--jobs", jobs, "--out", jobs]
        subprocess.run(asked, cwd=tmp_path, check=True, capture_output=True)
    one, two = (next((tmp_path / jobs).iterdir()) for jobs in "12")
    assert one.name == two.name and one.read_bytes() == two.read_bytes()


def small(figure, tmp_path):
    settings = figure.frozen(quick=True)
    return rows.read(figure.make(settings, folder=tmp_path)), settings


def test_the_paper_s_points_are_asked_for(monkeypatch):
    monkeypatch.delenv("NETTRIM_DATA", raising=False)
    assert spirals.points({"data": "any"}).name == "spirals (generated)"
    with pytest.raises(DataError, match="let NETTRIM_DATA name a folder with spiral"):
        spirals.points({"data": "spirals"})


def test_runs_of_the_spirals_in_small(tmp_path):
    found, settings = small(spirals.RUNS, tmp_path)
    assert [row["run"] for row in found] == ["1", "2"] and {row["solved"] for row in found} == {"True"}
    for row in found:
        assert all(int(row[f"after_{n}"]) <= settings["hidden"] * (2, settings["hidden"], 2)[n - 1] for n in (1, 2, 3))
        # Measured twice, in float64 from the network and by the report; and proved.
        assert float(row["discrepancy"]) == pytest.approx(float(row["output_error"]), rel=1e-4)
        assert float(row["output_error"]) <= float(row["bound"]) * (1 + 1e-6) and float(row["kappa"]) in spirals.KAPPAS


def test_pictures_of_the_spirals_in_small(tmp_path):
    weights, settings = small(spirals.WEIGHTS, tmp_path)
    assert len(weights) == 2 * 2 * settings["hidden"] and len(weights[0]["weights"].split()) == settings["hidden"]
    grid, settings = small(spirals.MAP, tmp_path)
    assert len(grid) == 2 * settings["points"] ** 2
    model, result, _ = spirals.run(settings, "1", settings["seed"])
    x, y = float(grid[0]["x"]), float(grid[0]["y"])
    point = load("spirals").x_train[:1] * 0 + load("spirals").x_train.new_tensor([x, y])
    for when, network in (("before", model), ("after", result.model)):
        outputs = network(point)[0].tolist()
        assert float(grid[0][when]) == pytest.approx(outputs[1] - outputs[0], rel=1e-2)


def test_tables_of_the_spirals_in_small(tmp_path):
    found, settings = small(spirals.TABLES, tmp_path)
    assert [row["table"] for row in found] == ["S.1", "S.2"]
    for row in found:
        assert float(row["discrepancy"]) < settings["discrepancy"]
        # The radius is the largest of the grid: the next one is too large.
        model = spirals.trained(10, 0, **settings["tables"][row["table"]], **spirals.how_trained(settings))
        data = load("spirals")
        more, _ = spirals.cascade(model, data, float(row["epsilon"]) * settings["ratio"], [1.0], settings["cascade"])
        assert spirals.discrepancy(model, more.model, data) >= settings["discrepancy"]
