"""Han et al. 2015: rounds that come down as asked, local retraining, dead neurons, and runs that go on."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import rows
from benchmarks.baselines import han as study
from nettrim.baselines import han
from nettrim.baselines.han import _retraining as retraining
from nettrim.data import Data, mnist5k
from nettrim.errors import ModelError, SettingError
from nettrim.masks import impose, kept
from nettrim.models import mlp
from nettrim.recipes import NETWORKS, Recipe, trained
from tests.networks import Residual, samples
from tests.toys import plain, state, toy


def convolutional(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(24, 10), nn.ReLU(), nn.Dropout(0.4), nn.Linear(10, 3)),
        )


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_rounds_come_down_in_equal_ratios_and_retrain_from_the_values_that_are_left():
    model, data = plain(), toy()
    before = state(model)
    result = han.run(model, data, keep=0.125, spread="layer", rounds=3, epochs=1, learning_rate=1e-9, dead=False)
    assert same(before, state(model))
    assert [row["step"] for row in result.rows] == [
        "dense",
        *(f"round {number} {what}" for number in (1, 2, 3) for what in ("pruned", "retrained")),
    ]
    sizes = np.array([720, 240, 36])
    for number in (1, 2, 3):
        for row in result.rows[2 * number - 1 : 2 * number + 1]:
            # halves of the three layers, to a weight; in the end exactly an eighth of all, 124.5, to an even number
            assert np.abs(np.array(list(row["layers"].values())) - sizes / 2**number).max() <= 1
    assert result.rows[-1]["weights"] == 124 and all(row["neurons"] is None for row in result.rows)
    for name, mask in result.masks.items():
        weight, old = result.model.get_parameter(name).detach(), before[name]
        assert not weight[~mask].any()
        # Adam's steps are at most the step size: 3 of them here; so these are the old values, and the largest.
        assert (weight - old)[mask].abs().max() < 1e-7
        assert old[mask].abs().min() >= old[~mask].abs().max()
    moved = han.run(model, data, keep=0.125, spread="layer", rounds=3, epochs=1, dead=False)
    assert not same(state(moved.model), state(result.model))
    other = han.run(model, data, keep=0.125, spread="layer", rounds=3, epochs=1, dead=False, seed=1)
    assert not same(state(moved.model), state(other.model))  # the seed is of retraining too


def test_quality_by_hand_is_applied_to_what_is_left_in_each_round():
    model, data = plain(), toy()
    result = han.run(model, data, quality={"1.weight": 1.0, "4.weight": 0.5}, rounds=2, epochs=0, dead=False)
    left = model[1].weight.detach().numpy().astype(np.float64).ravel()
    for row in result.rows[1:]:
        left = left[np.abs(left) >= left.std()]
        assert row["layers"]["1.weight"] == len(left) and row["layers"]["7.weight"] == 36
        assert row["quality"] == {"1.weight": 1.0, "4.weight": 0.5, "7.weight": 0.0}
    assert result.rows[2]["layers"]["4.weight"] < result.rows[1]["layers"]["4.weight"]


def test_layers_keep_what_they_are_told_by_name():
    result = han.run(plain(), toy(), keep={"1.weight": 0.1, "4.weight": 0.25}, rounds=2, epochs=0, dead=False)
    assert result.rows[-1]["layers"] == {"1.weight": 72, "4.weight": 60, "7.weight": 36}


@pytest.mark.parametrize("spread", han.SPREADS)
def test_a_fraction_of_the_network_is_kept_however_it_is_spread(spread):
    result = han.run(plain(), toy(), keep=0.2, spread=spread, rounds=2, epochs=1, dead=False)
    assert result.rows[-1]["weights"] == round(0.2 * 996) == kept(result.model, result.masks)[0]
    if spread != "sensitivity":  # there layers come down at ratios of their own, whose sum is no power
        assert abs(result.rows[1]["weights"] - math.sqrt(0.2) * 996) < 2  # each of the three layers is rounded
    assert han.run(plain(), toy(), keep=0.2, spread=spread, rounds=2, epochs=1).rows[-1]["weights"] <= round(0.2 * 996)


def test_dead_neurons_go_and_change_nothing():
    model, data = plain(), toy()
    with torch.no_grad():
        model[1].weight[3] *= 1e-3  # loses all its inputs
        model[1].bias[3] = 2.0
    left, whole = (han.run(model, data, keep=0.3, spread="layer", rounds=1, epochs=0, dead=dead) for dead in (True, False))
    assert not left.masks["4.weight"][:, 3].any() and whole.masks["4.weight"][:, 3].any()
    assert left.rows[-1]["neurons"] < left.rows[0]["neurons"] == 32
    # The constant is added to a bias before other terms and not among them: a few roundings of 2^-24 of numbers up to 10.
    assert torch.allclose(left.model(data.x_test), whole.model(data.x_test), rtol=0, atol=1e-5)
    again = han.run(model, data, keep=0.3, spread="layer", rounds=1, epochs=2)
    # Retraining does not raise it again.
    assert not again.model.get_parameter("4.weight")[:, 3].any() and again.model[1].bias[3] == 0


def test_dropout_is_adjusted_in_retraining(monkeypatch):
    ratios = []
    real = retraining.train

    def watched(model, *args, **how):
        ratios.append([m.p for m in model.modules() if isinstance(m, nn.Dropout)])
        return real(model, *args, **how)

    monkeypatch.setattr(retraining, "train", watched)
    result = han.run(plain(), toy(), keep=0.25, spread="layer", rounds=2, epochs=1, dead=False)
    for row, found in zip(result.rows[1::2], ratios, strict=True):
        left = row["layers"]
        wanted = [0.5 * math.sqrt(left["1.weight"] / 720), 0.5 * math.sqrt(left["4.weight"] / 240)]
        assert found == pytest.approx(wanted, rel=1e-12)


def test_local_retraining_moves_one_kind_of_layers_at_a_time(monkeypatch):
    seen = []
    real = retraining.train

    def watched(model, *args, **how):
        after = real(model, *args, **how)
        seen.append((state(model), state(after), how["masks"]))
        return after

    monkeypatch.setattr(retraining, "train", watched)
    model, data = convolutional(), toy()
    result = han.run(model, data, keep=0.3, spread="layer", rounds=1, epochs=2, local=True, dead=False)
    assert [row["step"] for row in result.rows[1:]] == [
        f"round 1 {kind} {what}" for kind in ("linear", "convolutions") for what in ("pruned", "retrained")
    ]
    for (before, after, _), moving in zip(seen, ("4 7", "0"), strict=True):
        for name in before:
            assert torch.equal(before[name], after[name]) == (name.split(".")[0] not in moving)
    assert seen[0][2]["0.weight"].all() and not seen[1][2]["0.weight"].all()  # convolutions are pruned after linear layers
    assert all(parameter.requires_grad for parameter in result.model.parameters())
    with pytest.raises(SettingError, match="local retraining needs linear layers and convolutions"):
        han.run(plain(), data, local=True)


@pytest.mark.parametrize("how", [{}, {"spread": "quality"}, {"penalty": "l1", "strength": 1e-3}, {"local": True}])
def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(how, tmp_path, monkeypatch):
    model, data = convolutional(), toy()
    how = {"keep": 0.3, "rounds": 2, "epochs": 2, "seed": 3} | how
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    whole = han.run(model, data, **how)
    assert torch.equal(torch.random.get_rng_state(), before)
    real, calls = retraining.train, []

    def cut(*args, **more):
        calls.append(more["label"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(retraining, "train", cut)
    with pytest.raises(KeyboardInterrupt):
        han.run(model, data, **how, folder=tmp_path)
    resumed = han.run(model, data, **how, folder=tmp_path)
    trainings = 4 if how.get("local") else 2
    assert len(calls) == trainings + 1 and calls[1] == calls[2]  # the first was not made again
    read = han.run(model, data, **how, folder=tmp_path)
    assert len(calls) == trainings + 1
    for other in (resumed, read):
        assert other.rows == whole.rows and same(other.masks, whole.masks) and same(state(other.model), state(whole.model))
        assert [m.p for m in other.model.modules() if isinstance(m, nn.Dropout)] == [
            m.p for m in whole.model.modules() if isinstance(m, nn.Dropout)
        ]
    with pytest.raises(ModelError, match="another model, of other data or of other settings"):
        han.run(model, data, **how | {"seed": 4}, folder=tmp_path)


def test_what_makes_no_sense_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(retraining, "train", None)
    monkeypatch.setattr(han, "sensitivity", None)
    for wrong, why in (
        ({"keep": 0}, "keep must be above 0"),
        ({"keep": 1.5}, "keep must be a number in"),
        ({"keep": None}, "keep must be a number in"),
        ({"keep": {"8.weight": 0.1}}, "keep names '8.weight'"),
        ({"keep": {"1.weight": 2}}, r"keep of '1\.weight' must be"),
        ({"quality": -1}, "quality must be a number from 0 on"),
        ({"quality": {"1": 1}}, "quality names '1'"),
        ({"spread": "even"}, "spread must be one of"),
        ({"penalty": "l0"}, "penalty must be one of"),
        ({"strength": -1}, "strength must be"),
        ({"rounds": 0}, "rounds must be a whole number"),
        ({"epochs": -1}, "epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"samples": 0}, "samples must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"label_smoothing": 2}, "label_smoothing must be"),
        ({"local": "yes"}, "local must be one of"),
        ({"dead": None}, "dead must be one of"),
        ({"seed": -1}, "seed must be a whole number, at least 0; got -1"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"rounds": float("inf")}, "rounds must be a whole number"),
        ({"penalty": ["l2"]}, "penalty must be one of"),
    ):
        with pytest.raises(SettingError, match=why):
            han.run(plain(), toy(), **wrong)
    with pytest.raises(ModelError, match=r"no part of a chain.*: set dead=False to leave dead neurons where they are"):
        han.run(Residual(), Data("toy", samples(9), torch.arange(9) % 3, samples(9), torch.arange(9) % 3))
    with pytest.raises(ModelError, match="does not take samples"):
        han.run(plain(), toy(size=(1, 5, 5)))


def test_real_digits_survive_a_tenth_of_their_weights():
    data = mnist5k()
    part = Data("mnist5k", data.x_train[:1500], data.y_train[:1500], data.x_test, data.y_test)
    model = trained("small", part, model=mlp((784, 100, 30, 10)), epochs=15)
    result = han.run(model, part, keep=0.1, rounds=2, epochs=5, samples=500)
    dense, last = result.rows[0], result.rows[-1]
    assert last["kept"] <= 0.1 and last["accuracy"] > dense["accuracy"] - 0.01 > 0.85
    assert result.rows[3]["accuracy"] < last["accuracy"]  # retraining is what brings it back
    copied = copy.deepcopy(result.model)
    impose(copied, result.masks)
    assert same(state(copied), state(result.model))


def test_the_study_goes_on_from_its_rows(tmp_path, capsys, monkeypatch):
    data = mnist5k()
    few = Data("mnist5k", data.x_train[:200], data.y_train[:200], data.x_test[:100], data.y_test[:100])
    monkeypatch.setattr(study, "load", lambda name: few)
    monkeypatch.setattr(study, "PENALTY_RATES", (8,))
    smaller = Recipe(lambda seed: mlp((784, 20, 15, 10), dropout=0.1, seed=seed), {})
    monkeypatch.setitem(NETWORKS, "lenet300", smaller)
    asked = ["--networks", str(tmp_path), "--out", str(tmp_path / "baseline_han.csv"), "--epochs", "1", "--retraining", "1"]
    asked += ["--jobs", "1"]  # in this process, where the names are replaced
    asked += ["--seeds", "0", "--network", "lenet300", "--samples", "100", "--epsilon", "0.3", "--data", "mnist5k"]
    study.main(asked)
    found = {path.stem: path.read_bytes() for path in tmp_path.glob("*.csv")}
    assert set(found) == {"baseline_han", *(f"baseline_han_{name}" for name in ("penalties", "scan", "hptd"))}
    assert len({row["case"] for row in rows.read(tmp_path / "baseline_han_penalties.csv")}) == 4
    assert len(rows.read(tmp_path / "baseline_han_scan.csv")) == 3 * len(han.FRACTIONS)
    assert [row["step"] for row in rows.read(tmp_path / "baseline_han_hptd.csv")][:5] == [
        *("dense", "net-trim", "net-trim fine-tuned", "hptd", "hptd fine-tuned"),
    ]
    monkeypatch.setattr(study.han, "run", None)
    monkeypatch.setattr(study.hptd, "run", None)
    monkeypatch.setattr(study.han, "sensitivity", None)
    capsys.readouterr()
    study.main(asked)
    assert {path.stem: path.read_bytes() for path in tmp_path.glob("*.csv")} == found
    text = capsys.readouterr().out
    assert "| LeNet-300-100 | 30x | iterative |" in text and "| 8x | L1 | L2 |" in text and text.count("| 0.3 |") == 2


def test_the_study_makes_the_same_rows_in_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setitem(study.RATES, "plain", [study.RATES["plain"][0], study.RATES["plain"][2]])  # L2 and L1
    asked = [
        "--data",
        "mnist5k",
        "--study",
        "rates",
        "--network",
        "plain",
        "--seeds",
        "3",
        "--epochs",
        "1",
        "--retraining",
        "1",
    ]
    for jobs in ("1", "2"):
        folder = tmp_path / jobs
        study.main([*asked, "--jobs", jobs, "--networks", str(folder / "networks"), "--out", str(folder / "rows.csv")])
    one, two = ([row | {"seconds": ""} for row in rows.read(tmp_path / jobs / "rows.csv")] for jobs in "12")
    assert one == two and {row["case"] for row in one} == {"plain, 12x, iterative", "plain, 12x, iterative, L1"}


def test_what_is_asked_for_reaches_the_retraining(monkeypatch):
    told = []
    monkeypatch.setattr(han, "fit", lambda model, data, **how: told.append(how) or model)
    asked = {"penalty": "l1", "strength": 0.5, "label_smoothing": 0.25, "epochs": 3, "learning_rate": 0.125, "batch_size": 7}
    han.run(plain(), toy(), keep=0.5, spread="layer", rounds=2.0, seed=2, **asked | {"epochs": 3.0, "batch_size": 7.0})
    assert len(told) == 2 and told[0]["seed"] != told[1]["seed"]  # each round has an order of samples of its own
    for how in told:
        assert {name: how[name] for name in asked} == asked and how["masks"] and type(how["epochs"]) is int


def test_test_samples_choose_nothing(monkeypatch):
    data = toy()
    other = Data(data.name, data.x_train, data.y_train, data.x_test.flip(0), data.y_test)
    a, b = (han.run(plain(), each, keep=0.2, rounds=2, epochs=1, samples=20) for each in (data, other))
    assert same(state(a.model), state(b.model)) and a.rows[-1]["loss"] != b.rows[-1]["loss"]
    looked, real = [], han.sensitivity
    monkeypatch.setattr(han, "sensitivity", lambda model, x, y: looked.append((x, y)) or real(model, x, y))
    han.run(plain(), data, keep=0.2, epochs=0, samples=20)
    ((x, y),) = looked
    places = [int(torch.nonzero((data.x_train == one).flatten(1).all(1))) for one in x]
    assert len(set(places)) == 20 and torch.equal(data.y_train[places], y)  # so many training samples, each once


def test_equal_weights_have_no_deviation_and_are_still_kept_or_pruned_as_asked():
    model = plain()
    nn.init.constant_(model[1].weight, 0.5)
    result = han.run(model, toy(), keep={"1.weight": 0.1}, rounds=1, epochs=0, dead=False)
    assert result.rows[-1]["layers"]["1.weight"] == 0  # at most 72, and all are equal


def test_local_retraining_with_a_moving_batch_norm_is_refused():
    model = convolutional()
    model.insert(1, nn.BatchNorm2d(6))
    with pytest.raises(SettingError, match=r"keeps the other layers as they are, and '1' would move .*: set local=False"):
        han.run(model, toy(), local=True, dead=False)
