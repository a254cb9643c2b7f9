"""Deep Compression: the stages of the method on real digits, and a run that is cut off and goes on."""

import json
import math
from statistics import NormalDist

import pytest
import torch
from torch import nn

from benchmarks import rows
from benchmarks.baselines import deep_compression as study
from nettrim.baselines import deep_compression
from nettrim.baselines.deep_compression import (
    FILE,
    _pruned,
    breakdown,
    decompress,
    prune,
    run,
)
from nettrim.data import Data, mnist5k
from nettrim.errors import ModelError, SettingError
from nettrim.masks import threshold, weights
from nettrim.models import lenet300, mlp
from nettrim.train import train
from tests.networks import small
from tests.toys import bits, learnable

QUICK = {"keep": 0.4, "rounds": 2, "round_epochs": 1, "epochs": 2, "bits": 2, "tune_epochs": 1, "batch_size": 20}


def test_the_method_compresses_real_digits_and_tells_every_stage(tmp_path):
    data = mnist5k()
    data = Data("digits", data.x_train[:1500], data.y_train[:1500], data.x_test, data.y_test)
    model = train(lenet300(), data.x_train, data.y_train, epochs=6)
    before = bits(model)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    settings = {"keep": [0.08, 0.1, 0.3], "rounds": 2, "epochs": 5, "bits": 4, "tune_epochs": 1}
    result = run(model, data, **settings, folder=tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state) and bits(model) == before
    dense, _, pruned_, shared, tuned, coded = result.rows
    assert [row["step"] for row in result.rows] == ["dense", "pruned 1", "pruned 2", "shared", "tuned", "coded"]
    assert dense["bytes"] == 1_066_440 and dense["rate"] == 1
    assert pruned_["weights"] == coded["weights"] == round(0.08 * 235_200) + 3000 + 300
    file = (tmp_path / FILE).read_bytes()
    assert coded["bytes"] == len(file) and coded["rate"] == 1_066_440 / len(file) > 40
    assert pruned_["bytes"] > shared["bytes"] >= tuned["bytes"] > coded["bytes"]
    assert coded["errors"] == tuned["errors"] and bits(decompress(file, model)) == bits(result.model)
    assert coded["accuracy"] > dense["accuracy"] - 0.02  # 20 of 1,000 images; a broken stage loses hundreds
    for name, weight in weights(result.model).items():
        assert len(weight[weight != 0].unique()) <= 16 and torch.equal(weight != 0, result.masks[name])
    told = json.loads((tmp_path / "breakdown.json").read_text())["layers"]
    assert told == json.loads(json.dumps(breakdown(file)))


def test_a_run_that_was_cut_off_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    data, model = learnable(), small(3)
    whole = run(model, data, **QUICK, start="forgy", seed=4, folder=tmp_path / "whole")
    assert bits(run(model, data, **QUICK, start="forgy", seed=4).model) == bits(whole.model)
    assert bits(run(model, data, **QUICK, start="forgy", seed=5).model) != bits(whole.model)
    calls = []
    for at in (2, 3):
        folder = tmp_path / str(at)
        for module in (_pruned, deep_compression):

            def cut(*args, at=at, **more):
                calls.append(at)
                if calls.count(at) == at:
                    raise KeyboardInterrupt
                return train(*args, **more)

            monkeypatch.setattr(module, "train", cut)
        with pytest.raises(KeyboardInterrupt):
            run(model, data, **QUICK, start="forgy", seed=4, folder=folder)
        again = run(model, data, **QUICK, start="forgy", seed=4, folder=folder)
        assert calls.count(at) == 4  # three trainings, of which one was begun twice
        assert bits(again.model) == bits(whole.model) and again.rows == whole.rows
        assert (folder / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    with pytest.raises(ModelError, match="other settings"):
        run(model, data, **QUICK, start="linear", seed=4, folder=tmp_path / "whole")


@pytest.mark.parametrize(
    ("setting", "value", "match"),
    [
        ("keep", 0, "keep must be above 0"),
        ("keep", 1.5, r"keep must be a number in \[0, 1\]"),
        ("keep", [0.1, 0.2], "keep must be one fraction, or one for each of 3 layers; got 2"),
        ("keep", [0.1, 0.2, "x"], "keep must be a number"),
        ("rounds", 0, "rounds must be a whole number, at least 1"),
        ("round_epochs", 0, "round_epochs must be"),
        ("epochs", 0, "epochs must be"),
        ("bits", 9, "bits must be a whole number, at least 1 and at most 8"),
        ("bits", True, "bits must be"),
        ("tune_epochs", -1, "tune_epochs must be"),
        ("index_bits", 17, "index_bits must be"),
        ("batch_size", 0, "batch_size must be"),
        ("seed", -1, "seed must be"),
        ("learning_rate", 0, "learning_rate must be a positive"),
        ("tune_rate", float("nan"), "tune_rate must be a positive"),
        ("weight_decay", -1e-4, "weight_decay must be"),
        ("label_smoothing", 1.5, "label_smoothing must be"),
        ("start", "random", "start must be one of 'linear', 'density', 'forgy'"),
    ],
)
def test_bad_settings_are_refused_by_name_before_any_work(setting, value, match, tmp_path):
    with pytest.raises(SettingError, match=match):
        run(small(), learnable(), **{setting: value}, folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_model_that_does_not_fit_the_data_is_refused():
    with pytest.raises(ModelError, match="does not take samples"):
        run(lenet300(), learnable())
    with pytest.raises(ModelError, match="does not take samples"):
        prune(lenet300(), learnable())
    with pytest.raises(ModelError, match="needs a model with linear layers or convolutions"):
        prune(nn.Sequential(nn.Flatten()), learnable())


def test_fractions_fall_to_their_end_and_dropout_by_the_root_of_what_is_left(monkeypatch):
    model, seen = small(), []

    def look(network, *args, masks, **more):
        seen.append(([int(mask.sum()) for mask in masks.values()], network[3].p))
        return train(network, *args, masks=masks, **more)

    monkeypatch.setattr(_pruned, "train", look)
    stages = prune(model, learnable(), keep=[0.25, 0.36, 1.0], rounds=2, round_epochs=1, epochs=1)
    assert [counts for counts, _ in seen] == [[54, 38, 28], [27, 23, 28]]  # of 108, 63 and 28
    assert [p for _, p in seen] == pytest.approx([0.5 * math.sqrt(54 / 108), 0.5 * math.sqrt(27 / 108)], rel=1e-12)
    assert all(stage.model[3].p == 0.5 for stage in stages)
    for stage, earlier in zip(stages[1:], stages, strict=False):
        assert all(not (stage.masks[name] & ~earlier.masks[name]).any() for name in stage.masks)


def test_whole_channels_are_dropped_less_too(monkeypatch):
    model = nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv2d(1, 6, 2), nn.Dropout2d(0.5), nn.Flatten(), nn.Dropout(0.4), nn.Linear(36, 4)
    )
    seen = []
    monkeypatch.setattr(_pruned, "train", lambda network, *_, **__: seen.append([network[2].p, network[4].p]) or network)
    prune(model, learnable(), keep=0.25, rounds=1)
    assert seen == [[pytest.approx(0.5 * 0.5), pytest.approx(0.4 * 0.5)]]


def test_a_fraction_is_a_threshold_of_quality_times_deviation(monkeypatch):
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(12, 2000), nn.ReLU(), nn.Linear(2000, 10)), learnable()
    for weight, size in zip(weights(model).values(), (0.2, 3.0), strict=True):
        nn.init.normal_(weight, std=size, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(_pruned, "train", lambda network, *_, **__: network)
    (stage,) = prune(model, data, keep=[0.3, 0.1], rounds=1)
    # Of normal weights the part p is beyond q deviations, with q the normal distribution's; that of 24,000 and 20,000 draws
    # is p to 5 sqrt(p (1 - p) / 20,000) < 0.017, and a few thousandths from the deviation. Mean |w| would leave 0.11 more.
    qualities = [NormalDist().inv_cdf(1 - part / 2) for part in (0.3, 0.1)]
    limits = {name: q * float(w.detach().std()) for (name, w), q in zip(weights(model).items(), qualities, strict=True)}
    for name, mask in threshold(model, limits).items():
        assert (mask != stage.masks[name]).float().mean() < 0.02


def test_the_study_goes_on_from_its_rows_and_tells_the_files_on_disk(tmp_path, monkeypatch, capsys):
    data = mnist5k()
    data = Data("mnist5k", data.x_train[:300], data.y_train[:300], data.x_test[:100], data.y_test[:100])
    monkeypatch.setattr(study, "load", lambda name: data)
    monkeypatch.setattr(study, "trained", lambda name, data, **more: mlp((784, 30, 20, 10), seed=more["seed"]))
    few = {"lenet300": {"keep": [0.08, 0.09, 0.26], "rounds": 2, "round_epochs": 1, "epochs": 1, "tune_epochs": 1}}
    out = tmp_path / "baseline.csv"
    asked = ["--seeds", "0", "1", "--lenet5-seeds", "--bits", "2", "--networks", str(tmp_path / "nets"), "--out", str(out)]
    study.main(asked, few)
    assert "| LeNet-300-100 | coded (P+Q+H) |" in capsys.readouterr().out
    stages, layers, begun = (rows.read(tmp_path / f"baseline{part}.csv") for part in ("", "_layers", "_starts"))
    assert [row["step"] for row in stages] == 2 * ["dense", "pruned 1", "pruned 2", "shared", "tuned", "coded"]
    sizes = [path.stat().st_size for path in sorted((tmp_path / "nets").rglob(FILE))]
    assert [int(row["bytes"]) for row in stages if row["step"] == "coded"] == sizes
    assert [int(row["file_bytes"]) for row in layers if row["layer"] == "all" and row["index_bits"] == "8"] == sizes
    assert [(row["seed"], row["start"]) for row in begun] == [(s, how) for s in "01" for how in deep_compression.STARTS]
    pruned_errors = [row["errors"] for row in stages if row["step"] == "pruned 2"]
    assert [row["pruned_errors"] for row in begun[::3]] == pruned_errors  # the network of the run, not one of its own
    before = {path: path.read_bytes() for path in tmp_path.glob("*.csv")}
    lines = before[tmp_path / "baseline_starts.csv"].splitlines(keepends=True)
    (tmp_path / "baseline_starts.csv").write_bytes(b"".join(lines[:5]))
    study.main(asked, few)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.csv")} == before
