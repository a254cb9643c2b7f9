"""Networks of few bits: layers compute with what they store, sizes are exact to the byte, and one is trained."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typer.testing import CliRunner

from benchmarks import rows
from benchmarks.baselines import quantize as study
from nettrim import data as datasets
from nettrim.baselines import quantize
from nettrim.baselines.quantize import (
    QuantConv2d,
    QuantLinear,
    calibrated,
    load_packed,
    quantized,
    save_packed,
    signed_codes,
    size,
    unpack,
    weight_bits,
)
from nettrim.cli import app
from nettrim.data import Data, mnist5k
from nettrim.errors import DataError, ModelError, SettingError
from nettrim.evaluate import accuracy
from nettrim.models import lenet5, mlp
from nettrim.train import train
from tests.networks import OneReLU, Residual, Tied, samples, small


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# --- the layers


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_the_layers_compute_with_the_numbers_that_they_store(bits):
    linear = QuantLinear(nn.Linear(7, 5), bits)
    convolution = QuantConv2d(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), bits, per="tensor")
    for layer, x in ((linear, normal(1, 9, 7).relu()), (convolution, normal(2, 3, 4, 8, 8))):
        plain = layer(x)
        layer.calibrate(x, bits)
        assert not torch.equal(layer(x), plain)
        signed = layer is convolution
        assert layer.input_range.tolist() == ([-signed_codes(bits), signed_codes(bits)] if signed else [0, 2**bits - 1])
        seen = layer.quantized_input(x)
        assert len(seen.unique()) <= 2**bits
        weight = (unpack(layer.packed()["weight"], bits, layer.weight.numel()) - signed_codes(bits)).reshape(
            layer.weight.shape
        ) * layer.scale
        by_hand = (
            F.linear(seen, weight, layer.bias) if layer is linear else F.conv2d(seen, weight, layer.bias, 2, 1, groups=2)
        )
        assert torch.equal(layer(x), by_hand)


def test_sixteen_bits_are_nearly_all():
    model, x = lenet5(seed=1), torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    near = calibrated(quantized(model, 16, scale="max"), x, 16, scale="max")
    # A relative error of 2^-16 in each weight range and each input range, 4 layers with some cancellation in their sums.
    assert (near(x) - model(x)).abs().max() < 1e-3 * model(x).abs().max()
    assert not torch.equal(near(x), model(x))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_is_stored_is_the_network_to_the_byte(bits, tmp_path):
    model = calibrated(quantized(small(), bits), samples(), bits)
    save_packed(model, tmp_path / "net.safetensors")
    weights = [108, 63, 28]
    by_hand = sum(-(-n * bits // 8) for n in weights) + 4 * (9 + 7 + 4) * 2 + 4 * 2  # scales and biases; two input scales
    assert size(model) == by_hand and weight_bits(model) == bits * sum(weights)
    raw = (tmp_path / "net.safetensors").read_bytes()
    assert len(raw) == 8 + int.from_bytes(raw[:8], "little") + by_hand
    like = calibrated(quantized(small(seed=5), bits), samples(), bits)
    back = load_packed(like, tmp_path / "net.safetensors")
    assert torch.equal(back(samples()), model(samples())) and not torch.equal(like(samples()), model(samples()))
    assert size(small()) == 4 * (199 + 20) and weight_bits(small()) == 32 * 199
    with pytest.raises(ModelError, match=f"layer '1' has bits {bits}, .* in it and bits 5, "):
        load_packed(calibrated(quantized(small(), 5), samples(), bits), tmp_path / "net.safetensors")


def test_quantizing_leaves_model_and_generator_alone_and_keeps_shared_layers_shared():
    x = samples().flatten(1)
    for model, layers in ((Residual(), 2), (OneReLU(), 3), (Tied(), 3)):
        state = torch.random.get_rng_state()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        found = calibrated(quantized(model, 3), x, 3)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert type(model.a) is nn.Linear and type(found.a) is QuantLinear
        assert sum(isinstance(module, QuantLinear) for module in found.modules()) == layers
        assert not torch.equal(found(x), model(x))
    assert found.a.weight is found.b.weight
    layer = nn.Linear(4, 4)
    twice = quantized(nn.Sequential(layer, nn.ReLU(), layer), 3)
    assert twice[0] is twice[2] and isinstance(twice[0], QuantLinear)
    assert isinstance(quantized(layer, 3), QuantLinear)


class Backwards(nn.Module):
    """Calls its layers in another order than it holds them; the last has inputs of both signs."""

    def __init__(self):
        super().__init__()
        self.c, self.b, self.a = nn.Linear(5, 3), nn.Linear(6, 5), nn.Linear(12, 6)

    def forward(self, x):
        return self.c(self.b(torch.relu(self.a(x.flatten(1)))))


def test_what_a_layer_keeps_lies_where_its_weights_do():
    layer = quantize.QuantLinear(nn.Linear(3, 2, device="meta"), 8, rule="max")
    assert len(layer.state_dict()) == 5 and {value.device.type for value in layer.state_dict().values()} == {"meta"}


def test_the_first_layer_that_is_called_takes_samples_as_they_are():
    found = calibrated(quantized(Backwards(), 4), samples(), 4)
    assert found.a.input_range.tolist() == [0, 0]
    assert found.b.input_range.tolist() == [0, 15] and found.c.input_range.tolist() == [-7, 7]
    with pytest.raises(ModelError, match="no quantized layer"):
        calibrated(Backwards(), samples(), 4)
    for none in (samples()[:0], samples() / 0):
        with pytest.raises(ModelError, match="calibrating takes samples, at least one, without NaN and Inf; got shape"):
            calibrated(found, none, 4)


def test_what_it_cannot_quantize_it_names():
    with pytest.raises(ModelError, match="layer '0' is Conv1d"):
        quantized(nn.Sequential(nn.Conv1d(3, 2, 1)), 4)
    for hook in ("register_forward_pre_hook", "register_forward_hook"):
        model = small()
        getattr(model[4], hook)(lambda *_: None)
        with pytest.raises(ModelError, match="layer '4' is Linear with hooks, which a layer in its place would not have"):
            quantized(model, 4)
    for name in ("weight", "bias"):
        model = small()
        getattr(model[4], name).data[0] = np.nan
        with pytest.raises(ModelError, match="layer '4' holds NaN or Inf"):
            quantized(model, 4)
    with pytest.raises(SettingError, match="per must be one of"):
        quantized(small(), 4, per="row")
    with pytest.raises(SettingError, match="scale must be one of"):
        quantized(small(), 4, scale="best")


# --- the method


@pytest.fixture(scope="module")
def digits():
    """Return 1,500 digits and 500 to test on, and a network trained on them."""
    whole = mnist5k()
    data = Data("digits", whole.x_train[:1500], whole.y_train[:1500], whole.x_test[:500], whole.y_test[:500])
    return train(mlp((784, 40, 30, 10)), data.x_train, data.y_train, epochs=12, learning_rate=2e-3), data


def test_eight_bits_cost_nothing_and_two_are_trained(digits):
    model, data = digits
    eight = quantize.run(model, data, bits=8, epochs=0)
    dense, after = eight.rows
    assert (dense["step"], after["step"]) == ("dense", "after training") and eight.kept == 1.0
    assert dense["accuracy"] == accuracy(model, data.x_test, data.y_test)
    assert abs(after["errors"] - dense["errors"]) <= 3  # of 500; those at the border of two classes
    assert after["weight_bits"] == 8 * (784 * 40 + 40 * 30 + 300) == dense["weight_bits"] / 4
    two = quantize.run(model, data, bits=2, activation_bits=2, epochs=4)
    _, after, inside = two.rows
    ranges = [(part.bits, part.input_range.tolist()) for part in two.model if isinstance(part, QuantLinear)]
    assert ranges == [(2, [0, 0]), (2, [0, 3]), (2, [0, 3])]
    assert inside["step"] == "in training" and inside["bytes"] == after["bytes"]
    assert after["accuracy"] < dense["accuracy"] - 0.05 and inside["accuracy"] > after["accuracy"] + 0.03
    real = quantize.run(model, data, bits=2, activation_bits=None, epochs=0).rows[-1]
    assert real["bytes"] == after["bytes"] - 8 and real["accuracy"] > after["accuracy"]  # no scales of inputs


def test_a_run_that_was_cut_off_goes_on_and_ends_with_the_same_bytes(digits, tmp_path, monkeypatch):
    model, data = digits
    told = {"bits": 3, "activation_bits": 3, "epochs": 2, "seed": 4}
    torch.manual_seed(5)
    state, before = torch.random.get_rng_state(), [parameter.clone() for parameter in model.parameters()]
    whole = quantize.run(model, data, **told)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    def cut(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(quantize, "train", cut)
        quantize.run(model, data, **told, folder=tmp_path)
    assert (tmp_path / "after-training.safetensors").exists()
    with monkeypatch.context() as patch:
        patch.setattr(quantize, "calibrated", cut)  # the finished stage is not run again
        resumed = quantize.run(model, data, **told, folder=tmp_path)
    assert same(whole.model, resumed.model) and whole.rows == resumed.rows
    assert not same(whole.model, quantize.run(model, data, **(told | {"seed": 5})).model)
    with pytest.raises(ModelError, match="of another model, of other data or of other settings"):
        quantize.run(model, data, **(told | {"bits": 4}), folder=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bits": 1}, "bits must be 2 to 16; networks of one bit have their own method, binarize"),
        ({"activation_bits": 1}, "binarize"),
        ({"bits": 17}, "bits must be a whole number"),
        ({"bits": 2.5}, "bits must be a whole number"),
        ({"bits": None}, "bits must be a whole number"),
        ({"activation_bits": 0}, "activation_bits must be"),
        ({"per": "row"}, "per must be one of"),
        ({"scale": "best"}, "scale must be one of"),
        ({"samples": 0}, "samples must be"),
        ({"epochs": -1}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"label_smoothing": 2}, "label_smoothing must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1.5}, "seed must be"),
        ({"seed": None}, "seed must be"),
    ],
)
def test_bad_settings_are_refused_by_name(wrong, says, digits):
    with pytest.raises(SettingError, match=says):
        quantize.run(*digits, **wrong)


def test_whole_numbers_that_come_as_floats_are_as_good(digits):
    model, data = digits
    asked = {"bits": 3, "activation_bits": 4, "samples": 50, "epochs": 1, "batch_size": 500, "seed": 2}
    found, same_ = (quantize.run(model, data, **told) for told in (asked, {name: float(n) for name, n in asked.items()}))
    assert found.rows == same_.rows and same_.settings == found.settings
    assert all(type(same_.settings[name]) is int for name in asked)


def test_a_network_that_it_refuses_leaves_no_folder(digits, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 784)), nn.Conv1d(1, 1, 1), nn.Flatten(), nn.Linear(784, 10))
    with pytest.raises(ModelError, match="layer '2' is Conv1d"):
        quantize.run(model, digits[1], folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_bad_data_are_refused(digits):
    model, data = digits
    with pytest.raises(DataError):
        quantize.run(model, Data("nan", data.x_train * np.nan, data.y_train, data.x_test, data.y_test))


def test_it_runs_by_its_name(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda name: digits[1])
    told = ["--data", "mnist5k", "--epochs", "1", "--set", "epochs=0", "--set", "bits=3", "--set", "activation_bits=null"]
    done = CliRunner().invoke(app, ["baseline", "quantize", *told, "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert '"activation_bits": null' in (tmp_path / "report.json").read_text()


def test_the_study_goes_on_from_its_rows(tmp_path, capsys, digits, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda name: digits[1])
    out = tmp_path / "rows.csv"
    told = ["--data", "mnist5k", "--seeds", "0", "--dense-epochs", "1", "--epochs", "0", "--bits", "8", "2"]
    told += ["--lenet5-seeds", "--networks", str(tmp_path / "nets"), "--out", str(out)]
    study.main(told)
    found = rows.read(out)
    cases = itertools.product(["8", "2"], ["channel", "tensor"], ["mse", "max"], [True, False])
    assert len(found) == 1 + len(list(cases)) and found[0]["step"] == "dense"
    before = out.stat().st_mtime_ns
    study.main(told)
    assert out.stat().st_mtime_ns == before and "after training" in capsys.readouterr().out
