"""The study of Theorem 3: the same bytes however it is run, and summaries that are those of the trials."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import phase_transition
from theory import draw_trial, least_samples, quantile, recovery_samples


@pytest.fixture
def small(monkeypatch):
    """Return two cells and a run of them in a folder, small enough to take a second."""
    cells = [phase_transition.Cell("gaussian", 1, 20, s) for s in (1, 3)] + [phase_transition.Cell("bernoulli", 1, 20, 2)]

    def run(folder, n_jobs=1, trials=6):
        folder.mkdir(exist_ok=True)
        phase_transition.run_trials(cells, trials, 5, n_jobs, folder)
        phase_transition.summarize(folder, 5)
        return {path.name: path.read_bytes() for path in folder.glob("*.csv")}

    return run


def test_the_study_gives_the_same_bytes_cut_off_or_not_and_for_any_number_of_processes(small, tmp_path):
    whole = small(tmp_path / "whole")
    names = ("phase_transition", "recovery_theorem3", "recovery_lines", "recovery_constant")
    assert set(whole) == {f"{name}.csv" for name in names}
    assert small(tmp_path / "two", n_jobs=2) == whole
    half = tmp_path / "half"
    half.mkdir()
    lines = whole["phase_transition.csv"].splitlines(keepends=True)
    (half / "phase_transition.csv").write_bytes(b"".join(lines[:7]))  # the header and a cell
    assert small(half) == whole
    before = (half / "phase_transition.csv").stat().st_mtime_ns
    small(half)
    assert (half / "phase_transition.csv").stat().st_mtime_ns == before  # nothing is left to do
    more = small(half, trials=8)["phase_transition.csv"]
    assert set(lines) < set(more.splitlines(keepends=True)) and more.count(b"\n") == 1 + 3 * 8


def test_rows_of_another_seed_are_not_mixed_in(small, tmp_path):
    small(tmp_path)
    with pytest.raises(SystemExit, match="another seed than 6"):
        phase_transition.run_trials([], 6, 6, 1, tmp_path)


def test_the_summaries_are_those_of_the_trials(small, tmp_path):
    small(tmp_path)
    trials = phase_transition.read(tmp_path / "phase_transition.csv")
    cells = phase_transition.grouped(trials)
    assert [len(values) for values in cells.values()] == [6, 6, 6]
    cell = phase_transition.Cell("gaussian", 1, 20, 3)
    draw, N, s, key = phase_transition.drawn(cell, 5, 2)
    assert cells[cell][2] == least_samples(*draw_trial(draw, N, s, 300, key))
    for row in phase_transition.line_rows(cells):
        assert row["P"] == quantile(cells[phase_transition.cell_of(row)], row["share"]).value
    for row in phase_transition.theorem_rows(cells):
        values = cells[phase_transition.cell_of(row)]
        assert row["recovered"] == sum(value <= row["P"] for value in values) and row["trials"] == 6
        assert (row["promised"] == "") == (row["ensemble"] != "gaussian")
    # At Theorem 3's P is within it; a line that is not reached is left out of a fit, and counted.
    few = phase_transition.Cell("gaussian", 1, 20, 1)
    P = recovery_samples(20, 1, 1.1)
    found = phase_transition.theorem_rows({few: [P - 1, P, P + 1, math.inf]})[0]
    assert (found["P"], found["recovered"], found["trials"]) == (P, 2, 4)
    never = {few._replace(ensemble="relu_filtered"): [9.0, 8.0, 7.0, math.inf]}
    rows = phase_transition.constant_rows({**never, few._replace(ensemble="relu_filtered", s=2): [9.0] * 4}, 5)
    assert [(row["N"], row["share"], row["cells"], row["left_out"]) for row in rows] == [
        (20, 0.5, 2, 0),
        (20, 0.95, 1, 1),
        ("all", 0.5, 2, 0),
        ("all", 0.95, 1, 1),
    ]


def test_no_two_trials_share_a_key():
    cell = phase_transition.Cell("correlated", 10, 20, 3)
    others = [cell._replace(ensemble="uniform"), cell._replace(condition=2), cell._replace(N=21), cell._replace(s=4)]
    asked = [(cell, 5, 2), (cell, 5, 3), (cell, 6, 2), *((other, 5, 2) for other in others)]
    assert len({tuple(phase_transition.drawn(*one)[3]) for one in asked}) == len(asked)


def test_a_noisy_trial_is_measured_in_both_units():
    cell = phase_transition.Cell("gaussian", 1, 20, 2)
    draw, N, s, key = phase_transition.drawn(cell, 5, 1)
    X, w = draw_trial(draw, N, s, 100, key)
    error, relative, found = phase_transition.noisy_trial(cell, 100, 0.01, 5, 1)
    # ||w_hat - w|| / epsilon, and the same with ||w_hat - w|| / ||w|| and epsilon / ||Y||.
    assert error / relative == pytest.approx(np.linalg.norm(w) / np.linalg.norm(np.maximum(w @ X, 0)))
    assert found and 0 < relative < 2


RESULTS = Path(phase_transition.__file__).parent.parent / "notebooks" / "results"


def test_the_committed_summaries_are_those_of_the_committed_trials():
    cells = phase_transition.grouped(phase_transition.read(RESULTS / "phase_transition.csv"))
    assert {len(values) for values in cells.values()} == {200}
    made = {
        "theorem3": phase_transition.theorem_rows(cells),
        "lines": phase_transition.line_rows(cells),
        "constant": phase_transition.constant_rows(cells, 0),
    }
    for name, rows in made.items():
        committed = phase_transition.read(RESULTS / f"recovery_{name}.csv")
        assert len(committed) == len(rows)
        for theirs, ours in zip(committed, rows, strict=True):
            assert list(theirs) == list(ours)
            for key, value in ours.items():
                if isinstance(value, float):  # files keep seven digits
                    assert float(theirs[key]) == pytest.approx(value, rel=1e-6)
                else:
                    assert theirs[key] == str(value)


@pytest.mark.parametrize("place", [0, 7000, 20000, 28799])
def test_a_committed_trial_is_what_it_says(place):
    row = phase_transition.read(Path(__file__).parent.parent / "notebooks" / "results" / "phase_transition.csv")[place]
    found = phase_transition.run_trial(phase_transition.cell_of(row), int(row["seed"]), int(row["trial"]))
    assert found == float(row["P_star"])
