"""Rows of the MNIST figures in small: what they must obey whatever the numbers are."""

import numpy as np
import pytest
import scipy.sparse
import torch
from reproduce import compare, convergence, gains, lossless, networks, robustness, schemes, size, trainings, worked
from safetensors.torch import load_file

from benchmarks import rows
from nettrim.evaluate import accuracy
from nettrim.masks import weights
from nettrim.models import mlp

TINY = {"steps": 20, "batch_size": 50, "learning_rate": 1e-3, "decay": 0.98, "dropout": 0.5, "l1": 1e-4, "l2": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


def small(figure, folder, tmp_path, **given):
    settings = figure.frozen(quick=True, **given)
    return rows.read(figure.make(settings, folder=tmp_path, networks=folder)), settings


def right(row, *fields):
    return [float(row[field]) for field in fields]


def test_a_network_is_kept_and_is_of_its_settings(tmp_path):
    data = networks.data_of({"data": "mnist5k"})
    state = torch.get_rng_state()
    model = networks.trained("fc", TINY, data, 0, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    (kept,) = tmp_path.iterdir()
    again = networks.trained("fc", TINY, data, 0, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(load_file(kept)[name], tensor) for name, tensor in model.state_dict().items())
    for other in ({"l1": 0.0}, {"decay": 0.97}, {"dropout": 0.0}):
        networks.trained("fc", TINY | other, data, 0, tmp_path)
    networks.trained("fc", TINY, data, 1, tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(
    ("kind", "sizes"), [("fc", [235_200, 300_000, 100_000, 1000]), ("lenet", [800, 51_200, 1_605_632, 5120])]
)
def test_networks_have_the_sizes_of_the_scripts(kind, sizes):
    state = torch.get_rng_state()
    model = networks.NETWORKS[kind](0.5, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert [weight.numel() for weight in weights(model).values()] == sizes
    assert all(weight.abs().max() <= 0.2 for weight in weights(model).values())  # truncated at two deviations
    assert all((layer.bias == 0.1).all() for layer in model if hasattr(layer, "bias"))
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_both_ways_keep_as_many_weights_and_fine_tuning_keeps_their_zeros():
    data = networks.data_of({"data": "mnist5k"})
    model = networks.trained("fc", TINY | {"dropout": 0.0}, data, 0, None)
    pair = compare.pruned(model, data, 0.3, 100, 0)
    for name, mask in pair.masks.items():
        assert int(mask.sum()) == int(pair.largest[name].sum()) < mask.numel()
        sizes = weights(model)[name].detach().abs()
        assert sizes[pair.largest[name]].min() >= sizes[~pair.largest[name]].max()
    early, late = compare.tuned(pair.rival, pair.largest, data, [2, 5], 0)
    for each in (early, late):
        assert all((weight[~pair.largest[name]] == 0).all() for name, weight in weights(each).items())
    assert not torch.equal(weights(early)["2.weight"], weights(late)["2.weight"])
    alone, _ = compare.tuned(pair.rival, pair.largest, data, [5, 2], 0)
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), late.parameters(), strict=True))


def test_gains_in_small(folder, tmp_path):
    found, settings = small(gains.GAINED, folder, tmp_path, samples=100, seeds=[0, 1], training=TINY)
    whole, _, trimmed, other = found  # of two networks before pruning, then after it
    assert [row["seed"] for row in found] == ["0", "1", "0", "1"]
    assert (whole["gain"], whole["kept"], whole["hptd"]) == ("0", "1", "")
    assert whole["nettrim"] == whole["accuracy"] == trimmed["accuracy"] and float(whole["discrepancy"]) == 0
    for row in (trimmed, other):
        assert row["solved"] == "True" and 0 < float(row["kept"]) < 1 and 0 < float(row["discrepancy"]) < 1
    after = [trimmed[f"{way}_{steps}"] for way in ("nettrim", "hptd") for steps in settings["tuned"]]
    assert all(0 < float(score) < 1 for score in after) and len(set(after)) > 1
    assert 0 < float(other["nettrim_10"]) < 1  # of other networks less fine-tuning
    assert (other["nettrim_20"], other["hptd_20"], whole["hptd_10"]) == ("", "", "")
    assert trimmed["discrepancy"] != other["discrepancy"]


def test_trainings_in_small(folder, tmp_path):
    two = {"plain": TINY | {"l1": 0.0}, "l1": TINY}
    found, _ = small(trainings.TRAINED, folder, tmp_path, samples=100, trainings=two)
    assert [(row["training"], row["gain"]) for row in found] == [(name, gain) for gain in ("0", "0.2") for name in two]
    assert all(0 < float(row["nettrim_tuned"]) < 1 for row in found)
    assert [row["hptd_tuned"] == "" for row in found] == [row["gain"] == "0" for row in found]
    assert len({row["accuracy"] for row in found}) == len({row["kept"] for row in found if row["gain"] != "0"}) == 2


def test_ways_to_lose_nothing_in_small(folder, tmp_path):
    ways = {
        name: how and how | {"targets": ["8", "11"]} for name, how in lossless.WAYS.items()
    }  # the last layers, for speed
    asked = {"samples": 100, "epsilon": [0.3], "training": TINY | {"l1": 0.0}, "ways": ways}
    (whole, *found), settings = small(lossless.LOSSLESS, folder, tmp_path, **asked)
    assert (whole["way"], whole["epsilon"], whole["kept"], whole["hptd_tuned"]) == (lossless.UNPRUNED, "0", "1", "")
    assert whole["nettrim"] == whole["accuracy"] and whole["nettrim_validation"] != whole["accuracy"]
    kept = {row["way"]: float(row["kept"]) for row in found}
    assert [lossless.UNPRUNED, *kept] == list(settings["ways"]) and {row["solved"] for row in found} == {"True"}
    assert kept["cascade, reweighted and refitted"] < kept["cascade"]
    names = ("nettrim", "nettrim_tuned", "hptd", "hptd_tuned")
    for row in found:
        scores = right(row, *names, *(f"{name}_validation" for name in names))
        assert all(0 < score < 1 for score in scores) and len(set(scores)) > 4


def test_validation_images_are_none_that_a_network_is_trained_on():
    x, y = networks.validation_of({"data": "mnist5k"})
    data = networks.data_of({"data": "mnist5k"})
    assert len(x) == len(y) == 400 and len(data.x_train) == 3600
    whole = networks.loaded("mnist5k")
    assert torch.equal(torch.cat([x, data.x_train]), whole.x_train) and torch.equal(
        torch.cat([y, data.y_train]), whole.y_train
    )


def test_the_worked_example_in_small(folder, tmp_path):
    (large, last, *stopped), settings = small(worked.EXAMPLE, folder, tmp_path, samples=30, steps=4, tuned=2)
    assert [large["weights"], last["weights"]] == ["1605632", "5120"]
    assert [row["weights"] for row in stopped] == ["1605632", "5120"]
    assert {row["way"] for row in stopped} == {worked.STOPPED}
    assert {(row["status"], row["iterations"]) for row in stopped} == {("UNMET", "20")}  # not kept as they were
    assert all(0 < int(row["kept"]) < int(row["weights"]) for row in stopped)
    assert stopped[0]["accuracy"] == large["accuracy"] and stopped[0]["discrepancy"] != large["discrepancy"]
    for row in (large, last):
        reached, violation = right(row, "reached", "violation")
        assert row["status"] == "SOLVED" and violation <= settings["tol"]
        assert reached <= settings["gain"] * (1 + settings["tol"]) and 0 < int(row["kept"]) < int(row["weights"])


@pytest.mark.parametrize(("figure", "layers"), [(schemes.SCHEMES, 4), (schemes.LENET_SCHEMES, 2)])
def test_schemes_in_small(figure, layers, folder, tmp_path):
    found, _ = small(figure, folder, tmp_path, samples=60)
    assert [row["scheme"] for row in found] == ["parallel", "cascade"]
    for row in found:
        after, before = zip(*(map(int, pair.split("/")) for pair in row["layers"].split()), strict=True)
        assert len(before) == layers and sum(after) / sum(before) == pytest.approx(float(row["kept"]), rel=1e-6)
        assert row["solved"] == "True" and float(row["discrepancy"]) > 0


def test_noise_of_level_0_changes_nothing(folder, tmp_path):
    given = {"trained": {"fc": robustness.TRAINED["fc"] | {"steps": 60, "l2": 0.0, "dropout": 0.0}}, "samples": 60}
    found, settings = small(robustness.NOISE, folder, tmp_path, **given)
    data = networks.data_of(settings)
    model = networks.trained("fc", given["trained"]["fc"], data, 0, folder)
    dense = {row["level"]: right(row, "accuracy", "deviation") for row in found if row["model"] == "dense"}
    assert dense["0"] == pytest.approx([accuracy(model, data.x_test[:100], data.y_test[:100]), 0], abs=1e-6)
    assert dense["2"][0] < dense["0"][0] and dense["2"][1] > 0
    assert {row["model"] for row in found} == {"dense", "nettrim", "hptd", "nettrim tuned", "hptd tuned"}


def test_pixels_that_are_never_active_keep_nothing(folder, tmp_path):
    given = {"networks": {"plain": robustness.TRAINED["fc"] | {"steps": 20, "dropout": 0.0, "l2": 0.0}}, "samples": 100}
    found, _ = small(robustness.PIXELS, folder, tmp_path, **given)
    assert len(found) == 784
    never = [row for row in found if float(row["active"]) == 0]
    assert never and all(row["nettrim"] == "0" for row in never)
    assert any(row["magnitude"] != "0" for row in never)  # a network without a penalty keeps what it was born with there
    assert sum(int(row["nettrim"]) for row in found) == sum(int(row["magnitude"]) for row in found)


def test_files_hold_the_whole_model(tmp_path):
    model = mlp((20, 30, 10))
    with torch.no_grad():
        for weight in weights(model).values():
            weight[torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.9] = 0
    size.write(model, tmp_path)
    arrays = np.load(tmp_path / "model.npz")
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 2:
            parts = tuple(arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
            whole = scipy.sparse.csr_array(parts, shape=tuple(arrays[f"{name}.shape"])).toarray()
        else:
            whole = arrays[name]
        assert whole.dtype == np.float32 and np.array_equal(whole, tensor.numpy())
    told = size.sizes(model)
    assert told["dense"] == (tmp_path / "model.safetensors").stat().st_size > 4 * sum(p.numel() for p in model.parameters())
    assert told["sparse"] == (tmp_path / "model.npz").stat().st_size and told["zipped"] < told["dense"]


def test_sizes_in_small(tmp_path):
    found, _ = small(size.SIZE, None, tmp_path, samples=60, sizes=[784, 20, 10], epochs=1)
    of = {row["model"]: row for row in found}
    names = ("trained", "Net-Trim", "magnitude")
    assert list(of) == [*names, *(f"{name}, fine-tuned" for name in names)] and of["trained"]["solved"] == "True"
    for name in names:
        assert int(of[name]["weights"]) >= int(of[f"{name}, fine-tuned"]["weights"]) > 0
    assert int(of["Net-Trim"]["weights"]) == int(of["magnitude"]["weights"]) < int(of["trained"]["weights"])
    assert len({row["dense"] for row in found}) == 1 and int(of["Net-Trim"]["sparse"]) < int(of["trained"]["sparse"])


def test_every_backend_comes_to_its_certificate(tmp_path):
    contenders = {
        name: how for name, how in convergence.CONVERGENCE.settings["contenders"].items() if name != "published, rho 1"
    }
    found, settings = small(
        convergence.CONVERGENCE, None, tmp_path, contenders=contenders, ladder=[1e-7], tol=1e-4, slice=[20, 3, 60]
    )
    last = {row["contender"]: row for row in found}
    assert list(last) == list(contenders)
    for name, row in last.items():
        gap, violation = right(row, "gap", "violation")
        assert abs(gap) <= settings["tol"] and violation <= settings["tol"], name
    looks = [int(row["iteration"]) for row in found if row["contender"] == "torch"]
    assert len(looks) > 1 and looks == sorted(looks)
