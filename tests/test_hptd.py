"""HPTD beside Net-Trim: the same counts, the largest magnitudes, biases whole, and the authors' fine-tuning."""

import pytest
import torch

import nettrim
from nettrim.baselines import hptd
from nettrim.errors import ModelError, SettingError
from nettrim.models import mlp
from tests.test_han import plain, same, state, toy


def test_as_many_weights_as_asked_the_largest_and_all_biases():
    model, data = plain(), toy()
    before = state(model)
    result = hptd.run(model, data, counts={"1.weight": 100, "7.weight": 0}, epochs=0)
    assert [row["step"] for row in result.rows] == ["dense", "hptd"]
    assert result.rows[1]["layers"] == {"1.weight": 100, "4.weight": 240, "7.weight": 0}
    weight = model[1].weight.detach()
    limit = weight.abs().flatten().sort(descending=True).values[99]
    assert torch.equal(result.model[1].weight, torch.where(weight.abs() >= limit, weight, 0))
    assert all(torch.equal(result.model[i].bias, model[i].bias) for i in (1, 4, 7))
    assert same(before, state(model)) and not result.model.training


def test_counts_are_those_of_net_trim_whose_network_is_fine_tuned_alike():
    model, data = plain(), toy()
    result = hptd.run(model, data, epsilon=0.2, n_samples=50, epochs=3, batch_size=20, learning_rate=0.05, seed=2)
    names = ["dense", "net-trim", "net-trim fine-tuned", "hptd", "hptd fine-tuned"]
    assert [row["step"] for row in result.rows] == names
    trimmed = nettrim.trim(model, data.x_train, 0.2, n_samples=50, seed=2)
    counts = hptd.counts_of(trimmed)
    assert counts == {f"{row.name}.weight": row.weights_kept for row in trimmed.layers}
    assert all(row["layers"] == counts for row in result.rows[1:])
    assert hptd.counts_of(result.masks) == counts
    by_hand = hptd.run(model, data, counts=counts, epochs=3, batch_size=20, learning_rate=0.05, seed=2)
    assert same(state(by_hand.model), state(result.model)) and by_hand.rows[1:] == result.rows[3:]
    assert all(not result.model.get_parameter(name)[~mask].any() for name, mask in result.masks.items())
    assert result.rows[4]["loss"] < result.rows[3]["loss"]


def test_fine_tuning_is_plain_gradient_steps_that_fall_by_two_percent_every_500(monkeypatch):
    told = []
    real = hptd.train

    def watched(*args, **how):
        told.append(how)
        return real(*args, **how | {"epochs": 1})

    monkeypatch.setattr(hptd, "train", watched)
    model, data = plain(), toy(120)
    hptd.run(model, data, counts={}, epochs=400, batch_size=13)  # 60 samples: 5 steps an epoch
    how = told[0]
    assert (how["momentum"], how["learning_rate"], how["batch_size"], how["epochs"]) == (0.0, 0.005, 13, 400)
    for step in range(2000):
        assert how["schedule"](step / 2000) == 0.98 ** (step // 500)


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    model, data = plain(), toy()
    how = {"epsilon": 0.2, "n_samples": 40, "epochs": 2, "seed": 1}
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    whole = hptd.run(model, data, **how)
    assert torch.equal(torch.random.get_rng_state(), before)
    real, calls = hptd.train, []

    def cut(*args, **more):
        calls.append(more["label"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(hptd, "train", cut)
    with pytest.raises(KeyboardInterrupt):
        hptd.run(model, data, **how, folder=tmp_path)
    monkeypatch.setattr(hptd, "trim", None)  # it is not run again
    resumed = hptd.run(model, data, **how, folder=tmp_path)
    assert calls == ["fine-tuning net-trim", "fine-tuning hptd", "fine-tuning hptd"]
    assert resumed.rows == whole.rows and same(state(resumed.model), state(whole.model)) and same(resumed.masks, whole.masks)
    with pytest.raises(ModelError, match="another model, of other data or of other settings"):
        hptd.run(model, data, **how | {"seed": 2}, folder=tmp_path)


def test_what_makes_no_sense_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(hptd, "trim", None)
    monkeypatch.setattr(hptd, "train", None)
    for wrong, why in (
        ({"counts": 5}, "counts must map names"),
        ({"counts": {"2.weight": 5}}, "counts names '2.weight'"),
        ({"counts": {"1.weight": 721}}, r"counts of '1\.weight' must be a whole number, at least 0 and at most 720"),
        ({"counts": {"1.weight": 0.5}}, r"counts of '1\.weight' must be"),
        ({"epsilon": -1}, "epsilon must be"),
        ({"epsilon": {"1": "x"}}, "epsilon of '1' must be"),
        ({"n_samples": 0}, "n_samples must be"),
        ({"epochs": -1}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"momentum": 1}, "momentum must be below 1"),
        ({"momentum": -0.1}, "momentum must be a number"),
    ):
        with pytest.raises(SettingError, match=why):
            hptd.run(plain(), toy(), **wrong)
    with pytest.raises(ModelError, match="does not take samples"):
        hptd.run(mlp((5, 3)), toy())
