"""The pieces of a hunt for tickets: initial weights, exact counts of pruning, and the early stop of one training."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nettrim.baselines import lottery
from nettrim.baselines.lottery._hunt import redrawn
from nettrim.baselines.lottery._tickets import Course, split
from nettrim.data import Data
from nettrim.errors import DataError, MaskError, SettingError
from nettrim.evaluate import evaluate
from nettrim.masks import everything, shuffled, weights
from nettrim.models import lenet5, lenet300, mlp
from nettrim.train import constant, train
from tests.networks import Tied
from tests.toys import net, same_weights

SMALL = {"iterations": 30, "every": 4, "batch_size": 8, "learning_rate": 5e-3, "validation": 0.25}


# --- initial weights and rates


@pytest.mark.parametrize("build", [lenet300, lenet5])
def test_glorot_gives_each_layer_its_variance_and_no_bias(build):
    model = build(seed=3)
    before = build(seed=3)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    drawn = lottery.glorot(model, seed=8)
    assert torch.equal(torch.random.get_rng_state(), state) and same_weights(model, before)
    assert same_weights(drawn, lottery.glorot(before, seed=8)) and not same_weights(drawn, lottery.glorot(model, seed=9))
    for name, parameter in drawn.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
            continue
        area = parameter[0, 0].numel()  # of a kernel; 1 in a linear layer
        n, deviation = parameter.numel(), math.sqrt(2 / (area * sum(parameter.shape[:2])))
        # The mean has deviation sigma / sqrt(n), the sample deviation about sigma / sqrt(2 n); 5 of each.
        assert abs(parameter.mean()) < 5 * deviation / math.sqrt(n)
        assert abs(parameter.std() / deviation - 1) < 5 / math.sqrt(2 * n)
        assert parameter.abs().max() > 1.8 * deviation  # a uniform draw of this variance ends at 1.74


def test_glorot_leaves_normalizations_alone():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    nn.init.constant_(model[1].weight, 7.0)
    nn.init.constant_(model[1].bias, 5.0)
    drawn = lottery.glorot(model)
    assert (drawn[1].weight == 7).all() and (drawn[1].bias == 5).all() and not drawn[0].bias.any()


def test_weights_in_a_random_order_stay_in_their_layer():
    model = Tied()
    moved = redrawn(model, 4)
    for name, parameter in model.named_parameters():
        other = dict(moved.named_parameters())[name]
        assert not torch.equal(parameter, other)
        assert torch.equal(parameter.flatten().sort().values, other.flatten().sort().values)
    assert moved.a.weight is moved.b.weight
    assert same_weights(moved, redrawn(model, 4)) and not same_weights(moved, redrawn(model, 5))


def test_the_output_layer_has_half_the_rate_and_convolutions_their_own():
    assert list(lottery.rates(lenet300()).values()) == [0.2, 0.2, 0.1]
    assert list(lottery.rates(lenet5(), 0.2, convolution_rate=0.1).values()) == [0.1, 0.1, 0.2, 0.1]
    assert list(lottery.rates(lenet5(), 0.3, output_rate=0.0).values()) == [0.3, 0.3, 0.3, 0.0]


# --- pruning


def test_counts_and_percentages_are_those_of_the_paper():
    model = lenet300()
    takes, masks, found = lottery.rates(model), everything(model), []
    for _ in range(15):
        masks = lottery.pruned(model, masks, takes)
        found.append([int(mask.sum()) for mask in masks.values()])
    assert found[:3] == [[188160, 24000, 900], [150528, 19200, 810], [120422, 15360, 729]]  # 0.2 * 150528 is 30105.6
    percent = [80.0, 64.1, 51.3, 41.1, 32.9, 26.3, 21.1, 16.9, 13.5, 10.8, 8.7, 7.0, 5.6, 4.5, 3.6]
    assert [round(100 * sum(counts) / 266200, 1) for counts in found] == percent
    for number in (1, 7, 15):  # in one shot
        masks = lottery.pruned(model, {}, takes, rounds=number)
        assert [int(mask.sum()) for mask in masks.values()] == found[number - 1]


def test_a_round_takes_exactly_the_smallest_and_not_one_more():
    model = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 5))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[10.0, -1, 2, -9, 8], [7, 3, -4, 5, -6]]))
        model[1].weight.copy_(torch.arange(-5.0, 5).reshape(5, 2))
        model[0].bias.zero_()
    takes = {"0.weight": 0.2, "1.weight": 0.1}
    once = lottery.pruned(model, {}, takes)
    assert once["0.weight"].tolist() == [[True, False, False, True, True], [True] * 5]  # 1 and 2 are gone
    assert once["1.weight"].flatten().tolist() == [True] * 5 + [False] + [True] * 4  # the 0
    assert list(once) == ["0.weight", "1.weight"]  # no bias, though it is all 0
    twice = lottery.pruned(model, once, takes)  # round(0.2 * 8) = 2 of those that are left: 3 and 4
    assert twice["0.weight"].tolist() == [[True, False, False, True, True], [True, False, False, True, True]]
    with torch.no_grad():
        model[0].weight[0, 1] = 100.0  # what is gone stays gone, however large
    assert torch.equal(lottery.pruned(model, once, takes)["0.weight"], twice["0.weight"])


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.05, 0.9), st.sampled_from([0.0, 0.3]))
def test_global_pruning_takes_the_smallest_of_all_layers_of_a_rate(seed, rounds, rate, out):
    model = lottery.glorot(mlp((6, 5, 4, 3)), seed=seed)
    with torch.no_grad():
        for weight in weights(model).values():
            weight.mul_(8).round_()  # so that there are equal ones
    takes = lottery.rates(model, rate, output_rate=out)
    # Something is gone already, large weights too.
    masks = shuffled(lottery.pruned(model, {}, dict.fromkeys(takes, 0.25)), torch.Generator().manual_seed(seed))
    found = lottery.pruned(model, masks, takes, rounds=rounds, scope="global")
    for names in (list(takes)[:2], list(takes)[2:]):
        n = sum(int(masks[name].sum()) for name in names)
        for _ in range(rounds):
            n -= round(takes[names[0]] * n)
        assert sum(int(found[name].sum()) for name in names) == n
        sizes = dict(model.named_parameters())
        left = torch.cat([sizes[name][found[name]].abs() for name in names])
        gone = torch.cat([sizes[name][masks[name] & ~found[name]].abs() for name in names])
        assert not len(left) or not len(gone) or left.min() >= gone.max()
        assert all(not (found[name] & ~masks[name]).any() for name in names)


def test_pruning_refuses_what_it_cannot_use():
    model = net()
    with pytest.raises(SettingError, match=r"the rate of '1\.weight' must be a number in \(0, 1\); got 1\.5"):
        lottery.pruned(model, {}, {"1.weight": 1.5})
    with pytest.raises(MaskError, match=r"'1\.bias' is no weight of a linear layer"):
        lottery.pruned(model, {}, {"1.bias": 0.5})
    with pytest.raises(SettingError, match="scope must be one of"):
        lottery.pruned(model, {}, {"1.weight": 0.5}, scope="all")
    with pytest.raises(MaskError, match="shape"):
        lottery.pruned(model, {"1.weight": torch.ones(2, dtype=torch.bool)}, {"1.weight": 0.5})


# --- one training


def test_samples_held_out_are_of_no_other_use(blobs):
    n = 60000
    numbers = Data("n", torch.arange(n).float()[:, None], torch.arange(n), blobs.x_test, blobs.y_test)
    left, (x, y) = split(numbers, 1 / 12, 3)
    assert len(x) == 5000 and torch.equal(x[:, 0].long(), y) and torch.equal(left.x_train[:, 0].long(), left.y_train)
    assert torch.cat([y, left.y_train]).sort().values.equal(numbers.y_train)
    assert torch.equal(split(numbers, 1 / 12, 3)[1][1], y) and not torch.equal(split(numbers, 1 / 12, 4)[1][1], y)
    assert abs(y.float().mean() / n - 0.5) < 5 * math.sqrt(1 / 12 / 5000)  # 5 deviations: drawn from all over
    with pytest.raises(DataError, match=r"validation=0\.001 of the 80 training samples is 0"):
        split(blobs, 0.001, 0)


def test_the_early_stop_is_the_first_least_validation_loss_and_accuracy_is_taken_there(blobs):
    left, held_out = split(blobs, 0.25, 0)
    masks = lottery.pruned(net(), {}, lottery.rates(net()))
    course = Course(left, held_out, 61, 4, 8, 0.05)  # a step size at which the validation loss comes down and goes up
    found = course.fit(net(), masks, seed=2, label="")
    losses = {}

    def look(step, model):
        if step % 4 == 0 or step == 61:
            losses[step] = evaluate(model, *held_out).loss

    def again(steps, **more):
        how = {"batch_size": 8, "learning_rate": 0.05, "schedule": constant, "masks": masks, "seed": 2}
        return train(net(), left.x_train, left.y_train, steps=steps, **how, **more)

    assert same_weights(found.model, again(61, after_step=look))
    stop = min(losses, key=losses.get)
    assert 4 < stop < 61 and list(losses) == [*range(4, 61, 4), 61]  # in the middle, so both directions count
    there = evaluate(again(stop), blobs.x_test, blobs.y_test)
    assert found.facts == {
        "early_stop": stop,
        "early_accuracy": there.accuracy,
        "early_loss": there.loss,
        "validation_loss": losses[stop],
        "last_validation_loss": losses[61],
    }
    assert there != evaluate(found.model, blobs.x_test, blobs.y_test)
    still = Course(left, held_out, 9, 2, 8, 1e-30).fit(lottery.glorot(net()), {}, seed=2, label="")
    assert still.facts["early_stop"] == 2  # of equal losses the first


def test_test_samples_decide_nothing(blobs):
    other = Data("blobs", blobs.x_train, blobs.y_train, blobs.x_test.flip(0), blobs.y_test)
    a, b = (lottery.run(net(), data, rounds=2, **SMALL) for data in (blobs, other))
    assert same_weights(a.model, b.model) and [row["early_stop"] for row in a.rows] == [row["early_stop"] for row in b.rows]
    assert a.rows[-1]["loss"] != b.rows[-1]["loss"]
