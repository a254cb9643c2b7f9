"""Targeted dropout: layers that are drop-ins, and a network that learns to be pruned."""

import copy

import pytest
import torch
from torch import nn

from benchmarks.baselines import targeted_dropout as study
from nettrim.baselines import targeted_dropout as td
from nettrim.baselines.targeted_dropout import TargetedConv2d, TargetedLinear, bottom, candidates, plain, ramp, run, targeted
from nettrim.data import Data, mnist5k
from nettrim.errors import ModelError, SettingError
from nettrim.evaluate import accuracy
from nettrim.masks import kept
from nettrim.models import lenet5, mlp
from tests.networks import samples, small
from tests.toys import drawn

pytestmark = pytest.mark.usefixtures("seeded")


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def layer(n_in, n_out, **rates):
    made = TargetedLinear(n_in, n_out, **rates)
    with torch.no_grad():
        made.weight.copy_(drawn((n_out, n_in)))
    return made


# --- the layers in a model


@pytest.mark.parametrize("make", [small, lenet5])
def test_a_targeted_model_is_a_drop_in_and_goes_back(make):
    model = make(seed=1).eval()
    before, x = copy.deepcopy(model), samples(5) if make is small else drawn((5, 1, 28, 28))
    made = targeted(model, gamma=0.9, alpha=0.9)
    assert same(model, before) and same(made, model)
    layers = [module for module in made.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert all(type(each) in (TargetedLinear, TargetedConv2d) for each in layers[:-1]) and type(layers[-1]) is nn.Linear
    assert torch.equal(made(x), model(x))
    assert not torch.allclose(made.train()(x), model.train()(x)) and "gamma=0.9, alpha=0.9, weights" in repr(made)
    again = plain(made)
    assert [type(module) for module in again.modules()] == [type(module) for module in model.modules()]
    assert same(again, model) and repr(again) == repr(model) and torch.equal(again.eval()(x), model.eval()(x))
    assert vars(again[1]).keys() == vars(model[1]).keys() if make is small else True
    assert isinstance(layers[0], TargetedLinear | TargetedConv2d)  # the targeted one is left as it is


def test_a_targeted_layer_takes_all_that_the_plain_one_takes():
    x = drawn((2, 4, 9, 9))
    ours = TargetedConv2d(4, 6, 3, 2, padding=1, groups=2, bias=False, gamma=0.3)
    theirs = nn.Conv2d(4, 6, 3, 2, padding=1, groups=2, bias=False)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours.eval()(x), theirs(x)) and ours.gamma == 0.3 and ours.bias is None
    assert TargetedLinear(3, 2, False, dtype=torch.float64).weight.dtype == torch.float64


def test_shared_layers_stay_shared_and_named_layers_are_spared():
    one = nn.Linear(12, 12)
    made = targeted(nn.Sequential(nn.Flatten(), one, nn.ReLU(), one, nn.ReLU(), nn.Linear(12, 4)))
    assert made[1] is made[3] and type(made[1]) is TargetedLinear and made[1] is not one
    made = targeted(small(), exempt=["1"])
    assert [type(made[i]) for i in (1, 4, 6)] == [nn.Linear, TargetedLinear, TargetedLinear]


def test_masks_keep_what_is_not_targeted_and_the_last_layer():
    model = small()  # 12-9-7-4
    masks = bottom(model, 0.75)
    assert list(masks) == ["1.weight", "4.weight"]
    assert masks["1.weight"].sum(1).tolist() == [3] * 9 and masks["4.weight"].sum(1).tolist() == [3] * 7
    assert torch.equal(masks["1.weight"], ~candidates(model[1].weight, 0.75))
    units = bottom(targeted(model), 0.75, units=True)
    assert [int(mask.any(1).sum()) for mask in units.values()] == [3, 2]
    assert kept(model, units) == (3 * 12 + 2 * 9 + 28, 108 + 63 + 28)
    assert list(bottom(model, 0.5, exempt=["1"])) == ["4.weight", "6.weight"]


def test_models_that_cannot_be_targeted_are_refused_by_name():
    with pytest.raises(ModelError, match="layer '0' is Conv1d: only"):
        targeted(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(4, 2)))
    with pytest.raises(ModelError, match="no layer is left to be targeted; the model has 1"):
        bottom(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 0.5)
    with pytest.raises(SettingError, match="exempt names 'x', which is no layer of the model; there are 1, 4, 6"):
        targeted(small(), exempt=["x"])
    with pytest.raises(SettingError, match=r"gamma must be a number in \[0, 1\]; got 1.5"):
        targeted(small(), gamma=1.5)
    with pytest.raises(SettingError, match="alpha must be below 1 where what is left is rescaled"):
        TargetedLinear(3, 2, alpha=1.0, rescale=True)
    with pytest.raises(SettingError, match=r"prune must be a number in \[0, 1\]"):
        bottom(small(), -0.1)


# --- the method

DATA = mnist5k()

QUICK = {"epochs": 3, "batch_size": 50, "levels": [0.5, 0.95]}


@pytest.fixture(scope="module")
def digits():
    return Data("part", DATA.x_train[:1500], DATA.y_train[:1500], DATA.x_test, DATA.y_test)


@pytest.fixture(scope="module")
def few():
    return Data("few", DATA.x_train[:100], DATA.y_train[:100], DATA.x_test[:50], DATA.y_test[:50])


@pytest.mark.parametrize("targets", ["weights", "units"])
def test_a_network_learns_to_be_pruned(digits, targets):
    model = mlp((784, 60, 40, 10))
    state, before = torch.random.get_rng_state(), copy.deepcopy(model)
    rates = {"gamma": 0.9, "alpha": 0.99, "prune": 0.9, "epochs": 15, "batch_size": 50, "levels": [0.5]}
    result = run(model, digits, targets=targets, **rates)
    assert torch.equal(torch.random.get_rng_state(), state) and same(model, before) and model.training
    without = run(model, digits, targets=targets, **rates | {"alpha": 0})
    # Measured over seeds 0 to 2: 0.89 to 0.91 against 0.76 to 0.80 for weights, 0.83 to 0.84 against 0.18 to 0.26 for units.
    assert result.rows[-1]["accuracy"] > without.rows[-1]["accuracy"] + 0.06
    steps = ["trained", "weights pruned by 0.5", "units pruned by 0.5", "pruned"]
    assert [row["step"] for row in result.rows] == steps and len({tuple(row) for row in result.rows}) == 1
    assert [type(module) for module in result.model.modules()] == [type(module) for module in model.modules()]
    assert all(
        (value[~result.masks[name]] == 0).all() for name, value in result.model.state_dict().items() if name in result.masks
    )
    last = result.rows[-1]
    assert last["accuracy"] == accuracy(result.model, digits.x_test, digits.y_test) and last["by"] == targets
    left = 60 * 79 + 40 * 6 if targets == "weights" else 6 * 784 + 4 * 60
    assert last["kept_here"] == left / (60 * 784 + 40 * 60) and last["kept"] == (left + 400) / (60 * 784 + 40 * 60 + 400)
    assert last["units"] == (100 if targets == "weights" else 10) and result.kept == last["kept"]


def test_the_rates_rise_with_the_steps(few, monkeypatch):
    seen = []

    def spied(model, *args, after_step, **kwargs):
        seen.append((model[1].gamma, model[1].alpha))

        def look(step, network):
            after_step(step, network)
            seen.append((network[1].gamma, network[1].alpha))
            assert seen[-1] == (network[3].gamma, network[3].alpha) and type(network[5]) is nn.Linear

        return train(model, *args, after_step=look, **kwargs)

    train = td.train
    monkeypatch.setattr(td, "train", spied)
    run(mlp((784, 8, 6, 10)), few, gamma=0.9, alpha=0.8, ramp_until=0.5, epochs=4, batch_size=30)  # 16 steps
    assert seen == [pytest.approx(ramp(step / 16, 0.9, 0.8, 0.5)) for step in range(17)]
    assert seen[0] == (0, 0) and seen[8] == seen[16] == pytest.approx((0.9, 0.8))


@pytest.mark.parametrize("targets", ["weights", "units"])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
def test_what_is_asked_for_reaches_the_layers(few, monkeypatch, targets, whole, rescale):
    seen = []
    monkeypatch.setattr(td, "train", lambda model, *args, **kwargs: seen.append(model) or model)
    run(mlp((784, 8, 6, 10)), few, targets=targets, whole_units=whole, rescale=rescale, exempt=["1"], levels=[])
    assert type(seen[0][1]) is nn.Linear
    assert all(
        (seen[0][i].units, seen[0][i].whole, seen[0][i].rescale) == (targets == "units", whole, rescale) for i in (3, 5)
    )


def test_the_penalty_is_that_of_the_layers_that_are_pruned(few):
    model, once = mlp((784, 8, 6, 10)), {"alpha": 0, "epochs": 1, "batch_size": 100, "learning_rate": 0.01, "levels": []}
    without, with_it = (run(model, few, prune=0, l1=l1, **once).model for l1 in (0.0, 0.5))
    for i in (1, 3, 5):  # one step half way of the cycle: (1 - 1 / 2) / 0.8, times 1 + momentum (Nesterov)
        moved = 0.01 * 0.625 * 1.9 * 0.5 * torch.sign(model[i].weight) * (i != 5)
        assert torch.allclose(without[i].weight - with_it[i].weight, moved, rtol=0, atol=1e-6)  # float32 of numbers < 1


def test_the_penalty_spares_what_is_exempt(few):
    model, once = mlp((784, 8, 6, 10)), {"alpha": 0, "epochs": 1, "batch_size": 100, "learning_rate": 0.01, "levels": []}
    without, with_it = (run(model, few, prune=0, l1=l1, exempt=["1"], **once).model for l1 in (0.0, 0.5))
    assert [torch.equal(without[i].weight, with_it[i].weight) for i in (1, 3, 5)] == [True, False, False]


def test_what_is_asked_for_reaches_the_training(few, monkeypatch):
    told = []
    monkeypatch.setattr(td, "train", lambda model, *args, **how: told.append(how) or model)
    asked = {"epochs": 3, "batch_size": 7, "learning_rate": 0.125, "momentum": 0, "weight_decay": 0.25, "seed": 5}
    run(mlp((784, 8, 6, 10)), few, levels=[], **asked | {"epochs": 3.0, "seed": 5.0})
    assert {name: told[0][name] for name in asked} == asked and type(told[0]["epochs"]) is int


def test_the_networks_own_dropout_is_set_in_training_only(few):
    with_it, without = mlp((784, 8, 6, 10), dropout=0.3), mlp((784, 8, 6, 10))
    dropped, off, plain_one = (
        run(model, few, alpha=0, dropout=p, **QUICK).model for model, p in ((with_it, 0.3), (with_it, 0.0), (without, 0.0))
    )
    weights = [list(model.parameters()) for model in (dropped, off, plain_one)]
    assert all(map(torch.equal, weights[1], weights[2])) and not all(map(torch.equal, weights[0], weights[1]))
    assert [module.p for module in off.modules() if isinstance(module, nn.Dropout)] == [0.3, 0.3]
    with pytest.raises(ModelError, match="dropout needs a network with dropout modules"):
        run(without, few, dropout=0.5, **QUICK)


@pytest.mark.parametrize("more", [{}, {"targets": "units"}, {"targets": "units", "whole_units": False}])
def test_a_run_that_was_cut_off_goes_on_and_ends_with_the_same_bytes(few, tmp_path, monkeypatch, more):
    model = mlp((784, 8, 6, 10))
    whole = run(model, few, **QUICK, **more)
    other = run(model, few, **QUICK, **more, seed=1)
    assert not same(whole.model, other.model)
    with monkeypatch.context() as patch:
        patch.setattr(td, "_pruned", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(model, few, **QUICK, **more, folder=tmp_path)
    monkeypatch.setattr(td, "train", None)  # it is not trained again
    after = run(model, few, **QUICK, **more, folder=tmp_path)
    assert after.rows == whole.rows and same(after.model, whole.model)
    with pytest.raises(ModelError, match="stages of another model"):
        run(model, few, **QUICK, **more, folder=tmp_path, seed=1)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("targets", "layers", "targets must be one of 'weights', 'units'"),
        ("gamma", 1.1, r"gamma must be a number in \[0, 1\]"),
        ("alpha", "much", "alpha must be a number"),
        ("ramp_until", -0.1, "ramp_until must be a number"),
        ("whole_units", "yes", "whole_units must be one of True, False"),
        ("dropout", 1.0, "dropout must be below 1"),
        ("prune", 1, "prune must be below 1"),
        ("levels", [0.5, 2], "levels must be a number"),
        ("levels", 0.5, "levels must be a list of fractions"),
        ("exempt", "5", "exempt must be a list of names"),
        ("exempt", ["7"], "exempt names '7', which is no layer"),
        ("l1", -1, "l1 must be a number from 0 on"),
        ("weight_decay", -1, "weight_decay must be a number from 0 on"),
        ("learning_rate", 0, "learning_rate must be a positive number"),
        ("momentum", 1, "momentum must be below 1; got 1"),
        ("epochs", 0, "epochs must be a whole number"),
        ("batch_size", 1.5, "batch_size must be a whole number"),
        ("seed", -1, "seed must be a whole number"),
    ],
)
def test_bad_settings_are_refused_by_name_before_any_work(few, monkeypatch, name, value, says):
    monkeypatch.setattr(td, "train", None)
    with pytest.raises(SettingError, match=says):
        run(mlp((784, 8, 6, 10)), few, **{name: value})


def test_rescaling_by_nothing_is_refused(few):
    with pytest.raises(SettingError, match="alpha must be below 1 where what is left is rescaled"):
        run(mlp((784, 8, 6, 10)), few, alpha=1, rescale=True)


# --- the study


def test_the_study_goes_on_from_its_rows(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "load", lambda name: few)
    cases = {name: study.SETTINGS[name] for name in ("none", "weights, ramping 0.99 of 0.95", "units, ramping 0.99 of 0.95")}
    monkeypatch.setattr(study, "SETTINGS", cases)
    out = tmp_path / "rows.csv"
    arguments = ["--seeds", "0", "1", "--epochs", "1", "--out", str(out), "--networks", str(tmp_path / "networks")]
    study.main(arguments)
    whole, text = out.read_bytes(), capsys.readouterr().out
    # A network and a kind of pruning: 0 and the six levels.
    assert len(whole.splitlines()) == 1 + 2 * 3 * 2 * 7
    assert "### Targeted dropout, weights pruned" in text and "### Targeted dropout, units pruned" in text
    assert all(f"\n| {name} |" in text for name in cases) and "| 99% pruned |" in text
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[: 1 + 14 * 4]))  # cut off behind four networks
    monkeypatch.setattr(td, "train", None)  # they are in the folder
    study.main(arguments)
    assert out.read_bytes() == whole
