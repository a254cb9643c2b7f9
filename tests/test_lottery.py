"""Lottery tickets: exact counts, what a round begins with, the early stop, and a run that is cut off and goes on."""

import csv
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from benchmarks.baselines import lottery as study
from nettrim.baselines import lottery
from nettrim.baselines.lottery._hunt import Hunt, redrawn
from nettrim.baselines.lottery._tickets import Course, seeded, split
from nettrim.data import Data, mnist5k
from nettrim.errors import DataError, MaskError, ModelError, SettingError
from nettrim.evaluate import evaluate
from nettrim.masks import everything, kept, shuffled, weights
from nettrim.models import lenet5, lenet300, mlp
from nettrim.train import constant, train
from tests.networks import Tied

SMALL = {"iterations": 30, "every": 4, "batch_size": 8, "learning_rate": 5e-3, "validation": 0.25}


@pytest.fixture(scope="module")
def blobs():
    """Return four noisy classes in twelve dimensions, 80 samples to train and 40 to test."""
    generator = torch.Generator().manual_seed(5)
    y = torch.arange(120) % 4
    x = torch.randn(4, 12, generator=generator)[y] + torch.randn(120, 12, generator=generator)
    return Data("blobs", x[:80], y[:80], x[80:], y[80:])


def net(seed=0):
    return mlp((12, 9, 7, 4), seed=seed)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


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


# --- initial weights and rates


@pytest.mark.parametrize("build", [lenet300, lenet5])
def test_glorot_gives_each_layer_its_variance_and_no_bias(build):
    model = build(seed=3)
    before = build(seed=3)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    drawn = lottery.glorot(model, seed=8)
    assert torch.equal(torch.random.get_rng_state(), state) and same(model, before)
    assert same(drawn, lottery.glorot(before, seed=8)) and not same(drawn, lottery.glorot(model, seed=9))
    for name, parameter in drawn.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
            continue
        area = parameter[0, 0].numel()  # of a kernel; 1 in a linear layer
        n, deviation = parameter.numel(), math.sqrt(2 / (area * sum(parameter.shape[:2])))
        # The mean has deviation sigma / sqrt(n), the sample deviation about sigma / sqrt(2 n); 5 of each.
        assert abs(parameter.mean()) < 5 * deviation / math.sqrt(n)
        assert abs(parameter.std() / deviation - 1) < 5 / math.sqrt(2 * n)
        assert parameter.abs().max() > 1.8 * deviation  # a uniform draw of this variance ends at 1.74


def test_glorot_leaves_normalizations_alone():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    nn.init.constant_(model[1].weight, 7.0)
    nn.init.constant_(model[1].bias, 5.0)
    drawn = lottery.glorot(model)
    assert (drawn[1].weight == 7).all() and (drawn[1].bias == 5).all() and not drawn[0].bias.any()


def test_weights_in_a_random_order_stay_in_their_layer():
    model = Tied()
    moved = redrawn(model, 4)
    for name, parameter in model.named_parameters():
        other = dict(moved.named_parameters())[name]
        assert not torch.equal(parameter, other)
        assert torch.equal(parameter.flatten().sort().values, other.flatten().sort().values)
    assert moved.a.weight is moved.b.weight
    assert same(moved, redrawn(model, 4)) and not same(moved, redrawn(model, 5))


def test_the_output_layer_has_half_the_rate_and_convolutions_their_own():
    assert list(lottery.rates(lenet300()).values()) == [0.2, 0.2, 0.1]
    assert list(lottery.rates(lenet5(), 0.2, convolution_rate=0.1).values()) == [0.1, 0.1, 0.2, 0.1]
    assert list(lottery.rates(lenet5(), 0.3, output_rate=0.0).values()) == [0.3, 0.3, 0.3, 0.0]


# --- pruning


def test_counts_and_percentages_are_those_of_the_paper():
    model = lenet300()
    takes, masks, found = lottery.rates(model), everything(model), []
    for _ in range(15):
        masks = lottery.pruned(model, masks, takes)
        found.append([int(mask.sum()) for mask in masks.values()])
    assert found[:3] == [[188160, 24000, 900], [150528, 19200, 810], [120422, 15360, 729]]  # 0.2 * 150528 is 30105.6
    percent = [80.0, 64.1, 51.3, 41.1, 32.9, 26.3, 21.1, 16.9, 13.5, 10.8, 8.7, 7.0, 5.6, 4.5, 3.6]
    assert [round(100 * sum(counts) / 266200, 1) for counts in found] == percent
    for number in (1, 7, 15):  # in one shot
        masks = lottery.pruned(model, {}, takes, rounds=number)
        assert [int(mask.sum()) for mask in masks.values()] == found[number - 1]


def test_a_round_takes_exactly_the_smallest_and_not_one_more():
    model = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 5))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[10.0, -1, 2, -9, 8], [7, 3, -4, 5, -6]]))
        model[1].weight.copy_(torch.arange(-5.0, 5).reshape(5, 2))
        model[0].bias.zero_()
    takes = {"0.weight": 0.2, "1.weight": 0.1}
    once = lottery.pruned(model, {}, takes)
    assert once["0.weight"].tolist() == [[True, False, False, True, True], [True] * 5]  # 1 and 2 are gone
    assert once["1.weight"].flatten().tolist() == [True] * 5 + [False] + [True] * 4  # the 0
    assert list(once) == ["0.weight", "1.weight"]  # no bias, though it is all 0
    twice = lottery.pruned(model, once, takes)  # round(0.2 * 8) = 2 of those that are left: 3 and 4
    assert twice["0.weight"].tolist() == [[True, False, False, True, True], [True, False, False, True, True]]
    with torch.no_grad():
        model[0].weight[0, 1] = 100.0  # what is gone stays gone, however large
    assert torch.equal(lottery.pruned(model, once, takes)["0.weight"], twice["0.weight"])


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.05, 0.9), st.sampled_from([0.0, 0.3]))
def test_global_pruning_takes_the_smallest_of_all_layers_of_a_rate(seed, rounds, rate, out):
    model = lottery.glorot(mlp((6, 5, 4, 3)), seed=seed)
    with torch.no_grad():
        for weight in weights(model).values():
            weight.mul_(8).round_()  # so that there are equal ones
    takes = lottery.rates(model, rate, output_rate=out)
    # Something is gone already, large weights too.
    masks = shuffled(lottery.pruned(model, {}, dict.fromkeys(takes, 0.25)), torch.Generator().manual_seed(seed))
    found = lottery.pruned(model, masks, takes, rounds=rounds, scope="global")
    for names in (list(takes)[:2], list(takes)[2:]):
        n = sum(int(masks[name].sum()) for name in names)
        for _ in range(rounds):
            n -= round(takes[names[0]] * n)
        assert sum(int(found[name].sum()) for name in names) == n
        sizes = dict(model.named_parameters())
        left = torch.cat([sizes[name][found[name]].abs() for name in names])
        gone = torch.cat([sizes[name][masks[name] & ~found[name]].abs() for name in names])
        assert not len(left) or not len(gone) or left.min() >= gone.max()
        assert all(not (found[name] & ~masks[name]).any() for name in names)


def test_pruning_refuses_what_it_cannot_use():
    model = net()
    with pytest.raises(SettingError, match=r"the rate of '1\.weight' must be a number in \(0, 1\); got 1\.5"):
        lottery.pruned(model, {}, {"1.weight": 1.5})
    with pytest.raises(MaskError, match=r"'1\.bias' is no weight of a linear layer"):
        lottery.pruned(model, {}, {"1.bias": 0.5})
    with pytest.raises(SettingError, match="scope must be one of"):
        lottery.pruned(model, {}, {"1.weight": 0.5}, scope="all")
    with pytest.raises(MaskError, match="shape"):
        lottery.pruned(model, {"1.weight": torch.ones(2, dtype=torch.bool)}, {"1.weight": 0.5})


# --- one training


def test_samples_held_out_are_of_no_other_use(blobs):
    n = 60000
    numbers = Data("n", torch.arange(n).float()[:, None], torch.arange(n), blobs.x_test, blobs.y_test)
    left, (x, y) = split(numbers, 1 / 12, 3)
    assert len(x) == 5000 and torch.equal(x[:, 0].long(), y) and torch.equal(left.x_train[:, 0].long(), left.y_train)
    assert torch.cat([y, left.y_train]).sort().values.equal(numbers.y_train)
    assert torch.equal(split(numbers, 1 / 12, 3)[1][1], y) and not torch.equal(split(numbers, 1 / 12, 4)[1][1], y)
    assert abs(y.float().mean() / n - 0.5) < 5 * math.sqrt(1 / 12 / 5000)  # 5 deviations: drawn from all over
    with pytest.raises(DataError, match=r"validation=0\.001 of the 80 training samples is 0"):
        split(blobs, 0.001, 0)


def test_the_early_stop_is_the_first_least_validation_loss_and_accuracy_is_taken_there(blobs):
    left, held_out = split(blobs, 0.25, 0)
    masks = lottery.pruned(net(), {}, lottery.rates(net()))
    course = Course(left, held_out, 61, 4, 8, 0.05)  # a step size at which the validation loss comes down and goes up
    found = course.fit(net(), masks, seed=2, label="")
    losses = {}

    def look(step, model):
        if step % 4 == 0 or step == 61:
            losses[step] = evaluate(model, *held_out).loss

    def again(steps, **more):
        how = {"batch_size": 8, "learning_rate": 0.05, "schedule": constant, "masks": masks, "seed": 2}
        return train(net(), left.x_train, left.y_train, steps=steps, **how, **more)

    assert same(found.model, again(61, after_step=look))
    stop = min(losses, key=losses.get)
    assert 4 < stop < 61 and list(losses) == [*range(4, 61, 4), 61]  # in the middle, so both directions count
    there = evaluate(again(stop), blobs.x_test, blobs.y_test)
    assert found.facts == {
        "early_stop": stop,
        "early_accuracy": there.accuracy,
        "early_loss": there.loss,
        "validation_loss": losses[stop],
        "last_validation_loss": losses[61],
    }
    assert there != evaluate(found.model, blobs.x_test, blobs.y_test)
    still = Course(left, held_out, 9, 2, 8, 1e-30).fit(lottery.glorot(net()), {}, seed=2, label="")
    assert still.facts["early_stop"] == 2  # of equal losses the first


def test_test_samples_decide_nothing(blobs):
    other = Data("blobs", blobs.x_train, blobs.y_train, blobs.x_test.flip(0), blobs.y_test)
    a, b = (lottery.run(net(), data, rounds=2, **SMALL) for data in (blobs, other))
    assert same(a.model, b.model) and [row["early_stop"] for row in a.rows] == [row["early_stop"] for row in b.rows]
    assert a.rows[-1]["loss"] != b.rows[-1]["loss"]


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
    assert same(dense, stage(tmp_path, "round-0-ticket-0")[0])
    masks = lottery.pruned(dense, {}, takes, scope="global")
    first = replay(blobs, theta, masks, 1, ("ticket", 1, 0))
    masks = lottery.pruned(first, masks, takes, scope="global")
    model, found = stage(tmp_path, "round-2-ticket-0")
    assert all(torch.equal(found[name], masks[name]) for name in takes)
    assert same(model, replay(blobs, theta, masks, 1, ("ticket", 2, 0)))
    assert (model[1].bias != 0).all()
    model, found = stage(tmp_path, "round-2-oneshot-0")
    once = lottery.pruned(dense, {}, takes, rounds=2, scope="global")
    assert all(torch.equal(found[name], once[name]) for name in takes)
    assert any((found[name] != masks[name]).any() for name in takes)
    assert same(model, replay(blobs, theta, once, 1, ("oneshot", 2, 0)))


def test_late_rewinding_goes_back_to_where_the_dense_training_was(blobs, tmp_path):
    asked = {"rewind": 7, "reinits": 1, "shuffles": 1, "oneshot": True}
    found = lottery.run(net(), blobs, rounds=1, **asked, **SMALL, folder=tmp_path)
    passed = {}
    theta = lottery.glorot(net())
    dense = replay(
        blobs, theta, {}, 0, ("ticket", 0, 0), after_step=lambda n, m: passed.update({n: m.state_dict()["1.weight"].clone()})
    )
    begin, _ = stage(tmp_path, "start")
    assert torch.equal(begin[1].weight, passed[7]) and same(dense, stage(tmp_path, "round-0-ticket-0")[0])
    masks = found.masks
    assert same(found.model, replay(blobs, begin, masks, 0, ("ticket", 1, 0), steps=30 - 7))
    assert same(stage(tmp_path, "round-1-oneshot-0")[0], replay(blobs, begin, masks, 0, ("oneshot", 1, 0), steps=30 - 7))
    random, places = stage(tmp_path, "round-1-random-0")
    assert same(random, replay(blobs, theta, places, 0, ("random", 1, 0)))
    reinit = lottery.glorot(net(), seed=seeded(0, "weights", 1, 0))
    assert same(stage(tmp_path, "round-1-reinit-0")[0], replay(blobs, reinit, masks, 0, ("reinit", 1, 0)))
    # Iterations are counted from the initial weights.
    assert all(row["early_stop"] % 4 == 0 or row["early_stop"] == 30 for row in found.rows)
    late = lottery.run(net(), blobs, rounds=1, rewind=29, **SMALL)
    assert late.rows[1]["early_stop"] == 30


def test_the_second_strategy_resets_in_the_last_round_only(blobs, tmp_path):
    found = lottery.run(net(), blobs, rounds=2, strategy="continue", **SMALL, folder=tmp_path)
    theta = lottery.glorot(net())
    dense, _ = stage(tmp_path, "round-0-ticket-0", net())
    on, masks = stage(tmp_path, "round-1-ticket-0", net())
    assert same(on, replay(blobs, dense, masks, 0, ("ticket", 1, 0)))
    assert same(found.model, replay(blobs, theta, found.masks, 0, ("ticket", 2, 0)))


# --- the whole


def test_a_run_that_was_cut_off_goes_on_with_the_same_bytes(blobs, tmp_path, monkeypatch):
    asked = {"rounds": 2, "rewind": 3, "reinits": 1, "shuffles": 1, "oneshot": True, "seed": 4} | SMALL
    model = net()
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    whole = lottery.run(model, blobs, **asked)
    assert torch.equal(torch.random.get_rng_state(), state) and same(model, net())
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
    mean, error = study.spread([100 * value for value in values])
    assert f"{mean:8.2f} +- {error:.2f}" in text and text.count("ticket minus it") == 3
    assert study.spread([1.0, 3.0]) == (2.0, 1.0) and math.isnan(study.spread([1.0])[1])  # sqrt(2) / sqrt(2)
