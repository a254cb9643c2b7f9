"""Dead neurons: what is removed is what a walk over the connections finds, and outputs stay what they were."""

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nettrim.errors import MaskError, ModelError
from nettrim.masks import everything, impose, weights
from nettrim.neurons import alive, chain, remove_dead, shrink


def whole_numbers(model, seed=0):
    """Give a network small whole numbers as parameters, float64, so that sums of it are exact."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-4, 5, parameter.shape, generator=generator))
    return model


def dense(seed=0):
    return whole_numbers(
        nn.Sequential(
            *(nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Sequential(nn.Linear(9, 7), nn.ReLU()), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4)),
        ),
        seed,
    )


def convolutional(**padding):
    """Convolutions, pooling and linear layers for images of 7 x 7."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 5, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 2, **padding), nn.ReLU()),
        *(nn.Dropout(0.5), nn.Flatten()),
    )
    size = model(torch.zeros(1, 1, 7, 7)).shape[1]
    return nn.Sequential(*model, nn.Linear(size, 6), nn.ReLU(), nn.Linear(6, 3))


def inputs(*shape, seed=1):
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).double()


def drawn(model, share, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=generator) < share for name, w in weights(model).items()}


def masked(model, masks):
    copied = copy.deepcopy(model)
    impose(copied, masks)
    return copied


def walked(masks):
    """The fixed point by brute force, on nested lists of connections: (layer, to, from), one a weight of Linear layers."""
    alive_ = {(k, i, j) for k, mask in enumerate(masks) for i, j in itertools.product(*map(range, mask.shape)) if mask[i, j]}
    while True:
        gone = set()
        for k, mask in enumerate(masks[:-1]):
            for u in range(mask.shape[0]):
                ins = {c for c in alive_ if c[0] == k and c[1] == u}
                outs = {c for c in alive_ if c[0] == k + 1 and c[2] == u}
                if not ins or not outs:
                    gone |= ins | outs
        if not gone:
            return alive_
        alive_ -= gone


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.05, 0.5), seed=st.integers(0, 10**6))
def test_removing_is_the_fixed_point_and_changes_no_output(share, seed):
    model = dense(seed)
    given_masks = drawn(model, share, seed + 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    removed, masks = remove_dead(model, given_masks)
    found = {(k, *map(int, at)) for k, mask in enumerate(masks.values()) for at in mask.nonzero()}
    assert found == walked(list(given_masks.values()))
    x = inputs(20, 3, 4)
    assert torch.equal(removed(x), masked(model, given_masks)(x))  # whole numbers: exact
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again, same = remove_dead(removed, masks)
    assert all(torch.equal(same[name], mask) for name, mask in masks.items())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), removed.parameters(), strict=True))


def test_a_neuron_without_inputs_is_a_constant_in_the_next_biases():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([5.0, -5.0, 1.0]))
        model[2].weight.copy_(torch.tensor([[2.0, 7.0, 3.0]]))
        model[2].bias.fill_(1.0)
    masks = everything(model)
    masks["0.weight"][:2] = False
    removed, left = remove_dead(model, masks)
    assert removed[2].bias.item() == 1 + 2 * 5  # ReLU(5) counts, ReLU(-5) is 0
    assert left["2.weight"].tolist() == [[False, False, True]] and removed[2].weight[0, :2].tolist() == [0, 0]
    assert removed[0].bias.tolist() == [0, 0, 1]
    assert {name: units.tolist() for name, units in alive(removed, left).items()} == {"0": [False, False, True]}


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0.02, 0.4), seed=st.integers(0, 10**6))
@pytest.mark.parametrize("padding", [{}, {"padding": 1}, {"padding": 1, "padding_mode": "replicate"}])
def test_convolutions_keep_their_outputs_whatever_their_padding(padding, share, seed):
    model = whole_numbers(convolutional(**padding), seed)
    masks = drawn(model, share, seed + 1)
    x = inputs(6, 1, 7, 7)
    wanted = masked(model, masks)(x)
    assert torch.equal(remove_dead(model, masks)[0](x), wanted)
    smaller, left = shrink(model, masks)
    assert torch.equal(smaller(x), wanted)
    assert all(left[name].shape == weight.shape for name, weight in weights(smaller).items())


@pytest.mark.parametrize(
    ("padding", "bias", "kept"),
    [({"padding": 1}, 3, 1), ({"padding": 1}, -3, 0), ({}, 3, 0), ({"padding": 1, "padding_mode": "replicate"}, 3, 0)],
)
def test_a_constant_that_zero_padding_would_change_keeps_its_outputs(padding, bias, kept):
    model = whole_numbers(convolutional(**padding))
    masks = everything(model)
    masks["0.weight"][2] = False
    with torch.no_grad():
        model[0].bias[2] = bias
    _, left = remove_dead(model, masks)
    assert bool(left["3.weight"][:, 2].any()) == bool(kept)


def test_a_constant_stays_where_there_is_no_bias_behind_it_or_a_pool_averages_zeros_in():
    for between, last in (
        (nn.Identity(), False),
        (nn.AvgPool2d(2, padding=1), True),
        (nn.AvgPool2d(2, divisor_override=1), True),
    ):
        model = whole_numbers(nn.Sequential(nn.Conv2d(1, 2, 1), between, nn.Conv2d(2, 2, 1, bias=last)))
        masks = everything(model)
        masks["0.weight"][0] = False
        with torch.no_grad():
            model[0].bias[0] = -2.0  # no ReLU: it is sent
        assert remove_dead(model, masks)[1]["2.weight"][:, 0].all()
        x = inputs(3, 1, 4, 4)
        assert torch.equal(remove_dead(model, masks)[0](x), masked(model, masks)(x))


def test_shrinking_leaves_out_what_is_dead():
    model = whole_numbers(convolutional())
    masks = everything(model)
    masks["0.weight"][1] = False  # channel 1 of the first convolution has no inputs
    masks["7.weight"][:, 4:8] = False  # channel 1 of the second, at its 4 positions, has no outputs
    masks["9.weight"][:, :2] = False  # and two linear units
    model.requires_grad_(False)
    smaller, left = shrink(model, masks)
    assert [tuple(w.shape) for w in weights(smaller).values()] == [(4, 1, 2, 2), (3, 4, 2, 2), (4, 12), (3, 4)]
    assert (smaller[0].out_channels, smaller[3].in_channels, smaller[7].in_features) == (4, 4, 12)
    assert (smaller[7].out_features, smaller[9].out_features) == (4, 3)
    assert all(mask.all() for mask in left.values()) and not any(p.requires_grad for p in smaller.parameters())
    nothing, _ = shrink(model, {name: torch.zeros_like(mask) for name, mask in masks.items()})
    x = inputs(4, 1, 7, 7)
    assert [len(w) for w in weights(nothing).values()] == [1, 1, 1, 3]
    assert torch.equal(nothing(x), masked(model, {n: torch.zeros_like(m) for n, m in masks.items()})(x))


class Twice(nn.Sequential):
    """Looks like a chain, and computes something else."""

    def forward(self, x):
        return 2 * super().forward(x) + 1


def test_weights_in_another_order_of_memory_are_no_others():
    model = whole_numbers(convolutional())
    masks = everything(model)
    masks["0.weight"][1] = False
    turned = copy.deepcopy(model)
    weight = turned[3].weight.detach()
    turned[3].weight = nn.Parameter(weight.transpose(2, 3).contiguous().transpose(2, 3))
    (one, left), (other, right) = remove_dead(model, masks), remove_dead(turned, masks)
    assert not turned[3].weight.is_contiguous()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_what_is_no_chain_is_refused():
    linear = nn.Linear(4, 4)
    for model, why in (
        (nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)), "Sigmoid"),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), "BatchNorm2d"),
        (nn.Sequential(linear, nn.ReLU(), linear), "used twice"),
        (nn.Sequential(nn.Conv2d(2, 2, 1, groups=2)), "groups"),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Linear(4, 2)), "cannot be told"),
        (nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.Linear(6, 2)), "cannot be told"),
        (nn.Sequential(nn.Linear(4, 4), nn.MaxPool1d(2), nn.Linear(2, 2)), "no part of a chain"),
        (nn.Sequential(nn.ReLU()), "no linear layer"),
        (Twice(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), "'', Twice here, is no part of a chain"),
    ):
        with pytest.raises(ModelError, match=why):
            chain(model)
    with pytest.raises(MaskError, match="mask for 'nothing'"):
        remove_dead(dense(), {"nothing": torch.ones(1, dtype=torch.bool)})
