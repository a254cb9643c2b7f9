"""Networks of signs: gradients as the paper has them, and the method that trains them."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812
from typer.testing import CliRunner

from benchmarks import rows
from benchmarks.baselines import binarize as study
from nettrim import data as datasets
from nettrim.baselines import binarize
from nettrim.baselines.binarize import (
    BinaryConv2d,
    BinaryLinear,
    Sign,
    Signed,
    XnorNetwork,
    binarized,
    binary_mlp,
    clip_real,
    sign_ste,
    squared_hinge,
)
from nettrim.cli import app
from nettrim.data import Data, mnist5k
from nettrim.errors import DataError, ModelError, SettingError
from nettrim.models import lenet5, lenet300, mlp
from tests.networks import Residual, small
from tests.toys import drawn, looked, same_weights

SEEDS = st.integers(0, 2**31)


@pytest.mark.parametrize(
    ("limit", "passes"), [(1.0, [0, 1, 1, 1, 1, 1, 1, 0]), (None, [1] * 8), (0.5, [0, 0, 1, 1, 1, 0, 0, 0])]
)
def test_signs_and_their_gradients_by_hand(limit, passes):
    x = torch.tensor([-1.5, -1.0, -0.2, 0.0, -0.0, 0.7, 1.0, 1.5], requires_grad=True)
    y = sign_ste(x, limit=limit)
    y.backward(torch.arange(1.0, 9.0))
    assert y.tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    assert x.grad.tolist() == [i * p for i, p in enumerate(passes, 1)]


def test_the_gradient_is_that_of_the_hard_tanh():
    x = 2 * drawn((1000,), 0).double()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    (sign_ste(a) * x.cos()).sum().backward()
    (F.hardtanh(b) * x.cos()).sum().backward()
    assert torch.equal(a.grad, b.grad) and 0 < (a.grad == 0).sum() < 1000


def test_drawn_signs_have_the_chances_of_the_hard_sigmoid():
    x = torch.tensor([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]).repeat(4000, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = sign_ste(x, width=2.0)
        other = sign_ste(x, width=2.0)
    assert set(y.unique().tolist()) == {-1.0, 1.0} and not torch.equal(y, other)
    chance = ((x[0] / 2 + 1) / 2).clamp(0, 1)
    assert torch.equal((y[:, [0, 1, 5, 6]] > 0).float().mean(0), chance[[0, 1, 5, 6]])  # certain, ends included
    # Five deviations of a mean of 4000 draws: 5 * 0.5 / sqrt(4000).
    assert ((y > 0).float().mean(0) - chance).abs().max() < 0.04


def test_what_is_drawn_in_training_is_the_sign_in_evaluation():
    layer, sign, x = BinaryLinear(nn.Linear(30, 20), "stochastic"), Sign(stochastic=True), drawn((50, 30), 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert not torch.equal(layer(x), layer(x)) and not torch.equal(sign(x), sign(x))
    state = torch.random.get_rng_state()
    assert torch.equal(layer.eval()(x), F.linear(x, torch.where(layer.weight >= 0, 1.0, -1.0)))
    assert torch.equal(sign.eval()(x), torch.where(x >= 0, 1.0, -1.0))
    assert torch.equal(torch.random.get_rng_state(), state)


@given(SEEDS, st.integers(1, 7))
def test_mean_magnitude_times_signs_is_the_least_squares_fit(seed, n):
    weight = drawn((1, n), seed)
    layer = BinaryLinear(nn.Linear(n, 1), "scaled")
    layer.weight.data = weight
    ours = (weight - layer.binary()).square().sum().item()
    best = math.inf
    for signs in itertools.product((-1.0, 1.0), repeat=n):
        b = torch.tensor([signs])
        alpha = (b * weight).sum() / n  # least squares for these signs
        best = min(best, (weight - alpha * b).square().sum().item())
    assert ours <= best + 1e-5 * weight.square().sum().item()  # a dozen roundings of 2^-24 of |w|^2


def test_weights_get_the_gradient_of_the_signs_however_large_they_are():
    layer, x = BinaryLinear(nn.Linear(6, 4)), drawn((8, 6), 2)
    layer.weight.data *= 100  # far outside of [-1, 1]
    signs = torch.where(layer.weight >= 0, 1.0, -1.0).requires_grad_()
    (layer(x) ** 3).sum().backward()
    (F.linear(x, signs) ** 3).sum().backward()
    assert torch.equal(layer.weight.grad, signs.grad)


def test_the_gate_stops_the_gradient_outside_of_one():
    x = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    Sign()(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]
    x.grad = None
    Sign(gate=False)(x).sum().backward()
    assert x.grad.tolist() == [1, 1, 1, 1]


def test_squared_hinge_by_hand():
    scores, labels = torch.tensor([[2.0, -2.0], [0.5, 0.5]]), torch.tensor([0, 1])
    # 1 - t z: -1, -1 and 1.5, 0.5, of which the positive ones are squared, over 2 samples times 2 classes.
    assert squared_hinge(nn.Identity(), scores, labels).item() == (1.5**2 + 0.5**2) / 4


def test_clipped_at_h_with_plain_steps_is_the_authors_rule():
    # Theirs: W in [-1, 1], W + (step of Adam) / H, clipped. Ours: H W in [-H, H], H W + step, clipped.
    x, y = torch.rand(40, 6, generator=torch.Generator().manual_seed(3)), torch.arange(40) % 3
    ours = binary_mlp((6, 9, 3), seed=1)
    theirs, bounds = copy.deepcopy(ours), {}
    for module in theirs.modules():
        if isinstance(module, BinaryLinear):
            bounds[module], module.bound = module.bound, 1.0
            module.weight.data /= bounds[module]
            assert bounds[module] == math.sqrt(1.5 / sum(module.weight.shape))
    steps = [torch.optim.Adam(model.parameters(), lr=3e-2) for model in (ours, theirs)]
    for _ in range(30):
        for model, step in zip((ours, theirs), steps, strict=True):
            before = {module: module.weight.detach().clone() for module in bounds}
            step.zero_grad()
            squared_hinge(model, x, y).backward()
            step.step()
            if model is theirs:
                for module, old in before.items():
                    module.weight.data = old + (module.weight.data - old) / bounds[module]
            clip_real(model)
    pairs = [(a, b) for a, b in zip(ours.modules(), theirs.modules(), strict=True) if b in bounds]
    for a, b in pairs:
        # 30 steps, each rounded to 2^-24 of at most 1; no weight comes so near to 0 that its sign hangs on that.
        assert (a.weight / bounds[b] - b.weight).abs().max() < 1e-5
        assert torch.equal(a.binary(), b.binary()) and (a.weight.abs() == a.bound).any()


def test_a_network_becomes_binary_layer_by_layer():
    state, plain = torch.random.get_rng_state(), lenet300(dropout=0.1)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    kinds = [type(part) for part in binarized(plain)]
    block = [BinaryLinear, nn.BatchNorm1d, Sign, nn.Dropout]
    assert kinds == [Signed, nn.Flatten, *block, *block, BinaryLinear, nn.BatchNorm1d]
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    made = binarized(lenet5(), activations="relu", weights="scaled")
    conv = [BinaryConv2d, nn.MaxPool2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(part) for part in made] == [
        Signed, *conv, *conv, nn.Flatten, BinaryLinear, nn.BatchNorm1d, nn.ReLU, BinaryLinear, nn.BatchNorm1d,
    ]  # fmt: skip
    assert made(torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))).shape == (4, 10)
    assert all(module.bias is None for module in made if isinstance(module, BinaryLinear | BinaryConv2d))
    conv2 = made[5]
    assert conv2.bound == math.sqrt(1.5 / (25 * 20 + 25 * 50))
    assert torch.equal(conv2.scale().flatten(), conv2.weight.abs().mean((1, 2, 3)))
    twin = binarized(plain, weights="real", activations="relu")
    assert torch.equal(twin[2].weight, plain[1].weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_there_is_a_sign_between_two_layers_also_where_no_relu_was():
    kinds = [type(part) for part in binarized(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))]
    assert kinds == [Signed, BinaryLinear, nn.BatchNorm1d, Sign, BinaryLinear, nn.BatchNorm1d]


def test_the_first_layer_takes_minus_one_to_one_and_signs():
    model = binary_mlp((3, 2, 2)).eval()
    seen = []
    model[2].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    model(torch.tensor([[0.0, 0.5, 1.0]]))
    assert seen[0].tolist() == [[-1.0, 0.0, 1.0]]
    assert set(model[2].binary().unique().tolist()) <= {-1.0, 1.0}


def test_what_it_cannot_binarize_it_names():
    for wrong, says in (
        (Residual(), "is, or holds, Residual"),
        (nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)), "holds, Tanh"),
        (nn.Sequential(nn.Linear(3, 2), nn.ReLU()), "ends with a layer"),
        (nn.Sequential(nn.ReLU()), "ends with a layer"),
    ):
        with pytest.raises(ModelError, match=says):
            binarized(wrong)
    for hook in ("register_forward_pre_hook", "register_forward_hook"):
        for place, named in ((lambda model: model[0], "layer '0' is"), (lambda model: model, "layer '' is Sequential")):
            model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
            getattr(place(model), hook)(lambda *_: None)
            with pytest.raises(ModelError, match=f"{named}.* with hooks, which a layer in its place would not have"):
                binarized(model)
    with pytest.raises(SettingError, match="weights must be one of"):
        binarized(small(), weights="ternary")
    with pytest.raises(SettingError, match="activations must be one of"):
        binarized(small(), activations="tanh")
    with pytest.raises(ValueError, match="at least two positive widths"):
        binary_mlp((5,))


# --- the method


@pytest.fixture(scope="module")
def digits():
    """Return 2,000 digits and 500 to test on."""
    whole = mnist5k()
    return Data("digits", whole.x_train[:2000], whole.y_train[:2000], whole.x_test[:500], whole.y_test[:500])


def test_a_binary_network_learns_digits_and_counts_them_on_bits(digits):
    result = binarize.run(mlp((784, 96, 96, 10)), digits, epochs=6)
    born, done = result.rows
    assert born["accuracy"] < 0.3 and done["accuracy"] > 0.75 and result.kept == 1.0
    assert done["weight_bits"] == 784 * 96 + 96 * 96 + 960
    layers = [module for module in result.model if isinstance(module, BinaryLinear)]
    assert all(layer.weight.abs().max() <= layer.bound for layer in layers)
    bits, (signs, scores) = XnorNetwork(result.model), looked(result.model, digits.x_test)
    for ours, theirs in zip(bits.hidden(digits.x_test), signs, strict=True):
        assert np.array_equal(np.unpackbits(ours, axis=1, count=96), theirs.numpy() > 0)
    assert torch.equal(bits(digits.x_test), scores)
    assert done["errors"] == int((bits(digits.x_test).argmax(1) != digits.y_test).sum())
    loose = binarize.run(mlp((784, 96, 96, 10)), digits, epochs=6, clip=False)
    assert any(part.weight.abs().max() > part.bound for part in loose.model if isinstance(part, BinaryLinear))


@pytest.mark.parametrize(
    "told",
    [
        {"weights": "stochastic", "activations": "stochastic"},
        {"weights": "scaled", "activations": "relu"},
        {"weights": "real", "activations": "relu"},
        {"gate": False},
    ],
)
def test_all_kinds_learn_from_their_seed_and_leave_the_rest_alone(told, digits):
    model = mlp((784, 48, 10), dropout=0.1)
    torch.manual_seed(4)
    state, before = torch.random.get_rng_state(), [parameter.clone() for parameter in model.parameters()]
    first, again, other = (binarize.run(model, digits, epochs=2, seed=seed, **told) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert same_weights(first.model, again.model) and first.rows == again.rows and not same_weights(first.model, other.model)
    assert first.rows[-1]["accuracy"] > 0.5
    gates = [part.gate for part in first.model if isinstance(part, Sign)]
    assert gates == ([] if told.get("activations") == "relu" else [told.get("gate", True)])
    assert (first.rows[-1]["weight_bits"] == 784 * 48 + 480) == (told.get("weights") != "real")


def test_a_run_that_was_cut_off_ends_with_the_same_bytes(digits, tmp_path, monkeypatch):
    model = mlp((784, 20, 10))
    whole = binarize.run(model, digits, epochs=1)

    def cut(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(binarize, "train", cut)
        binarize.run(model, digits, epochs=1, folder=tmp_path)
    assert same_weights(binarize.run(model, digits, epochs=1, folder=tmp_path).model, whole.model)
    monkeypatch.setattr(binarize, "train", cut)  # what is finished is read
    resumed = binarize.run(model, digits, epochs=1, folder=tmp_path)
    assert same_weights(resumed.model, whole.model) and resumed.rows == whole.rows
    with pytest.raises(ModelError, match="of another model, of other data or of other settings"):
        binarize.run(model, digits, epochs=1, clip=False, folder=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"weights": "ternary"}, "weights must be one of"),
        ({"activations": "tanh"}, "activations must be one of"),
        ({"clip": "no"}, "clip must be one of"),
        ({"gate": 2}, "gate must be one of"),
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"learning_rate": -1}, "learning_rate must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 1.5}, "seed must be"),
        ({"batch_size": 1}, "batch_size must leave no batch of one sample"),
        ({"batch_size": 1999}, "of 2000 training samples batches of 1999 leave one: choose another size"),
    ],
)
def test_bad_settings_are_refused_by_name(wrong, says, digits):
    with pytest.raises(SettingError, match=says):
        binarize.run(mlp((784, 5, 10)), digits, **wrong)


def test_whole_numbers_that_come_as_floats_are_as_good(digits):
    model, asked = mlp((784, 5, 10)), {"epochs": 1, "batch_size": 1000, "seed": 2}
    found, same_ = (binarize.run(model, digits, **told) for told in (asked, {name: float(n) for name, n in asked.items()}))
    assert found.rows == same_.rows and all(type(same_.settings[name]) is int for name in asked)


def test_a_float64_network_is_trained_in_float64(digits):
    data = Data("double", digits.x_train.double(), digits.y_train, digits.x_test.double(), digits.y_test)
    for model, told in ((mlp((784, 16, 10)), {}), (lenet5(), {"activations": "relu", "weights": "real"})):
        few = Data("few", data.x_train[:100], data.y_train[:100], data.x_test[:50], data.y_test[:50])
        result = binarize.run(model.double(), few, epochs=1, batch_size=50, **told)
        floating = [value.dtype for value in result.model.state_dict().values() if value.is_floating_point()]
        assert set(floating) == {torch.float64} and len(floating) > 8
        assert result.rows[-1]["loss"] != result.rows[0]["loss"]


def test_normalizations_are_on_the_device_of_their_layer():
    for model in (small(), lenet5()):
        assert all(value.device.type == "meta" for value in binarized(model.to("meta")).state_dict().values())


def test_samples_outside_of_zero_to_one_are_refused(digits):
    wide = Data("wide", digits.x_train * 2, digits.y_train, digits.x_test, digits.y_test)
    with pytest.raises(DataError, match=r"samples in \[0, 1\]"):
        binarize.run(mlp((784, 5, 10)), wide)


def test_it_runs_by_its_name(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda name: digits)
    told = ["--data", "mnist5k", "--set", "epochs=1", "--set", "activations=relu"]
    done = CliRunner().invoke(app, ["baseline", "binarize", *told, "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert '"activations": "relu"' in (tmp_path / "report.json").read_text()


def test_the_study_goes_on_from_its_rows(tmp_path, capsys, digits, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda name: digits)
    out = tmp_path / "rows.csv"
    told = ["--data", "mnist5k", "--seeds", "0", "--epochs", "1", "--sizes", "784", "16", "10", "--out", str(out)]
    study.main([*told, "--variants", "binary"])
    study.main([*told, "--variants", "binary", "float twin"])
    found = rows.read(out)
    assert [row["variant"] for row in found] == ["binary", "float twin"]
    assert int(found[0]["bit_bytes"]) == 16 * 98 + 10 * 2 + 4 * 16 + 2 + 160
    assert found[0]["bit_errors"] == found[0]["errors"] and found[1]["bit_bytes"] == ""
    before = out.stat().st_mtime_ns
    study.main([*told, "--variants", "binary", "float twin"])
    assert out.stat().st_mtime_ns == before and "float twin" in capsys.readouterr().out
