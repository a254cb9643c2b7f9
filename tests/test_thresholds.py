"""Thresholds of Han et al. 2015, the sensitivity that spreads them, dropout and penalties, as the paper has them."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from nettrim.baselines import han
from nettrim.baselines.han import _retraining as retraining
from nettrim.baselines.han import _thresholds as by
from nettrim.errors import SettingError
from nettrim.evaluate import evaluate
from nettrim.masks import everything, kept, threshold, weights
from tests.toys import plain, state, toy


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- thresholds


def test_a_threshold_is_q_times_the_deviation_of_the_weights_that_are_left():
    model = plain()
    weight = model[1].weight.detach().numpy().astype(np.float64)
    assert han.limits(model, {"1.weight": 1.5})["1.weight"] == pytest.approx(1.5 * weight.std(), rel=1e-12)
    mask = torch.rand(20, 36, generator=torch.Generator().manual_seed(3)) < 0.4
    found = han.limits(model, {"1.weight": 0.5}, {"1.weight": mask})["1.weight"]
    assert found == pytest.approx(0.5 * weight[mask.numpy()].std(), rel=1e-12)  # not of the zeros too
    with pytest.raises(SettingError, match=r"quality names '9\.weight'"):
        han.limits(model, {"9.weight": 1.0})
    with pytest.raises(SettingError, match=r"quality of '1\.weight' must be a number from 0 on"):
        han.limits(model, {"1.weight": -1.0})


@pytest.mark.parametrize(("q", "left"), [(2.0, 0.0455), (0.25, 0.8026)])
def test_of_normal_weights_q_leaves_what_the_normal_law_says(q, left):
    # The published codes disagree on the usual q, 2 or 0.25: it is the difference between a twentieth and four fifths.
    assert left == pytest.approx(math.erfc(q / math.sqrt(2)), abs=1e-4)
    model = nn.Linear(400, 500)
    nn.init.normal_(model.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    part = threshold(model, han.limits(model, {"weight": q}))["weight"].float().mean().item()
    assert part == pytest.approx(left, abs=5 * math.sqrt(left * (1 - left) / 200_000) + 0.002)  # and q of a sample


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 720), seed=st.integers(0, 1000), share=st.floats(0.1, 1.0))
def test_the_quality_found_keeps_exactly_what_is_wanted(count, seed, share):
    model = plain(seed)
    mask = torch.rand(20, 36, generator=torch.Generator().manual_seed(seed)) < share
    among = {"1.weight": mask}
    q = by.qualities(model, {"1.weight": count}, among)
    found = threshold(model, han.limits(model, q, among), among)["1.weight"]
    assert int(found.sum()) == min(count, int(mask.sum())) and not (found & ~mask).any()


def test_equal_weights_go_together_and_never_leave_too_many():
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2, 2, 3], [2, 0, 0, -4]]))
    found = {}
    for count in range(9):
        q = by.qualities(model, {"weight": count})
        found[count] = int(threshold(model, han.limits(model, q))["weight"].sum())
    assert found == {0: 0, 1: 1, 2: 2, 3: 2, 4: 2, 5: 5, 6: 6, 7: 6, 8: 8}


def test_one_quality_for_all_layers_keeps_what_is_wanted_of_all_of_them():
    model = plain()
    for count in (1, 50, 500, 990, 996):
        q = by.common_quality(model, count)
        left, _ = kept(model, threshold(model, han.limits(model, dict.fromkeys(weights(model), q))))
        assert left == count


# --- sensitivity


def test_the_scan_prunes_one_layer_at_a_time():
    model, data = plain().train(), toy()
    before = state(model)
    found = han.sensitivity(model, data.x_test, data.y_test, fractions=(0.05, 0.5, 1.0))
    assert same(before, state(model)) and model.training
    assert [(row["layer"], row["kept"]) for row in found] == [
        (name, round(part * weights(model)[name].numel()) / weights(model)[name].numel())
        for name, part in itertools.product(weights(model), (0.05, 0.5, 1.0))
    ]
    for row in found:
        alone = copy.deepcopy(model)
        weight = dict(alone.named_parameters())[row["layer"]]
        sizes = weight.detach().abs().flatten()
        with torch.no_grad():
            weight[weight.abs() < sizes.sort(descending=True).values[round(row["kept"] * len(sizes)) - 1]] = 0
        assert evaluate(alone, data.x_test, data.y_test) == (row["accuracy"], row["loss"], row["errors"])
    with pytest.raises(SettingError, match="fractions must be"):
        han.sensitivity(model, data.x_test, data.y_test, fractions=(0.0,))


def scanned(curves):
    return [{"layer": name, "kept": part, "accuracy": curve[part]} for name, curve in curves.items() for part in curve]


def test_the_sensitive_layer_keeps_the_larger_part():
    curves = {"tough": {0.01: 0.85, 0.1: 0.9, 0.5: 0.9}, "frail": {0.01: 0.1, 0.1: 0.5, 0.5: 0.88}}
    found = by.spread(scanned(curves), {"tough": 1000, "frail": 1000}, 0.9, 400)
    assert sum(found.values()) == 400 and found["frail"] > 5 * found["tough"]
    # Of two equal layers both keep the same; of two sizes with one curve the smaller one keeps the larger part.
    one = {0.01: 0.1, 0.03: 0.4, 0.1: 0.7, 0.3: 0.85}
    even = by.spread(scanned({"a": one, "b": one}), {"a": 1000, "b": 1000}, 0.9, 200)
    assert even == {"a": 100, "b": 100}
    uneven = by.spread(scanned({"a": one, "b": one}), {"a": 10_000, "b": 100}, 0.9, 500)
    assert by.spread(scanned({"a": one, "b": one}), {"a": 1000, "b": 1000}, 0.9, 10) == {"a": 5, "b": 5}  # below the scan
    assert sum(uneven.values()) == 500 and uneven["b"] / 100 > 2 * uneven["a"] / 10_000


@settings(max_examples=15, deadline=None)
@given(
    losses=st.lists(st.lists(st.floats(0, 0.3), min_size=4, max_size=4), min_size=3, max_size=3),
    keep=st.floats(0.02, 0.95),
)
def test_the_accuracy_lost_in_all_is_near_the_least_of_all_ways_to_spread_the_same_weights(losses, keep):
    fractions, sizes = (0.02, 0.1, 0.3, 0.6), {"a": 4000, "b": 900, "c": 50}
    below = [[0.9 - sum(steps[i:]) for i in range(4)] for steps in losses]
    curves = {name: dict(zip(fractions, curve, strict=True)) for name, curve in zip(sizes, below, strict=True)}
    count = round(keep * sum(sizes.values()))
    found = by.spread(scanned(curves), sizes, 0.9, count)
    assert sum(found.values()) == count and all(1 <= found[name] <= size for name, size in sizes.items())
    rising = np.log([*fractions, 1.0])
    lost = {name: np.array([0.9 - v for v in curve.values()] + [0.0]) for name, curve in curves.items()}

    def loss(counts):
        return sum(np.interp(np.log(counts[name] / sizes[name]), rising, lost[name]) for name in sizes)

    # A price reaches the lower convex hull of (weights, loss) only: between two of its corners it may miss by a step of one
    # layer. What is sure: all that keep no more weights at the corner below lose no less.
    grid = [np.unique(np.geomspace(0.02, 1, 12) * sizes[name]) for name in sizes]
    ways = [dict(zip(sizes, way, strict=True)) for way in itertools.product(*grid)]
    step = max(sum(steps) for steps in losses)
    assert loss(found) <= min((loss(way) for way in ways if sum(way.values()) <= count), default=math.inf) + step + 1e-9


def test_a_spread_by_sensitivity_loses_less_than_an_even_one():
    kept = (0.02, 0.1, 0.3, 0.6)
    sensitive = dict(zip(kept, (0.2, 0.5, 0.8, 0.89), strict=True))
    curves = {"a": dict.fromkeys(kept, 0.9), "b": sensitive, "c": dict.fromkeys(kept, 0.9)}
    sizes = {"a": 4000, "b": 900, "c": 50}
    found = by.spread(scanned(curves), sizes, 0.9, 495)  # a tenth; an even spread would leave b at 0.5
    assert found["b"] > 300 and found["a"] < 200 and sum(found.values()) == 495


# --- dropout


def test_dropout_falls_with_the_root_of_what_is_left():
    assert han.dropout_ratio(0.5, 9, 100) == pytest.approx(0.15, rel=1e-15)  # the paper's rule at its 9 %
    model = plain()
    masks = everything(model)
    masks["1.weight"].flatten()[: 720 - 180] = False  # a quarter is left
    adjusted = han.with_dropout(model, masks)
    assert [m.p for m in adjusted.modules() if isinstance(m, nn.Dropout)] == [0.25, 0.5]
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    twice = han.with_dropout(adjusted, masks, model)
    assert [m.p for m in twice.modules() if isinstance(m, nn.Dropout)] == [0.25, 0.5]  # of what it was trained with


# --- penalties


def test_penalties_are_what_they_are_called(monkeypatch):
    told = []
    monkeypatch.setattr(retraining, "train", lambda model, x, y, **how: told.append(how))
    model, data = plain().eval(), toy()
    for penalty, strength in (("l2", 0.3), ("none", 0.3), ("l1", 0.3), ("l1", None), ("l2", None)):
        han.fit(model, data, penalty=penalty, strength=strength, label_smoothing=0.2, epochs=7)
    assert told[0] == {"weight_decay": 0.3, "label_smoothing": 0.2, "epochs": 7}
    assert told[1] == {"label_smoothing": 0.2, "epochs": 7}
    assert told[4]["weight_decay"] == han.STRENGTHS["l2"]
    size = sum(float(layer.weight.detach().double().abs().sum()) for layer in model if isinstance(layer, nn.Linear))
    smoothed = float(F.cross_entropy(model(data.x_test), data.y_test, label_smoothing=0.2).detach())
    for how, strength in ((told[2], 0.3), (told[3], han.STRENGTHS["l1"])):
        assert how.keys() == {"loss", "epochs"}
        # float32 sums of a thousand terms: 1000 roundings of 2^-24 at most
        assert how["loss"](model, data.x_test, data.y_test).item() == pytest.approx(smoothed + strength * size, rel=6e-5)
    for wrong in ({"penalty": "l3"}, {"strength": -1.0}):
        with pytest.raises(SettingError, match=next(iter(wrong))):
            han.fit(model, data, **wrong)
