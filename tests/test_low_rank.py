"""Low-rank factorization: rules for ranks, layers in factors, and the method on whole networks."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.baselines import low_rank as study
from nettrim.baselines import low_rank
from nettrim.baselines.low_rank import _ranks
from nettrim.baselines.low_rank._cost import parameters
from nettrim.baselines.low_rank._cp import cp
from nettrim.baselines.low_rank._factored import linear_pair, replaced
from nettrim.data import Data
from nettrim.errors import ModelError, SettingError
from nettrim.models import separable
from tests.networks import Odd, Tied
from tests.toys import decaying, normal


def off(a, b):
    return float((a - b).detach().abs().max())


# --- ranks


def test_the_rules_choose_what_they_say():
    W = np.diag([3.0, 2.0, 1.0, 0.0])  # squares 9, 4, 1 of 14
    rank = _ranks._chosen
    assert [rank(W, "energy", e) for e in (0.5, 9 / 14, 0.65, 13 / 14, 0.95, 1.0)] == [1, 1, 2, 2, 3, 3]
    for seed in range(20):  # a share that is reached exactly is reached, whichever way its product rounds
        s = np.sort(np.abs(normal(9, seed=seed)) + 0.1)[::-1]
        power = np.cumsum(s**2)
        assert [rank(np.diag(s), "energy", share) for share in power / power[-1]] == list(range(1, 10))
    assert rank(W, "energy", 0.5, np.diag([0.0, 1.0, 4.0, 0.0])) == 1  # responses have 4 and 4 of 8
    assert rank(W, "energy", 0.51, np.diag([0.0, 1.0, 4.0, 0.0])) == 2
    assert [rank(W, "ratio", r) for r in (0.01, 0.5, 1.0)] == [1, 2, 4]
    assert [rank(W, "number", n) for n in (1, 3, 9)] == [1, 3, 4]
    K = normal(6, 4, 3, 3)
    assert _ranks._tucker_ranks(K, "ratio", 0.5) == (2, 3)
    assert _ranks._tucker_ranks(K[:, :, :1, :1], "ratio", 0.5) == (4, 2)  # a matrix: one rank
    # 1.4 channels of 10 are 1 and 2.8 outputs of 20 are 3, but a core over one channel and two positions carries two
    assert _ranks._tucker_ranks(normal(60, 10, 2, 1), "ratio", 0.14) == (1, 2)
    assert _ranks._cp_rank(K, "number", 7) == 7
    budget = _ranks.size("tucker", K.shape, (2, 3))
    assert _ranks._cp_rank(K, "ratio", 0.5) == budget // (6 + 4 + 3 + 3)


# --- the method


def blobs(n=120, size=(2, 8, 8), seed=0):
    """Three classes of noisy patterns, with two pixels that are always 0."""
    rng = np.random.default_rng(seed)
    centers, y = rng.standard_normal((3, *size)), rng.integers(0, 3, 2 * n)
    x = (centers[y] + rng.standard_normal((2 * n, *size))).astype(np.float32)
    x[:, 0, 0, :2] = 0.0
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    return Data("blobs", x[:n], y[:n], x[n:], y[n:])


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8, 20),
            nn.ReLU(),
            nn.Linear(20, 3),
        ).eval()


def same(a, b):
    return a.rows == b.rows and all(
        torch.equal(x, y) for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("how", [{}, {"linear": "plain", "convolution": "cp"}], ids=["tucker", "cp"])
def test_the_whole_method_goes_on_where_it_was_and_gives_the_same_bytes(how, tmp_path, monkeypatch):
    data, model = blobs(), network()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.random.get_rng_state()
    call = {"rule": "ratio", "amount": 0.4, "epochs": 2, "batch_size": 40} | how
    whole = low_rank.run(model, data, **call)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert same(whole, low_rank.run(model, data, **call))
    for broken in ("_tuned", "_factored"):
        with monkeypatch.context() as patch:
            patch.setattr(low_rank, broken, lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                low_rank.run(model, data, **call, folder=tmp_path / broken)
        assert same(whole, low_rank.run(model, data, **call, folder=tmp_path / broken))
        with monkeypatch.context() as patch:
            for name in ("_tuned", "_factored"):
                patch.setattr(low_rank, name, lambda *_, **__: 1 / 0)
            patch.setattr(_ranks, "planned", lambda *_, **__: 1 / 0)
            assert same(whole, low_rank.run(model, data, **call, folder=tmp_path / broken))  # nothing is done twice
    with pytest.raises(ModelError, match="stages of another"):
        low_rank.run(model, data, **(call | {"amount": 0.5}), folder=tmp_path / "_tuned")
    assert not same(whole, low_rank.run(model, data, **call, seed=1))


def test_rows_tell_every_layer_and_the_network_is_what_they_say(tmp_path):
    data, model = blobs(), network()
    result = low_rank.run(model, data, rule="ratio", amount=0.4, epochs=1)
    assert len({tuple(row) for row in result.rows}) == 1
    steps = [(row["step"], row["layer"], row["rank"]) for row in result.rows]
    assert steps == [
        ("dense", "", ""),
        ("factored", "0", "1 2"),
        ("factored", "2", "2 3"),
        ("left alone", "4", ""),
        ("factored", "8", "3"),
        ("left alone", "10", ""),
        ("all factored", "", ""),
        ("fine-tuned", "", ""),
    ]
    how = {row["layer"]: row["how"] for row in result.rows}
    assert how["4"] == "left alone: Conv2d of 2 groups" and how["10"] == "left alone: it gives the logits"
    assert how["0"] == how["2"] == "tucker" and how["8"] == "svd"
    assert result.kept == 1.0 and result.masks == {}
    assert result.rows[-1]["n_parameters"] == parameters(result.model)
    assert result.rows[-1]["parameters"] == parameters(result.model) / parameters(model)
    sizes = [row["n_parameters"] for row in result.rows]
    # layer by layer: S R3 + d^2 R3 R4 + T R4 for S T d^2, r (m + n) for m n
    assert sizes[0] - sizes[1] == 2 * 6 * 9 - (2 * 1 + 9 * 1 * 2 + 6 * 2)
    assert sizes[1] - sizes[2] == 6 * 8 * 9 - (6 * 2 + 9 * 2 * 3 + 8 * 3)
    assert sizes[3] - sizes[4] == 8 * 20 - 3 * (8 + 20)
    assert isinstance(result.model[7], nn.Dropout) and not any(module.training for module in result.model.modules())
    assert result.rows[-1]["loss"] < result.rows[-2]["loss"]  # an untrained network, and an epoch with the labels
    result.save(tmp_path)


def test_full_rank_equals_the_network():
    data, model = blobs(), network()
    for how in ("data", "plain"):
        result = low_rank.run(model, data, linear=how, rule="ratio", amount=1.0, smaller_only=False, epochs=0)
        assert off(result.model(data.x_test), model(data.x_test)) < 1e-5  # float32, sums of some hundred terms
        assert len(result.model[8]) == 2 and result.rows[0]["errors"] == result.rows[-1]["errors"]
    model, data = model.double(), Data("blobs", data.x_train.double(), data.y_train, data.x_test.double(), data.y_test)
    result = low_rank.run(model, data, rule="energy", amount=1.0, smaller_only=False, epochs=0)
    assert off(result.model(data.x_test), model(data.x_test)) < 1e-12
    alone = low_rank.run(model, data, rule="ratio", amount=1.0, epochs=0)
    assert [row["step"] for row in alone.rows] == ["dense", *["left alone"] * 5, "all factored"]
    # the first layer, at full rank of both sides: all of its 6 2 3 3 weights are in the core
    assert alone.rows[1]["how"] == "left alone: 108 weights at rank 2 and 6 are no fewer than 108"


def test_responses_are_nearer_where_they_are_what_is_approximated():
    data, model = blobs(), network()
    call = {"ranks": {"8": 3}, "layers": [], "epochs": 0}
    aware, plain = (low_rank.run(model, data, linear=how, **call) for how in ("data", "plain"))
    lost = [
        (result.model[:9](data.x_train) - model[:9](data.x_train)).norm().item() for result in (aware, plain)
    ]  # on all training samples, which are those that the Gram matrix is of
    assert lost[0] < 0.95 * lost[1]
    whole = (model[8](model[:8](data.x_train)) - model[8].bias).norm().item()
    error = next(row["error"] for row in aware.rows if row["layer"] == "8")
    assert error == pytest.approx(lost[0] / whole, rel=1e-3)  # float32 against float64


def test_told_layers_and_ranks_are_obeyed(monkeypatch):
    data, model = blobs(), network()
    result = low_rank.run(model, data, layers=["2"], ranks={"2": [3, 4], "10": 2}, epochs=0)
    found = {row["layer"]: (row["how"], row["rank"]) for row in result.rows if row["layer"]}
    assert found["2"] == ("tucker", "3 4") and found["10"] == ("svd", "2")
    assert {found[name][0] for name in ("0", "4", "8")} == {"left alone: not asked for"}
    assert result.model[2][1].weight.shape == (4, 3, 3, 3)
    seeds = []
    monkeypatch.setattr(low_rank, "cp", lambda *args, seed: seeds.append(seed) or cp(*args, seed=seed))
    low_rank.run(model, data, convolution="cp", layers=[], ranks={"2": 3}, epochs=0, seed=5)
    assert seeds == [5]
    none = low_rank.run(model, data, linear="none", convolution="none", epochs=0)
    assert all(row["step"] != "factored" for row in none.rows) and none.rows[-1]["parameters"] == 1.0


def test_layers_that_cannot_be_replaced_are_left_alone():
    x = torch.zeros(1, 12)
    how = _ranks.kinds(Tied(), x, "plain", "tucker", None, ())
    assert how["a"] == how["b"] == "left alone: its weight is in several places" and "logits" in how["c"]
    assert _ranks.kinds(Odd(), x, "plain", "tucker", None, ())["twice"] == "svd"  # in one place, however often it is called
    inside = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(24, 2))
    how = _ranks.kinds(inside, torch.zeros(1, 3, 8), "plain", "tucker", None, ())
    assert "NonDynamicallyQuantizableLinear" in how["0.self_attn.out_proj"] and how["0.linear1"] == "svd"
    how = _ranks.kinds(separable(width=4), torch.zeros(1, 3, 32, 32), "plain", "tucker", None, ())
    assert sum(text == "tucker" for text in how.values()) == 7 and sum("groups" in text for text in how.values()) == 6


def test_a_layer_with_hooks_is_not_replaced():
    for hook in ("register_forward_pre_hook", "register_forward_hook"):
        model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
        getattr(model[2], hook)(lambda *_: None)
        with pytest.raises(ModelError, match="layer '2' is Linear with hooks, which a layer in its place would not have"):
            replaced(model, {"2": nn.Linear(4, 2)})
        assert isinstance(replaced(model, {"0": nn.Linear(6, 4)}), nn.Sequential)


def test_a_model_that_is_one_layer_is_replaced_itself():
    layer = nn.Linear(12, 5)
    made = linear_pair(layer, np.zeros((5, 2)), np.zeros((2, 12)))
    assert isinstance(replaced(layer, {"": made}), nn.Sequential) and isinstance(replaced(layer, {}), nn.Linear)
    layer.weight.requires_grad_(False)
    assert not any(module.weight.requires_grad for module in linear_pair(layer, np.zeros((5, 2)), np.zeros((2, 12))))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"linear": "both"}, "linear must be one of"),
        ({"convolution": "svd"}, "convolution must be one of"),
        ({"rule": "guess"}, "rule must be one of"),
        ({"amount": 0.5}, "not with evbmf"),
        ({"rule": "energy"}, "amount must be a positive number"),
        ({"rule": "ratio", "amount": 1.5}, r"amount must be a number in \[0, 1\]"),
        ({"rule": "ratio", "amount": 0}, "amount must be a positive number"),
        ({"rule": "number", "amount": 2.5}, "amount must be a whole number"),
        ({"layers": "2"}, "layers is a list of names"),
        ({"layers": ["99"]}, "no layer is called 99"),
        ({"ranks": [3]}, "ranks maps names"),
        ({"ranks": {"99": 3}}, "there is no such layer"),
        ({"ranks": {"4": 3}}, "Conv2d of 2 groups"),
        ({"ranks": {"8": 21}}, "whole numbers from 1 to"),
        ({"ranks": {"2": 3}}, "whole numbers from 1 to"),
        ({"ranks": {"8": True}}, "whole numbers from 1 to"),
        ({"smaller_only": 1}, "smaller_only is true or false"),
        ({"ranks": {"8": [3, 4]}}, "whole numbers from 1 to"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"samples": 0}, "samples must be a whole number"),
        ({"epochs": -1}, "epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"learning_rate": 0}, "learning_rate must be a positive number"),
        ({"weight_decay": -1}, "weight_decay must be a number from 0 on"),
        ({"label_smoothing": 2}, "label_smoothing must be a number"),
    ],
)
def test_settings_that_are_none_are_refused_before_any_work(wrong, message, monkeypatch, tmp_path):
    monkeypatch.setattr(low_rank, "_factored", lambda *_: 1 / 0)
    with pytest.raises(SettingError, match=message):
        low_rank.run(network(), blobs(), **wrong, folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_whole_numbers_that_come_as_floats_are_as_good():
    asked = {"rule": "number", "amount": 2, "samples": 50, "epochs": 1, "batch_size": 60, "seed": 2, "ranks": {"2": [2, 3]}}
    told = {name: float(n) if isinstance(n, int) else n for name, n in asked.items()} | {"ranks": {"2": (2.0, 3.0)}}
    found, as_floats = (low_rank.run(network(), blobs(), **each) for each in (asked, told))
    assert same(found, as_floats) and as_floats.settings == found.settings
    assert all(type(as_floats.settings[name]) is int for name in ("amount", "samples", "epochs", "batch_size", "seed"))


def test_a_layer_without_signal_is_left_alone_unless_it_is_named():
    data, model = blobs(), network()
    with torch.no_grad():
        model[8].weight.copy_(torch.randn(20, 8, generator=torch.Generator().manual_seed(0)))
    found = {row["layer"]: row for row in low_rank.run(model, data, epochs=0).rows}
    assert found["8"]["how"] == "left alone: EVBMF finds nothing but noise in it"
    named = {row["layer"]: row for row in low_rank.run(model, data, epochs=0, layers=["8"]).rows}
    assert (named["8"]["how"], named["8"]["rank"]) == ("svd", "1")


# --- the study


def test_the_study_goes_on_from_its_rows(tmp_path, capsys, monkeypatch):
    few = blobs(80, size=(1, 28, 28))
    monkeypatch.setattr(study, "load", lambda name: Data(name, few.x_train, few.y_train, few.x_test, few.y_test))
    out = tmp_path / "rows.csv"
    call = ["--data", "mnist5k", "--network", "lenet300", "--seeds", "0", "--epochs", "1", "--dense-epochs", "1"]
    call += ["--networks", str(tmp_path), "--out", str(out), "--points"]
    study.main([*call, "1"])
    first = out.read_bytes()
    study.main([*call, "1"])
    assert out.read_bytes() == first
    study.main([*call, "2"])
    assert out.read_bytes().startswith(first) and len(out.read_text().splitlines()) == 3
    assert "| SVD, plain | ratio 0.02 |" in capsys.readouterr().out
    for network in ("lenet300", "lenet5"):
        assert len({str(point) for point in study.points(network)}) == len(list(study.points(network))) > 10


def test_reconstructions_of_the_study_agree_with_tensorly():
    pytest.importorskip("tensorly")
    layer = nn.Sequential(nn.Conv2d(8, 10, 5))
    layer[0].weight.data = torch.from_numpy(decaying((10, 8, 5, 5), power=0.5)).float()
    found = study.against_tensorly(layer, "0", (0.3, 0.6))
    assert [row["form"] for row in found] == ["tucker"] * 2 + ["cp"] * 3
    # Tucker ends when a sweep gains 1e-8, CP after 1000 sweeps that gain as little: see the tests of each above
    assert all(row["ours"] <= row["tensorly"] + (1e-6 if row["form"] == "tucker" else 1e-4) for row in found)
