"""What the README and the page of the baselines say: every number of their tables comes from a committed row."""

import re
from pathlib import Path

import pytest

from benchmarks.baselines import _tables, lottery
from benchmarks.baselines.__main__ import RESULTS, tables
from nettrim import baselines
from nettrim.models import mlp

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = _tables.PAGE.read_text(encoding="utf-8")


def test_the_list_of_methods_is_whole():
    listed = README.split("## Other ways to compress a network", 1)[1].split("```", 1)[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", listed, flags=re.MULTILINE)) == baselines.available()


def test_the_example_of_a_baseline_runs(tmp_path, monkeypatch, capsys):
    from nettrim.data import mnist5k

    monkeypatch.chdir(tmp_path)
    (block,) = [text for text in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "baselines" in text]
    scope = {"model": mlp((784, 20, 10)), "images": mnist5k(n_test=4500)}
    exec(block, scope)
    assert 0.09 < scope["pruned"].kept <= 0.1 and len(capsys.readouterr().out.split()) == 2
    assert {path.name for path in (tmp_path / "pruned").iterdir()} == {
        "model.safetensors",
        "masks.safetensors",
        "report.json",
    }


def test_the_page_has_the_tables_of_the_committed_rows_and_no_other():
    made = tables(ROOT / RESULTS)
    assert _tables.put(PAGE, made) == PAGE
    assert sorted(re.findall(r"^### (.*)", PAGE, flags=re.MULTILINE)) == sorted(made)


def test_a_cell_that_is_not_of_the_rows_is_put_right():
    forged = PAGE.replace("41.0x", "49.0x")
    assert forged != PAGE and _tables.put(forged, tables(ROOT / RESULTS)) == PAGE


def test_a_table_without_a_place_is_refused():
    with pytest.raises(ValueError, match="no table under 'Another'"):
        _tables.put(PAGE, {"Another": [["head"], ["cell"]]})
    assert _tables.put(PAGE, {"Another": [["a study that was not run"]]}) == PAGE


def test_means_have_standard_errors_where_there_are_several_values():
    assert _tables.mean([1.0, 2.0, 3.0]) == "2.00 (0.58)"
    assert _tables.mean([1234.0], 0) == "1,234"
    assert _tables.percent([{"share": ""}, {"share": "0.5"}], "share", 1) == "50.0 %"
    assert _tables.percent([{"share": ""}], "share") == "-"


def test_tickets_win_on_every_seed():
    found = lottery.by_seed(ROOT / RESULTS / "baseline_lottery.csv")
    for number in ("7", "12"):  # 21 and 7 % of the weights
        ticket, again = (found["mnist", "6000", "layer", number, network] for network in ("ticket", "reinit"))
        assert len(ticket["kept"]) == 3 and round(100 * ticket["kept"][0]) == {"7": 21, "12": 7}[number]
        assert all(a < b for a, b in zip(ticket["early_stop"], again["early_stop"], strict=True))
        assert all(a > b for a, b in zip(ticket["accuracy"], again["accuracy"], strict=True))


def test_files_of_deep_compression_decode_to_what_was_coded():
    found = _tables.grouped(ROOT / RESULTS / "baseline_deep_compression.csv", "network", "seed")
    for cases in found.values():
        of = {row["step"]: row for row in cases}
        assert of["coded"]["errors"] == of["tuned"]["errors"] and of["coded"]["loss"] == of["tuned"]["loss"]
        assert int(of["dense"]["bytes"]) >= 40 * int(of["coded"]["bytes"])


def test_networks_on_bits_make_the_errors_of_their_float_twins():
    of = _tables.grouped(ROOT / RESULTS / "baseline_binarize.csv", "variant")
    assert all(row["bit_errors"] == row["errors"] for row in of["binary",])
    assert min(float(row["accuracy"]) for row in of["binary",]) >= 0.97


def test_students_gain_by_soft_targets_on_every_seed():
    of = _tables.grouped(ROOT / RESULTS / "baseline_distillation.csv", "student", "temperature", "without", "step")
    labels, soft = (
        {row["seed"]: int(row["errors"]) for row in of["784-800-800-10", "20", "", step]} for step in ("labels", "distilled")
    )
    assert len(labels) == 5 and all(soft[seed] < labels[seed] for seed in labels)
    never, raised = (of["784-800-800-10", "20", "3", step] for step in ("distilled", "bias raised"))
    for before, after in zip(never, raised, strict=True):  # most threes are told by a student that has seen none
        assert int(after["class_errors"]) < int(before["class_errors"]) < 100


@pytest.mark.parametrize(("by", "training"), [("weights", "ramping 0.99 of 0.95"), ("units", "ramping 0.99 of 0.95")])
def test_targeted_dropout_leaves_what_can_be_pruned(by, training):
    of = _tables.grouped(ROOT / RESULTS / "baseline_targeted_dropout.csv", "by", "training", "pruned")
    for level in ("0.9", "0.95"):
        ours = {row["seed"]: float(row["accuracy"]) for row in of[by, f"{by}, {training}", level]}
        assert len(ours) == 3
        for other in ("none", "dropout 0.25", "dropout 0.5"):
            theirs = {row["seed"]: float(row["accuracy"]) for row in of[by, other, level]}
            assert all(ours[seed] > theirs[seed] + 0.02 for seed in ours)  # two points at least


def test_rounds_of_pruning_are_better_than_one_and_plain_networks_lose_nothing():
    of = _tables.grouped(ROOT / RESULTS / "baseline_han.csv", "case", "step")

    def errors(case, step):
        return {row["seed"]: int(row["errors"]) for row in of[case, step]}

    once, rounds = (
        errors("lenet300, 12x, one-shot", "round 1 retrained"),
        errors("lenet300, 12x, iterative", "round 4 retrained"),
    )
    assert len(once) == 3 and all(rounds[seed] < once[seed] for seed in once)
    dense, left = (errors("lenet5, 12x, iterative, local", step) for step in ("dense", "round 3 convolutions retrained"))
    assert len(dense) == 3 and all(left[seed] <= dense[seed] for seed in dense)
    dense, left = (errors("plain, 12x, iterative", step) for step in ("dense", "round 4 retrained"))
    assert len(dense) == 3 and sum(left.values()) <= sum(dense.values())
    assert all(12 * int(row["weights"]) <= 266_200 for row in of["plain, 12x, iterative", "round 4 retrained"])


@pytest.mark.parametrize(
    ("l1", "l2", "told"),
    [
        ("plain, 12x, iterative, L1", "plain, 12x, iterative, L2 as in training", "1.65 against 1.77"),
        ("plain, 12x, iterative, L1 three times that", "plain, 12x, iterative", "1.62 against 1.73"),
        ("lenet300, 12x, iterative, L1", "lenet300, 12x, iterative", "1.41 against 1.48"),
    ],
)
def test_l1_is_better_before_retraining_and_l2_after_it(l1, l2, told):
    of = _tables.grouped(ROOT / RESULTS / "baseline_han.csv", "case", "step")
    for step, better in (("pruned", l1), ("retrained", l2)):
        errors = {case: [int(row["errors"]) for row in of[case, f"round 4 {step}"]] for case in (l1, l2)}
        (ahead,), (behind,) = ([errors[case] for case in (l1, l2) if (case == better) == wanted] for wanted in (True, False))
        assert len(ahead) == len(behind) == 3 and sum(ahead) < sum(behind)
        if l1.startswith("plain"):
            assert all(a < b for a, b in zip(ahead, behind, strict=True))
    assert told in PAGE.replace("\n", " ") and told == " against ".join(
        f"{sum(errors[case]) / 300:.2f}" for case in (l2, l1)
    )


def test_the_small_squeezenet_tells_digits_with_few_parameters():
    of = _tables.grouped(ROOT / RESULTS / "baseline_squeezenet.csv", "network", "squeeze_ratio", "epochs")
    ours, beside = of["squeezenet_small", "0.25", "12"], of["lenet5", "", "8"]
    assert len(ours) == len(beside) == 3 and min(float(row["accuracy"]) for row in ours) >= 0.985
    assert {int(beside[0]["parameters"]) // int(row["parameters"]) for row in ours} == {26}


def test_factors_are_as_near_as_tensorly_s_and_a_fifth_of_the_parameters_loses_nothing():
    for row in _tables.rows.read(ROOT / RESULTS / "baseline_low_rank_tensorly.csv"):
        assert float(row["ours"]) <= float(row["tensorly"]) + 5e-5  # alternating least squares, each stopped by its own rule
    of = _tables.grouped(ROOT / RESULTS / "baseline_low_rank.csv", "network", "settings")
    (rows,) = (rows for (_, told), rows in of.items() if '"data"' in told and "0.15" in told)
    assert len(rows) == 3 and all(float(row["parameters"]) < 0.22 for row in rows)
    assert sum(float(row["accuracy_after"]) - float(row["dense_accuracy"]) for row in rows) >= 0
