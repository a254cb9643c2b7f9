"""Lottery tickets: what a round begins with, controls, the whole hunt, and a run that is cut off and goes on."""

import csv
import math

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.baselines import lottery as study
from benchmarks.baselines._tables import mean
from nettrim.baselines import lottery
from nettrim.baselines.lottery._hunt import Hunt
from nettrim.baselines.lottery._tickets import Course, seeded, split
from nettrim.data import mnist5k
from nettrim.errors import ModelError, SettingError
from nettrim.evaluate import evaluate
from nettrim.masks import kept, weights
from nettrim.models import mlp
from nettrim.train import constant, train
from tests.toys import net, same_weights

SMALL = {"iterations": 30, "every": 4, "batch_size": 8, "learning_rate": 5e-3, "validation": 0.25}


def stage(folder, name, like=None):
    """Return the network and the masks of a finished training."""
    tensors = load_file(folder / f"{name}.safetensors")
    model = net() if like is None else like
    model.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model.")})
    return model, {key[5:]: value for key, value in tensors.items() if key.startswith("mask.")}


def replay(data, begin, masks, seed, which, steps=SMALL["iterations"], **more):
    """Train as the method should, with nothing of its own but the split and the seeds."""
    left, _ = split(data, SMALL["validation"], seeded(seed, "validation"))
    how = {"batch_size": SMALL["batch_size"], "learning_rate": SMALL["learning_rate"], "schedule": constant}
    order = seeded(seed, *which)
    return train(begin, left.x_train, left.y_train, steps=steps, masks=masks, seed=order, **how, **more)


# --- rounds


def test_a_ticket_is_the_initial_weights_and_a_control_is_not(blobs, tmp_path):
    # With steps too small for float32 to see, the weights at the end are those at the beginning.
    still = SMALL | {"learning_rate": 1e-30, "iterations": 2, "every": 1}
    more = {"reinits": 2, "shuffles": 1, "oneshot": True, "at": [2], "seed": 6}
    lottery.run(net(), blobs, rounds=2, **still, **more, folder=tmp_path)
    theta = lottery.glorot(net(), seed=6)
    _, masks = stage(tmp_path, "round-2-ticket-0")
    assert kept(theta, masks)[0] == 69 + 40 + 23  # of 108, 63 and 28: less 22, 13, 3, then less 17, 10, 2
    seen = {}
    for name in ("ticket-0", "oneshot-0", "random-0", "reinit-0", "reinit-1"):
        model, its = stage(tmp_path, f"round-2-{name}")
        parameters = dict(model.named_parameters())
        for key, weight in weights(theta).items():
            assert not parameters[key][~its[key]].any() and its[key].sum() == masks[key].sum()
            assert torch.equal(its[key], masks[key]) != (name == "random-0")
            assert torch.equal(parameters[key], weight * its[key]) != name.startswith("reinit")
        seen[name] = parameters["1.weight"]
    assert not torch.equal(seen["reinit-0"], seen["reinit-1"])
    assert not (tmp_path / "round-1-reinit-0.safetensors").exists()
    # A draw of the controls has the variance of the first: 5 deviations of a sample deviation of 2 * 69 normal numbers.
    drawn = torch.cat([seen[f"reinit-{draw}"][masks["1.weight"]] for draw in (0, 1)])
    assert abs(drawn.std() / math.sqrt(2 / 21) - 1) < 5 / math.sqrt(4 * 69)


def test_given_weights_are_kept_and_redrawn_from_themselves(blobs, tmp_path):
    still = SMALL | {"learning_rate": 1e-30, "iterations": 2, "every": 1}
    found = lottery.run(net(3), blobs, rounds=1, initial="given", reinits=1, **still, folder=tmp_path)
    theta, (reinit, _) = dict(net(3).named_parameters()), stage(tmp_path, "round-1-reinit-0")
    for name, mask in found.masks.items():
        assert torch.equal(dict(found.model.named_parameters())[name], theta[name] * mask)
        drawn = dict(reinit.named_parameters())[name][mask]
        assert not torch.equal(drawn, theta[name][mask]) and torch.isin(drawn, theta[name]).all()


def test_each_round_prunes_the_last_one_and_trains_from_the_initial_weights(blobs, tmp_path):
    lottery.run(net(), blobs, rounds=2, oneshot=True, scope="global", **SMALL, seed=1, folder=tmp_path)
    theta, takes = lottery.glorot(net(), seed=1), lottery.rates(net())
    dense = replay(blobs, theta, {}, 1, ("ticket", 0, 0))
    assert same_weights(dense, stage(tmp_path, "round-0-ticket-0")[0])
    masks = lottery.pruned(dense, {}, takes, scope="global")
    first = replay(blobs, theta, masks, 1, ("ticket", 1, 0))
    masks = lottery.pruned(first, masks, takes, scope="global")
    model, found = stage(tmp_path, "round-2-ticket-0")
    assert all(torch.equal(found[name], masks[name]) for name in takes)
    assert same_weights(model, replay(blobs, theta, masks, 1, ("ticket", 2, 0)))
    assert (model[1].bias != 0).all()
    model, found = stage(tmp_path, "round-2-oneshot-0")
    once = lottery.pruned(dense, {}, takes, rounds=2, scope="global")
    assert all(torch.equal(found[name], once[name]) for name in takes)
    assert any((found[name] != masks[name]).any() for name in takes)
    assert same_weights(model, replay(blobs, theta, once, 1, ("oneshot", 2, 0)))


def test_late_rewinding_goes_back_to_where_the_dense_training_was(blobs, tmp_path):
    asked = {"rewind": 7, "reinits": 1, "shuffles": 1, "oneshot": True}
    found = lottery.run(net(), blobs, rounds=1, **asked, **SMALL, folder=tmp_path)
    passed = {}
    theta = lottery.glorot(net())
    dense = replay(
        blobs, theta, {}, 0, ("ticket", 0, 0), after_step=lambda n, m: passed.update({n: m.state_dict()["1.weight"].clone()})
    )
    begin, _ = stage(tmp_path, "start")
    assert torch.equal(begin[1].weight, passed[7]) and same_weights(dense, stage(tmp_path, "round-0-ticket-0")[0])
    masks = found.masks
    assert same_weights(found.model, replay(blobs, begin, masks, 0, ("ticket", 1, 0), steps=30 - 7))
    assert same_weights(
        stage(tmp_path, "round-1-oneshot-0")[0], replay(blobs, begin, masks, 0, ("oneshot", 1, 0), steps=30 - 7)
    )
    random, places = stage(tmp_path, "round-1-random-0")
    assert same_weights(random, replay(blobs, theta, places, 0, ("random", 1, 0)))
    reinit = lottery.glorot(net(), seed=seeded(0, "weights", 1, 0))
    assert same_weights(stage(tmp_path, "round-1-reinit-0")[0], replay(blobs, reinit, masks, 0, ("reinit", 1, 0)))
    # Iterations are counted from the initial weights.
    assert all(row["early_stop"] % 4 == 0 or row["early_stop"] == 30 for row in found.rows)
    late = lottery.run(net(), blobs, rounds=1, rewind=29, **SMALL)
    assert late.rows[1]["early_stop"] == 30


def test_the_second_strategy_resets_in_the_last_round_only(blobs, tmp_path):
    found = lottery.run(net(), blobs, rounds=2, strategy="continue", **SMALL, folder=tmp_path)
    theta = lottery.glorot(net())
    dense, _ = stage(tmp_path, "round-0-ticket-0", net())
    on, masks = stage(tmp_path, "round-1-ticket-0", net())
    assert same_weights(on, replay(blobs, dense, masks, 0, ("ticket", 1, 0)))
    assert same_weights(found.model, replay(blobs, theta, found.masks, 0, ("ticket", 2, 0)))


# --- the whole


def test_a_run_that_was_cut_off_goes_on_with_the_same_bytes(blobs, tmp_path, monkeypatch):
    asked = {"rounds": 2, "rewind": 3, "reinits": 1, "shuffles": 1, "oneshot": True, "seed": 4} | SMALL
    model = net()
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    whole = lottery.run(model, blobs, **asked)
    assert torch.equal(torch.random.get_rng_state(), state) and same_weights(model, net())
    fit, trainings = Course.fit, []

    def cut(self, *given, **more):
        if len(trainings) == 5:
            raise KeyboardInterrupt
        trainings.append(more["label"])
        return fit(self, *given, **more)

    monkeypatch.setattr(Course, "fit", cut)
    with pytest.raises(KeyboardInterrupt):
        lottery.run(model, blobs, **asked, folder=tmp_path / "stages")
    done, trainings[:] = trainings.copy(), []
    monkeypatch.setattr(
        Course, "fit", lambda self, *given, **more: trainings.append(more["label"]) or fit(self, *given, **more)
    )
    later = lottery.run(model, blobs, **asked, folder=tmp_path / "stages")
    assert len(done) == 5 and len(trainings) == 9 - 5 and not set(done) & set(trainings)
    for name, result in (("whole", whole), ("later", later)):
        result.save(tmp_path / name)
    for file in ("model.safetensors", "masks.safetensors", "report.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "later" / file).read_bytes()
    with pytest.raises(ModelError, match="other settings"):
        lottery.run(model, blobs, **asked | {"rate": 0.3}, folder=tmp_path / "stages")


def test_rates_are_those_that_were_asked_for(blobs):
    asked = {"rate": 0.5, "output_rate": 0.25, "rounds": 1}
    result = lottery.run(net(), blobs, **asked, **SMALL)
    # Of 108 and of 63 half go, of 28 a quarter.
    assert [int(mask.sum()) for mask in result.masks.values()] == [54, 31, 21]


def test_the_rows_say_what_was_trained(blobs):
    found = lottery.run(net(), blobs, rounds=2, reinits=2, shuffles=1, oneshot=True, at=[2], **SMALL)
    kinds = [(row["round"], row["network"], row["draw"]) for row in found.rows]
    controls = [(2, "reinit", 0), (2, "reinit", 1), (2, "random", 0), (2, "oneshot", 0)]
    assert kinds == [(0, "ticket", 0), (1, "ticket", 0), (2, "ticket", 0), *controls]
    assert [row["weights"] for row in found.rows] == [199, 161, *[132] * 5]
    assert len({row["loss"] for row in found.rows}) == 7 and found.kept == 132 / 199
    assert found.rows[2]["loss"] == evaluate(found.model, blobs.x_test, blobs.y_test).loss


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rounds": 0}, "rounds must be a whole number, at least 1"),
        ({"rate": 1.0}, r"rate must be a number in \(0, 1\)"),
        ({"convolution_rate": -0.1}, r"convolution_rate must be a number in \(0, 1\)"),
        ({"output_rate": "half"}, r"output_rate must be a number in \(0, 1\)"),
        ({"scope": "all"}, "scope must be one of 'layer', 'global'"),
        ({"initial": "zero"}, "initial must be one of 'glorot', 'given'"),
        ({"strategy": 1}, "strategy must be one of 'reset', 'continue'"),
        ({"rewind": 30}, "rewind must be a whole number, at least 0 and at most 29"),
        ({"iterations": 1.5}, "iterations must be a whole number"),
        ({"every": 0}, "every must be a whole number, at least 1"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"validation": 0}, r"validation must be a number in \(0, 1\)"),
        ({"reinits": -1}, "reinits must be a whole number, at least 0"),
        ({"shuffles": True}, "shuffles must be a whole number, at least 0"),
        ({"oneshot": "yes"}, "oneshot must be one of True, False"),
        ({"at": 2}, "at must be a list of rounds"),
        ({"at": [3]}, "at must be a whole number, at least 1 and at most 2"),
        ({"seed": -1}, "seed must be a whole number, at least 0"),
    ],
)
def test_bad_settings_are_refused_before_any_work(blobs, setting, message, tmp_path, monkeypatch):
    monkeypatch.setattr(Hunt, "fit", lambda *_: pytest.fail("something was trained"))
    with pytest.raises(SettingError, match=message):
        lottery.run(net(), blobs, **{"rounds": 2} | SMALL | setting, folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_ticket_of_real_digits_beats_as_many_weights_in_random_places():
    asked = {"rounds": 2, "rate": 0.75, "output_rate": 0.2, "iterations": 200, "every": 50}
    found = lottery.run(mlp((784, 40, 10)), mnist5k(), shuffles=1, at=[2], **asked)
    dense, _, ticket, random = found.rows
    assert ticket["kept"] < 0.08 and ticket["network"] == "ticket" and random["network"] == "random"
    assert ticket["accuracy"] > random["accuracy"] + 0.02 and ticket["validation_loss"] < random["validation_loss"]
    assert ticket["accuracy"] > dense["accuracy"] - 0.05


# --- the study


def test_the_study_goes_on_from_its_rows_and_shows_them(blobs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "AT", (1,))
    monkeypatch.setattr(study, "lenet300", net)
    monkeypatch.setattr(study, "load", lambda name: blobs)
    out = tmp_path / "rows.csv"
    asked = ["--rounds", "1", "--iterations", "20", "--reinits", "2", "--out", str(out)]
    study.main([*asked, "--seeds", "0", "--networks", str(tmp_path / "networks")])
    first = out.read_bytes()
    assert len(list((tmp_path / "networks").glob("*/round-1-reinit-*.safetensors"))) == 2
    study.main([*asked, "--seeds", "0", "1"])
    assert out.read_bytes().startswith(first)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (2 + 4) + 2 + (2 + 4)
    monkeypatch.setattr(study.lottery, "run", lambda *_, **__: pytest.fail("nothing is left to do"))
    capsys.readouterr()
    study.main([*asked, "--seeds", "0", "1"])
    text = capsys.readouterr().out
    for field in ("early_stop", "accuracy"):
        of = {seed: [float(r[field]) for r in rows if (r["network"], r["seed"]) == ("reinit", seed)] for seed in "01"}
        values = study.by_seed(out)["blobs", "20", "layer", "1", "reinit"][field]
        assert values == [sum(of[seed]) / 2 for seed in "01"]
    line = next(line for line in text.splitlines() if line.startswith("| layer |") and "re-initialized" in line)
    assert line.split("|")[-2].strip() == f"{mean([100 * value for value in values])} %" and "| dense |" in text
