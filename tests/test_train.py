"""The networks and the one training loop: exact sizes, seeds by hand, and a loss that goes down on real digits."""

import numpy as np
import pytest
import torch
from torch import nn

from nettrim.data import mnist5k
from nettrim.evaluate import accuracy
from nettrim.masks import everything, magnitude
from nettrim.models import lenet5, lenet300, mlp, resnet20, separable
from nettrim.train import constant, train
from tests.networks import samples, small


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_sizes_are_those_of_the_literature():
    assert size(lenet300()) == 266_610
    assert size(lenet5()) == 431_080
    assert lenet5()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert mlp((6, 5, 4, 3))(torch.zeros(2, 2, 3)).shape == (2, 3)
    assert sum(isinstance(module, nn.Dropout) for module in lenet300(dropout=0.1)) == 2


@pytest.mark.parametrize("make", [lenet300, lenet5, resnet20, separable])
def test_models_come_from_their_seed_and_leave_the_global_generator_alone(make):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, again, other = make(seed=3), make(seed=3), make(seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="at least two positive widths"):
        mlp((5,))
    with pytest.raises(ValueError, match="at least two positive widths"):
        mlp((5, 0, 2))
    with pytest.raises(ValueError, match="dropout must be"):
        mlp((5, 2), dropout=1.0)


def test_training_learns_real_digits_from_its_seed_and_leaves_the_model_alone():
    data = mnist5k()
    x, y = data.x_train[:1500], data.y_train[:1500]
    model = mlp((784, 40, 10), dropout=0.2)
    before = [parameter.clone() for parameter in model.parameters()]
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    trained, again = (train(model, x, y, epochs=8, seed=7) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))
    assert not trained.training
    assert accuracy(trained, data.x_test, data.y_test) > 0.8 > accuracy(model, data.x_test, data.y_test)


def images(n, seed=0, size=(9, 11)):
    """Random images ``(n, 2, height, width)`` in [0, 1)."""
    return torch.rand(n, 2, *size, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_augmented_training_comes_from_its_seed_and_is_off_unless_asked():
    x, y = images(40), torch.arange(40) % 3
    model = mlp((198, 8, 3), dropout=0.3)
    plain, off, on, again, other = (
        train(model, x, y, epochs=2, batch_size=16, **more)
        for more in ({}, {"augment": False}, {"augment": True}, {"augment": True}, {"augment": True, "seed": 1})
    )
    assert same(plain, off) and same(on, again)
    assert not same(plain, on) and not same(on, other)


def test_what_follows_an_epoch_sees_each_and_changes_none():
    x, y = images(40), torch.arange(40) % 3
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.3), nn.Flatten(), nn.Linear(189, 3))
    seen = []

    def look(done, network):
        torch.rand(3)
        seen.append((done, network.training, accuracy(network, x, y)))

    watched = train(model, x, y, epochs=3, batch_size=16, augment=True, momentum=0.9, after_epoch=look)
    assert same(watched, train(model, x, y, epochs=3, batch_size=16, augment=True, momentum=0.9))
    assert [row[:2] for row in seen] == [(1, True), (2, True), (3, True)]
    assert seen[-1][2] == accuracy(watched, x, y)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sgd_makes_the_steps_of_one_cycle_with_nesterov_momentum(momentum):
    # Two logits (w, 0) and labels of the first: the gradient at w is -1/(1 + e^w), so the steps can be made by hand.
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    trained = train(model, torch.ones(4, 1), torch.zeros(4, dtype=torch.long), epochs=4, batch_size=1, momentum=momentum)
    w, speed = 0.0, 0.0
    for step in range(16):
        part = (step + 1) / 17
        gradient = -1 / (1 + np.exp(2 * w))  # the logits are (w, -w)
        speed = momentum * speed + gradient
        w -= 1e-3 * min(part / 0.2, (1 - part) / 0.8) * (gradient + momentum * speed)
    # 16 steps in float32, each rounded to 2^-24 of w < 0.01.
    assert trained.weight.flatten().tolist() == pytest.approx([w, -w], rel=1e-5)


def test_training_refuses_what_it_cannot_use():
    for momentum in (1.0, -0.5):
        with pytest.raises(ValueError, match="momentum must be at least 0 and below 1, or None for Adam"):
            train(small(), samples(4), torch.zeros(4, dtype=torch.long), momentum=momentum)
    with pytest.raises(ValueError, match="as many labels as inputs"):
        train(small(), samples(4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(small(), samples(4) * float("inf"), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"epochs": 1.5}, {"steps": -3}, {"batch_size": 0}])
def test_numbers_of_steps_that_make_no_sense_are_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} must be a whole number, at least [01]; got {value}"):
        train(mlp((4, 2)), torch.zeros(3, 4), torch.zeros(3, dtype=torch.long), **wrong)


def test_weights_that_the_last_step_blows_up_are_not_returned():
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    with pytest.raises(FloatingPointError, match="the last step left weights that are NaN or Inf; lower learning_rate"):
        train(mlp((4, 2)), x * 1e10, y, steps=1, learning_rate=1e30, momentum=0.0, schedule=constant)


def test_no_generator_of_another_device_is_seeded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("another device"))
    train(mlp((4, 2), dropout=0.0), torch.zeros(3, 4), torch.zeros(3, dtype=torch.long), epochs=1)


def test_masked_weights_stay_at_zero_whatever_moves_the_others():
    x, y = samples(40), torch.arange(40) % 4
    masks = magnitude(small(), 0.3)
    for settings in ({"weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1}):
        trained = train(small(), x, y, epochs=5, batch_size=7, masks=masks, **settings)
        for name, mask in masks.items():
            weight = dict(trained.named_parameters())[name]
            assert (weight[~mask] == 0).all() and (weight[mask] != dict(small().named_parameters())[name][mask]).all()


def test_a_mask_that_keeps_everything_changes_nothing():
    x, y = samples(40), torch.arange(40) % 4
    assert same(train(small(), x, y, epochs=2, masks=everything(small())), train(small(), x, y, epochs=2))


def test_steps_cut_the_last_pass_short():
    x, y, seen = samples(20), torch.arange(20) % 4, []
    train(small(), x, y, steps=7, batch_size=6, after_step=lambda step, model: seen.append((step, model.training)))
    assert seen == [(step, True) for step in range(1, 8)]  # 4 steps a pass
    whole = train(small(), x, y, epochs=2, batch_size=6)
    assert same(whole, train(small(), x, y, steps=8, batch_size=6))


def test_a_schedule_tells_the_step_size():
    # The gradient of a linear loss is 1, so that SGD without momentum's help moves by the step sizes alone.
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    parts = []

    def halves(part):
        parts.append(part)
        return 1.0 if part < 0.5 else 0.5

    trained = train(
        model,
        torch.ones(4, 1),
        torch.zeros(4),
        steps=4,
        batch_size=1,
        learning_rate=0.25,
        momentum=1e-9,  # as good as none
        schedule=halves,
        loss=lambda network, x, y: network(x).sum(),
    )
    assert sorted(set(parts)) == [0.0, 0.25, 0.5, 0.75, 1.0]  # the last is asked for and not used
    assert trained.weight.item() == pytest.approx(-0.25 * (1 + 1 + 0.5 + 0.5), rel=1e-6)
    assert constant(0.7) == 1.0


def test_a_loss_of_your_own_sees_the_model_and_a_row_of_targets_a_sample():
    x, targets = samples(30), torch.randn(30, 4, generator=torch.Generator().manual_seed(5))

    def squares(model, inputs, wanted):
        return ((model(inputs) - wanted) ** 2).mean()

    start = small().eval()
    trained = train(start, x, targets, epochs=40, batch_size=10, learning_rate=1e-2, loss=squares)
    assert squares(trained, x, targets) < 0.7 * squares(start, x, targets)
    with pytest.raises(ValueError, match="label_smoothing is part of the cross-entropy"):
        train(start, x, targets, loss=squares, label_smoothing=0.1)


def test_frozen_parameters_stay_and_something_must_move():
    model, x, y = small(), samples(20), torch.arange(20) % 4
    model[1].requires_grad_(False)
    trained = train(model, x, y, epochs=2)
    assert same(trained[1], model[1]) and not same(trained[4], model[4])
    with pytest.raises(ValueError, match="nothing to train"):
        train(model.requires_grad_(False), x, y)


def test_augmentation_of_your_own_is_given_the_generator():
    x, y = samples(20), torch.arange(20) % 4

    def noisy(inputs, generator):
        return inputs + torch.randn(inputs.shape, generator=generator)

    noise, again, none = (train(small(), x, y, epochs=2, augment=move) for move in (noisy, noisy, False))
    assert same(noise, again) and not same(noise, none)
