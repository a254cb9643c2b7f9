"""SqueezeNet: sizes to the parameter, maps to the pixel, a Fire module by hand, and the method that trains one."""

import copy
import dataclasses
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks import rows
from benchmarks.baselines import squeezenet as study
from nettrim import baselines
from nettrim.baselines import squeezenet as method
from nettrim.data import Data, mnist5k
from nettrim.errors import DataError, ModelError, SettingError
from nettrim.models import lenet5, lenet300
from nettrim.squeezenet import Fire, fires, squeezenet, squeezenet_small

PUBLISHED = [
    (16, 64, 64),
    (16, 64, 64),
    (32, 128, 128),
    (32, 128, 128),
    (48, 192, 192),
    (48, 192, 192),
    (64, 256, 256),
    (64, 256, 256),
]


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def fire_size(n_in, s, e1, e3):
    """Weights and biases of a module, counted from the paper's figure 1."""
    return s * (n_in + 1) + e1 * (s + 1) + e3 * (9 * s + 1)


def first(data, n):
    parts = {part: getattr(data, part)[:n] for part in ("x_train", "y_train", "x_test", "y_test")}
    return dataclasses.replace(data, name="digits", **parts)


# --- the networks


def test_sizes_are_exact():
    assert size(squeezenet()) == 1_248_424 and size(squeezenet(version="1.1")) == 1_235_496
    ways_in = [96, 128, 128, 256, 256, 384, 384, 512]
    modules = sum(fire_size(n_in, *sizes) for n_in, sizes in zip(ways_in, PUBLISHED, strict=True))
    assert size(squeezenet()) == 96 * (3 * 49 + 1) + modules + 1000 * (512 + 1)
    assert size(squeezenet_small()) == 16_026 < size(lenet5()) / 26


def test_the_metaparameters_of_the_paper_give_the_published_modules():
    assert fires() == PUBLISHED
    assert fires(3, base_e=64, incr_e=32, freq=1, pct3x3=0.25, squeeze_ratio=0.5) == [
        (32, 48, 16),
        (48, 72, 24),
        (64, 96, 32),
    ]


@given(
    st.integers(1, 9), st.integers(16, 200), st.integers(0, 200), st.integers(1, 4), st.floats(0.1, 0.9), st.floats(0.1, 0.9)
)
def test_modules_follow_the_formulas(count, base_e, incr_e, freq, pct3x3, ratio):
    found = fires(count, base_e=base_e, incr_e=incr_e, freq=freq, pct3x3=pct3x3, squeeze_ratio=ratio)
    assert len(found) == count
    for i, (s, e1, e3) in enumerate(found):
        e = base_e + incr_e * (i // freq)
        assert e1 + e3 == e and abs(e3 - pct3x3 * e) <= 0.5 and abs(s - ratio * e) <= 0.5  # rounding to the nearest


@pytest.mark.parametrize(
    "version, pixels, convolutions, modules",
    [
        # conv1 and conv10, with its pad of 1 on each side; rounded down, the pools of 224 would give 54, 26 and 12
        ("1.0", 227, [111, 15], [55, 55, 55, 27, 27, 27, 27, 13]),
        ("1.0", 224, [109, 15], [54, 54, 54, 27, 27, 27, 27, 13]),
        # without a pad; rounded down, the last pool would give 13
        ("1.1", 227, [113, 14], [56, 56, 28, 28, 14, 14, 14, 14]),
    ],
)
def test_maps_are_as_large_as_in_the_authors_files(version, pixels, convolutions, modules):
    model = squeezenet(version=version, sizes=fires(base_e=4, incr_e=4, squeeze_ratio=0.25)).eval()  # few filters, as large
    seen = {nn.Conv2d: [], Fire: []}
    for module in model:
        if type(module) in seen:
            module.register_forward_hook(lambda module, _, y: seen[type(module)].append(y.shape[-1]))
    assert model(torch.zeros(1, 3, pixels, pixels)).shape == (1, 1000)
    assert (seen[nn.Conv2d], seen[Fire]) == (convolutions, modules)


def test_the_pad_of_conv10_is_a_frame_of_biases():
    model = squeezenet(classes=7, sizes=fires(base_e=16, incr_e=8)).eval()
    conv10 = next(module for module in reversed(model) if isinstance(module, nn.Conv2d))
    nn.init.normal_(conv10.bias, generator=torch.Generator().manual_seed(0))
    inside = copy.deepcopy(model)
    next(module for module in reversed(inside) if isinstance(module, nn.Conv2d)).padding = (0, 0)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))  # the last map is 3 x 3, with its frame 5 x 5
    with torch.no_grad():
        expected = (9 * inside(x) + 16 * conv10.bias.relu()) / 25
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)  # sums of 25 float32


def filtered(x, weight, bias):
    """A convolution of one image by its definition, a pixel and a filter at a time, in float64."""
    pad = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    k, (_, height, width) = weight.shape[-1], x.shape
    y = [[[np.sum(padded[:, i : i + k, j : j + k] * w) for j in range(width)] for i in range(height)] for w in weight]
    return np.array(y) + bias[:, None, None]


@pytest.mark.parametrize("bypass, n_in", [("none", 5), ("simple", 5), ("simple", 4), ("complex", 5), ("complex", 4)])
def test_a_fire_module_is_what_the_paper_draws(bypass, n_in):
    torch.manual_seed(3)
    fire = Fire(n_in, 2, 2, 3, bypass=bypass).double()
    x = torch.randn(1, n_in, 4, 3, dtype=torch.float64)
    parts = {name: value.detach().numpy() for name, value in fire.named_parameters()}

    def part(name, z):
        return filtered(z, parts[f"{name}.weight"], parts[f"{name}.bias"])

    z = x[0].numpy()
    few = np.maximum(part("squeeze", z), 0)
    expected = np.maximum(np.concatenate([part("expand1", few), part("expand3", few)]), 0)
    if bypass != "none" and n_in == 5:
        expected = expected + z
    elif bypass == "complex":
        expected = expected + part("bypass", z)
    np.testing.assert_allclose(fire(x)[0].detach().numpy(), expected, rtol=1e-12, atol=1e-12)  # sums of 20 float64


def test_bypasses_are_where_the_paper_has_them():
    def around(model):
        return [type(module.bypass).__name__ for module in model if isinstance(module, Fire)]

    assert around(squeezenet()) == ["NoneType"] * 8
    simple, whole = squeezenet(bypass="simple"), squeezenet(bypass="complex")
    assert around(simple) == ["NoneType", "Identity"] * 4 and size(simple) == 1_248_424
    assert around(whole) == ["Conv2d", "Identity"] * 4
    assert size(whole) - size(simple) == sum(
        n_out * (n_in + 1) for n_in, n_out in [(96, 128), (128, 256), (256, 384), (384, 512)]
    )


def test_weights_begin_as_in_the_authors_files():
    *others, last = [module for module in squeezenet().modules() if isinstance(module, nn.Conv2d)]
    for module in others:
        bound = (3 / module.weight[0].numel()) ** 0.5
        assert 0.99 * bound < module.weight.abs().max() <= bound  # of 1,536 or more: none above .99 at odds of e^-15
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.005)  # 5 deviations of 512,000 draws
    assert not any(module.bias.any() for module in [*others, last])


@pytest.mark.parametrize("make", [squeezenet_small, squeezenet])
def test_networks_come_from_their_seed_and_leave_the_global_generator_alone(make):
    before = torch.random.get_rng_state()
    one, again, other = make(seed=3), make(seed=3), make(seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_networks_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="fewer that squeeze than expand"):
        Fire(4, 8, 4, 4)
    with pytest.raises(ValueError, match="at least one filter of each kind"):
        Fire(4, 2, 0, 4)
    with pytest.raises(ValueError, match="bypass must be one of 'none', 'simple', 'complex'"):
        squeezenet_small(bypass="some")
    with pytest.raises(ValueError, match=r"version must be one of '1.0', '1.1'"):
        squeezenet(version="1.2")
    with pytest.raises(ValueError, match="eight Fire modules; got sizes of 3"):
        squeezenet(sizes=fires(3))
    for wrong in ({"count": 0}, {"base_e": 1}, {"incr_e": -1}, {"freq": 0}, {"pct3x3": 1.0}, {"squeeze_ratio": 0.0}):
        with pytest.raises(ValueError, match="a network of Fire modules has"):
            fires(**wrong)
    with pytest.raises(ValueError, match="without filters of a kind"):
        fires(base_e=4, incr_e=0, squeeze_ratio=0.1)


# --- the method


def test_a_plain_network_has_a_3x3_convolution_in_the_place_of_each_module():
    model = squeezenet_small(bypass="complex")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    usual, again, other = (method.plain(model, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(isinstance(module, Fire) for module in usual.modules())
    widths = [(16, 32), (32, 32), (32, 64), (64, 64)]
    assert size(usual) == 16 * 26 + sum(n_out * (9 * n_in + 1) for n_in, n_out in widths) + 10 * 65
    assert usual(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(usual.parameters()), next(other.parameters()))
    nested = nn.Sequential(nn.Sequential(Fire(1, 1, 1, 1)), nn.Flatten())
    assert method.plain(nested)(torch.zeros(2, 1, 3, 3)).shape == (2, 18)


def test_a_module_in_two_places_is_one_convolution_in_both_and_one_alone_is_replaced_itself():
    fire = Fire(4, 1, 2, 2)
    twice = method.plain(nn.Sequential(fire, nn.Sequential(nn.ReLU(), fire)))
    assert isinstance(twice[0][0], nn.Conv2d) and twice[0] is twice[1][1]
    alone = method.plain(fire)
    assert [type(part) for part in alone] == [nn.Conv2d, nn.ReLU] and alone(torch.zeros(2, 4, 3, 3)).shape == (2, 4, 3, 3)


def test_a_plain_network_is_in_the_dtype_of_the_model(digits):
    usual = method.plain(squeezenet_small().double())
    assert {parameter.dtype for parameter in usual.parameters()} == {torch.float64}
    data = dataclasses.replace(digits, x_train=digits.x_train.double(), x_test=digits.x_test.double())
    result = method.run(squeezenet_small().double(), data, epochs=1, batch_size=50)
    assert [row["bytes"] for row in result.rows] == [8 * row["parameters"] for row in result.rows]


@pytest.fixture(scope="module")
def digits():
    return first(mnist5k(), 150)


def test_it_trains_both_and_says_how_large_they_are(digits):
    model = squeezenet_small(seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    result, again = (method.run(model, digits, epochs=2, batch_size=50, seed=2) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert result.rows == again.rows and [row["step"] for row in result.rows] == ["squeezenet", "plain"]
    assert [row["parameters"] for row in result.rows] == [16_026, size(method.plain(model))]
    assert all(row["bytes"] == 4 * row["parameters"] and row["kept"] == 1 for row in result.rows)
    assert not result.model.training and any(isinstance(module, Fire) for module in result.model.modules())
    alone = method.run(model, digits, epochs=2, batch_size=50, beside=False, seed=2)
    assert alone.rows == result.rows[:1]


def test_it_learns_digits():
    found = method.run(squeezenet_small(), first(mnist5k(), 600), epochs=10, batch_size=20, beside=False)
    assert found.rows[0]["accuracy"] > 0.7  # chance is 0.1


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(digits, tmp_path, monkeypatch):
    model, asked = squeezenet_small(), {"epochs": 1, "batch_size": 50}
    whole = method.run(model, digits, **asked)
    train, labels = method.train, []

    def cut(*args, label, **more):
        labels.append(label)
        if labels == ["training squeezenet", "training plain"]:
            raise KeyboardInterrupt
        return train(*args, label=label, **more)

    monkeypatch.setattr(method, "train", cut)
    with pytest.raises(KeyboardInterrupt):
        method.run(model, digits, **asked, folder=tmp_path)
    resumed = method.run(model, digits, **asked, folder=tmp_path)
    assert labels == ["training squeezenet", "training plain", "training plain"]
    assert resumed.rows == whole.rows
    whole.save(tmp_path / "a")
    resumed.save(tmp_path / "b")
    for name in ("model.safetensors", "masks.safetensors", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with pytest.raises(ModelError, match="of other settings"):
        method.run(model, digits, **asked | {"epochs": 2}, folder=tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1.5},
        {"learning_rate": 0},
        {"weight_decay": -1.0},
        {"label_smoothing": 1.5},
        {"beside": "plain"},
        {"seed": -1},
        {"seed": 1.5},
    ],
)
def test_bad_settings_are_refused_by_name(digits, wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        method.run(squeezenet_small(), digits, **wrong)


def test_whole_numbers_that_come_as_floats_are_as_good(digits):
    asked = {"epochs": 1, "batch_size": 75, "seed": 2}
    told = (asked, {name: float(n) for name, n in asked.items()})
    found, same = (method.run(squeezenet_small(), digits, beside=False, **each) for each in told)
    assert found.rows == same.rows and all(type(same.settings[name]) is int for name in asked)


def test_what_it_cannot_train_is_refused(digits):
    with pytest.raises(ModelError, match="no Fire module"):
        method.run(lenet300(), digits)
    with pytest.raises(ModelError, match="does not take samples of shape"):
        method.run(squeezenet(classes=10), digits)
    with pytest.raises(DataError, match="hold NaN"):
        method.run(
            squeezenet_small(), Data("none", digits.x_train * float("nan"), digits.y_train, digits.x_test, digits.y_test)
        )


def test_it_is_found_by_its_name():
    assert baselines.method("squeezenet") is method
    assert set(baselines.settings("squeezenet")) >= {"epochs", "beside"}


# --- the study


def test_the_study_goes_on_where_it_was_and_shows_every_network(digits, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study.csv"
    monkeypatch.setattr(study, "load", lambda name: digits)
    asked = ["study", "--seeds", "0", "1", "--epochs", "1", "--ratios", "0.125", "0.5", "--sweep-epochs", "1"]
    monkeypatch.setattr(sys, "argv", [*asked, "--sweep-seeds", "0", "--out", str(out)])
    study.main()
    whole, shown = out.read_bytes(), capsys.readouterr().out
    found = rows.read(out)
    assert [(row["network"], row["squeeze_ratio"], row["seed"]) for row in found] == [
        ("squeezenet_small", "0.25", "0"),
        ("plain", "", "0"),
        ("lenet5", "", "0"),
        ("squeezenet_small", "0.25", "1"),
        ("lenet5", "", "1"),
        ("squeezenet_small", "0.125", "0"),
        ("squeezenet_small", "0.5", "0"),
    ]
    assert {row["network"]: row["parameters"] for row in found}["lenet5"] == "431080"
    assert "\n| LeNet-5 |" in shown and "\n| SqueezeNet in small | 0.125 |" in shown
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    study.main()
    assert out.read_bytes() == whole
