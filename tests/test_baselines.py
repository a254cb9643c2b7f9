"""What all baselines share: the contract that each keeps, stages that a cut-off run goes on from, and the door."""

import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from nettrim import baselines, masks, recipes
from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row
from nettrim.baselines._stages import Stage, Stages
from nettrim.cli import app
from nettrim.data import Data
from nettrim.errors import DataError, ModelError, NetTrimError, SettingError
from nettrim.store import with_weights
from nettrim.terminal import tensors
from tests.networks import samples, small

METHODS = baselines.available()


@pytest.fixture
def data():
    """Random samples for the small network, 60 to train and 20 to test."""
    return Data("random", samples(60), torch.arange(60) % 4, samples(20, seed=2), torch.arange(20) % 4)


# --- the contract


@pytest.mark.parametrize("name", METHODS)
def test_a_method_keeps_the_contract(name):
    method = baselines.method(name)
    given = inspect.signature(method.run).parameters
    assert list(given)[:2] == ["model", "data"] and list(given)[-2:] == ["seed", "folder"]
    assert given["seed"].default == 0 and given["folder"].default is None
    assert all(p.default is not p.empty for p in list(given.values())[2:])
    assert method.BEGINS in ("trained", "born") and method.NETWORK in recipes.NETWORKS
    settings = baselines.settings(name)
    assert settings and json.loads(json.dumps(settings)).keys() == settings.keys()  # what the command line can write


@pytest.mark.parametrize("name", METHODS)
def test_a_method_looks_at_what_it_is_given_before_it_works(name, data, tmp_path):
    bad = replace(data, x_train=data.x_train * float("nan"))
    with pytest.raises(DataError, match="the train samples of 'random' hold NaN or Inf"):
        baselines.method(name).run(small(), bad, folder=tmp_path / "stages")
    assert not (tmp_path / "stages").exists()


def test_methods_are_found_by_name():
    for name in METHODS:
        assert baselines.method(name.replace("_", "-")) is baselines.method(name)
    with pytest.raises(SettingError, match="no baseline is called 'magic'; there are "):
        baselines.method("magic")
    assert issubclass(SettingError, NetTrimError) and issubclass(SettingError, ValueError)


# --- stages


def test_a_stage_is_run_once_and_read_back_whole(data, tmp_path):
    model, made = small(), []

    def make():
        made.append(1)
        chosen = masks.magnitude(model, 0.5)
        changed = small(seed=3)
        masks.impose(changed, chosen)
        return Stage(changed, chosen, {"q": 0.25, "names": ["a"]})

    first = Stages(tmp_path / "stages", model, data, {"q": 1}).run("pruned", make, model)
    again = Stages(tmp_path / "stages", model, data, {"q": 1}).run("pruned", make, model)
    assert list(again.masks) == list(first.masks)  # in this order they are counted in reports
    assert made == [1] and again.facts == first.facts == {"q": 0.25, "names": ["a"]}
    assert again.masks.keys() == first.masks.keys()
    assert all(torch.equal(again.masks[name], mask) for name, mask in first.masks.items())
    state = again.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in first.model.state_dict().items())
    assert not again.model.training and model.training  # what `like` was stays as it was
    assert Stages(None, model, data, {}).run("pruned", make, model).facts and made == [1, 1]


def test_a_stage_that_fails_leaves_nothing(data, tmp_path):
    stages = Stages(tmp_path, small(), data, {})
    with pytest.raises(KeyboardInterrupt):
        stages.run("pruned", lambda: (_ for _ in ()).throw(KeyboardInterrupt), small())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.sha256"]


def test_masks_come_back_in_the_order_of_the_layers(data, tmp_path):
    layers = [nn.Flatten(), *(nn.Linear(12, 12) for _ in range(11)), nn.Linear(12, 4)]  # in text 10 comes before 2
    model = nn.Sequential(*layers)
    stages = Stages(tmp_path, model, data, {})
    made = stages.run("whole", lambda: Stage(model, masks.everything(model)), model)
    assert list(stages.run("whole", lambda: None, model).masks) == list(made.masks)


def other_nonlinearity():
    model = small()
    place = next(i for i, module in enumerate(model) if isinstance(module, nn.ReLU))
    model[place] = nn.Tanh()
    return model


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {"model": small(seed=1)},
        lambda data: {"model": other_nonlinearity()},  # the same parameters
        lambda data: {"settings": {"q": 2}},
        lambda data: {"data": replace(data, x_train=samples(60, seed=9))},
        lambda data: {"data": replace(data, y_train=(data.y_train + 1) % 4)},
        lambda data: {"data": replace(data, x_test=samples(20, seed=9))},
        lambda data: {"data": replace(data, y_test=(data.y_test + 1) % 4)},
    ],
)
def test_stages_of_another_run_are_not_taken(change, data, tmp_path):
    given = {"model": small(), "data": data, "settings": {"q": 1}}
    Stages(tmp_path, **given)
    Stages(tmp_path, **given)
    with pytest.raises(ModelError, match="holds stages of another model, of other data or of other settings"):
        Stages(tmp_path, **(given | change(data)))


def test_tied_weights_are_kept_too(data, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.Linear(12, 4))
    model[3].weight = model[1].weight
    stages = Stages(tmp_path, model, data, {})
    stages.run("tied", lambda: Stage(model), model)
    read = stages.run("tied", lambda: pytest.fail("is there already"), model).model
    assert read[3].weight is read[1].weight and torch.equal(read[1].weight, model[1].weight)


# --- the result


def test_a_result_is_saved_and_can_be_read(data, tmp_path):
    model = small().eval()
    chosen = masks.magnitude(model, 0.25)
    masks.impose(model, chosen)
    line = row("pruned", model, chosen, data, rate=4.0)
    result = Baseline("magnitude", model, chosen, (line,), {"keep": 0.25})
    result.save(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rows"] == [line] and report["settings"] == {"keep": 0.25} and report["versions"]["torch"]
    assert list(line) == ["step", "kept", "weights", "accuracy", "loss", "errors", "rate"]
    assert line["weights"] == sum(round(0.25 * size) for size in (108, 63, 28)) == 50
    assert report["kept"] == line["kept"] == 50 / 199
    back = with_weights(small(seed=5), tensors(tmp_path / "model.safetensors"), tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), model.parameters(), strict=True))
    read = tensors(tmp_path / "masks.safetensors")
    assert all(torch.equal(read[name], mask) for name, mask in chosen.items())
    assert [column.header for column in result.summary().columns] == list(line)


# --- the door


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": torch.zeros(0, 3, 4), "y_train": torch.zeros(0, dtype=torch.long)}, "at least one; got 0 and 0"),
        ({"y_test": torch.zeros(3, dtype=torch.long)}, "as many labels as test samples, at least one; got 20 and 3"),
        ({"x_test": torch.full((20, 3, 4), float("inf"))}, "test samples of 'random' hold NaN or Inf"),
        ({"y_train": torch.full((60,), -1)}, "train labels of 'random' must be class numbers from 0 on"),
        ({"y_train": torch.full((60,), -1)}, "of shape \\(60,\\), the least -1"),
        ({"y_train": torch.zeros(60)}, "class numbers from 0 on, int64 of shape .60,.; got torch.float32"),
        ({"y_train": torch.zeros(60, 1, dtype=torch.long)}, "got torch.int64 of shape .60, 1."),
        ({"x_train": torch.zeros(60, 3, 5)}, r"must have one shape; got \(3, 5\) and \(3, 4\)"),
    ],
)
def test_data_that_cannot_be_used_are_refused(change, message, data):
    with pytest.raises(DataError, match=message):
        _door.fits(small(), replace(data, **change))


class Pair(nn.Sequential):
    """Gives two things."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(12, 4))

    def forward(self, x):
        return super().forward(x), x


class Two(nn.Module):
    """Takes two things."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 4)

    def forward(self, x, more):
        return self.layer(x.flatten(1)) + more


def parametrized():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    nn.utils.parametrizations.weight_norm(model[1])
    return model


def test_models_that_cannot_be_used_are_refused(data):
    _door.fits(small(), data)
    broken = small()
    nn.init.constant_(broken[4].bias, float("nan"))
    cases = [
        (nn.Flatten(), "a model with linear layers or convolutions; got Flatten"),
        (broken, "bias' holds NaN or Inf"),
        (small().double(), r"'1\.weight' is torch.float64 on cpu, the samples torch.float32 on cpu"),
        (nn.Sequential(nn.Flatten(), nn.Linear(13, 4)), r"does not take samples of shape \(3, 4\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), r"must give logits \(n, 4\) or more of them; it gives \(2, 3\)"),
        (parametrized(), r"the weight of '1' is computed from other parameters"),
        (small().requires_grad_(False), "no parameter of the model requires a gradient"),
        (Pair(), "must give a tensor of logits; it gives a tuple"),
        (nn.Bilinear(12, 12, 4), "needs a model with linear layers"),
        (Two(), r"does not take samples of shape \(3, 4\)"),
        (nn.Linear(4, 4), r"must give logits \(n, 4\) or more of them; it gives \(2, 3, 4\)"),
    ]
    for model, message in cases:
        with pytest.raises(ModelError, match=message):
            _door.fits(model, data)
    for dtype in (torch.float16, torch.bfloat16):
        half = replace(data, x_train=data.x_train.to(dtype), x_test=data.x_test.to(dtype))
        with pytest.raises(ModelError, match=r"training in it loses small steps: call \.float\(\)"):
            _door.fits(small().to(dtype), half)


def test_the_door_leaves_the_model_as_it_was(data):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _door.fits(model, data)
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_settings_are_refused_by_name():
    assert _door.fraction("keep", 0.5) == 0.5 and _door.fraction("keep", 1, closed=True) == 1.0
    assert _door.positive("T", 3) == 3.0 and _door.positive("decay", 0, zero=True) == 0.0
    assert _door.whole("bits", 4, 2, 8) == 4 and _door.choice("scope", "layer", ("layer", "global")) == "layer"
    assert [type(_door.whole("bits", four)) for four in (4.0, np.int64(4), np.float32(4))] == [int] * 3
    assert _door.fraction("keep", np.float32(0.5)) == 0.5
    cases = [
        (lambda: _door.whole("bits", float("inf")), "bits must be a whole number, at least 1; got inf"),
        (lambda: _door.whole("bits", 1, 0, 0), "at least 0 and at most 0; got 1"),
        (lambda: _door.choice("scope", ["layer"], ("layer", "global")), r"got \['layer'\]"),
        (lambda: _door.choice("dead", 1, (False, True)), "dead must be one of False, True; got 1"),
        (lambda: _door.fraction("keep", 0), r"keep must be a number in \(0, 1\); got 0"),
        (lambda: _door.fraction("keep", 1.0), r"keep must be a number in \(0, 1\)"),
        (lambda: _door.fraction("keep", 1.5, closed=True), r"keep must be a number in \[0, 1\]"),
        (lambda: _door.fraction("keep", True), "got True"),
        (lambda: _door.fraction("keep", "half"), "got 'half'"),
        (lambda: _door.fraction("keep", float("nan")), "got nan"),
        (lambda: _door.positive("T", 0), "T must be a positive number; got 0"),
        (lambda: _door.positive("T", float("inf")), "T must be a positive number; got inf"),
        (lambda: _door.positive("decay", -1, zero=True), "decay must be a number from 0 on; got -1"),
        (lambda: _door.whole("bits", 0), "bits must be a whole number, at least 1; got 0"),
        (lambda: _door.whole("bits", 9, 2, 8), "bits must be a whole number, at least 2 and at most 8; got 9"),
        (lambda: _door.whole("bits", 2.5), "got 2.5"),
        (lambda: _door.whole("bits", None), "got None"),
        (lambda: _door.choice("scope", "all", ("layer", "global")), "scope must be one of 'layer', 'global'; got 'all'"),
    ]
    for call, message in cases:
        with pytest.raises(SettingError, match=message):
            call()


# --- the command


@pytest.mark.parametrize("asked", [["lottery"], ["han", "--weights"]])
def test_epochs_of_a_training_that_is_not_done_are_refused(asked, tmp_path):
    if "--weights" in asked:
        save_file(recipes.born("lenet300").state_dict(), tmp_path / "w.safetensors")
        asked = [*asked, str(tmp_path / "w.safetensors")]
    done = CliRunner().invoke(app, ["baseline", *asked, "--epochs", "1", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "--epochs is of training a dense network" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()
