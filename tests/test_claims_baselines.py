"""Verdicts on the claims of other systems and of the theorems follow from rows by the conditions that are said there."""

import csv

import pytest
from reproduce import claim, claims_baselines, claims_theory
from reproduce.claim import without_loss

from benchmarks.baselines import lottery


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return what writes rows where the claims look for them."""
    monkeypatch.setattr(claims_baselines, "RESULTS", tmp_path)
    monkeypatch.setattr(claim, "RESULTS", tmp_path)

    def rows(name, found):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(field for row in found for field in row)), restval="")
            writer.writeheader()
            writer.writerows(found)

    return rows


@pytest.mark.parametrize(("lost", "same"), [(0, True), (-1, True), (0.1, None), (0.11, False)])
def test_no_loss_is_none_and_in_part_a_tenth_of_a_point(lost, same):
    assert without_loss(lost) is same


@pytest.mark.parametrize(
    ("bytes_", "accuracy", "same"), [(2, 0.98, True), (2, 0.9795, None), (2, 0.97, False), (3, 0.98, False)]
)
def test_deep_compression_is_judged_by_size_and_loss(write, bytes_, accuracy, same):
    steps = (("dense", 100, 0.98), ("coded", bytes_, accuracy))
    write("baseline_deep_compression.csv", [{"network": "a", "step": s, "bytes": b, "accuracy": a} for s, b, a in steps])
    assert claims_baselines.deep_compression().same is same


@pytest.mark.parametrize(("accuracy", "same"), [(0.99, True), (0.98, None), (0.9, False)])
def test_binary_networks_are_judged_by_their_error(write, accuracy, same):
    write("baseline_binarize.csv", [{"variant": v, "epochs": 1, "accuracy": a} for v, a in (("binary", accuracy), ("x", 0))])
    assert claims_baselines.binary().same is same


@pytest.mark.parametrize(("after", "same"), [((160, 170), True), ((170, 170), None), ((170, 190), False)])
def test_han_s_rate_is_judged_on_the_mean_of_networks_after_the_last_round(write, after, same):
    steps = (("dense", (160, 170)), ("round 1 retrained", (500, 500)), ("round 2 retrained", after))
    write(
        "baseline_han.csv",
        [
            {"case": "a", "seed": seed, "step": step, "errors": errors[seed], "kept": 0.1}
            for step, errors in steps
            for seed in (0, 1)
        ],
    )
    assert claims_baselines.pruned("a").same is same


@pytest.mark.parametrize(("second", "same"), [((1, 1), True), ((1, 4), None), ((5, 5), False)])
def test_penalties_are_judged_on_every_seed_and_then_on_means(write, second, same):
    pair = claims_baselines.Pair("x", "one", "two", 1)
    found = [
        {"case": case, "step": "round 1 pruned", "errors": errors}
        for case, each in (("one", second), ("two", (3, 3)))
        for errors in each
    ]
    write("baseline_han.csv", found)
    assert claims_baselines.penalties("pruned", "l1", [pair]).same is same
    if same is not None:
        assert claims_baselines.penalties("pruned", "l2", [pair]).same is not same


def tickets(write, stops, ends):
    """Write two levels: iterations of early stops and accuracies, ticket and control."""
    found = [
        {
            **{"data": "mnist", "iterations": 6000, "scope": "layer", "round": number, "network": network, "seed": seed},
            **dict.fromkeys(("kept", *lottery.SHOWN), 0.1),
            **{"early_stop": stops[number][place] + seed, "accuracy": ends[number][place]},
        }
        for number in (7, 12)
        for place, network in enumerate(("ticket", "reinit"))
        for seed in (0, 1)
    ]
    write("baseline_lottery.csv", found)


@pytest.mark.parametrize(
    ("stops", "ends", "same"),
    [((10, 20), (0.98, 0.97), True), ((30, 20), (0.98, 0.97), None), ((30, 20), (0.96, 0.97), False)],
)
def test_tickets_are_judged_by_speed_and_accuracy(write, stops, ends, same):
    tickets(write, {7: stops, 12: (1, 2)}, {7: ends, 12: (0.9, 0.8)})
    assert claims_baselines.tickets("7").same is same


@pytest.mark.parametrize(
    ("stops", "ends", "same"),
    [((10, 40), (0.98, 0.95), True), ((10, 15), (0.98, 0.95), None), ((10, 15), (0.98, 0.975), False)],
)
def test_the_gap_of_tickets_grows_in_both(write, stops, ends, same):
    tickets(write, {7: (10, 20), 12: stops}, {7: (0.98, 0.97), 12: ends})
    found = claims_baselines.growing()
    assert found.same is same and "1.00 and " in found.text


@pytest.mark.parametrize(("soft", "same"), [((70, 70), True), ((120, 130), None), ((120, 150), False)])
def test_students_are_judged_by_half_of_the_errors(write, soft, same):
    found = [
        {"student": "784-800-800-10", "temperature": 20, "without": "", "step": step, "errors": errors}
        for step, each in (("labels", (140, 150)), ("distilled", soft), ("teacher", (60,)))
        for errors in each
    ]
    write("baseline_distillation.csv", found)
    assert claims_baselines.students().same is same


@pytest.mark.parametrize(("ours", "same"), [(0.9, True), (0.6, None), (0.1, False)])
def test_targeting_is_judged_against_every_other_training(write, ours, same):
    found = [
        {"by": by, "training": training, "pruned": level, "accuracy": accuracy}
        for by in ("weights", "units")
        for training, accuracy in (
            (f"{by}, ramping 0.99 of 0.95", ours),
            ("none", 0.5),
            ("dropout 0.25", 0.7),
            ("dropout 0.5", 0.7),
        )
        for level in ("0.9", "0.95")
    ]
    write("baseline_targeted_dropout.csv", found)
    assert claims_baselines.targeted().same is same


@pytest.mark.parametrize(
    ("parameters", "after", "same"), [(0.3, 0.99, True), (0.3, 0.9895, None), (0.3, 0.98, False), (0.4, 0.99, False)]
)
def test_factors_are_judged_by_parameters_and_loss(write, parameters, after, same):
    row = {"network": "lenet5", "settings": '{"method": "cp", "rank": "evbmf"}', "dense_accuracy": 0.99}
    row |= {"parameters": parameters, "accuracy_after": after}
    write("baseline_low_rank.csv", [row, row | {"network": "lenet300", "accuracy_after": 0.1}])
    assert claims_baselines.factors().same is same


@pytest.mark.parametrize(
    ("parameters", "accuracy", "same"), [(4, 0.99, True), (4, 0.9895, None), (4, 0.98, False), (6, 0.99, False)]
)
def test_fire_modules_are_judged_beside_lenet5(write, parameters, accuracy, same):
    ours = {
        "network": "squeezenet_small",
        "squeeze_ratio": 0.25,
        "epochs": 12,
        "parameters": parameters,
        "accuracy": accuracy,
    }
    other = {"network": "lenet5", "squeeze_ratio": "", "epochs": 8, "parameters": 100, "accuracy": 0.99}
    write("baseline_squeezenet.csv", [ours, other])
    assert claims_baselines.fire_modules().same is same


@pytest.mark.parametrize(("four", "same"), [(0.98, True), (0.9795, None), (0.97, False)])
def test_few_bits_are_judged_by_loss(write, four, same):
    found = [
        {"network": "lenet300", "bits": bits, "activation_bits": bits, "step": step, "accuracy": accuracy}
        for bits, step, accuracy in (("dense", "dense", 0.98), ("4", "in training", four), ("2", "in training", 0.5))
    ]
    write("baseline_quantize.csv", found)
    assert claims_baselines.few_bits().same is same


@pytest.mark.parametrize(("last", "same"), [("True", True), ("False", False)])
def test_bounds_hold_in_all_trims_or_not_at_all(write, last, same):
    write("tightness.csv", [{"source": s, "holds": h} for s, h in (("a", "True"), ("b", last), ("WRONG: c", "False"))])
    assert claims_theory.theorems().same is same


@pytest.mark.parametrize(("last", "same"), [("True", True), ("False", False)])
def test_the_promise_of_recovery_is_kept_in_all_rows_of_gaussian_inputs_or_not_at_all(write, last, same):
    row = {"ensemble": "gaussian", "consistent": "True", "recovered": 9, "trials": 10}
    write(
        "recovery_theorem3.csv",
        [row, row | {"consistent": last, "recovered": 8}, row | {"ensemble": "other", "consistent": "False"}],
    )
    found = claims_theory.theorem3()
    assert found.same is same and "80.0% of the draws" in found.text
