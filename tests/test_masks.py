"""The one mask mechanism: exact counts, ties, what is left of what was left, and masks that do not fit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nettrim import masks
from nettrim.errors import MaskError
from tests.networks import Tied, small


def mixed():
    """A convolution, a normalization, and two linear layers with weights drawn from a seed."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 4))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def test_weights_are_those_of_linear_layers_and_convolutions():
    assert list(masks.weights(mixed())) == ["0.weight", "3.weight", "4.weight"]
    assert list(masks.weights(Tied())) == ["a.weight", "c.weight"]
    assert all(mask.all() and mask.shape == masks.weights(mixed())[n].shape for n, mask in masks.everything(mixed()).items())


@given(st.floats(0.001, 1.0))
def test_exactly_as_many_are_kept_as_are_asked_for(keep):
    model = mixed()
    sizes = {name: weight.numel() for name, weight in masks.weights(model).items()}
    by_layer, overall = masks.magnitude(model, keep), masks.magnitude(model, keep, scope="global")
    assert {name: int(mask.sum()) for name, mask in by_layer.items()} == {n: round(keep * size) for n, size in sizes.items()}
    assert masks.kept(model, overall) == (round(keep * sum(sizes.values())), sum(sizes.values()))
    for chosen, groups in ((by_layer, [[name] for name in sizes]), (overall, [list(sizes)])):
        for names in groups:
            weight = np.concatenate([masks.weights(model)[name].detach().abs().numpy().ravel() for name in names])
            mask = np.concatenate([chosen[name].numpy().ravel() for name in names])
            assert weight[mask].min(initial=np.inf) >= weight[~mask].max(initial=0)


def test_of_equal_weights_the_first_are_kept():
    model = nn.Linear(3000, 1)  # a sort that is not stable shows on many
    nn.init.constant_(model.weight, -0.5)
    assert masks.largest(model, {"weight": 7})["weight"].tolist() == [[True] * 7 + [False] * 2993]


def test_what_is_gone_stays_gone():
    model = small()
    first = masks.magnitude(model, 0.5)
    with torch.no_grad():
        model[1].weight[~first["1.weight"]] = 9.0  # large, but gone
    second = masks.largest(model, {"1.weight": 20}, among=first)
    assert int(second["1.weight"].sum()) == 20 and not (second["1.weight"] & ~first["1.weight"]).any()
    with pytest.raises(MaskError, match=r"55 weights of '1.weight' cannot be kept: 54 of 108 are left"):
        masks.largest(model, {"1.weight": 55}, among=first)
    third = masks.threshold(model, {"1.weight": 0.0}, among=first)
    assert torch.equal(third["1.weight"], first["1.weight"])


def test_a_threshold_keeps_what_reaches_it():
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, -0.25, 0.125]]))
    assert masks.threshold(model, {"weight": 0.25})["weight"].tolist() == [[True, True, False]]
    for limit in (-1.0, float("nan")):
        with pytest.raises(MaskError, match="threshold of 'weight' must be at least 0"):
            masks.threshold(model, {"weight": limit})


def test_imposed_weights_are_a_plain_zero_even_where_they_were_not_finite():
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0, float("inf"), 2.0]]))
    ((weight, _),) = masks.impose(model, {"weight": torch.tensor([[False, False, True]])})
    assert weight.tolist() == [[0.0, 0.0, 2.0]] and not torch.signbit(weight[0, 0])


def test_shuffled_masks_keep_each_layers_number_and_come_from_their_generator():
    given = masks.magnitude(mixed(), 0.4)
    made, again = (masks.shuffled(given, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(made[name], again[name]) for name in given)
    assert all(made[name].sum() == mask.sum() and made[name].shape == mask.shape for name, mask in given.items())
    assert not torch.equal(made["3.weight"], given["3.weight"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"9.weight": torch.ones(9, 12, dtype=torch.bool)}, "mask for '9.weight', which the model does not have"),
        ({"1.weight": torch.ones(12, 9, dtype=torch.bool)}, r"'1.weight' has shape \(12, 9\), its weight \(9, 12\)"),
        ({"1.weight": torch.ones(9, 12)}, "must be a tensor of bools; got torch.float32"),
        ({"1.weight": [True]}, "must be a tensor of bools; got list"),
    ],
)
def test_masks_that_do_not_fit_are_refused_and_change_nothing(wrong, message):
    model = small()
    before = [parameter.clone() for parameter in model.parameters()]
    zeros = {"4.weight": torch.zeros(7, 9, dtype=torch.bool)}
    with pytest.raises(MaskError, match=message):
        masks.impose(model, zeros | wrong)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_choices_that_cannot_be_made_are_refused():
    for keep in (0.0, 1.1, -0.5, float("nan")):
        with pytest.raises(MaskError, match=r"in \(0, 1\]"):
            masks.magnitude(small(), keep)
    with pytest.raises(MaskError, match="'layer' or 'global'"):
        masks.magnitude(small(), 0.5, scope="all")
    for choose in (masks.largest, masks.threshold):
        with pytest.raises(MaskError, match=r"'x' is no weight of a linear layer or convolution here; there are 1\.weight"):
            choose(small(), {"x": 1})
    model = small()
    nn.init.constant_(model[1].weight, float("nan"))
    with pytest.raises(MaskError, match=r"'1\.weight' holds NaN"):
        masks.magnitude(model, 0.5)
